"""Pyramid: the features of a picture network, pooled and as one map per stride."""

from __future__ import annotations

import math
from typing import Any

from tlkeras.frameworks import keras

STRIDES = (4, 8, 16, 32)


def features(network: keras.Model) -> dict[str, Any]:
    """Returns ``{"stride4": …, "pooled": …}``: the maps of `pyramid` and the mean of the last."""
    maps = pyramid(network)
    last = maps[max(maps, key=lambda name: int(name.removeprefix("stride")))]
    return {**maps, "pooled": keras.layers.GlobalAveragePooling2D(name="pooled")(last)}


def pyramid(network: keras.Model) -> dict[str, Any]:
    """Returns one map for every stride of a picture network, ``{"stride4": …}``.

    The stride of a map is the product of the strides on the way to it; padding does not count. Of
    the maps of one stride it is the last waist: the rest of the network is a function of it. A
    network without one (NASNet) gives the last map.
    """
    operations = network.operations
    last_use = {
        id(tensor): place
        for place, operation in enumerate(operations)
        for tensor in keras.tree.flatten(operation.input)
    }
    strides: dict[int, int] = {}
    maps: dict[str, Any] = {}
    waists: set[str] = set()
    reach = 0  # The last place that uses an output so far.
    for place, operation in enumerate(operations):
        inputs = keras.tree.flatten(operation.input)
        is_waist = reach <= place
        for tensor in keras.tree.flatten(operation.output):
            before = max((strides[id(tensor)] for tensor in inputs), default=1)
            strides[id(tensor)] = stride = before * _stride(operation)
            reach = max(reach, last_use.get(id(tensor), place))
            name = f"stride{stride}"
            is_padding = isinstance(operation, keras.layers.ZeroPadding2D)
            if stride not in STRIDES or len(tensor.shape) != 4 or is_padding:
                continue
            if is_waist or name not in waists:
                maps[name] = tensor
            if is_waist:
                waists.add(name)
    return maps


def narrow(tensor: Any) -> Any:
    """Returns the map of fewest channels, of those that a symbolic map is a function of by pixels.

    Networks of inverted bottlenecks end a stride with an expansion: four to six times the channels
    and not more information.
    """
    narrowest = tensor
    while True:
        operation, place, _ = tensor._keras_history
        if not _is_pixelwise(operation):
            return narrowest
        (tensor,) = operation._inbound_nodes[place].input_tensors
        if tensor.shape[-1] < narrowest.shape[-1]:
            narrowest = tensor


def _is_pixelwise(operation: Any) -> bool:
    """Returns whether an operation maps the channels of a pixel to those of the same pixel."""
    if isinstance(operation, keras.layers.Conv2D):
        return operation.kernel_size == operation.strides == (1, 1)
    layers = keras.layers
    return isinstance(operation, (layers.BatchNormalization, layers.ReLU, layers.Activation))


def _stride(operation: Any) -> int:
    """Returns the divisor of a map's height in an operation; 0 if its output is no map."""
    if isinstance(operation, keras.Sequential):
        return math.prod(map(_stride, operation.layers))
    if isinstance(
        operation, (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
    ):
        return 0
    strides = getattr(operation, "strides", 1)
    return strides if isinstance(strides, int) else strides[0]
