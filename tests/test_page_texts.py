"""The tokenizers of the try page, in a real browser, beside those of Python."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import chromium
import numpy as np
import pytest
from test_texts import PAIRS, WORDS, random_texts, real_texts
from tokenizers import ByteLevelBPETokenizer

from tlkeras.backbones.starter_text import StarterText
from tlkeras.formats import page_inputs
from tlkeras.frameworks import tf
from tlkeras.texts import inputs
from tlkeras.texts.bytepairs import LETTERS, BytePairs
from tlkeras.texts.inputs import Input
from tlkeras.texts.wordpiece import WordPiece

pytestmark = pytest.mark.slow

PAGE = Path(page_inputs.__file__).parent / "try_page"
CASED = WordPiece(
    (*WORDS.vocabulary, "É", "the\u0301", "N", "##N"),
    lowercase=False,
    strip_accents=False,
    spaced_ideographs=False,
    longest=7,
)
LACKING = BytePairs(tuple(each for each in PAIRS.vocabulary if each not in LETTERS[0xA0:]), ())

HARD = [
    "[UNK] [SEP] [PAD]", "##a #b", "a\u00a0b\u202fc\u3000d", "\x00a\u200bb\u200d\ufeffc\ufffd\x07",
    "café ÀÉÎ cafe\u0301 a\u0301\u0327", "日本語のtext中文", "한국어 각\ud7a3", "😀😀 a😀b 👍🏽 🇩🇪",
    "İstanbul ẞ ǅ Σς ﬁ", "½ ² ① Ⅷ ٣", "don't won't we'll I'd 're 'S ''s", "  a   b  ",
    "\n\n\tx\r\n y\u2028z", "—\u2013-…™", "\U0010ffff\ue000\U000e0001", "हिन्दी עברית العربية ก็ ะ",
    "x" * 99, "x" * 100, "x" * 101, "É" * 101, "a\u0301" * 101, "!" * 300,
]  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[chromium.Page]:
    """The page's scripts, without a model."""
    with (
        chromium.served(PAGE) as origin,
        chromium.opened(tmp_path_factory.mktemp("profile")) as opened,
    ):
        opened.open(f"{origin}/index.html")
        yield opened


def prepared(
    page: chromium.Page,
    tokenizer: WordPiece | BytePairs,
    reads: Input,
    length: int,
    examples: Sequence[Sequence[str]],
) -> list[dict[str, list[int]]]:
    """Returns the network's inputs as the page makes them."""
    settings = page_inputs.TOKENIZERS[type(tokenizer)](tokenizer)
    how = {"reads": reads, "length": length}
    page.run(
        "import('./text.js').then(({ prepared }) => { "
        f"window.prepare = prepared({json.dumps(settings)}, {json.dumps(how)}); }})"
    )
    found: list[dict[str, list[int]]] = []
    for first in range(0, len(examples), 250):
        found += page.run(
            f"{json.dumps(examples[first : first + 250])}.map((texts) => Object.fromEntries("
            "Object.entries(window.prepare(texts).arrays).map(([name, row]) => "
            "[name, Array.from(row)])))"
        )
    return found


def differing(
    page: chromium.Page,
    tokenizer: WordPiece | BytePairs,
    reads: Input,
    length: int,
    examples: Sequence[Sequence[str]],
) -> list[Sequence[str]]:
    """Returns the examples of which the page makes other inputs than Python."""
    columns: Any = [tf.constant(column) for column in zip(*examples, strict=True)]
    if reads == "words":
        columns = [tf.strings.split(columns[0]).to_tensor("")]
    keys = inputs.raw(reads)
    batch = dict(zip(keys, columns, strict=True))
    expected: Any = inputs.preprocess(tokenizer, batch, reads, length)
    rows = expected if isinstance(expected, dict) else {"token_ids": expected}
    rows = {name: np.asarray(each).tolist() for name, each in rows.items()}
    found = prepared(page, tokenizer, reads, length, examples)
    return [
        example
        for place, (example, one) in enumerate(zip(examples, found, strict=True))
        if one != {name: each[place] for name, each in rows.items()}
    ]


@pytest.mark.parametrize("length", [8, 200])
@pytest.mark.parametrize("reads", ["text", "pair", "words"])
@pytest.mark.parametrize(
    "tokenizer",
    [WORDS, CASED, PAIRS, LACKING],
    ids=["uncased", "cased", "pairs", "without some bytes"],
)
def test_the_page_makes_the_ids_that_python_makes(page, tokenizer, reads, length):
    texts = [*HARD, *random_texts(300, seed=5)]
    pairs = list(zip(texts, [*texts[7:], *texts[:7]], strict=True))
    examples = pairs if reads == "pair" else [[text] for text in texts]
    assert differing(page, tokenizer, reads, length, examples) == []


@pytest.mark.parametrize("tokenizer", [StarterText().tokenizer, PAIRS], ids=["starter", "pairs"])
def test_every_character_is_the_same_one_to_the_page(page, tokenizer):
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    words = [f"a{point}a" for point in points]
    texts = [[" ".join(words[first : first + 250])] for first in range(0, len(words), 250)]
    assert differing(page, tokenizer, "text", 2500, texts) == []


@pytest.mark.data
def test_real_texts_have_the_ids_that_python_gives_them(page, real_data):
    distinct = {text: text.isascii() for text in real_texts(real_data / "text") if text.strip()}
    plain, others = (
        [each for each in distinct if distinct[each] is kind] for kind in (True, False)
    )
    chance = random.Random(0)
    texts = [*chance.sample(others, 300), *chance.sample(plain, 1_700)]
    assert len({*texts}) == 2_000 and sum(not text.isascii() for text in texts) == 300
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=3_000, show_progress=False)
    ids = trained.get_vocab()
    merges = tuple(map(" ".join, json.loads(trained.to_str())["model"]["merges"]))
    pairs = BytePairs(("<pad>", *sorted(ids, key=ids.__getitem__)), merges, padding="<pad>")
    assert {*LETTERS} <= {*pairs.vocabulary} and len(merges) > 2_000
    for tokenizer in (StarterText().tokenizer, pairs):
        assert differing(page, tokenizer, "text", 128, [[text] for text in texts]) == []


def test_halves_of_characters_and_empty_texts_do_no_harm(page):
    halves = "['a\\ud83d b', '\\udc4d', '', ' ']"
    settings = json.dumps(page_inputs.TOKENIZERS[BytePairs](PAIRS))
    found = page.run(
        f"import('./text.js').then(({{ prepared }}) => {halves}.map((text) => Array.from("
        f"prepared({settings}, {{ reads: 'text', length: 12 }})([text]).arrays.token_ids)))"
    )
    expected = PAIRS(tf.constant(["a\ufffd b", "\ufffd", "", " "]), 12)
    assert found == expected.numpy().tolist()
