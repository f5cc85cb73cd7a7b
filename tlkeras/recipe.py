"""Recipe: how the weights of a model are got from data."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkeras.spec import Spec

if TYPE_CHECKING:
    from tlkeras.data import Data
    from tlkeras.model import TransferModel


class Recipe(Spec, plugins="tlkeras.recipes"):
    """A way to fit a `TransferModel`; it ends with weights in the same graph."""

    @abc.abstractmethod
    def fit(
        self, model: TransferModel, data: Data, folder: Path, callbacks: Sequence[Any] = ()
    ) -> list[dict[str, Any]]:
        """Fits the model in place and returns one log per epoch.

        `folder` keeps the progress: called again there with the same model and data after a kill,
        it goes on where it stood and ends as if it had never been stopped. `callbacks` are
        instances of `keras.callbacks.Callback`, to which every epoch is a `fit` of its own.
        """
