"""Regression: one number."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlkeras.frameworks import keras
from tlkeras.measures.regression import RegressionTally
from tlkeras.task import Output, Task

_SCALE = "scale"


class Regression(Task, name="regression"):
    """One number: pooled features, dropout, one dense unit, squared loss.

    The last layer multiplies by the standard deviation of the training numbers and adds their mean,
    and the loss is in standard deviations; so numbers of any size train alike. A model that always
    answers the mean has a loss of 1. Metrics are in the unit of the numbers.
    """

    reads = ("number",)
    primary = "mean_absolute_error"

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
        """Sets mean and deviation of the numbers."""
        head.get_layer(_SCALE).adapt(np.stack([*targets]).astype(np.float64))

    def loss(self):
        return _Loss()

    def metrics(self):
        return [
            keras.metrics.MeanMetricWrapper(_explained, "explained"),
            keras.metrics.MeanMetricWrapper(_error, "mean_absolute_error"),
        ]

    def served(self, outputs):
        return {"number": outputs[:, :1]}

    def outputs(self):
        return (Output("number", "vector"),)

    def tally(self, classes):
        return RegressionTally()

    def agree(self, one, other):
        """Returns whether the numbers differ by at most one percent."""
        return np.isclose(one["number"], other["number"], rtol=0.01)[:, 0]


class _Loss(keras.losses.Loss):
    """The squared error in standard deviations, [b]."""

    def call(self, y_true, y_pred):
        number: Any = y_pred[:, 0]
        deviation: Any = keras.ops.stop_gradient(y_pred[:, 1] - number)
        return keras.ops.square((y_true[:, 0] - number) / deviation)


def _explained(target: Any, outputs: Any) -> Any:
    """Returns [b], whose mean is r2, but of the variance of the training numbers.

    Keras's `R2Score` makes its variables inside of a replica, where nobody adds them up.
    """
    loss: Any = _Loss().call(target, outputs)
    return 1 - loss


def _error(target: Any, outputs: Any) -> Any:
    """Returns the absolute errors, [b]."""
    return keras.ops.abs(target[:, 0] - outputs[:, 0])
