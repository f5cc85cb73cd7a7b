"""Trainable: the model to compile and fit, on every replica of a strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tlkeras import hardware
from tlkeras.frameworks import keras
from tlkeras.training.adapters import Adapters
from tlkeras.training.balance import Balance


def trainable(
    network: keras.Model,
    before: Callable[[Any], Any] | None = None,
    adapters: Adapters | None = None,
    balance: Balance | None = None,
    frozen: Iterable[keras.Layer] = (),
) -> Any:
    """Returns a `keras.Model` of the network to compile and fit, on all replicas.

    Compile it under `hardware.scope`, with optimizer and metrics from there; fit it outside. `fit`,
    `evaluate` and `predict` take a `tf.data.Dataset` of this worker's share of every batch.

    Args:
        network: A network from under `hardware.scope`.
        before: Maps the inputs of a batch to those of the network. Keras does not track variables
            of a function, so checkpoints of the model hold no frozen ones.
        adapters: Changes of kernels of the network, to train with it.
        balance: The weights of cells of examples in the loss, on one replica.
        frozen: The layers of the network that run in inference mode in training, too.
    """
    from tlkeras.training.replicated import Replicated, Trained

    if hardware.replicas() > 1:
        return Replicated(network, before, adapters, frozen=frozen)
    return Trained(network, before, adapters, balance, frozen)
