"""The text starter: a small encoder with weights inside tlkeras, for runs without a download."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from tlkeras import shipped
from tlkeras.backbone import Backbone
from tlkeras.frameworks import keras
from tlkeras.texts import inputs
from tlkeras.texts.inputs import Input
from tlkeras.texts.wordpiece import WordPiece

NAME = "starter_text"

CHANNELS = 192
LAYERS = 3
NARROW = 96  # Channels of the embeddings, which are most of the weights.
HEADS = 4
INNER = 384
NEAR = 5  # Pieces that a convolution sees.
_PADDING = 0  # The id of "[PAD]".


class StarterText(Backbone, name=NAME):
    """Three transformer layers of 192 channels, from ``tools/pretrain_starter_text.py``.

    ``tlkeras/weights/starter_text.json`` describes the data, the recipe and the result. `length`
    counts the pieces of an example, two special ones included. The ``pooled`` features are the mean
    of the tokens.
    """

    block_pattern = r"^(embeddings|layer_\d+)"

    length: int = 128
    input: Input = "text"

    def validate(self):
        self.require(self.length >= 8, "length", "at least 8")

    def build(self):
        arrays = shipped.read(NAME)
        made = network(vocabulary_of(arrays), self.input, self.length)
        for layer in (layer for layer in made.layers if layer.weights):
            layer.set_weights([arrays[weight.path] for weight in layer.weights])
        return made

    def forms(self):
        return inputs.forms(self)

    def raw(self):
        return inputs.raw(self.input)

    def preprocess(self, example):
        return inputs.preprocess(self.tokenizer, example, self.input, self.length)

    def lengths(self, batch):
        return inputs.lengths(batch, _PADDING)

    @property
    def most_pieces(self):
        return inputs.most_pieces(self.input, self.length)

    def exceeds(self, examples):
        return inputs.exceeds(self.tokenizer, examples, self.input, self.length)

    def fingerprint(self):
        return shipped.digest(NAME)

    @property
    def tokenizer(self):
        return _tokenizer()


def network(vocabulary: tuple[str, ...], input: Input, length: int | None) -> keras.Model:
    """Returns the network with random weights; a length of None is any.

    It has no positions: where a piece stands, a layer's convolution over its neighbours tells. So
    a text has the same features at any `length`.
    """
    given, ids = inputs.entrance(input, length)
    mask: Any = keras.ops.not_equal(ids, _PADDING)
    x: Any = keras.layers.Embedding(len(vocabulary), NARROW, name="embeddings")(ids)
    x = keras.layers.Dense(CHANNELS, name="embeddings_wide")(x)
    if input == "pair":
        which = inputs.segments(ids, mask, vocabulary.index("[SEP]"))
        x = x + keras.layers.Embedding(2, CHANNELS, name="embeddings_segment")(which)
    for number in range(1, LAYERS + 1):
        x = _layer(x, mask, f"layer_{number}")
    x = keras.layers.LayerNormalization(epsilon=1e-5, name=f"layer_{LAYERS}_end")(x)
    return keras.Model(given, inputs.features(given, x, mask, inputs.mean(x, mask)), name=NAME)


def _layer(x: Any, mask: Any, name: str) -> Any:
    """Returns the tokens [b, length, CHANNELS] behind a layer: neighbours, attention, dense."""

    def norm(part: str) -> keras.Layer:
        return keras.layers.LayerNormalization(epsilon=1e-5, name=f"{name}_{part}_norm")

    kept: Any = keras.ops.cast(mask, x.dtype)
    y: Any = norm("near")(x) * kept[..., None]
    x = x + keras.layers.DepthwiseConv1D(NEAR, padding="same", name=f"{name}_near")(y)
    y = norm("attention")(x)
    attention = keras.layers.MultiHeadAttention(HEADS, CHANNELS // HEADS, name=f"{name}_attention")
    x = x + attention(y, y, attention_mask=mask[:, None, :])
    y = keras.layers.Dense(INNER, activation="relu", name=f"{name}_inner")(norm("inner")(x))
    return x + keras.layers.Dense(CHANNELS, name=f"{name}_outer")(y)


def vocabulary_of(arrays: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the pieces, lines of UTF-8 among the arrays."""
    return tuple(arrays["vocabulary"].tobytes().decode().split("\n"))


@functools.cache
def _tokenizer() -> WordPiece:
    """Returns the one that all starters share, so a process traces it once."""
    return WordPiece(vocabulary_of(shipped.read(NAME)))
