"""The loss of the words of a sentence, their accuracy, and F1 of the entities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tlkeras.frameworks import keras, tf
from tlkeras.measures import spans
from tlkeras.measures.entities import Scheme
from tlkeras.measures.tagging import ABSENT


class SentenceLoss(keras.losses.Loss):
    """The negative logarithm of the probability of the tags of a sentence, [b]."""

    def call(self, y_true, y_pred):
        tags, is_counted = _seen(y_true, y_pred)
        given: Any = keras.ops.take_along_axis(y_pred, tags[..., None], axis=-1)
        total: Any = keras.ops.sum(keras.ops.where(is_counted, given[..., 0], 0.0), axis=-1)
        return -total


class WordAccuracy(keras.metrics.Mean):
    """The share of the words that the network sees whose most probable class is their tag."""

    def update_state(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, y_true, y_pred, sample_weight=None
    ):
        tags, is_counted = _seen(y_true, y_pred)
        best = keras.ops.cast(keras.ops.argmax(y_pred, axis=-1), "int32")
        weights: Any = keras.ops.cast(is_counted, "float32")
        if sample_weight is not None:
            weights = weights * keras.ops.reshape(sample_weight, [-1, 1])
        super().update_state(keras.ops.equal(tags, best), weights)


class _Entities(NamedTuple):
    """Of each word, [b, words]: whether an entity begins there, its last word, and its type."""

    begins: Any
    lasts: Any
    kinds: Any


class EntityF1(keras.metrics.Metric):
    """The strict F1 of the entities among the words that the network sees, all types together.

    The entities are those of `Scheme.strict` among the tags of `spans.likely`. A sentence of weight
    0 has no part.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """Begins with no sentence."""
        super().__init__(name="entity_f1", dtype="float32")
        self._scheme = Scheme(classes)
        self.right, self.found, self.true = (
            self.add_variable((), "zeros", name=name) for name in ("right", "found", "true")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the sentences of a batch."""
        tags, is_counted = _seen(y_true, y_pred)
        # Behind the last word of the batch there is nothing, and every place takes time.
        places: Any = keras.ops.arange(1, y_pred.shape[1] + 1)
        end: Any = keras.ops.max(keras.ops.where(is_counted, places, 1))
        tags, is_counted, y_pred = (each[:, :end] for each in (tags, is_counted, y_pred))
        best = spans.likely(y_pred, is_counted, self._scheme)
        true, found = (
            self._entities(keras.ops.where(is_counted, each, -1)) for each in (tags, best)
        )
        both: Any = keras.ops.logical_and(true.begins, found.begins)
        both = both & (true.lasts == found.lasts) & (true.kinds == found.kinds)
        for variable, which in (
            (self.right, both),
            (self.found, found.begins),
            (self.true, true.begins),
        ):
            count: Any = keras.ops.sum(keras.ops.cast(which, "float32"), axis=-1)
            if sample_weight is not None:
                count = count * keras.ops.cast(keras.ops.reshape(sample_weight, [-1]), "float32")
            variable.assign(variable + keras.ops.sum(count))

    def result(self):
        """Returns 0 if there is no entity."""
        total = self.found + self.true
        return keras.ops.divide_no_nan(2 * self.right, total)

    def _entities(self, tags: Any) -> _Entities:
        """Returns the entities of tags, int32 [b, words]; -1 is in none."""
        letters, kinds, is_first, is_last = spans.groups(tags, self._scheme)
        count = tf.shape(tags)[1]
        places = tf.range(count)
        # Of every word the next that ends a group, itself included: pairs of words, but no loop.
        is_end = is_last[:, None, :] & (places[None, None, :] >= places[None, :, None])
        lasts = tf.reduce_min(tf.where(is_end, places[None, None, :], count), axis=-1)
        ends = tf.gather(letters, tf.minimum(lasts, count - 1), batch_dims=1)
        return _Entities(is_first & spans.allowed(letters, ends, self._scheme), lasts, kinds)


def _seen(target: Any, outputs: Any) -> tuple[Any, Any]:
    """Returns the classes of words, int32 [b, words], and which of them the network sees."""
    tags: Any = keras.ops.cast(target[:, : outputs.shape[1]], "int32")
    most: Any = keras.ops.max(outputs, axis=-1)
    is_word = most > ABSENT / 2
    return keras.ops.maximum(tags, 0), keras.ops.logical_and(tags >= 0, is_word)
