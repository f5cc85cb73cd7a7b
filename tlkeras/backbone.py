"""Backbone: a pretrained network, its pixel scaling inside, its layers in named blocks."""

from __future__ import annotations

import abc
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tlkeras.frameworks import keras, tf
from tlkeras.spec import Spec

if TYPE_CHECKING:
    Example = Mapping[str, Any]

STRIDES = (4, 8, 16, 32)


class Backbone(Spec, plugins="tlkeras.backbones"):
    """A network from preprocessed inputs to a dict of features.

    Picture networks give ``{"stride4", "stride8", "stride16", "stride32"}`` (those they have), maps
    of [b, h / stride, w / stride, channels].
    """

    block_pattern: ClassVar[str]
    """Its first group that matched names the block that a layer begins or belongs to."""

    reads: ClassVar[tuple[str, ...]] = ("image",)
    """The example keys that `preprocess` reads."""

    @abc.abstractmethod
    def build(self) -> keras.Model:
        """Returns a new flat Functional model with the pretrained weights; its output is a dict."""

    @abc.abstractmethod
    def preprocess(self, example: Example) -> Any:
        """Returns the network's input for one decoded example, unbatched.

        Picture backbones take ``example["image"]``, uint8 or float [h, w, 3] in [0, 255], to
        float32 [size, size, 3] in [0, 255]. A batch [b, h, w, 3] works as well: exported models
        call this very function. It is traced as it stands, so what a tensor's value decides is
        written with `tf.cond`, not with ``if``.
        """

    def blocks(self, network: keras.Model) -> dict[str, list[keras.Layer]]:
        """Returns the layers of a network by block, every layer once, in the network's order.

        A layer that `block_pattern` does not match joins the block before it; those before the
        first match are ``stem``. Works on any flat model that begins with this network.
        """
        found: dict[str, list[keras.Layer]] = {"stem": []}
        current = "stem"
        for layer in network.layers:
            if match := re.search(self.block_pattern, layer.name):
                current = next(group for group in match.groups() if group)
            found.setdefault(current, []).append(layer)
        return {name: layers for name, layers in found.items() if layers}


def pyramid(network: keras.Model) -> dict[str, Any]:
    """Returns one map of every stride that a picture network has, ``{"stride4": …}``.

    The stride of a map is the product of the strides that led to it, whatever became of its size at
    the borders. Of the maps of one stride it is the last that all the rest of the network is a
    function of, or the last at all where none is (NASNet).
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
    reach = 0  # The last place where something made so far is used.
    for place, operation in enumerate(operations):
        inputs = keras.tree.flatten(operation.input)
        is_waist = reach <= place
        for tensor in keras.tree.flatten(operation.output):
            came = max((strides[id(tensor)] for tensor in inputs), default=1)
            strides[id(tensor)] = stride = came * _stride(operation)
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


def squash(image: Any, size: int) -> Any:
    """Returns float32 [size, size, 3] in [0, 255] of a picture [h, w, 3], or the same of a batch.

    The whole picture, its sides scaled apart. Antialiased, so that every pixel counts and a picture
    gives nearly the same input whatever resolution it was taken at.
    """
    # Faster on bytes, and the same to the bit; a picture of this size already is left as it is.
    return tf.cast(tf.image.resize(image, [size, size], antialias=True), tf.float32)


def _stride(operation: Any) -> int:
    """Returns by what an operation divides the height of a map; 0 if it leaves no map."""
    if isinstance(operation, keras.Sequential):
        return math.prod(map(_stride, operation.layers))
    if isinstance(
        operation, (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
    ):
        return 0
    strides = getattr(operation, "strides", 1)
    return strides if isinstance(strides, int) else strides[0]
