"""Two domains as one source."""

import json
import math
import shutil

import numpy as np
import pytest
from conftest import Tiny, draw

from pipeline import store
from pipeline.config import Config
from pipeline.order import STEPS
from pipeline.steps import model_card
from tlkeras import spec
from tlkeras.data import ingest, reading
from tlkeras.data.splits import Split
from tlkeras.measures import domains as measured
from tlkeras.measures.measures import Measures, Scalar, Table, interval
from tlkeras.recipes.adapt import Adapt
from tlkeras.source import Source
from tlkeras.sources.csv import CSV
from tlkeras.sources.domains import Domains
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder


def table(path, rows, head="text,label"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *rows]))
    return path


def texts(path, names=("no", "yes"), count=60):
    return CSV(table(path, [f"{path.stem} {i},{names[i % len(names)]}" for i in range(count)]))


def test_the_source_keeps_ids_and_splits_that_it_has_alone(tmp_path):
    source, target = texts(tmp_path / "books.csv"), texts(tmp_path / "films.csv")
    split = Split(validation=20, test=20)
    alone = ingest.write_examples(source, split, tmp_path / "alone")
    both = ingest.write_examples(Domains(source, target), split, tmp_path / "both")
    for name, count in alone.counts.items():
        assert both.counts[name] == count
        for kind in ("index.npy", "00000.tfrecord"):
            file = f"{name}.{kind}" if kind == "index.npy" else f"{name}-{kind}"
            assert (tmp_path / "both" / file).read_bytes() == (
                tmp_path / "alone" / file
            ).read_bytes()
    assert both.counts["target"] + both.counts["target_test"] == 60
    assert 0.1 < both.counts["target_test"] / 60 < 0.35


def test_the_splits_of_a_target_that_has_some_are_kept(tmp_path):
    for part, count in (("train", 20), ("dev", 6), ("test", 10)):
        texts(tmp_path / "films" / f"{part}.csv", count=count)
    domains = Domains(texts(tmp_path / "books.csv"), CSV(tmp_path / "films"))
    told = ingest.write_examples(domains, Split(), tmp_path / "out")
    assert (told.counts["target"], told.counts["target_test"]) == (26, 10)
    rows = [row["id"].decode() for row in reading.dataset(tmp_path / "out", "target_test")
            .as_numpy_iterator()]  # fmt: skip
    assert rows and all(each.startswith("target/test/") for each in rows)


def test_a_target_without_labels_has_only_rows_to_adapt_to(tmp_path):
    target = CSV(
        table(tmp_path / "films.csv", [f"film {i}" for i in range(20)], "text"), label=None
    )
    said = []
    told = ingest.write_examples(
        Domains(texts(tmp_path / "books.csv"), target), Split(), tmp_path / "out", said.append
    )
    assert told.counts["target"] == 20 and "target_test" not in told.counts
    assert told.class_counts["target"] == (0, 0)
    assert "The target has no 'label', so no example of it is measured." in said
    assert not [line for line in said if "The split target" in line]
    texts_of = [row["text"] for row in reading.dataset(tmp_path / "out", "target")
                .as_numpy_iterator()]  # fmt: skip
    assert texts_of == [f"film {i}".encode() for i in range(20)]


def test_pictures_of_two_folders_are_two_domains(tmp_path):
    source, target = (Folder(draw(tmp_path / str(i), 8, seed=i)) for i in range(2))
    domains = Domains(source, target, cut=Split(validation=0, test=40))
    told = ingest.write_examples(domains, Split(), tmp_path / "out")
    assert np.sum(told.class_counts["target_test"]) == told.counts["target_test"] > 3
    assert domains.title() == "0_to_1"
    assert spec.parse(str(domains), Source) == domains


@pytest.mark.parametrize(
    ("rows", "head", "fields", "message"),
    [
        (["a,yes", "b,maybe"], "text,label", {}, r"lacks no and also has maybe\. Adaptation is"),
        (["a,no", "b,yes", "c,x"], "text,label", {}, r"source: it also has x\."),
        (["a,yes"], "text,label", {}, "source: it lacks no"),
        (["a,1.5"], "text,number", {"number": "number"}, "only text, number, expected 'label'"),
        ([], "text,label", {}, "leaves no example to adapt to: it has none"),
    ],
)
def test_a_target_of_other_classes_or_without_examples_is_refused(
    rows, head, fields, message, tmp_path
):
    target = CSV(table(tmp_path / "films.csv", rows, head), **fields)
    domains = Domains(texts(tmp_path / "books.csv"), target)
    with pytest.raises(ValueError, match=message):
        ingest.write_examples(domains, Split(), tmp_path / "out")


def test_a_target_of_other_kinds_is_refused(tmp_path):
    domains = Domains(texts(tmp_path / "books.csv"), Embedded(count=20))
    with pytest.raises(ValueError, match=r"target has only image, label, expected 'text' of kind"):
        domains.features()
    with pytest.raises(ValueError, match=r"target has only text, label, expected 'image'"):
        Domains(Embedded(count=20), texts(tmp_path / "films.csv")).features()


def test_a_target_that_is_all_for_the_test_is_refused(tmp_path):
    texts(tmp_path / "films" / "test.csv", count=10)
    domains = Domains(texts(tmp_path / "books.csv"), CSV(tmp_path / "films"))
    with pytest.raises(ValueError, match="adapt to: all 10 are in its test split"):
        ingest.write_examples(domains, Split(), tmp_path / "out")


def of(name, value, interval=None, more=True, split="test"):
    return Measures(name, 100, {name: Scalar(value, interval, more)}, split=split)


def test_the_gap_is_by_how_much_the_target_is_worse():
    (low, high), (less, more) = interval(80, 100), interval(70, 100)
    found = measured.compared(
        of("accuracy", 0.7, (less, more), split="target_test"), of("accuracy", 0.8, (low, high))
    )
    gap = found.scalars["gap"]
    # Newcombe 1998, number 10, for 80 and 70 of 100: by hand from Wilson's intervals.
    assert gap.value == pytest.approx(0.1)
    above = math.hypot(high - 0.8, 0.7 - less)
    assert gap.interval == pytest.approx((0.1 - math.hypot(0.8 - low, more - 0.7), 0.1 + above))
    assert [*found.scalars] == ["accuracy", "source_accuracy", "gap"]
    assert found.primary == "accuracy" and found.score.value == 0.7
    (table,) = found.views
    assert isinstance(table, Table)
    assert [row[:4] for row in table.rows] == [
        ("source", "test", 100, 0.8),
        ("target", "target_test", 100, 0.7),
    ]
    errors = measured.compared(of("error", 3.0, more=False), of("error", 2.0, more=False))
    assert errors.scalars["gap"] == Scalar(1.0, None, more_is_better=False)


_BEFORE_THE_CARD = ("examples", "statistics", "anomalies", "model", "evaluation")


def carded(source, recipe, tmp_path):
    """Returns the measures of a run, its card and its report."""
    config = Config(
        source=source,
        split=Split(validation=20, test=20),
        backbone=Tiny(),
        recipe=recipe,
        root=tmp_path / "runs",
        name="domains",
        to="evaluation",
    )
    steps = STEPS[: [step.name for step in STEPS].index("evaluation") + 1]
    made = store.run(steps, config, store.Store(config.root))
    found = json.loads((made["evaluation"] / "metrics.json").read_text())
    # A network of the tests cannot be exported: other processes do not know it.
    judged = shutil.copytree(made["evaluation"], tmp_path / "judged")
    (judged / "infra.json").write_text("[]")
    (out := tmp_path / "card").mkdir()
    model_card.card.run(
        out,
        **{name: made[name] for name in _BEFORE_THE_CARD},
        infra_blessing=judged,
        backbone=config.backbone,
        task=config.task,
        exporters=(),
        name=config.name,
        details=config.details,
        data_details=config.data_details,
    )
    return found, (out / "card.md").read_text(), (out / "report.html").read_text()


@pytest.mark.slow
def test_both_domains_are_measured_from_the_flags_to_the_card(tmp_path):
    source, target = (Folder(draw(tmp_path / str(i), 24, seed=i)) for i in range(2))
    recipe = Adapt("coral", (1.0, 0.1), (0.3,), oracle=True)
    found, card, report = carded(Domains(source, target), recipe, tmp_path)
    assert found["split"] == "target_test" and found["count"] > 5
    assert found["gap"] == pytest.approx(found["source_accuracy"] - found["accuracy"])
    assert {"gap", "accuracy", "source_accuracy"} <= {*found["intervals"]}
    assert "### Domains" in card and "| source | test |" in card
    said = "Labels of the target chose among the candidates"
    assert said in card and said in report


@pytest.mark.slow
def test_a_model_for_a_target_without_labels_is_said_to_be_measured_on_the_source(tmp_path):
    pictures = draw(tmp_path / "pictures", 12, seed=1)
    rows = [f"{each.relative_to(tmp_path)}" for each in sorted(pictures.rglob("*.*"))]
    target = CSV(table(tmp_path / "target.csv", rows, "image"), label=None)
    source = Folder(draw(tmp_path / "source", 12, seed=0))
    found, card, report = carded(Domains(source, target), Adapt("coral", (1.0,), (0.3,)), tmp_path)
    assert found["split"] == "test"
    said = "Nothing was measured on the target, as it has no test split with labels."
    assert found["remarks"][0].startswith(f"{said} These {found['count']} examples are of the so")
    assert said in card and said in report
