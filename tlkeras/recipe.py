"""Recipe: a way to fit the weights of a model to data."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tlkeras.spec import Spec

if TYPE_CHECKING:
    from tlkeras.data.batches import Data
    from tlkeras.model.transfer_model import TransferModel
    from tlkeras.task import Task
    from tlkeras.training.features import Cache


class Recipe(Spec, plugins="tlkeras.recipes"):
    """A way to fit a `TransferModel`; it changes weights, never the graph."""

    names_suffice: ClassVar[bool] = False
    """Whether it knows classes by their names, so that none needs a training example."""

    is_for_target: ClassVar[bool] = False
    """Whether its head is for the split ``target``, and not for the examples that have labels."""

    @abc.abstractmethod
    def fit(
        self,
        model: TransferModel,
        data: Data,
        folder: Path,
        callbacks: Sequence[Any] = (),
        shared: Cache | None = None,
    ) -> list[dict[str, Any]]:
        """Fits the model in place and returns one log per epoch.

        `folder` holds the progress. After a kill, the same call resumes and ends with the weights
        of an unbroken fit; it does not repeat a finished fit. A change of data (also of labels),
        model, precision, recipe, task, batch size or seed needs another folder. A log has ``phase``
        and ``epoch``, counted from 0, ``loss`` and the task's metrics. With a validation split, it
        also has the ``val_`` of each; those alone, if the training split has to stay private.

        `callbacks` are instances of `keras.callbacks.Callback`; every epoch is a `fit` of its own
        to them. On cached features they see several batches at a time, as with Keras's
        ``steps_per_execution``.
        `shared` is a feature cache for several fits; by default the cache is in `folder`.
        """

    def parts(self) -> Sequence[Any]:
        """Returns the parts of its schedule if a step before may cache features for them.

        They have to be of the type ``float16``. A recipe of frozen features alone needs no others
        than those of the head.
        """
        return ()

    def metric(self, task: Task, classes: Sequence[str]) -> str | None:
        """Returns the name of the metric whose best validation value chooses the epoch.

        None stands for the loss.
        """
        return next((each.name for each in task.metrics(classes)), None)

    def remarks(self) -> Sequence[str]:
        """Returns what a reader of the report has to know of how the weights came about."""
        return ()

    def views(self, folder: Path) -> Sequence[Mapping[str, Any]]:
        """Returns what report and card show of how the weights came about, after a fit in `folder`.

        Each is as `measures.plain_view` gives it.
        """
        return ()
