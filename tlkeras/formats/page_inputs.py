"""Inputs of the try page: what its scripts need in order to prepare what a user gives.

They do in the browser what `Backbone.preprocess` does here, which a probe verifies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tlkeras.formats import signature
from tlkeras.frameworks import tf
from tlkeras.texts import bytepairs, casing, characters, inputs
from tlkeras.texts.bytepairs import BytePairs
from tlkeras.texts.characters import LETTER, SPACE
from tlkeras.texts.tables import POINTS
from tlkeras.texts.wordpiece import WordPiece

if TYPE_CHECKING:
    from tlkeras.model.transfer_model import TransferModel

PIECES = "pieces.json"

# Where the kinds of characters stand, beside the three that BERT knows: a letter of no piece.
_STRANGE = 3

_NONE = -(2**30)  # Below all changes.


Settings = Mapping[str, Any]


def settings(model: TransferModel) -> Settings:
    """Returns what ``model.json`` tells of the inputs of a model; ``module`` names the script.

    Raises:
        ValueError: The page prepares no such inputs, or does so in another way than the backbone.
    """
    meanings = tuple(kind.meaning for kind in model.backbone.raw().values())
    found = _READERS[meanings](model) if meanings in _READERS else None
    if found is None:
        raise ValueError(
            "The page of the browser exporter prepares pictures as tlkeras.images.pixels.squash "
            "does and texts by WordPiece or byte pairs, and the backbone "
            f"{model.backbone.name} does otherwise; leave this exporter out."
        )
    tensors = {
        name: {"shape": [1, *tensor.shape[1:]], "dtype": tensor.dtype}
        for name, tensor in model.inputs.items()
    }
    return {**found, "tensors": tensors}


def files(model: TransferModel) -> dict[str, str]:
    """Returns the texts of the other files that the scripts need, by name."""
    tokenizer = model.backbone.tokenizer
    if tokenizer is None:
        return {}
    return {PIECES: json.dumps(TOKENIZERS[type(tokenizer)](tokenizer), separators=(",", ":"))}


def _picture(model: TransferModel) -> Settings | None:
    pixels, *others = model.inputs.values()
    size = pixels.shape[1]
    if others or tuple(pixels.shape) != (None, size, size, 3):
        return None
    if not signature.squashes(model.backbone):
        return None
    return {"module": "picture", "size": size}


def _read(reads: inputs.Input, probe: Mapping[str, Any]) -> Callable[..., Settings | None]:
    """Returns the row of texts that `inputs.preprocess` reads in one way."""

    def described(model: TransferModel) -> Settings | None:
        backbone, shapes = model.backbone, [each.shape for each in model.inputs.values()]
        length, tokenizer = shapes[0][-1], backbone.tokenizer
        is_read = _has_script(tokenizer) and list(backbone.raw()) == list(probe)
        if not is_read or any(tuple(shape) != (None, length) for shape in shapes):
            return None
        prepared = backbone.preprocess(probe)
        expected = inputs.preprocess(tokenizer, probe, reads, length)
        if not _equal(*(signature.named(each, model.inputs) for each in (prepared, expected))):
            return None
        return {"module": "text", "reads": reads, "length": length, "texts": len(probe)}

    return described


def _has_script(tokenizer: Any) -> bool:
    """Returns whether a script cuts texts as a tokenizer does; that of byte pairs is GPT-2's."""
    if isinstance(tokenizer, BytePairs):
        return tokenizer.cut == "gpt2" and not (tokenizer.composed or tokenizer.whole_words)
    return type(tokenizer) in TOKENIZERS


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


_PROBE = "Ein Läufer, 2 cafés\u00a0& 日本: " + "x" * 120 + " isn't it? " * 100

_READERS: Mapping[tuple[str, ...], Callable[[TransferModel], Settings | None]] = {
    ("image",): _picture,
    ("text",): _read("text", {"text": _PROBE}),
    ("text", "text"): _read("pair", {"text": _PROBE, "pair": _PROBE[::-1]}),
    ("words",): _read("words", {"words": _PROBE.split()}),
}
"""By the meanings of the kinds that a client sends."""


def _word_pieces(tokenizer: WordPiece) -> dict[str, Any]:
    strip = tokenizer.strip_accents
    codes = characters.normalized(
        tf.range(POINTS),
        tokenizer.lowercase,
        tokenizer.lowercase if strip is None else strip,
        tokenizer.spaced_ideographs,
    )
    return {
        **_pieces("wordpiece", tokenizer),
        "characters": _runs(_changes(codes.numpy(), tokenizer.vocabulary)),
        "longest": tokenizer.longest,
        "unknown": tokenizer.vocabulary.index(tokenizer.unknown),
        "between": "",
    }


def _byte_pairs(tokenizer: BytePairs) -> dict[str, Any]:
    return {
        **_pieces("bytepairs", tokenizer),
        "characters": _runs(characters.kinds(tf.range(POINTS)).numpy()[:, None]),
        "merges": tokenizer.merges,
        "letters": bytepairs.LETTERS,
        "between": " ",
    }


TOKENIZERS: Mapping[type, Callable[[Any], dict[str, Any]]] = {
    BytePairs: _byte_pairs,
    WordPiece: _word_pieces,
}
"""What the script of a tokenizer needs."""


def _pieces(
    cutter: Literal["bytepairs", "wordpiece"], tokenizer: WordPiece | BytePairs
) -> dict[str, Any]:
    return {
        "cutter": cutter,
        "vocabulary": tokenizer.vocabulary,
        "padding": tokenizer.padding_id,
        "frames": [tokenizer.frame(texts) for texts in (1, 2)],
        "casing": casing.PATTERNS,
    }


def _changes(codes: np.ndarray, vocabulary: Sequence[str]) -> np.ndarray:
    """Returns what to add to a code point times 4, so that most neighbours have it in common.

    That a character is a space, or a letter without a piece, is all that matters of it: `_STRANGE`
    stands for such letters, which make any word unknown. Entries below `_NONE` hold nothing.

    Args:
        codes: From `characters.normalized`, of all code points.
        vocabulary: The pieces.
    """
    known = np.unique([*map(ord, {*"".join(vocabulary)})])
    kinds = codes & 3
    is_strange = (kinds == LETTER) & ~np.isin(codes >> 2, known)
    changes = codes - 4 * np.arange(POINTS)[:, None]
    changes = np.where(is_strange, _STRANGE, np.where(kinds == SPACE, SPACE, changes))
    changes[codes < 0] = _NONE
    again = is_strange[:, 1:] & is_strange[:, :-1]
    changes[:, 1:][again] = _NONE  # One is enough.
    return changes


def _runs(values: np.ndarray) -> list[list[int]]:
    """Returns the first code point of every run of equal values [POINTS, n], and the values."""
    first = np.flatnonzero(np.append(True, (values[1:] != values[:-1]).any(axis=1)))
    return [[int(i), *values[i][values[i] > _NONE].tolist()] for i in first]
