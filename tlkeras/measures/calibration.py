"""Calibration: whether a model is right as often as it claims."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.measures.confusions import shares
from tlkeras.measures.estimates import mean_loss
from tlkeras.measures.measures import Bar, Bars, Measures, Scalar, Table

if TYPE_CHECKING:
    from tlkeras.task import Task

TITLE = "Calibration"
"""Of the section of the report."""

BINS = 15
"""Of equal width in confidence, as Guo et al. have them."""

_UNCALIBRATED = 0.05  # From this error on there is a remark.

_LEAST = 1e-38  # A probability that float32 has; the logarithm of 0 is of no use.


def softmax_rescaled(probabilities: np.ndarray, factor: float) -> np.ndarray:
    """Returns the softmax over the last axis of the logits times a factor, which these are of."""
    logits = factor * np.log(np.maximum(probabilities, _LEAST))
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)


def sigmoid_rescaled(probabilities: np.ndarray, factor: float) -> np.ndarray:
    """Returns the sigmoid of the logits times a factor, which these probabilities are of."""
    both = np.stack([1 - probabilities, probabilities], axis=-1)
    return softmax_rescaled(both, factor)[..., 1]


class Uncalibrated:
    """The measures that the model would have had without its temperature."""

    def __init__(self, task: Task, classes: Sequence[str], temperature: float) -> None:
        """Begins with no example."""
        self._task, self._temperature = task, temperature
        self._tally = task.tally(classes)

    def add(self, target: Any, served: Mapping[str, Any], first: int) -> None:
        """Adds a batch of what the calibrated model served; see `task.Tally`."""
        self._tally.add(target, self._task.rescaled(served, self._temperature), first)

    def joined(self, found: Measures) -> Measures:
        """Returns the measures of the calibrated model with these beside."""
        return compared(self._tally.measures(), found, self._temperature)


def compared(before: Measures, after: Measures, temperature: float) -> Measures:
    """Returns the measures after calibration, with those of before beside, in a table."""
    rows = [
        (figure, when, each.scalars[name].value, *(each.scalars[name].interval or (None, None)))
        for name, figure in _COMPARED.items()
        for when, each in (("before", before), ("after", after))
        if name in after.scalars
    ]
    table = Table(
        TITLE,
        ("measure", "temperature scaling", "value", "from", "to"),
        rows,
        f"The logits are divided by {temperature:.3f}, fitted on the validation split. From and to "
        "are the ends of the 95 % interval.",
    )
    views = [*after.views]
    place = next((i for i, view in enumerate(views) if view.title == TITLE), len(views))
    views.insert(place, table)
    return dataclasses.replace(after, views=views)


_COMPARED = {
    "calibration_error": "calibration error",
    "log_loss": "log loss",
    "brier": "Brier score",
}
"""What a temperature changes, and what it is called."""


class Calibration:
    """Counts of predictions and of right ones by confidence."""

    def __init__(self) -> None:
        """Begins with no prediction."""
        # Per bin of confidence: predictions, right ones, sum of confidences.
        self._bins = np.zeros([3, BINS], np.float64)
        # Of confidence less right, summed by example and bin: products of the sums of two bins.
        self._products = np.zeros([BINS, BINS], np.float64)
        self._examples = 0

    def add(self, confidence: np.ndarray, right: np.ndarray) -> None:
        """Adds predictions, k of each example.

        Args:
            confidence: Their probabilities, [b, k].
            right: Whether they are right, bool [b, k].
        """
        place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        for row, values in enumerate((np.ones_like(confidence), right, confidence)):
            self._bins[row] += np.bincount(place.ravel(), values.ravel(), BINS)
        count = len(confidence)
        cells = (np.arange(count)[:, None] * BINS + place).ravel()
        gaps = np.bincount(cells, (confidence - right).ravel(), count * BINS).reshape(count, BINS)
        self._products += gaps.T @ gaps
        self._examples += count

    @property
    def error(self) -> Scalar:
        """The mean distance of confidence and accuracy over the bins.

        Guo et al. 2017, https://arxiv.org/abs/1706.04599. The interval takes each example as one
        unit, however many predictions it has, and for certain which bins are overconfident.
        """
        count, right, confidence = self._bins
        sides = np.where(confidence < right, -1.0, 1.0)
        each = count.sum() / self._examples  # Predictions of an example.
        gaps, squares = sides @ (confidence - right), sides @ self._products @ sides
        return mean_loss(np.array([gaps / each, squares / each**2]), self._examples)

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
        return Bars(TITLE, "confidence", "accuracy", bars, note)

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
