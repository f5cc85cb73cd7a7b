"""Folds: the parts of a cross-validation, each with its share of every class."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

COUNT = 5


def dealt(groups: Sequence[Hashable], labels: np.ndarray, seed: int) -> np.ndarray:
    """Returns the fold of every example, int64 [n] below `COUNT`; no group is in two folds.

    Args:
        groups: The group of each example, such as that of its copies.
        labels: The class of each. A group is dealt with those of its first example's class.
        seed: Decides the order in which groups of a class are dealt.
    """
    numbers: dict[Hashable, int] = {}
    units = np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)
    _, first = np.unique(units, return_index=True)
    chance = np.random.default_rng(seed).permutation(len(first))
    order = np.lexsort((chance, labels[first]))
    folds = np.empty(len(first), np.int64)
    folds[order] = np.arange(len(first)) % COUNT
    return folds[units]
