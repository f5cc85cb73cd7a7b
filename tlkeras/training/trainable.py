"""What is compiled and fitted: a network that may be copied to every replica of a strategy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tlkeras import hardware
from tlkeras.frameworks import keras


def trainable(network: keras.Model, before: Callable[[Any], Any] | None = None) -> Any:
    """Returns a `keras.Model` to compile and fit that is the network, on every replica there is.

    Compile it under `hardware.scope`, optimizer and metrics made there; fit it outside. `fit`,
    `evaluate` and `predict` take a `tf.data.Dataset` of this worker's part of every batch.

    Args:
        network: Made under `hardware.scope`.
        before: Makes its inputs of those of a batch. It is a function, in which Keras finds no
            variables: those of what is frozen are no part of the model, and not kept again.
    """
    from tlkeras.training.replicated import Replicated, Trained

    made = Replicated if hardware.replicas() > 1 else Trained
    return made(network, before)
