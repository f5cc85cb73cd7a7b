"""Entities in sentences as a server answers them, against the lists of `Scheme`."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from conftest import Wordy

from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import tf
from tlkeras.kinds.words import Words
from tlkeras.measures import spans
from tlkeras.measures.entities import Scheme
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.tagging import Tagging

BIO = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
SCHEMES = {
    "BIO": BIO,
    "BIO without O": BIO[:4],
    "BIOES": (*BIO, "E-LOC", "E-PER", "S-LOC", "S-PER"),
    "BILOU": ("O", "B-x", "I-x", "L-x", "U-x", "B-y", "I-y", "L-y", "U-y"),
    "parts of speech": ("NOUN", "VERB", "O"),
}


def of_sentence(found: dict[str, Any], row: int) -> list[tuple[str, int, int]]:
    count = int(found["entities"][row])
    types = [kind.decode() for kind in np.asarray(found["entity_types"])[row].tolist()]
    starts, stops = (np.asarray(found[f"entity_{end}"])[row] for end in ("starts", "stops"))
    assert all(kind == "" for kind in types[count:])
    assert (starts[count:] == -1).all() and (stops[count:] == -1).all()
    rows = zip(types[:count], starts[:count], stops[:count], strict=True)
    return [(kind, int(start), int(stop)) for kind, start, stop in rows]


@pytest.mark.parametrize("classes", SCHEMES.values(), ids=SCHEMES)
def test_a_graph_finds_the_entities_that_the_scheme_finds_in_lists(classes):
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(len(classes), 0.3), (1000, 9)).astype("float32")
    is_word = random.random((1000, 9)) < 0.9  # Some words have no piece.
    is_word[:2] = False
    probabilities *= is_word[..., None]
    find: Any = tf.function(
        lambda *each: spans.entities(each[0], each[1], Scheme(classes)), autograph=False
    )
    found = find(probabilities, is_word)
    tags = np.where(is_word, probabilities.argmax(-1), -1)
    best, entities = probabilities.max(-1), 0
    for row, sentence in enumerate(tags.tolist()):
        expected = Scheme(classes).strict(sentence)
        assert of_sentence(found, row) == expected
        scores = [best[row, start:stop].mean() for _, start, stop in expected]
        np.testing.assert_allclose(found["entity_scores"][row, : len(scores)], scores, atol=1e-5)
        entities += len(expected)
    assert entities > 500


def test_sentences_without_entities_have_none():
    found = spans.entities(tf.zeros([2, 3, 5]), tf.zeros([2, 3], tf.bool), Scheme(BIO))
    assert np.asarray(found["entities"]).tolist() == [0, 0]
    assert all(found[name].shape == [2, 0] for name in found if name != "entities")


TEXTS = [
    "Ada Lovelace lived in  London .",
    "\tzwei\nZeilen\r\n",
    "é🙂 c\u0301afé 日本 x\u00a0y",
    "",
    "   ",
    "a",
]


def test_places_are_those_of_the_words_in_characters():
    random = np.random.default_rng(0)
    drawn = ["".join(random.choice([*"ab é🙂\t\n\u00a0"], 12)) for _ in range(200)]
    texts = [*TEXTS, *drawn]
    places = Words().entrances()["text"].places
    assert places is not None
    found = np.asarray(places(tf.constant(texts)))
    split = tf.strings.split(tf.constant(texts)).to_list()
    for text, words, row in zip(texts, split, found.tolist(), strict=True):
        expected = [[*match.span()] for match in re.finditer(r"[^ \t-\r]+", text)]
        assert row[: len(expected)] == expected
        assert not np.any(row[len(expected) :])
        assert [text[start:stop].encode() for start, stop in expected] == words


def test_texts_without_words_have_no_places():
    places: Any = Words().entrances()["text"].places
    assert places(tf.constant(["", " "])).shape == [2, 0, 2]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> tuple[Any, Any]:
    model = TransferModel(Wordy(length=12), Tagging(), BIO, seed=9)
    folder = tmp_path_factory.mktemp("served")
    SavedModel().write(model, None, folder)
    return model, tf.saved_model.load(str(folder / "saved_model"))


SENTENCES = ["a b  c d e f g h", "", "\u00e9 a 🙂 b h g f", "h g f e d c b a " * 5]


def test_a_whole_sentence_is_answered_with_the_characters_of_its_entities(served):
    model, loaded = served
    found = loaded.signatures["text"](words=tf.constant(SENTENCES))
    total = 0
    for row, (text, known) in enumerate(zip(SENTENCES, model.predict(SENTENCES), strict=True)):
        words = [match.span() for match in re.finditer(r"\S+", text)]
        tags = [BIO.index(tag) if tag else -1 for tag in known["tags"]]
        expected = Scheme(BIO).strict(tags)
        assert of_sentence(found, row) == expected
        count = len(expected)
        starts, stops = (
            np.asarray(found[f"entity_character_{end}"])[row] for end in ("starts", "stops")
        )
        assert starts[:count].tolist() == [words[start][0] for _, start, _ in expected]
        assert stops[:count].tolist() == [words[stop - 1][1] for _, _, stop in expected]
        assert (starts[count:] == -1).all() and (stops[count:] == -1).all()
        total += count
    assert total > 3


def test_words_are_answered_with_the_words_of_their_entities(served):
    _, loaded = served
    rows = [text.split() for text in SENTENCES]
    most = max(map(len, rows))
    sent = tf.constant([row + [""] * (most - len(row)) for row in rows])
    found = loaded.signatures["serving_default"](words=sent)
    whole = loaded.signatures["text"](words=tf.constant(SENTENCES))
    assert not any("character" in name for name in found)
    for name in found:
        np.testing.assert_array_equal(found[name], whole[name])
    assert any(of_sentence(found, row) for row in range(len(rows)))
