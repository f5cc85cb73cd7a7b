"""Spans: the entities that the tags of words name, found inside a graph.

What `Scheme.strict` finds in a list, in core TensorFlow operations, of all sentences at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tlkeras.frameworks import tf
from tlkeras.measures.entities import OUTSIDE, Scheme

_NOWHERE = -1  # Behind the last entity of a sentence.


def entities(probabilities: Any, is_word: Any, scheme: Scheme) -> dict[str, Any]:
    """Returns the entities of sentences, by the names that `Tagging.named` has.

    Args:
        probabilities: Those of every word, [b, words, classes].
        is_word: Where the network sees one, bool [b, words].
        scheme: How the classes name entities.
    """
    tags = tf.where(is_word, tf.argmax(probabilities, axis=-1, output_type=tf.int32), -1)
    letters = tf.gather(tf.constant([OUTSIDE, *scheme.letters]), tags + 1)
    kinds = tf.gather(tf.constant([len(scheme.types), *scheme.type_of]), tags + 1)

    def among(of: Any, *wanted: str) -> Any:
        return tf.reduce_any([of == letter for letter in wanted], axis=0)

    # A word goes on with the entity of the word before it, or nothing does.
    goes_on = among(letters[:, 1:], "I", "E") & among(letters[:, :-1], "B", "I")
    goes_on &= kinds[:, 1:] == kinds[:, :-1]
    is_first = tf.pad(~goes_on, [[0, 0], [1, 0]], constant_values=True)
    is_last = tf.pad(~goes_on, [[0, 0], [0, 1]], constant_values=True)
    # So words are in groups, and an entity is one that begins and ends as the scheme has it.
    firsts, lasts = tf.where(is_first), tf.where(is_last)
    begins, ends = (tf.gather_nd(letters, each) for each in (firsts, lasts))
    whole = (begins == "S") | ((begins == "B") & ((ends == "E") | (not scheme.closes)))
    firsts, lasts = firsts[whole], lasts[whole]
    sentences, starts, stops = firsts[:, 0], firsts[:, 1], lasts[:, 1] + 1
    best = tf.pad(tf.reduce_max(probabilities, axis=-1), [[0, 0], [1, 0]])
    sums = tf.cumsum(best, axis=1)
    total = tf.gather_nd(sums, tf.add(lasts, [0, 1])) - tf.gather_nd(sums, firsts)

    def by_sentence(values: Any) -> Any:
        count = tf.shape(tags, tf.int64)[0]
        return tf.RaggedTensor.from_value_rowids(values, sentences, count, validate=False)

    types = by_sentence(tf.gather(tf.constant([*scheme.types, ""]), tf.gather_nd(kinds, firsts)))
    return {
        "entities": tf.cast(types.row_lengths(), tf.int32),
        "entity_types": types.to_tensor(),
        "entity_starts": by_sentence(tf.cast(starts, tf.int32)).to_tensor(_NOWHERE),
        "entity_stops": by_sentence(tf.cast(stops, tf.int32)).to_tensor(_NOWHERE),
        "entity_scores": by_sentence(total / tf.cast(stops - starts, tf.float32)).to_tensor(),
    }


def located(found: Mapping[str, Any], places: Any) -> dict[str, Any]:
    """Returns where entities begin and end in the texts, by the names that `Tagging.located` has.

    Args:
        found: From `entities`.
        places: Where the words of each text begin and end, int32 [b, words, 2].
    """
    starts, stops = found["entity_starts"], found["entity_stops"]

    def at(words: Any, end: int) -> Any:
        there = tf.gather(places[..., end], tf.maximum(words, 0), batch_dims=1)
        return tf.where(starts >= 0, there, _NOWHERE)

    return {
        "entity_character_starts": at(starts, 0),
        "entity_character_stops": at(stops - 1, 1),
    }
