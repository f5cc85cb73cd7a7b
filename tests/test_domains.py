"""Two domains as one source."""

import numpy as np
import pytest
from conftest import draw

from tlkeras import spec
from tlkeras.data import ingest, reading
from tlkeras.data.splits import Split
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
