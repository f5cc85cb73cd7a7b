"""Backbone: a pretrained network, its layers in named blocks."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from tlkeras.frameworks import keras
from tlkeras.kind import Kind
from tlkeras.spec import Spec

Example = Mapping[str, Any]


class Backbone(Spec, plugins="tlkeras.backbones"):
    """A network from preprocessed inputs to a dict of features.

    ``"pooled"``, [b, channels], is always among them: a summary of the whole example. Networks of
    pictures add ``"stride4"``, ``"stride8"``, ``"stride16"`` and ``"stride32"``, those they have:
    maps of [b, h / stride, w / stride, channels]. Networks of texts add ``"tokens"``,
    [b, n, channels], and ``"mask"``, bool [b, n].
    """

    block_pattern: ClassVar[str]
    """Its first group that matched names the block that a layer begins or belongs to."""

    @abc.abstractmethod
    def raw(self) -> Mapping[str, Kind]:
        """Returns what a client sends, ``{"image": Image()}``: the keys that `preprocess` reads."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The example keys that `preprocess` reads."""
        return tuple(self.raw())

    @abc.abstractmethod
    def build(self) -> keras.Model:
        """Returns a new flat Functional model with the pretrained weights; its output is a dict.

        Its input is one tensor, or a dict of named ones if `preprocess` gives a dict. What the
        weights expect of values, such as the scaling of pixels, is inside; shapes are static.
        """

    @abc.abstractmethod
    def preprocess(self, example: Example) -> Any:
        """Returns the network's inputs for one decoded example, unbatched: a tensor or a dict.

        Picture backbones take ``example["image"]``, uint8 or float [h, w, 3] in [0, 255], to
        float32 [size, size, 3] in [0, 255]; nothing but size changes here. A batch works as well,
        pictures [b, h, w, 3] or texts [b]: exported models call this very function. It is traced as
        it stands, so what a tensor's value decides is written with `tf.cond`, not with ``if``.
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
