"""What a prediction rests on: places of pictures, words of texts."""

from __future__ import annotations

import base64
import io
import json
import types
from typing import Any

import checkpoints
import numpy as np
import pytest
from checkpoints import FAMILIES
from conftest import Tiny
from PIL import Image
from toy_text import ToyText

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.explaining import chosen as explained
from tlkeras.explaining import explanation, pieces
from tlkeras.explaining.maps import Places
from tlkeras.explaining.pieces import Pieces
from tlkeras.frameworks import keras, tf
from tlkeras.images import heat
from tlkeras.measures.measures import Example, Gallery, Mark, Measures, Scalar, Table
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.detection import Detection
from tlkeras.tasks.multilabel import Multilabel
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.tasks.tagging import Tagging
from tlkeras.texts.bytepairs import LETTERS, BytePairs

TEXT = "so  the good soup\nwas bad fine sour"


def hub_text(name: str, **fields: Any) -> Any:
    member: Any = spec.names(Backbone)[name]
    return member(length=24, **fields)


def noise(count: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, size, size, 3)).astype(np.float32)


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures() -> TransferModel:
    return TransferModel(Tiny(size=112), Classification(), ("a", "b", "c"), seed=0)


@pytest.fixture(scope="module")
def texts() -> TransferModel:
    return TransferModel(ToyText(), Classification(), ("bad", "good"), seed=0)


def test_of_a_linear_head_heat_is_the_class_activation_map(pictures):
    inputs, logits = noise(3, 112), pictures.head.get_layer("logits")
    kernel, bias = logits.kernel.numpy(), np.array([0.5, -1.0, 2.0])
    logits.bias.assign(bias)
    found, chosen = Places(pictures)(inputs, most=3)
    (last,) = (layer for layer in pictures.body.layers if layer.name == "block4_dropout")
    activations = keras.Model(pictures.body.input, last.output)(inputs).numpy()
    maps = np.einsum("bhwc,ck->bkhw", activations, kernel) / np.prod(activations.shape[1:3])
    labels = np.asarray(chosen.labels)
    np.testing.assert_allclose(
        found, np.take_along_axis(maps, labels[..., None, None], 1), atol=1e-6
    )
    # The places add up to the logit without its bias.
    expected = pictures.full(inputs).numpy()
    order = np.argsort(-expected, axis=1)
    assert (labels == order).all()
    np.testing.assert_allclose(
        found.sum((2, 3)), np.take_along_axis(expected - bias, order, 1), atol=1e-5
    )


@pytest.mark.parametrize(("size", "rows"), [(112, 7), (128, 8), (96, 12), (24, 6), (16, 4)])
def test_heat_is_on_the_last_map_that_is_fine_enough(size, rows):
    model = TransferModel(Tiny(size=size), Classification(), ("a", "b"), seed=0)
    found, _ = Places(model)(noise(1, size))
    assert found.shape == (1, 1, rows, rows)


@pytest.mark.parametrize(
    ("task", "classes"),
    [(Multilabel(), ("a", "b")), (Regression(), ()), (Segmentation(width=8), ("a", "b"))],
)
def test_heat_of_a_place_is_gradient_times_activation(task, classes):
    model = TransferModel(Tiny(size=64), task, classes, seed=0)
    inputs = noise(2, 64)
    found, chosen = Places(model)(inputs)
    assert np.abs(found).max() > 0
    values, _ = task.explained(model.full(inputs))
    np.testing.assert_allclose(chosen.values[:, 0], np.max(values, axis=1), atol=1e-5)
    ends = keras.tree.flatten(model.body.output)
    if len(ends) == 1:  # The summary, behind the last map of seven rows.
        ends = [model.body.get_layer("block3_dropout").output]
    maps = keras.Model(model.body.input, ends)(inputs)
    maps = keras.tree.flatten(maps)
    rest = keras.Model(ends, model.head(model.body.output))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        best = tf.reduce_max(task.explained(rest(maps))[0], axis=1)
    pairs = zip(maps, tape.gradient(best, maps), strict=True)
    heats = [np.einsum("bhwc,bhwc->bhw", *pair) for pair in pairs]
    if len(heats) == 1:
        np.testing.assert_allclose(found[:, 0], heats[0], atol=1e-6)
    # The heat of a coarse map is spread over more places, its sum stays.
    assert all(np.abs(heat).max() > 0 for heat in heats)
    expected = sum(heat.sum((1, 2)) for heat in heats)
    np.testing.assert_allclose(found[:, 0].sum((1, 2)), expected, rtol=1e-4, atol=1e-5)


def test_a_class_that_is_nowhere_is_behind_one_of_negative_logits():
    outputs = tf.tile(tf.constant([-5.0, -2.0, -1.0]), [6])
    outputs = tf.reshape(outputs, [1, 2, 3, 3])  # Everywhere the second class, a little unlikely.
    model: Any = types.SimpleNamespace(task=Segmentation())
    found = explained.of(model, outputs, 2)
    assert found.labels.numpy().tolist() == [[1, -1]] and found.values[0, 0] == -1
    assert np.isfinite(found.values).all()


def test_heat_of_a_box_is_where_its_cell_sees():
    model = TransferModel(Tiny(size=64), Detection(width=8), ("a", "b"), seed=0)
    # One cell is sure of an object: its logits have a bias that the others do not reach.
    names = [layer.name for layer in model.head.layers if layer.name.endswith("_logits")]
    for name in names:
        model.head.get_layer(name).bias.assign([3.0, -9.0])
    inputs = noise(1, 64)
    found, chosen = Places(model)(inputs, most=2)
    assert np.asarray(chosen.labels).tolist() == [[0, 0]]
    assert np.asarray(chosen.values).min() > 0 and found.shape[1] == 2
    model.head.get_layer(names[0]).bias.assign([-9.0, -9.0])
    for name in names[1:]:
        model.head.get_layer(name).bias.assign([-9.0, -9.0])
    _, chosen = Places(model)(inputs)
    assert np.asarray(chosen.labels).tolist() == [[-1]]


@pytest.fixture(scope="module")
def weigh(texts):
    """Returns the inputs of texts and their weighed words, all by one traced function."""
    way = Pieces(texts)

    def weigh(*several):
        inputs = texts.backbone.preprocess({"text": tf.constant(several)})
        return inputs, way([[text] for text in several], inputs)

    return weigh


def test_the_weights_of_words_add_up_to_what_the_words_change(texts, weigh):
    inputs, (found,) = weigh(TEXT)
    label = int(found.chosen.labels[0, 0])
    embedding, masks = texts.body.get_layer("pieces"), inputs.numpy() != 0
    assert masks[0, : len(TEXT.split()) + 2].all()
    whole = texts.full(inputs).numpy()[0]
    assert label == whole.argmax()
    np.testing.assert_allclose(found.chosen.values[0, 0], whole[label], atol=1e-5)
    # Without its words a text has the embedding of padding at their places, and is not masked.
    table = embedding.embeddings.numpy()
    changed = table.copy()
    # One piece a word, behind the first special one.
    changed[np.unique(inputs.numpy()[0, 1 : 1 + len(TEXT.split())])] = table[0]
    embedding.embeddings.assign(changed)
    bare = texts.full(inputs).numpy()[0]
    embedding.embeddings.assign(table)
    np.testing.assert_allclose(found.without[0], bare[label], atol=1e-5)
    assert found.weights[0].sum() == pytest.approx(whole[label] - bare[label], abs=1e-4)
    assert np.abs(found.weights[0]).max() > 0.01


def test_a_word_has_the_integral_of_its_gradient(texts, weigh, monkeypatch):
    inputs, (few,) = weigh(TEXT)
    monkeypatch.setattr(pieces, "STEPS", 60)
    (many,) = Pieces(texts)([[TEXT]], inputs)
    np.testing.assert_allclose(few.weights, many.weights, atol=1e-4)


def test_pieces_belong_to_their_words_whatever_stands_between_them(weigh):
    spaced, long = " \n ".join(TEXT.split()), " ".join(["good"] * 40)
    _, (one, other, cut) = weigh(TEXT, spaced, long)
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-5)
    # The network reads 30 words.
    assert (cut.weights[0, :30] != 0).all() and (cut.weights[0, 30:] == 0).all()


@pytest.mark.parametrize(
    ("backbone", "example"),
    [(ToyText(), {"text": "the good soup"}), (Tiny(size=64), {"image": encoded(noise(1, 64)[0])})],
)
def test_a_number_is_no_class_of_the_examples(backbone, example):
    model = TransferModel(backbone, Regression(), ("complaint", "praise"), seed=0)
    ((found,),) = explanation.explainer(model)([example])
    assert found.of == "the number" and "complaint" not in found.name


def test_both_texts_of_a_pair_have_weights():
    model = TransferModel(ToyText(input="pair"), Classification(), ("no", "yes"), seed=0)
    explain = explanation.explainer(model)
    ((found,),) = explain([{"text": "the good soup", "pair": "soup so bad"}])
    assert [word for word, _ in found.words] == ["the", "good", "soup", "soup", "so", "bad"]
    assert all(weight for _, weight in found.words)
    assert {mark.first for mark in found.marks} <= {0, 1, 2}


def test_a_long_text_leaves_the_words_of_the_other_their_weights():
    model = TransferModel(ToyText(input="pair"), Classification(), ("no", "yes"), seed=0)
    explain = explanation.explainer(model)
    ((found,),) = explain([{"text": "good " * 200, "pair": "soup so bad"}])
    weights = [weight for _, weight in found.words]
    assert len(weights) == 203 and all(weights[-3:])


@pytest.mark.parametrize(
    ("texts", "owners"),
    [
        (["ab x", "ab ab"], [0, 1, 1, 2, 3]),
        ([["ab", "x"], ["ab", "ab"]], [0, 1, 1, 2, 3]),
        (["x\nab ab\t\nab"], [0, -1, 1, 2, -1, -1, 3]),
        (["ab "], [0, -1]),
        ([" ab  ab", "\n", "\n ab"], [0, -1, 1, -1, -1, 2]),
    ],
)
def test_a_word_owns_its_pieces_with_and_without_a_space_before_it(texts, owners):
    tokenizer = BytePairs((*LETTERS, "ab", "\u0120ab"), ("a b", "\u0120 ab"))
    parts = [text if isinstance(text, str) else " ".join(text) for text in texts]
    ids = [tokenizer(part, 8).numpy() for part in parts]
    row = np.concatenate([each[each >= 0] for each in ids])
    assert pieces._owners(tokenizer, [texts], row[None]).tolist() == [owners]


SPREAD = " a rain\nin  spain, rain\n\n\ta in"


@pytest.mark.parametrize("name", FAMILIES)
def test_every_word_of_a_text_owns_pieces_wherever_it_stands(name, tmp_path):
    checkpoints.describe(name, tmp_path)
    backbone = hub_text(name, weights=None, configuration=tmp_path)
    tokenizer: Any = backbone.tokenizer
    ids = backbone.preprocess({"text": tf.constant([SPREAD, "", "rain"])}).numpy()
    found, empty, one = pieces._owners(tokenizer, [[SPREAD], [""], ["rain"]], ids)
    assert [*dict.fromkeys(found[found >= 0].tolist())] == [*range(7)]
    assert (empty == -1).all() and set(one.tolist()) == {-1, 0}


@pytest.mark.parametrize("name", ["gemma", "llama"])
def test_the_weights_of_sentence_pieces_add_up_to_what_the_words_change(name, tmp_path):
    checkpoints.write(name, tmp_path)
    backbone = hub_text(name, weights=str(tmp_path))
    model = TransferModel(backbone, Classification(), ("bad", "good"), seed=0)
    for layer in model.body.layers:
        if "embedding" not in layer.name:  # Smooth enough for the quadrature.
            layer.set_weights([0.5 * each for each in layer.get_weights()])
    inputs = backbone.preprocess({"text": tf.constant([SPREAD])})
    (found,) = Pieces(model)([[SPREAD]], inputs)
    assert (found.weights[0] != 0).all()
    change = float(found.chosen.values[0, 0]) - found.without[0]
    assert found.weights[0].sum() == pytest.approx(change, abs=1e-3)


def test_without_padding_a_piece_that_no_text_holds_stands_for_a_word(tmp_path):
    checkpoints.describe("gpt2", tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    first, end = next(iter(vocabulary)), len(vocabulary) - 1
    order = [piece for piece in vocabulary if piece != first] + [first]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(order)}))
    backbone = hub_text("gpt2", weights=None, configuration=tmp_path)
    model = TransferModel(backbone, Classification(), ("bad", "good"), seed=0)
    inputs = backbone.preprocess({"text": tf.constant(["a rain in spain"])})
    (found,) = Pieces(model)([["a rain in spain"]], inputs)
    bare = model.full(tf.where(inputs >= 0, end, inputs)).numpy()[0]
    assert found.without[0] == pytest.approx(bare[int(found.chosen.labels[0, 0])], abs=1e-5)


def test_words_without_a_piece_have_no_weight_and_no_mark(weigh):
    _, (none, one) = weigh("\x07 \x07", "\x07 \x07 good \x07")
    assert (none.weights == 0).all() and explanation._marks(none.weights[0]) == []
    assert np.flatnonzero(one.weights[0]).tolist() == [2]
    assert [mark.first for mark in explanation._marks(one.weights[0])] == [2]


def test_weights_of_a_small_unit_are_marked_in_two_digits():
    marks = explanation._marks(np.array([4.32e-7, 0.0, -1.2e-7]))
    assert [(mark.first, mark.name) for mark in marks] == [(0, "+4.3e-07"), (2, "-1.2e-07")]
    assert [explanation.signed(value) for value in (0.5, -12.3, 0.0)] == ["+0.50", "-12.30", "+0"]


def test_what_rates_no_example_is_not_explained_and_says_why():
    tagging = TransferModel(ToyText(input="words"), Tagging(), ("O", "B-x"), seed=0)
    with pytest.raises(ValueError, match="tagging rates no whole example and no part of one"):
        explanation.explainer(tagging)
    views = [Gallery("Mistakes", [Example(0, "a")])]
    measures = Measures("accuracy", 1, {"accuracy": Scalar(0.5)}, views)
    assert explanation.shown(measures, tagging, lambda numbers: []) is measures


def test_the_galleries_of_measures_get_the_explanations_of_their_examples(texts):
    own = {"true": [Mark(0, 1, "PER")]}
    told = ["so bad", "the good soup", TEXT]
    examples = [Example(2, "a"), Example(0, "b", marks=own), Example(1, "c")]
    views = [Gallery("Mistakes", examples), Table("Words", ["word"], [])]
    measures = Measures("accuracy", 3, {"accuracy": Scalar(0.5)}, views)
    asked = []

    def read(numbers):
        asked.append(numbers)
        return [{"text": told[number]} for number in numbers]

    gallery, table = explanation.shown(measures, texts, read).views
    assert asked == [[2, 1]] and table == views[1]
    assert isinstance(gallery, Gallery) and gallery.legend == ""
    assert gallery.examples[1].marks == own
    ((expected,), _) = explanation.explainer(texts)([{"text": TEXT}, {"text": "so bad"}])
    ((name, marks),) = gallery.examples[0].marks.items()
    assert name == f"by how much each word speaks for {expected.of}"
    weights = [weight for _, weight in expected.words]
    assert marks == expected.marks and 0 < len(marks) <= explanation.MARKED
    for mark in marks:
        assert mark.name == explanation.signed(weights[mark.first])
        assert mark.weight == pytest.approx(weights[mark.first] / np.abs(weights).max(), abs=1e-6)


def test_a_picture_in_a_gallery_gets_one_overlay_with_an_alternative_text(pictures):
    picture = encoded(noise(1, 50)[0])
    views = [Gallery("Mistakes", [Example(0, "a"), Example(0, "b")])]
    measures = Measures("accuracy", 1, {"accuracy": Scalar(0.5)}, views)
    (gallery,) = explanation.shown(
        measures, pictures, lambda numbers: [{"image": picture}] * len(numbers)
    ).views
    assert isinstance(gallery, Gallery) and gallery.legend == explanation.LEGEND
    ((name, overlay),) = gallery.examples[0].overlays.items()
    assert name.startswith(("what speaks for ", "nothing speaks for "))
    assert gallery.examples[1].overlays == gallery.examples[0].overlays
    assert Image.open(io.BytesIO(base64.b64decode(overlay))).mode == "P"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ((0, 0), "at the top left"),
        ((0, 2), "at the top"),
        ((2, 2), "in the middle"),
        ((2, 4), "at the right"),
        ((4, 1), "at the bottom left"),
    ],
)
def test_the_greatest_heat_is_told_in_words_and_is_the_brightest(place, said):
    places = np.full([5, 5], -1.0, np.float32)
    places[place] = 2
    assert heat.place(places) == said
    drawn = Image.open(io.BytesIO(heat.overlay(places))).convert("RGBA")
    pixels = np.asarray(drawn).astype(int)
    row, column = np.unravel_index(pixels[..., :3].sum(-1).argmax(), pixels.shape[:2])
    assert (row * 5 // 96, column * 5 // 96) == place
    picture = np.full([20, 30, 3], 100, np.uint8)
    found = heat.over(picture, places)
    assert found.shape == picture.shape and found.dtype == np.uint8
    brightest = np.unravel_index(found.sum(-1, dtype=int).argmax(), found.shape[:2])
    assert (brightest[0] * 5 // 20, brightest[1] * 5 // 30) == place


def test_where_nothing_speaks_for_an_answer_nothing_is_bright():
    places = np.full([3, 3], -1.0, np.float32)
    assert heat.place(places) == ""
    pixels = np.asarray(Image.open(io.BytesIO(heat.overlay(places))).convert("RGBA"))
    assert (pixels == pixels[0, 0]).all()
