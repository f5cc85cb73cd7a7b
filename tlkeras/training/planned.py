"""Planned: a learning rate that follows a shape, its height and its length variables.

So another rate or another number of epochs needs no other graph, and a search traces once.
"""

from __future__ import annotations

import functools
from typing import Any

from tlkeras.frameworks import keras


def planned(shape: Any, rate: float, steps: int) -> Any:
    """Returns the Keras schedule of `rate` times a shape over so many steps.

    The shape is a schedule of the share of the steps that are done, from 0 to 1. Another plan of
    the same shape can take the place of the values with ``become``.
    """

    class Planned(keras.optimizers.schedules.LearningRateSchedule):
        def __init__(self) -> None:
            variable: Any = keras.Variable
            number = functools.partial(variable, trainable=False, dtype="float32")
            self.rate, self.steps = number(float(rate)), number(float(steps))

        def __call__(self, step: Any) -> Any:
            return self.rate * shape(keras.ops.cast(step, "float32") / self.steps)

        def get_config(self) -> dict[str, Any]:
            return {"shape": keras.optimizers.schedules.serialize(shape)}

        def become(self, other: Any) -> None:
            self.rate.assign(other.rate)
            self.steps.assign(other.steps)

    return Planned()
