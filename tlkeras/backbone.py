"""Backbone: a pretrained network with its layers in named blocks."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.kind import Kind
from tlkeras.spec import Spec

Example = Mapping[str, Any]


class Backbone(Spec, plugins="tlkeras.backbones"):
    """A network from preprocessed inputs to a dict of features.

    Every dict has ``"pooled"``, [b, channels], a summary of the whole example. Picture networks add
    their maps of ``"stride4"``, ``"stride8"``, ``"stride16"`` and ``"stride32"``,
    [b, h / stride, w / stride, channels]. Text networks add ``"tokens"``, [b, n, channels], and
    ``"mask"``, bool [b, n].
    """

    block_pattern: ClassVar[str]
    """A regex for layer names; its first matching group is the name of the layer's block."""

    @abc.abstractmethod
    def raw(self) -> Mapping[str, Kind]:
        """Returns the kinds of a client's input, ``{"image": Image()}``, by `preprocess` key."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The example keys that `preprocess` reads."""
        return tuple(self.raw())

    def forms(self) -> Sequence[Backbone]:
        """Returns this network once for each form of data that it can read, as one text or two."""
        return (self,)

    @abc.abstractmethod
    def build(self) -> keras.Model:
        """Returns a new flat Functional model with the pretrained weights; its output is a dict.

        Its input is one tensor, or a dict of tensors if `preprocess` returns a dict. The model
        contains the scaling of pixels that its weights expect. Shapes are static.
        """

    @abc.abstractmethod
    def preprocess(self, example: Example) -> Any:
        """Returns the network's inputs for one decoded example, unbatched: a tensor or a dict.

        Picture backbones resize ``example["image"]``, uint8 or float [h, w, 3] in [0, 255], to
        float32 [size, size, 3] in [0, 255]. Exported models call it with a batch, pictures
        [b, h, w, 3] or texts [b]. AutoGraph does not rewrite it: branch on tensors with `tf.cond`,
        not with ``if``.
        """

    def preparation(self) -> str:
        """Returns a text that changes with the files that `preprocess` reads; empty without files.

        Those of weights are none of them: a built network has what they hold.
        """
        return " ".join(filter(None, (each.preparation() for each in self.towers().values())))

    def sides(self, example: Example) -> Any:
        """Returns height and width of the picture in a decoded example, or in each of a batch.

        They are int32 [2], and 0 if it has no picture.
        """
        found = [kind.sides(example[key]) for key, kind in self.raw().items()]
        return tf.reduce_max(tf.stack(found), axis=0)

    def lengths(self, batch: Any) -> Any:
        """Returns how many places of each row of a batch of inputs the network needs, int32 [b].

        None is for networks that need their inputs whole. A text network counts the pieces of a row
        and one place of padding, if there is any. All its inputs are [b, length]; cut behind the
        longest row, they give the same features up to rounding. Only places of padding are missing;
        nothing may depend on them, or the last place stands for each of them.
        """
        return None

    @property
    def most_pieces(self) -> int | None:
        """How many pieces of an example `preprocess` leaves, special ones included.

        None is for networks without a tokenizer, and for words, whose measures count those cut off.
        """
        return None

    def exceeds(self, examples: Example) -> Any:
        """Returns whether each example of a batch has more than `most_pieces`, bool [b].

        The batch has what needs no decoding of what `preprocess` reads. Traced as it stands.
        """
        raise NotImplementedError

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that `preprocess` runs, a class of `texts`; None if it reads no text."""
        return None

    def towers(self) -> Mapping[str, Backbone]:
        """Returns the networks side by side of which this one consists, by name; most have none.

        A block, and a layer, of a tower has the tower's name and a ``_`` before its own. The
        features of a tower, its ``pooled``, have the name of the tower.
        """
        return {}

    def readout(self, network: keras.Model) -> Any:
        """Returns the matrix by which a built network rates the next piece, [channels, pieces].

        None is for networks that were not trained to tell the next piece of a text.
        """
        return None

    def words(self, texts: Sequence[str]) -> np.ndarray | None:
        """Returns a row of unit length for each text, float32 [n, channels].

        Rows lie in the space of the ``"pooled"`` features: the cosine of both tells how well a text
        describes an example. None is for backbones that were not trained on texts with examples.
        """
        return None

    def blocks(self, network: keras.Model) -> dict[str, list[keras.Layer]]:
        """Returns the layers of a network by block, every layer once, in the network's order.

        A layer without a match of `block_pattern` joins the block before it; layers before the
        first match are ``stem``. A group ``last`` in the pattern names the last layer of a block:
        layers without a match join the block behind them, those behind the last match the last
        one. Works on any flat model that begins with this network.
        """
        return grouped(self.block_pattern, network.layers)


def grouped(
    pattern: str, layers: Sequence[keras.Layer], prefix: str = ""
) -> dict[str, list[keras.Layer]]:
    """Returns layers by block, see `Backbone.blocks`; the pattern is of names behind the prefix."""
    matches = [re.search(pattern, layer.name.removeprefix(prefix)) for layer in layers]
    names = [next(filter(None, match.groups())) if match else "" for match in matches]
    if "last" in re.compile(pattern).groupindex:
        names = _filled(names[::-1], next(filter(None, names[::-1])))[::-1]
    blocks: dict[str, list[keras.Layer]] = {}
    for name, layer in zip(_filled(names, "stem"), layers, strict=True):
        blocks.setdefault(prefix + name, []).append(layer)
    return blocks


def _filled(names: Sequence[str], before: str) -> list[str]:
    """Returns names with the one before in the place of each that is empty."""
    filled: list[str] = []
    for name in names:
        before = name or before
        filled.append(before)
    return filled


def require_read(backbone: Backbone, kinds: Mapping[str, Kind]) -> None:
    """Raises ValueError if a backbone cannot read examples, or reads a part of what it could.

    Args:
        backbone: The network.
        kinds: Those of the examples, by key.
    """
    read = backbone.raw()
    forms = [each for each in backbone.forms() if each.raw().items() <= kinds.items()]
    best = max(forms, key=lambda each: len(each.raw()), default=None)
    for key, kind in read.items():
        if kinds.get(key) != kind:
            advice = f" {best} reads {', '.join(best.raw())}." if best else ""
            raise ValueError(
                f"{backbone.name} reads {key!r} of kind {kind}; the examples have "
                f"{', '.join(f'{name!r} of kind {each}' for name, each in kinds.items())}.{advice}"
            )
    if best and (left := [key for key in best.raw() if key not in read]):
        raise ValueError(
            f"{backbone.name} reads {', '.join(read)} and leaves out {', '.join(left)}, which the "
            f"examples have as well: write {best}, or leave {', '.join(left)} out of the source."
        )
