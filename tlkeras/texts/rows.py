"""Rows: the pieces of texts cut, framed by special ones and padded to one length; tokenizers.

Pieces are ragged int32 [b, (n)]. A frame holds the special ids that stand before, between and
behind: ``((cls,), (sep,))`` around one text, ``((cls,), (sep,), (sep,))`` around two.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from tlkeras.frameworks import tf

Frame = Sequence[Sequence[int]]


class Tokenizer(abc.ABC):
    """From texts, string [b] in UTF-8, to ids, int32 [b, length].

    Where a method takes a batch it takes a single text, string [], too, and returns no batch.
    """

    separator: ClassVar[str] = ""
    """What stands before each word of a sentence but the first."""

    def __call__(self, texts: Any, length: int) -> Any:
        """Returns int32 [b, length]: pieces in the frame of one text, the end of a longer one cut.

        Padding fills the rest.
        """
        return batched(self._rows(length), texts)

    def pair(self, first: Any, second: Any, length: int) -> tuple[Any, Any]:
        """Returns ids in the frame of two texts, and in which text they are, see `two`."""

        def ids(*texts: Any) -> Any:
            here, there = (self._traced(text, tf.int32.max) for text in texts)
            return two(here, there, self.frame(2), length, self.padding_id)

        return batched(ids, first, second)

    def words(self, words: Any, length: int) -> tuple[Any, Any]:
        """Returns ids of sentences, and which word each piece begins, -1 if none or special.

        The words of a text are ``tf.strings.split(text)``. A word of control characters alone may
        have no piece.

        Args:
            words: The words of a sentence, string [w], or of many, ragged string [b, (w)].
            length: How many pieces there are for a sentence.
        """

        def pieces(texts: Any) -> Any:
            return self._traced(texts, length)

        frame, padding = self.frame(1), self.padding_id
        return of_words(pieces, words, frame, length, padding, self.separator)

    @property
    @abc.abstractmethod
    def padding_id(self) -> int:
        """The id that fills the rest of a row, -1 if there is no special piece for it."""

    @abc.abstractmethod
    def frame(self, texts: int) -> Frame:
        """Returns the special ids that stand before, between and behind so many texts."""

    @abc.abstractmethod
    def _pieces(self, texts: Any, most: Any) -> Any:
        """Returns the pieces of every text, ragged int32 [b, (n)]; its first `most` words do.

        Traced: `texts` is string [b], `most` int32 [].
        """

    @functools.cached_property
    def _traced(self) -> Any:
        """Returns `_pieces` as a function that all graphs call, for a trace takes a second."""
        signature = [tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)]
        return tf.function(self._pieces, input_signature=signature, autograph=False)

    @functools.cached_property
    def _rows(self) -> Callable[[int], Any]:
        """From a length to the function from texts to ids, [b] to [b, length], of all graphs."""

        @functools.cache
        def of(length: int) -> Any:
            def rows(texts: Any) -> Any:
                return one(self._traced(texts, length), self.frame(1), length, self.padding_id)

            signature = [tf.TensorSpec([None], tf.string)]
            return tf.function(rows, input_signature=signature, autograph=False)

        return of


def one(pieces: Any, frame: Frame, length: int, padding: int) -> Any:
    """Returns int32 [b, length]: the first pieces of every text in their frame."""
    return _padded(_framed([pieces[:, : _room(frame, length)]], frame), length, padding)


def two(first: Any, second: Any, frame: Frame, length: int, padding: int) -> tuple[Any, Any]:
    """Returns ids, and in which text they are, 0 or 1, both int32 [b, length].

    Where both texts do not fit the longer one is cut, and if that is not enough both to a half, as
    by the `tokenizers` package. What is between them belongs to the first, padding too.
    """
    room = _room(frame, length)
    here, there = (tf.cast(part.row_lengths(), tf.int32) for part in (first, second))
    short, long = tf.minimum(here, there), tf.maximum(here, there)
    fits = here + there <= room
    long = tf.where(fits, long, tf.maximum(short, room - short))
    halves = short + long > room
    short = tf.where(halves, room // 2, short)
    long = tf.where(halves, room // 2 + room % 2, long)
    first_longer = here > there
    lengths = tf.where(first_longer, long, short), tf.where(first_longer, short, long)
    parts = [_cut(part, most) for part, most in zip((first, second), lengths, strict=True)]
    ids = _framed(parts, frame)
    begin = lengths[0] + sum(map(len, frame[:2]))
    place = tf.range(length)[None]
    inside = place < tf.cast(ids.row_lengths(), tf.int32)[:, None]
    segments = tf.cast((place >= begin[:, None]) & inside, tf.int32)
    return _padded(ids, length, padding), segments


def batched(function: Callable[..., Any], *texts: Any) -> Any:
    """Returns a function of one batch of texts, or more; of a single text without its batch."""
    tensors = [tf.convert_to_tensor(text, tf.string) for text in texts]
    if tensors[0].shape.rank:
        return function(*tensors)
    return tf.nest.map_structure(lambda rows: rows[0], function(*(text[None] for text in tensors)))


def of_words(
    pieces: Callable[[Any], Any],
    words: Any,
    frame: Frame,
    length: int,
    padding: int,
    between: str,
) -> tuple[Any, Any]:
    """Returns ids of sentences, and which word each piece begins, -1 if none, int32 [b, length].

    Args:
        pieces: From texts to their pieces.
        words: The words of a sentence, string [w], or of many, ragged string [b, (w)].
        frame: The special pieces around a sentence.
        length: How many pieces there are for a sentence.
        padding: The id that fills the rest.
        between: What stands before each word but the first.
    """
    if not isinstance(words, tf.RaggedTensor):
        words = tf.RaggedTensor.from_row_splits(words, [0, tf.size(words)])
        both = of_words(pieces, words, frame, length, padding, between)
        return both[0][0], both[1][0]
    sentences = words.value_rowids()
    places = tf.range(tf.size(words.values, tf.int64)) - tf.gather(words.row_starts(), sentences)
    found = pieces(tf.where(places > 0, between + words.values, words.values))
    within = found.value_rowids()
    first = tf.range(tf.size(found.values, tf.int64)) == tf.gather(found.row_starts(), within)
    starts = tf.where(first, tf.cast(tf.gather(places, within), tf.int32), -1)
    ids, starts = (
        tf.RaggedTensor.from_value_rowids(
            values, tf.gather(sentences, within), words.nrows(), validate=False
        )
        for values in (found.values, starts)
    )
    no_word = [[-1] * len(special) for special in frame]
    return one(ids, frame, length, padding), one(starts, no_word, length, -1)


def first_words(begins: Any, rows: Any, most: Any) -> tuple[Any, Any]:
    """Returns which symbols belong to the first words of a text, bool [n], and the word of each.

    What comes later would be cut anyway, since every word has a piece.

    Args:
        begins: Whether a symbol begins a word, bool [n].
        rows: The text of every symbol, [n], in order.
        most: How many words are kept of a text.
    """
    words = tf.cumsum(tf.cast(begins, tf.int32)) - 1
    first = tf.math.segment_min(words, rows)
    return words - tf.gather(first, rows) < most, words


def _room(frame: Frame, length: int) -> int:
    special = sum(map(len, frame))
    if length < special:
        raise ValueError(f"length is {length}, expected at least {special}, the special pieces.")
    return length - special


def _framed(parts: Sequence[Any], frame: Frame) -> Any:
    """Returns the parts of every row, ragged [b, (n)], with the special ids around each."""
    rows = parts[0].nrows(tf.int32)
    special = [tf.repeat(tf.constant([ids], tf.int32), rows, axis=0) for ids in frame]
    whole = [special[0]]
    for part, after in zip(parts, special[1:], strict=True):
        whole += [part, after]
    return tf.concat(whole, axis=1)


def _cut(part: Any, most: Any) -> Any:
    """Returns the first values of every row, as many as `most`, [b], says."""
    rows = part.value_rowids()
    places = tf.cast(
        tf.range(tf.size(part.values, tf.int64)) - tf.gather(part.row_starts(), rows), tf.int32
    )
    kept = places < tf.gather(most, rows)
    return tf.RaggedTensor.from_value_rowids(
        part.values[kept], rows[kept], part.nrows(), validate=False
    )


def _padded(rows: Any, length: int, padding: int) -> Any:
    return rows.to_tensor(padding, shape=[None, length])
