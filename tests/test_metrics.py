"""The measures against scikit-learn, and by hand."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics

from tlkeras.measures import estimates
from tlkeras.measures import measures as shapes
from tlkeras.measures.classification import MISTAKES, RANKED, SHOWN, ClassificationTally
from tlkeras.measures.confusions import Confusions
from tlkeras.measures.measures import (
    Bar,
    Bars,
    Curve,
    Example,
    Gallery,
    Mark,
    Matrix,
    Measures,
    Scalar,
    Table,
)

oracle: Any = sklearn.metrics

NAMES = [f"class {i}" for i in range(7)]
MANY = [f"class {i}" for i in range(RANKED + 1)]

Batch = tuple[Any, Any]


def guesses(count: int = 400, classes: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels and probabilities that are right more often than not; no label is 3."""
    random = np.random.default_rng(seed)
    labels = random.choice([c for c in range(classes) if c != 3], count)
    logits = random.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return labels, probabilities.astype(np.float32)


def one_hot(labels: Any, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[np.asarray(labels, np.int64)]


def measured(batches: Sequence[Batch], names: Sequence[str]) -> Measures:
    """Returns the measures of batches of labels and probabilities."""
    tally, first = ClassificationTally(names), 0
    for labels, probabilities in batches:
        tally.add(one_hot(labels, len(names)), {"probabilities": probabilities}, first)
        first += len(labels)
    return tally.measures()


def values(measures: Measures) -> dict[str, float]:
    return {name: scalar.value for name, scalar in measures.scalars.items()}


def view(measures: Measures, kind: Any, title: str = "") -> Any:
    (found,) = (v for v in measures.views if isinstance(v, kind) and title in ("", v.title))
    return found


def test_the_measures_are_those_of_scikit_learn():
    labels, probabilities = guesses()
    predicted, classes = probabilities.argmax(axis=-1), range(7)
    measures = measured([(labels, probabilities)], NAMES)
    found = values(measures)
    assert measures.count == 400
    assert measures.score.value == found["accuracy"]
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(labels, predicted))
    assert found["top5_accuracy"] == pytest.approx(
        oracle.top_k_accuracy_score(labels, probabilities, k=5, labels=classes)
    )
    assert found["balanced_accuracy"] == pytest.approx(
        oracle.recall_score(labels, predicted, average="macro", labels=np.unique(labels))
    )
    assert found["macro_f1"] == pytest.approx(
        oracle.f1_score(labels, predicted, average="macro", zero_division=0)
    )
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=-1, keepdims=True)
    assert found["log_loss"] == pytest.approx(
        oracle.log_loss(labels, exact, labels=classes), rel=1e-6
    )
    assert found["brier"] == pytest.approx(
        np.square(probabilities - np.eye(7)[labels]).sum(axis=-1).mean(), rel=1e-6
    )
    matrix = oracle.confusion_matrix(labels, predicted, labels=classes)
    np.testing.assert_array_equal(view(measures, Matrix).counts, matrix)
    precision, recall, f1, support = oracle.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    table = view(measures, Table, "Classes")
    assert table.columns == [
        *("class", "precision", "recall", "f1", "95 % interval of f1", "average precision"),
        "support",
    ]
    assert table.weakest == "f1"
    averages = [
        oracle.average_precision_score(labels == c, probabilities[:, c]) if support[c] else None
        for c in classes
    ]
    for row, *expected in zip(
        table.rows, NAMES, precision, recall, f1, averages, support, strict=True
    ):
        if not row[-1]:  # Of no example nothing is known.
            assert row == [expected[0], 0.0, None, None, None, None, 0]
            continue
        low, high = map(float, str(row.pop(4)).split(" to "))
        assert row[0] == expected[0]
        assert row[1:] == pytest.approx(expected[1:])
        assert low < row[3] < high
    known = [average for average in averages if average is not None]
    assert found["mean_average_precision"] == pytest.approx(np.mean(known))


def test_less_is_better_of_three_measures():
    measures = measured([guesses()], NAMES)
    assert [name for name, scalar in measures.scalars.items() if not scalar.more_is_better] == [
        "log_loss",
        "brier",
        "calibration_error",
    ]
    assert measures.primary == "accuracy" and measures.score.interval is not None


def test_the_calibration_error_is_the_weighted_gap_of_the_bins():
    labels, probabilities = guesses()
    confidence = probabilities.max(axis=-1).astype(np.float64)
    right = probabilities.argmax(axis=-1) == labels
    error = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    measures = measured([(labels, probabilities)], NAMES)
    assert values(measures)["calibration_error"] == pytest.approx(error)
    bars = view(measures, Bars).bars
    assert sum(bar.share for bar in bars) == pytest.approx(1)
    assert sum(400 * bar.share * bar.height for bar in bars) == pytest.approx(right.sum())
    assert all(0 <= bar.low < bar.mark <= bar.high <= 1 for bar in bars)
    assert all(bar.share for bar in bars)


def test_four_examples_are_measured_as_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    measures = measured([([0, 1, 1, 1], probabilities)], ["no", "yes"])
    found = values(measures)
    assert found["accuracy"] == 0.75
    assert found["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.7]).mean())
    assert found["brier"] == pytest.approx(2 * (0.01 + 0.36 + 0.04 + 0.09) / 4)
    assert found["calibration_error"] == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4)
    assert view(measures, Matrix).counts == [[1, 0], [1, 2]]
    assert view(measures, Table, "Most confused classes").rows == [("yes", "no", 1, 1 / 3)]
    assert "top5_accuracy" not in found


def test_measures_do_not_depend_on_the_cut_into_batches_and_are_json():
    labels, probabilities = guesses()
    whole = measured([(labels, probabilities)], NAMES)
    parts = np.split(np.arange(400), [1, 1, 50, 300])
    cut = measured([(labels[part], probabilities[part]) for part in parts], NAMES)
    plain = cut.plain()
    assert json.loads(json.dumps(plain, allow_nan=False)).keys() == plain.keys()
    assert values(cut) == pytest.approx(values(whole))
    assert view(cut, Matrix) == view(whole, Matrix)
    assert view(cut, Gallery, "Mistakes") == view(whole, Gallery, "Mistakes")
    assert view(cut, Table, "Classes") == view(whole, Table, "Classes")


def test_few_classes_are_ranked():
    for classes in (RANKED, RANKED + 1):
        found = measured([guesses(200, classes)], MANY[:classes])
        assert ("mean_average_precision" in found.scalars) is (classes == RANKED)
        table = view(found, Table, "Classes")
        assert ("average precision" in table.columns) is (classes == RANKED)
        assert any(isinstance(each, Curve) for each in found.views) is (classes == RANKED)


def test_memory_of_many_classes_does_not_grow_with_the_examples():
    batch = guesses(100, len(MANY))

    def peak(batches: int) -> int:
        tracemalloc.start()
        measured([batch] * batches, MANY)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)
    assert peak(200) < 1.2 * peak(4)


def test_of_equally_probable_classes_the_first_is_predicted():
    flat = np.full([6, 6], 1 / 6)
    found = values(measured([(np.arange(6), flat)], NAMES[:6]))
    assert found["accuracy"] == pytest.approx(1 / 6)
    assert found["top5_accuracy"] == pytest.approx(5 / 6)


def test_a_share_of_nothing_is_no_number():
    probabilities = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    measures = measured([([0, 1, 1], probabilities)], ["a", "b", "c"])
    table = view(measures, Table, "Classes")
    assert table.rows[2] == ["c", None, None, None, None, None, 0]
    assert "An empty cell is undefined" in table.note
    found = values(measures)
    assert found["balanced_accuracy"] == 0.75  # Class c has no example to be right about.
    assert found["macro_f1"] == pytest.approx(2 / 3)
    assert found["log_loss"] == pytest.approx(-np.log(np.finfo(np.float64).eps) / 3)


def test_the_most_certain_and_the_most_doubtful_are_shown_right_or_wrong():
    labels, probabilities = guesses()
    halves = [(labels[half], probabilities[half]) for half in (slice(90), slice(90, None))]
    found = measured(halves, NAMES)
    order = np.argsort(probabilities.max(-1), kind="stable")
    for title, expected in (
        ("Most doubtful", order[:SHOWN]),
        ("Most certain", np.argsort(-probabilities.max(-1), kind="stable")[:SHOWN]),
    ):
        examples = view(found, Gallery, title).examples
        assert [each.number for each in examples] == expected.tolist()
        for each in examples:
            is_right = labels[each.number] == probabilities[each.number].argmax()
            assert (", rightly, " in each.caption) == is_right


def test_the_gallery_shows_the_surest_mistakes_by_their_number():
    labels, probabilities = guesses()
    found = view(measured([(labels, probabilities)], NAMES), Gallery, "Mistakes").examples
    wrong = np.flatnonzero(probabilities.argmax(-1) != labels)
    surest = wrong[np.argsort(-probabilities[wrong].max(-1), kind="stable")][:MISTAKES]
    assert len(wrong) > MISTAKES
    assert found == [
        Example(
            int(i),
            f"class {labels[i]} taken for class {probabilities[i].argmax()}, "
            f"{probabilities[i].max():.1%} sure",
        )
        for i in surest
    ]


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 10, 0, 0.2775), (8, 10, 0.4902, 0.9433), (10, 10, 0.7225, 1), (500, 1000, 0.4691, 0.5309)],
)
def test_the_interval_is_wilsons(right, count, low, high):
    assert shapes.interval(right, count) == pytest.approx((low, high), abs=5e-5)
    assert shapes.share(right, count) == Scalar(right / count, shapes.interval(right, count))


def test_a_quantized_softmax_may_miss_one_by_its_rounding():
    """Thirty equal classes: each is 1/30 = 8.53/256, given as 9/256, which adds up to 1.05."""
    rounded, names = np.full([2, 30], 9 / 256, np.float32), [str(i) for i in range(30)]
    assert measured([([0, 1], rounded)], names).score.value == 0.5
    with pytest.raises(ValueError, match="do not add up to 1"):
        measured([([0, 1], rounded + np.float32(1e-4))], names)


GOOD, TARGET = np.array([[0.5, 0.5], [0.2, 0.8]]), one_hot([0, 1], 2)


@pytest.mark.parametrize(
    ("target", "probabilities", "message"),
    [
        (TARGET, [[0.5, 0.5], [np.nan, 0.5]], r"of example 3 are not finite: \[nan 0.5\]"),
        (TARGET, [[np.inf, -np.inf], [0.5, 0.5]], "of example 2 are not finite"),
        (TARGET, [[0.5, 0.5], [0.5, 0.502]], "of example 3 do not add up to 1"),
        (TARGET, [[4.0, -3.0], [0.5, 0.5]], r"of example 2 are not in \[0, 1\]"),
        (TARGET, [[1.0, 1.0], [0.5, 0.5]], "of example 2 do not add up to 1"),
        ([[1, 0], [0, 0]], GOOD, r"target of example 3 is \[0 0\], expected 1 at one class"),
        ([[0.5, 0.5], [0, 1]], GOOD, r"target of example 2 is \[0.5 0.5\], expected 1 at one"),
        ([[1, 1], [0, 1]], GOOD, r"target of example 2 is \[1 1\], expected 1 at one class"),
        (TARGET[:1], GOOD, r"Probabilities have shape \(2, 2\), expected \(1, 2\)"),
        ([0, 1], GOOD, r"Targets have shape \(2,\), expected \[examples, 2\]"),
        (TARGET, [[0.2, 0.3, 0.5]] * 2, r"have shape \(2, 3\), expected \(2, 2\)"),
        (TARGET, [0.5, 0.5], r"have shape \(2,\), expected \(2, 2\)"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_by_its_number_and_changes_nothing(
    target, probabilities, message
):
    tally = ClassificationTally(["no", "yes"])
    tally.add(TARGET, {"probabilities": GOOD}, 0)
    before = tally.measures()
    with pytest.raises(ValueError, match=message):
        tally.add(np.array(target), {"probabilities": np.array(probabilities)}, 2)
    assert tally.measures() == before


def test_no_example_cannot_be_measured():
    nothing = (np.zeros(0, np.int64), np.zeros([0, 2]))
    for batches in ([], [nothing]):
        with pytest.raises(ValueError, match="no example to measure"):
            measured(batches, ["no", "yes"])


def counted(matrix: list[list[int]], names: Sequence[str], sure: float = 0.8) -> Measures:
    """Returns the measures of predictions counted by a confusion matrix, all equally sure."""
    cells = np.array(matrix)
    labels, predicted = (np.repeat(side.ravel(), cells.ravel()) for side in np.indices(cells.shape))
    others = (1 - sure) / (len(names) - 1)
    probabilities = others + (sure - others) * np.eye(len(names))[predicted]
    return measured([(labels, probabilities)], names)


def test_there_is_no_remark_on_a_good_model():
    assert counted([[900, 50], [50, 900]], ["a", "b"], sure=0.95).remarks == []


@pytest.mark.parametrize(
    ("matrix", "sure", "sentence"),
    [
        (
            [[8, 2], [2, 8]],
            0.8,
            "The accuracy is imprecise: of only 20 examples, its 95 % interval",
        ),
        ([[0, 100], [0, 300]], 0.8, "no better than one that always answers b."),
        ([[60, 40], [0, 300]], 0.8, "far below the accuracy: a (0.60 of 100)."),
        ([[60, 40], [0, 300]], 0.8, "often takes one class for another: a for b (40%)."),
        (
            [[9, 0, 0], [0, 99, 0], [0, 0, 0]],
            0.8,
            "have no example, so nothing is known of them: c",
        ),
        ([[9, 0], [0, 99]], 0.8, "fewer than 10 examples, so little is known of them: a."),
        (
            [[300, 300], [0, 600]],
            0.99,
            "the mean confidence is 99.0%, the accuracy 75.0%, the calibration error 0.24.",
        ),
    ],
)
def test_remarks_follow_from_the_numbers(matrix, sure, sentence):
    remarks = counted(matrix, "abc"[: len(matrix)], sure).remarks
    assert any(sentence in remark for remark in remarks), remarks


def test_the_note_on_classes_names_the_most_frequent_one():
    note = view(counted([[60, 40], [0, 300]], "ab"), Table, "Classes").note
    assert note == "Always answering the most frequent class, b, would reach an accuracy of 0.7500."


@pytest.mark.parametrize(
    ("labels", "sure", "sentence"),
    [([0, 0, 0, 1], 0.95, "overconfident by 20.0"), ([0] * 4, 0.6, "underconfident by 40.0")],
)
def test_confidence_is_compared_the_right_way_round(labels, sure, sentence):
    measures = measured([(labels, np.tile([sure, 1 - sure], (4, 1)))], "ab")
    assert sentence in view(measures, Bars).note


def test_chance_is_no_fault_of_the_probabilities():
    remarks, errors = 0, []
    for seed in range(20):
        random = np.random.default_rng(seed)
        sure = random.uniform(0.5, 1, 100)
        labels = (random.random(100) > sure).astype(int)
        found = measured([(labels, np.stack([sure, 1 - sure], 1))], "ab")
        errors.append(values(found)["calibration_error"])
        remarks += any("unreliable" in remark for remark in found.remarks)
    assert np.mean(errors) > 0.05  # Though there is no fault, of so few examples.
    assert remarks <= 3


def test_one_mistake_of_few_examples_is_no_weakness():
    for few, is_weak in (([3, 1], False), ([30, 10], True)):
        remarks = counted([few, [4, 96]], "ab").remarks
        assert any("far below" in remark for remark in remarks) is is_weak


VIEWS = [
    Table("Words", ["word", "share"], [["a", 0.5], ["b", None]], "A note.", weakest="share"),
    Matrix("Confusions", ["a", "b"], [[1, 2], [3, 4]]),
    Curve("Precision", "recall", "precision", {"a": [[0.0, 1.0], [1.0, 0.5]]}, "A note."),
    Bars("Calibration", "confidence", "accuracy", [Bar(0.0, 0.5, 0.25, 0.3, 1.0)]),
    Gallery("Mistakes", [Example(17, "a taken for b", marks={"true": [Mark(0, 2, "PER")]})]),
]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
def test_measures_in_a_file_are_the_same_again(view: shapes.View, tmp_path: Path):
    scalars = {
        "mean_iou": Scalar(0.5, (0.4, 0.6)),
        "perplexity": Scalar(7.5, more_is_better=False),
    }
    measures = Measures("mean_iou", 12, scalars, [view], ["It is weak."], "test")
    assert shapes.parsed(json.loads(json.dumps(measures.plain()))) == measures
    shapes.write(measures, tmp_path)
    assert shapes.read(tmp_path) == measures
    assert json.loads((tmp_path / shapes.FILE).read_text())["mean_iou"] == 0.5


def test_every_view_is_proven_to_be_the_same_again():
    assert {type(view) for view in VIEWS} == set(shapes._VIEWS.values())
    assert all(dataclasses.is_dataclass(view) for view in VIEWS)


@pytest.mark.parametrize(
    ("one", "other", "lost"),
    [
        (Scalar(0.90), Scalar(0.95), 0.05),
        (Scalar(0.95), Scalar(0.90), -0.05),
        (Scalar(2.2, more_is_better=False), Scalar(2.0, more_is_better=False), 0.1),
        (Scalar(1.0, more_is_better=False), Scalar(2.0, more_is_better=False), -0.5),
    ],
)
def test_a_loss_is_a_share_whichever_way_is_better(one, other, lost):
    assert one.lost(other) == pytest.approx(lost)


def test_of_many_names_only_some_are_listed():
    assert shapes.listed(["a", "b"]) == "a, b"
    assert shapes.listed("abcdefg") == "a, b, c, d, e and 2 more"


def two(count: int = 500, share: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels, few of them 1, and confident probabilities of two classes."""
    random = np.random.default_rng(seed)
    labels = (random.random(count) < share).astype(int)
    logits = 20 * random.normal(size=count) + 30 * labels - 40
    one = 1 / (1 + np.exp(-logits))
    return labels, np.stack([1 - one, one], axis=1)


@pytest.mark.parametrize(("classes", "seed"), [(2, 0), (3, 1), (7, 2)])
def test_matthews_coefficient_is_that_of_scikit_learn(classes, seed):
    random = np.random.default_rng(seed)
    labels, predicted = random.integers(0, classes, (2, 300))
    predicted = np.where(random.random(300) < 0.5, labels, predicted)
    found = measured([(labels, one_hot(predicted, classes))], NAMES[:classes])
    assert values(found)["mcc"] == pytest.approx(oracle.matthews_corrcoef(labels, predicted))


def test_of_two_classes_the_areas_are_those_of_scikit_learn():
    """Most scores lie at 0 and 1, where thresholds at fixed places see no difference."""
    labels, probabilities = two()
    predicted = probabilities.argmax(axis=-1)
    assert np.mean(np.abs(probabilities[:, 1] - 0.5) > 0.4999) > 0.8
    halves = [(labels[half], probabilities[half]) for half in np.split(np.arange(500), 2)]
    found = values(measured(halves, ["ham", "spam"]))
    scores = probabilities[:, 1].astype(np.float32)
    assert found["roc_auc"] == pytest.approx(oracle.roc_auc_score(labels, scores))
    assert found["average_precision_spam"] == pytest.approx(
        oracle.average_precision_score(labels, scores)
    )
    assert found["average_precision_ham"] == pytest.approx(
        oracle.average_precision_score(1 - labels, probabilities[:, 0].astype(np.float32))
    )
    for place, name in enumerate(["ham", "spam"]):
        assert found[f"f1_{name}"] == pytest.approx(
            oracle.f1_score(labels, predicted, pos_label=place)
        )


def test_equal_scores_count_half_and_are_one_threshold():
    labels, scores = np.array([0, 0, 1, 1, 1]), np.array([0.2, 0.6, 0.6, 0.6, 0.9])
    found = measured([(labels, np.stack([1 - scores, scores], 1))], "ab")
    assert values(found)["roc_auc"] == pytest.approx(5 / 6)
    assert values(found)["average_precision_b"] == pytest.approx(1 / 3 + 2 / 3 * 3 / 4)
    series = view(found, Curve).series
    assert series["b"] == [[pytest.approx(1 / 3), 1.0], [1.0, 0.75], [1.0, 0.6]]


def test_a_long_curve_has_fewer_points_from_its_first_to_its_last():
    points = view(measured([two(5000)], "ab"), Curve).series["b"]
    assert 20 < len(points) <= 100
    assert points[-1] == [1.0, pytest.approx(two(5000)[0].mean())]


def test_perfect_constant_and_random_classifiers_are_measured_so():
    labels, _ = two()
    perfect = measured([(labels, one_hot(labels, 2))], ["ham", "spam"])
    for name in ("mcc", "roc_auc", "f1_spam", "average_precision_spam", "balanced_accuracy"):
        scalar = perfect.scalars[name]
        # Of so few spam, even a faultless model is not certain.
        assert scalar.value == 1 and scalar.interval and 0.7 < scalar.interval[0] < 0.99
    constant = values(measured([(labels, np.tile([0.9, 0.1], (500, 1)))], ["ham", "spam"]))
    assert constant["mcc"] == constant["f1_spam"] == 0
    assert constant["roc_auc"] == constant["balanced_accuracy"] == 0.5
    assert constant["average_precision_spam"] == pytest.approx(labels.mean())
    scores = np.random.default_rng(7).random(500)
    chance = measured([(labels, np.stack([1 - scores, scores], 1))], ["ham", "spam"]).scalars
    for name, value in {"mcc": 0, "roc_auc": 0.5, "balanced_accuracy": 0.5}.items():
        low, high = chance[name].interval or (1, 0)
        assert low < value < high


def test_what_needs_examples_of_both_classes_is_left_out_without_them():
    found = measured([([0, 0], [[0.9, 0.1], [0.2, 0.8]])], "ab")
    assert not {"roc_auc", "f1_a", "average_precision_a"} & found.scalars.keys()
    assert view(found, Curve).series.keys() == {"a"}


@pytest.mark.parametrize("classes", [2, 7])
def test_the_intervals_are_those_of_a_bootstrap(classes):
    labels, probabilities = two(800, share=0.3) if classes == 2 else guesses(800)
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(200):
        places = random.integers(0, 800, 800)
        drawn.append(values(measured([(labels[places], probabilities[places])], NAMES[:classes])))
    scalars = {**measured([(labels, probabilities)], NAMES[:classes]).scalars}
    del scalars["calibration_error"]  # Chance makes it larger in every draw.
    assert len(scalars) == (11 if classes == 2 else 8)
    for name, scalar in scalars.items():
        low, high = np.quantile([each[name] for each in drawn], [0.025, 0.975])
        slack = (0.5 if "precision" in name else 0.25) * (high - low)
        assert scalar.interval == pytest.approx((low, high), abs=slack), name


def test_the_intervals_of_the_f1_of_classes_are_those_of_a_bootstrap():
    labels, probabilities = guesses(800)
    whole = np.zeros([7, 7], int)
    np.add.at(whole, (labels, probabilities.argmax(axis=-1)), 1)
    random, found = np.random.default_rng(0), Confusions(NAMES, whole)
    draws = random.multinomial(800, whole.ravel() / 800, 400).reshape(-1, 7, 7)
    drawn = np.array([Confusions(NAMES, counts).f1 for counts in draws])
    for place in np.flatnonzero(found.support).tolist():
        low, high = np.quantile(drawn[:, place], [0.025, 0.975])
        scalar = found.f1_of(place)
        assert scalar.value == found.f1[place]
        assert scalar.interval == pytest.approx((low, high), abs=0.25 * (high - low))


def test_the_f1_of_a_class_without_mistakes_is_as_sure_as_its_examples_are_many():
    found = Confusions("ab", np.array([[10, 0], [0, 990]]))
    for place, count in enumerate((10, 990)):
        assert found.f1_of(place).interval == shapes.interval(count, count)


def test_intervals_of_small_samples_hold_what_they_should():
    """Of 40 examples with macro F1 and balanced accuracy known, 19 of 20 intervals have it."""
    joint = np.array([[0.5, 0.1], [0.1, 0.3]])
    truth = {
        "macro_f1": (2 * 0.5 / 1.2 + 2 * 0.3 / 0.8) / 2,
        "balanced_accuracy": (0.5 / 0.6 + 0.3 / 0.4) / 2,
        "mcc": (0.5 * 0.3 - 0.1 * 0.1) / (0.6 * 0.4),
    }
    held = dict.fromkeys(truth, 0)
    random = np.random.default_rng(0)
    for _ in range(400):
        counts = random.multinomial(40, joint.ravel()).reshape(2, 2)
        found = Confusions("ab", counts)
        for name, scalar in {
            "macro_f1": found.macro_f1,
            "balanced_accuracy": found.balanced_accuracy,
            "mcc": found.matthews,
        }.items():
            low, high = scalar.interval or (1, 0)
            held[name] += low <= truth[name] <= high
    assert all(0.91 <= count / 400 <= 0.98 for count in held.values()), held


def test_intervals_are_those_of_the_slopes_of_all_cells():
    counts = np.random.default_rng(0).poisson(0.3, (30, 30)) + 9 * np.eye(30, dtype=int)
    counts[4], counts[:, 5] = 0, 0
    found, total, eye = Confusions(NAMES * 5, counts), counts.sum(), np.eye(30)
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    known, named = rows > 0, rows + columns > 0
    recall, part = counts.diagonal() / np.maximum(rows, 1), 1 / np.maximum(rows + columns, 1)
    lost = 2 * counts.diagonal() * part**2
    p, q = rows / total, columns / total
    size, value = ((1 - p @ p) * (1 - q @ q)) ** 0.5, found.matthews.value
    moved = (eye - q[:, None] - p) + value * size * (p[:, None] / (1 - p @ p) + q / (1 - q @ q))
    for scalar, slopes, scale in [
        (
            found.balanced_accuracy,
            (eye - recall[:, None]) / np.maximum(rows, 1)[:, None] / known.sum(),
            1,
        ),
        (found.macro_f1, (2 * part * eye - lost[:, None] - lost) / named.sum(), 1),
        (found.matthews, moved / size / total / 2, 2),
    ]:
        mean = (counts * slopes).sum() / total
        variance = float((counts * np.square(slopes - mean)).sum())
        of_one = (scalar.value + scale - 1) / scale
        low, high = estimates.spread(of_one, variance, 0)
        expected = (scale * low - scale + 1, scale * high - scale + 1)
        assert scalar.interval == pytest.approx(expected, abs=1e-12)


def test_thousands_of_classes_are_measured_in_the_space_of_their_examples(tmp_path: Path):
    random, names = np.random.default_rng(0), [f"class {i}" for i in range(5_000)]
    labels = random.integers(0, len(names), 100)
    tally = ClassificationTally(names)
    served = random.random([100, len(names)]) + len(names) * np.eye(len(names))[labels]
    served[:40] = np.roll(served[:40], 1, axis=1)
    probabilities = served / served.sum(axis=1, keepdims=True)
    tally.add(one_hot(labels, len(names)), {"probabilities": probabilities}, 0)
    tracemalloc.start()
    found = tally.measures()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    shapes.write(found, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 * 2**20
    assert peak < 8 * 2**20
    assert found.scalars["accuracy"].value == 0.6
    confused, classes = (each for each in found.views if isinstance(each, Table))
    assert len(classes.rows) == 5_000 and "of 40 confusions" in confused.note


def test_the_interval_of_a_mean_is_by_normal_theory():
    losses = np.random.default_rng(0).exponential(size=50)
    found = estimates.mean_loss(estimates.sums(losses), 50)
    reach = 1.959963985 * losses.std(ddof=1) / 50**0.5
    assert found.value == pytest.approx(losses.mean()) and not found.more_is_better
    assert found.interval == pytest.approx((losses.mean() - reach, losses.mean() + reach))
    assert estimates.mean_loss(estimates.sums(losses[:1]), 1).interval is None


def test_a_ratio_takes_an_example_as_one_unit():
    """Ten equal words of a sentence tell no more than one."""
    few, many = estimates.Ratio(), estimates.Ratio()
    right = np.arange(200) % 3 != 0
    few.add(right, np.ones(200))
    many.add(10 * right, np.full(200, 10))
    assert few.scalar.interval == pytest.approx(many.scalar.interval)
    assert few.scalar.interval == pytest.approx(shapes.interval(int(right.sum()), 200))


@pytest.mark.parametrize(("part", "whole"), [(1, 3), (2, 7), (5, 5), (0, 4)])
def test_a_ratio_that_does_not_vary_is_a_share_of_the_examples_and_of_one_has_no_interval(
    part: int, whole: int
):
    for count in range(1, 30):
        ratio = estimates.Ratio()
        ratio.add(np.full(count, part), np.full(count, whole))
        ratio.add(np.zeros(9), np.zeros(9))  # Sentences without an entity say nothing of entities.
        found, rate = ratio.scalar, ratio.rate
        assert found.value == rate.value == pytest.approx(part / whole)
        if count == 1:
            assert found.interval is None and rate.interval is None
            continue
        assert found.interval == pytest.approx(shapes.interval(part / whole * count, count))
