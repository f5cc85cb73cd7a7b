"""Regression: one number."""

from __future__ import annotations

import numpy as np

from tlkeras.frameworks import keras
from tlkeras.measures.regression import RegressionTally
from tlkeras.task import Output, Task

_SCALE = "scale"


class Regression(Task, name="regression"):
    """One number: pooled features, dropout, one dense unit, squared loss.

    The last layer multiplies by the standard deviation of the training numbers and adds their mean,
    so that the unit sees numbers around 0 whatever theirs are. Loss and metrics are in the unit of
    the numbers.
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
        """Returns numbers [b, 1]."""
        x = keras.layers.Dropout(self.dropout, name="dropout")(summary)
        x = keras.layers.Dense(1, dtype="float32", name="standard")(x)
        return keras.layers.Normalization(invert=True, dtype="float32", name=_SCALE)(x)

    def initialize(self, head, targets):
        """Sets mean and deviation of the numbers."""
        head.get_layer(_SCALE).adapt(np.stack([*targets]))

    def loss(self):
        return keras.losses.MeanSquaredError()

    def metrics(self):
        return [
            keras.metrics.R2Score(name="r2"),
            keras.metrics.MeanAbsoluteError(name="mean_absolute_error"),
        ]

    def served(self, outputs):
        return {"number": outputs}

    def outputs(self):
        return (Output("number", "vector"),)

    def tally(self, classes):
        return RegressionTally()

    def agree(self, one, other):
        """Returns whether the numbers differ by at most one percent."""
        return np.isclose(one["number"], other["number"], rtol=0.01)[:, 0]
