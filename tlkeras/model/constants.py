"""Constants: weights as constants of a graph that is traced, with the values that they have now.

What depends on constants alone, such as the scale of a batch norm, is computed before the graph
runs. And a graph that needs no variables is written, read and run faster: each variable goes as an
argument through every function that calls another one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tlkeras.frameworks import keras, tf

Weights = list[tuple[Any, np.ndarray]]
"""Variables of Keras and their values."""


def read(models: Iterable[keras.Model], most: float = math.inf) -> Weights:
    """Returns the weights of networks that have at most so many numbers each.

    It is called before the trace, within which nothing has a value.
    """
    variables = {id(each): each for model in models for each in model.variables}.values()
    return [
        (variable, variable.numpy()) for variable in variables if math.prod(variable.shape) <= most
    ]


def scope(weights: Weights) -> Any:
    """Returns a context, within a trace, in which networks have these weights as constants."""
    return keras.StatelessScope(
        state_mapping=[(variable, tf.constant(value)) for variable, value in weights]
    )
