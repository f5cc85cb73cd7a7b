"""Inputs: what the text networks share between the texts of an example and their features.

A network reads ``token_ids``, int32 [length]; what else it needs, such as the mask of padding or
the segments of two texts, it makes of them. So exports and the feature cache see one tensor. With
``input="words"`` it also reads two of int32 [length], with a row for each word: ``starts``, the
place of its first piece, -1 where there is no word or its first piece was cut off; and ``casing``,
how it is written, 0 where `starts` is -1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.kind import Kind
from tlkeras.kinds.text import Text
from tlkeras.kinds.words import Words
from tlkeras.texts import casing

# Texts run together; more are hardly faster.
_TEXTS = 64

Input = Literal["text", "pair", "words"]
"""What an example holds: one text, two texts, or a text as its words."""


class Tokenizer(Protocol):
    """From texts to ids, int32 [b, length]; of a single text, int32 [length]."""

    def __call__(self, texts: Any, length: int) -> Any:
        """Returns the ids of texts."""

    def pair(self, first: Any, second: Any, length: int) -> tuple[Any, Any]:
        """Returns the ids of two texts, and in which text each is."""
        ...

    def words(self, words: Any, length: int) -> tuple[Any, Any]:
        """Returns the ids of sentences, and which word each begins, -1 if none."""
        ...


def raw(input: Input) -> Mapping[str, Kind]:
    """Returns the kinds that `preprocess` reads, by key, for `Backbone.raw`."""
    return {
        "text": {"text": Text()},
        "pair": {"text": Text(), "pair": Text()},
        "words": {"words": Words()},
    }[input]


def forms(backbone: Any) -> Sequence[Any]:
    """Returns a backbone once for each value of its field ``input``, for `Backbone.forms`."""
    return [backbone.replace(input=each) for each in get_args(Input)]


def preprocess(tokenizer: Tokenizer, example: Mapping[str, Any], input: Input, length: int) -> Any:
    """Returns the network's inputs, for `Backbone.preprocess`: of one example or of a batch."""
    return _PREPROCESS[input](tokenizer, example, length)


def _text(tokenizer: Tokenizer, example: Mapping[str, Any], length: int) -> Any:
    return tokenizer(example["text"], length)


def _pair(tokenizer: Tokenizer, example: Mapping[str, Any], length: int) -> Any:
    ids, _ = tokenizer.pair(example["text"], example["pair"], length)
    return ids


def _words(tokenizer: Tokenizer, example: Mapping[str, Any], length: int) -> dict[str, Any]:
    words = tf.convert_to_tensor(example["words"])
    if words.shape.rank == 1:
        one = _words(tokenizer, {"words": words[None]}, length)
        return {key: rows[0] for key, rows in one.items()}
    ids, begun = tokenizer.words(tf.RaggedTensor.from_tensor(words, padding=""), length)
    places = tf.cast(tf.where(begun >= 0), tf.int32)
    at = tf.stack([places[:, 0], tf.gather_nd(begun, places)], axis=1)
    starts = tf.tensor_scatter_nd_update(tf.fill(tf.shape(ids), -1), at, places[:, 1])
    written = tf.scatter_nd(at, tf.gather_nd(casing.of(words), at), tf.shape(ids))
    return {
        "casing": tf.ensure_shape(written, [None, length]),
        "starts": tf.ensure_shape(starts, [None, length]),
        "token_ids": ids,
    }


_PREPROCESS: Mapping[Input, Callable[..., Any]] = {"text": _text, "pair": _pair, "words": _words}


def in_parts(texts: Sequence[str], rows: Callable[[Any], Any]) -> np.ndarray:
    """Returns the rows that a function gives for texts, [n, any], of a few at a time.

    Args:
        texts: At least one.
        rows: From a tensor of strings [b] to [b, any].
    """
    parts = [texts[first : first + _TEXTS] for first in range(0, len(texts), _TEXTS)]
    return np.concatenate([np.asarray(rows(tf.constant([*part], tf.string))) for part in parts])


def lengths(batch: Any, padding: int) -> Any:
    """Returns how many places the rows of a batch need, int32 [b], for `Backbone.lengths`.

    Args:
        batch: Inputs from `preprocess`.
        padding: The id of padding.
    """
    if isinstance(batch, Mapping):
        is_used = (batch["token_ids"] != padding) | (batch["starts"] >= 0)
    else:
        is_used = batch != padding
    length = tf.shape(is_used)[1]
    places = tf.where(is_used, tf.range(1, length + 1), 0)
    return tf.minimum(tf.reduce_max(places, axis=1) + 1, length)


def most_pieces(input: Input, length: int) -> int | None:
    """Returns the length, for `Backbone.most_pieces`; None of words."""
    return None if input == "words" else length


def exceeds(tokenizer: Any, example: Mapping[str, Any], input: Input, length: int) -> Any:
    """Returns whether examples have more pieces than a length, bool [b], for `Backbone.exceeds`.

    Rows of one more place tell: the last is a piece where `preprocess` cuts, else padding.
    """
    return preprocess(tokenizer, example, input, length + 1)[:, length] != tokenizer.padding_id


def entrance(input: Input, length: int | None) -> tuple[Any, Any]:
    """Returns the symbolic inputs of a network, a tensor or a dict, and its ``token_ids``.

    A `length` of None is any.
    """
    ids = keras.Input([length], dtype="int32", name="token_ids")
    if input != "words":
        return ids, ids
    rows = {name: keras.Input([length], dtype="int32", name=name) for name in ("casing", "starts")}
    return {**rows, "token_ids": ids}, ids


def features(inputs: Any, tokens: Any, mask: Any, pooled: Any) -> dict[str, Any]:
    """Returns the features of a network, for `Backbone.build`.

    Of words, tokens and mask have a row for each word, and so has ``casing``, int32 [b, length].

    Args:
        inputs: The symbolic inputs that `entrance` gave.
        tokens: One row for each piece, [b, length, channels].
        mask: Which pieces are no padding, bool [b, length].
        pooled: The summary of the whole, [b, channels].
    """
    if not isinstance(inputs, Mapping):
        return {"pooled": pooled, "tokens": tokens, "mask": mask}
    starts = inputs["starts"]
    places: Any = keras.ops.maximum(starts, 0)
    tokens = keras.ops.take_along_axis(tokens, places[..., None], axis=1)
    # It changes nothing: a cut carries along what operations give, not an input.
    written = keras.ops.maximum(inputs["casing"], 0)
    return {"pooled": pooled, "tokens": tokens, "mask": starts >= 0, "casing": written}


def mean(tokens: Any, mask: Any) -> Any:
    """Returns the mean of the rows that are no padding, [b, channels]; 0 if all are."""
    weights: Any = keras.ops.cast(mask, tokens.dtype)
    weights = weights[..., None]
    count: Any = keras.ops.maximum(keras.ops.sum(weights, axis=1), 1)
    total: Any = keras.ops.sum(tokens * weights, axis=1)
    return total / count


def last(tokens: Any, mask: Any) -> Any:
    """Returns the last row that is no padding, [b, channels]; the first if all are."""
    count: Any = keras.ops.sum(keras.ops.cast(mask, "int32"), axis=1)
    place: Any = keras.ops.maximum(count - 1, 0)
    found: Any = keras.ops.take_along_axis(tokens, place[:, None, None], axis=1)
    return found[:, 0]


def following(token_ids: Any, mask: Any) -> Any:
    """Returns the piece behind each, int32 [b, length]; -1 where there is none."""
    known: Any = keras.ops.where(mask, token_ids, -1)
    # The ids are read once, so that no cut of the network has to carry them along.
    none: Any = keras.ops.full_like(known[:, :1], -1)
    return keras.ops.concatenate([known[:, 1:], none], axis=1)


def segments(token_ids: Any, mask: Any, end: int) -> Any:
    """Returns in which text each piece is, int32 [b, length]: 1 behind the first `end`, else 0."""
    ends: Any = keras.ops.cast(keras.ops.equal(token_ids, end), "int32")
    before: Any = keras.ops.cumsum(ends, axis=1) - ends
    # No cast of a logical product, whose comparison with 0 the converter of TFLite cannot write.
    kept: Any = keras.ops.cast(mask, "int32")
    return keras.ops.minimum(before, 1) * kept
