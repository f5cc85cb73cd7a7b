"""Tagging: a class for each word, such as the names of persons and places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.measures import spans
from tlkeras.measures.calibration import softmax_rescaled
from tlkeras.measures.entities import Scheme
from tlkeras.measures.tagging import ABSENT, LEAST, TaggingTally, most_probable
from tlkeras.task import Output, Task
from tlkeras.texts import casing


class Tagging(Task, name="tagging"):
    """A class for each word: its features and how it is written, one dense layer, softmax loss.

    It takes backbones with ``input='words'``, whose ``tokens`` have a row for each word. Words that
    they do not see, as the text was cut, have no part in the loss; the measures count them as
    predicted O. Classes are BIO or BIOES tags, see `entities`. The tags of a sentence are the most
    probable ones of those that the scheme allows, see `tags_of`.

    The outputs are logarithms of probabilities. The loss is that of a sentence, summed over its
    words, so that it does not depend on the other sentences of a batch.
    """

    reads = ("tags",)
    primary = "entity_f1"

    dropout: float = 0.2

    def validate(self):
        self.require(0 <= self.dropout < 1, "dropout", "at least 0 and below 1")

    def target(self, example, inputs, classes):
        """Returns int32 [rows + classes].

        First come the classes of the words, -1 behind the last one. The rows are one more than the
        network's, so that an entity that goes on behind them is known to. Then comes, for each
        class, how many words behind all rows have it.
        """
        tags = tf.cast(example["tags"], tf.int32)
        rows = tf.shape(tags)[0] if inputs is None else _length(inputs) + 1
        filled = tf.pad(tags[:rows], [[0, tf.maximum(rows - tf.shape(tags)[0], 0)]], "CONSTANT", -1)
        beyond = tf.reduce_sum(tf.one_hot(tags[rows:], classes, dtype=tf.int32), axis=0)
        size = None if inputs is None else rows + classes
        return tf.ensure_shape(tf.concat([filled, beyond], axis=0), [size])

    def summarize(self, features):
        """Returns ``tokens`` [b, words, channels], ``mask``, bool [b, words], and ``casing``.

        The last, int32 [b, words], is there if the backbone tells it, see `casing`.
        """
        if missing := [name for name in ("tokens", "mask") if name not in features]:
            raise ValueError(
                f"tagging needs {missing[0]!r} of the backbone, which has {', '.join(features)}; "
                "use a text backbone with input='words'."
            )
        return {name: features[name] for name in ("tokens", "mask", "casing") if name in features}

    def head(self, summary, classes):
        """Returns logarithms of probabilities, [b, words, classes]; -10000 without a word."""
        x = keras.layers.Dropout(self.dropout, name="dropout")(summary["tokens"])
        if "casing" in summary:
            x = keras.layers.Concatenate(name="written")([x, casing.around(summary["casing"])])
        logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
        # No sum: of one sentence Keras makes it a bias of channels, which TFLite does not convert.
        is_word = summary["mask"][..., None]
        return keras.ops.where(is_word, keras.ops.log_softmax(logits), ABSENT)

    def loss(self):
        from tlkeras.losses import tagging

        return tagging.SentenceLoss()

    def metrics(self, classes):
        from tlkeras.losses import tagging

        return [tagging.EntityF1(classes), tagging.WordAccuracy(name="accuracy")]

    def rated(self, target, outputs):
        """Returns the logarithms of probabilities of the words that have a tag and are seen."""
        tags = target[:, : outputs.shape[1]]
        is_rated = (tags >= 0) & (outputs.max(axis=-1) > ABSENT / 2)
        return outputs[is_rated], tags[is_rated]

    def rescaled(self, served, factor):
        given = np.asarray(served["probabilities"])
        is_word = given.sum(axis=-1, keepdims=True) > 0.5
        return {"probabilities": np.where(is_word, softmax_rescaled(given, factor), 0)}

    def served(self, outputs):
        return {"probabilities": keras.ops.exp(outputs)}

    def named(self, served, classes):
        """Returns ``tags``, strings [b, words], empty where there is no word, and entities.

        ``entities``, int32 [b], counts them. ``entity_types``, strings; ``entity_starts`` and
        ``entity_stops``, int32, the first word and the word behind the last one; and
        ``entity_scores``, the mean probability of their tags, are [b, most entities], with empty
        strings, -1 and 0 behind the last. They are those of `Scheme.strict`.
        """
        probabilities, scheme = served["probabilities"], Scheme(classes)
        is_word = tf.reduce_sum(probabilities, axis=-1) > 0.5
        logs = tf.math.log(tf.maximum(probabilities, LEAST))
        tags = spans.likely(logs, is_word, scheme)
        names = tf.gather(tf.constant([*classes, ""]), tf.where(is_word, tags, len(classes)))
        return {**served, "tags": names, **spans.entities(probabilities, tags, scheme)}

    def record(self, answer):
        """Returns the rows of the words and entities that there are; those of a batch are more."""
        words = np.flatnonzero(answer["tags"] != b"")
        length, count = int(words[-1]) + 1 if len(words) else 0, int(answer["entities"])
        return {
            "tags": answer["tags"][:length],
            "probabilities": answer["probabilities"][:length],
            "entities": answer["entities"],
            **{name: answer[name][:count] for name in answer if name.startswith("entity_")},
        }

    def located(self, named, places):
        """Returns ``entity_character_starts`` and ``entity_character_stops`` as well."""
        return {**named, **spans.located(named, places)}

    def outputs(self):
        return (Output("probabilities", "tokens", labelled=True),)

    def tally(self, classes):
        return TaggingTally(classes)

    def agree(self, one, other):
        """Returns whether every word has the same most probable class."""
        tags, others = (most_probable(each["probabilities"]) for each in (one, other))
        return (tags == others).all(axis=-1)


def _length(inputs: Any) -> int:
    """Returns how many words a network sees at most."""
    if not isinstance(inputs, Mapping) or "starts" not in inputs:
        raise ValueError(
            "tagging needs a backbone that reads words; use a text backbone with input='words'."
        )
    return inputs["starts"].shape[-1]
