"""Composing: letters and their marks as one character where there is one, Unicode's form NFC.

Marks that were assigned after Unicode 9 stay where they are, as in the `tokenizers` package.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Any

import numpy as np

from tlkeras.frameworks import tf
from tlkeras.texts import characters
from tlkeras.texts.tables import POINTS, PairTable, PointTable

_YOUNG = "7FD 898-89F 8CA-8D3 9FE C3C D3B-D3C EBA 1715 1ABF-1ACE 1DF6-1DFA A82C 10D24-10D27 \
10EAB-10EAC 10F46-10F50 10F82-10F85 11070 1133B 1145E 11839-1183A 11938 1193D-1193E 11943 119E0 \
11A34 11A47 11A99 11D42 11D44-11D45 11D97 16FF0-16FF1 1E130-1E136 1E2AE 1E2EC-1E2EF"

_LAST = 0x30000  # From here on all characters stay as they are.
_MOST = 4  # Characters that one falls into.
_NONE = 2**31 - 1  # Behind every place.


def composed(points: Any, texts: Any) -> tuple[Any, Any]:
    """Returns texts in NFC: all code points, int32 [n], and the text of each, int32 [n].

    Args:
        points: Code points, int32 [n].
        texts: The text of each, int32 [n], in order.
    """
    _, _, _, unsure = _tables()

    def change() -> tuple[Any, Any]:
        return _joined(*_sorted(*_apart(points, texts)))

    return tf.cond(tf.reduce_any(unsure(points)), change, lambda: (points, texts))


@functools.cache
def _tables() -> tuple[PointTable, PointTable, PairTable, PointTable]:
    """Returns the parts less the character in each place, the class, the pairs, and `unsure`.

    Unsure are characters that may not stay as they are. Only marks have a class above 0.
    """
    parts = np.full([POINTS, _MOST], -1, np.int32)
    parts[:, 0] = np.arange(POINTS)
    classes = np.zeros([POINTS], np.int32)
    unsure = np.zeros([POINTS], bool)
    pairs, wholes = [], []
    young = {*characters.ranges(_YOUNG)}
    for point in {*range(_LAST)} - young:
        letter = chr(point)
        classes[point] = unicodedata.combining(letter)
        apart = unicodedata.normalize("NFD", letter)
        if apart == letter:
            continue
        parts[point] = [*map(ord, apart), -1, -1, -1][:_MOST]
        if unicodedata.normalize("NFC", letter) != letter:
            unsure[point] = True
            continue
        first = unicodedata.normalize("NFC", apart[:-1])  # Of one character, as each such pair is.
        pairs.append((ord(first), ord(apart[-1])))
        wholes.append(point)
    unsure |= classes > 0
    unsure[[second for _, second in pairs]] = True
    differences = np.where(parts < 0, -1 - POINTS, parts - np.arange(POINTS)[:, None])
    return (
        PointTable(differences.astype(np.int32)),
        PointTable(classes),
        PairTable(pairs, wholes),
        PointTable(unsure),
    )


def _apart(points: Any, texts: Any) -> tuple[Any, Any]:
    """Returns every character as those that it is made of."""
    differences, *_ = _tables()
    found = differences(points) + points[:, None]
    kept = found >= 0
    return found[kept], tf.repeat(texts[:, None], _MOST, axis=1)[kept]


def _sorted(points: Any, texts: Any) -> tuple[Any, Any]:
    """Returns the marks of a character in the order of their classes."""
    _, classes, _, _ = _tables()
    found = classes(points)
    group = tf.cumsum(tf.cast((found == 0) | _opens(texts), tf.int32))
    order = tf.argsort(tf.cast(group, tf.int64) * 256 + tf.cast(found, tf.int64), stable=True)
    return tf.gather(points, order), texts


def _joined(points: Any, texts: Any) -> tuple[Any, Any]:
    """Returns each character with the marks that it can be joined to, one of them at a time."""

    def step(points: Any, texts: Any, heads: Any, wholes: Any) -> tuple[Any, ...]:
        chosen = wholes >= 0
        places, joined = heads[chosen], wholes[chosen]
        points = tf.tensor_scatter_nd_update(points, places[:, None], joined)[~chosen]
        texts = texts[~chosen]
        return points, texts, *_next(points, texts)

    points, texts, *_ = tf.while_loop(
        lambda points, texts, heads, wholes: tf.reduce_any(wholes >= 0),
        step,
        (points, texts, *_next(points, texts)),
        shape_invariants=tuple([tf.TensorShape([None])] * 4),
    )
    return points, texts


def _next(points: Any, texts: Any) -> tuple[Any, Any]:
    """Returns, of each character, the last one before it that is no mark, and what both make.

    That is -1 where they make nothing, a mark between them hinders it, or another pair goes first.
    """
    _, classes, pairs, _ = _tables()
    found, opens = classes(points), _opens(texts)
    number = tf.range(tf.size(points))
    begins = (found == 0) | opens
    groups = tf.cumsum(tf.cast(begins, tf.int32)) - 1
    before = tf.maximum(number - 1, 0)
    group = tf.gather(groups, before)
    heads = tf.gather(tf.boolean_mask(number, begins), group)
    free = (heads == number - 1) | (tf.gather(found, before) < found)
    wholes = pairs(tf.gather(points, heads), points)
    hits = ~opens & (tf.gather(found, heads) == 0) & free & (wholes >= 0)
    first = tf.math.segment_min(tf.where(hits, number, _NONE), group)
    hits &= tf.gather(first, group) == number
    hits &= ~tf.gather(hits, heads)
    return heads, tf.where(hits, wholes, -1)


def _opens(texts: Any) -> Any:
    """Returns which characters are the first of a text, bool [n]."""
    return tf.concat([tf.fill(tf.minimum(tf.shape(texts), 1), True), texts[1:] != texts[:-1]], 0)
