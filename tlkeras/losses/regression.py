"""The squared error of numbers in standard deviations, and its metrics."""

from __future__ import annotations

from typing import Any

from tlkeras.frameworks import keras


class SquaredError(keras.losses.Loss):
    """The squared error in standard deviations, [b]."""

    def call(self, y_true, y_pred):
        number: Any = y_pred[:, 0]
        deviation: Any = keras.ops.stop_gradient(y_pred[:, 1] - number)
        return keras.ops.square((y_true[:, 0] - number) / deviation)


def explained(target: Any, outputs: Any) -> Any:
    """Returns [b], whose mean is r2, but of the variance of the training numbers.

    Keras's `R2Score` makes its variables inside of a replica, where nobody adds them up.
    """
    loss: Any = SquaredError().call(target, outputs)
    return 1 - loss


def error(target: Any, outputs: Any) -> Any:
    """Returns the absolute errors, [b]."""
    return keras.ops.abs(target[:, 0] - outputs[:, 0])
