r"""Words: where networks that read bytes cut a text, before the pairs in each word are merged.

The expressions look ahead and know the spaces of Unicode; those of TensorFlow do neither. So the
beginnings of words follow from the kinds of characters and of their neighbours.
"""

from __future__ import annotations

from typing import Any, Literal

from tlkeras.frameworks import tf
from tlkeras.texts import characters
from tlkeras.texts.characters import LETTER, NUMBER, SPACE

Cut = Literal["gpt2", "single_digits", "llama3", "qwen2"]
"""Of GPT-2; the same with each digit a word of its own (SmolLM2); of Llama 3; of Qwen 2."""

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_OF_LINES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = _OF_LINES.replace("DIGITS", "{1,3}")
QWEN2 = _OF_LINES.replace("DIGITS", "")

# Unicode folds the long s to an s, where case does not matter.
_ONE_LETTER = [*map(ord, "sStTmMdD\u017f")]
_TWO_LETTERS = ("re", "ve", "ll")


def begins(points: Any, texts: Any, cut: Cut) -> Any:
    """Returns which characters begin a word, bool [n].

    Args:
        points: The code points of all texts, int32 [n].
        texts: The text of each, int32 [n], in order.
        cut: The expression that finds the words.
    """
    kinds = characters.kinds(points)
    if cut in _DIGITS:
        return _of_lines(points, texts, kinds, _DIGITS[cut])
    if cut == "single_digits":
        # What lies between digits is cut as if it were a text.
        digit = kinds == NUMBER
        apart = digit | _before(digit, False) | (_before(texts, -1) != texts)
        texts = tf.cumsum(tf.cast(apart, tf.int32))
    return _of_gpt2(points, texts, kinds)


_DIGITS: dict[str, int] = {"llama3": 3, "qwen2": 1}  # So many make a word at most.


def _of_gpt2(points: Any, texts: Any, kinds: Any) -> Any:
    """Returns the beginnings of words by the expression `GPT2`."""
    opens = _before(texts, -1) != texts
    closes = _behind(opens, True)
    begins = opens | (_before(kinds, -1) != kinds)
    # The last of several spaces is set off if something follows.
    spaces = kinds == SPACE
    begins |= spaces & ~closes & (_behind(kinds, SPACE) != SPACE)
    begins &= opens | spaces | (_before(points, 0) != ord(" "))
    # An apostrophe that begins a word takes an ending along.
    one = _behind(tf.where(opens, 0, points), 0)
    two = _behind(tf.where(opens, 0, one), 0)
    quotes = begins & (points == ord("'"))
    short = quotes & _is_in(one, [*map(ord, "stmd")])
    ends = [(one == ord(a)) & (two == ord(b)) for a, b in _TWO_LETTERS]
    long = quotes & tf.reduce_any(ends, axis=0)
    begins &= opens | ~_before(short | long, False)
    after = _before(_before(short | _before(long, False), False), False)
    return begins | (after & (kinds == LETTER))


def _of_lines(points: Any, texts: Any, kinds: Any, digits: int) -> Any:
    """Returns the beginnings of words by the expression `LLAMA3` or `QWEN2`."""
    opens = _before(texts, -1) != texts
    starts = opens | (_before(kinds, -1) != kinds)  # Of runs of one kind.
    runs = tf.cumsum(tf.cast(starts, tf.int32)) - 1
    number = tf.range(tf.size(points))
    place = number - tf.gather(tf.boolean_mask(number, starts), runs)
    spaces, letters, digit = (kinds == kind for kind in (SPACE, LETTER, NUMBER))
    others = ~(spaces | letters | digit)
    ends = _behind(opens, True)  # Of texts.
    last = _behind(starts, True)  # Of runs.

    # Line breaks right behind signs belong to them.
    breaks = spaces & _is_in(points, [*map(ord, "\r\n")])
    signs = _before(others, False) & ~opens
    unbroken = tf.where(spaces & ~breaks, place, _FAR)
    first_other = tf.gather(tf.math.segment_min(unbroken, runs), runs)
    behind_signs = tf.gather(tf.boolean_mask(signs, starts), runs)
    eaten = breaks & behind_signs & (place < first_other)

    # Other spaces go up to the last line break, then up to the last one before something else.
    last_break = tf.math.segment_max(tf.where(breaks & ~eaten, number, -1), runs)
    begins = spaces & ~eaten & (starts | _before(eaten, False))
    begins |= spaces & ~starts & (tf.gather(last_break, runs) == number - 1)
    begins |= spaces & last & ~ends & ~breaks

    # That one goes with letters, and the space " " with signs, too.
    spaced = _before(spaces & ~breaks, False) & ~opens
    narrow = (_before(points, 0) == ord(" ")) & ~opens
    begins |= digit & (place % digits == 0)
    begins |= others & starts & ~narrow

    # A single sign goes with the letters behind it, or takes an ending along.
    lone = others & starts & last & ~narrow & _behind(letters & ~opens, False)
    quotes = lone & (points == ord("'"))
    one = _behind(tf.where(opens, 0, points), 0)
    two = _behind(tf.where(opens, 0, one), 0)
    short = quotes & _is_in(one, _ONE_LETTER)
    pairs = [_is_in(one, _cases(a)) & _is_in(two, _cases(b)) for a, b in _TWO_LETTERS]
    long = quotes & ~short & tf.reduce_any(pairs, axis=0)
    begins |= letters & starts & ~spaced & ~_before(lone, False)
    after = _before(_before(short | _before(long, False), False), False)
    return begins | (after & letters & ~starts)


_FAR = 2**31 - 1  # Behind every place.


def _before(values: Any, first: Any) -> Any:
    """Returns the value of the character before each, `first` where there is none."""
    return tf.concat([tf.fill(tf.minimum(tf.shape(values), 1), first), values[:-1]], axis=0)


def _behind(values: Any, last: Any) -> Any:
    """Returns the value of the character behind each, `last` where there is none."""
    return tf.concat([values[1:], tf.fill(tf.minimum(tf.shape(values), 1), last)], axis=0)


def _is_in(points: Any, chosen: Any) -> Any:
    return tf.reduce_any(points[:, None] == chosen, axis=1)


def _cases(letter: str) -> list[int]:
    return [ord(letter), ord(letter.upper())]
