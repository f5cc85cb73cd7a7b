"""Calibration: whether a model is right as often as it claims."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tlkeras.measures.confusions import shares
from tlkeras.measures.estimates import mean_loss
from tlkeras.measures.measures import Bar, Bars, Scalar

BINS = 15
"""Of equal width in confidence, as Guo et al. have them."""

_UNCALIBRATED = 0.05  # From this error on there is a remark.


class Calibration:
    """Counts of predictions and of right ones by confidence."""

    def __init__(self) -> None:
        """Begins with no prediction."""
        # Per bin of confidence: predictions, right ones, sum of confidences.
        self._bins = np.zeros([3, BINS], np.float64)
        self._squares = 0.0  # Of confidence less right.

    def add(self, confidence: np.ndarray, right: np.ndarray) -> None:
        """Adds predictions: their probabilities, [b], and whether they are right, bool [b]."""
        place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        for row, values in enumerate((np.ones_like(confidence), right, confidence)):
            self._bins[row] += np.bincount(place, values, BINS)
        self._squares += float(np.square(confidence - right).sum())

    @property
    def error(self) -> Scalar:
        """The mean distance of confidence and accuracy over the bins.

        Guo et al. 2017, https://arxiv.org/abs/1706.04599. The interval takes for certain which bins
        are overconfident.
        """
        count, right, confidence = self._bins
        gaps = np.abs(right - confidence).sum()
        return mean_loss(np.array([gaps, self._squares]), int(count.sum()))

    def view(self) -> Bars:
        """Returns the accuracy by confidence, of the bins that hold a prediction."""
        count, right, confidence = self._bins
        accuracy, mean = shares(right, count), shares(confidence, count)
        bars = [
            Bar(
                low=i / BINS,
                high=(i + 1) / BINS,
                height=float(accuracy[i]),
                mark=float(mean[i]),
                share=float(count[i] / count.sum()),
            )
            for i in map(int, count.nonzero()[0])
        ]
        sure, correct = self._means()
        gap = sure - correct
        note = f"The mean confidence is {sure:.1%}, the accuracy {correct:.1%}"
        if abs(gap) >= 0.0005:
            word = "over" if gap > 0 else "under"
            note += f": the model is {word}confident by {100 * abs(gap):.1f} points"
        note += (
            ". A bar that ends at its mark is well calibrated: the model is right as often as it "
            "claims. Bars with few examples are unreliable."
        )
        return Bars("Calibration", "confidence", "accuracy", bars, note)

    def remarks(self) -> Iterator[str]:
        """Yields what the calibration says against the model."""
        error = self.error.value
        if error > max(_UNCALIBRATED, self._by_chance()):
            sure, right = self._means()
            yield (
                f"The probabilities are unreliable: the mean confidence is {sure:.1%}, the "
                f"accuracy {right:.1%}, the calibration error {error:.2f}."
            )

    def _means(self) -> tuple[float, float]:
        """Returns the mean confidence and the accuracy of all predictions."""
        count, right, confidence = self._bins.sum(axis=1)
        return float(confidence / count), float(right / count)

    def _by_chance(self) -> float:
        """Returns an error that faultless probabilities seldom exceed.

        It is two deviations above the mean; the right answers of a bin are about normal.
        """
        count, _, confidence = self._bins
        sure = np.minimum(shares(confidence, count), 1.0)  # It may be 1 and a rounding.
        variances = count * sure * (1 - sure)
        mean = math.sqrt(2 / math.pi) * np.sqrt(variances).sum()
        deviation = math.sqrt((1 - 2 / math.pi) * variances.sum())
        return float((mean + 2 * deviation) / count.sum())
