"""Vector: one row of numbers for each example, the mean of what the body of a model gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tlkeras.frameworks import keras, tf
from tlkeras.model import folding, lengths
from tlkeras.model.transfer_model import TransferModel

FEATURES = "features"
"""The key of the rows beside the served outputs."""


def served(model: TransferModel) -> Callable[[Any], dict[str, Any]]:
    """Returns `TransferModel.served` with `FEATURES` beside, float32 [b, channels], in one run."""
    network = _network(model)

    def run(inputs: Any) -> dict[str, Any]:
        outputs, summary = network(inputs, training=False)
        return {**model.task.served(outputs), FEATURES: pooled(summary)}

    return run


def predicted(model: TransferModel) -> Callable[[Any], dict[str, Any]]:
    """Returns `TransferModel.predicted` with `FEATURES` beside, in one run."""
    if not lengths.vary(model.backbone, model.full):
        return served(model)
    network = _network(model)
    signature = keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), network.input)

    def run(inputs: Any) -> dict[str, Any]:
        found = folding.run(network, lengths.shortened(model.backbone, inputs))
        outputs, summary = lengths.restored(found, network.output)
        return {**model.task.served(outputs), FEATURES: pooled(summary)}

    return tf.function(run, input_signature=[signature], autograph=False)


def pooled(summary: Any) -> Any:
    """Returns the means over all places of a summary's floating tensors, side by side."""
    tensors = [each for each in tf.nest.flatten(summary) if each.dtype.is_floating]
    rows = [
        tf.reduce_mean(tf.cast(each, tf.float32), axis=[*range(1, len(each.shape) - 1)])
        for each in tensors
    ]
    return tf.concat(rows, axis=-1)


def _network(model: TransferModel) -> keras.Model:
    return keras.Model(model.full.input, [model.full.output, model.body.output])
