"""Shortcuts: classes that one trait of the examples tells, such as their file type or size.

A model may learn such a trait in place of the matter. For each trait and class, a classifier on the
trait alone says whether an example is of the class: its bin is more frequent in the class than in
the others. It is measured on held-out examples by the mean of both recalls, which is 0.5 by chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlkeras.doctor import folds as parts
from tlkeras.doctor.defects import Defect

DEFECT = "shortcut"

# Contents alone reach less: of all traits and classes the most are 0.66 on flower_photos, 0.63 on
# dogcat and 0.60 on hymenoptera.
_MARGIN = 0.7

# Of all tests together.
_SIGNIFICANCE = 0.01

# Of a number; a trait with fewer different values has one for each.
_BINS = 16


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """A class that a trait tells.

    Attributes:
        trait: The name of the trait behind its feature, ``image.format``.
        label: The number of the class.
        accuracy: The mean of both recalls on held-out examples.
        chance: The probability of as much without any relation, by Fisher's exact test, times the
            number of tests (Bonferroni).
    """

    trait: str
    label: int
    accuracy: float
    chance: float

    def defect(self, classes: Sequence[str]) -> Defect:
        """Returns the finding."""
        return Defect(
            self.trait,
            "",
            DEFECT,
            f"alone tells {classes[self.label]!r} from the other classes: balanced accuracy "
            f"{self.accuracy:.2f} on held-out examples, 0.50 by chance (p = {self.chance:.1g})",
        )


def found(
    traits: Mapping[str, np.ndarray], labels: np.ndarray, folds: np.ndarray
) -> list[Shortcut]:
    """Returns the shortcuts, the strongest first.

    Args:
        traits: By name, numbers or texts, each [n].
        labels: The class of each example, int [n].
        folds: The fold of each, see `folds.dealt`.
    """
    sizes = np.bincount(labels)
    # In a class and beside it, examples have to be in every fold.
    tested = [
        label
        for label, size in enumerate(sizes)
        if parts.COUNT <= size <= len(labels) - parts.COUNT
    ]
    binned = {name: _binned(column) for name, column in traits.items()}
    varying = {name: bins for name, bins in binned.items() if bins.max(initial=0)}
    tests = len(tested) * len(varying)
    shortcuts = []
    for name, bins in varying.items():
        right, positive = _told(bins, labels, folds)
        for label in tested:
            own, others = int(sizes[label]), int(len(labels) - sizes[label])
            accuracy = (right[label] / own + 1 - (positive - right)[label] / others) / 2
            if accuracy >= _MARGIN:
                chance = tests * _fisher(int(right[label]), int(positive[label]), own, others)
                if chance < _SIGNIFICANCE:
                    shortcuts.append(Shortcut(name, label, float(accuracy), chance))
    return sorted(shortcuts, key=lambda each: -each.accuracy)


def _binned(column: np.ndarray) -> np.ndarray:
    """Returns the bin of every value, int [n]: one for each value, or for each of equal shares."""
    values, places = np.unique(column, return_inverse=True)
    if len(values) <= _BINS or column.dtype.kind == "U":
        return places
    edges = np.unique(np.quantile(column, np.linspace(0, 1, _BINS + 1)[1:-1]))
    # A value that many share has a bin of its own.
    edges = np.unique(np.concatenate([edges, np.nextafter(edges, np.inf)]))
    return np.unique(np.searchsorted(edges, column, side="right"), return_inverse=True)[1]


def _told(bins: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> tuple[Any, Any]:
    """Returns how many held-out examples each class is told of, [classes], rightly and in all."""
    shape = (parts.COUNT, int(labels.max()) + 1, int(bins.max()) + 1)
    counts = np.zeros(shape)
    np.add.at(counts, (folds, labels, bins), 1)
    rest = counts.sum(axis=0) - counts
    others = rest.sum(axis=1, keepdims=True) - rest
    told = _shares(rest) > _shares(others)
    right = (told * counts).sum(axis=(0, 2))
    return right, (told * counts.sum(axis=1, keepdims=True)).sum(axis=(0, 2))


def _shares(counts: np.ndarray) -> np.ndarray:
    """Returns the share of each bin, the last axis."""
    return counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)


def _fisher(right: int, positive: int, own: int, others: int) -> float:
    """Returns the probability of so many right ones or more, by Fisher's exact test.

    It is the sum of the upper terms of a hypergeometric distribution. `scipy.stats` has it, and
    its import takes longer than all that is tested here.
    """
    from scipy import special

    def ways(count: float, chosen: Any) -> Any:
        rest = special.gammaln(chosen + 1) + special.gammaln(count - chosen + 1)
        return special.gammaln(count + 1) - rest

    hits = np.arange(right, min(own, positive) + 1, dtype=np.float64)
    drawn = ways(own, hits) + ways(others, positive - hits)
    return float(np.exp(special.logsumexp(drawn) - ways(own + others, positive)))
