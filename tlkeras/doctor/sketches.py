"""Sketches: the MinHash of a text, by which near copies are found without reading them again.

The share of equal values in two sketches estimates the Jaccard similarity of the texts' shingles,
the runs of a few characters in them (Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900). The
threshold is that of ``benchmarks/duplicates.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from tlkeras.doctor import bands

_VALUES = 64
_SHINGLE = 5  # Characters.

# The least share of equal values of two near copies; its standard error is 0.05.
_LEAST = 0.8

# 4 values in 16 bands: a similarity of 0.8 shares a key in 99.98 % of pairs, one of 0.3 in 12 %.
_ROWS = 4


def sketch(text: str) -> str:
    """Returns the sketch of a text in hexadecimal; case and white space do not count."""
    words = " ".join(text.lower().split())
    points = np.frombuffer(words.encode("utf-32-le", "surrogatepass"), np.uint32)
    made = _empty().copy()
    made.update_batch(_shingles(points).tolist())
    return made.hashvalues.astype("<u4").tobytes().hex()


def copies(hashes: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Yields pairs of near copies and the share of values in which their sketches differ.

    See `Kind.copies`.
    """
    values = np.ascontiguousarray(hashes).view("<u4")  # [texts, inputs, values]

    def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        differing = (values[one] != values[other]).mean(axis=2).max(axis=1)
        return np.where(differing <= 1 - _LEAST, differing, -1.0)

    rows = len(values)
    order = np.lexsort(values.reshape(rows, -1).T[:_ROWS])
    parts = (values[:, :, at : at + _ROWS].reshape(rows, -1) for at in range(0, _VALUES, _ROWS))
    keys = (bands.joined(part.astype(np.uint64)) for part in parts)  # One band at a time.
    yield from bands.near(keys, order, distances)


def _shingles(points: np.ndarray) -> np.ndarray:
    """Returns a 32-bit number for every different run of code points, uint32."""
    length = min(_SHINGLE, len(points))
    runs = np.lib.stride_tricks.sliding_window_view(points, length).astype(np.uint64)
    return np.unique((bands.joined(runs) >> np.uint64(32)).astype(np.uint32))


@functools.cache
def _empty() -> Any:
    """Returns the sketch of nothing, whose permutations all others share."""
    from datasketch import MinHash

    return MinHash(num_perm=_VALUES, seed=1, scheme="affine32", hashfunc=int)
