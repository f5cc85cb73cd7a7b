"""Networks on texts run at the length that a text needs, and give the same."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiny, assert_near
from toy_text import TaggedSentences, ToyText, written

from tlkeras.data import batches
from tlkeras.data.batches import Data
from tlkeras.frameworks import keras, tf
from tlkeras.model import folding, lengths
from tlkeras.model.transfer_model import HEAD, TransferModel
from tlkeras.recipes.fine_tune import FineTune, Phase
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.tagging import Tagging
from tlkeras.training import feature_store, features, frozen, schedule
from tlkeras.training.features import Cache, Tap
from tlkeras.training.trainable import trainable

pytestmark = pytest.mark.equality

SUMMANDS = 2 * (8 + 32 + 32 + 8 + 8 + 16) + 32
"""Products that are added up to a feature of `ToyText`: in each layer those of a query and a key,
of the softmax and the values, of the norm and of the dense layers; then the mean."""

TASK = Classification(dropout=0.0)
TAPS = (Tap("train", HEAD), Tap("train", "layer_2"), Tap("validation", "layer_2"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("texts"))


@pytest.fixture
def data(recorded: Path) -> Data:
    return Data(recorded, ToyText(), TASK, batch_size=8)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(feature_store, "LENGTH", 32)
    monkeypatch.setattr(schedule, "_STEPS_ON_FEATURES", 1)  # More take long to trace.


def make(data: Data) -> TransferModel:
    return TransferModel(data.backbone, data.task, data.classes, seed=3)


IDS = np.zeros([4, 8], np.int32)
IDS[0, :3], IDS[1, :2], IDS[2, :8], IDS[3, 4] = 5, 2, 7, 9


def test_a_row_needs_its_pieces_and_one_place_of_padding():
    assert lengths_of(IDS) == [4, 3, 8, 6]
    starts = np.full([4, 8], -1, np.int32)
    starts[1, 5] = 1  # A word behind others that have no pieces.
    assert lengths_of({"starts": starts, "token_ids": IDS}) == [4, 7, 8, 6]


def lengths_of(batch: Any) -> list[int]:
    return ToyText().lengths(keras.tree.map_structure(tf.constant, batch)).numpy().tolist()


@pytest.mark.parametrize("input", ["text", "words"])
def test_features_of_cut_inputs_are_those_of_whole_ones(input):
    network = ToyText(length=8, input=input).build()
    given: Any = tf.constant(IDS[:2])
    if input == "words":
        starts = tf.constant([[1, 2] + [-1] * 6] * 2)
        given = {"casing": tf.maximum(starts + 3, 2) - 2, "starts": starts, "token_ids": given}
    expected = folding.run(network, given)
    found = folding.run(network, lengths.shortened(ToyText(input=input), given))
    assert_near(found["pooled"], expected["pooled"], SUMMANDS)
    assert_near(found["tokens"][:, :3], expected["tokens"][:, :3], SUMMANDS)
    np.testing.assert_array_equal(found["mask"], expected["mask"][:, :4])
    of_words = [(1,)] * (input == "words")  # casing
    assert lengths.axes(network) == [*of_words, (1,), (), (1,)]  # mask, pooled, tokens


def test_several_replicas_and_pictures_run_whole(monkeypatch):
    assert lengths.shortened(ToyText(), tf.constant(IDS[:2])).shape == (2, 4)
    assert lengths.shortened(Tiny(), tf.zeros([2, 32, 32, 3])).shape == (2, 32, 32, 3)
    monkeypatch.setattr(lengths.hardware, "replicas", lambda: 2)
    assert lengths.shortened(ToyText(), tf.constant(IDS[:2])).shape == (2, 8)


def test_flat_rows_come_back_as_a_batch_whose_last_places_repeat():
    rows = [np.arange(12).reshape(4, 3), np.arange(8, 20).reshape(4, 3)]
    flat = [lengths.flat(row, (1,), n) for row, n in zip(rows, (2, 4), strict=True)]
    assert [len(row) for row in flat] == lengths.sizes((4, 3), (1,), [2, 4]).tolist() == [6, 12]
    found = lengths.batch(flat, flat[0].dtype, np.array([2, 4]), (4, 3), (1,), 4)
    assert found[0].tolist() == [[0, 1, 2], [3, 4, 5], [3, 4, 5], [3, 4, 5]]
    np.testing.assert_array_equal(found[1], rows[1])
    square = lengths.flat(np.arange(9).reshape(3, 3), (1, 2), 2)
    assert square.tolist() == [0, 1, 3, 4]
    (found,) = lengths.batch([square], square.dtype, np.array([2]), (3, 3), (1, 2), 3)
    assert found.tolist() == [[0, 1, 1], [3, 4, 4], [3, 4, 4]]


def joined(batches: Any, network: keras.Model, behind: keras.Model) -> Any:
    """Returns the model's outputs for batches at the entrance of its last part, and the targets."""
    pairs = [
        (behind_of(behind, features.entrance(network, inputs, "float32")), targets)
        for inputs, targets in batches
    ]
    return [np.concatenate(column) for column in zip(*pairs, strict=True)]


def behind_of(behind: keras.Model, activations: Any) -> Any:
    return folding.run(behind, activations).numpy()


@pytest.mark.parametrize("gigabytes", [pytest.param(1.0, marks=pytest.mark.slow), 60e-6])
def test_features_give_the_outputs_of_the_model_in_any_order(data, tmp_path, gigabytes):
    model = make(data)
    found = features.at(model, data, TAPS, Cache(tmp_path, gigabytes), "float32")
    assert {*found} == {*TAPS}
    assert (found[TAPS[1]].kept < data.count("train")) is (gigabytes < 1)
    for tap, each in found.items():
        prefix, suffix = model.split_at(tap.block)
        count = data.count(tap.split)
        expected, labels = joined(data.batches(tap.split), prefix, suffix)
        order = np.random.default_rng(1).permutation(count)
        outputs, targets = joined(each.batches(order), prefix, suffix)
        assert_near(outputs, expected[order], SUMMANDS)
        np.testing.assert_array_equal(targets, labels[order])


def test_padding_is_not_on_disk_and_batches_are_as_long_as_their_longest_row(data, tmp_path):
    model, tap = make(data), TAPS[1]
    found = features.at(model, data, [tap], Cache(tmp_path), "float16")[tap]
    needed = np.concatenate([ToyText().lengths(ids) for ids, _ in data.batches("train")])
    np.testing.assert_array_equal(found.lengths, needed)
    written = sum(len(row) for row in found.rows.read(np.arange(data.count("train")))[1])
    assert written == needed.sum() * 8 < data.count("train") * 32 * 8 / 2
    order = data.order("train", 0)
    for place, (inputs, _) in enumerate(found.batches(order)):
        own = needed[order[place * 8 : place * 8 + 8]]
        assert keras.tree.flatten(inputs)[0].shape[1] == own.max()


def test_the_frozen_pass_runs_batches_of_like_lengths(data, tmp_path, monkeypatch):
    shapes, cut = [], lengths.cut

    def noted(inputs, end):
        shapes.append(int(end))
        return cut(inputs, end)

    monkeypatch.setattr(frozen.lengths, "cut", noted)
    features.at(make(data), data, [TAPS[0]], Cache(tmp_path), "float16")
    windows = -(-data.count("train") // 32)
    assert shapes[:4] == sorted(shapes[:4]) and len(shapes) == -(-data.count("train") // 8)
    assert sum(a > b for a, b in itertools.pairwise(shapes)) <= windows - 1


@pytest.mark.slow
def test_features_gone_on_with_after_a_kill_are_those_of_an_unbroken_pass(data, tmp_path):
    class Killed(Exception):
        pass

    def rows(folder):
        cache, own = Cache(tmp_path / folder), dataclasses.replace(data, batch_size=5)
        found = features.at(make(data), own, [TAPS[1]], cache, "float32")[TAPS[1]].rows
        return [np.concatenate(column) for column in found.read(np.arange(len(found)))]

    def kill(writer, first, columns):
        if first >= feature_store.LENGTH and len(columns) > 1:  # Not of lengths and targets.
            raise Killed
        add(writer, first, columns)

    add = feature_store.Writer.add
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(feature_store.Writer, "add", kill)
        with pytest.raises(Killed):
            rows("broken")
    assert len([*(tmp_path / "broken").glob("train-layer_2*/?????")]) == 1
    for found, expected in zip(rows("broken"), rows("unbroken"), strict=True):
        np.testing.assert_array_equal(found, expected)


def losses(logs: Any) -> Any:
    return [[log["loss"], log["val_loss"]] for log in logs]


PHASES = (
    Phase(epochs=1, unfreeze="layer_2", learning_rate=1e-3, optimizer="sgd"),
    Phase(epochs=1, unfreeze="all", learning_rate=1e-3, optimizer="sgd"),
)


@pytest.mark.slow
def test_a_fit_gives_the_losses_of_a_padded_one_with_and_without_the_cache(
    data, tmp_path, monkeypatch
):
    found = {
        cache: losses(FineTune(PHASES, cache=cache).fit(make(data), data, tmp_path / cache))
        for cache in ("none", "float32")
    }
    monkeypatch.setattr(lengths, "shortened", lambda backbone, batch: batch)
    expected = losses(FineTune(PHASES, cache="none").fit(make(data), data, tmp_path / "whole"))
    for each in found.values():
        np.testing.assert_allclose(each, expected, rtol=1e-5)  # Of weights after two epochs.


@pytest.mark.slow
@pytest.mark.parametrize("source", [None, TaggedSentences()], ids=["texts", "words"])
def test_a_fit_of_all_blocks_cuts_its_texts_once_and_gives_the_same(source, tmp_path, monkeypatch):
    folder = written(tmp_path / "data", source)
    task = Tagging() if source else TASK
    backbone = ToyText(input="words" if source else "text", dropout=0.2)
    data = Data(folder, backbone, task, batch_size=8)
    recipe = FineTune((Phase(epochs=4, unfreeze="all", learning_rate=1e-2),))
    expected = recipe.replace(cache="none").fit(make(data), data, tmp_path / "anew")
    asked: list[str] = []
    pairs = Data.pairs

    def noted(self: Data, split: str, *rest: Any) -> Any:
        asked.append(split)
        return pairs(self, split, *rest)

    monkeypatch.setattr(Data, "pairs", noted)
    shared = Cache(tmp_path / "cache")
    assert recipe.fit(make(data), data, tmp_path / "once", shared=shared) == expected
    assert asked.count("train") < 4  # For shapes, lengths and pieces, and not once an epoch.
    asked.clear()
    assert recipe.fit(make(data), data, tmp_path / "again", shared=shared) == expected
    assert asked.count("train") < 2


@pytest.mark.slow
def test_a_killed_fit_ends_like_an_unbroken_one(data, tmp_path):
    class Killed(Exception):
        pass

    def kill(epoch, logs):
        if epoch == 1 and len(list((tmp_path / "broken" / "phase0").glob("*.npz"))):
            raise Killed

    data = dataclasses.replace(data, backbone=ToyText(dropout=0.2))
    recipe = FineTune((Phase(epochs=3, unfreeze="layer_2"),))
    unbroken, again = make(data), make(data)
    expected = recipe.fit(unbroken, data, tmp_path / "unbroken")
    with pytest.raises(Killed):
        killer = keras.callbacks.LambdaCallback(on_epoch_end=kill)
        recipe.fit(make(data), data, tmp_path / "broken", [killer])
    assert recipe.fit(again, data, tmp_path / "broken") == expected
    for one, other in zip(unbroken.full.get_weights(), again.full.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_epoch_has_every_row_once_in_batches_of_like_lengths(data, monkeypatch):
    monkeypatch.setattr(batches, "_WINDOW", 3)
    known = data.lengths("train")
    order = data.order("train", 4, known)
    assert sorted(order) == [*range(data.count("train"))]
    np.testing.assert_array_equal(order, data.order("train", 4, known))
    assert not np.array_equal(order, data.order("train", 5, known))
    assert not np.array_equal(order, dataclasses.replace(data, seed=1).order("train", 4, known))
    plain, end = data.order("train", 4), len(order) // 8 * 8
    np.testing.assert_array_equal(order[end:], plain[end:])  # The short batch.
    found = {tuple(batch) for batch in order[:end].reshape(-1, 8).tolist()}
    for start in range(0, end, 24):
        window = plain[start : min(start + 24, end)]
        by_length = window[np.argsort(known[window], kind="stable")]
        assert {tuple(batch) for batch in by_length.reshape(-1, 8).tolist()} <= found


def padded(order: np.ndarray, known: np.ndarray) -> float:
    return float(np.mean([known[order[i : i + 8]].max() for i in range(0, len(order), 8)]))


def test_windows_sorted_by_length_leave_less_padding(data):
    known = data.lengths("train")
    assert padded(data.order("train", 0, known), known) < known.mean() + 2
    assert padded(data.order("train", 0), known) > known.mean() + 6


def test_the_order_is_by_length_where_rows_have_tokens_and_not_at_the_head(data):
    model = make(data)
    assert schedule._lengths(model, data, HEAD, {}) is None
    for start in ("stem", "layer_2"):
        np.testing.assert_array_equal(
            schedule._lengths(model, data, start, {}), data.lengths("train")
        )


def test_predictions_are_those_of_whole_inputs(data):
    model = make(data)
    for inputs, _ in data.batches("test"):
        found, expected = model.predicted(inputs), model.served(inputs)
        assert_near(found["probabilities"], expected["probabilities"], SUMMANDS)


@pytest.mark.slow
def test_tags_of_words_and_their_loss_are_those_of_whole_inputs(tmp_path):
    folder = written(tmp_path, TaggedSentences())
    data = Data(folder, ToyText(input="words"), Tagging(dropout=0.0), batch_size=8)
    model = make(data)
    for inputs, _ in data.batches("test"):
        found, expected = model.predicted(inputs), model.served(inputs)
        assert_near(found["probabilities"], expected["probabilities"], SUMMANDS)
    short = functools.partial(lengths.shortened, data.backbone)
    losses = []
    for trained in (trainable(model.full, short), trainable(model.full)):
        trained.compile(loss=data.task.loss(), metrics=data.task.metrics(data.classes))
        losses.append(trained.evaluate(data.batches("test"), verbose=0, return_dict=True))
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], rel=1e-5)
    assert losses[0]["accuracy"] == losses[1]["accuracy"]


def test_outputs_of_tokens_have_the_shape_of_the_whole_and_repeat_their_padding():
    network = ToyText(length=8).build()
    ends: Any = network.output
    tokens = keras.Model(network.input, {name: ends[name] for name in ("mask", "tokens")})
    trained = trainable(tokens, lambda inputs: lengths.shortened(ToyText(), inputs))
    found = trained.predict(tf.data.Dataset.from_tensors(tf.constant(IDS[:2])), verbose=0)
    assert found["tokens"].shape == (2, 8, 8)
    np.testing.assert_array_equal(found["mask"], IDS[:2] != 0)
    assert_near(found["tokens"][:, :3], network(IDS[:2])["tokens"][:, :3], SUMMANDS)
    for place in range(4, 8):
        np.testing.assert_array_equal(found["tokens"][:, place], found["tokens"][:, 3])
