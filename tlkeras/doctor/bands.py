"""Bands: candidates for near copies, found without a comparison of all with all.

Rows that are alike share at least one of many keys with high probability (Indyk and Motwani 1998,
https://doi.org/10.1145/276698.276876). Whether a pair is near depends on its two rows alone, except
in a crowd of rows with one key, where each is compared with the next ones in a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

# Rows of one key behind a row that it is compared with: enough to connect copies in a crowd, and a
# bound on the time where thousands are alike.
_NEXT = 48

# Pairs whose distances are computed at a time, a few megabytes.
_AT_ONCE = 2**17

_FACTOR = np.uint64(0x9E3779B97F4A7C15)

Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From the numbers of rows [n] and of others [n] to the distances [n], negative for no copies."""


def near(
    keys: Iterable[np.ndarray], order: np.ndarray, distances: Distances
) -> Iterator[tuple[int, int, float]]:
    """Yields pairs of near rows with their distances, none of two that others connect already.

    Args:
        keys: Of every band, a number of each row, uint64 [rows].
        order: The rows in an order that has equal ones side by side.
        distances: Measures pairs.
    """
    sets = np.arange(len(order))
    for band in keys:
        ranked = order[np.argsort(band[order], kind="stable")]
        sorted_keys = band[ranked]
        for step in range(1, min(_NEXT, len(ranked) - 1) + 1):
            places = np.flatnonzero(sorted_keys[step:] == sorted_keys[:-step])
            if not len(places):
                break
            apart = places[sets[ranked[places]] != sets[ranked[places + step]]]
            for start in range(0, len(apart), _AT_ONCE):
                some = apart[start : start + _AT_ONCE]
                one, other = ranked[some], ranked[some + step]
                found = distances(one, other)
                hits = np.flatnonzero(found >= 0)
                for hit in hits:
                    yield int(one[hit]), int(other[hit]), float(found[hit])
                if len(hits):
                    sets = _connected(sets, one[hits], other[hits])


def _connected(sets: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the number of the set of every row after pairs have joined some, int [rows]."""
    from scipy import sparse

    pairs = sparse.coo_matrix((np.ones(len(one), bool), (sets[one], sets[other])), [len(sets)] * 2)
    return sparse.csgraph.connected_components(pairs, directed=False)[1][sets]


def joined(parts: np.ndarray) -> np.ndarray:
    """Returns one number for the numbers of every row, uint64 [rows], of uint64 [rows, parts]."""
    number = np.zeros(len(parts), np.uint64)
    for part in parts.T:
        number = (number + part + np.uint64(1)) * _FACTOR
        number ^= number >> np.uint64(29)
    return number
