"""Folding: runs a network with its batch norms folded into the convolutions before them."""

from __future__ import annotations

import collections
from collections.abc import Collection
from typing import Any

from tlkeras.frameworks import keras, tf
from tlkeras.model.graph import nodes


def run(
    model: keras.Model,
    inputs: Any,
    *,
    training: bool | None = False,
    frozen: Collection[int] = (),
) -> Any:
    """Returns the outputs of a model with its batch norms folded into the convolutions before them.

    Equal to ``model(inputs, training=training)`` up to rounding. A norm in inference mode scales
    and shifts the channels of a convolution. It can scale the kernel instead of the map, which is
    much larger. Every call reads the variables, and gradients reach them. Trainable norms are not
    folded in training; they run as one operation. Measured by ``benchmarks/parts.py``: MobileNetV2
    takes 0.6 of its time forward on a processor, 0.87 forward and backward. Convolutions with a
    group for each channel, such as ConvNeXt's, run as the depthwise ones that they are. The
    layers of the ids `frozen` run in inference mode in any case.
    """
    norms = _foldable(model, bool(training))
    folded = {id(norm) for norm in norms.values()}  # Nodes, because a norm may have two calls.
    values = dict(zip(map(id, model.inputs), keras.tree.flatten(inputs), strict=True))
    for node in nodes(model):
        if node.is_input:
            continue
        args, kwargs = node.arguments.fill_in(values)
        operation = node.operation
        if id(node) in norms:
            outputs = _convolved(operation, norms[id(node)].operation, *args)
        elif id(node) in folded:
            outputs = args[0]
        elif _is_of_channels(operation):
            outputs = _of_channels(operation, *args)
        elif training and _is_of_batches(operation):
            outputs = _of_batch(operation, *args)
        elif type(operation) is type(model):  # The head, in the whole of a `TransferModel`.
            outputs = run(operation, *args, training=training, frozen=frozen)
        else:
            if getattr(operation, "_call_has_training_arg", False):
                kwargs["training"] = training and id(operation) not in frozen
            outputs = operation(*args, **kwargs)
        tensors = keras.tree.flatten(outputs)
        values.update(zip(map(id, node.output_tensors), tensors, strict=True))
    return keras.tree.map_structure(lambda tensor: values[id(tensor)], model.output)


def _foldable(model: keras.Model, training: bool) -> dict[int, Any]:
    """Returns the nodes of the foldable norms by the id of the convolution's node."""
    calls = nodes(model)
    makers = {id(tensor): node for node in calls for tensor in node.output_tensors}
    uses = collections.Counter(id(tensor) for tensor in model.outputs)
    uses.update(id(tensor) for node in calls for tensor in node.input_tensors)
    norms: dict[int, Any] = {}
    for node in calls:
        norm = node.operation
        is_norm = type(norm) is keras.layers.BatchNormalization  # Others have their own formula.
        if not is_norm or (training and norm.trainable):
            continue
        (tensor,) = node.input_tensors
        convolution = makers[id(tensor)].operation
        if (
            type(convolution) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
            and convolution.activation is keras.activations.linear
            and convolution.activity_regularizer is None
            and convolution.data_format == "channels_last"
            and norm.axis in (-1, 3)
            and uses[id(tensor)] == 1
        ):
            norms[id(makers[id(tensor)])] = node
    return norms


def _convolved(convolution: Any, norm: Any, inputs: Any) -> Any:
    """Returns the outputs of a convolution with a norm in inference mode after it."""
    ops, kind = keras.ops, convolution.compute_dtype
    scale = ops.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma
    shift = -norm.moving_mean * scale
    if norm.center:
        shift = shift + norm.beta
    # Keras casts these inside a layer, too; cached and fresh features must be equal.
    if convolution.use_bias:
        shift = shift + ops.multiply(ops.cast(convolution.bias, kind), scale)
    kernel = ops.cast(convolution.kernel, kind)
    is_depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
    factors = ops.reshape(scale, kernel.shape[-2:]) if is_depthwise else scale
    convolved = _linear(convolution, inputs, ops.multiply(kernel, factors))
    return convolved + ops.cast(shift, kind)


def _is_of_channels(operation: Any) -> bool:
    """Returns whether each group of a convolution has one input channel: it is depthwise."""
    if type(operation) is not keras.layers.Conv2D:
        return False
    kernel: Any = operation.kernel
    return (
        operation.groups > 1
        and kernel.shape[2] == 1
        and operation.data_format == "channels_last"
        and operation.strides[0] == operation.strides[1]
    )


def _of_channels(convolution: Any, inputs: Any) -> Any:
    """Returns the outputs of a convolution of channels.

    Keras leaves it to XLA, which took 40 to 75 times as long on a processor (Keras 3.15).
    """
    outputs = _linear(convolution, inputs, convolution.kernel)
    if convolution.use_bias:
        outputs = outputs + keras.ops.cast(convolution.bias, convolution.compute_dtype)
    return convolution.activation(outputs)


def _is_of_batches(operation: Any) -> bool:
    """Returns whether a norm takes its statistics from each batch of maps in training."""
    if type(operation) is not keras.layers.BatchNormalization or not operation.trainable:
        return False
    spec: Any = operation.input_spec
    return (
        spec.ndim == 4
        and operation.axis in (-1, 3)
        and operation.activity_regularizer is None
        and not operation.synchronized
        and not operation.renorm
    )


def _of_batch(norm: Any, inputs: Any) -> Any:
    """Returns the outputs of a norm in training, and updates its moving statistics.

    Keras computes the moments by operations of their own, which took three to four times as long
    forward and backward on a processor (Keras 3.15).
    """
    inputs = keras.ops.cast(inputs, "float32")
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        inputs,
        scale=norm.gamma if norm.scale else tf.ones_like(norm.moving_mean),
        offset=norm.beta if norm.center else tf.zeros_like(norm.moving_mean),
        epsilon=norm.epsilon,
        is_training=True,
    )
    # Keras averages the variance of the pixels themselves, this is the estimate from a sample.
    count = tf.cast(tf.size(inputs) / tf.size(mean), tf.float32)
    variance *= (count - 1) / count
    for moving, value in ((norm.moving_mean, mean), (norm.moving_variance, variance)):
        moving.assign(moving * norm.momentum + value * (1 - norm.momentum))
    return keras.ops.cast(outputs, norm.compute_dtype)


def _linear(convolution: Any, inputs: Any, kernel: Any) -> Any:
    """Returns a convolution with another kernel, without bias and activation."""
    ops, kind = keras.ops, convolution.compute_dtype
    is_depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
    if _is_of_channels(convolution):
        kernel = ops.reshape(kernel, [*kernel.shape[:2], convolution.groups, -1])
        is_depthwise = True
    return (ops.depthwise_conv if is_depthwise else ops.conv)(
        ops.cast(inputs, kind),
        ops.cast(kernel, kind),
        strides=convolution.strides,
        padding=convolution.padding,
        data_format=convolution.data_format,
        dilation_rate=convolution.dilation_rate,
    )
