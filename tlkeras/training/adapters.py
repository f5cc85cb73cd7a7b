"""Adapters: low-rank changes of the kernels of dense layers, trained instead of the kernels.

A kernel W, as a matrix [inputs, outputs], counts as ``W + alpha / rank * down @ up`` with ``down``
[inputs, rank] and ``up`` [rank, outputs] (Hu et al. 2021, https://arxiv.org/abs/2106.09685). They
lie outside of the network, which keeps its layers and variables. Keras's own ``enable_lora`` adds
variables to the layers, and `save_weights` loses a part of them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tlkeras.frameworks import keras


class Change(NamedTuple):
    """The change of one kernel; `order` has its axes, those of the inputs first."""

    kernel: Any
    down: Any
    up: Any
    order: tuple[int, ...]


class Adapters:
    """Changes of all dense kernels in some layers, at first none.

    Attributes:
        changes: Every change.
        variables: The variables to train, float32.
    """

    def __init__(
        self, layers: Sequence[keras.Layer], rank: int, alpha: float, seed: int = 0
    ) -> None:
        """Makes them; `seed` decides the initial values of ``down``, those of ``up`` are 0."""
        self._scale = alpha / rank
        self.changes: list[Change] = []
        for number, layer in enumerate(dense(layers)):
            kernel, (inputs, outputs) = layer.kernel, axes(layer)
            rows, columns = (math.prod(kernel.shape[i] for i in each) for each in (inputs, outputs))
            random = np.random.default_rng((seed, number))
            start = random.normal(0, rows**-0.5, (rows, rank)).astype(np.float32)
            down = keras.Variable(start, name=f"down_{number}")
            up = keras.Variable(np.zeros((rank, columns), np.float32), name=f"up_{number}")
            self.changes.append(Change(kernel, down, up, (*inputs, *outputs)))
        self.variables: list[Any] = [each for change in self.changes for each in change[1:3]]

    @contextlib.contextmanager
    def applied(self, states: Sequence[Any]) -> Iterator[None]:
        """Has the changed kernels count in this context; gradients reach ``down`` and ``up``.

        `states` are variables that calls of layers assign, such as those of dropout's generators.
        """
        changed = [(change.kernel, self._changed(change)) for change in self.changes]
        kernels = {id(kernel) for kernel, _ in changed}
        with keras.StatelessScope(state_mapping=changed) as scope:
            yield
        for state in states:
            value = scope.get_current_value(state)
            if value is not None and id(state) not in kernels:
                state.assign(value)

    def merge(self) -> None:
        """Adds the changes to the kernels."""
        for change in self.changes:
            change.kernel.assign(self._changed(change))

    def _changed(self, change: Change) -> Any:
        kernel, down, up, order = change
        matrix: Any = keras.ops.matmul(down, up)
        whole = keras.ops.reshape(matrix * self._scale, [kernel.shape[axis] for axis in order])
        return kernel + keras.ops.transpose(whole, np.argsort(order).tolist())


def dense(layers: Sequence[keras.Layer]) -> list[Any]:
    """Returns the dense layers among some layers and inside of them, such as those of attention."""
    kinds = (keras.layers.Dense, keras.layers.EinsumDense)
    return [each for layer in layers for each in layer._flatten_layers() if isinstance(each, kinds)]


def axes(layer: Any) -> tuple[list[int], list[int]]:
    """Returns the axes of a dense layer's kernel over which it sums, and the others."""
    if isinstance(layer, keras.layers.Dense):
        return [0], [1]
    inputs, rest = layer.equation.split(",")
    kernel, outputs = rest.split("->")
    summed = [i for i, letter in enumerate(kernel) if letter in inputs and letter not in outputs]
    return summed, [i for i in range(len(kernel)) if i not in summed]
