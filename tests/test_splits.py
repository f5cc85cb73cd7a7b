from __future__ import annotations

import hashlib
import re

import pytest

from tlkeras import spec
from tlkeras.data import splits
from tlkeras.data.splits import Split


def spot(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) / 2**48 * 100


def free(count: int) -> tuple[list[str], list[list[int]], list[str | None]]:
    return [f"{i}.jpg" for i in range(count)], [[0]] * count, [None] * count


def test_the_hash_alone_decides_where_there_is_plenty():
    ids, labels, given = free(400)
    sides = splits.assigned(Split(validation=15, test=25), ids, labels, given)
    for identity, side in zip(ids, sides, strict=True):
        u = spot(identity)
        assert side == ("test" if u < 25 else "validation" if u < 40 else "train")


def test_an_example_keeps_its_side_when_others_come():
    ids, labels, given = free(300)
    before = dict(zip(ids, splits.assigned(Split(), ids, labels, given), strict=True))
    more, labels, given = free(900)
    after = dict(zip(more, splits.assigned(Split(), more, labels, given), strict=True))
    assert before == {identity: after[identity] for identity in ids}


def unlucky(count: int, name: str = "") -> list[str]:
    """Returns ids that one percent each puts all into training."""
    return [x for x in (f"{name}{i}.jpg" for i in range(10 * count)) if spot(x) >= 2][:count]


@pytest.mark.parametrize("count", [5, 6, 9, 14])
def test_a_small_class_lends_its_smallest_hashes_and_keeps_training(count: int):
    _, labels, given = free(count)
    ids = unlucky(count)
    sides = splits.assigned(Split(validation=1, test=1), ids, labels, given)
    ordered = sorted(ids, key=spot)
    assert {side: ids[sides.index(side)] for side in ("test", "validation")} == {
        "test": ordered[0],
        "validation": ordered[1],
    }
    assert sides.count("train") == count - 2


def test_a_class_of_four_lends_nothing():
    _, labels, given = free(4)
    assert splits.assigned(Split(validation=1, test=1), unlucky(4), labels, given) == ["train"] * 4


def test_every_class_is_in_training_however_small():
    ids = [f"{label}/{i}.jpg" for label in range(1_000) for i in range(2)]
    labels = [[label] for label in range(1_000) for _ in range(2)]
    sides = splits.assigned(Split(), ids, labels, [None] * 2_000)
    assert {label for (label,), side in zip(labels, sides, strict=True) if side == "train"} == set(
        range(1_000)
    )
    for first, second in zip(range(0, 2_000, 2), range(1, 2_000, 2), strict=True):
        hashed = [
            "test" if spot(ids[i]) < 10 else "validation" if spot(ids[i]) < 20 else "train"
            for i in (first, second)
        ]
        if "train" not in hashed:  # The larger hash moves, and nothing else.
            hashed[spot(ids[second]) > spot(ids[first])] = "train"
        assert [sides[first], sides[second]] == hashed


def test_a_group_of_every_class_is_in_training_however_large_the_shares():
    ids = [f"{label}/p{i % 3}_{i}" for label in "ab" for i in range(12)]
    labels = [[0]] * 12 + [[1]] * 12
    split = Split(validation=49, test=50, group=r"(./p\d)_")
    sides = splits.assigned(split, ids, labels, [None] * 24)
    for label in "ab":
        kept = {split.group_of(x) for x, side in zip(ids, sides, strict=True) if side == "train"}
        assert any(group.startswith(label) for group in kept)
    torn = {(split.group_of(x), side) for x, side in zip(ids, sides, strict=True)}
    assert len(torn) == 6


def test_a_validation_split_leaves_every_class_of_the_users_training_split():
    ids = [f"train/{i}" for i in range(200)] + [f"test/{i}" for i in range(200)]
    labels = [[i] for i in range(200)] * 2
    given = ["train"] * 200 + ["test"] * 200
    assert splits.assigned(Split(validation=30), ids, labels, given) == given


@pytest.mark.parametrize("count", [5, 6, 12, 60, 200])
def test_only_lent_examples_are_not_where_their_hash_puts_them(count: int):
    ids, labels, given = free(count)
    hashed = {x: "test" if spot(x) < 10 else "validation" if spot(x) < 20 else "train" for x in ids}
    sides = dict(zip(ids, splits.assigned(Split(), ids, labels, given), strict=True))
    moved = {identity for identity in ids if sides[identity] != hashed[identity]}
    assert all(hashed[identity] == "train" for identity in moved)
    missing = {"test", "validation"} - set(hashed.values())
    assert sorted(sides[identity] for identity in moved) == sorted(missing)


def test_each_class_lends_its_own():
    ids = [*unlucky(6, "a/"), *unlucky(6, "b/")]
    labels = [[0]] * 6 + [[1]] * 6
    sides = splits.assigned(Split(validation=0, test=1), ids, labels, [None] * 12)
    assert sides[:6].count("test") == sides[6:].count("test") == 1


def test_lending_leaves_no_class_without_training():
    # One group holds the only picture of class 1 beside one of class 0.
    ids = ["g0/a", "g0/b", "g1/a", "g2/a", "g3/a", "g4/a"]
    labels = [[1], [0], [0], [0], [0], [0]]
    shares = Split(validation=1, test=1, group=r"^(g\d)")
    assert min(spot(f"g{i}") for i in range(5)) > 2
    sides = splits.assigned(shares, ids, labels, [None] * 6)
    assert sides[:2] == ["train", "train"]
    assert sides.count("test") == sides.count("validation") == 1


def test_a_group_stays_together_and_the_unmatched_are_alone():
    ids = [f"rose/patient{i % 7}_{i}.jpg" for i in range(70)] + [f"x{i}" for i in range(30)]
    sides = splits.assigned(Split(20, 20, r"patient(\d+)_"), ids, [[]] * 100, [None] * 100)
    for patient in range(7):
        assert len({sides[i] for i in range(70) if i % 7 == patient}) == 1
    assert len(set(sides[70:])) > 1


def test_a_group_that_no_id_tells_is_refused_and_torn_ones_are_told():
    split = Split(group=r"^(p\d)_")
    with pytest.raises(ValueError, match=r"group is .*, expected a match in ids .*'a/p1_0'"):
        split.torn({"a/p1_0": "train", "a/p2_0": "test"})
    sides = {"p1_0": "train", "p1_1": "test", "p2_0": "train", "p2_1": "train", "x": "test"}
    assert split.torn(sides) == ["p1"]
    assert Split().torn(sides) == []
    patients = {"p1_0": "one", "p2_0": "one", "p2_1": "other", "x": "other"}
    for each, own in ((split, ["p1"]), (Split(), [])):
        assert each.torn(sides, lambda identity: patients.get(identity)) == [
            *own,
            "p2_1 (train) and x (test)",
        ]


def test_ids_without_a_group_are_told_where_there_are_groups():
    ids = ["a/p1_0", "a/x", "b/p2_0", "b/xp_3"]
    assert Split(group=r"/(p\d+)_").ungrouped(ids) == ["a/x", "b/xp_3"]
    assert Split().ungrouped(ids) == []


def test_a_group_without_brackets_is_the_whole_match():
    assert Split(group=r"patient\d+").group_of("a/patient12_3.jpg") == "patient12"
    assert Split(group=r"patient(\d+)").group_of("a/patient12_3.jpg") == "12"
    assert Split(group=r"patient(\d+)").group_of("a/b.jpg") == "a/b.jpg"


def test_splits_the_user_made_are_kept_and_missing_ones_cut_from_training():
    ids, labels, _ = free(300)
    given = ["train" if i % 3 else "test" for i in range(300)]
    sides = splits.assigned(Split(validation=30, test=10), ids, labels, given)
    for identity, own, side in zip(ids, given, sides, strict=True):
        by_hash = "validation" if spot(identity) < 30 else "train"
        assert side == ("test" if own == "test" else by_hash)


def test_a_split_of_no_percent_is_not_cut():
    ids, labels, given = free(50)
    assert set(splits.assigned(Split(validation=0, test=0), ids, labels, given)) == {"train"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("split(test=-1)", r"split.test is -1.0, expected percent from 0 to below 100"),
        ("split(validation=100)", r"split.validation is 100.0, expected percent from"),
        (
            "split(validation=0.2)",
            r"split.validation is 0.2, expected percent: .* write validation=20\.$",
        ),
        ("split(test=0.125)", r"split.test is 0.125, expected percent: .* write test=12.5\.$"),
        ("split(validation=60, test=40)", r"expected less than 100 percent together"),
        ("split(group='(')", r"split.group is '\(', expected a regular expression \(.+\)"),
    ],
)
def test_impossible_splits_are_refused(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        spec.parse(text, Split)


@pytest.mark.parametrize("share", [0.004, 0.0099, 0.01, 0.07, 0.5, 0.999999, 0.99999999])
def test_a_share_that_is_advised_is_taken(share: float):
    with pytest.raises(ValueError, match="expected percent") as refused:
        Split(validation=share, test=0)
    advised = re.findall(r"write validation=(.+)\.$", str(refused.value))
    assert len(advised) == (share >= 0.01)
    for each in advised:
        assert spec.parse(f"split(validation={each}, test=0)", Split).validation >= 1


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("Training", "train"),
        ("VAL", "validation"),
        ("dev", "validation"),
        ("Testing", "test"),
        ("training_set", "train"),
        ("seg_test", "test"),
        ("valset", "validation"),
        ("Test Images", "test"),
        ("train2017", "train"),
        ("Val2014", "validation"),
        ("testset2007", "test"),
        ("obj_train_data", "train"),
        ("obj_Validation_data", "validation"),
        ("roses", None),
        ("", None),
        ("set", None),
        ("train_test", None),
        ("train2", None),
        ("train5000", None),
        ("train201", None),
        ("2017", None),
        ("trains", None),
    ],
)
def test_the_usual_words_for_splits_are_known(word: str, split: str | None):
    assert splits.named(word) == split
