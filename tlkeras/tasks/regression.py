"""Regression: one number."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.measures.regression import RegressionTally
from tlkeras.task import Output, Task

_SCALE = "scale"

# Numbers closer than this part of their deviation are the same answer: their difference takes
# 0.0025 from r2. The other part, of a number itself, is the rounding of float32.
_ALIKE, _ROUNDED = 0.05, 1e-6


class Regression(Task, name="regression"):
    """One number: pooled features, dropout, one dense unit, squared loss.

    The last layer multiplies by the standard deviation of the training numbers and adds their mean,
    and the loss is in standard deviations; so numbers of any size train alike. A model that always
    answers the mean has a loss of 1. Metrics are in the unit of the numbers.
    """

    reads = ("number",)
    primary = "mean_absolute_error"
    more_is_better = False
    explains = True
    needs_float = True  # 256 steps from 0 to numbers far from it leave few between the numbers.

    dropout: float = 0.2

    def validate(self):
        self.require(0 <= self.dropout < 1, "dropout", "at least 0 and below 1")

    def target(self, example, inputs, classes):
        """Returns float32 [1]."""
        return example["number"][None]

    def summarize(self, features):
        """Returns [b, channels]: the pooled features."""
        return features["pooled"]

    def head(self, summary, classes):
        """Returns [b, 2]: the number, and the one a standard deviation above it."""
        x = keras.layers.Dropout(self.dropout, name="dropout")(summary)
        x = keras.layers.Dense(1, dtype="float32", name="standard")(x)
        x = keras.ops.concatenate([x, x + 1], axis=-1)
        every: Any = None  # Both have the same scale.
        return keras.layers.Normalization(every, invert=True, dtype="float32", name=_SCALE)(x)

    def initialize(self, head, targets):
        """Sets mean and deviation of the numbers.

        Raises:
            ValueError: All numbers are equal, or so near that Keras takes them for equal, or so far
                from each other that no float32 holds the square of their deviation.
        """
        numbers = np.stack([*targets]).astype(np.float64)
        if not np.ptp(numbers):
            raise ValueError(
                f"regression finds nothing to learn: all {len(numbers):,} training numbers are "
                f"{numbers.flat[0]:g}. Read another column as the number, or add examples."
            )
        if (deviation := numbers.std()) <= keras.config.epsilon():
            raise ValueError(
                f"The training numbers of regression deviate by {deviation:.1e} from their mean, "
                f"and Keras scales none by less than {keras.config.epsilon():g}: give them in a "
                "smaller unit."
            )
        if deviation >= np.finfo(np.float32).max ** 0.5:
            raise ValueError(
                f"The training numbers of regression deviate by {deviation:.1e} from their mean, "
                "and Keras scales none by more than 1.8e+19: give them in a larger unit."
            )
        head.get_layer(_SCALE).adapt(numbers)

    def loss(self):
        from tlkeras.losses import regression

        return regression.SquaredError()

    def metrics(self, classes):
        from tlkeras.losses import regression

        return [
            keras.metrics.MeanMetricWrapper(regression.explained, "explained"),
            keras.metrics.MeanMetricWrapper(regression.error, "mean_absolute_error"),
        ]

    def served(self, outputs):
        return {"number": outputs[:, :1]}

    def outputs(self):
        return (Output("number", "vector"),)

    def explained(self, outputs):
        """Returns the number, [b, 1]."""
        return outputs[:, :1], tf.zeros_like(outputs[:, :1], tf.int32)

    def tally(self, classes):
        return RegressionTally()

    def agree(self, one, other):
        """Returns whether the numbers differ by at most a twentieth of their deviation.

        That is the deviation of the batch: where 0 lies among the numbers tells nothing of them.
        """
        numbers, others = (np.asarray(each["number"], np.float64)[:, 0] for each in (one, other))
        alike = _ALIKE * max(numbers.std(), others.std())
        return np.isclose(numbers, others, rtol=_ROUNDED, atol=alike)
