"""The head as a convex problem, against scikit-learn; and class means, against NumPy."""

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest
from conftest import Tiny, weights_of
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from toy_text import Sentences, TaggedSentences, ToyText, written

from tlkeras import spec
from tlkeras.data.batches import Data
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.recipes.probe import Probe
from tlkeras.recipes.prototypes import Prototypes, weights_of_means
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.detection import Detection
from tlkeras.tasks.multilabel import Multilabel
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.tasks.tagging import Tagging
from tlkeras.training import features, linear, loop, solve
from tlkeras.training.linear import LinearHead, Rows
from tlkeras.training.phase import Phase
from tlkeras.training.solve import Problem, Solve

CLASSES = ("blue", "green", "red")
CHANNELS = 24  # Those of `Tiny`.


def clouds(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Returns correlated features [n, channels] of overlapping classes, and labels [n]."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, count)
    centres = random.normal(0, 0.3, (3, CHANNELS))
    mixing = random.normal(0, 1, (CHANNELS, CHANNELS)) * np.geomspace(1, 0.03, CHANNELS)
    return 5 + centres[labels] + random.normal(0, 1, (count, CHANNELS)) @ mixing, labels


def head_and_rows(
    task: Task, inputs: np.ndarray, targets: np.ndarray, classes: tuple[str, ...] = CLASSES
) -> tuple[LinearHead, Rows]:
    """Returns the head of a task with rows of these features, in two batches."""
    head = LinearHead(TransferModel(Tiny(), task, classes), "test")
    task.initialize(head.model.head, targets)
    half = len(inputs) // 2
    parts = [
        (tf.constant(x, tf.float32), tf.constant(y, tf.float32))
        for x, y in ((inputs[:half], targets[:half]), (inputs[half:], targets[half:]))
    ]
    return head, Rows(lambda: parts, lambda given: given, head)


def solved(task: Task, inputs: np.ndarray, targets: np.ndarray, strength: float) -> Any:
    head, rows = head_and_rows(task, inputs, targets)
    return Problem(head, rows).minimum(strength, rows.ones(), head.zeros())


def accuracy(weights: Any, inputs: np.ndarray, labels: np.ndarray) -> float:
    kernel, bias = weights
    return float(np.mean((inputs @ kernel + bias).argmax(-1) == labels))


@pytest.mark.parametrize("strength", [1.0, 0.03])
def test_a_solved_head_is_that_of_scikit_learn(strength):
    inputs, labels = clouds()
    variance = float(np.mean(inputs.var(axis=0)))
    kernel, bias = solved(Classification(), inputs, np.eye(3)[labels], strength)
    peer = LogisticRegression(C=1 / (strength * variance * len(labels)), max_iter=10_000, tol=1e-8)
    peer.fit(inputs, labels)
    np.testing.assert_allclose(kernel, peer.coef_.T, atol=0.01 * np.abs(peer.coef_).max())
    offsets = np.asarray(peer.intercept_)
    centred = offsets - offsets.mean()
    np.testing.assert_allclose(bias - bias.mean(), centred, atol=0.01 * np.abs(centred).max())
    assert accuracy((kernel, bias), inputs, labels) == pytest.approx(
        peer.score(inputs, labels), abs=0.003
    )


def test_solved_labels_are_those_of_scikit_learn():
    inputs, labels = clouds()
    targets = np.stack([labels == 0, labels != 1, inputs[:, 0] > 5], axis=1).astype(float)
    scale = 0.1 * inputs.var(axis=0).mean() * len(labels)
    kernel, bias = solved(Multilabel(), inputs, targets, 0.1)
    peer = LogisticRegression(C=1 / scale, max_iter=10_000, tol=1e-8)
    found: Any = OneVsRestClassifier(peer).fit(inputs, targets)
    expected = np.concatenate([each.coef_ for each in found.estimators_]).T
    np.testing.assert_allclose(kernel, expected, atol=0.01 * np.abs(expected).max())
    offsets = np.concatenate([each.intercept_ for each in found.estimators_])
    np.testing.assert_allclose(bias, offsets, atol=0.01 * np.abs(offsets).max())


def test_the_solved_head_of_a_label_is_the_same_beside_many_others():
    inputs, _ = clouds()
    chance = np.random.default_rng(0).normal(size=(CHANNELS, 79))
    others = inputs @ chance > np.quantile(inputs @ chance, 0.95, axis=0)
    rare = (inputs[:, :1] > np.quantile(inputs[:, 0], 0.9)).astype(float)
    found = []
    for targets in (rare, np.concatenate([rare, others], axis=1)):
        classes = tuple(f"class {number}" for number in range(targets.shape[1]))
        head, rows = head_and_rows(Multilabel(), inputs, targets, classes)
        kernel, bias = Problem(head, rows).minimum(0.03, rows.ones(), head.zeros())
        found.append(np.append(kernel[:, 0], bias[0]))
    np.testing.assert_allclose(*found, atol=0.02 * np.abs(found[0]).max())


def test_a_solved_number_is_that_of_ridge_regression():
    inputs, labels = clouds()
    numbers: Any = 100 * labels + 7 * inputs[:, 3]
    kernel, bias = solved(Regression(), inputs, numbers[:, None], 0.1)
    # The loss is in standard deviations, and half a square is what the penalty has.
    alpha = 0.1 / 2 * inputs.var(axis=0).mean() * len(labels)
    peer = Ridge(alpha).fit(inputs, (numbers - numbers.mean()) / numbers.std())
    np.testing.assert_allclose(kernel[:, 0], peer.coef_, atol=0.01 * np.abs(peer.coef_).max())
    np.testing.assert_allclose(bias[0], peer.intercept_, rtol=0.01)


def test_a_strength_means_the_same_for_features_of_any_scale_and_mean():
    inputs, labels = clouds()
    kernel, bias = solved(Classification(), inputs, np.eye(3)[labels], 0.1)
    larger, other = solved(Classification(), 1000 * inputs - 40, np.eye(3)[labels], 0.1)
    logits = inputs @ kernel + bias
    np.testing.assert_allclose((1000 * inputs - 40) @ larger + other, logits, atol=0.01)


def test_rows_that_memory_does_not_hold_give_the_same_head(monkeypatch):
    inputs, labels = clouds()
    expected = solved(Classification(), inputs, np.eye(3)[labels], 0.1)
    monkeypatch.setattr(linear, "_MEMORY", 0)
    monkeypatch.setattr(linear, "_CHUNK", 1)
    _, rows = head_and_rows(Classification(), inputs, np.eye(3)[labels])
    assert rows._held is None and [chunk.rows.start for chunk in rows] == [0, 150]
    found = solved(Classification(), inputs, np.eye(3)[labels], 0.1)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_parts_have_equal_shares_of_every_class_and_the_seed_chooses_them():
    _, labels = clouds(100)
    folds = solve._folds(np.eye(3)[labels], 5, seed=0)
    assert {*np.bincount(folds)} == {20}
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(folds, solve._folds(np.eye(3)[labels], 5, seed=0))
    assert not np.array_equal(folds, solve._folds(np.eye(3)[labels], 5, seed=1))
    assert solve._folds(np.eye(3)[:2], 5, seed=0).max() == 1
    with pytest.raises(ValueError, match="needs two training examples"):
        solve._folds(np.eye(3)[:1], 5, seed=0)


@pytest.mark.parametrize("held", ["validation", "train"])
def test_the_best_strength_is_that_of_the_best_score(held, capsys):
    # Labels are half chance, and channels nearly as many as examples: a weak penalty overfits.
    random = np.random.default_rng(0)
    inputs = random.normal(0, 1, (400, CHANNELS))
    noisy = (inputs[:, :3] + random.normal(0, 1.5, (400, 3))).argmax(-1)
    head, rows = head_and_rows(Classification(), inputs[:80], np.eye(3)[noisy[:80]])
    checked = None
    if held == "validation":
        batch = (tf.constant(inputs[80:], tf.float32), tf.one_hot(noisy[80:], 3))
        checked = Rows(lambda: [batch], lambda given: given, head)
    part = Solve((1.0, 0.1, 1e-4))
    kernel, _ = part.solution(head, rows, checked, "accuracy", seed=0)
    told = [line.split() for line in capsys.readouterr().out.splitlines() if "loss" in line]
    scores = {float(words[1]): (-float(words[5]), float(words[3])) for words in told}
    best = min(scores, key=lambda strength: scores[strength])
    assert best != 1e-4 and len(scores) == 3
    expected, _ = solved(Classification(), inputs[:80], np.eye(3)[noisy[:80]], best)
    np.testing.assert_allclose(kernel, expected, atol=0.01 * np.abs(expected).max())


@pytest.fixture
def refuse_features(monkeypatch):
    """Makes it an error to compute features: a refusal comes before."""

    def fail(*given):
        raise AssertionError("features were computed")

    monkeypatch.setattr(features, "at", fail)


@pytest.mark.parametrize(
    ("recipe", "asker"), [("probe", "probe"), ("fine_tune(phases=[solve()])", "solve")]
)
@pytest.mark.parametrize("task", [Segmentation(), Detection()])
@pytest.mark.usefixtures("refuse_features")
def test_a_head_of_another_form_is_refused(recipe, asker, task, shapes, tmp_path):
    data = Data(shapes, Tiny(size=64), task)
    model = TransferModel(data.backbone, task, data.classes)
    message = rf"^{asker} needs a head of one dense layer.*{task.name} has"
    with pytest.raises(ValueError, match=message):
        spec.parse(recipe, Recipe).fit(model, data, tmp_path)


def test_a_head_whose_dense_layer_has_an_activation_is_no_linear_one():
    model = TransferModel(Tiny(), Classification(), CLASSES)
    model.head.get_layer("logits").activation = keras.activations.relu
    with pytest.raises(ValueError, match=r"solve needs .* dense layer .* no activation"):
        LinearHead(model, "solve")


@pytest.mark.usefixtures("refuse_features")
def test_a_solved_head_behind_changed_blocks_is_refused(data, tmp_path):
    recipe = FineTune((Phase(epochs=1, unfreeze=0.3), Solve()))
    with pytest.raises(ValueError, match="solve stands behind a phase that unfreezes blocks; put"):
        recipe.fit(TransferModel(Tiny(), Classification(), CLASSES), data, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("probe(strengths=[])", r"probe\.strengths is .*, expected at least one strength"),
        ("probe(strengths=[0.1, 0.0])", r"probe\.strengths is .*, expected strengths above 0"),
        ("probe(strengths=[0.1, 1.0])", r"probe\.strengths is .*, expected falling .*, each once"),
        ("probe(folds=1)", r"probe\.folds is 1, expected at least 2"),
        ("fine_tune(phases=[solve(strengths=[])])", r"solve\.strengths is .*at least one strength"),
        ("fine_tune(phases=[solve(folds=1)])", r"solve\.folds is 1, expected at least 2"),
        ("prototypes(shots=-1)", "shots is -1, expected a number of examples of each class"),
        ("prototypes(distance='manhattan')", "expected .*'cosine', 'euclidean'"),
        ("fine_tune(phases=[probe()])", "'probe' is not a Phase or Solve"),
    ],
)
def test_a_value_that_cannot_be_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        spec.parse(text, Recipe)


@pytest.mark.equality
def test_a_solved_start_killed_in_the_next_phase_ends_like_an_unbroken_one(
    data, tmp_path, monkeypatch
):
    recipe = FineTune((Solve((0.1,)), Phase(epochs=2, unfreeze=0.5, learning_rate=1e-3)))
    unbroken = TransferModel(Tiny(), Classification(), CLASSES, seed=3)
    expected = recipe.fit(unbroken, data, tmp_path / "unbroken")
    assert [log["phase"] for log in expected] == [0, 1, 1]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= {*expected[0]}
    write = loop.write
    for name in ("phase0", "phase1"):  # Before the state of the solved head, and after an epoch.
        killed = TransferModel(Tiny(), Classification(), CLASSES, seed=3)

        def kill(model, state, folder, name=name):
            if folder.name == name and state.epoch == 1:
                raise KeyboardInterrupt
            write(model, state, folder)

        monkeypatch.setattr(loop, "write", kill)
        with pytest.raises(KeyboardInterrupt):
            recipe.fit(killed, data, tmp_path / "broken")
    monkeypatch.setattr(loop, "write", write)
    # What is finished is not solved again.
    monkeypatch.setattr(Solve, "solution", lambda *given: pytest.fail("solved again"))
    again = TransferModel(Tiny(), Classification(), CLASSES, seed=3)
    assert recipe.fit(again, data, tmp_path / "broken") == expected
    before, after = weights_of(unbroken.full), weights_of(again.full)
    assert all(np.array_equal(before[path], after[path]) for path in before)


def test_a_solved_head_replaces_a_better_one_never(data, tmp_path):
    recipe = FineTune((Phase(epochs=8, learning_rate=0.03), Solve((100.0,))))
    model = TransferModel(Tiny(), Classification(), CLASSES)
    logs = recipe.fit(model, data, tmp_path)
    assert logs[-1]["val_loss"] > min(log["val_loss"] for log in logs[:-1])
    losses = [
        data.task.loss()(targets, model.full(inputs)) for inputs, targets in data.batches("train")
    ]
    assert np.mean(losses) < logs[-1]["loss"] - 0.1


def test_class_weights_count_in_a_solved_head(data, tmp_path, monkeypatch):
    weights = []
    loss = LinearHead.loss

    def spied(self, at, rows, counted):
        weights.append({round(float(w), 4) for chunk in rows for w in chunk.weights})
        return loss(self, at, rows, counted)

    monkeypatch.setattr(LinearHead, "loss", spied)
    recipe = FineTune((Solve((0.1,)),), class_weight="balanced")
    recipe.fit(TransferModel(Tiny(), Classification(), CLASSES), data, tmp_path)
    counts = np.array(data.info.class_counts["train"])
    assert weights[0] == {round(float(each), 4) for each in counts.sum() / (3 * counts)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "backbone", "task"),
    [
        (Sentences(), ToyText(length=32), Classification()),
        (TaggedSentences(), ToyText(length=32, input="words"), Tagging()),
    ],
)
def test_heads_on_texts_of_several_lengths_are_solved(source, backbone, task, tmp_path):
    data = Data(written(tmp_path / "texts", source), backbone, task, 16)
    model = TransferModel(backbone, task, data.classes)
    (log,) = Probe((0.1,), cache="float32").fit(model, data, tmp_path / "fit")
    losses = [
        np.asarray(task.loss().call(targets, model.full(inputs, training=False)))
        for inputs, targets in data.batches("train")
    ]
    assert log["loss"] == pytest.approx(np.concatenate(losses).mean(), rel=1e-3)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_the_largest_logit_is_that_of_the_nearest_class_mean(distance):
    inputs, labels = clouds()
    inputs = inputs - 4  # Lengths and directions vary.
    kernel, bias = weights_of_means([(inputs, labels)], 3, distance)
    unit = inputs / np.linalg.norm(inputs, axis=1, keepdims=True)
    if distance == "cosine":
        means = np.stack([unit[labels == label].mean(axis=0) for label in range(3)])
        nearness = unit @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    else:
        means = np.stack([inputs[labels == label].mean(axis=0) for label in range(3)])
        nearness = -np.linalg.norm(inputs[:, None] - means, axis=-1)
    np.testing.assert_array_equal((inputs @ kernel + bias).argmax(-1), nearness.argmax(-1))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_prototypes_of_parts_are_those_of_all_rows_and_one_part_is_in_memory(distance):
    random = np.random.default_rng(0)
    labels = random.integers(0, 7, 40_000) // 2  # Classes of unlike sizes.

    def part(place: int) -> tuple[np.ndarray, np.ndarray]:
        own = labels[1_000 * place : 1_000 * (place + 1)]
        features = np.random.default_rng(place).normal(5, 1, [1_000, 64]) + own[:, None]
        return features, own

    every = [part(place) for place in range(40)]
    whole = np.concatenate([features for features, _ in every])
    expected = weights_of_means([(whole, labels)], 4, distance)
    tracemalloc.start()
    found = weights_of_means(map(part, range(40)), 4, distance)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * every[0][0].nbytes
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize(("classes", "is_held"), [(3, True), (300, False)])
def test_targets_count_as_memory_of_rows_and_of_chunks(classes, is_held, monkeypatch):
    count = 40
    monkeypatch.setattr("tlkeras.training.linear._MEMORY", 2 * count * CHANNELS * 4)
    monkeypatch.setattr("tlkeras.training.linear._CHUNK", 10 * 4 * 300)
    model = TransferModel(Tiny(), Classification(), [f"class {i}" for i in range(classes)])
    parts = [(tf.zeros([1, CHANNELS]), tf.one_hot([i % classes], classes)) for i in range(count)]
    read = []
    rows = Rows(lambda: read.append(1) or parts, lambda given: given, LinearHead(model, "test"))
    assert [len(chunk.inputs) for chunk in rows] == ([count] if is_held else [10] * 4)
    assert len(read) == (1 if is_held else 2)
    np.testing.assert_array_equal(rows.targets.argmax(-1), np.arange(count) % classes)


@pytest.mark.parametrize("shots", [0, 2])
def test_the_means_are_of_so_many_shots_of_each_class(shots, data, tmp_path, monkeypatch):
    taken = []

    def spied(parts, classes, distance):
        parts = [*parts]
        taken.append([np.concatenate(column) for column in zip(*parts, strict=True)])
        assert len(parts) > 1
        return weights_of_means(parts, classes, distance)

    monkeypatch.setattr("tlkeras.training.linear._CHUNK", 1)

    monkeypatch.setattr("tlkeras.recipes.prototypes.weights_of_means", spied)
    model = TransferModel(Tiny(), Classification(), CLASSES)
    (log,) = Prototypes(shots).fit(model, data, tmp_path / "fit")
    assert log["val_accuracy"] > 0.9
    ((inputs, labels),) = taken
    expected = [shots] * 3 if shots else data.info.class_counts["train"]
    assert np.bincount(labels).tolist() == list(expected) and inputs.shape[1] == CHANNELS
    other = dataclasses.replace(data, seed=1)
    Prototypes(shots).fit(model, other, tmp_path / "other")
    assert np.allclose(np.sort(taken[1][0], axis=0), np.sort(inputs, axis=0)) == (shots == 0)


@pytest.mark.usefixtures("refuse_features")
def test_more_shots_than_a_class_has_are_refused(data, tmp_path, monkeypatch):
    counts = dict(zip(data.classes, data.info.class_counts["train"], strict=True))
    least = min(counts.values())
    model = TransferModel(Tiny(), Classification(), CLASSES)
    with pytest.raises(ValueError, match=rf"shots is 99, but class 'blue' has .* at most {least}"):
        Prototypes(99).fit(model, data, tmp_path)
    none = dataclasses.replace(
        data.info, class_counts={**data.info.class_counts, "train": [0, 5, 5]}
    )
    monkeypatch.setattr(Data, "info", none)
    with pytest.raises(ValueError, match="class 'blue' has 0 training examples; give it some"):
        Prototypes().fit(model, data, tmp_path)


@pytest.mark.usefixtures("refuse_features")
@pytest.mark.parametrize("recipe", ["prototypes", "zero_shot(text=starter_text)"])
@pytest.mark.parametrize("task", [Regression(), Segmentation()])
def test_a_head_of_classes_is_refused_without_one_label_of_each_example(
    recipe, task, shapes, tmp_path
):
    data = Data(shapes, Tiny(size=64), task)
    model, name = TransferModel(data.backbone, task, data.classes), recipe.partition("(")[0]
    message = f"^{name} needs one label of each example; {task.name} reads"
    with pytest.raises(ValueError, match=message):
        spec.parse(recipe, Recipe).fit(model, data, tmp_path)
