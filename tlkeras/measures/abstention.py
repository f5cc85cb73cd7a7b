"""Abstention: how right a classifier is if it answers only where it is sure enough.

The *coverage* is the share of the examples that get an answer, those of the highest confidence;
the *risk* is the share of wrong ones among the answers (El-Yaniv and Wiener 2010,
https://jmlr.org/papers/v11/el-yaniv10a.html).
"""

from __future__ import annotations

import functools

import numpy as np

from tlkeras.measures.measures import Curve, Scalar, share
from tlkeras.measures.ranking import Ranking, Scores

UNKNOWN = "unknown"
"""The label of an example that gets no answer."""

SHARE = 0.8
"""Of the surest examples, so large a share, the accuracy is a scalar of its own."""

_POINTS = 100  # Of the curve, about so many.


class Abstention:
    """The confidences of all predictions, see `Scores`.

    ``risk_coverage_area``, the mean risk over all coverages, from that of the surest predictions
    alone to that of all (Geifman et al. 2019, https://arxiv.org/abs/1805.08206); equally sure ones
    are answered together. ``accuracy_at_80_coverage``, that of the surest 80 %, and of those as
    sure. With a threshold, ``answered`` is the coverage and ``accuracy_of_answered``, where there
    is an answer, the rest of the risk.
    """

    def __init__(self, threshold: float) -> None:
        """Begins with no prediction; those of a lower confidence get no answer."""
        self._threshold = threshold
        self._scores = Scores(1)  # Of the right predictions among all.

    def add(self, confidence: np.ndarray, right: np.ndarray) -> None:
        """Adds the confidences of predictions, [b], and whether they are right, bool [b]."""
        self._scores.add(confidence[:, None], right[:, None])

    def scalars(self) -> dict[str, Scalar]:
        """Returns the measures by name."""
        answered, right = self._steps
        count = int(answered[-1])
        weights = np.diff(answered, prepend=0) / count
        most = int(np.searchsorted(answered, SHARE * count - 1e-9))
        found = {
            "risk_coverage_area": Scalar(
                float(weights @ (1 - right / answered)), more_is_better=False
            ),
            "accuracy_at_80_coverage": share(int(right[most]), int(answered[most])),
        }
        if self._threshold:
            some, correct = self._chosen()
            found["answered"] = share(some, count)
            if some:
                found["accuracy_of_answered"] = share(correct, some)
        return found

    def view(self) -> Curve:
        """Returns the accuracy by coverage, with the threshold marked."""
        answered, right = self._steps
        accuracy, coverage = right / answered, answered / answered[-1]
        places = np.unique(np.linspace(0, len(answered) - 1, _POINTS).astype(int))
        series = {"accuracy": [[float(coverage[i]), float(accuracy[i])] for i in places]}
        note = (
            "The accuracy of the answers, if only the surest examples get one; every threshold of "
            "the confidence is a point."
        )
        if self._threshold:
            some, correct = self._chosen()
            place, ends = some / answered[-1], (float(accuracy.min()), 1.0)
            series[f"abstain below {self._threshold:g}"] = [[float(place), end] for end in ends]
            rest = f", and {correct / some:.1%} of these answers are right" if some else ""
            note += (
                f" With {self._threshold:g}, {place:.1%} of the examples get an answer{rest}; the "
                f"others are {UNKNOWN!r}. All other measures are of all examples, with the most "
                "probable class as the answer."
            )
        return Curve("Accuracy by coverage", "share of examples answered", "accuracy", series, note)

    @property
    def _ranking(self) -> Ranking:
        (ranking,) = self._scores.rankings
        return ranking

    @functools.cached_property
    def _steps(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns how many are answered at every threshold, the highest first, and are right."""
        confidence, right = self._ranking.scores, self._ranking.positive
        order = np.argsort(-confidence, kind="stable")
        last = np.append(np.flatnonzero(np.diff(confidence[order])), len(confidence) - 1)
        return last + 1, np.cumsum(right[order])[last]

    def _chosen(self) -> tuple[int, int]:
        """Returns how many the threshold answers, and how many of these are right."""
        # As the served answer compares, in float32.
        some = self._ranking.scores >= np.float32(self._threshold)
        return int(some.sum()), int((some & self._ranking.positive).sum())
