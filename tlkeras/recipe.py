"""Recipe: how the weights of a model are got from data."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkeras.spec import Spec

if TYPE_CHECKING:
    from tlkeras.data.batches import Data
    from tlkeras.model.transfer_model import TransferModel
    from tlkeras.training.features import Cache


class Recipe(Spec, plugins="tlkeras.recipes"):
    """A way to fit a `TransferModel`; it ends with weights in the same graph."""

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

        `folder` keeps the progress: called again there with the same model and data after a kill,
        it goes on where it stood and ends as if it had never been stopped; a finished fit is not
        done again. Other data, also with corrected labels, another model, precision, recipe, task,
        batch size or seed need another folder. A log has ``phase`` and ``epoch``, counted from 0,
        ``loss``, the task's metrics, and ``val_`` of each where there is a validation split.

        `callbacks` are instances of `keras.callbacks.Callback`, to which every epoch is a `fit` of
        its own; batches that come from kept features may be told to them several at a time, as
        Keras does with ``steps_per_execution``.
        `shared` is where features of frozen layers are kept for other fits as well; without it
        they are in `folder`.
        """
