"""Casing: how words are written, which many networks do not see, as their pieces are lower-case.

A capital letter is half of what tells a name (Collobert et al. 2011,
https://arxiv.org/abs/1103.0398, section 4.3).
"""

from __future__ import annotations

from typing import Any

from tlkeras.frameworks import keras, tf

# A word is of the first kind that it matches, from 1 on, or of the last, such as "iPhone". The
# scripts of the try page read them, too.
PATTERNS = (
    r"[^\p{L}\p{N}]*",  # neither letters nor digits
    r"(?:\P{N}*\p{N})+\P{N}*",  # a digit
    r"\P{Lu}*",  # no capital
    r"[^\p{L}]*\p{Lu}\P{Lu}*",  # the first letter alone
    r"\P{Ll}*",  # capitals alone
)
KINDS = len(PATTERNS) + 1

_AROUND = 2
"""So many words on each side tell of a word: a name among capitals alone is none."""


def of(words: Any) -> Any:
    """Returns the kinds of words, int32 of the same shape; 0 of empty strings."""
    found = tf.fill(tf.shape(words), KINDS)
    for kind in range(len(PATTERNS), 0, -1):
        matches = tf.strings.regex_full_match(words, PATTERNS[kind - 1])
        found = tf.where(matches, kind, found)
    return tf.where(tf.strings.length(words) == 0, 0, found)


def around(kinds: Any) -> Any:
    """Returns zeros and ones that tell how words and their neighbours are written, [b, words, n].

    They are the kinds of five words, each for itself, and those of the middle three together.

    Args:
        kinds: From `of`, symbolic, int32 [b, words].
    """
    ops: Any = keras.ops
    near = ops.pad(kinds, [[0, 0], [_AROUND, _AROUND]])
    last, size = 2 * _AROUND, KINDS + 1
    each = [near[:, place : place - last or None] for place in range(last + 1)]
    before, after = each[_AROUND - 1], each[_AROUND + 1]
    # No sum: of one sentence Keras makes it a bias of channels, which TFLite does not convert.
    together = kinds * size**2 - (before * -size - after)
    # Of no word all is 0. Not by a kind of -1, which is the last one to ONNX.
    parts = [ops.one_hot(part, size)[..., 1:] for part in each]
    return ops.concatenate([*parts, ops.one_hot(together, size**3)[..., size**2 :]], axis=-1)
