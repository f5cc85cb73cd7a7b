"""Samples of examples, and what is seen of answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import Tiny, Wordy, assert_near

from tlkeras.doctor import answers, samples
from tlkeras.doctor.samples import Gathering
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import keras
from tlkeras.model import vector
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Output
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.tagging import Tagging

CLASSES = ("ant", "bee", "cat")


def gathered(numbers) -> Gathering:
    """Examples by their numbers, each with two columns and a row of features."""
    made = Gathering()
    ids = [f"id{n}" for n in numbers]
    seen = [({"size": n}, {"labels": ["a", "b"][: n % 3]}) for n in numbers]
    made.add(ids, seen, np.array([[n, 2 * n] for n in numbers], np.float32))
    return made


def test_parts_that_are_joined_are_the_whole(tmp_path):
    whole = gathered(range(40)).sample()
    joined = Gathering()
    for number, part in enumerate((range(7), range(7, 40))):
        folder = tmp_path / str(number)
        folder.mkdir()
        gathered(part).write(folder)
        joined.join(folder)
    found = joined.sample()
    assert (found.count, found.words) == (40, whole.words)
    np.testing.assert_array_equal(found.numbers["size"], np.arange(40))
    np.testing.assert_array_equal(found.features, whole.features)


def test_of_many_features_those_remain_that_their_ids_choose(monkeypatch):
    monkeypatch.setattr(samples, "ROWS", 10)
    first, other = gathered(range(50)), gathered(range(49, -1, -1))
    np.testing.assert_array_equal(first.sample().features, other.sample().features)
    assert len(first.sample().features) == 10 and first.sample().count == 50


def test_every_example_counts_once_however_many_words_it_has():
    words = gathered(range(300)).sample().words["labels"]
    assert sum(words.values()) == 300 and words[""] == 100
    assert words["a"] == pytest.approx(150, abs=25)  # All with one word, half of those with two.
    assert gathered(range(300)).words["labels"] == {"a": 200, "b": 100}


def test_the_largest_reference_is_below_a_megabyte_and_names_nobody(tmp_path):
    random = np.random.default_rng(0)
    made = Gathering()
    ids = [f"patient{n}" for n in range(1200)]
    numbers = [{f"column{i}": value for i, value in enumerate(random.normal(size=12))} for _ in ids]
    hashed = samples.of_traits("image", {"hash": "c0ffee", "format": "JPEG"})[1]
    made.add(
        ids[:1000], [(each, hashed) for each in numbers[:1000]], random.normal(size=[1000, 2048])
    )
    made.sample().write(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1e6
    text = (tmp_path / samples.COLUMNS).read_text()
    assert "patient" not in text and "c0ffee" not in text and json.loads(text)["count"] == 1000
    read = samples.read(tmp_path)
    assert read.features.shape == (1000, 256) and read.features.dtype == np.float16
    np.testing.assert_allclose(read.numbers["column3"], made.numbers["column3"], rtol=1e-5)


def test_projected_rows_keep_their_distances():
    rows = np.random.default_rng(0).normal(size=(60, 2048)).astype(np.float32)
    narrow = samples.projected(rows).astype(np.float64)
    for i, j in [(0, 1), (5, 40), (22, 23)]:
        expected = np.linalg.norm(rows[i] - rows[j])
        assert np.linalg.norm(narrow[i] - narrow[j]) == pytest.approx(expected, rel=0.2)
    few = rows[:, :200]
    np.testing.assert_array_equal(samples.projected(few), few.astype(np.float16))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no reference.json: it was pushed by an earlier version of tlkeras"),
        ("{", "is damaged"),
        ('{"count": 1, "numbers": [], "words": {}}', "is damaged"),
    ],
)
def test_a_reference_that_cannot_be_read_is_told(text, message, tmp_path):
    if text:
        (tmp_path / samples.COLUMNS).write_text(text)
    with pytest.raises(ValueError, match=message):
        samples.read(tmp_path)


ONE = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]], np.float32)
MANY = np.array([[0.9, 0.1, 0.6], [0.2, 0.3, 0.2]], np.float32)
BOXES = {
    "category": np.array([[2, 2, 0], [0, 0, 0]], np.float32),
    "scores": np.array([[0.9, 0.8, 0.0], [0.0, 0.0, 0.0]], np.float32),
    "count": np.array([2, 0], np.float32),
}
MASK = np.zeros([2, 2, 2, 4], np.float32)
MASK[0, :, :, 0], MASK[1, :, 0, 3], MASK[1, :, 1, 0] = 1, 1, 1
TOKENS = np.array([[[0, 1, 0], [1, 0, 0]], [[0, 0, 1], [0, 0, 0]]], np.float32)
NUMBER = np.array([[2.5], [-1]], np.float32)


def named(*words):
    return [{"prediction": list(each)} for each in words]


@pytest.mark.parametrize(
    ("outputs", "served", "numbers", "words"),
    [
        (
            [Output("p", "scores", labelled=True)],
            {"p": ONE},
            [{"prediction.score": 0.7}, {"prediction.score": 0.5}],
            named(["bee"], ["ant"]),
        ),
        (
            [Output("p", "scores", labelled=True, threshold=0.5)],
            {"p": MANY},
            [{"prediction.score": 0.9}, {"prediction.score": 0.3}],
            named(["ant", "cat"], []),
        ),
        (
            [
                Output("boxes", "boxes"),
                Output("category", "category", labelled=True),
                Output("scores", "scores"),
                Output("count", "count"),
            ],
            {**BOXES, "boxes": np.zeros([2, 3, 4])},
            [
                {"prediction.score": 0.9, "prediction.count": 2},
                {"prediction.score": 0.0, "prediction.count": 0},
            ],
            named(["cat"], []),
        ),
        (
            [Output("mask", "mask", labelled=True, others=("nothing",))],
            {"mask": MASK},
            [{"prediction.covered": 0}, {"prediction.covered": 0.5}],
            named([], ["cat"]),
        ),
        (
            [Output("t", "tokens", labelled=True)],
            {"t": TOKENS},
            [{}, {}],
            named(["ant", "bee"], ["cat"]),
        ),
        (
            [Output("number", "vector")],
            {"number": NUMBER},
            [{"prediction.number": 2.5}, {"prediction.number": -1}],
            [{}, {}],
        ),
        ([Output("row", "vector")], {"row": ONE}, [{}, {}], [{}, {}]),
    ],
    ids=["scores", "thresholds", "boxes", "mask", "tokens", "number", "row"],
)
def test_answers_are_seen_by_what_they_mean(outputs, served, numbers, words):
    for found, expected, names in zip(
        answers.columns(outputs, served, CLASSES), numbers, words, strict=True
    ):
        assert found[0] == pytest.approx(expected) and dict(found[1]) == names


@pytest.mark.parametrize(
    "task", [Classification(), pytest.param(Tagging(), marks=pytest.mark.slow)], ids=str
)
def test_an_export_gives_the_features_of_the_model_beside_the_same_answers(task, tmp_path):
    backbone = Wordy(length=6) if task.name == "tagging" else Tiny()
    model = TransferModel(backbone, task, CLASSES, seed=1)
    SavedModel().write(model, None, tmp_path)
    random = np.random.default_rng(0)
    inputs = (
        keras.tree.map_structure(lambda x: np.ones([3, *x.shape[1:]], x.dtype), model.full.input)
        if task.name == "tagging"
        else random.uniform(0, 255, [3, 32, 32, 3]).astype(np.float32)
    )
    found = SavedModel().observed(tmp_path)
    assert found
    served = found(inputs)
    features = served.pop(vector.FEATURES)
    summary = keras.tree.flatten(model.body(inputs, training=False))
    means = [
        np.asarray(x).reshape(3, -1, x.shape[-1]).mean(1) for x in summary if x.dtype.is_floating
    ]
    assert_near(features, np.concatenate(means, axis=-1), 400)
    plain = SavedModel().load(tmp_path)(inputs)
    for name, values in served.items():
        np.testing.assert_array_equal(values, plain[name])
    assert vector.FEATURES not in plain
