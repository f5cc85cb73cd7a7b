"""Conformal sets: the threshold, the promise, the measures, and what a client gets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiny
from test_evaluator import evaluated, model  # noqa: F401 - A fixture.

from pipeline.config import Config
from tlkeras.data.batches import Data
from tlkeras.measures import conformal, measures
from tlkeras.measures.conformal import APS, LAC, Sets, SetTally
from tlkeras.measures.measures import Measures, Scalar, Table
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.adapt import Adapt
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.multilabel import Multilabel

SCORES = [LAC(), APS()]


def by_hand(member: str, probabilities: np.ndarray) -> np.ndarray:
    """Returns the scores of the classes by loops."""
    found = np.zeros_like(probabilities)
    for i, row in enumerate(probabilities):
        for c, own in enumerate(row):
            before = sum(p for d, p in enumerate(row) if p > own or (p == own and d < c))
            found[i, c] = 1 - own if member == "lac" else before
    return found


def drawn(count: int, seed: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities of which the classes are not drawn: the model is not calibrated."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (count, classes))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) > random.uniform(size=(count, 1))).argmax(axis=1)
    sharp = shares**3
    return sharp / sharp.sum(axis=1, keepdims=True), labels


def fitted(score: conformal.Conformal, count: int, seed: int) -> Sets:
    probabilities, labels = drawn(count, seed)
    return conformal.of_scores(score, score.scores(probabilities)[np.arange(count), labels])


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_scores_are_those_of_loops(score):
    probabilities = np.concatenate([drawn(20, 0)[0], [[0.25] * 4, [0.5, 0, 0.5, 0], [1, 0, 0, 0]]])
    found = score.scores(probabilities)
    np.testing.assert_allclose(found, by_hand(score.member, probabilities), atol=1e-12)


@pytest.mark.parametrize(
    ("coverage", "count", "rank"), [(0.9, 9, 9), (0.9, 10, 10), (0.9, 19, 18), (0.5, 4, 3)]
)
def test_the_threshold_counts_the_new_example_too(coverage, count, rank):
    scores = np.random.default_rng(0).permutation(np.arange(1, count + 1) / 100)
    assert conformal.of_scores(LAC(coverage), scores).threshold == rank / 100


@pytest.mark.parametrize("score", [LAC(0.8), APS(0.8)], ids=str)
def test_sets_of_so_few_examples_keep_the_promise_on_average(score):
    """The mean over many validation splits of 14: with the plain quantile it would be 0.74."""
    held = []
    for seed in range(400):
        probabilities, labels = drawn(50, 10_000 + seed)
        chosen = fitted(score, 14, seed).chosen(probabilities)
        held.append(chosen[np.arange(50), labels].mean())
    error = np.std(held) / np.sqrt(len(held))
    assert 0.8 - 3 * error <= np.mean(held) <= 0.8 + 1 / 15 + 3 * error + (score.member == "aps")


def test_a_set_of_aps_always_has_the_most_probable_class():
    probabilities, _ = drawn(100, 1)
    chosen = Sets(APS(), 0.0, 9).chosen(probabilities)
    assert (chosen.sum(axis=1) == 1).all()
    assert chosen[np.arange(100), probabilities.argmax(axis=1)].all()


def test_a_set_names_its_classes_the_most_probable_first():
    sets = Sets(LAC(), 0.8, 9)
    assert sets.named(np.array([0.25, 0.1, 0.65]), "abc") == ["c", "a"]
    assert sets.named(np.array([1.0, 0.0, 0.0]), "abc") == ["a"]
    assert Sets(LAC(), 0.1, 9).named(np.array([0.5, 0.5, 0.0]), "abc") == []


def test_measures_are_counts_of_sets():
    tally = SetTally(Sets(LAC(), 0.7, 40), Classification(), ("a", "b", "c"))
    probabilities = np.array([[0.6, 0.3, 0.1], [0.6, 0.35, 0.05], [0.2, 0.2, 0.6], [0.9, 0.1, 0]])
    target = np.eye(3)[[0, 1, 0, 2]]
    for part in (slice(0, 3), slice(3, 4)):
        tally.add(target[part], {"probabilities": probabilities[part]}, part.start)
    found = tally.joined(Measures("accuracy", 4, {"accuracy": Scalar(0.5)}))
    assert found.scalars["set_coverage"] == measures.share(2, 4)
    assert found.scalars["set_size"].value == pytest.approx(6 / 4)
    by_class, by_size = found.views
    assert isinstance(by_class, Table) and isinstance(by_size, Table)
    rows = [(row[0], row[1], row[2], row[5]) for row in by_class.rows]
    assert rows == [("all", 4, 0.5, 1.5), ("a", 2, 0.5, 1.5), ("b", 1, 1, 2), ("c", 1, 0, 1)]
    assert [row[:3] for row in by_size.rows] == [("1", 2, 0.0), ("2", 2, 1.0)]
    # By the quantiles of SciPy's beta distribution of (37, 4).
    assert "validation splits of 40 examples" in by_class.note
    assert "gives 79.6% to 97.2%, with a chance" in by_class.note
    assert "none" not in by_size.note


def test_tied_scores_promise_no_upper_end(tmp_path):
    # A model that is right in 19 of 20: the score of the first class is 0, and so the threshold.
    probabilities = np.array([[0.7, 0.2, 0.1]] * 100)
    scores = APS().scores(probabilities)[np.arange(100), [0] * 95 + [1] * 5]
    sets = conformal.of_scores(APS(), scores)
    assert (sets.threshold, sets.ties) == (0.0, 95)
    tally = SetTally(sets, Classification(), ("a", "b", "c"))
    tally.add(np.eye(3)[[0] * 100], {"probabilities": probabilities}, 0)
    found = tally.joined(Measures("accuracy", 100, {"accuracy": Scalar(1.0)}))
    assert found.scalars["set_coverage"].value == 1 and isinstance(found.views[0], Table)
    # By the quantile of SciPy's beta distribution of (91, 10).
    assert "one such split gives at least 83.6%, with a chance of 97.5 %" in found.views[0].note
    assert " to 9" not in found.views[0].note
    sets.write(tmp_path)
    assert conformal.read(tmp_path) == sets
    rule = json.loads((tmp_path / conformal.FILE).read_text())
    del rule["ties"]  # An earlier version wrote none.
    (tmp_path / conformal.FILE).write_text(json.dumps(rule))
    assert conformal.read(tmp_path) == Sets(APS(), 0.0, 100)


def test_sets_that_hold_too_few_labels_are_a_remark():
    tally = SetTally(Sets(LAC(), 0.0, 40), Classification(), ("a", "b"))
    tally.add(np.eye(2)[[0] * 30], {"probabilities": np.full((30, 2), 0.5)}, 0)
    (remark,) = tally.joined(Measures("accuracy", 30, {"accuracy": Scalar(0.5)})).remarks
    assert "hold the label of 0.0% of the examples, fewer than the 90.0% asked for: " in remark
    of_groups = SetTally(Sets(LAC(), 0.0, 40, groups=9), Classification(), ("a", "b"))
    of_groups.add(np.eye(2)[[0] * 30], {"probabilities": np.full((30, 2), 0.5)}, 0)
    (remark,) = of_groups.joined(Measures("accuracy", 30, {"accuracy": Scalar(0.5)})).remarks
    assert remark.endswith("fewer than the 90.0% asked for.")


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 0.0, 0.05), (0.2, 0.9, 1.0)])
def test_the_remark_counts_the_chance_of_both_splits(shift, least, most):
    random, remarked = np.random.default_rng(0), 0
    for _ in range(500):
        sets = conformal.of_scores(LAC(), random.uniform(size=50))
        right = 1 - np.minimum(random.uniform(size=1000) + shift, 1)
        probabilities = np.stack([right, 1 - right], axis=1)
        tally = SetTally(sets, Classification(), ("a", "b"))
        tally.add(np.eye(2)[[0] * 1000], {"probabilities": probabilities}, 0)
        remarked += len(tally.joined(Measures("accuracy", 1000, {})).remarks)
    assert least <= remarked / 500 <= most


@pytest.mark.parametrize(
    ("count", "tested", "coverage", "message"),
    [
        (99, 0, 0.9, "needs a test split beside the validation split"),
        (8, 9, 0.9, "at least 9 validation examples.*there are 8"),
        (98, 9, 0.99, "at least 99 validation examples.*there are 98"),
        (0, 9, 0.5, "at least 1 validation examples.*there are 0"),
    ],
)
@pytest.mark.parametrize("split", ["test", "target_test"])
def test_too_few_examples_are_refused(count, tested, coverage, message, split):
    with pytest.raises(ValueError, match=message):
        LAC(coverage).require_examples({"validation": count, split: tested})
    enough = round(1 / (1 - coverage)) - 1
    LAC(coverage).require_examples({"validation": enough, split: 1})


def test_a_task_without_one_class_for_each_example_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="multilabel does not give each example one of the class"):
        Config(task=Multilabel(), conformal=APS())
    with pytest.raises(ValueError, match=r"--recipe=adapt: .* of which the sets would promise "):
        Config(recipe=Adapt(), conformal=APS())
    assert Config(conformal=APS()).conformal == APS(coverage=0.9)


@pytest.mark.parametrize("coverage", [0, 1.0, -0.1, 90.0])
def test_a_coverage_is_a_share(coverage):
    with pytest.raises(
        ValueError, match=r"lac.coverage is .*, expected a share above 0 and below 1"
    ):
        LAC(coverage)


def test_the_evaluation_measures_sets_of_the_validation_split(
    recorded: Path,
    model: Path,  # noqa: F811
    tmp_path: Path,
):
    evaluated(tmp_path / "out", recorded, model, conformal=LAC(0.5))
    found, data = measures.read(tmp_path / "out"), Data(recorded, Tiny(), Classification())
    network = TransferModel.load(model)
    splits = []
    for split in ("validation", "test"):
        pairs = [(network.served(x)["probabilities"], y) for x, y in data.batches(split)]
        served, target = (
            np.concatenate([np.asarray(each) for each in c]) for c in zip(*pairs, strict=True)
        )
        splits.append((1 - served.astype(float), target.argmax(-1)))
    (scores, labels), (tested, truth) = splits
    own = np.sort(scores[np.arange(len(labels)), labels])
    threshold = own[int(np.ceil((len(own) + 1) * 0.5)) - 1]
    rule = conformal.read(tmp_path / "out")
    assert rule and rule.examples == len(own) and rule.threshold == pytest.approx(threshold)
    held = tested[np.arange(len(truth)), truth] <= threshold + 1e-6
    assert found.scalars["set_coverage"].value == pytest.approx(held.mean())
    assert found.scalars["set_size"].value == pytest.approx(
        (tested <= threshold + 1e-6).sum(1).mean()
    )
    assert [view.title for view in found.views].count("Conformal sets") == 2
