"""Byte pairs: the pieces that GPT-2, RoBERTa, Llama 3, Qwen 2 and SmolLM2 read a text in.

A text is cut into words, see `cuts`; of the bytes of a word, as long as there is one, the pair that
was merged first in training is merged, wherever it stands (Radford et al. 2019; Sennrich et al.
2016, https://arxiv.org/abs/1508.07909). The ids are those of the `tokenizers` package, but for
special pieces that a text spells out, such as "</s>": a text cannot end itself.

All words of a batch are merged at once, a pair of each at a time. That suits words as people write
them: the time grows with the square of the longest word, 1.6 s for one of 20,000 random letters.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tlkeras.frameworks import tf
from tlkeras.texts import characters, composing, cuts, rows
from tlkeras.texts.cuts import Cut
from tlkeras.texts.rows import Tokenizer
from tlkeras.texts.tables import PairTable
from tlkeras.texts.whole_words import WholeWords

_NEVER = 2**31 - 1  # The rank of a pair that is not merged.

_UNWRITTEN = -1


@dataclasses.dataclass(frozen=True)
class BytePairs(Tokenizer):
    """A tokenizer with rows ``start a end …`` and, as of RoBERTa, ``start a end end b end …``."""

    separator: ClassVar[str] = " "

    tracked: ClassVar[Any] = None
    """What holds the resources that a SavedModel needs: none, all are constants."""

    vocabulary: tuple[str, ...] = dataclasses.field(repr=False)
    """All pieces, in the order of their ids; each byte is written as a letter of `LETTERS`."""

    merges: tuple[str, ...] = dataclasses.field(repr=False)
    """The pairs that are merged, first the one merged first, the two pieces set off by a space."""

    start: str = ""
    """A special piece before the first text, none if empty."""

    end: str = ""
    """A special piece behind every text, none if empty."""

    padding: str = ""
    """A special piece that fills the rest; -1 does if empty, or if it is the start or the end."""

    cut: Cut = "gpt2"
    """Where words begin, see `cuts`."""

    composed: bool = False
    """Whether texts are brought into Unicode's form NFC first."""

    whole_words: bool = False
    """Whether a word that is a piece is left whole, also where no merges lead to it."""

    def __post_init__(self) -> None:
        """Raises ValueError if the vocabulary lacks a piece."""
        needed = {"merges": self._parts[2], "vocabulary": [chr(each) for each in range(33, 127)]}
        needed |= {field: [getattr(self, field)] for field in ("start", "end", "padding")}
        for field, pieces in needed.items():
            for piece in pieces:
                if piece and piece not in self._ids:
                    raise ValueError(f"{field} needs {piece!r}, which the vocabulary has not.")

    def text(self, ids: Sequence[int]) -> str:
        """Returns the text of pieces; bytes that are not UTF-8 are replaced."""
        letters = "".join(self.vocabulary[i] for i in ids)
        encoded = b"".join(
            bytes([LETTERS.index(letter)]) if letter in LETTERS else letter.encode()
            for letter in letters
        )
        return encoded.decode("utf-8", "replace")

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.vocabulary)}

    @property
    def padding_id(self):
        # GPT-2 has one special piece for all, and what begins a text is no padding.
        is_framing = self.padding in ("", self.start, self.end)
        return -1 if is_framing else self._ids[self.padding]

    def frame(self, texts):
        start, end = ([self._ids[piece]] if piece else [] for piece in (self.start, self.end))
        return [start, end] if texts == 1 else [start, end * 2, end]

    @functools.cached_property
    def _parts(self) -> tuple[list[str], list[str], list[str]]:
        """Returns the first and second piece of every merge, and what it makes."""
        pairs = [merge.split(" ") for merge in self.merges]
        if wrong := [merge for merge in pairs if len(merge) != 2]:
            raise ValueError(f"merges has {' '.join(wrong[0])!r}, expected two pieces and a space.")
        return [a for a, _ in pairs], [b for _, b in pairs], [a + b for a, b in pairs]

    @functools.cached_property
    def _tables(self) -> tuple[np.ndarray, PairTable, np.ndarray, bool]:
        """Returns ids of bytes, ranks of pairs, ids of merged pairs by rank, and `at_once`.

        The id of a byte without a letter in the vocabulary is -1. `at_once` is whether no merge
        makes another one possible that comes before it: then all pairs of the rank are merged at
        once, else the first of each word.
        """
        first, second, merged = ([self._ids[p] for p in part] for part in self._parts)
        used: dict[int, int] = {}
        for rank, pair in enumerate(zip(first, second, strict=True)):
            for piece in pair:
                used.setdefault(piece, rank)
        at_once = all(used.get(piece, _NEVER) > rank for rank, piece in enumerate(merged))
        letters = np.array([self._ids.get(letter, -1) for letter in LETTERS], np.int32)
        pairs = PairTable(np.stack([first, second], axis=1), np.arange(len(merged)))
        return letters, pairs, np.array(merged, np.int32), at_once

    @functools.cached_property
    def _wholes(self) -> WholeWords:
        letters, *_ = self._tables
        own = {i: [*map(LETTERS.find, piece)] for i, piece in enumerate(self.vocabulary)}
        # Special pieces have letters that stand for no byte.
        own = {i: row for i, row in own.items() if min(row, default=-1) >= 0}
        own = {i: row for i, row in own.items() if letters[row].min() >= 0}
        with tf.init_scope():
            words = np.repeat([*own], [*map(len, own.values())]).astype(np.int32)
            symbols = letters[np.concatenate([*own.values()])]
            merged = self._merged(tf.constant(symbols), tf.constant(words)).numpy()
        words, merged = words[merged >= 0], merged[merged >= 0]
        starts = np.flatnonzero(np.append(-1, words[:-1]) != words)
        rows = zip(words[starts], np.split(merged, starts[1:]), strict=True)
        return WholeWords({tuple(row.tolist()): int(i) for i, row in rows if len(row) > 1})

    def _pieces(self, texts, most):
        points, texts_of = characters.decoded(texts)
        if self.composed:
            points, texts_of = composing.composed(points, texts_of)
        begins = cuts.begins(points, texts_of, self.cut)
        letters, *_ = self._tables
        # Where bytes are left out, a word may have no piece.
        most = tf.int32.max if letters.min() < 0 else most
        kept, words = rows.first_words(begins, texts_of, most)
        points, texts_of, words = points[kept], texts_of[kept], words[kept]
        encoded, kept = _utf8(points)
        symbols = tf.gather(letters, tf.where(kept, encoded, 0))
        # Bytes that the vocabulary has no letter for are left out, as by `tokenizers`.
        kept &= symbols >= 0
        symbols = symbols[kept]
        words, texts_of = (tf.repeat(x, 4)[tf.reshape(kept, [-1])] for x in (words, texts_of))
        merged = self._merged(symbols, words)
        if self.whole_words:
            merged = self._wholes(merged, words)
        kept = merged >= 0
        return tf.RaggedTensor.from_value_rowids(
            merged[kept],
            tf.cast(texts_of[kept], tf.int64),
            tf.size(texts, tf.int64),
            validate=False,
        )

    def _merged(self, symbols: Any, words: Any) -> Any:
        """Returns the piece that begins at each symbol, int32 [n], -1 if none does.

        Args:
            symbols: The ids of bytes, int32 [n].
            words: The word of each, in order.
        """
        _, pairs, merged, at_once = self._tables
        merged = np.append(merged, np.int32(0))  # A vocabulary may have no merge.

        def step(written: Any, symbols: Any, words: Any, places: Any) -> Any:
            ranks = pairs(symbols[:-1], symbols[1:])
            ranks = tf.where((ranks >= 0) & (words[:-1] == words[1:]), ranks, _NEVER)
            ranks = tf.concat([ranks, [_NEVER]], axis=0)
            best = tf.gather(tf.math.segment_min(ranks, words), words)
            done = best == _NEVER
            at_end = tf.where(done)
            written = tf.tensor_scatter_nd_update(
                written, tf.gather(places, at_end), tf.gather_nd(symbols, at_end)
            )
            hits = (ranks == best) & ~done
            # Of pairs that overlap, as in "aaa", the second is none.
            first = hits & ~tf.concat([[False], hits[:-1]], axis=0)
            number = tf.range(tf.size(hits))
            begin = tf.concat([[0], tf.cast(tf.where(first)[:, 0], tf.int32)], axis=0)
            begin = tf.gather(begin, tf.cumsum(tf.cast(first, tf.int32)))
            hits &= (number - begin) % 2 == 0
            if not at_once:
                alone = tf.math.segment_min(tf.where(hits, number, _NEVER), words)
                hits &= number == tf.gather(alone, words)
            symbols = tf.where(hits, tf.gather(merged, tf.where(hits, ranks, 0)), symbols)
            kept = tf.where(~done & ~tf.concat([[False], hits[:-1]], axis=0))[:, 0]
            return written, *(tf.gather(x, kept) for x in (symbols, words, places))

        size = tf.size(symbols)
        written, *_ = tf.while_loop(
            lambda written, symbols, words, places: tf.size(symbols) > 0,
            step,
            (tf.fill([size], _UNWRITTEN), symbols, words, tf.range(size)),
            shape_invariants=(symbols.shape, *[tf.TensorShape([None])] * 3),
        )
        return written


def _utf8(points: Any) -> tuple[Any, Any]:
    """Returns the bytes of every character, int32 [n, 4], and which of the four it has."""
    shifts = tf.constant([18, 12, 6, 0])
    sixes = tf.bitwise.bitwise_and(tf.bitwise.right_shift(points[:, None], shifts), 63)
    size = tf.searchsorted([0x80, 0x800, 0x10000], points, side="right") + 1
    place = tf.range(4) - (4 - size[:, None])  # Of the byte in its character, below 0 if none.
    leads = tf.gather([0, 0, 0xC0, 0xE0, 0xF0], size)[:, None]
    result = tf.where(place == 0, leads + sixes, 0x80 + sixes)
    alone = (size[:, None] == 1) & (place == 0)
    return tf.where(alone, points[:, None], result), place >= 0


def _letters() -> str:
    """Returns the letter that stands for each byte in vocabularies: a printed one for itself."""
    printed = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in printed else next(others)) for byte in range(256))


LETTERS = _letters()
"""The letter that stands for each byte in a vocabulary, "Ġ" for the space."""
