"""Descriptions: heads for classes of which there is a description, but perhaps no example.

A bilinear map rates features `x` for the description `s` of a class by ``x @ V @ s``. Classes with
examples decide V, and ``V @ s`` is the column of any class in a linear head. This is ESZSL, the
embarrassingly simple approach to zero-shot learning (Romera-Paredes and Torr 2015,
https://proceedings.mlr.press/v37/romera-paredes15.html).

Such heads prefer the classes that they know. So a constant is taken from the scores of these
(calibrated stacking, Chao et al. 2016, https://arxiv.org/abs/1605.04253).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from tlkeras.training.linear import Weights

# The penalties to choose from, by the scale of `fitted`.
_PENALTIES = (1.0, 3.0, 10.0, 30.0)
_DESCRIPTION_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)

# At most so many parts of the classes, and of the examples, are left out in turn to choose by.
_FOLDS = 5

LEAST = 3
"""The least number of classes with examples: two to learn from, where one is left out."""


class Bilinear:
    """The minima of ESZSL for all penalties, from one decomposition of each of two matrices.

    V, float64 [channels, width], has the least
    ``|X V S.T - Y|^2 + p |V S.T|^2 + q |X V|^2 + p q |V|^2``.
    """

    def __init__(self, squares: np.ndarray, products: np.ndarray, described: np.ndarray) -> None:
        """Takes ``X.T @ X``, ``X.T @ Y`` and S, float64 [classes, width]."""
        self._values, self.left = np.linalg.eigh(squares)
        self._others, self._right = np.linalg.eigh(described.T @ described)
        self._core = self.left.T @ (products @ described) @ self._right

    def at(self, penalty: float, description_penalty: float) -> np.ndarray:
        """Returns V for p and q."""
        return self.left @ self.rotated(penalty, description_penalty) @ self._right.T

    def rated(
        self, penalty: float, description_penalty: float, described: np.ndarray
    ) -> np.ndarray:
        """Returns ``left.T @ V @ described.T``: it needs no product of large matrices."""
        return self.rotated(penalty, description_penalty) @ (described @ self._right).T

    def rotated(self, penalty: float, description_penalty: float) -> np.ndarray:
        """Returns V between the eigenvectors of both matrices."""
        values = np.maximum(self._values, 0) + penalty
        return self._core / values[:, None] / (np.maximum(self._others, 0) + description_penalty)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was chosen on classes left out, and how well it did there, each in [0, 1].

    Attributes:
        penalty: That of the features.
        description_penalty: That of the descriptions.
        constant: What is taken from the scores of classes with examples; 0 if all have some.
        accuracy: Of classes left out, among themselves; the mean over them.
        harmonic: The harmonic mean of the accuracies of classes with and without examples, all of
            them being candidates.
    """

    penalty: float
    description_penalty: float
    constant: float
    accuracy: float
    harmonic: float


def fitted(
    features: np.ndarray, labels: np.ndarray, described: np.ndarray, seed: int
) -> tuple[Weights, Choice]:
    """Returns the head of all described classes, and what was chosen for it.

    Features and descriptions are moved to mean 0 over the seen classes, which all have the same
    weight, 1 together. Features are scaled to a mean variance of 1, and descriptions so that the
    trace of ``S.T @ S`` is their width.

    Args:
        features: Of the examples, float64 [n, channels].
        labels: Of them, int [n]; they decide which classes are seen, `LEAST` at least.
        described: A row of unit length for every class, float64 [classes, width].
        seed: Decides which classes and which examples are left out together.
    """
    seen = np.unique(labels)
    weights = _equal(labels, seen)
    mean = weights @ features
    deviation = float((weights @ np.square(features - mean)).mean()) ** 0.5 or 1.0
    scaled = (features - mean) / deviation
    described = described - described[seen].mean(axis=0)
    choice = _chosen(scaled, labels, described, seen, seed)
    model = bilinear(scaled, labels, described, seen)
    kernel = model.at(choice.penalty, choice.description_penalty) @ described.T / deviation
    bias = -mean @ kernel
    bias[seen] -= choice.constant
    return (kernel, bias), choice


def bilinear(
    features: np.ndarray, labels: np.ndarray, described: np.ndarray, seen: np.ndarray
) -> Bilinear:
    """Returns the map of the examples of these classes, all of which have examples."""
    signs = 2 * np.eye(len(seen))[np.searchsorted(seen, labels)] - 1
    weighted = features * _equal(labels, seen)[:, None]
    # With it, the squares of the descriptions have the trace of the unit matrix.
    size = float(np.square(described[seen]).sum()) or 1.0
    scale = (described.shape[1] / size) ** 0.5
    return Bilinear(features.T @ weighted, weighted.T @ signs / scale, described[seen] * scale)


def _equal(labels: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Returns the weights of rows by which all classes count alike, 1 together."""
    places = np.searchsorted(seen, labels)
    return 1 / np.bincount(places)[places] / len(seen)


def _chosen(
    features: np.ndarray, labels: np.ndarray, described: np.ndarray, seen: np.ndarray, seed: int
) -> Choice:
    """Returns the penalties that are best for classes left out, then the best constant."""
    parts = list(_parts(labels, seen, len(described), seed))
    ways = list(itertools.product(_PENALTIES, _DESCRIPTION_PENALTIES))
    accuracies = np.zeros(len(ways))
    margins: list[list[np.ndarray]] = [[] for _ in ways]
    for learnt, known, new in parts:
        model = bilinear(features[learnt], labels[learnt], described, known)
        asked = ~learnt
        turned, truth = features[asked] @ model.left, labels[asked]
        is_new = np.isin(truth, new)
        for number, way in enumerate(ways):
            old, right_old = _best(turned @ model.rated(*way, described[known]), known, truth)
            best, right = _best(turned @ model.rated(*way, described[new]), new, truth)
            accuracies[number] += _accuracy(right[is_new], truth[is_new]) / len(parts)
            margins[number].append(np.stack([old - best, right_old, right, is_new, truth]))
    chosen = int(accuracies.argmax())
    constant, mean = 0.0, 0.0
    if len(described) > len(seen):
        constant, mean = _constant(np.concatenate(margins[chosen], axis=1))
    return Choice(*ways[chosen], constant, float(accuracies[chosen]), mean)


def _parts(
    labels: np.ndarray, seen: np.ndarray, classes: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields which rows to learn from, and the classes that these have and that they lack.

    They lack about the share that has no example among all classes: the more candidates there are,
    the larger is the best score. Some rows of the classes that they have are left out, too, where a
    class has two.
    """
    random = np.random.default_rng(seed)
    share = 1 - len(seen) / classes
    count = min(max(round(1 / share), 2) if share else _FOLDS, _FOLDS, len(seen))
    of_class = random.permutation(np.arange(len(seen)) % count)
    chance = random.random(len(labels))
    turn = np.empty(len(labels), int)
    for label in seen:
        rows = np.flatnonzero(labels == label)
        # The first of a class is always learnt from.
        turn[rows[np.argsort(chance[rows])]] = np.arange(len(rows)) % (_FOLDS + 1) - 1
    for part in range(count):
        known, new = seen[of_class != part], seen[of_class == part]
        yield np.isin(labels, known) & (turn != part), known, new


def _best(
    scores: np.ndarray, classes: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the largest score of every row, and whether it is that of the row's class."""
    places = scores.argmax(axis=1)
    return scores[np.arange(len(scores)), places], classes[places] == truth


def _accuracy(right: np.ndarray, truth: np.ndarray) -> float:
    """Returns the mean over the classes of the part that is right; 0 without rows."""
    if not len(truth):
        return 0.0
    _, places = np.unique(truth, return_inverse=True)
    return float((np.bincount(places, right) / np.bincount(places)).mean())


def _constant(columns: np.ndarray) -> tuple[float, float]:
    """Returns the constant of the largest harmonic mean, and that mean; 0 if no row can be right.

    Args:
        columns: Of every row by how much the best of the seen classes is above the best of the
            others, whether each of both is right, whether its class is left out, and the class.
    """
    margins, right_seen, right_new, is_new, truth = columns
    new = is_new.astype(bool)
    best = (0.0, 0.0)
    for constant in np.quantile(margins, np.linspace(0, 1, 101)):
        is_seen = margins > constant
        right = np.where(is_seen, right_seen, right_new)
        mean = harmonic(_accuracy(right[~new], truth[~new]), _accuracy(right[new], truth[new]))
        if mean > best[1]:
            best = float(constant), mean
    return best


def harmonic(one: float, other: float) -> float:
    """Returns the harmonic mean of two numbers from 0 on."""
    return 2 * one * other / (one + other) if one + other else 0.0
