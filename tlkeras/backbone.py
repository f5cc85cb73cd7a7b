"""Backbone: a pretrained network, its pixel scaling inside, its layers in named blocks."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tlkeras.frameworks import keras
from tlkeras.spec import Spec

if TYPE_CHECKING:
    Example = Mapping[str, Any]


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
