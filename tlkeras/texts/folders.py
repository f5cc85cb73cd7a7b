"""Folders: tokenizers read from what Hugging Face's libraries write beside a network's weights.

``tokenizer.json`` says all; else there are ``vocab.txt``, or ``vocab.json`` and ``merges.txt``.
What ``tokenizer_config.json`` says goes before both. A setting that would change a piece and is not
known here is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlkeras import files
from tlkeras.texts import cuts
from tlkeras.texts.bytepairs import LETTERS, BytePairs
from tlkeras.texts.cuts import Cut
from tlkeras.texts.wordpiece import WordPiece

Settings = Mapping[str, Any]

_JSON, _CONFIG = "tokenizer.json", "tokenizer_config.json"

# Of each setting the values that change nothing here; that it is missing is one of them.
_CONFIG_ALLOWED: dict[str, Sequence[Any]] = {"truncation_side": ["right"]}
_BERT = tuple(
    f"{name}Tokenizer"
    for name in ("Bert", "DistilBert", "Electra", "MobileBert", "ConvBert", "RetriBert")
)
_ROBERTA = ("RobertaTokenizer", "BartTokenizer", "LongformerTokenizer", "LEDTokenizer")
# Their words are told by ``tokenizer.json`` alone.
_WHOLE_ALONE = ("PreTrainedTokenizer", "Qwen2Tokenizer", "TokenizersBackend", "LlamaTokenizer")


def _classes(*names: str) -> Sequence[str]:
    """Returns the names of tokenizers, also of those that are written in Rust."""
    return [f"{name}{fast}" for name in names for fast in ("", "Fast")]


_BERT_CONFIG: dict[str, Sequence[Any]] = {
    "padding_side": ["right"],
    "tokenizer_class": _classes(*_BERT, *_WHOLE_ALONE),
    "do_basic_tokenize": [True],
    "never_split": [None, []],
    "clean_text": [True],
    "wordpieces_prefix": ["##"],
}
_BERT_MODEL: dict[str, Sequence[Any]] = {
    "type": ["WordPiece"],
    "continuing_subword_prefix": ["##"],
}
_BERT_NORMALIZER: dict[str, Sequence[Any]] = {"type": ["BertNormalizer"], "clean_text": [True]}
_BERT_WORDS: dict[str, Sequence[Any]] = {"type": ["BertPreTokenizer"]}
_BERT_FRAME: dict[str, Sequence[Any]] = {"type": [None, "BertProcessing", "TemplateProcessing"]}

_PAIRS_CONFIG: dict[str, Sequence[Any]] = {
    "tokenizer_class": _classes("GPT2Tokenizer", *_ROBERTA, *_WHOLE_ALONE),
    "add_prefix_space": [None, False],
    "add_eos_token": [None, False],
    "errors": ["replace"],
}
_PAIRS_MODEL: dict[str, Sequence[Any]] = {
    "type": ["BPE"],
    "dropout": [None],
    "continuing_subword_prefix": [None, ""],
    "end_of_word_suffix": [None, ""],
    "byte_fallback": [False],
}
_PAIRS_NORMALIZER: dict[str, Sequence[Any]] = {"type": [None, "NFC"]}
_PAIRS_FRAME: dict[str, Sequence[Any]] = {
    "type": [None, "ByteLevel", "RobertaProcessing", "TemplateProcessing", "Sequence"]
}


def _split(expression: str) -> Settings:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated"}


_BYTES: Settings = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_BYTES_ALONE: Settings = {**_BYTES, "use_regex": False}
_CUTS: Sequence[tuple[Cut, Sequence[Settings]]] = (
    ("gpt2", [_BYTES]),
    ("single_digits", [{"type": "Digits", "individual_digits": True}, _BYTES]),
    ("llama3", [_split(cuts.LLAMA3), _BYTES_ALONE]),
    ("qwen2", [_split(cuts.QWEN2), _BYTES_ALONE]),
)


def wordpiece(folder: Path) -> WordPiece:
    """Returns the tokenizer of a BERT-like network."""
    config = configuration(folder, _BERT_CONFIG)
    whole = _whole(folder, config)
    options: dict[str, Any] = {}
    if whole:
        file, model, normalizer = folder / _JSON, whole["model"], whole["normalizer"]
        _refuse_parts(file, whole, _BERT_NORMALIZER, _BERT_WORDS, _BERT_MODEL, _BERT_FRAME)
        options["lowercase"] = normalizer["lowercase"]
        options["strip_accents"] = normalizer["strip_accents"]
        options["spaced_ideographs"] = normalizer["handle_chinese_chars"]
        options["longest"] = model["max_input_chars_per_word"]
        options["unknown"] = model["unk_token"]
        vocabulary = _in_order(file, model["vocab"])
    else:
        vocabulary = _lines(folder / "vocab.txt")
    names = {
        "do_lower_case": "lowercase",
        "strip_accents": "strip_accents",
        "tokenize_chinese_chars": "spaced_ideographs",
        "unk_token": "unknown",
        "cls_token": "start",
        "sep_token": "end",
        "pad_token": "padding",
    }
    options |= {names[name]: _token(config[name]) for name in names if name in config}
    return WordPiece(vocabulary, **options)


def byte_pairs(folder: Path, framed: bool = False) -> BytePairs:
    """Returns the tokenizer of a network like GPT-2, RoBERTa, Llama 3, Qwen 2 or SmolLM2.

    Args:
        folder: Of its files.
        framed: Whether texts have RoBERTa's frame where no file says what they have.
    """
    config = configuration(folder, _PAIRS_CONFIG)
    whole = _whole(folder, config)
    options: dict[str, Any] = {}
    if whole:
        file, model = folder / _JSON, whole["model"]
        _refuse_parts(file, whole, _PAIRS_NORMALIZER, {}, _PAIRS_MODEL, _PAIRS_FRAME)
        added = {token["content"]: token["id"] for token in whole["added_tokens"]}
        vocabulary = _in_order(file, {**model["vocab"], **added})
        options["cut"] = _cut(file, whole["pre_tokenizer"])
        options["composed"] = whole["normalizer"] is not None
        options["whole_words"] = model.get("ignore_merges", False)
        if model.get("unk_token") and (lacking := {*LETTERS} - {*vocabulary}):
            raise ValueError(
                f"{file}: model.unk_token is {model['unk_token']!r}, expected None, because the "
                f"vocabulary lacks {len(lacking)} bytes."
            )
        pairs = model["merges"]  # Each as a text or, written since 2024, as a list of two.
        merges = tuple(pair if isinstance(pair, str) else " ".join(pair) for pair in pairs)
    else:
        vocabulary = _in_order(folder / "vocab.json", _json(folder / "vocab.json", needed=True))
        lines = _lines(folder / "merges.txt")
        if not lines:
            raise ValueError(f"{folder / 'merges.txt'} is empty; fetch it once more.")
        merges = lines[lines[0].startswith("#version") :]
    frame = (whole.get("post_processor") or {}).get("type")
    unsaid = not whole and "tokenizer_class" not in config
    if frame == "RobertaProcessing" or _class(config) in _ROBERTA or (framed and unsaid):
        special = {"start": "<s>", "end": "</s>", "padding": "<pad>"}
        names = {"cls_token": "start", "sep_token": "end", "pad_token": "padding"}
    else:
        special = _template(folder / _JSON, whole.get("post_processor"))
        names = {"pad_token": "padding"}
        names |= {"bos_token": "start"} if config.get("add_bos_token") else {}
    special |= {names[name]: _token(config[name]) or "" for name in names if name in config}
    return BytePairs(vocabulary, merges, **special, **options)


def is_of_sentencepiece(folder: Path) -> bool:
    """Returns whether ``tokenizer.json`` copies a tokenizer of SentencePiece, as of Llama 2."""
    return _json(folder / _JSON).get("model", {}).get("byte_fallback", False)


def configuration(folder: Path, allowed: Mapping[str, Sequence[Any]]) -> Settings:
    """Returns the settings in ``tokenizer_config.json``, none if there is no such file.

    Args:
        folder: Of the file.
        allowed: Of each setting the values that change nothing here.

    Raises:
        ValueError: A setting has another value.
    """
    config = _json(folder / _CONFIG)
    _refuse(folder / _CONFIG, config, {**_CONFIG_ALLOWED, **allowed})
    return config


def _cut(file: Path, splitter: Any) -> Cut:
    """Returns which of `cuts` a ``pre_tokenizer`` is.

    Raises:
        ValueError: It is none of them.
    """
    parts = splitter["pretokenizers"] if (splitter or {}).get("type") == "Sequence" else [splitter]
    for cut, settings in _CUTS:
        if len(parts) == len(settings) and all(map(_has, parts, settings)):
            return cut
    raise ValueError(
        f"{file}: pre_tokenizer is {splitter}, expected that of GPT-2, SmolLM2, Llama 3 or Qwen 2."
    )


def _has(part: Any, settings: Settings) -> bool:
    """Returns whether a part has these settings, those that older files leave out aside."""
    known = {**settings, "invert": False}
    return (
        part is not None
        and "type" in part
        and all(part[name] == value for name, value in known.items() if name in part)
    )


def _template(file: Path, frame: Any) -> dict[str, str]:
    """Returns the special pieces before and behind a text.

    Raises:
        ValueError: There are several on a side.
    """
    parts = frame["processors"] if (frame or {}).get("type") == "Sequence" else [frame]
    found: dict[str, str] = {}
    for part in parts:
        side = "start"
        for piece in part["single"] if part and part["type"] == "TemplateProcessing" else ():
            if "Sequence" in piece:
                side = "end"
            elif side in found:
                raise ValueError(f"{file}: post_processor has several pieces at the {side}.")
            else:
                found[side] = piece["SpecialToken"]["id"]
    return found


def _class(config: Settings) -> str:
    return config.get("tokenizer_class", "").removesuffix("Fast")


def _whole(folder: Path, config: Settings) -> dict[str, Any]:
    """Returns what ``tokenizer.json`` holds, nothing if there is none.

    Raises:
        ValueError: There is none, and the class of the tokenizer says too little.
    """
    whole = _json(folder / _JSON)
    if not whole and _class(config) in _WHOLE_ALONE:
        raise ValueError(f"{folder} has no {_JSON}, which says how its texts are cut into words.")
    return whole


def _json(file: Path, needed: bool = False) -> dict[str, Any]:
    """Returns what a file holds, nothing if there is none and none is needed."""
    if not needed and not file.exists():
        return {}
    return files.read_json(file)


def _lines(file: Path) -> tuple[str, ...]:
    """Returns the lines of a file; only a line feed ends one, for pieces may hold other breaks."""
    lines = file.read_bytes().decode("utf-8").split("\n")
    return tuple(line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1]))


def _in_order(file: Path, ids: Mapping[str, int]) -> tuple[str, ...]:
    pieces = sorted(ids, key=ids.__getitem__)
    if [ids[piece] for piece in pieces] != [*range(len(ids))]:
        raise ValueError(f"{file}: the ids of the {len(ids)} pieces are not 0 … {len(ids) - 1}.")
    return tuple(pieces)


def _token(value: Any) -> Any:
    """Returns a setting; special pieces are texts or, with how they are found, mappings."""
    return value["content"] if isinstance(value, Mapping) else value


def _refuse_parts(file: Path, whole: Settings, *allowed: Mapping[str, Sequence[Any]]) -> None:
    """Raises ValueError for what a ``tokenizer.json`` holds beyond what is allowed of its parts.

    Pieces that are found in a text before it is cut are refused, too, unless they are special.
    """
    parts = ("normalizer", "pre_tokenizer", "model", "post_processor")
    for part, values in zip(parts, allowed, strict=True):
        _refuse(file, whole[part] or {"type": None}, values, f"{part}.")
    plain = [token for token in whole["added_tokens"] if not token["special"]]
    # Those in angle brackets are left out where a text spells them, as special ones are.
    if plain := [token for token in plain if not re.fullmatch(r"<[^<>]+>", token["content"])]:
        raise ValueError(
            f"{file}: added_tokens has {plain[0]['content']!r}, expected special ones alone."
        )


def _refuse(
    file: Path, settings: Settings, allowed: Mapping[str, Sequence[Any]], within: str = ""
) -> None:
    for name, values in allowed.items():
        if name in settings and settings[name] not in values:
            raise ValueError(
                f"{file}: {within}{name} is {settings[name]!r}, "
                f"expected {' or '.join(map(repr, values))}."
            )
