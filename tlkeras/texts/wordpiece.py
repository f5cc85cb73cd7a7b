"""WordPiece: the pieces that BERT, DistilBERT, ELECTRA and MiniLM read a text in.

A text is cleaned, its letters made small and stripped of their marks; words are what lies between
spaces, and every punctuation sign. Each is cut, from its front, into the longest pieces that the
vocabulary has (Devlin et al. 2019, https://arxiv.org/abs/1810.04805). The ids are those of
``BertTokenizerFast``, but for special pieces that a text spells out, such as "[SEP]": a text cannot
end itself.

All words of a batch walk the tree of the pieces at once, a character at a time.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import numpy as np

from tlkeras.frameworks import tf
from tlkeras.texts import characters, rows
from tlkeras.texts.characters import LETTER, SPACE
from tlkeras.texts.rows import Tokenizer
from tlkeras.texts.tables import PairTable

_INSIDE = "##"  # Before a piece that does not begin its word.

_UNWRITTEN, _UNKNOWN = -1, -2


@dataclasses.dataclass(frozen=True)
class WordPiece(Tokenizer):
    """A tokenizer with rows ``[CLS] a [SEP] …`` and ``[CLS] a [SEP] b [SEP] …``."""

    tracked: ClassVar[Any] = None
    """What holds the resources that a SavedModel needs: none, all are constants."""

    vocabulary: tuple[str, ...] = dataclasses.field(repr=False)
    """All pieces, in the order of their ids."""

    lowercase: bool = True
    strip_accents: bool | None = None
    """Whether letters lose their marks; as `lowercase` if None."""

    spaced_ideographs: bool = True
    """Whether every Chinese character is a word."""

    longest: int = 100
    """How many characters a word may have; a longer one is unknown."""

    unknown: str = "[UNK]"
    start: str = "[CLS]"
    end: str = "[SEP]"
    padding: str = "[PAD]"

    def __post_init__(self) -> None:
        """Raises ValueError if a piece is there twice, or a special one is not."""
        if len(self._ids) != len(self.vocabulary):
            twice = next(p for i, p in enumerate(self.vocabulary) if self._ids[p] != i)
            raise ValueError(f"vocabulary has {twice!r} twice.")
        for field in ("unknown", "start", "end", "padding"):
            if (piece := getattr(self, field)) not in self._ids:
                raise ValueError(f"{field} is {piece!r}, which the vocabulary does not have.")

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.vocabulary)}

    @property
    def padding_id(self):
        return self._ids[self.padding]

    def frame(self, texts):
        return [[self._ids[self.start]], *[[self._ids[self.end]]] * texts]

    @functools.cached_property
    def _tree(self) -> tuple[PairTable, np.ndarray]:
        """Returns the steps from a node by a character to a node, and the piece that ends there.

        Node 0 is the beginning of a word, node 1 of what follows in it. No piece is -1.
        """
        steps: dict[tuple[int, int], int] = {}
        ends = [-1, -1]
        for i, piece in enumerate(self.vocabulary):
            node = int(piece.startswith(_INSIDE))
            for character in piece[len(_INSIDE) * node :]:
                step = node, ord(character)
                if step not in steps:
                    steps[step] = len(ends)
                    ends.append(-1)
                node = steps[step]
            if node > 1:
                ends[node] = i
        return PairTable([*steps], [*steps.values()]), np.array(ends, np.int32)

    def _pieces(self, texts, most):
        points, begins, texts_of, words = self._characters(texts, most)
        found = self._longest_pieces(points, begins, words)
        kept = found >= 0
        return tf.RaggedTensor.from_value_rowids(
            found[kept],
            tf.cast(texts_of[kept], tf.int64),
            tf.size(texts, tf.int64),
            validate=False,
        )

    def _characters(self, texts: Any, most: Any) -> tuple[Any, Any, Any, Any]:
        """Returns the characters of all words, [n]: code point, beginning, text and word."""
        points, texts_of = characters.decoded(texts)
        strip = self.lowercase if self.strip_accents is None else self.strip_accents
        codes = characters.normalized(points, self.lowercase, strip, self.spaced_ideographs)
        kept = tf.reshape(codes >= 0, [-1])
        codes = tf.reshape(codes, [-1])[kept]
        texts_of = tf.repeat(texts_of, 3)[kept]
        points, kinds = tf.bitwise.right_shift(codes, 2), tf.bitwise.bitwise_and(codes, 3)
        letters = kinds == LETTER
        follows = letters[1:] & letters[:-1] & (texts_of[1:] == texts_of[:-1])
        begins = tf.concat([tf.ones_like(letters[:1]), ~follows], axis=0)
        kept = kinds != SPACE
        points, begins, texts_of = points[kept], begins[kept], texts_of[kept]
        kept, words = rows.first_words(begins, texts_of, most)
        points, begins, texts_of, words = (x[kept] for x in (points, begins, texts_of, words))
        return points, begins, texts_of, tf.cumsum(tf.cast(begins, tf.int32)) - 1

    def _longest_pieces(self, points: Any, begins: Any, words: Any) -> Any:
        """Returns the piece that begins at each character, int32 [n], below 0 if none does."""
        tree, ends = self._tree
        starts = tf.cast(tf.where(begins)[:, 0], tf.int32)
        stops = tf.concat([starts[1:], [tf.size(points)]], axis=0)[: tf.size(starts)]
        fits = stops - starts <= self.longest
        found = tf.fill(tf.shape(points), _UNWRITTEN)
        found = tf.tensor_scatter_nd_update(
            found, starts[~fits][:, None], tf.fill(tf.shape(starts[~fits]), _UNKNOWN)
        )
        starts, stops = starts[fits], stops[fits]
        # Of every word: where it stops, where its piece starts, the next character, the node, and
        # the longest piece up to now, if any, with its stop.
        walks = stops, starts, starts, tf.zeros_like(starts), starts, tf.fill(tf.shape(starts), -1)

        def step(found: Any, *walks: Any) -> Any:
            stop, start, at, node, end, piece = walks
            point = tf.gather(points, tf.minimum(at, tf.size(points) - 1))
            node = tf.where(at < stop, tree(node, point), -1)
            stuck = node < 0
            here = tf.where(stuck, -1, tf.gather(ends, tf.maximum(node, 0)))
            end, piece = tf.where(here < 0, end, at + 1), tf.where(here < 0, piece, here)
            written, at_end = tf.where(piece < 0, _UNKNOWN, piece), tf.where(stuck)
            found = tf.tensor_scatter_nd_update(
                found, tf.gather(start, at_end), tf.gather_nd(written, at_end)
            )
            walks = (
                stop,
                tf.where(stuck, end, start),
                tf.where(stuck, end, at + 1),
                tf.where(stuck, 1, node),
                end,
                tf.where(stuck, -1, piece),
            )
            on = tf.where(~stuck | ((piece >= 0) & (end < stop)))[:, 0]
            return found, *(tf.gather(walk, on) for walk in walks)

        found, *_ = tf.while_loop(
            lambda found, *walks: tf.size(walks[0]) > 0,
            step,
            (found, *walks),
            shape_invariants=(found.shape, *[tf.TensorShape([None])] * len(walks)),
        )
        whole = tf.gather(tf.math.segment_min(found, words), words) != _UNKNOWN
        return tf.where(whole, found, tf.where(begins, self._ids[self.unknown], _UNWRITTEN))
