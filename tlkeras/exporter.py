"""Exporter: what is shipped."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkeras.frameworks import tf
from tlkeras.spec import Spec

if TYPE_CHECKING:
    from tlkeras.model.transfer_model import TransferModel

Predict = Callable[[Any], dict[str, Any]]
"""From a numpy batch of preprocessed inputs to the task's served outputs, as numpy."""


class Details(Spec, name="details"):
    """What the model card and the exports say of a model; an empty text has not been stated."""

    description: str = ""
    authors: str = ""
    contact: str = ""
    licence: str = ""
    citation: str = ""
    intended_use: str = ""
    out_of_scope: str = ""
    ethics: str = ""


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where an export comes from: what formats that have room for it tell of themselves.

    Attributes:
        name: The model's.
        digest: The digest in the manifest of the model, by which its making is found again.
        details: What its makers have stated.
    """

    name: str = "model"
    digest: str = ""
    details: Details = dataclasses.field(default_factory=Details)

    def texts(self, model: TransferModel) -> dict[str, str]:
        """Returns what is known of ``name description version author license``, by these names."""
        short = f"{model.task.name} of {len(model.classes)} classes on {model.backbone.name}"
        known = {
            "name": self.name,
            "description": self.details.description or short,
            "version": self.digest,
            "author": self.details.authors,
            "license": self.details.licence,
        }
        return {key: text for key, text in known.items() if text}


UNSTATED = Origin()
"""Of a model of which nothing has been stated."""


def require_distinct(exporters: Sequence[Exporter]) -> None:
    """Raises ValueError if two exporters write a file of the same name."""
    made = [name for exporter in exporters for name in exporter.files()]
    if twice := sorted({name for name in made if made.count(name) > 1}):
        raise ValueError(f"--exporters writes {', '.join(twice)} more than once.")


class Exporter(Spec, plugins="tlkeras.exporters"):
    """A format that leaves this project: preprocessing inside, no tlkeras needed to run it."""

    @property
    def tolerance(self) -> float:
        """The largest absolute difference of served outputs from Keras that `load` may give."""
        return 1e-4

    @property
    def max_drop(self) -> float:
        """How many points of the task's primary measure it may cost, where nothing else is said."""
        return 1.0

    @abc.abstractmethod
    def files(self) -> tuple[str, ...]:
        """Returns the file or folder names, relative to the export folder, that `write` makes."""

    @abc.abstractmethod
    def write(
        self, model: TransferModel, samples: Any, out: Path, origin: Origin = UNSTATED
    ) -> None:
        """Writes the export into the existing folder `out`.

        Args:
            model: The fitted model.
            samples: A tf.data.Dataset of preprocessed training inputs, unbatched, in random order,
                for calibration; no more are made than are read.
            out: Where `files` come to lie.
            origin: What the export tells of itself where its format has room for it.
        """

    @abc.abstractmethod
    def load(self, out: Path) -> Predict:
        """Returns a function that runs the written export and nothing of Keras."""

    def load_on(self, out: Path, threads: int) -> Predict:
        """Returns what `load` does, on so many threads, in a process that ran nothing before.

        What is here is for formats that TensorFlow runs.
        """
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        return self.load(out)

    def facts(self, out: Path) -> dict[str, Any]:
        """Returns what else there is to tell of the written export, JSON-ready, by column."""
        return {}

    def endpoints(self, out: Path) -> dict[str, Callable[[Any, bytes], dict[str, Any]]]:
        """Returns the other ways in which clients call the export, by name.

        Each takes one example as a client has it, a decoded picture uint8 [h, w, 3] of any size and
        the encoded bytes of the same, and returns the served outputs of a batch of one.
        """
        return {}
