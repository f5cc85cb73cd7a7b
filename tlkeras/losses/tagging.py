"""The loss of the words of a sentence, and their accuracy."""

from __future__ import annotations

from typing import Any

from tlkeras.frameworks import keras
from tlkeras.measures.tagging import ABSENT


class SentenceLoss(keras.losses.Loss):
    """The negative logarithm of the probability of the tags of a sentence, [b]."""

    def call(self, y_true, y_pred):
        tags, is_counted = _seen(y_true, y_pred)
        given: Any = keras.ops.take_along_axis(y_pred, tags[..., None], axis=-1)
        total: Any = keras.ops.sum(keras.ops.where(is_counted, given[..., 0], 0.0), axis=-1)
        return -total


class WordAccuracy(keras.metrics.Mean):
    """The share of the words that the network sees with the right tag."""

    def update_state(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, y_true, y_pred, sample_weight=None
    ):
        tags, is_counted = _seen(y_true, y_pred)
        best = keras.ops.cast(keras.ops.argmax(y_pred, axis=-1), "int32")
        weights: Any = keras.ops.cast(is_counted, "float32")
        if sample_weight is not None:
            weights = weights * keras.ops.reshape(sample_weight, [-1, 1])
        super().update_state(keras.ops.equal(tags, best), weights)


def _seen(target: Any, outputs: Any) -> tuple[Any, Any]:
    """Returns the classes of words, int32 [b, words], and which of them the network sees."""
    tags: Any = keras.ops.cast(target[:, : outputs.shape[1]], "int32")
    most: Any = keras.ops.max(outputs, axis=-1)
    is_word = most > ABSENT / 2
    return keras.ops.maximum(tags, 0), keras.ops.logical_and(tags >= 0, is_word)
