"""Ranking: how well scores set the examples of a class apart from all others.

The scores are sorted, not counted by fixed thresholds: those of a confident model lie all next to 0
and 1, where thresholds see no difference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tlkeras.measures.estimates import effective, midranks, spread
from tlkeras.measures.measures import Curve, Scalar

# So many lines are drawn at most, and about so many points of each.
_LINES, _POINTS = 12, 100


class Scores:
    """The scores of some classes, float32: four bytes an example and class, eight at most."""

    def __init__(self, classes: int) -> None:
        """Begins with no example."""
        self._count = 0
        self._signed = np.zeros([0, classes], np.float32)

    def add(self, scores: np.ndarray, positive: np.ndarray) -> None:
        """Adds scores at least 0 and which examples are of the class, bool, both [b, classes]."""
        stop = self._count + len(scores)
        if stop > len(self._signed):
            larger = np.zeros([max(stop, 2 * self._count), *self._signed.shape[1:]], np.float32)
            larger[: self._count] = self._signed[: self._count]
            self._signed = larger
        kept = np.maximum(scores, 0).astype(np.float32)
        signs = np.where(positive, 1, -1).astype(np.float32)
        self._signed[self._count : stop] = np.copysign(kept, signs)
        self._count = stop

    @property
    def rankings(self) -> list[Ranking]:
        """The scores of each class; they share the memory of these."""
        return [Ranking(column) for column in self._signed[: self._count].T]


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The scores of one class.

    The positive examples are those of the class.

    Attributes:
        signed: Float32 [n], with a sign that tells the class: scores of other examples have the
            minus, that of 0 too.
    """

    signed: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """All scores, float32 [n], in the order of the examples."""
        return np.abs(self.signed)

    @property
    def positive(self) -> np.ndarray:
        """Which examples are of the class, bool [n]."""
        return ~np.signbit(self.signed)

    @property
    def roc_auc(self) -> Scalar | None:
        """How often a positive example has a higher score than another one; ties count half.

        None without an example of either kind. The variance is DeLong's (DeLong et al. 1988,
        https://doi.org/10.2307/2531595).
        """
        scores, positive = self.scores, self.positive
        own, others = int(positive.sum()), int((~positive).sum())
        if not (own and others):
            return None
        ranks = midranks(scores)
        above = (ranks[positive] - midranks(scores[positive])) / others
        below = 1 - (ranks[~positive] - midranks(scores[~positive])) / own
        few = min(own, others)
        variance = sum(np.var(x, ddof=1) / len(x) for x in (above, below)) if few > 1 else 0.0
        value = float(above.mean())
        return Scalar(value, spread(value, float(variance), few))

    @property
    def average_precision(self) -> Scalar | None:
        """The mean precision over the positive examples, the area below precision by recall.

        None without a positive example. The interval is that of a share of the positive examples
        (Boyd et al. 2013, https://doi.org/10.1007/978-3-642-40994-3_29).
        """
        recall, precision = self._steps()
        if not len(recall):
            return None
        value = float((np.diff(recall, prepend=0.0) * precision).sum())
        return Scalar(value, spread(value, 0.0, int(self.positive.sum())))

    def points(self) -> list[list[float]]:
        """Returns points of precision by recall; none without a positive example."""
        recall, precision = self._steps()
        places = np.unique(np.linspace(0, max(len(recall) - 1, 0), _POINTS).astype(int))
        return [[float(recall[i]), float(precision[i])] for i in places if len(recall)]

    def _steps(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns recall and precision at every threshold, the highest first."""
        scores, positive = self.scores, self.positive
        if not positive.any():
            return np.zeros(0), np.zeros(0)
        order = np.argsort(-scores, kind="stable")
        last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
        found = np.cumsum(positive[order])[last]
        return found / positive.sum(), found / (last + 1)


def mean_average(averages: Sequence[Scalar | None], support: Sequence[int]) -> Scalar | None:
    """Returns the mean of `Ranking.average_precision` over the classes that have examples.

    None if none has. Its interval takes the classes as independent.

    Args:
        averages: Of each class.
        support: The number of examples of each class.
    """
    values = np.array([average.value for average in averages if average])
    if not len(values):
        return None
    counts = np.array([count for count in support if count])
    value = float(values.mean())
    variance = float((values * (1 - values) / counts).sum() / len(values) ** 2)
    return Scalar(value, spread(value, variance, effective(counts)))


def curve(names: Sequence[str], rankings: Sequence[Ranking]) -> Curve:
    """Returns precision by recall, a line for each class that has examples, the largest first."""
    counts = [int(ranking.positive.sum()) for ranking in rankings]
    order = sorted(range(len(names)), key=lambda place: -counts[place])
    known = [place for place in order if counts[place]]
    note = (
        "Of the examples that score above a threshold, precision is the share that are of the "
        "class, and recall the share of the class that is among them; every threshold is a point."
    )
    if len(known) > _LINES:
        note += f" Of {len(known)} classes the {_LINES} with the most examples are drawn."
    series = {names[place]: rankings[place].points() for place in known[:_LINES]}
    return Curve("Precision and recall", "recall", "precision", series, note)
