"""Any number of labels: the measures against scikit-learn, and the task."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import sklearn.metrics

from tlkeras.frameworks import keras, tf
from tlkeras.measures.measures import Curve, Example, Gallery, Measures, Scalar, Table, interval
from tlkeras.measures.multilabel import MISTAKES, MultilabelTally
from tlkeras.tasks.multilabel import Multilabel

oracle: Any = sklearn.metrics

NAMES = ["rain", "snow", "sun", "never"]


def guesses(count: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels and probabilities that are right more often than not; no label is the last."""
    random = np.random.default_rng(seed)
    labels = random.random((count, 4)) < [0.5, 0.1, 0.3, 0.0]
    logits = random.normal(size=labels.shape) + 2.5 * (labels - 0.5)
    return labels.astype(np.float32), (1 / (1 + np.exp(-logits))).astype(np.float32)


def measured(labels: Any, probabilities: Any, sizes: tuple[int, ...] = ()) -> Measures:
    """Returns the measures, of batches cut at these places."""
    tally, first = MultilabelTally(NAMES), 0
    for target, found in zip(np.split(labels, sizes), np.split(probabilities, sizes), strict=True):
        tally.add(target, {"probabilities": found}, first)
        first += len(target)
    return tally.measures()


def values(found: Measures) -> dict[str, float]:
    return {name: scalar.value for name, scalar in found.scalars.items()}


def view(found: Measures, kind: Any) -> Any:
    (only,) = (each for each in found.views if isinstance(each, kind))
    return only


def test_the_measures_are_those_of_scikit_learn():
    labels, probabilities = guesses()
    named = probabilities >= 0.5
    found = measured(labels, probabilities)
    have = values(found)
    assert found.primary == "macro_f1"
    for average in ("macro", "micro"):
        expected = oracle.f1_score(labels, named, average=average, zero_division=0)
        assert have[f"{average}_f1"] == pytest.approx(expected)
    assert have["mean_average_precision"] == pytest.approx(
        oracle.average_precision_score(labels[:, :3], probabilities[:, :3], average="macro")
    )
    assert have["subset_accuracy"] == pytest.approx(oracle.accuracy_score(labels, named))
    assert have["hamming_loss"] == pytest.approx(oracle.hamming_loss(labels, named))
    losses = [
        oracle.log_loss(labels[:, i], probabilities[:, i].astype(float), labels=[0, 1])
        for i in range(4)
    ]
    assert have["log_loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    precision, recall, f1, support = oracle.precision_recall_fscore_support(
        labels, named, zero_division=0
    )
    rows = view(found, Table).rows
    for place in range(3):
        average = oracle.average_precision_score(labels[:, place], probabilities[:, place])
        expected = [precision[place], recall[place], f1[place], average, support[place]]
        low, high = map(float, rows[place].pop(4).split(" to "))
        assert rows[place][1:] == pytest.approx(expected)
        assert low < f1[place] < high
    assert rows[3] == ["never", 0.0, None, None, None, None, 0]


def test_less_is_better_of_the_losses():
    scalars = measured(*guesses()).scalars
    assert [name for name, scalar in scalars.items() if not scalar.more_is_better] == [
        "hamming_loss",
        "log_loss",
        "calibration_error",
    ]
    assert all(scalar.interval for scalar in scalars.values())


def test_measures_do_not_depend_on_the_cut_into_batches():
    labels, probabilities = guesses()
    whole, cut = (measured(labels, probabilities, sizes) for sizes in ((), (1, 1, 50, 300)))
    assert values(cut) == pytest.approx(values(whole))
    assert cut.views[0] == whole.views[0] and view(cut, Gallery) == view(whole, Gallery)


def test_scores_added_one_by_one_take_as_much_memory_and_give_the_measures_of_one_batch():
    random = np.random.default_rng(0)
    names = [f"class {i}" for i in range(200)]
    labels = random.random([1_000, 200]) < 0.05
    scores = random.random([1_000, 200], np.float32)
    one, other = MultilabelTally(names), MultilabelTally(names)
    tracemalloc.start()
    for place in range(1_000):
        row = slice(place, place + 1)
        one.add(labels[row], {"probabilities": scores[row]}, place)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    other.add(labels, {"probabilities": scores}, 0)
    assert held < 2 * 2**20
    found, expected = one.measures(), other.measures()
    assert values(found) == pytest.approx(values(expected))
    assert found.score == expected.score and view(found, Curve) == view(expected, Curve)


def test_the_intervals_are_those_of_a_bootstrap():
    labels, probabilities = guesses(800)
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        places = random.integers(0, len(labels), len(labels))
        drawn.append(values(measured(labels[places], probabilities[places])))
    scalars = {**measured(labels, probabilities).scalars}
    del scalars["calibration_error"]  # Chance makes it larger in every draw.
    for name, scalar in scalars.items():
        low, high = np.quantile([each[name] for each in drawn], [0.025, 0.975])
        slack = 0.2 * (high - low)
        assert scalar.interval == pytest.approx((low, high), abs=slack), name


def test_classes_that_say_the_same_again_make_no_calibration_error_surer():
    labels, probabilities = guesses(200)
    once = measured(labels, probabilities).scalars["calibration_error"]
    again = MultilabelTally([f"{name} {i}" for name in NAMES for i in range(3)])
    found = np.repeat(probabilities, 3, axis=1)
    again.add(np.repeat(labels, 3, axis=1), {"probabilities": found}, 0)
    thrice = again.measures().scalars["calibration_error"]
    assert thrice.value == pytest.approx(once.value)
    assert thrice.interval == pytest.approx(once.interval)


def test_without_a_wrong_decision_as_little_is_sure_of_decisions_as_of_examples():
    labels = np.eye(4)[np.arange(25) % 4]
    scalars = measured(labels, labels).scalars
    low, high = interval(25, 25)
    assert scalars["subset_accuracy"].interval == (low, high)
    assert scalars["hamming_loss"].interval == pytest.approx((0, 1 - low))


def test_perfect_random_and_constant_predictions_are_measured_so():
    labels, _ = guesses()
    perfect = values(measured(labels[:, :], labels))
    for name in ("macro_f1", "micro_f1", "mean_average_precision", "subset_accuracy"):
        assert perfect[name] == 1
    chance = np.random.default_rng(1).random(labels.shape)
    assert values(measured(labels, chance))["mean_average_precision"] == pytest.approx(
        labels.mean(axis=0)[:3].mean(), abs=0.05
    )
    every = measured(labels, np.full(labels.shape, 0.9))
    none = measured(labels, np.full(labels.shape, 0.1))
    assert values(none)["macro_f1"] == values(none)["micro_f1"] == 0
    for found in (every, none):
        assert found.remarks[0] == "The model is no better than one that always names every class."
    note = view(every, Table).note
    assert f"a macro F1 of {values(every)['macro_f1']:.4f}." in note


def test_examples_without_any_label_are_measured():
    nothing = np.zeros((3, 4))
    found = measured(nothing, nothing)
    assert found.scalars["macro_f1"] == Scalar(0.0, is_defined=False)
    assert found.scalars["subset_accuracy"].value == 1
    assert "mean_average_precision" not in found.scalars
    assert not any("no better" in remark for remark in found.remarks)


def test_the_gallery_has_the_surest_wrong_decisions():
    labels = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], float)
    probabilities = np.array([[0.9, 0, 0, 0], [0.6, 0.03, 0.9, 0], [0, 0, 0.99, 0]])
    assert view(measured(labels, probabilities), Gallery).examples == [
        Example(2, "wrongly sun, 99.0% sure"),
        Example(1, "missed snow; wrongly rain, 97.0% sure"),
    ]
    many = measured(np.zeros((MISTAKES + 5, 4)), np.full((MISTAKES + 5, 4), 0.8))
    assert [each.number for each in view(many, Gallery).examples] == [*range(MISTAKES)]


GOOD, TARGET = np.full((2, 4), 0.25), np.zeros((2, 4))


@pytest.mark.parametrize(
    ("target", "probabilities", "message"),
    [
        (TARGET, [[0, 0, 0, 0], [0, np.nan, 0, 0]], "of example 3 are not finite"),
        (TARGET, [[0, 0, 0, 1.5], [0, 0, 0, 0]], r"of example 2 are not in \[0, 1\]"),
        ([[0, 0, 0, 0], [0, 2, 0, 0]], GOOD, "target of example 3 is .*, expected 1 at its labels"),
        (TARGET[:, :3], GOOD, r"Targets have shape \(2, 3\), expected \[examples, 4\]"),
        (TARGET, GOOD[:, :3], r"Probabilities have shape \(2, 3\), expected \(2, 4\)"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_by_its_number_and_changes_nothing(
    target, probabilities, message
):
    tally = MultilabelTally(NAMES)
    tally.add(TARGET, {"probabilities": GOOD}, 0)
    before = tally.measures()
    with pytest.raises(ValueError, match=message):
        tally.add(np.array(target), {"probabilities": np.array(probabilities)}, 2)
    assert tally.measures() == before


@pytest.mark.parametrize(
    ("labels", "target"), [([], [0, 0, 0]), ([2], [0, 0, 1]), ([0, 2, 0], [1, 0, 1])]
)
def test_the_target_has_one_at_each_label(labels, target):
    example = {"labels": tf.constant(labels, tf.int64)}
    found = Multilabel().target(example, None, 3)
    assert found.numpy().tolist() == target and found.dtype == tf.float32


def test_the_head_learns_each_label_on_its_own():
    """A summary of four numbers; a label each is of the sign of one of them."""
    keras.utils.set_random_seed(0)
    task, summary = Multilabel(dropout=0.0), keras.Input([4])
    head: Any = keras.Model(summary, task.head(summary, 2))
    numbers = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    target = (numbers[:, :2] > 0).astype(np.float32)
    head.compile(keras.optimizers.Adam(0.1), loss=task.loss())
    steps = [np.tile(each, (60, 1)) for each in (numbers, target)]
    head.fit(*steps, batch_size=64, shuffle=False, verbose=0)
    outputs = head(numbers)
    right = (np.asarray(task.served(outputs)["probabilities"]) >= 0.5) == target
    (accuracy,) = task.metrics(())
    accuracy.update_state(target, outputs)
    assert np.mean(right) == pytest.approx(np.asarray(accuracy.result()))
    assert np.mean(right) > 0.95


def test_a_client_gets_the_classes_best_first():
    served = {"probabilities": tf.constant([[0.1, 0.9, 0.8]])}
    named = Multilabel().named(served, ("a", "b", "c"))
    assert named["classes"].numpy().tolist() == [[b"b", b"c", b"a"]]
    np.testing.assert_allclose(named["scores"], [[0.9, 0.8, 0.1]])


def test_a_dropout_of_everything_is_refused():
    with pytest.raises(ValueError, match=r"multilabel\.dropout is 1"):
        Multilabel(dropout=1.0)
