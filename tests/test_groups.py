"""Measures by group: who is compared, how far groups are apart, what blesses or refuses."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import flags as absl_flags
from conftest import COLOURS, Tiny
from PIL import Image

from pipeline import flags, option
from pipeline.config import Config
from pipeline.option import Option
from pipeline.steps import evaluator
from tlkeras.data import groups as membership
from tlkeras.data import ingest, records
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.doctor import samples
from tlkeras.measures import groups, measures
from tlkeras.measures.measures import Scalar, Table, interval
from tlkeras.measures.parity import LEAST, Parity, tied
from tlkeras.model.transfer_model import TransferModel
from tlkeras.sources.csv import CSV
from tlkeras.sources.jsonl import JSONL
from tlkeras.spec import parse
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification

CLASSES = ("blue", "green", "red")


def written(folder: Path, sites: dict[str, dict[str, int]], **fields: Any) -> CSV:
    """Writes a table of small pictures: how many of each site are in each split."""
    folder.mkdir(parents=True, exist_ok=True)
    random, lines = np.random.default_rng(0), ["image,label,site,sex,part"]
    for site, parts in sites.items():
        for part, count in parts.items():
            for number in range(count):
                name = CLASSES[number % 3]
                noise = random.normal(COLOURS[name], 40, (8, 8, 3)).clip(0, 255).astype(np.uint8)
                file = f"{site}-{part}-{number}.png"
                Image.fromarray(noise).save(folder / file)
                lines.append(f"{file},{name},{site},{'fm'[number % 2]},{part}")
    (folder / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    options = {"group": ("site", "sex"), "split_column": "part", **fields}
    return CSV(folder / "table.csv", **options)


SITES = {
    "near": {"train": 12, "test": 24},
    "far": {"train": 12, "test": 21},
    "small": {"train": 6, "test": 3},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> CSV:
    return written(tmp_path_factory.mktemp("table"), SITES)


@pytest.fixture(scope="module")
def grouped(source: CSV, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("grouped")
    ingest.write_examples(source, Split(0, 0), out)
    return out


@pytest.fixture(scope="module")
def model(grouped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    TransferModel(Tiny(), Classification(), CLASSES).save(out)
    return out


def evaluated(out: Path, examples: Path, model: Path, max_gap: float | None) -> dict[str, Any]:
    (out / "resolved").mkdir(parents=True)
    (out / "resolved" / "resolved.json").write_text(json.dumps({"version": None, "is_last": True}))
    evaluator.evaluation.run(
        out,
        model=model,
        examples=examples,
        resolved=out / "resolved",
        backbone=Tiny(),
        task=Classification(),
        lower_bound=None,
        upper_bound=None,
        max_drop=0.0,
        max_gap=max_gap,
        batch_size=8,
    )
    return json.loads((out / "blessing.json").read_text())


def test_columns_of_groups_are_features_under_their_names(grouped: Path, source: CSV):
    info = records.info(grouped)
    assert [*info.features] == ["image", "label", "site", "sex"]
    found = membership.members(grouped, "test", "label")
    assert found.groups["site"].counts == {"far": 21, "near": 24, "small": 3}
    ids = [records.values(row, {})[0] for row in records.Records(grouped, "test").between(0, 48)]
    sites = found.groups["site"]
    assert [sites.names[each] for each in sites.numbers] == [each.split("-")[0] for each in ids]
    labels = [number % 3 for number in (int(each.split("-")[2].split(".")[0]) for each in ids)]
    assert found.classes == [(label,) for label in labels]
    assert dataclasses.replace(source, group="sex").features()["sex"] == info.features["sex"]


def test_objects_name_groups_too(tmp_path: Path):
    rows = [{"text": text, "label": "a", "age": age} for text, age in (("x", 3), ("y", "old"))]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    source = JSONL(tmp_path / "t.jsonl", group="age")
    assert [values["age"] for _, values in source.examples()] == ["3", "old"]


@pytest.mark.parametrize("column", ["label", "image", "id", "", ("site", "site")])
def test_a_column_of_groups_has_a_name_of_its_own(column: Any):
    with pytest.raises(ValueError, match=r"(csv|jsonl)\.group has '.*', expected columns with"):
        CSV(Path("t.csv"), group=column)
    with pytest.raises(ValueError, match=r"jsonl\.group has '.*', expected columns with"):
        JSONL(Path("t.jsonl"), group=column)


def test_a_row_without_a_group_is_told_with_its_line(tmp_path: Path):
    (tmp_path / "t.csv").write_text("text,label,sex\na,x,f\nb,y,\n", encoding="utf-8")
    source = CSV(tmp_path / "t.csv", group="sex")
    with pytest.raises(ValueError, match="line 3 has no sex; write 'unknown' where"):
        list(source.examples())
    with pytest.raises(ValueError, match="line 1 has no column 'age'"):
        list(CSV(tmp_path / "t.csv", group="age").examples())


def test_every_measure_of_a_group_is_that_of_its_examples_alone(
    grouped: Path, model: Path, tmp_path: Path
):
    blessing = evaluated(tmp_path / "out", grouped, model, None)
    assert blessing["blessed"] and blessing["groups"] == ["site", "sex"]
    found, task = measures.read(tmp_path / "out"), Classification()
    served = np.load(tmp_path / "out" / "served" / "probabilities.npy")
    batches = Data(grouped, Tiny(), task).batches("test")
    targets = np.concatenate([target.numpy() for _, target in batches])
    sites = membership.members(grouped, "test").groups["site"]
    expected = {}
    for number, name in enumerate(sites.names):
        tally, own = task.tally(CLASSES), sites.numbers == number
        tally.add(targets[own], {"probabilities": served[own]}, 0)
        expected[name] = tally.measures()
    tables = [view for view in found.views if isinstance(view, Table)]
    first, every, rates = (each for each in tables if each.title == "Groups by site")
    for name, count, value, told, is_compared in first.rows:
        of_group = expected[name]
        assert (count, value) == (of_group.count, pytest.approx(of_group.score.value))
        assert told == "{:.4f} to {:.4f}".format(*of_group.score.interval or ())
        assert is_compared == (count >= LEAST)
    rows = {row[0]: dict(zip(every.columns, row, strict=True)) for row in every.rows}
    for name, of_group in expected.items():
        for measure, scalar in of_group.scalars.items():
            told = "" if not scalar.interval else " ({:.4f} to {:.4f})".format(*scalar.interval)
            assert rows[measure.replace("_", " ")][name] == f"{scalar.value:.4f}{told}"
    compared = [expected[name].score.value for name in ("near", "far")]
    assert found.scalars["worst_accuracy_site"].value == min(compared)
    assert found.scalars["gap_site"].value == pytest.approx(max(compared) - min(compared))
    assert len(rates.rows) == 3 * 3
    # The reference that goes out with a version holds no name of a group.
    assert not {"site", "sex"} & {*samples.read(tmp_path / "out").words}


def test_a_gap_between_groups_is_not_blessed_and_told_with_its_support(
    grouped: Path, model: Path, tmp_path: Path
):
    with pytest.raises(ValueError, match=r"--max_gap=0.1 compares groups, and .* group='device'"):
        Config(max_gap=0.1)
    found = groups.tallies(Data(grouped, Tiny(), Classification()), "test", 0.1)[0]
    targets = np.eye(3)[[0] * 48]
    sites = membership.members(grouped, "test").groups["site"]
    wrong = (sites.numbers == sites.names.index("far")) & (np.arange(48) % 2 == 0)
    predicted = np.eye(3)[wrong * 1]
    for start in range(0, 48, 7):  # Batches that end within groups.
        rows = slice(start, start + 7)
        found.add(targets[rows], {"probabilities": predicted[rows]}, start)
    right = 1 - wrong.sum() / 21
    low, high = interval(21 - wrong.sum(), 21)
    (reason,) = found.found.too_far(0.1)
    assert reason == (
        f"by 'site', the accuracy of far is {right:.4f} ({low:.4f} to {high:.4f}, 21 examples), "
        f"worse by {1 - right:.4f} than that of near, 1.0000 ({interval(24, 24)[0]:.4f} to 1.0000, "
        "24 examples); more than the 0.1000 of --max_gap"
    )
    assert not [*found.found.too_far(1 - right + 1e-9)]
    assert "By 'site', the accuracy of far is" in [*found.found.remarks()][-1]


def test_groups_keep_their_scalars_and_no_views(grouped: Path):
    (found, _) = groups.tallies(Data(grouped, Tiny(), Classification()), "test")
    found.add(np.eye(3)[[0] * 48], {"probabilities": np.eye(3)[[0] * 48]}, 0)
    measured = [*found.found.measured.values()]
    assert len(measured) > 1 and all(each.scalars and not each.views for each in measured)


def test_the_evaluator_alone_asks_the_examples_for_their_groups(
    recorded: Path, model: Path, tmp_path: Path
):
    parse = flags.step_parser(evaluator.evaluation, Config, absl_flags.FlagValues())
    words = ["--model=m", "--examples=e", "--resolved=r", "--out=o", "--max_gap=0.05"]
    assert parse(["evaluator", *words])["max_gap"] == 0.05
    texts = {each.name: option.written(each.default) for each in Option.of(Config)}
    texts |= {**dict.fromkeys(("model", "examples", "resolved"), "x"), "max_gap": "0.05"}
    assert flags.step_values(evaluator.evaluation, texts, Config)[0]["max_gap"] == 0.05
    with pytest.raises(ValueError, match=r"--max_gap=0.05 compares groups, and the examples have"):
        evaluated(tmp_path / "out", recorded, model, 0.05)
    with pytest.raises(ValueError, match=r"--max_gap is 5, expected a share from 0 to 1"):
        evaluated(tmp_path / "other", recorded, model, 5.0)


def test_a_reason_of_groups_refuses_the_model(grouped: Path, model: Path, tmp_path: Path):
    blessing = evaluated(tmp_path / "out", grouped, model, 0.0)  # Any gap is more.
    assert not blessing["blessed"] and len(blessing["reasons"]) == 2
    assert all("--max_gap" in reason for reason in blessing["reasons"])


def test_less_is_better_loses_by_the_part_of_the_better_value(grouped: Path):
    plain = measures.Measures("error", 30, {"error": Scalar(2.0, more_is_better=False)})
    worse = dataclasses.replace(plain, scalars={"error": Scalar(3.0, more_is_better=False)})
    found = groups.Found("sex", {(0, "f"): plain, (1, "m"): worse}, [0, 1], None, [])
    assert [name for name, _ in found.extremes] == ["f", "m"]
    assert not [*found.too_far(0.5)] and "worse by 0.5000" in next(found.too_far(0.4))
    assert found.scalars()["gap_sex"].value == 1.0
    assert found.scalars()["worst_error_sex"].value == 3.0
    table, _ = found.views()
    assert [table.rows[each][0] for each in table.ranked()] == ["m", "f"]


@pytest.mark.parametrize(("best", "worst", "most"), [(1.0, 0.95, 0.05), (0.95, 0.94, 0.01)])
def test_a_gap_of_exactly_what_is_allowed_is_no_reason(best: float, worst: float, most: float):
    found = groups.Found(
        "site",
        {
            (number, name): measures.Measures("accuracy", 100, {"accuracy": Scalar(value)})
            for number, (name, value) in enumerate((("near", best), ("far", worst)))
        },
        [0, 1],
        None,
        [],
    )
    assert not [*found.too_far(most)] and [*found.too_far(most - 1e-6)]


EMPTY = np.zeros((25, 2))
TAGS = np.tile([0, 0, -1, 0, 0], (25, 1))  # Two words outside of entities; no more of two classes.
NO_BOX = np.full((25, 3, 6), -1.0)
NO_BOX[:, 0] = [32, 32, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("task", "classes", "target", "served"),
    [
        ("multilabel", ("a", "b"), EMPTY, {"probabilities": EMPTY}),
        ("tagging", ("O", "B-x"), TAGS, {"probabilities": np.tile([[1.0, 0.0]], (25, 2, 1))}),
        (
            "detection",
            ("a", "b"),
            NO_BOX,
            {
                "boxes": np.zeros((25, 1, 4)),
                "scores": np.zeros((25, 1)),
                "category": np.zeros((25, 1)),
            },
        ),
    ],
)
def test_a_group_in_which_nothing_is_to_be_found_is_not_compared(
    task: str, classes: Any, target: Any, served: Any
):
    tally = parse(task, Task).tally(classes)
    tally.add(target, served, 0)
    nothing = tally.measures()
    assert not nothing.score.is_defined
    assert measures.parsed(json.loads(json.dumps(nothing.plain()))).score == nothing.score
    good, fair = (
        dataclasses.replace(nothing, scalars={nothing.primary: Scalar(value, (0.8, 0.95))})
        for value in (0.9, 0.88)
    )
    every = {(0, "clinic"): good, (1, "screening"): nothing, (2, "ward"): fair}
    found = groups.Found("site", every, [0, 1, 2], None, [])
    assert found.scalars()["gap_site"].value == pytest.approx(0.02)
    assert not [*found.too_far(0.05)]
    assert "In these groups of 'site' there is nothing to find" in next(found.remarks())
    table, _ = found.views()
    assert table.ranked() == [2, 0] and table.rows[1][2] is None
    few = groups.Found("site", {key: every[key] for key in [*every][:2]}, [0, 1], None, [])
    assert not few.scalars()
    (reason,) = few.too_far(0.05)
    assert (
        reason.startswith("by 'site', --max_gap compares no two groups") and "screening" in reason
    )


def test_groups_of_which_none_was_measured_are_not_said_to_be(model: Path, tmp_path: Path):
    sites = {f"s{number}": {"train": 3, "test": 1} for number in range(51)}
    source = written(tmp_path / "t", sites)
    ingest.write_examples(source, Split(0, 0), tmp_path / "both")
    assert evaluated(tmp_path / "1", tmp_path / "both", model, None)["groups"] == ["sex"]
    ingest.write_examples(source.replace(group="site"), Split(0, 0), tmp_path / "one")
    assert "groups" not in evaluated(tmp_path / "2", tmp_path / "one", model, None)


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (
            {**SITES, "gone": {"train": 7}},
            r"groups of 'site' have no example in the measured split.*: gone \(7 in training\)",
        ),
        (
            {"near": {"train": 9, "test": 24}, "far": {"train": 9, "test": 19}},
            r"groups of 'site' are not compared, for which two of at least 20 .*far \(19\), near",
        ),
        (
            {f"s{number}": {"train": 3, "test": 1} for number in range(51)},
            "'site' has 51 groups, more than the 50 that are compared",
        ),
    ],
)
def test_what_cannot_be_judged_is_told_and_is_an_error_where_a_judgement_is_asked(
    sites: Any, message: str, tmp_path: Path
):
    ingest.write_examples(written(tmp_path / "t", sites, group="site"), Split(0, 0), tmp_path / "e")
    data = Data(tmp_path / "e", Tiny(), Classification())
    with pytest.raises(ValueError, match=f"--max_gap=0.2 cannot judge groups .*{message}"):
        groups.tallies(data, "test", 0.2)
    (tally,) = groups.tallies(data, "test")
    served = {"probabilities": np.eye(3)[[0] * data.count("test")]}
    tally.add(served["probabilities"], served, 0)
    (remark,) = tally.found.remarks()
    assert re.search(message, remark)


def test_groups_of_pairs_are_measured_and_not_compared():
    """At equal quality, a right answer is nearer the first of few than of many."""
    random, numbers = np.random.default_rng(0), np.repeat([0, 1], [20, 80])
    pictures, texts = random.normal(size=(2, 100, 8)).astype(np.float32)
    keys = np.tile(np.arange(100, dtype=np.float32)[:, None], 4)
    members = membership.Groups(("few", "many"), numbers.astype(np.int32))
    tally = groups.GroupTally("site", members, groups.Trained({}, {}), parse("retrieval", Task), ())
    tally.add(keys, {"picture": pictures, "text": texts}, 0)
    found = tally.found
    assert len(found.measured) == 2 and not found.scalars() and not [*found.too_far(0.0)]
    (remark,) = found.remarks()
    assert remark.startswith("The groups of 'site' are not compared: retrieval measures each")
    assert [*tally.unknown()] == [remark]  # So that --max_gap is refused.


def made_up(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns groups, labels and predictions at random."""
    random = np.random.default_rng(seed)
    groups = random.integers(0, 3, shape[0])
    labels = random.integers(0, shape[1], shape[0])
    predicted = np.where(random.random(shape[0]) < 0.6 + 0.1 * groups, labels, groups % shape[1])
    return groups, labels, predicted


@pytest.mark.parametrize("classes", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_rates_and_gaps_are_those_of_fairlearn(classes: int):
    from fairlearn import metrics as fairlearn

    members, labels, predicted = made_up(classes, (900, classes))
    names, eye = ("a", "b", "c"), np.eye(classes, dtype=bool)
    parity = Parity(names, [*map(str, range(classes))], np.zeros([3, classes], np.int64))
    for start in range(0, 900, 64):
        rows = slice(start, start + 64)
        parity.add(members[rows], eye[labels[rows]], eye[predicted[rows]])
    found = parity.scalars("g", [0, 1, 2])
    by_class = [
        {
            "y_true": labels == place,
            "y_pred": predicted == place,
            "sensitive_features": members,
        }
        for place in range(classes)
    ]
    for name, theirs in (
        ("demographic_parity_g", fairlearn.demographic_parity_difference),
        ("equalised_odds_g", fairlearn.equalized_odds_difference),
    ):
        expected = max(theirs(**each) for each in by_class)
        assert found[name].value == pytest.approx(expected, abs=1e-9)
        low, high = found[name].interval or (1, 0)
        assert low < found[name].value < high
    rates = [fairlearn.selection_rate, fairlearn.true_positive_rate, fairlearn.false_positive_rate]
    frames = [
        fairlearn.MetricFrame(
            metrics={each.__name__: each for each in rates}, **one
        ).by_group.to_numpy()
        for one in by_class
    ]
    for row in parity.table("g", [0, 1, 2], "Groups").rows:
        theirs = frames[int(row[0])][names.index(row[1])]
        np.testing.assert_allclose([row[2], row[4], row[6]], theirs, atol=1e-9)


def test_bias_is_amplified_by_what_a_hand_counts():
    """Of a, training has the class in 3 of 4, of b in 1 of 4."""
    counts, totals = np.array([[3, 1], [1, 3]]), np.array([4, 4])
    signs = tied(counts, totals)
    assert signs.tolist() == [[1, -1], [-1, 1]]
    parity = Parity(("a", "b"), ("x", "y"), signs)
    eye = np.eye(2, dtype=bool)
    # Of a, 5 of 10 have x and 8 are given it; of b, 5 of 10 have it and 4 are given it.
    members = np.repeat([0, 1], 10)
    labels = np.array(([0] * 5 + [1] * 5) * 2)
    given = np.array([0] * 8 + [1] * 2 + [0] * 4 + [1] * 6)
    parity.add(members, eye[labels], eye[given])
    found = parity.amplified([0, 1])
    assert found and found.value == pytest.approx((0.3 + 0.3 + 0.1 + 0.1) / 4)
    assert found.interval and found.interval[0] < found.value < found.interval[1]
    assert parity.amplified([0, 1]) == found  # Nothing is left to chance.
    none = Parity(("a", "b"), ("x", "y"), tied(np.full([2, 2], 3), np.array([6, 6])))
    none.add(members, eye[labels], eye[given])
    assert none.amplified([0, 1]) is None


def test_the_interval_of_the_amplification_holds_what_samples_scatter():
    """The standard deviation over many samples is that which the interval of one has."""
    random, signs = np.random.default_rng(5), np.array([[1, -1], [-1, 1]])
    eye, values, widths = np.eye(2, dtype=bool), [], []
    for _ in range(200):
        members = random.integers(0, 2, 400)
        labels = random.integers(0, 2, 400)
        given = np.where(random.random(400) < 0.3, members, labels)
        parity = Parity(("a", "b"), ("x", "y"), signs)
        parity.add(members, eye[labels], eye[given])
        found = parity.amplified([0, 1])
        assert found and found.interval
        values.append(found.value)
        widths.append((found.interval[1] - found.interval[0]) / (2 * 1.96))
    assert np.mean(values) == pytest.approx(0.15, abs=0.005)
    assert np.mean(widths) == pytest.approx(np.std(values), rel=0.15)


def test_any_number_of_classes_is_decided_at_one_half():
    served = {"probabilities": np.array([[0.5, 0.6, 0.4]])}
    decided = parse("multilabel", Task).decided(np.array([[1, 0, 1]]), served)
    assert decided
    assert [each.tolist() for each in decided] == [[[True, False, True]], [[True, True, False]]]
