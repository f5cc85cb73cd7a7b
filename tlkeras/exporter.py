"""Exporter: what is shipped."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkeras import spec
from tlkeras.frameworks import tf
from tlkeras.kind import Kind
from tlkeras.spec import Spec

if TYPE_CHECKING:
    from tlkeras.backbone import Backbone
    from tlkeras.model.transfer_model import TransferModel
    from tlkeras.task import Task

_ONE_FILE = 2**31  # Bytes; the places in a protobuf or FlatBuffer are signed numbers of 32 bits.

Predict = Callable[[Any], dict[str, Any]]
"""From a NumPy batch of preprocessed inputs, an array or a dict, to the served outputs as NumPy."""


@dataclasses.dataclass(frozen=True)
class Usage:
    """How one file of an export is used, for the model card.

    Attributes:
        file: The file or folder, as in `Exporter.files`.
        language: Of the code, ``python`` or ``sh``.
        code: What runs beside the file, complete.
    """

    file: str
    language: str
    code: str


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
        count = len(model.task.named_classes(model.classes))
        classes = {0: "", 1: " of 1 class"}.get(count, f" of {count} classes")
        short = f"{model.task.name}{classes} on {model.backbone.name}"
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


def existing(out: Path | str) -> Path:
    """Returns the folder of an export.

    Raises:
        ValueError: There is no such folder.
    """
    if not (folder := spec.path(out)).is_dir():
        raise ValueError(f"There is no folder {folder} to export to; create it first.")
    return folder


def require_fits_one_file(exporter: Exporter, model: TransferModel) -> None:
    """Raises ValueError if a protobuf or FlatBuffer, of 2 GiB at most, cannot hold the weights.

    A conversion begins with one that holds them in float32, whatever it rounds them to.
    """
    size = 4 * model.full.count_params()
    if size >= _ONE_FILE:
        raise ValueError(
            f"{exporter} makes one file of less than {_ONE_FILE / 1e9:.2f} GB, and the weights of "
            f"{model.backbone.name} are {size / 1e9:.2f} GB in float32; take saved_model or keras "
            "among the exporters, or a smaller backbone."
        )


class Exporter(Spec, plugins="tlkeras.exporters"):
    """A format that leaves this project: preprocessing inside, no tlkeras needed to run it."""

    @property
    def tolerance(self) -> float:
        """The largest difference from Keras's served outputs that `load` may give.

        Where outputs are larger than 1, it is a part of the largest.
        """
        return 1e-4

    @property
    def max_drop(self) -> float:
        """The share of the primary measure that it may lose to Keras; see `Scalar.lost`."""
        return 0.01

    @property
    def is_coarse(self) -> bool:
        """Whether 8 bits hold the answers, or what they are computed of.

        Nearly equal scores are then equal, and small ones 0: they are neither compared with those
        of Keras, nor are there conformal sets, whose thresholds may lie between two steps.
        """
        return False

    @property
    def serves(self) -> tuple[str, ...]:
        """The names of the served outputs that `load` gives; all of them if it is empty."""
        return ()

    @abc.abstractmethod
    def files(self) -> tuple[str, ...]:
        """Returns the file or folder names, relative to the export folder, that `write` makes."""

    def fits(self, model: TransferModel) -> None:
        """Checks, before the training, that the format can hold such a model.

        Raises:
            ValueError: What it cannot hold, and what to choose instead.
        """

    @abc.abstractmethod
    def write(
        self, model: TransferModel, samples: Any, out: Path, origin: Origin = UNSTATED
    ) -> None:
        """Writes the export into the existing folder `out`.

        Args:
            model: The fitted model.
            samples: A tf.data.Dataset of preprocessed inputs for calibration, of training or of
                what the head is for, unbatched, in random order; no more are made than are read.
            out: Where `files` come to lie.
            origin: What the export tells of itself where its format has room for it.
        """

    @abc.abstractmethod
    def load(self, out: Path) -> Predict:
        """Returns a function that runs the written export and nothing of Keras."""

    def observed(self, out: Path) -> Predict | None:
        """Returns `load` whose answers have `model.vector.FEATURES` beside, in the same run.

        None is for formats that hold no features.
        """
        return None

    def load_on(self, out: Path, threads: int) -> Predict:
        """Returns what `load` does, on so many threads, in a process that ran nothing before.

        What is here is for formats that TensorFlow runs.
        """
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        return self.load(out)

    def facts(self, out: Path) -> dict[str, Any]:
        """Returns other properties of the written export, JSON-ready, by column of the report."""
        return {}

    def endpoints(
        self, out: Path, kinds: Mapping[str, Kind]
    ) -> dict[str, Callable[[Mapping[str, Any]], dict[str, Any] | None]]:
        """Returns the ways in which clients call the export with raw examples, by name.

        Each takes the standard values of one example by key, of these kinds (`Backbone.raw`), and
        returns the served outputs, NumPy arrays of a batch of one. It returns None where a value
        cannot be sent so, see `Entrance.carries`; `SERVING` takes each.
        """
        return {}

    def usage(self, backbone: Backbone, task: Task) -> list[Usage]:
        """Returns, for the model card, how each file is used on raw examples.

        The code prepares an example as ingest does; see `Kind.reading`.
        """
        return []
