"""Alignment: the rows of one domain moved to where those of another lie, in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Move = Callable[[np.ndarray], np.ndarray]
"""From rows of the source, float64 [n, channels], to rows that lie like the target."""


def means(source: np.ndarray, target: np.ndarray) -> Move:
    """Returns the move that gives rows the mean of the target."""
    step = target.mean(axis=0) - source.mean(axis=0)
    return lambda rows: rows + step


def covariances(source: np.ndarray, target: np.ndarray, weight: float) -> Move:
    """Returns the move that gives rows the mean and, nearly, the covariance of the target.

    Correlation alignment (Sun, Feng and Saenko 2016, https://arxiv.org/abs/1511.05547, algorithm
    1). As there, a multiple of the identity is added to both covariances: here their mean variance
    over `weight`, so that it has the same effect at any scale. A weight of 0 would move the mean
    alone, a large one gives exactly the target's covariance.
    """
    spreads = [np.cov(each, rowvar=False).reshape(each.shape[1], -1) for each in (source, target)]
    added = np.mean([np.trace(each) for each in spreads]) / source.shape[1] / weight
    whitening = _power(spreads[0] + added * np.eye(source.shape[1]), -0.5)
    colouring = _power(spreads[1] + added * np.eye(source.shape[1]), 0.5)
    first, last, turned = source.mean(axis=0), target.mean(axis=0), whitening @ colouring
    return lambda rows: (rows - first) @ turned + last


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """Returns the power of a symmetric matrix; directions without any variance are 0."""
    values, vectors = np.linalg.eigh(matrix)
    least = values.max(initial=0) * np.finfo(float).eps * len(values)
    powers = np.where(values > least, np.maximum(values, least or 1.0) ** exponent, 0.0)
    return (vectors * powers) @ vectors.T
