"""Words of Llama 3, Qwen 2 and SmolLM2, as the `tokenizers` package cuts and merges them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from test_texts import random_merges, random_texts, real_texts
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, processors
from tokenizers import pre_tokenizers as words

from tlkeras.frameworks import tf
from tlkeras.texts import composing, cuts, folders
from tlkeras.texts.bytepairs import LETTERS

BYTES = words.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = words.ByteLevel(add_prefix_space=False)


def split(expression: str) -> Any:
    return words.Split(Regex(expression), "isolated")


# Written out as in the folders that are published.
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
FAMILIES: dict[str, Any] = {
    "smollm2": (words.Sequence([words.Digits(individual_digits=True), GPT2]), None, False),
    "llama3": (words.Sequence([split(CONTRACTIONS + r"\p{N}{1,3}" + REST), BYTES]), None, True),
    "qwen2": (
        words.Sequence([split(CONTRACTIONS + r"\p{N}" + REST), BYTES]),
        normalizers.NFC(),
        False,
    ),
}
PARTS = ["\n", "\r\n", " \n", "\t", "'", "'S", "'\u017f", "'RE", "'lL", "'x", "!", "?!\n", "123"]
PARTS += ["1234567", "½", "a", "be", "ad", " ", "  ", "中", "\u00a0", "\n\n", "'t12", "e\u0301"]


def some_texts(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    texts = ["".join(chance.choices(PARTS, k=chance.randrange(25))) for _ in range(count)]
    return [*texts, *random_texts(count, seed)]


def published(family: str, ids: dict[str, int], merges: list[str]) -> Tokenizer:
    """Returns a tokenizer with the parts of a family; its special pieces come last."""
    words, normalizer, whole = FAMILIES[family]
    pairs = [(a, b) for a, b in (merge.split(" ") for merge in merges)]
    made = Tokenizer(models.BPE(ids, pairs, ignore_merges=whole))
    made.pre_tokenizer = words
    made.normalizer = normalizer
    special = ["<|begin|>", "<|end|>"]
    made.add_special_tokens([AddedToken(piece, special=True) for piece in special])
    made.add_tokens([AddedToken("<tool_call>", special=False)])
    if family == "llama3":
        frame = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", made.token_to_id("<|begin|>"))]
        )
        made.post_processor = processors.Sequence([processors.ByteLevel(), frame])
    return made


def read(made: Tokenizer, folder: Path) -> Any:
    """Returns our tokenizer from the folder of another."""
    made.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folders.byte_pairs(folder)


def differing(tokenizer: Any, made: Tokenizer, texts: list[str], length: int) -> list[str]:
    made.enable_truncation(length)
    found = []
    padding = tokenizer.vocabulary.index(tokenizer.padding)
    for start in range(0, len(texts), 256):
        batch = texts[start : start + 256]
        rows = tokenizer(batch, length).numpy()
        for text, row, other in zip(batch, rows, made.encode_batch(batch), strict=True):
            size = len(other.ids)
            if row[:size].tolist() != other.ids or (row[size:] != padding).any():
                found.append(text)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_random_texts_are_cut_as_by_the_tokenizer_in_a_published_folder(tmp_path, family):
    texts = some_texts(300, seed=5)
    merges = [*random_merges(texts, 300, random.Random(6))]
    # The last pieces are such that no merges lead to them.
    pieces = ["".join(merge.split(" ")) for merge in merges]
    pieces = dict.fromkeys([*LETTERS, *pieces, "be'", "Ġad", "aaaaa", "'x", "abead", "Ċ!", "12"])
    made = published(family, {piece: i for i, piece in enumerate(pieces)}, merges)
    tokenizer = read(made, tmp_path)
    assert tokenizer.whole_words == (family == "llama3")
    texts += [" ad", "be'", "aaaaa", "abead abead'x", "12", "", " ", "éa\u0301"]
    assert differing(tokenizer, made, texts, 128) == []
    if family == "llama3":
        whole = tokenizer.vocabulary.index("abead")
        assert tokenizer("abead", 2).numpy().tolist() == [len(pieces), whole]


def test_the_expressions_are_those_of_the_published_folders():
    assert CONTRACTIONS + r"\p{N}{1,3}" + REST == cuts.LLAMA3
    assert CONTRACTIONS + r"\p{N}" + REST == cuts.QWEN2


def test_letters_and_marks_become_one_character_as_by_tokenizers():
    chance = random.Random(7)
    parts = [*"aeiouc <=", *"\u0301\u0308\u0323\u0327\u0304\u0345\u0334", "\u00e7", "\u1ea5"]
    parts += [*"\u09c7\u09be\u0cc6\u0cc2\u0cd5\u1100\u1161\u11a8\uac00\u2126\u0344\u1e9b\u1abf"]
    texts = ["".join(chance.choices(parts, k=chance.randrange(12))) for _ in range(2000)]
    points = tf.strings.unicode_decode(texts, "UTF-8")
    rows = tf.cast(points.value_rowids(), tf.int32)
    found, rows = composing.composed(points.values, rows)
    whole = tf.RaggedTensor.from_value_rowids(found, rows, len(texts))
    normalizer = normalizers.NFC()
    expected = [normalizer.normalize_str(text) for text in texts]
    assert expected != texts
    encoded = tf.strings.unicode_encode(whole, "UTF-8").numpy()
    assert [text.decode() for text in encoded] == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a"}}}, "pre_tokenizer is "),
        ({"pre_tokenizer": None}, "pre_tokenizer is None, expected that of GPT-2"),
        ({"normalizer": {"type": "NFKC"}}, "normalizer.type is 'NFKC'"),
        ({"added_tokens": [{"id": 0, "content": "x", "special": False}]}, "added_tokens has 'x'"),
    ],
)
def test_what_would_cut_texts_otherwise_is_refused(tmp_path, change, message):
    made = published("qwen2", {piece: i for i, piece in enumerate(LETTERS)}, [])
    read(made, tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | change))
    with pytest.raises(ValueError, match=message):
        folders.byte_pairs(tmp_path)


@pytest.mark.data
@pytest.mark.parametrize("family", FAMILIES)
def test_real_texts_are_cut_as_by_the_tokenizer_in_a_published_folder(real_data, tmp_path, family):
    folder = real_data / "weights/text"
    ids = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    ids.pop("<|endoftext|>")
    merges = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    made = published(family, ids, merges)
    texts = [*real_texts(real_data / "text")][::4]  # `test_texts` cuts all, a family the same way.
    # Lines joined, as texts of several lines are, accents apart, and numbers.
    texts += ["\n".join(texts[i : i + 3]) for i in range(0, 6000, 3)]
    texts += some_texts(500, seed=8)
    assert differing(read(made, tmp_path), made, texts, 8192) == []
