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
        return keras.layers.Normalization(None, invert=True, dtype="float32", name=_SCALE)(x)

    def initialize(self, head, targets):
        """Sets mean and deviation of the numbers."""
        head.get_layer(_SCALE).adapt(np.stack([*targets]).astype(np.float64))

    def loss(self):
        return _Loss()

    def metrics(self):
        return [_R2(name="r2"), keras.metrics.MeanMetricWrapper(_error, "mean_absolute_error")]

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
        number, above = keras.ops.split(y_pred, 2, axis=-1)
        deviation = keras.ops.stop_gradient(above - number)
        return keras.ops.square((y_true - number) / deviation)[:, 0]


class _R2(keras.metrics.R2Score):
    """The share of the variance that is predicted."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true, y_pred[:, :1], sample_weight)


def _error(target: Any, outputs: Any) -> Any:
    """Returns the absolute errors, [b]."""
    return keras.ops.abs(target - outputs[:, :1])[:, 0]
