"""Summaries: what the head gets of every example, from the cache, whatever its range."""

from __future__ import annotations

from collections.abc import Sequence

from tlkeras.data.batches import Data
from tlkeras.model.transfer_model import HEAD, TransferModel
from tlkeras.training import features
from tlkeras.training.features import Cache, Features, Tap
from tlkeras.training.frozen import TooLarge

# As recipes cache features by default, so that both find the same ones.
_TYPE = "float16"


def of(
    model: TransferModel, data: Data, splits: Sequence[str], cache: Cache
) -> tuple[dict[str, Features], str]:
    """Returns the features of splits by their names, and their type: float32 beyond float16.

    A split without any room in the cache is left out, see `features.at`.
    """
    taps = [Tap(split, HEAD) for split in splits]
    dtype = _TYPE
    try:
        found = features.at(model, data, taps, cache, dtype)
    except TooLarge:
        dtype = "float32"
        found = features.at(model, data, taps, cache, dtype)
    return {tap.split: each for tap, each in found.items()}, dtype
