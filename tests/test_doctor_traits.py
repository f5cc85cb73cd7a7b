"""What traits, copies and counts of classes tell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tlkeras.doctor import classes, copies, examined, folds, shortcuts, texts
from tlkeras.doctor.duplicates import Group
from tlkeras.doctor.traits import Row

COUNT = 400


def pictures(seed, labels):
    """Returns traits that have nothing to do with the labels."""
    random = np.random.default_rng(seed)
    count = len(labels)
    return {
        "image.format": np.array(["JPEG", "JPEG", "PNG"])[random.integers(0, 3, count)],
        "image.height": random.integers(100, 200, count).astype(float),
        "image.brightness": random.normal(120, 4, count),
        "image.border": random.normal(100, 30, count),
        "image.mode": np.array(["RGB"] * count),
    }


def found(traits, labels):
    return shortcuts.found(traits, labels, folds.dealt(range(len(labels)), labels, 0))


@pytest.mark.parametrize("many", [2, 5])
def test_traits_that_say_nothing_of_the_classes_are_no_shortcuts(many):
    for seed in range(20):
        labels = np.arange(COUNT) % many
        assert found(pictures(seed, labels), labels) == []


def stored(traits, own):
    traits["image.format"] = np.where(own, "PNG", "JPEG")


def brighter(traits, own):
    traits["image.brightness"][own] *= 1.1


def bordered(traits, own):
    traits["image.border"][own] = 0


def of_one_size(traits, own):
    traits["image.height"][own] = 150


@pytest.mark.parametrize(
    ("plant", "trait"),
    [
        (stored, "image.format"),
        (brighter, "image.brightness"),
        (bordered, "image.border"),
        (of_one_size, "image.height"),
    ],
)
@pytest.mark.parametrize("many", [2, 5, 20])
def test_a_trait_that_tells_a_class_is_a_shortcut(plant, trait, many):
    labels = np.arange(COUNT) % many
    traits = pictures(0, labels)
    plant(traits, labels == 1)
    told = found(traits, labels)
    assert {each.trait for each in told} == {trait}
    assert {each.label for each in told} == ({0, 1} if many == 2 else {1})
    best = told[0]
    assert best.accuracy > 0.85 and best.chance < 0.01
    assert f"alone tells '{best.label}' from the other classes" in best.defect("01234").reason


def test_the_chance_of_a_shortcut_is_fishers():
    labels = np.array([0] * 30 + [1] * 30)
    traits = {"image.format": np.array(["PNG"] * 24 + ["JPEG"] * 36), "image.mode": labels * 0}
    told = found(traits, labels)
    assert [each.label for each in told] == [0, 1]
    table = [[24, 6], [0, 30]]
    expected = np.asarray(stats.fisher_exact(table, alternative="greater"))[1]
    # Two classes of one trait that varies are two tests.
    assert [each.chance for each in told] == pytest.approx([2 * expected] * 2)
    assert [each.accuracy for each in told] == pytest.approx([0.9] * 2)


def test_a_class_of_fewer_examples_than_folds_has_no_shortcut():
    labels = np.array([0] * 40 + [1] * 4)
    assert found({"image.format": np.where(labels == 1, "PNG", "JPEG")}, labels) == []


def row(number, **image):
    return Row(f"{number}", "test" if number % 3 else "train", [number % 2], "", {"image": image})


def test_rows_become_columns_and_what_one_example_lacks_is_left_out():
    full = {"height": 10, "width": 20, "format": "PNG", "hash": "ff"}
    rows = [row(0, **full), row(1, **full, border=3.0), row(2, **{**full, "width": 5})]
    read = examined.read(iter(rows))
    assert [*read.ids] == ["0", "1", "2"]
    assert read.places.tolist() == [0, 0, 1] and [*read.splits] == ["train", "test", "test"]
    assert read.of("test").tolist() == [1, 2] and [*read.labels] == [(0,), (1,), (0,)]
    assert {name: each.tolist() for name, each in read.traits.items()} == {
        "image.height": [10, 10, 10],
        "image.width": [20, 20, 5],
        "image.format": ["PNG"] * 3,
        "image.aspect ratio": [2, 2, 0.5],
    }


GROUPS = [
    Group(["a", "b", "c"], ["test", "train", "train"], True, 0.0),
    Group(["d", "e"], ["test", "validation"], False, 0.02),
    Group(["f", "g"], ["train", "train"], True, 0.0),
]


def test_copies_in_another_split_are_named_with_their_twin():
    told = [(each.identity, each.split, each.reason) for each in copies.across(GROUPS)]
    assert told == [
        ("a", "test", "is an exact copy of b (train)"),
        ("e", "validation", "is a near copy of d (test)"),
    ]


def test_an_exact_copy_in_a_group_with_a_near_one_is_named_so():
    numbers = [1, 0, 1]
    group = Group(["a", "b", "c"], ["train", "test", "test"], False, 0.02, numbers)
    told = [(each.identity, each.reason) for each in copies.across([group])]
    assert told == [
        ("b", "is a near copy of a (train)"),
        ("c", "is an exact copy of a (train)"),
    ]
    labels: dict[str, tuple[int, ...]] = {"a": (0,), "b": (1,), "c": (1,)}
    told = [each.reason for each in copies.mixed([group], labels, ("x", "y"))]
    assert told == [
        "is labelled 'y', and a near copy of it, a, is 'x'",
        "is labelled 'y', and an exact copy of it, a, is 'x'",
    ]


def test_training_knows_what_the_target_has_copies_of():
    group = Group(["a", "b"], ["target", "target_test"], True, 0.0)
    assert copies.learnt([group], [], "target_test") == {"b"}
    assert not copies.learnt([group], [], "test")


def test_copies_of_other_classes_are_named():
    labels = {**dict.fromkeys("abcdefg", (0,)), "c": (1,), "g": ()}
    told = [(each.identity, each.reason) for each in copies.mixed(GROUPS, labels, ("x", "y"))]
    assert told == [
        ("c", "is labelled 'y', and an exact copy of it, a, is 'x'"),
        ("g", "is labelled without a class, and an exact copy of it, f, is 'x'"),
    ]


def test_copies_whose_labels_nobody_knows_are_of_no_other_class():
    labels = {"b": (0,), "c": (1,), "e": (0,), "f": (0,)}
    told = [(each.identity, each.reason) for each in copies.mixed(GROUPS, labels, ("x", "y"))]
    assert told == [("c", "is labelled 'y', and an exact copy of it, b, is 'x'")]


def test_copies_with_more_boxes_of_the_same_classes_are_no_others():
    labels = dict.fromkeys("abcdefg", (0,) * 40)
    assert not [*copies.mixed(GROUPS, {**labels, "c": (0,) * 41, "e": (0,)}, ("x", "y"))]
    (told,) = copies.mixed(GROUPS, {**labels, "c": (1,) + (0,) * 41}, ("x", "y"))
    assert told.reason == "is labelled 'y', 'x', and an exact copy of it, a, is 'x'"


def test_empty_lone_and_one_sided_classes_are_told():
    counts = {"train": (0, 1, 5, 9, 3), "test": (0, 0, 2, 0, 1)}
    told = [(each.identity, each.split, each.defect) for each in classes.odd("abcde", counts)]
    assert told == [
        ("a", "", "empty class"),
        ("b", "train", "lone class"),
        ("d", "train", "class of one split"),
    ]
    assert [each.defect for each in classes.odd("ab", {"train": (1, 3)})] == ["lone class"]


@pytest.mark.parametrize(
    ("right", "positive", "own", "others"),
    [(0, 5, 10, 20), (7, 9, 12, 30), (40, 60, 50, 50), (900, 1000, 1500, 8000), (3, 3, 3, 100_000)],
)
def test_the_chance_of_a_shortcut_is_that_of_fishers_exact_test(right, positive, own, others):
    table = [[right, positive - right], [own - right, others - positive + right]]
    _, expected = stats.fisher_exact(table, alternative="greater")
    assert shortcuts._fisher(right, positive, own, others) == pytest.approx(expected, rel=1e-8)


def test_the_usual_length_is_computed_once_for_all_over_long_texts(monkeypatch):
    traits = {"words": 1, "markup": 0.0, "controls": 0, "language": "", "hash": ""}
    lengths = [*[100] * 1_000, *[10_000] * 200]
    rows = [(f"{place}", traits | {"characters": n}) for place, n in enumerate(lengths)]
    calls, median = [], np.median
    monkeypatch.setattr(np, "median", lambda values: calls.append(1) or median(values))
    found = [*texts.oddities(rows)]
    assert {told for _, _, told in found} == {"has 10,000 characters, where 100 are usual"}
    assert len(found) == 200 and len(calls) == 1
    assert not [*texts.oddities([])]
