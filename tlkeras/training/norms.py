"""Norms: the statistics of batch norms taken from other data, with all weights as they are.

Adaptive batch normalization (Li et al. 2018, https://arxiv.org/abs/1603.04779): a network whose
norms know the target's mean and variance of every channel shifts the target to where it learnt.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.model.graph import nodes

Statistics = dict[str, np.ndarray]
"""The mean and the variance of every norm, float32 [channels], by the path of its variable."""


def found(network: keras.Model) -> list[Any]:
    """Returns the batch norms of a network, each once, in its order."""
    layers = {id(node.operation): node.operation for node in nodes(network)}
    norms: list[Any] = [*layers.values()]
    return [each for each in norms if isinstance(each, keras.layers.BatchNormalization)]


def measured(network: keras.Model, batches: Iterable[Any]) -> Statistics:
    """Returns the statistics of the inputs of every norm over batches of inputs.

    Within a batch each norm works with the statistics of that batch, as in training, so those
    behind it see adapted inputs; all else is in inference mode. A larger batch is more exact. Each
    example counts the same.
    """

    def moments(inputs: Any) -> dict[str, Any]:
        return _moments(network, inputs)

    traced = tf.function(moments, autograph=False, reduce_retracing=True)
    count, totals = 0, dict[str, Any]()
    for inputs in batches:
        rows = int(keras.tree.flatten(inputs)[0].shape[0])
        count += rows
        for path, value in traced(inputs).items():
            totals[path] = totals.get(path, 0) + rows * value.numpy().astype(np.float64)
    means = {path: total / count for path, total in totals.items()}
    statistics: Statistics = {}
    for norm in found(network):
        mean, squares = (means[each.path] for each in (norm.moving_mean, norm.moving_variance))
        statistics[norm.moving_mean.path] = mean.astype(np.float32)
        variance = np.maximum(squares - mean**2, 0)
        statistics[norm.moving_variance.path] = variance.astype(np.float32)
    return statistics


def assign(network: keras.Model, statistics: Statistics) -> None:
    """Sets the statistics of every norm."""
    for norm in found(network):
        for variable in (norm.moving_mean, norm.moving_variance):
            variable.assign(statistics[variable.path])


def _moments(network: keras.Model, inputs: Any) -> dict[str, Any]:
    """Returns the mean and the mean square of the inputs of every norm in one batch, by path."""
    values = dict(zip(map(id, network.inputs), keras.tree.flatten(inputs), strict=True))
    sums: dict[str, Any] = {}
    for node in nodes(network):
        if node.is_input:
            continue
        arguments, options = node.arguments.fill_in(values)
        operation: Any = node.operation
        if isinstance(operation, keras.layers.BatchNormalization):
            outputs, found = _normed(operation, arguments[0])
            sums |= found
        else:
            if getattr(operation, "_call_has_training_arg", False):
                options["training"] = False
            outputs = operation(*arguments, **options)
        tensors = keras.tree.flatten(outputs)
        values.update(zip(map(id, node.output_tensors), tensors, strict=True))
    return sums


def _normed(norm: Any, inputs: Any) -> tuple[Any, dict[str, Any]]:
    """Returns the outputs of a norm with the batch's statistics; and those, as `_moments`."""
    inputs = keras.ops.cast(inputs, "float32")
    channel = norm.axis % len(inputs.shape)
    axes = [axis for axis in range(len(inputs.shape)) if axis != channel]
    mean, variance = tf.nn.moments(inputs, axes)
    outputs = keras.ops.batch_normalization(
        inputs,
        mean,
        variance,
        norm.axis,
        offset=norm.beta if norm.center else None,
        scale=norm.gamma if norm.scale else None,
        epsilon=norm.epsilon,
    )
    square = variance + keras.ops.square(mean)
    found = {norm.moving_mean.path: mean, norm.moving_variance.path: square}
    return keras.ops.cast(outputs, norm.compute_dtype), found
