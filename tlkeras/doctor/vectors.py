"""Vectors: the pooled features of examples, from the cache that the training uses as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tlkeras.data.batches import Data
from tlkeras.model.transfer_model import HEAD, TransferModel
from tlkeras.training import features, schedule
from tlkeras.training.feature_store import Rows
from tlkeras.training.features import Cache, Tap
from tlkeras.training.frozen import TooLarge
from tlkeras.training.schedule import Part

# Rows read at once: many enough that products of matrices are fast.
_CHUNK = 2048

# As recipes cache them by default, so that both find the same ones.
_TYPE = "float16"


class Missing(Exception):
    """There are no features to examine, and why; the training may do without them."""


class Vectors:
    """The features of some splits, one after the other; a chunk is in memory at a time."""

    def __init__(self, rows: Sequence[Rows]) -> None:
        """Takes the cached rows of each split."""
        self._rows = rows

    def __call__(self) -> Iterator[np.ndarray]:
        """Yields consecutive rows, float32 [m, channels]."""
        for rows in self._rows:
            for start in range(0, len(rows), _CHUNK):
                numbers = np.arange(start, min(start + _CHUNK, len(rows)))
                yield rows.read(numbers)[0].astype(np.float32)


def of(
    model: TransferModel,
    data: Data,
    splits: Sequence[str],
    cache: Cache,
    parts: Sequence[Part] = (),
) -> Vectors:
    """Returns what the head gets of the examples of splits, computed unless the cache has it.

    The same pass caches what `parts` of a schedule start from, so that the training needs none.

    Raises:
        Missing: The head does not get a vector, the cache is too small, or its type is.
    """
    summary: Any = model.body.output
    if isinstance(summary, (dict, list, tuple)) or len(summary.shape) != 2:
        raise Missing(f"{model.backbone.name} gives {model.task.name} no vector of features")
    taps = [Tap(split, HEAD) for split in splits]
    wanted = dict.fromkeys([*taps, *schedule.frozen(model, data, parts)])
    try:
        found = features.at(model, data, wanted, cache, _TYPE)
    except TooLarge as error:
        raise Missing(f"{error}") from None
    for tap in taps:
        if tap not in found or found[tap].kept < data.count(tap.split):
            raise Missing(f"the cache has no room for the features of {tap.split}")
    return Vectors([found[tap].rows for tap in taps])


def selected(vectors: Vectors, chosen: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the rows of `vectors` where `chosen`, bool [n], is true."""
    start = 0
    for rows in vectors():
        yield rows[chosen[start : start + len(rows)]]
        start += len(rows)
