"""Estimates: numbers of a sample with 95 % intervals, from sums over independent examples.

Nothing is drawn: two runs on the same examples give the same intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tlkeras.measures.measures import NORMAL, ROUNDING, Scalar, interval

_EXACT = 1e-12  # A smaller part of a sum is its rounding.


def spread(value: float, variance: float, count: float) -> tuple[float, float]:
    """Returns the 95 % interval of a number in [0, 1], Wilson's, from its variance.

    The interval is that of a share of ``value (1 - value) / variance`` independent examples, which
    is as uncertain. Where nothing varies, as when all is right, it is a share of `count` examples.
    """
    if 0 < value < 1 and variance > 0:
        count = value * (1 - value) / variance
    return interval(value * count, count)


def effective(counts: np.ndarray) -> float:
    """Returns of how many examples a share varies like the mean of one for each class.

    Args:
        counts: The number of examples of each class, at least 1.
    """
    return len(counts) ** 2 / float((1 / counts).sum())


def drawn(value: float, draws: Sequence[float], count: int) -> tuple[float, float]:
    """Returns the 95 % interval of a number in [0, 1] from its values for examples drawn anew.

    Where nothing varies, as when all is right, it is that of a share of `count` examples.
    """
    low, high = np.percentile(draws, [2.5, 97.5]).tolist()
    if high - low <= ROUNDING:
        return interval(value * count, count)
    return min(low, value), max(high, value)


def difference(one: Scalar, other: Scalar) -> Scalar:
    """Returns by how much the other is worse, in the unit of both; below 0 it is better.

    Its interval, where both have one, is made of the two by Newcombe's method (1998, number 10,
    https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I), which is for
    independent examples.
    """
    better, worse = (one, other) if one.more_is_better else (other, one)
    value = better.value - worse.value
    if not (better.interval and worse.interval):
        return Scalar(value, more_is_better=False)
    below = math.hypot(better.value - better.interval[0], worse.interval[1] - worse.value)
    above = math.hypot(better.interval[1] - better.value, worse.value - worse.interval[0])
    return Scalar(value, (value - below, value + above), more_is_better=False)


def sums(losses: np.ndarray) -> np.ndarray:
    """Returns the sum of losses and that of their squares."""
    return np.array([losses.sum(), np.square(losses).sum()])


def mean_loss(sums: np.ndarray, count: int) -> Scalar:
    """Returns the mean of losses that are at least 0, by normal theory; less is better.

    Args:
        sums: Of the losses and of their squares, see `sums`.
        count: How many they are; one alone has no interval.
    """
    total, squares = sums.tolist()
    value = total / count
    if count < 2:
        return Scalar(value, more_is_better=False)
    variance = max(squares / count - value**2, 0.0) / (count - 1)
    reach = NORMAL * math.sqrt(variance)
    return Scalar(value, (max(value - reach, 0.0), value + reach), more_is_better=False)


class Ratio:
    """A sum of parts over a sum of wholes, such as F1: right ones over the mean of both counts.

    Every example is one unit, however many parts it has: words of a sentence are not independent.
    The variance is by the delta method: that of ``part - ratio * whole`` over the examples. One
    example alone shows none, and has no interval; those whose whole is 0 do not count.
    """

    def __init__(self) -> None:
        """Begins with no example."""
        self.part = self.whole = 0.0
        self._count = 0
        self._squares = np.zeros(3)  # Of part * part, part * whole and whole * whole.

    def add(self, part: np.ndarray, whole: np.ndarray) -> None:
        """Adds the parts and the wholes of examples, [b]."""
        part, whole = part.astype(np.float64), whole.astype(np.float64)
        self.part += float(part.sum())
        self.whole += float(whole.sum())
        self._count += int(np.count_nonzero(whole))
        self._squares += [(part * part).sum(), (part * whole).sum(), (whole * whole).sum()]

    @property
    def scalar(self) -> Scalar:
        """The ratio, in [0, 1], with its interval; not defined if all wholes are 0."""
        if not self.whole:
            return Scalar(0.0, is_defined=False)
        value = self.part / self.whole
        if self._count < 2:
            return Scalar(value)
        return Scalar(value, spread(value, self._variance, self._count))

    @property
    def rate(self) -> Scalar:
        """The same for losses of at least 0, such as bits a byte, by normal theory."""
        value = self.part / self.whole
        if self._count < 2:
            return Scalar(value, more_is_better=False)
        reach = NORMAL * math.sqrt(self._variance)
        return Scalar(value, (max(value - reach, 0.0), value + reach), more_is_better=False)

    @property
    def _variance(self) -> float:
        value = self.part / self.whole
        parts, both, wholes = self._squares
        found = float(parts - 2 * value * both + value**2 * wholes)
        return found / self.whole**2 if found > _EXACT * parts else 0.0


def midranks(values: np.ndarray) -> np.ndarray:
    """Returns the rank of each value from 1 on, float64 [n]; equal values share the mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]
