"""Sketches: the MinHash of a text, by which near copies are found without reading them again.

The share of equal values in two sketches estimates the Jaccard similarity of the texts' shingles,
the runs of a few characters in them (Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

_VALUES = 64
_SHINGLE = 5  # Characters.


def sketch(text: str) -> str:
    """Returns the sketch of a text in hexadecimal; case and white space do not count."""
    words = " ".join(text.lower().split())
    encoded = np.frombuffer(words.encode("utf-32-le", "surrogatepass"), np.uint32)
    shingles = _shingles(encoded)
    made = _empty().copy()
    made.update_batch(shingles.tolist())
    return made.hashvalues.astype("<u4").tobytes().hex()


def _shingles(points: np.ndarray) -> np.ndarray:
    """Returns a 32-bit number for every different run of characters, uint32."""
    length = min(_SHINGLE, len(points))
    runs = np.lib.stride_tricks.sliding_window_view(points, length).astype(np.uint64)
    # A polynomial of the code points modulo 2**64; its upper bits depend on all of them.
    factor = np.uint64(0x9E3779B97F4A7C15)
    number = np.zeros(len(runs), np.uint64)
    for place in range(length):
        number = (number + runs[:, place] + np.uint64(1)) * factor
        number ^= number >> np.uint64(29)
    return np.unique((number >> np.uint64(32)).astype(np.uint32))


@functools.cache
def _empty() -> Any:
    """Returns the sketch of nothing, whose permutations all others share."""
    from datasketch import MinHash

    return MinHash(num_perm=_VALUES, seed=1, scheme="affine32", hashfunc=int)
