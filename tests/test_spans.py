"""Tags and entities of sentences as a server answers them, against NumPy and `Scheme`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from conftest import Wordy

from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import tf
from tlkeras.kinds.words import Words
from tlkeras.measures import spans
from tlkeras.measures.entities import Scheme
from tlkeras.measures.tagging import LEAST, tags_of
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


def sentences(classes: Sequence[str], rows: int = 1000) -> tuple[Any, Any]:
    """Returns probabilities of words, [rows, 9, classes], and where there is one."""
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(len(classes), 0.3), (rows, 9)).astype("float32")
    is_word = random.random((rows, 9)) < 0.9  # Some words have no piece.
    is_word[:2] = False
    return probabilities * is_word[..., None], is_word


@pytest.mark.parametrize("classes", SCHEMES.values(), ids=SCHEMES)
def test_a_graph_gives_the_tags_and_entities_that_are_found_in_lists(classes):
    scheme = Scheme(classes)
    probabilities, is_word = sentences(classes)

    def find(probabilities: Any, is_word: Any) -> Any:
        logs = tf.math.log(tf.maximum(probabilities, LEAST))
        tags = spans.likely(logs, is_word, scheme)
        return tags, spans.entities(probabilities, tags, scheme)

    made: Any = tf.function(find, autograph=False)
    given, found = made(probabilities, is_word)
    tags = tags_of(probabilities, scheme)
    np.testing.assert_array_equal(given, tags)
    chosen = np.take_along_axis(probabilities, np.maximum(tags, 0)[..., None], axis=-1)[..., 0]
    entities = 0
    for row, sentence in enumerate(tags.tolist()):
        expected = scheme.strict(sentence)
        assert of_sentence(found, row) == expected
        scores = [chosen[row, start:stop].mean() for _, start, stop in expected]
        np.testing.assert_allclose(found["entity_scores"][row, : len(scores)], scores, atol=1e-5)
        entities += len(expected)
    assert entities > 500


@pytest.mark.parametrize("classes", SCHEMES.values(), ids=SCHEMES)
def test_the_tags_of_a_sentence_are_the_most_probable_ones_that_the_scheme_allows(classes):
    scheme = Scheme(classes)
    probabilities, is_word = (each[:60, :4] for each in sentences(classes))
    words = probabilities.shape[1]
    every = np.array([*itertools.product(range(len(classes)), repeat=words)])
    changed = 0
    for row, seen, tags in zip(
        probabilities.astype(float), is_word, tags_of(probabilities, scheme), strict=True
    ):
        candidates = np.unique(np.where(seen, every, -1), axis=0)
        # As the scheme has them, all that is tagged is in an entity, the same read either way.
        whole = [scheme.strict(each) == scheme.lenient(each) for each in candidates.tolist()]
        logs = np.log(np.maximum(row[np.arange(words), candidates], LEAST)) * seen
        total = np.where(whole, logs.sum(axis=1), -np.inf)
        assert tags.tolist() == candidates[total.argmax()].tolist()
        changed += (tags != np.where(seen, row.argmax(-1), -1)).any()
    assert changed > 10 or not any(scheme.goes_on)


def test_classes_that_allow_no_tags_of_a_sentence_still_have_some():
    classes = ["B-x", "E-x"]  # An entity of one word alone cannot be.
    probabilities = np.array([[[0.2, 0.8]], [[0.9, 0.1]]])
    assert tags_of(probabilities, Scheme(classes)).shape == (2, 1)
    inner = ["I-x", "O"]  # The training data have no first word.
    assert tags_of(probabilities, Scheme(inner)).tolist() == [[1], [0]]
    single = ["S-x", "I-y", "E-y"]  # So is it with y.
    probabilities = np.array([[[0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]])
    assert tags_of(probabilities, Scheme(single)).tolist() == [[1, 0, 2]]


def test_sentences_without_entities_have_none():
    nothing = spans.likely(tf.zeros([2, 3, 5]), tf.zeros([2, 3], tf.bool), Scheme(BIO))
    found = spans.entities(tf.zeros([2, 3, 5]), nothing, Scheme(BIO))
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
