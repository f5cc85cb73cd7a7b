"""The measures against scikit-learn, and by hand."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
import sklearn.metrics

from tlkeras.measures import classification

oracle: Any = sklearn.metrics

NAMES = [f"class {i}" for i in range(7)]


def guesses(count: int = 400, classes: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels and probabilities that are right more often than not; no label is 3."""
    random = np.random.default_rng(seed)
    labels = random.choice([c for c in range(classes) if c != 3], count)
    logits = random.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return labels, probabilities.astype(np.float32)


def test_the_measures_are_those_of_scikit_learn():
    labels, probabilities = guesses()
    predicted, classes = probabilities.argmax(axis=-1), range(7)
    measures = classification.classification([(labels, probabilities)], NAMES)
    assert measures["count"] == 400
    assert measures["accuracy"] == pytest.approx(oracle.accuracy_score(labels, predicted))
    assert measures["top5_accuracy"] == pytest.approx(
        oracle.top_k_accuracy_score(labels, probabilities, k=5, labels=classes)
    )
    assert measures["balanced_accuracy"] == pytest.approx(
        oracle.recall_score(labels, predicted, average="macro", labels=np.unique(labels))
    )
    assert measures["macro_f1"] == pytest.approx(
        oracle.f1_score(labels, predicted, average="macro", zero_division=0)
    )
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=-1, keepdims=True)
    assert measures["log_loss"] == pytest.approx(
        oracle.log_loss(labels, exact, labels=classes), rel=1e-6
    )
    assert measures["brier"] == pytest.approx(
        np.square(probabilities - np.eye(7)[labels]).sum(axis=-1).mean(), rel=1e-6
    )
    np.testing.assert_array_equal(
        measures["confusion_matrix"], oracle.confusion_matrix(labels, predicted, labels=classes)
    )
    precision, recall, f1, support = oracle.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    for row, *expected in zip(
        measures["per_class"], NAMES, precision, recall, f1, support, strict=True
    ):
        found = [row["class"], row["precision"], row["recall"], row["f1"], row["support"]]
        assert found[0] == expected[0]
        assert found[1:] == pytest.approx(expected[1:])


def test_the_calibration_error_is_the_weighted_gap_of_the_bins():
    labels, probabilities = guesses()
    confidence = probabilities.max(axis=-1).astype(np.float64)
    right = probabilities.argmax(axis=-1) == labels
    error = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    measures = classification.classification([(labels, probabilities)], NAMES)
    assert measures["calibration_error"] == pytest.approx(error)
    bins = measures["reliability"]
    assert sum(row["count"] for row in bins) == 400
    assert sum(row["count"] * row["accuracy"] for row in bins) == pytest.approx(right.sum())
    assert [bins[0]["low"], bins[-1]["high"]] == [0, 1]
    assert all(row["low"] < row["confidence"] <= row["high"] for row in bins if row["count"])


def test_four_examples_are_measured_as_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    measures = classification.classification(
        [(np.array([0, 1, 1, 1]), probabilities)], ["no", "yes"]
    )
    assert measures["accuracy"] == 0.75
    assert measures["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert measures["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert measures["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.7]).mean())
    assert measures["brier"] == pytest.approx(2 * (0.01 + 0.36 + 0.04 + 0.09) / 4)
    assert measures["calibration_error"] == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4)
    assert measures["confusion_matrix"] == [[1, 0], [1, 2]]
    assert "top5_accuracy" not in measures


def test_measures_do_not_depend_on_the_cut_into_batches_and_are_json():
    labels, probabilities = guesses()
    whole = classification.classification([(labels, probabilities)], NAMES)
    parts = np.split(np.arange(400), [1, 1, 50, 300])
    cut = classification.classification(
        [(labels[part], probabilities[part]) for part in parts], NAMES
    )
    assert json.loads(json.dumps(cut, allow_nan=False)) == cut
    for name in whole.keys() - {"reliability"}:
        assert cut[name] == (
            whole[name] if isinstance(whole[name], list) else pytest.approx(whole[name])
        )


def test_memory_does_not_grow_with_the_examples():
    labels, probabilities = guesses(100)

    def peak(batches: int) -> int:
        tracemalloc.start()
        classification.classification(((labels, probabilities) for _ in range(batches)), NAMES)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)
    assert peak(200) < 1.2 * peak(4)


def test_of_equally_probable_classes_the_first_is_predicted():
    flat = np.full([6, 6], 1 / 6)
    measures = classification.classification([(np.arange(6), flat)], NAMES[:6])
    assert measures["accuracy"] == pytest.approx(1 / 6)
    assert measures["top5_accuracy"] == pytest.approx(5 / 6)


def test_a_share_of_nothing_is_zero():
    probabilities = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    measures = classification.classification(
        [(np.array([0, 1, 1]), probabilities)], ["a", "b", "c"]
    )
    assert measures["per_class"][2] == {
        "class": "c",
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "support": 0,
    }
    assert measures["balanced_accuracy"] == 0.75  # Class c has no example to be right about.
    assert measures["macro_f1"] == pytest.approx(2 / 3)
    assert measures["log_loss"] == pytest.approx(-np.log(np.finfo(np.float64).eps) / 3)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 10, 0, 0.2775), (8, 10, 0.4902, 0.9433), (10, 10, 0.7225, 1), (500, 1000, 0.4691, 0.5309)],
)
def test_the_interval_is_wilsons(right, count, low, high):
    assert classification.interval(right, count) == pytest.approx((low, high), abs=5e-5)


def test_slices_are_measured_as_if_alone():
    labels, probabilities = guesses(60)
    groups = np.where(np.arange(60) % 3 == 0, "indoors", "outdoors")
    halves = [slice(0, 31), slice(31, 60)]
    found = classification.slices(
        [(labels[half], probabilities[half], list(groups[half])) for half in halves], NAMES
    )
    assert list(found) == ["indoors", "outdoors"]
    for group, measures in found.items():
        chosen = groups == group
        alone = classification.classification([(labels[chosen], probabilities[chosen])], NAMES)
        assert measures["confusion_matrix"] == alone["confusion_matrix"]
        assert measures["brier"] == pytest.approx(alone["brier"])


def test_a_confusion_counts_labels_by_row_and_predictions_by_column():
    found = classification.confusion(np.array([0, 0, 2]), np.array([1, 1, 2]), 3)
    assert found.dtype == np.int64
    assert found.tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_a_quantized_softmax_may_miss_one_by_its_rounding():
    """Thirty equal classes: each is 1/30 = 8.53/256, given as 9/256, which adds up to 1.05."""
    rounded = np.full([2, 30], 9 / 256, np.float32)
    measures = classification.classification(
        [(np.array([0, 1]), rounded)], [str(i) for i in range(30)]
    )
    assert measures["accuracy"] == 0.5
    with pytest.raises(ValueError, match="do not add up to 1"):
        classification.classification(
            [(np.array([0, 1]), rounded + np.float32(1e-4))], [str(i) for i in range(30)]
        )


GOOD = np.array([[0.5, 0.5], [0.2, 0.8]])


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], r"of example 3 are not finite: \[nan 0.5\]"),
        ([0, 1], [[np.inf, -np.inf], [0.5, 0.5]], "of example 2 are not finite"),
        ([0, 1], [[0.5, 0.5], [0.5, 0.502]], "of example 3 do not add up to 1"),
        ([0, 1], [[4.0, -3.0], [0.5, 0.5]], r"of example 2 are not in \[0, 1\]"),
        ([0, 1], [[1.0, 1.0], [0.5, 0.5]], "of example 2 do not add up to 1"),
        ([0, 2], GOOD, "Example 3 has the label 2, expected 0 to 1"),
        ([-1, 0], GOOD, "Example 2 has the label -1, expected 0 to 1"),
        ([0.0, 1.0], GOOD, "Labels are float64 of shape"),
        ([0], GOOD, r"Labels are int64 of shape \(1,\), expected integers of shape \(2,\)"),
        ([[0, 1], [1, 0]], GOOD, r"Labels are int64 of shape \(2, 2\)"),
        ([0, 1], [[0.2, 0.3, 0.5]] * 2, r"have shape \(2, 3\), expected \[examples, 2\]"),
        ([0, 1], [0.5, 0.5], r"have shape \(2,\), expected \[examples, 2\]"),
    ],
)
def test_what_is_not_a_label_or_a_probability_is_refused_by_its_number(
    labels, probabilities, message
):
    batches = [(np.array([0, 1]), GOOD), (np.array(labels), np.array(probabilities))]
    with pytest.raises(ValueError, match=message):
        classification.classification(batches, ["no", "yes"])


def test_no_example_cannot_be_measured():
    nothing = (np.zeros(0, np.int64), np.zeros([0, 2]))
    for batches in ([], [nothing]):
        with pytest.raises(ValueError, match="no example to measure"):
            classification.classification(batches, ["no", "yes"])


def test_groups_and_predictions_must_be_as_many_as_labels():
    with pytest.raises(ValueError, match=r"There are \(1,\) groups of \(2,\) labels"):
        classification.slices([(np.array([0, 1]), GOOD, ["only one"])], ["no", "yes"])
    with pytest.raises(ValueError, match="Predictions are int64 of shape"):
        classification.confusion(np.array([0, 1]), np.array([0]), 2)


def test_the_example_of_a_wrong_label_is_counted_over_all_groups():
    batch = (np.array([0, 1, 9]), np.full([3, 2], 0.5), ["a", "b", "a"])
    with pytest.raises(ValueError, match="xample 2 has the label 9"):
        classification.slices([batch], ["no", "yes"])
