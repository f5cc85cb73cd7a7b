"""Tokenizers: what they cut by hand, and as the `tokenizers` package cuts it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tlkeras.frameworks import tf
from tlkeras.texts import folders
from tlkeras.texts.bytepairs import LETTERS, BytePairs
from tlkeras.texts.rows import one
from tlkeras.texts.wordpiece import WordPiece

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = WordPiece(
    (*SPECIAL, *"a b the un cafe new york i , ! ' 中 文 ##want ##ed ##s ##a".split())  # noqa: SIM905
)
PAIRS = BytePairs(
    ("<s>", "<pad>", "</s>", *LETTERS, "Ġt", "he", "Ġthe", "in", "Ġin", "ĠĠ", "'s"),
    ("Ġ t", "h e", "Ġt he", "i n", "Ġ in", "Ġ Ġ", "' s"),
    start="<s>",
    end="</s>",
    padding="<pad>",
)

ALPHABET = [
    *"aaabcdest rmvlINO''`_-.,!?  \t\n\r10²½Ⅷ٣",
    *"éàöüßİıΣςÅﬁªǅ",
    *"\u0301\u0327\u0344\u1e9b\u212a\u1f82\u0e33\u0f73",  # Marks, and what has some.
    *"\x00\x0b\x1c\x7f\x85\u00a0\u00ad\u200b\u200d\u2028\u3000\ufeff\ufffd",
    *"中文\uf900\U0002f800\U0002b820한글ゔｶﾞあ々",
    *"ёйיִאقाक्षไทยဃ្ខა\U00010428\U0001d165🙂👍🏽🇩🇪",
    *("the", "'s", "'re", " 've", "'ll", "'S", "''", "haha", "##a", "  ", "…", "™"),
]


def random_texts(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    texts = ["".join(chance.choices(ALPHABET, k=chance.randrange(40))) for _ in range(count)]
    return [*texts, "", " ", "a" * 100, "a" * 101, "a\u0301" * 60, "-" * 300, "中" * 130]


def pieces_of(tokenizer: WordPiece | BytePairs, texts: Sequence[str], length: int = 512) -> Any:
    """Returns the ids of texts without the padding."""
    ids = tokenizer(texts, length)
    assert ids.shape == (len(texts), length) and ids.dtype == tf.int32
    padding = tokenizer.vocabulary.index(tokenizer.padding) if tokenizer.padding else -1
    rows = ids.numpy()
    return [row[kept].tolist() for row, kept in zip(rows, rows != padding, strict=True)]


def reference(tokenizer: WordPiece | BytePairs) -> Tokenizer:
    """Returns the tokenizer that the `tokenizers` package makes of the same vocabulary."""
    ids = {piece: i for i, piece in enumerate(tokenizer.vocabulary)}
    if isinstance(tokenizer, WordPiece):
        made = Tokenizer(models.WordPiece(ids, unk_token=tokenizer.unknown))
        made.normalizer = normalizers.BertNormalizer(
            handle_chinese_chars=tokenizer.spaced_ideographs,
            strip_accents=tokenizer.strip_accents,
            lowercase=tokenizer.lowercase,
        )
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        frame: Any = processors.BertProcessing
    else:
        merges = [(a, b) for a, b in (merge.split(" ") for merge in tokenizer.merges)]
        made = Tokenizer(models.BPE(ids, merges))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        frame = processors.RobertaProcessing
    if tokenizer.start:
        ends = [(piece, ids[piece]) for piece in (tokenizer.end, tokenizer.start)]
        made.post_processor = frame(*ends)
    return made


def differing(tokenizer: WordPiece | BytePairs, texts: Sequence[str], length: int) -> list[str]:
    other = reference(tokenizer)
    other.enable_truncation(length)
    expected = [encoded.ids for encoded in other.encode_batch(texts)]
    found = pieces_of(tokenizer, texts, length)
    return [text for text, a, b in zip(texts, found, expected, strict=True) if a != b]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", ""),
        (" \t\r\n ", ""),
        ("the UNwanted", "the un ##want ##ed"),
        ("Café cafe\u0301s", "cafe cafe ##s"),
        ("new\u00a0york\u3000i", "new york i"),
        ("i中文a", "i 中 文 a"),
        ("the,!'the", "the , ! ' the"),
        ("t\u200bhe\x00 \ufffd t\x07he", "the the"),
        ("unwantedthe", "[UNK]"),
        ("a" * 100, "a" + " ##a" * 99),
        ("a" * 101 + " a", "[UNK] a"),
        ("[SEP] ##a", "[UNK] [UNK] [UNK] [UNK] [UNK] a"),
        ("İ i\u0307", "i i"),
        ("ÜN", "un"),
    ],
)
def test_words_are_cut_into_the_longest_pieces(text, pieces):
    expected = [2, *(WORDS.vocabulary.index(piece) for piece in pieces.split()), 3]
    assert pieces_of(WORDS, [text]) == [expected]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", ""),
        ("the", "t he"),
        (" the in", "Ġthe Ġin"),
        ("in  the", "in Ġ Ġthe"),
        ("in  ", "in ĠĠ"),
        ("in   ", "in ĠĠ Ġ"),
        ("in's", "in 's"),
        ("in 's", "in Ġ ' s"),
        ("!'s", "! ' s"),
        ("\u00e9", "Ã ©"),
        ("\n", "Ċ"),
    ],
)
def test_bytes_are_merged_in_the_order_of_training(text, pieces):
    expected = [0, *(PAIRS.vocabulary.index(piece) for piece in pieces.split()), 2]
    assert pieces_of(PAIRS, [text]) == [expected]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lowercase": False},
        {"lowercase": False, "strip_accents": True},
        {"strip_accents": False},
        {"spaced_ideographs": False},
    ],
    ids=str,
)
def test_random_texts_of_many_scripts_are_cut_as_by_tokenizers(options):
    chance = random.Random(1)
    texts = random_texts(400, seed=2)
    normal = reference(WordPiece(SPECIAL, **options)).normalizer
    words = [word for text in texts for word in normal.normalize_str(text).split()]
    parts = [word[(i := chance.randrange(len(word))) : i + chance.randint(1, 4)] for word in words]
    pieces = {f"{'##' * chance.randrange(2)}{part}": None for part in parts}
    singles = {f"{start}{c}": None for start in ("", "##") for word in words for c in word}
    rare = chance.sample([*singles], len(singles) // 8)
    pieces = [piece for piece in pieces | singles if piece not in {*rare}]
    tokenizer = WordPiece((*SPECIAL, *pieces), **options)
    assert differing(tokenizer, texts, 512) == []
    cut = pieces_of(tokenizer, texts)
    assert sum(1 in row for row in cut) > 50 and sum(1 not in row for row in cut) > 50


def random_merges(texts: Sequence[str], count: int, chance: random.Random) -> Iterator[str]:
    """Yields merges of pieces that stand side by side, each of pieces that are there already."""
    words = [w for t in texts for w, _ in pre_tokenizers.ByteLevel(False).pre_tokenize_str(t)]
    known = [[*word] for word in words if len(word) > 1]
    seen: set[str] = set()
    while len(seen) < count:
        word = chance.choice(known)
        i = chance.randrange(max(1, len(word) - 1))
        pair = word[i : i + 2]
        if len(pair) == 2 and " ".join(pair) not in seen:
            seen.add(" ".join(pair))
            yield " ".join(pair)
        if len(pair) == 2:
            word[i : i + 2] = ["".join(pair)]


@pytest.mark.parametrize(
    ("shuffled", "lacking"),
    [(False, ""), (True, ""), (False, LETTERS[:9] + LETTERS[0x98:0xC4])],
    ids=["as trained", "in any order", "without some bytes"],
)
def test_random_texts_of_many_scripts_are_merged_as_by_tokenizers(shuffled, lacking):
    chance = random.Random(3)
    texts = random_texts(400, seed=4)
    merges = [each for each in random_merges(texts, 300, chance) if not {*each} & {*lacking}]
    letters = [letter for letter in LETTERS if letter not in lacking]
    if shuffled:
        chance.shuffle(merges)
    made = dict.fromkeys("".join(merge.split(" ")) for merge in merges)
    tokenizer = BytePairs(
        (*letters, *(piece for piece in made if piece not in {*LETTERS})), (*merges,)
    )
    assert differing(tokenizer, texts, 1024) == differing(tokenizer, texts, 9) == []
    assert max(map(len, pieces_of(tokenizer, texts, 1024))) > 100


@pytest.mark.slow
def test_every_character_is_cut_as_by_tokenizers():
    # Of Unicode 15 and later: Python has no small letter for them, or has from some version on.
    capitals = {0x1C89, 0xA7CB, 0xA7CC, 0xA7CE, 0xA7D2, 0xA7D4, 0xA7DA, 0xA7DC}
    capitals |= {*range(0x10D50, 0x10D66), *range(0x16EA0, 0x16EB9)}
    # Numbers of no character, for private use, and of ideographs and syllables are alike for long
    # stretches: a part of them is enough, with all where one stretch ends.
    alike = {"Cn", "Co", "Lo"}
    kinds = [unicodedata.category(chr(p)) for p in range(0x110000)]
    points = [
        p
        for p, kind in enumerate(kinds)
        if (p % 16 == 0 or kind not in alike or {*kinds[p - 1 : p + 2]} != {kind})
        and not 0xD800 <= p < 0xE000
        and p not in capitals
    ]
    assert len(points) > 50_000
    texts = [f"a{c} {c}{c}'s 1{c}a !{c}" for c in map(chr, points)]
    singles = [f"{start}{chr(p)}" for start in ("", "##") for p in points if chr(p) not in "\r\n"]
    tokenizer = WordPiece((*SPECIAL, *dict.fromkeys(singles)))
    for start in range(0, len(texts), 100_000):
        many = texts[start : start + 100_000]
        assert differing(tokenizer, many, 32) == []
        assert differing(PAIRS, many, 64) == []


@pytest.mark.parametrize("tokenizer", [WORDS, PAIRS], ids=["wordpiece", "bytepairs"])
def test_a_text_too_long_loses_its_end_and_a_single_one_has_no_batch(tokenizer):
    text = "the cafe 's a in the end of new york"
    whole = pieces_of(tokenizer, [text])[0]
    for length in (2, 3, 9, len(whole) - 1, len(whole), len(whole) + 2):
        row = tokenizer(text, length).numpy().tolist()
        padding = [tokenizer.vocabulary.index(tokenizer.padding)] * (length - len(whole))
        kept = [*whole[: length - 1], whole[-1]] if length < len(whole) else whole
        assert row == [*kept, *padding]
        assert tokenizer(tf.constant(text), length).shape == [length]
    with pytest.raises(ValueError, match=r"length is 1, expected at least 2, the special pieces."):
        tokenizer([text], 1)


def test_all_graphs_and_lengths_share_one_trace_of_a_tokenizer(monkeypatch):
    texts, lengths = ["unwanted cafes", "a b the i"], (4, 9)
    expected = [pieces_of(WORDS, texts, length) for length in lengths]
    pieces, traces = WordPiece._pieces, []

    def traced(self, texts, most):
        traces.append(texts)
        return pieces(self, texts, most)

    monkeypatch.setattr(WordPiece, "_pieces", traced)
    framed: list[Any] = []
    monkeypatch.setattr(
        "tlkeras.texts.rows.one", lambda *given: framed.append(given) or one(*given)
    )
    tokenizer = WordPiece(WORDS.vocabulary)
    for length, ids in zip(lengths, expected, strict=True):
        for size in (1, 2):
            batches = tf.data.Dataset.from_tensor_slices(texts).batch(size)
            cut = batches.map(lambda batch, length=length: tokenizer(batch, length)).unbatch()
            assert [[i for i in row if i] for row in cut.as_numpy_iterator()] == ids
        assert pieces_of(tokenizer, texts, length) == ids
    assert len(framed) == len(lengths)
    tokenizer.pair(texts, texts, 9)
    tokenizer.words(tf.strings.split(texts), 9)
    assert len(traces) == 1


@pytest.mark.parametrize("tokenizer", [WORDS, PAIRS], ids=["wordpiece", "bytepairs"])
def test_of_a_pair_the_longer_is_cut_first(tokenizer):
    texts = ["a " * n for n in range(8)]
    pairs = [(a.strip(), b.strip()) for a in texts for b in texts]
    first, second = (list(column) for column in zip(*pairs, strict=True))
    other = reference(tokenizer)
    for length in (5, 6, 8, 11, 18):
        other.enable_truncation(length)
        other.enable_padding(length=length, pad_id=tokenizer.vocabulary.index(tokenizer.padding))
        ids, segments = tokenizer.pair(first, second, length)
        expected = other.encode_batch(pairs)
        assert ids.numpy().tolist() == [encoded.ids for encoded in expected]
        if tokenizer is WORDS:  # RoBERTa has a single segment.
            assert segments.numpy().tolist() == [encoded.type_ids for encoded in expected]
        one = [part.numpy().tolist() for part in tokenizer.pair(first[9], second[9], length)]
        assert one == [part.numpy()[9].tolist() for part in (ids, segments)]


def test_starts_tell_which_word_a_piece_begins():
    words = ["Unwanted", "\u200b", "i中", "new\u00a0york", "café's"]
    ids, starts = WORDS.words(words, 14)
    pieces = "[CLS] un ##want ##ed i 中 new york cafe ' [UNK] [SEP] [PAD] [PAD]"
    assert " ".join(WORDS.vocabulary[i] for i in ids.numpy()) == pieces
    assert starts.numpy().tolist() == [-1, 0, -1, -1, 2, -1, 3, -1, 4, -1, -1, -1, -1, -1]
    assert ids.numpy().tolist() == WORDS(" ".join(words), 14).numpy().tolist()
    _, cut = WORDS.words(words, 8)
    assert cut.numpy().tolist() == [-1, 0, -1, -1, 2, -1, 3, -1]

    words = tf.strings.split(["the in  's", "", " in "])
    ids, starts = PAIRS.words(words, 8)
    assert starts.numpy().tolist() == [
        [-1, 0, -1, 1, 2, -1, -1, -1],
        [-1] * 8,
        [-1, 0, -1, -1, -1, -1, -1, -1],
    ]
    assert ids.numpy().tolist() == PAIRS(["the in 's", "", "in"], 8).numpy().tolist()


def test_bytes_that_are_no_utf8_do_no_harm():
    text = tf.constant([b"the\xff cafe\xc3"])
    assert pieces_of(WORDS, text) == pieces_of(WORDS, ["the cafe"])
    assert pieces_of(PAIRS, text) == pieces_of(PAIRS, ["the\ufffd cafe\ufffd"])


LOADED = """
import json, sys
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
print(json.dumps({key: ids.numpy().tolist() for key, ids in served(tf.constant(json.loads(
    sys.argv[2]))).items()}))
assert not {"tlkeras", "tensorflow_text", "keras_hub", "tokenizers"} & {*sys.modules}
"""


@pytest.mark.slow
def test_a_saved_model_takes_texts_and_loads_with_tensorflow_alone(tmp_path):
    texts = ["Café\u00a0the, in 中's", "", "  the in's"]
    module = tf.Module()

    def served(texts: Any) -> dict[str, Any]:
        return {"words": WORDS(texts, 16), "pairs": PAIRS(texts, 20)}

    module.served = tf.function(
        served, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.served)
    command = [sys.executable, "-I", "-c", LOADED, str(tmp_path), json.dumps(texts)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found == {key: ids.numpy().tolist() for key, ids in served(texts).items()}

    data = tf.data.Dataset.from_tensor_slices(texts)
    single = data.map(served).batch(3)
    whole = data.batch(3).map(served)
    for ids in (*single.as_numpy_iterator(), *whole.as_numpy_iterator()):
        assert {key: rows.tolist() for key, rows in ids.items()} == found


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WordPiece((*SPECIAL, "a", "a")), r"vocabulary has 'a' twice."),
        (
            lambda: WordPiece(SPECIAL[:3]),
            r"end is '\[SEP\]', which the vocabulary does not have.",
        ),
        (lambda: BytePairs((*LETTERS.replace("a", ""),), ()), r"vocabulary needs 'a', which"),
        (lambda: BytePairs((*LETTERS,), ("a b",)), r"merges needs 'ab', which"),
        (lambda: BytePairs((*LETTERS,), ("a",)), r"merges has 'a', expected two pieces"),
        (lambda: BytePairs((*LETTERS,), (), end="</s>"), r"end needs '</s>', which"),
    ],
)
def test_a_vocabulary_that_lacks_a_piece_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_folder_gives_the_tokenizer_that_was_saved_in_it(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS.vocabulary) + "\n", encoding="utf-8")
    assert folders.wordpiece(tmp_path) == WORDS
    cased = WordPiece(WORDS.vocabulary, False, strip_accents=True, spaced_ideographs=False)
    reference(cased).save(str(tmp_path / "tokenizer.json"))
    assert folders.wordpiece(tmp_path) == cased
    config = {
        "do_lower_case": True,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "pad_token": {"content": "[UNK]"},
        "tokenizer_class": "BertTokenizer",
        "model_max_length": 512,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert folders.wordpiece(tmp_path) == WordPiece(WORDS.vocabulary, padding="[UNK]")


def test_an_empty_file_of_merges_is_named(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0}))
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(ValueError, match=r"merges\.txt is empty; fetch it"):
        folders.byte_pairs(tmp_path)


def test_a_folder_gives_the_byte_pairs_that_were_saved_in_it(tmp_path):
    ids = {piece: i for i, piece in enumerate(PAIRS.vocabulary)}
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    (tmp_path / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *PAIRS.merges, ""]), encoding="utf-8"
    )
    plain = BytePairs(PAIRS.vocabulary, PAIRS.merges)
    assert folders.byte_pairs(tmp_path) == plain
    reference(plain).save(str(tmp_path / "tokenizer.json"))
    assert folders.byte_pairs(tmp_path) == plain
    reference(PAIRS).save(str(tmp_path / "tokenizer.json"))
    assert folders.byte_pairs(tmp_path) == PAIRS
    (tmp_path / "tokenizer.json").unlink()
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    assert folders.byte_pairs(tmp_path) == PAIRS
    config.write_text(json.dumps({"add_bos_token": True, "bos_token": "<s>"}))
    assert folders.byte_pairs(tmp_path) == BytePairs(plain.vocabulary, plain.merges, start="<s>")


def test_settings_that_change_no_byte_pairs_are_allowed(tmp_path):
    reference(PAIRS).save(str(tmp_path / "tokenizer.json"))
    config: Any = {"padding_side": "left", "add_prefix_space": None}  # As decoders generate.
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert folders.byte_pairs(tmp_path) == PAIRS


def test_a_piece_for_unknown_bytes_is_refused_where_bytes_are_lacking(tmp_path):
    model: Any = {"type": "BPE", "vocab": {letter: i for i, letter in enumerate(LETTERS[:-3])}}
    model |= {"merges": [], "unk_token": LETTERS[0]}
    words = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    parts = {"normalizer": None, "pre_tokenizer": words, "post_processor": None}
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({"added_tokens": [], "model": model, **parts}))
    with pytest.raises(ValueError, match=r"tokenizer.json: model.unk_token is 'Ā', .* 3 bytes"):
        folders.byte_pairs(tmp_path)
    model["unk_token"] = None
    file.write_text(json.dumps({"added_tokens": [], "model": model, **parts}))
    assert len(folders.byte_pairs(tmp_path).vocabulary) == 253


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("tokenizer_config.json", {"padding_side": "left"}, "padding_side is 'left', expected"),
        ("tokenizer_config.json", {"do_basic_tokenize": False}, "do_basic_tokenize is False"),
        ("tokenizer_config.json", {"never_split": ["x"]}, r"never_split is \['x'\], expected None"),
        ("tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"}, "tokenizer_class is 'T5Tok"),
        ("tokenizer.json", {"normalizer": None}, "normalizer.type is None, expected 'BertN"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Split"}}, "pre_tokenizer.type is 'Split'"),
        ("tokenizer.json", {"added_tokens": [{"content": "x", "special": False}]}, "has 'x', exp"),
        ("tokenizer.json", {"model": {"type": "Unigram"}}, "model.type is 'Unigram', expected"),
    ],
)
def test_settings_that_would_change_pieces_are_refused_by_name(tmp_path, file, change, message):
    reference(WORDS).save(str(tmp_path / "tokenizer.json"))
    path = tmp_path / file
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(settings | change))
    with pytest.raises(ValueError, match=f"{file}: .*{message}"):
        folders.wordpiece(tmp_path)


def real_texts(folder: Path) -> Iterator[str]:
    """Yields every line of the files of texts, and the sentences of those that hold words."""
    for file in sorted(folder.glob("*/*")):
        raw = file.read_bytes()
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        if file.suffix == ".conll":
            lines = [line.partition("\t")[0] for line in text.split("\n")]
            text = "\n".join(" ".join(lines).split("  "))
        yield from text.split("\n")


@pytest.mark.data
@pytest.mark.parametrize("kind", ["wordpiece", "bytepairs"])
def test_real_texts_are_cut_as_by_tokenizers(real_data, kind):
    folder = real_data / "weights/text"
    if kind == "wordpiece":
        pieces = (folder / "bert_uncased_vocab.txt").read_text(encoding="utf-8").split("\n")
        tokenizer: Any = WordPiece(tuple(pieces[:-1]))
    else:
        ids = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        merges = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
        tokenizer = BytePairs(tuple(sorted(ids, key=ids.__getitem__)), tuple(merges))
    texts = [*real_texts(real_data / "text")]
    assert len(texts) > 66_000 and sum(not text.isascii() for text in texts) > 1000
    other = reference(tokenizer)
    other.enable_truncation(10_000)
    differ = 0
    for start in range(0, len(texts), 256):
        batch = texts[start : start + 256]
        rows = tokenizer(batch, 10_000).numpy()
        for row, expected in zip(rows, other.encode_batch(batch), strict=True):
            differ += row[: len(expected.ids)].tolist() != expected.ids
    assert differ == 0
