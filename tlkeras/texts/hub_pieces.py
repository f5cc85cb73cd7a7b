"""Hub pieces: the tokenizers of KerasHub, for families whose pieces are not ours.

SentencePiece runs as operations of tensorflow-text. So a SavedModel with such a tokenizer loads
only after ``import tensorflow_text``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.frameworks import keras_hub, tf
from tlkeras.texts import folders
from tlkeras.texts.bytepairs import BytePairs
from tlkeras.texts.rows import Tokenizer
from tlkeras.texts.wordpiece import WordPiece

# The file of decoders.
_CAUSAL = "tokenizer.model"


@dataclasses.dataclass(frozen=True, eq=False)
class HubPieces(Tokenizer):
    """A tokenizer with rows ``start a end …`` and ``start a end b end …``."""

    tokenizer: Any = dataclasses.field(repr=False)
    """A tokenizer of KerasHub that returns ragged ids."""

    start: str = ""
    """A special piece before the first text, none if empty."""

    end: str = ""
    """A special piece behind every text, none if empty."""

    padding: str = ""
    """A special piece that fills the rest; -1 does if empty."""

    between: int = 1
    """How many ends there are between two texts; RoBERTa has two."""

    lowercase: bool = False
    """Whether letters are made small and lose their marks first."""

    quotes: bool = False
    """Whether the quotes of two signs, `` and '', become one first."""

    def __eq__(self, other: object) -> bool:
        """Returns whether another one makes the same rows of all texts."""
        return isinstance(other, HubPieces) and self._rules == other._rules

    def __hash__(self) -> int:
        """Returns a number that equal ones have in common."""
        return hash(self.vocabulary)

    @functools.cached_property
    def _rules(self) -> tuple[Any, ...]:
        """What decides the rows; SentencePiece has a file, and byte pairs have merges."""
        pieces = (getattr(self.tokenizer, name, None) for name in ("proto", "merges"))
        rows = self.start, self.end, self.padding, self.between
        return self.vocabulary, *pieces, *rows, self.lowercase, self.quotes

    @functools.cached_property
    def separator(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A space, where there are pieces with one, and not one before every text."""
        with tf.init_scope():
            given = tf.constant(["a", " a", "a a"])
            first, later, both = self._traced(given, tf.int32.max).to_list()
        return " " if first + later == both else ""

    @property
    def tracked(self) -> Any:
        """What holds the resources that a SavedModel needs."""
        return self.tokenizer

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All pieces, in the order of their ids."""
        return tuple(self.tokenizer.get_vocabulary())

    def text(self, ids: Sequence[int]) -> str:
        """Returns the text of pieces."""
        if not ids:
            return ""
        found = self.tokenizer.detokenize(tf.constant([[*ids]], tf.int32))
        return str(np.ravel(found)[0])

    def _pieces(self, texts, most):
        # KerasHub returns lists where this is not traced.
        for pair in ("``", "''") if self.quotes else ():
            texts = tf.strings.regex_replace(texts, pair, '"')
        prepared = _lowered(texts) if self.lowercase else texts
        return tf.cast(self.tokenizer.tokenize(prepared), tf.int32)

    def _id(self, piece: str) -> int:
        return self.vocabulary.index(piece)

    @functools.cached_property
    def padding_id(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._id(self.padding) if self.padding else -1

    def frame(self, texts):
        start, end = ([self._id(piece)] if piece else [] for piece in (self.start, self.end))
        return [start, end] if texts == 1 else [start, end * self.between, end]


ALBERT: dict[str, Any] = {"start": "[CLS]", "end": "[SEP]", "padding": "<pad>", "quotes": True}
"""The special pieces of `albert`, and what it does to all texts."""


def albert(folder: Path) -> HubPieces:
    """Returns ALBERT's tokenizer, whose texts have small letters unless the folder says no.

    Raises:
        ValueError: The folder keeps accents without capitals, or capitals without accents.
    """
    settings = folders.configuration(folder, {})
    lowercase = settings.get("do_lower_case", True)
    if (found := settings.get("keep_accents", False)) == lowercase:
        raise ValueError(
            f"{folder / 'tokenizer_config.json'}: keep_accents is {found} and do_lower_case "
            f"{lowercase}, expected one of them to be true, which is all that is known here."
        )
    return _read(folder, "spiece.model", "AlbertTokenizer", **ALBERT, lowercase=lowercase)


def llama(folder: Path) -> HubPieces | BytePairs:
    """Returns Llama's tokenizer: SentencePiece up to Llama 2, byte pairs in later ones."""
    if (folder / _CAUSAL).is_file() or folders.is_of_sentencepiece(folder):
        return causal("LlamaTokenizer", "<s>", "</s>")(folder)
    return folders.byte_pairs(folder)


def causal(tokenizer: str, start: str, end: str, **special: Any) -> Callable[[Path], HubPieces]:
    """Returns what makes a decoder's tokenizer of KerasHub from ``tokenizer.model`` in a folder.

    Texts have the start, and no end, unless ``tokenizer_config.json`` says otherwise.
    """

    def of_folder(folder: Path) -> HubPieces:
        config = folders.configuration(folder, {})
        frame = {
            "start": start if config.get("add_bos_token", True) else "",
            "end": end if config.get("add_eos_token", False) else "",
        }
        return _read(folder, _CAUSAL, tokenizer, **frame, **special)

    return of_folder


def of_llama(hub: Any) -> HubPieces:
    """Returns the tokenizer of a preset of Llama."""
    return HubPieces(hub, start=hub.start_token)


def _lowered(texts: Any) -> Any:
    """Returns texts as ALBERT was trained on, which its vocabulary expects."""
    from tensorflow_text import normalize_utf8

    bare = tf.strings.regex_replace(normalize_utf8(texts, "NFKD"), r"\p{M}", "")
    return tf.strings.lower(bare, encoding="utf-8")


def word_pieces(hub: Any) -> WordPiece:
    """Returns our tokenizer with a preset's pieces.

    KerasHub's own keeps accents, which the networks in lower case have never seen.
    """
    return WordPiece(tuple(hub.get_vocabulary()), lowercase=hub.lowercase)


def byte_pairs(**special: Any) -> Callable[[Any], BytePairs]:
    """Returns what makes our tokenizer with these special pieces from that of a preset."""

    def of_hub(hub: Any) -> BytePairs:
        vocabulary = sorted(hub.get_vocabulary(), key=hub.token_to_id)
        return BytePairs(tuple(vocabulary), tuple(hub.merges), **special)

    return of_hub


def of_file(
    file: str, tokenizer: str, allowed: Mapping[str, Sequence[Any]], **special: Any
) -> Callable[[Path], HubPieces]:
    """Returns what makes a tokenizer of KerasHub from this file in a folder.

    Args:
        file: Of SentencePiece.
        tokenizer: A class of KerasHub.
        allowed: Of settings in ``tokenizer_config.json`` the values that change nothing here.
        special: The fields of `HubPieces`.
    """

    def of_folder(folder: Path) -> HubPieces:
        folders.configuration(folder, allowed)
        return _read(folder, file, tokenizer, **special)

    return of_folder


def _read(folder: Path, file: str, tokenizer: str, **special: Any) -> HubPieces:
    if not (folder / file).is_file():
        raise ValueError(
            f"{folder} has no {file}, from which {tokenizer} of KerasHub is made. Transformers 5 "
            "writes none: copy it from the folder of the network that yours was tuned from."
        )
    proto = (folder / file).read_bytes()
    return HubPieces(getattr(keras_hub.tokenizers, tokenizer)(proto), **special)
