"""Spans: the tags of words and the entities that they name, found inside a graph.

What `tagging.tags_of` and `Scheme.strict` find, in core TensorFlow operations, of all sentences at
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tlkeras.frameworks import tf
from tlkeras.measures.entities import NEVER, OUTSIDE, Scheme

_NOWHERE = -1  # Behind the last entity of a sentence.

_OTHER, _BEGIN, _INSIDE, _END, _SINGLE = range(5)
"""The letters of BIOES as numbers; O is the first."""


class Groups(NamedTuple):
    """The words of sentences in groups, of which those that the scheme allows are entities.

    All are [b, words]: the letters and the types, int32, and whether a word is the first and the
    last of its group, bool. A word goes on with the group of the word before it, or nothing does.
    """

    letters: Any
    kinds: Any
    is_first: Any
    is_last: Any


def likely(logs: Any, is_word: Any, scheme: Scheme) -> Any:
    """Returns the tags of words as `tagging.tags_of` has them, int32 [b, words].

    Args:
        logs: The logarithms of their probabilities, [b, words, classes].
        is_word: Where the network sees one, bool [b, words].
        scheme: How the classes name entities.
    """
    if not any(scheme.goes_on):
        return tf.where(is_word, tf.argmax(logs, axis=-1, output_type=tf.int32), -1)
    classes = len(scheme.letters)
    # One more, the last: no word.
    goes_on = tf.constant([*scheme.goes_on, False])
    before = tf.constant([*scheme.before, (classes, classes)])
    unrest = tf.constant([0.0 if rests else NEVER for rests in (*scheme.rests, True)])
    logs = tf.where(is_word[..., None], tf.cast(logs, tf.float32), NEVER)
    logs = tf.concat([logs, tf.where(is_word, NEVER, 0.0)[..., None]], axis=-1)

    def step(scores: Any, logs: Any) -> Any:
        free = tf.reduce_max(scores + unrest, axis=-1, keepdims=True)
        within = tf.reduce_max(tf.gather(scores, before, axis=1), axis=-1)
        return tf.where(goes_on, within, free) + logs

    # The words one by one; all that can be done of many at once is outside of the loop.
    start = tf.one_hot(tf.fill([tf.shape(logs)[0]], classes), classes + 1, 0.0, NEVER)[None]
    scores = tf.concat([start, tf.scan(step, tf.transpose(logs, [1, 0, 2]), start[0])], axis=0)
    free = tf.argmax(scores + unrest, axis=-1, output_type=tf.int32)
    first, inner = tf.unstack(tf.gather(scores[:-1], before, axis=2), axis=-1)
    within = tf.where(first >= inner, before[:, 0], before[:, 1])
    backs = tf.where(goes_on, within, free[:-1, :, None])
    # Behind a sentence no entity goes on.
    last = free[-1]
    tags = tf.scan(lambda tag, back: tf.gather(back, tag, batch_dims=1), backs, last, reverse=True)
    tags = tf.transpose(tf.concat([tags, last[None]], axis=0)[1:])
    return tf.where(is_word, tags, -1)


def groups(tags: Any, scheme: Scheme) -> Groups:
    """Returns the groups of tags, int32 [b, words]; -1 is in no entity."""
    numbers = [(OUTSIDE + "BIES").index(letter) for letter in (OUTSIDE, *scheme.letters)]
    letters = tf.gather(tf.constant(numbers), tags + 1)
    kinds = tf.gather(tf.constant([len(scheme.types), *scheme.type_of]), tags + 1)
    goes_on = (letters[:, 1:] == _INSIDE) | (letters[:, 1:] == _END)
    goes_on &= (letters[:, :-1] == _BEGIN) | (letters[:, :-1] == _INSIDE)
    goes_on &= kinds[:, 1:] == kinds[:, :-1]
    is_first = tf.pad(~goes_on, [[0, 0], [1, 0]], constant_values=True)
    is_last = tf.pad(~goes_on, [[0, 0], [0, 1]], constant_values=True)
    return Groups(letters, kinds, is_first, is_last)


def allowed(firsts: Any, lasts: Any, scheme: Scheme) -> Any:
    """Returns which groups are entities, by the letters of their first and last words."""
    return (firsts == _SINGLE) | ((firsts == _BEGIN) & ((lasts == _END) | (not scheme.closes)))


def entities(probabilities: Any, tags: Any, scheme: Scheme) -> dict[str, Any]:
    """Returns the entities of sentences, by the names that `Tagging.named` has.

    Args:
        probabilities: Those of every word, [b, words, classes].
        tags: From `likely`.
        scheme: How the classes name entities.
    """
    letters, kinds, is_first, is_last = groups(tags, scheme)
    firsts, lasts = tf.where(is_first), tf.where(is_last)
    whole = allowed(tf.gather_nd(letters, firsts), tf.gather_nd(letters, lasts), scheme)
    firsts, lasts = firsts[whole], lasts[whole]
    sentences, starts, stops = firsts[:, 0], firsts[:, 1], lasts[:, 1] + 1
    given = tf.gather(probabilities, tf.maximum(tags, 0), batch_dims=2)
    sums = tf.cumsum(tf.pad(given, [[0, 0], [1, 0]]), axis=1)
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
