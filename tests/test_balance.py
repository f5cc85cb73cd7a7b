"""Cells of class and group in training: their weights, group DRO, the worst cell's best epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiny, weights_of
from test_groups import CLASSES, written

from tlkeras import files, spec
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.fine_tune import FineTune, Phase
from tlkeras.recipes.probe import Probe
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification
from tlkeras.training import balance
from tlkeras.training.balance import Balance, Cells

TASK = Classification(dropout=0.0)
SITES = {"near": {"train": 22, "val": 9}, "far": {"train": 7, "val": 5}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Of the site `near` are three times as many pictures of each class."""
    place = tmp_path_factory.mktemp("sites")
    ingest.write_examples(written(place, SITES, group="site"), Split(0, 0), place / "examples")
    return Data(place / "examples", Tiny(), TASK, batch_size=8)


def make() -> TransferModel:
    return TransferModel(Tiny(), TASK, CLASSES, seed=3)


def head(model: TransferModel) -> list[np.ndarray]:
    return model.head.get_layer("logits").get_weights()


def features(model: TransferModel, data: Data, split: str = "train") -> tuple[np.ndarray, ...]:
    """Returns summaries, one-hot labels and the numbers of cells, in file order."""
    pairs = [(model.body(inputs).numpy(), target) for inputs, target in data.batches(split)]
    x, y = (np.concatenate(each) for each in zip(*pairs, strict=True))
    return x, y, balance.cells(data, "a test").numbers[split]


def test_cells_are_of_one_class_and_one_group(data: Data, capsys):
    found = balance.cells(data, "a test")
    assert found.names == (
        "blue, far", "blue, near", "green, far", "green, near", "red, far", "red, near"
    )  # fmt: skip
    counts = np.bincount(found.numbers["train"])
    assert counts.tolist() == [3, 8, 2, 7, 2, 7]
    np.testing.assert_allclose(found.weights, 29 / (6 * counts), rtol=1e-6)
    assert np.bincount(found.numbers["validation"]).tolist() == [2, 3, 2, 3, 1, 3]
    assert "6 cells of 2 to 8 training examples" in capsys.readouterr().out


def numbers(data: Data, epoch: int) -> list[np.ndarray]:
    """Returns the numbers of the examples in each batch of an epoch."""
    order = data.order("train", epoch)
    return [order[start : start + 8] for start in range(0, len(order), 8)]


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("step_size", [0.0, 0.5])
def test_steps_are_those_of_weighted_cells_in_numpy(tmp_path: Path, step_size: float):
    """Without a step size the weights are fixed; with one they follow the losses of the cells."""
    # Without a validation split the last epoch is the best.
    sites = {site: {"train": parts["train"]} for site, parts in SITES.items()}
    source = written(tmp_path / "sites", sites, group="site")
    ingest.write_examples(source, Split(0, 0), tmp_path / "examples")
    data = Data(tmp_path / "examples", Tiny(), TASK, batch_size=8)
    rate, model = 0.05, make()
    kernel, bias = head(model)
    x, y, cells = features(model, data)
    weights = 29 / (6 * np.bincount(cells))
    factors = np.ones(6)
    for epoch in range(2):
        for rows in numbers(data, epoch):
            own = np.eye(6)[cells[rows]]
            shares = softmax(x[rows] @ kernel + bias)
            losses = -np.log(shares[y[rows] == 1])
            means = 6 * (own * (losses * weights[cells[rows]])[:, None]).sum(0) / len(rows)
            factors = factors * np.exp(step_size * means)
            factors = factors / factors.mean()
            each = (weights * factors)[cells[rows]]
            slope = (shares - y[rows]) * each[:, None] / len(rows)
            kernel, bias = kernel - rate * x[rows].T @ slope, bias - rate * slope.sum(0)
    assert (np.ptp(factors) > 0.5) == (step_size > 0)
    phase = Phase(epochs=2, learning_rate=rate, optimizer="sgd")
    options: dict[str, Any] = {"group_dro": step_size} if step_size else {"balance": "group"}
    recipe = FineTune((phase,), cache="float32", **options)
    recipe.fit(model, data, tmp_path / "fit")
    for found, expected in zip(head(model), (kernel, bias), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.slow
@pytest.mark.equality
def test_group_dro_killed_in_an_epoch_ends_like_an_unbroken_one(data: Data, tmp_path: Path):
    class Killed(Exception):
        pass

    def kill(epoch, logs):
        if epoch == 2:
            raise Killed

    recipe = FineTune((Phase(epochs=4, learning_rate=0.01),), group_dro=0.3)
    unbroken = make()
    expected = recipe.fit(unbroken, data, tmp_path / "unbroken")
    with pytest.raises(Killed):
        killer = keras.callbacks.LambdaCallback(on_epoch_end=kill)
        recipe.fit(make(), data, tmp_path / "broken", callbacks=[killer])
    again = make()
    assert recipe.fit(again, data, tmp_path / "broken") == expected
    for path, values in weights_of(unbroken.full).items():
        np.testing.assert_array_equal(values, weights_of(again.full)[path])
    # The worst cell chose the epoch; of equal ones the least loss.
    scores = [(-log["val_worst_accuracy"], log["val_loss"]) for log in expected]
    state = files.read_json(tmp_path / "unbroken" / "phase0" / "state.json")
    assert state["best_epoch"] == 1 + scores.index(min(scores))
    assert tuple(state["best"]) == min(scores)
    x, y, cells = features(again, data, "validation")
    right = ((x @ head(again)[0] + head(again)[1]).argmax(1) == y.argmax(1)).astype(float)
    worst = min(right[cells == cell].mean() for cell in range(6))
    assert worst == pytest.approx(-min(scores)[0])


def test_the_factors_of_group_dro_go_on_in_the_next_phase(data: Data, tmp_path: Path):
    found: list[list[float]] = []

    class Noting(keras.callbacks.Callback):
        def note(self, logs: Any = None) -> None:
            trained: Any = self.model
            (factors,) = trained.factors
            found.append(np.asarray(factors).tolist())

        on_train_begin = on_train_end = note

    phases = (Phase(epochs=1, learning_rate=0.01), Phase(epochs=1, unfreeze="block4"))
    FineTune(phases, group_dro=0.3).fit(make(), data, tmp_path, callbacks=[Noting()])
    begin, end, next_begin, _ = found
    assert begin == [1.0] * 6 != end
    assert next_begin == end


def test_the_worst_cell_is_the_least_of_those_with_examples():
    cells = Cells(("a", "b", "c"), {"train": np.array([0, 1, 2], np.int32)})
    (metric,) = Balance(cells, 0.0, TASK, ()).metrics()
    assert metric.name == "worst_accuracy"
    for rows in ([0, 1, 2], [3, 4]):
        own = np.array([1, 0, 0, 1, -1], np.int32)[rows]  # None of cell 2; the last has no cell.
        given = tf.one_hot(np.array([0, 0, 1, 1, 1])[rows], 3)
        metric.update_state(tf.one_hot([0] * len(rows), 3), given, sample_weight=own)
    assert float(metric.result()) == pytest.approx(0.5)  # Both cells have one of two right.
    metric.reset_state()
    metric.update_state(tf.one_hot([1], 3), tf.one_hot([1], 3), sample_weight=np.array([2]))
    assert float(metric.result()) == 1.0


def test_a_task_without_a_mean_over_examples_is_judged_by_its_loss():
    cells = Cells(("a", "b"), {"train": np.array([0, 1], np.int32)})
    made = Balance(cells, 0.0, spec.parse("segmentation", Task), ())
    assert made.metric == "worst_negative_loss"


@pytest.mark.slow
def test_a_balanced_head_is_that_of_weighted_logistic_regression(data: Data, tmp_path: Path):
    from sklearn.linear_model import LogisticRegression

    model, strength = make(), 0.1
    x, y, cells = features(model, data)
    weights = 29 / (6 * np.bincount(cells))
    Probe((strength,), cache="float32", balance="group").fit(model, data, tmp_path)
    unit = np.sqrt(x.var(axis=0).mean())
    theirs = LogisticRegression(C=1 / (strength * len(x)), tol=1e-8, max_iter=1000)
    theirs.fit(x / unit, y.argmax(1), sample_weight=weights[cells])
    found = softmax(x @ head(model)[0] + head(model)[1])
    np.testing.assert_allclose(found, theirs.predict_proba(x / unit), atol=2e-3)
    (log,) = Probe((strength,), cache="float32", balance="group").fit(make(), data, tmp_path)
    x, y, cells = features(model, data, "validation")
    right = (softmax(x @ head(model)[0] + head(model)[1]).argmax(1) == y.argmax(1)).astype(float)
    worst = min(right[cells == cell].mean() for cell in range(6))
    assert log["val_worst_accuracy"] == pytest.approx(worst)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fine_tune(group_dro=-1.0)", "group_dro is -1.0, expected a step size, or 0 for none"),
        ("fine_tune(balance='sex')", "balance is 'sex', expected Literal"),
        ("fine_tune(balance='group', class_weight='balanced')", "class_weight beside balance"),
        ("fine_tune(group_dro=0.1, phases=[solve()])", r"group_dro with solve, which makes no"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        spec.parse(text, Recipe)


def test_what_cells_need_is_told_before_any_training(
    data: Data, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    none = Data(recorded, Tiny(), TASK)
    with pytest.raises(ValueError, match=r"fine_tune\.balance needs groups, and the examples have"):
        FineTune(balance="group").fit(make(), none, tmp_path / "none")
    mixing = spec.parse("fine_tune(group_dro=0.1, phases=[phase(augment=[mix_up])])", Recipe)
    with pytest.raises(ValueError, match=r"fine_tune\.group_dro with mix_up.*, which makes one"):
        mixing.fit(make(), data, tmp_path / "mixing")
    monkeypatch.setattr(balance.groups, "MOST", 1)
    with pytest.raises(ValueError, match=r"probe\.balance needs groups of many .*'site' has 2, mo"):
        Probe(balance="group").fit(make(), data, tmp_path / "many")
    assert not (tmp_path / "many").exists()


def test_validation_groups_that_training_lacks_choose_nothing_and_are_refused(tmp_path: Path):
    sites = {"near": {"train": 12}, "far": {"val": 9}}
    source = written(tmp_path / "sites", sites, group="site")
    ingest.write_examples(source, Split(0, 0), tmp_path / "examples")
    apart = Data(tmp_path / "examples", Tiny(), TASK, batch_size=8)
    for recipe in (FineTune(balance="group"), FineTune(group_dro=0.1), Probe(balance="group")):
        with pytest.raises(ValueError, match="none of its 9 examples is of a class and group of"):
            recipe.fit(make(), apart, tmp_path / "fit")
    assert not (tmp_path / "fit").exists()
