"""The text encoder that comes with tlkeras."""

import socket

import numpy as np
import pytest

from tlkeras import shipped
from tlkeras.backbones import starter_text
from tlkeras.backbones.starter_text import StarterText
from tlkeras.frameworks import tf

# A sentence, one that means nearly the same in other words, and one about something else that
# shares words with the first.
MEANINGS = [
    ("The film was wonderful.", "A great movie!", "The film was on a roll in the camera."),
    ("How tall is the tower?", "What is the height of the building?", "Who sold the tower?"),
    ("The striker scored twice.", "Two goals by the forward.", "The workers went on strike."),
    ("The blender broke after a week.", "This mixer stopped working.", "After a week I was home."),
]
TEXTS = [text for texts in MEANINGS for text in texts]


def features(texts, **fields):
    backbone = StarterText(**fields)
    found = backbone.build()(backbone.preprocess({"text": tf.constant(texts)}))
    return {name: value.numpy() for name, value in found.items()}


def test_every_array_belongs_to_the_network_of_a_pair():
    arrays = shipped.read("starter_text")
    network = StarterText(input="pair", length=16).build()
    assert {weight.path for weight in network.weights} == {*arrays} - {"vocabulary"}


def test_features_need_no_network_and_are_finite(monkeypatch):
    def refused(*address):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    found = features([*TEXTS, "", "\x07", "猫 🙂", "a" * 200], length=16)
    assert found["pooled"].shape == (len(TEXTS) + 4, starter_text.CHANNELS)
    assert all(np.isfinite(value).all() for value in found.values())


def test_pooled_is_the_mean_of_the_tokens_that_are_no_padding():
    found = features(TEXTS, length=16)
    mask = found["mask"]
    expected = [tokens[row].mean(axis=0) for tokens, row in zip(found["tokens"], mask, strict=True)]
    np.testing.assert_allclose(found["pooled"], expected, rtol=1e-4, atol=1e-5)
    assert not mask.all() and mask.any(axis=1).all()


def test_a_short_text_has_the_same_features_at_any_length():
    short, long = features(TEXTS, length=32), features(TEXTS, length=128)
    np.testing.assert_allclose(short["pooled"], long["pooled"], rtol=1e-3, atol=1e-5)
    assert not long["mask"][:, 32:].any()
    rows = short["mask"]
    np.testing.assert_allclose(
        short["tokens"][rows], long["tokens"][:, :32][rows], rtol=1e-3, atol=1e-4
    )


def test_a_text_has_the_same_features_in_any_batch():
    together, alone = features(TEXTS, length=16), features(TEXTS[3:4], length=16)
    np.testing.assert_allclose(together["pooled"][3:4], alone["pooled"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("text, same, other", MEANINGS)
def test_a_sentence_of_the_same_meaning_is_nearer_than_one_of_the_same_words(text, same, other):
    pooled = features([text, same, other], length=32)["pooled"]
    units = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    assert units[0] @ units[1] > units[0] @ units[2]


def test_the_order_of_words_matters():
    pooled = features(["the dog bit the man", "the man bit the dog"], length=16)["pooled"]
    assert np.abs(pooled[0] - pooled[1]).max() > 1e-2


def test_words_have_the_rows_of_their_first_pieces():
    sentence = ["unwelcomingly", "rain", "fell"]
    backbone = StarterText(input="words", length=16)
    given = backbone.preprocess({"words": tf.constant([sentence])})
    of_words = backbone.build()(given)
    of_text = features([" ".join(sentence)], length=16)
    starts = given["starts"].numpy()[0, :3]
    assert starts[1] > 2, "the first word has several pieces"
    assert of_words["mask"].numpy()[0].sum() == 3
    np.testing.assert_allclose(
        of_words["tokens"][0, :3], of_text["tokens"][0, starts], rtol=1e-3, atol=1e-4
    )


def test_the_two_texts_of_a_pair_are_told_apart():
    backbone = StarterText(input="pair", length=16)
    network = backbone.build()
    pairs = {"text": tf.constant(["a", "b"]), "pair": tf.constant(["b", "a"])}
    pooled = network(backbone.preprocess(pairs))["pooled"].numpy()
    assert np.abs(pooled[0] - pooled[1]).max() > 1e-3


def test_a_length_that_holds_nothing_is_refused():
    with pytest.raises(ValueError, match=r"starter_text.length is 4, expected at least 8"):
        StarterText(length=4)
