"""Who is suspected and why: folds, held-out Gaussians, confident learning, outliers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cleanlab import count

from tlkeras import spec
from tlkeras.doctor import folds, gaussians, judgement, outliers, suspects, vectors
from tlkeras.doctor.vectors import Missing
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Task
from tlkeras.training.features import Cache


def blobs(seed, per_class=40, classes=3, channels=6, apart=4.0):
    """Returns features of Gaussian classes, and their labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(per_class * classes) % classes
    means = apart * np.eye(classes, channels)
    return means[labels] + random.normal(size=(len(labels), channels)), labels


def in_chunks(features, size=1000):
    return lambda: iter([features[i : i + size] for i in range(0, len(features), size)])


def test_folds_keep_copies_together_and_deal_classes_evenly():
    labels = np.repeat([0, 1, 2], [50, 20, 10])
    groups = [number // 2 for number in range(80)]
    dealt = folds.dealt(groups, labels, 0)
    assert len({(group, fold) for group, fold in zip(groups, dealt, strict=True)}) == 40
    for label, each in ((0, 10), (1, 4), (2, 2)):
        assert np.bincount(dealt[labels == label], minlength=folds.COUNT).tolist() == [each] * 5
    assert dealt.tolist() == folds.dealt(groups, labels, 0).tolist()
    assert dealt.tolist() != folds.dealt(groups, labels, 1).tolist()


def test_held_out_distances_and_probabilities_are_those_of_gaussians_by_numpy():
    features, labels = blobs(0)
    dealt = folds.dealt(range(len(labels)), labels, 0)
    found = gaussians.held_out(in_chunks(features), labels, dealt)
    logits = np.empty([len(labels), 3])
    for row, fold in enumerate(dealt):
        rest = dealt != fold
        means = np.stack([features[rest & (labels == label)].mean(axis=0) for label in range(3)])
        within = features[rest] - means[labels[rest]]
        spread = within.T @ within / (rest.sum() - 3)
        spread = 0.7 * spread + 0.3 * np.trace(spread) / 6 * np.eye(6)
        away = features[row] - means
        squares = np.einsum("ki,ki->k", away, np.linalg.solve(spread, away.T).T)
        logits[row] = np.log(np.bincount(labels[rest]) / rest.sum()) - squares / 2
        assert found.distances[row] == pytest.approx(squares.min() ** 0.5, rel=1e-3)
    # The probabilities are a softmax of these logits times one factor: so are their logarithms.
    ratios = np.log(found.probabilities[:, :2] / found.probabilities[:, 2:])
    factors = ratios / (logits[:, :2] - logits[:, 2:])
    np.testing.assert_allclose(factors, np.median(factors), rtol=2e-2)
    assert found.probabilities.sum(axis=1) == pytest.approx(1)


def test_the_size_of_the_chunks_changes_no_judgement():
    features, labels = blobs(1)
    dealt = folds.dealt(range(len(labels)), labels, 0)
    whole, parts = (
        gaussians.held_out(in_chunks(features, size), labels, dealt) for size in (1000, 7)
    )
    np.testing.assert_allclose(whole.probabilities, parts.probabilities, atol=1e-4)
    np.testing.assert_allclose(whole.distances, parts.distances, rtol=1e-4)


def test_features_that_never_vary_accuse_nobody():
    labels = np.arange(60) % 2
    found = judgement.judged(labels, range(60), "ab", 0, lambda chosen: in_chunks(np.ones([60, 4])))
    assert not found.suspects and not found.outliers
    assert "is right in" in found.remarks[0]


TABLE = np.array(
    [[0.9, 0.1], [0.8, 0.2], [0.85, 0.15], [0.05, 0.95], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]
)
LABELS = np.array([0, 0, 0, 0, 1, 1, 1])


def test_the_confident_joint_of_cleanlab_is_the_one_by_hand():
    # A class counts from the mean probability of its own examples: 0.65 of 0, 0.8 of 1.
    assert TABLE[LABELS == 0, 0].mean() == pytest.approx(0.65)
    assert TABLE[LABELS == 1, 1].mean() == pytest.approx(0.8)
    # So three 0 are 0, one is 1 (0.95 >= 0.8); two 1 are 1, and the last is of neither.
    joint = np.asarray(count.compute_confident_joint(LABELS, TABLE, calibrate=False))
    assert joint.tolist() == [[3, 1], [0, 2]]


def test_a_label_that_the_others_speak_against_is_a_suspect():
    (found,) = suspects.found(LABELS, TABLE)
    assert (found.number, found.given, found.better) == (3, 0, 1)
    assert found.probabilities == (0.05, 0.95)
    defect = found.defect("x.jpg", "train", ("cat", "dog"))
    assert (defect.identity, defect.split, defect.defect) == ("x.jpg", "train", "suspected label")
    assert "'cat' (0.050)" in defect.reason and "'dog' (0.950)" in defect.reason


def test_suspects_come_in_order_and_none_is_in_labels_that_all_agree_with():
    table = np.concatenate([TABLE[:3]] * 20 + [TABLE[4:6]] * 20 + [[[0.02, 0.98], [0.08, 0.92]]])
    clean = np.array([0, 0, 0] * 20 + [1, 1] * 20 + [1, 1])
    assert suspects.found(clean, table) == []
    flipped = clean.copy()
    flipped[-2:] = 0
    assert [each.number for each in suspects.found(flipped, table)] == [100, 101]
    table[101] = [0.12, 0.88]  # Not even ten times as probable.
    assert [each.number for each in suspects.found(flipped, table)] == [100]


def test_flipped_labels_are_found_and_copies_do_not_vouch_for_each_other():
    features, labels = blobs(2, per_class=60)
    wrong = [3, 50, 100, 140]
    labels[wrong] = (labels[wrong] + 1) % 3
    found = judgement.judged(labels, range(180), "abc", 0, lambda chosen: in_chunks(features))
    assert {*wrong} <= {each.number for each in found.suspects}
    assert len(found.suspects) <= 6
    assert not found.remarks
    # Six copies of one mistake in one fold: the other folds do not know them.
    features[:6], labels[:6] = [4, 0, 0, 0, 0, 0], 1  # The mean of class 0.
    groups = [0] * 6 + [*range(6, 180)]
    found = judgement.judged(labels, groups, "abc", 0, lambda chosen: in_chunks(features))
    assert {*range(6)} <= {each.number for each in found.suspects}


def test_what_is_far_from_all_classes_is_an_outlier():
    features, labels = blobs(3)
    features[17] = 40
    found = judgement.judged(labels, range(120), "abc", 0, lambda chosen: in_chunks(features))
    assert found.outliers[0].number == 17
    assert found.outliers[0].distance > 3
    assert "like no class" in found.outliers[0].defect("x", "train").reason


def test_outliers_lie_beyond_the_fence_and_the_furthest_comes_first():
    distances = np.array([1.0, 2, 3, 4, 8.01, 2, 4, 9])
    low, high = np.percentile(distances, [25, 75])
    fence = high + 2 * (high - low)
    beyond = [i for i in np.argsort(-distances) if distances[i] > fence]
    assert [each.number for each in outliers.found(distances)] == beyond
    distances[7] = 100
    (found,) = outliers.found(distances)
    assert (found.number, found.distance) == (7, 100 / np.median(distances))


def refuse(chosen):
    raise Missing("the cache has no room for the features of train")


@pytest.mark.parametrize(
    ("labels", "copies", "said"),
    [
        ([0] * 40, False, "takes two classes of at least 10"),
        ([0, 1, 1], False, "takes two classes of at least 10"),
        ([0] * 40 + [1] * 9, False, "takes two classes of at least 10"),
        ([0] * 40 + [1] * 40, True, "takes two classes of at least 10"),
        ([0] * 40 + [1] * 40, False, "no room for the features of train"),
    ],
)
def test_too_little_to_judge_by_is_told_in_a_line(labels, copies, said):
    groups = [0] * len(labels) if copies else range(len(labels))
    found = judgement.judged(np.array(labels), groups, "ab", 0, refuse)
    assert not found.suspects and not found.outliers
    (remark,) = found.remarks
    assert said in remark


def test_more_pairs_than_fit_into_memory_are_told(monkeypatch):
    monkeypatch.setattr(judgement, "_MOST", 99)
    found = judgement.judged(np.arange(50) % 2, range(50), "ab", 0, refuse)
    assert "50 examples of 2 classes are too many" in found.remarks[0]


@pytest.mark.parametrize("summary", [(None, 7, 7, 3), [(None, 3), (None, 4)]])
def test_a_network_without_a_vector_of_features_is_told(summary, data):
    def output(shape):
        return SimpleNamespace(shape=shape)

    many = [output(each) for each in summary] if isinstance(summary, list) else output(summary)
    model: Any = SimpleNamespace(
        body=SimpleNamespace(output=many), backbone=data.backbone, task=data.task
    )
    with pytest.raises(Missing, match="tiny gives classification no vector of features"):
        vectors.of(model, data, ["train"], Cache(Path("none")))


def test_features_beyond_the_type_of_the_cache_are_missing(data, tmp_path):
    model = TransferModel(data.backbone, data.task, data.classes)
    norm = model.body.get_layer("block4_norm")
    norm.gamma.assign(np.full(norm.gamma.shape, 1e9))
    with pytest.raises(Missing, match=r"float16 ends at .*; use cache='float32' in the"):
        vectors.of(model, data, ["train"], Cache(tmp_path))


def test_a_class_of_few_examples_is_left_out_and_named():
    features, labels = blobs(4)
    few = np.concatenate([labels, [3, 3, 3]])
    order = np.random.default_rng(0).permutation(len(few))
    rows = np.concatenate([features, np.full([3, 6], 30.0)])[order]
    labels = few[order]
    wrong = int(np.flatnonzero(labels == 0)[0])
    labels[wrong] = 2
    found = judgement.judged(
        labels, range(123), ("a", "b", "c", "rare"), 0, lambda chosen: in_chunks(rows[chosen])
    )
    assert wrong in {each.number for each in found.suspects}
    suspect = next(each for each in found.suspects if each.number == wrong)
    assert (suspect.given, suspect.better) == (2, 0)
    assert not any(labels[each.number] == 3 for each in (*found.suspects, *found.outliers))
    assert "Labels and outliers of rare are not examined" in found.remarks[0]


def test_only_tasks_of_one_class_an_example_have_labels_to_suspect():
    tasks = {name: spec.parse(name, Task) for name in spec.names(Task)}
    own = {n: t for n, t in tasks.items() if type(t).__module__.startswith("tlkeras.")}
    assert [name for name, task in own.items() if judgement.has_one_class(task)] == [
        "classification"
    ]
