"""Decoder: the maps of a pyramid joined from the coarsest to the finest.

A head on it may be trained for few steps, so its norms forget fast: with Keras's momentum of 0.99
their statistics would still be half their initial values after 70 steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tlkeras.frameworks import keras
from tlkeras.model import pyramid

_MOMENTUM = 0.9


def maps(features: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Returns the maps among the features of a backbone, ``{"stride4": …}``, the finest first.

    Raises:
        ValueError: There are none; the message names the task that needs them.
    """
    offered = [f"stride{stride}" for stride in pyramid.STRIDES]
    names = [name for name in offered if name in features]
    if not names:
        raise ValueError(
            f"{task} needs a picture backbone with maps, {', '.join(offered)}; "
            f"this one has {', '.join(features)}. One that sees the middle square of a picture, as "
            "clip does, has none, for boxes and masks are of the whole; take siglip or another "
            "picture backbone."
        )
    return {name: pyramid.narrow(features[name]) for name in names}


def joined(summary: Mapping[str, Any], width: int) -> dict[str, Any]:
    """Returns the symbolic maps with what all coarser ones know, each of `width` channels.

    Every map is projected to `width` channels and added to the next coarser one, enlarged (Lin et
    al. 2017, https://arxiv.org/abs/1612.03144). A separable convolution follows each sum.
    """
    names = sorted(summary, key=lambda name: -int(name.removeprefix("stride")))
    found: dict[str, Any] = {}
    coarser: Any = None
    for name in names:
        x = keras.layers.Conv2D(width, 1, use_bias=False, name=f"{name}_lateral")(summary[name])
        x = norm(x, f"{name}_lateral_norm")
        if coarser is not None:
            x = keras.layers.Add(name=f"{name}_sum")([x, enlarged(coarser, x.shape[1:3])])
        coarser = found[name] = separable(x, width, name)
    return {name: found[name] for name in summary}


def separable(x: Any, width: int, name: str) -> Any:
    """Returns a map after a separable 3 x 3 convolution, a norm and a ReLU."""
    x = keras.layers.SeparableConv2D(
        width, 3, padding="same", use_bias=False, name=f"{name}_separable"
    )(x)
    return keras.layers.ReLU(name=f"{name}_relu")(norm(x, f"{name}_norm"))


def norm(x: Any, name: str) -> Any:
    """Returns a map after a batch norm."""
    return keras.layers.BatchNormalization(momentum=_MOMENTUM, name=name)(x)


def enlarged(x: Any, size: tuple[int, int]) -> Any:
    """Returns a map resized to (height, width), bilinear; networks that pad unevenly need any."""
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    return keras.ops.image.resize(x, size, interpolation="bilinear", data_format="channels_last")
