"""The loss of a text, and the metrics of its pieces."""

from __future__ import annotations

from typing import Any

from tlkeras.frameworks import keras


class TextLoss(keras.losses.Loss):
    """The negative logarithm of the probability of a text, [b]."""

    def call(self, y_true, y_pred):
        total: Any = keras.ops.sum(y_pred[..., 0], axis=-1)
        return -total


class Likelihood(keras.metrics.Mean):
    """The mean logarithm of the probability of a piece."""

    def update_state(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, y_true, y_pred, sample_weight=None
    ):
        counted = y_pred[..., 1]
        if sample_weight is not None:
            counted = counted * keras.ops.reshape(sample_weight, [-1, 1])
        super().update_state(y_pred[..., 0], counted)


class Perplexity(Likelihood):
    """The exponential of the negative mean: among so many pieces the model would have to guess."""

    def result(self):
        mean: Any = super().result()
        return keras.ops.exp(-mean)
