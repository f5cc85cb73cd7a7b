"""Correction: what rounding the weights adds to a layer on average is taken off its bias.

An integer layer computes with weights w + e, e.g. too large ones in one channel and too small ones
in the next; so its mean output is off by e times the mean input, and what comes after is built on
that. The mean inputs are seen on a few examples (Nagel et al. 2019, section 4.2 and appendix D,
https://arxiv.org/abs/1906.04721), here where each weight of a kernel sees them: on a map of 2 by 2,
most of a padded kernel of 3 by 3 lies beside it.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tlkeras.formats import litert, signature

# The operations with weights, by their numbers in the schema.
_CONV, _DEPTHWISE, _DENSE = 3, 4, 9
_SAME = 0  # Of the two paddings.


def corrected(file: bytes, exact: bytes, inputs: Iterable[Any]) -> bytes:
    """Returns an integer model with better biases.

    Args:
        file: The integer model.
        exact: The same in float32.
        inputs: Batches of one example for the float model, arrays or dicts by name; one at a time
            is in memory, beside the mean input of every layer.

    Raises:
        ValueError: The two have other layers.
    """
    model, floats = litert.parsed(file), litert.parsed(exact)
    layers, exact_layers = [*_layers(model)], [*_layers(floats)]
    if [layer.kind for layer in layers] != [layer.kind for layer in exact_layers]:
        raise ValueError(
            f"The integer file has {len(layers)} layers with weights and the float one "
            f"{len(exact_layers)}, or in another order, so that its rounding cannot be corrected; "
            "take quantize='dynamic' or 'float16'."
        )
    means = _means(exact, {layer.source for layer in exact_layers}, inputs)
    errors: dict[int, list[Any]] = collections.defaultdict(list)
    for layer, same in zip(layers, exact_layers, strict=True):
        error = _weights(model, layer) - _weights(floats, same)
        errors[layer.bias].append(_output(same, error, means[same.source]))
    tensors, left = model.subgraphs[0].tensors, set()
    for bias, each in errors.items():
        tensor = tensors[bias]
        # Layers that share a bias share a correction; tensors may share a buffer, hence a new one.
        steps = np.rint(np.mean(each, axis=0) / tensor.quantization.scale).astype(np.int32)
        held = model.buffers[tensor.buffer]
        left.add(tensor.buffer)
        tensor.buffer = len(model.buffers)
        model.buffers.append(type(held)())
        model.buffers[-1].data = (held.data.view(np.int32) - steps).view(np.uint8)
    for buffer in left - {tensor.buffer for tensor in tensors}:
        model.buffers[buffer].data = None
    return litert.written(model)


class _Layer(NamedTuple):
    """An operation with weights: its code and their shape, and the places of three tensors."""

    kind: tuple[int, ...]
    options: Any
    source: int
    weights: int
    bias: int


def _layers(model: Any) -> Iterator[_Layer]:
    """Yields the operations that have constant weights and a bias."""
    graph = model.subgraphs[0]
    for operation in graph.operators:
        code = model.operatorCodes[operation.opcodeIndex].builtinCode
        if code not in (_CONV, _DEPTHWISE, _DENSE) or len(operation.inputs) < 3:
            continue
        source, weights, bias = map(int, operation.inputs[:3])
        tensor = graph.tensors[weights]
        if bias >= 0 and model.buffers[tensor.buffer].data is not None:
            kind = (code, *map(int, tensor.shape))
            yield _Layer(kind, operation.builtinOptions, source, weights, bias)


def _weights(model: Any, layer: _Layer) -> Any:
    """Returns the numbers that a layer's weights stand for, float32."""
    tensor = model.subgraphs[0].tensors[layer.weights]
    data = model.buffers[tensor.buffer].data
    if tensor.quantization is None or tensor.quantization.scale is None:
        return data.view(np.float32).reshape(layer.kind[1:])
    scale = np.asarray(tensor.quantization.scale, np.float32)  # Zero points of weights are 0.
    sides = [1] * len(layer.kind[1:])
    sides[tensor.quantization.quantizedDimension] = len(scale)
    return data.view(np.int8).reshape(layer.kind[1:]) * scale.reshape(sides)


def _output(layer: _Layer, error: Any, mean: Any) -> Any:
    """Returns by what wrong weights move each output channel on average, given the mean input."""
    code, *shape = layer.kind
    if code == _DENSE:  # [outputs, inputs]
        return error @ mean.reshape(-1, shape[-1]).mean(0)
    seen = _seen(layer, mean[0])
    if code == _DEPTHWISE:  # [1, height, width, channels]
        return (error[0] * np.repeat(seen, shape[-1] // seen.shape[-1], axis=-1)).sum((0, 1))
    # [outputs, height, width, inputs of a group]
    groups = seen.shape[-1] // shape[-1]
    error = error.reshape(groups, -1, *shape[1:])
    return np.einsum("gohwi,hwgi->go", error, seen.reshape(*shape[1:3], groups, -1)).reshape(-1)


def _seen(layer: _Layer, map_: Any) -> Any:
    """Returns the mean that each weight of a kernel sees of a map, [height, width, channels].

    That is over all places of the kernel, 0 where the weight lies beside the map.
    """
    options = layer.options
    steps = ((options.strideH, options.dilationHFactor), (options.strideW, options.dilationWFactor))
    sums = map_
    for axis, (stride, dilation) in enumerate(steps):
        size, taps = map_.shape[axis], layer.kind[2 + axis]
        reach = (taps - 1) * dilation + 1
        padded = options.padding == _SAME
        places = -(-size // stride) if padded else -(-(size - reach + 1) // stride)
        before = max((places - 1) * stride + reach - size, 0) // 2 if padded else 0
        at = np.arange(places) * stride - before + np.arange(taps)[:, None] * dilation
        share = (at[..., None] == np.arange(size)).mean(1)  # [taps, size]
        sums = np.moveaxis(np.tensordot(share, sums, (1, axis)), 0, axis)
    return sums


def _means(file: bytes, places: Iterable[int], inputs: Iterable[Any]) -> dict[int, Any]:
    """Returns the mean of these tensors over the inputs, of the shape of one."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    opened: Any = Interpreter(
        model_content=file,
        experimental_preserve_all_tensors=True,
        # Delegates keep to themselves what is between the operations.
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        num_threads=os.cpu_count(),
    )
    opened.allocate_tensors()
    tensors = litert.inputs(file)
    sums: dict[int, Any] = dict.fromkeys(places, 0.0)
    count = 0
    for batch in inputs:
        for name, array in signature.named(batch, tensors).items():
            opened.set_tensor(tensors[name], array)
        opened.invoke()
        for place in sums:
            sums[place] = sums[place] + opened.get_tensor(place)
        count += 1
    return {place: total / count for place, total in sums.items()}
