"""The temperature of the logits, from the validation split into the model and its exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiny
from scipy import optimize
from test_evaluator import evaluated
from test_trainer import trained

from tlkeras import spec
from tlkeras.data.batches import Data
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.measures import calibration, measures
from tlkeras.measures.measures import Bars, Table
from tlkeras.measures.tagging import ABSENT
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.adapt import Adapt
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.multilabel import Multilabel
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.tagging import Tagging
from tlkeras.training import temperature

SEEDS = range(3)


def drawn(seed: int, count: int = 400, classes: int = 4, sharp: float = 3.0) -> Any:
    """Returns logits that are too sharp, and places drawn by those that are not."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, classes))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    places = np.array([random.choice(classes, p=row) for row in shares])
    return (sharp * logits).astype(np.float32), places


def log_loss(factor: float, logits: np.ndarray, places: np.ndarray) -> float:
    scaled = factor * logits.astype(np.float64)
    return float(
        np.mean(np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(places)), places])
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sharp", [0.02, 3.0, 100.0])
def test_the_factor_has_the_least_loss_that_scipy_finds(seed, sharp):
    logits, places = drawn(seed, sharp=sharp)
    expected: Any = optimize.minimize_scalar(
        log_loss, (0, 1 / sharp), args=(logits, places), tol=1e-10
    )
    found = temperature.best_factor(logits, places)
    assert found == pytest.approx(expected.x, rel=1e-4)
    assert found == pytest.approx(1 / sharp, rel=0.3)  # Of those who drew the places.


@pytest.mark.parametrize(
    ("logits", "places"),
    [
        ([[2.0, 1.0], [0.0, 5.0]], [0, 1]),  # All right: more is always better.
        ([[2.0, 1.0], [0.0, 5.0]], [1, 0]),  # All wrong: less is always better.
        ([[3.0, 3.0], [1.0, 1.0]], [0, 1]),  # They tell nothing.
    ],
)
def test_where_no_factor_is_the_best_there_is_none(logits, places):
    assert temperature.best_factor(np.array(logits), np.array(places)) is None
    assert "There is no temperature" in temperature.Temperature(None, 2).remark()


@pytest.mark.parametrize(
    ("recipe", "task", "count", "message"),
    [
        (FineTune(), Regression(), 500, "regression has no logits"),
        (Adapt(), Classification(), 500, "--recipe=adapt: .* the source, and the head is for"),
        (
            FineTune(),
            Classification(),
            49,
            "at least 50 validation examples to fit a temperature; there are 49",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_refused(recipe, task, count, message, data, monkeypatch):
    monkeypatch.setattr(Data, "count", lambda data, split: count)
    with pytest.raises(ValueError, match=message):
        temperature.require(recipe, task, data)


def test_it_is_refused_before_the_training(recorded: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(FineTune, "fit", lambda *ignored, **options: pytest.fail("was trained"))
    with pytest.raises(ValueError, match="--calibrate needs at least 50"):
        trained(recorded, tmp_path, "out", calibrate=True)


@pytest.fixture(scope="module")
def pair(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model with a head that makes mistakes, and the same with its temperature."""
    place = tmp_path_factory.mktemp("calibrated")
    data = Data(recorded, Tiny(), Classification(), batch_size=8)
    model = TransferModel(data.backbone, data.task, data.classes, seed=1)
    ((inputs, target),) = data.batches("train").rebatch(99).take(1)
    features = np.asarray(model.body(inputs))
    means = np.stack([features[np.argmax(target, -1) == c].mean(axis=0) for c in range(3)])
    kernel = (means - means.mean(axis=0)).T
    kernel += np.random.default_rng(0).normal(0, 2 * kernel.std(), kernel.shape)
    kernel *= 5 / (features @ kernel).std(axis=0)
    model.head.get_layer("logits").set_weights([kernel, -features.mean(axis=0) @ kernel])
    model.save(place / "plain")
    found = temperature.calibrated(model, data)
    model.save(place / "calibrated")
    found.write(place / "calibrated")
    return {name: place / name for name in ("plain", "calibrated")}


def test_a_calibrated_model_is_the_fitted_one_with_its_logits_divided(pair, recorded):
    plain, found = (TransferModel.load(folder) for folder in pair.values())
    value = json.loads((pair["calibrated"] / temperature.FILE).read_text())["value"]
    data = Data(recorded, Tiny(), Classification(), batch_size=8)
    ((inputs, target),) = data.batches("validation").rebatch(99).take(1)
    expected = np.asarray(plain.full(inputs, training=False))
    np.testing.assert_allclose(
        np.asarray(found.full(inputs, training=False)) * value, expected, rtol=1e-4, atol=1e-4
    )
    places = np.asarray(target).argmax(-1)
    best: Any = optimize.minimize_scalar(log_loss, (0, 1), args=(expected, places))
    assert value == pytest.approx(1 / best.x, rel=1e-3) and abs(value - 1) > 0.05


def test_the_trainer_calibrates_what_the_recipe_has_fitted(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(temperature, "ENOUGH", 5)
    monkeypatch.setattr(FineTune, "fit", lambda *ignored, **options: [])
    seen = []
    monkeypatch.setattr(
        temperature,
        "calibrated",
        lambda model, data: seen.append(model.full) or temperature.Temperature(1.5, 18),
    )
    trained(recorded, tmp_path, "out", calibrate=True)
    assert temperature.read(tmp_path / "out") == temperature.Temperature(1.5, 18)
    (remark,) = json.loads((tmp_path / "out" / "remarks.json").read_text())
    assert remark.startswith("The logits are divided by the temperature 1.500")
    trained(recorded, tmp_path, "plain")
    assert len(seen) == 1 and temperature.read(tmp_path / "plain") is None
    assert not (tmp_path / "plain" / "remarks.json").exists()


@pytest.mark.slow
def test_an_export_has_the_temperature(pair, recorded, tmp_path):
    model = TransferModel.load(pair["calibrated"])
    data = Data(recorded, Tiny(), Classification(), batch_size=8)
    SavedModel().write(model, data.singles("train"), tmp_path)
    ((inputs, _),) = data.batches("test").take(1)
    served = SavedModel().load(tmp_path)({"image": inputs.numpy()})
    (plain, value) = TransferModel.load(pair["plain"]), temperature.read(pair["calibrated"])
    logits = np.asarray(plain.full(inputs, training=False)) / (value and value.value)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(served["probabilities"], expected, atol=1e-5)


@pytest.mark.slow
def test_the_evaluation_has_the_measures_before_and_after(pair, recorded, tmp_path):
    found = {}
    for name, folder in pair.items():
        evaluated(tmp_path / name, recorded, folder)
        found[name] = measures.read(tmp_path / name)
    table = next(view for view in found["calibrated"].views if view.title == "Calibration")
    assert isinstance(table, Table)
    expected = [
        found[name].scalars[figure].value
        for figure in ("calibration_error", "log_loss", "brier")
        for name in ("plain", "calibrated")
    ]
    np.testing.assert_allclose([row[2] for row in table.rows], expected, rtol=1e-4)
    assert found["calibrated"].scalars["accuracy"] == found["plain"].scalars["accuracy"]
    titles = [view.title for view in found["plain"].views]
    assert titles.count("Calibration") == 1 and "Conformal sets" not in titles


ONE = np.array([[0.7, 0.3], [0.4, 0.6]])
RATED: dict[str, tuple[tuple[str, ...], np.ndarray, np.ndarray]] = {
    "classification": (("a", "b"), np.eye(2), ONE),
    "multilabel": (("a", "b"), np.eye(2), ONE),
    # A sentence of two words, then how many words further on have each tag.
    "tagging": (("B-a", "O"), np.array([[0, 1, 0, 0]]), ONE[None]),
}
"""Classes, targets and probabilities of each task that can be calibrated."""


def test_every_task_that_can_be_calibrated_measures_what_changes():
    tasks = {name: spec.parse(name, Task) for name in spec.names(Task)}
    assert {*RATED} == {name for name, task in tasks.items() if type(task).rated is not Task.rated}
    for name, (classes, target, probabilities) in RATED.items():
        tally = tasks[name].tally(classes)
        beside = calibration.Uncalibrated(tasks[name], classes, 3.0)
        for each in (tally, beside):
            each.add(target, {"probabilities": probabilities}, 0)
        views = beside.joined(tally.measures()).views
        table = next(view for view in views if view.title == "Calibration")
        assert isinstance(table, Table) and "log loss" in {row[0] for row in table.rows}
        values = [row[2] for row in table.rows if row[0] == "log loss"]
        assert len(values) == 2 and values[0] != values[1]


def test_measures_before_and_after_stand_side_by_side():
    logits, places = drawn(0)
    task, names, target = Classification(), ("a", "b", "c", "d"), np.eye(4)[places]
    found = {}
    for when, divisor in (("before", 1.0), ("after", 3.0)):
        powers = np.exp(logits / divisor)
        served = {"probabilities": powers / powers.sum(axis=1, keepdims=True)}
        tally = task.tally(names)
        tally.add(target, served, 0)
        found[when] = tally.measures()
    beside = calibration.Uncalibrated(task, names, 3.0)
    beside.add(target, served, 0)
    views = beside.joined(found["after"]).views
    table = next(view for view in views if view.title == "Calibration")
    assert isinstance(table, Table) and isinstance(views[views.index(table) + 1], Bars)
    figures = ("calibration_error", "log_loss", "brier")
    expected = [(when, found[when].scalars[each].value) for each in figures for when in found]
    for row, (when, value) in zip(table.rows, expected, strict=True):
        assert row[1] == when and row[2] == pytest.approx(value, rel=1e-4)
    assert table.rows[1][2] < table.rows[0][2] / 2 and "3.000" in table.note


def log_softmax(logits: np.ndarray) -> np.ndarray:
    found = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    found[:, -1] = ABSENT  # The last word of a text is none.
    return found


@pytest.mark.parametrize(
    ("task", "shape", "outputs"),
    [
        (Classification(), (4, 3), np.asarray),
        (Multilabel(), (4, 3), np.asarray),
        (Tagging(), (2, 5, 3), log_softmax),
    ],
    ids=lambda each: getattr(each, "member", ""),
)
@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_what_is_served_of_rescaled_logits_is_told_from_what_was_served(
    task, shape, outputs, factor
):
    logits = np.random.default_rng(0).normal(0, 2, shape).astype(np.float32)
    before = {name: np.asarray(each) for name, each in task.served(outputs(logits)).items()}
    for name, expected in task.served(outputs(factor * logits)).items():
        np.testing.assert_allclose(task.rescaled(before, factor)[name], expected, atol=2e-6)


def test_words_without_a_tag_have_no_part_in_the_temperature():
    outputs = np.log(np.full((1, 3, 2), 0.5, np.float32))
    outputs[0, 2] = -10000  # Is not seen.
    target = np.array([[1, -1, 0, -1, 7, 7]])  # Three words, one behind, and counts of classes.
    logits, places = Tagging().rated(target, outputs)
    assert places.tolist() == [1] and logits.shape == (1, 2)


def test_each_label_of_several_is_a_decision():
    outputs, target = np.array([[1.0, -2.0]]), np.array([[1.0, 0.0]])
    logits, places = Multilabel().rated(target, outputs)
    assert logits.tolist() == [[0, 1], [0, -2]] and places.tolist() == [1, 0]
