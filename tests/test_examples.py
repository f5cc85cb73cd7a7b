from __future__ import annotations

import io
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import draw
from PIL import Image

from pipeline.steps import example_gen
from tlkeras.data import ingest, planning, reading, records, splits
from tlkeras.data.records import Info, Records
from tlkeras.data.splits import Split
from tlkeras.doctor import defects
from tlkeras.frameworks import tf
from tlkeras.kind import Kind
from tlkeras.kinds.boxes import Boxes
from tlkeras.kinds.image import Image as ImageKind
from tlkeras.kinds.label import Label
from tlkeras.kinds.labels import Labels
from tlkeras.kinds.mask import Mask
from tlkeras.kinds.number import Number
from tlkeras.kinds.text import Text
from tlkeras.report import figures
from tlkeras.source import Source
from tlkeras.sources.folder import Folder

EVERY_KIND: dict[str, Kind] = {
    "image": ImageKind(),
    "mask": Mask(),
    "caption": Text(),
    "label": Label(),
    "labels": Labels(),
    "weight": Number(),
    "boxes": Boxes(),
}

made: dict[str, tuple[dict[str, Kind], tuple[str, ...], list[tuple[str, dict[str, Any]]]]] = {}


class Made(Source, name="made"):
    """Whatever a test has put under a key of `made`."""

    key: str

    def features(self):
        return made[self.key][0]

    def classes(self):
        return made[self.key][1]

    def examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from made[self.key][2]

    def fingerprint(self):
        return self.key


def png(pixels: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "PNG", **options)
    return buffer.getvalue()


def source(
    rows: list[tuple[str, dict[str, Any]]],
    kinds: dict[str, Kind] | None = None,
    classes: tuple[str, ...] = ("a", "b"),
) -> Made:
    made["it"] = (kinds or {"image": ImageKind(), "label": Label()}, classes, rows)
    return Made("it")


def labelled(count: int) -> list[tuple[str, dict[str, Any]]]:
    random = np.random.default_rng(0)
    return [
        (f"{i}.png", {"image": png(random.integers(0, 255, (6, 5, 3))), "label": i % 2})
        for i in range(count)
    ]


def write(made: Source, out: Path, **shares: Any) -> tuple[Info, list[str]]:
    said: list[str] = []
    return ingest.write_examples(made, Split(**shares), out, said.append), said


def test_every_kind_of_feature_comes_back_as_it_went_in(tmp_path: Path):
    pixels = np.arange(4 * 6 * 3).reshape(4, 6, 3)
    boxes = [(0.25, 0.0, 0.5, 1.0), (0.0, 0.5, 0.75, 0.625)]
    rows = [
        (
            "one",
            {
                "image": png(pixels),
                "mask": png(pixels[..., 0] % 3),
                "caption": "Grüße",
                "label": 1,
                "labels": [0, 1],
                "weight": 2.5,
                "boxes": boxes,
            },
        ),
        (
            "two",
            {
                "image": png(pixels[:2]),
                "mask": png(pixels[:2, :, 0] % 3),
                "caption": "x",
                "label": 0,
                "labels": [],
                "weight": -1,
                "boxes": [],
            },
        ),
    ]
    told, _ = write(source(rows, EVERY_KIND), tmp_path, validation=0, test=0)
    assert told.features == EVERY_KIND
    first, second = reading.dataset(tmp_path, "train").as_numpy_iterator()
    assert first["id"] == b"one"
    assert (first["image"] == pixels).all()
    assert (first["mask"] == pixels[..., :1] % 3 + 1).all()  # 0 is of no class.
    assert first["caption"].decode() == "Grüße"
    assert first["label"] == 1
    assert first["labels"].tolist() == [0, 1]
    assert first["weight"] == 2.5
    assert first["boxes"].tolist() == [list(box) for box in boxes]
    assert second["boxes"].shape == (0, 4)
    assert second["labels"].shape == (0,)


def test_the_tensors_have_the_types_and_shapes_that_are_promised(tmp_path: Path):
    image = png(np.zeros((2, 2, 3)))
    row = {"image": image, "mask": png(np.zeros((2, 2))), "caption": "x", "label": 0, "labels": []}
    rows = [("x", {**row, "weight": 0, "boxes": []})]
    write(source(rows, EVERY_KIND), tmp_path, validation=0, test=0)
    got = reading.dataset(tmp_path, "train").element_spec
    assert {key: (value.dtype.name, value.shape.as_list()) for key, value in got.items()} == {
        "id": ("string", []),
        "image": ("uint8", [None, None, 3]),
        "mask": ("uint8", [None, None, 1]),
        "caption": ("string", []),
        "label": ("int64", []),
        "labels": ("int64", [None]),
        "weight": ("float32", []),
        "boxes": ("float32", [None, 4]),
    }
    few = reading.dataset(tmp_path, "train", keys=["label"]).element_spec
    assert set(few) == {"id", "label"}


def test_examples_come_in_the_order_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "_SHARD_BYTES", 1_000)
    write(source(labelled(90)), tmp_path, validation=0, test=0)
    assert len(list(tmp_path.glob("train-*.tfrecord"))) > 5
    order = np.random.default_rng(1).permutation(90)[:70]
    got = reading.dataset(tmp_path, "train", order)
    assert got.cardinality() == 70
    assert [row["id"].decode() for row in got.as_numpy_iterator()] == [f"{i}.png" for i in order]
    empty = reading.dataset(tmp_path, "train", np.zeros([0], np.int64))
    assert list(empty.as_numpy_iterator()) == []


def test_any_tfrecord_reader_reads_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "_SHARD_BYTES", 2_000)
    write(source(labelled(40)), tmp_path, validation=0, test=0)
    shards = sorted(map(str, tmp_path.glob("train-*.tfrecord")))
    standard = list(tf.data.TFRecordDataset(shards).as_numpy_iterator())
    held = Records(tmp_path, "train")
    assert len(held) == 40
    assert held.read(np.arange(40)) == standard
    assert held.read([7, 3, 7]) == [standard[7], standard[3], standard[7]]
    parsed = tf.train.Example.FromString(standard[0])
    assert parsed.features.feature["id"].bytes_list.value[0] == b"0.png"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("dedup", [False, True])
def test_no_part_is_open_when_it_is_removed(pictures, tmp_path, monkeypatch, dedup):
    remove, seen = shutil.rmtree, []

    def watched(folder, **options):
        links = (f"{link}" for link in Path("/proc/self/fd").iterdir())
        opened = [os.path.realpath(link) for link in links]
        mapped = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()]
        seen.append([path for path in (*opened, *mapped) if path.startswith(f"{folder}/")])
        remove(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", watched)
    split = Split(validation=0, test=0, dedup=dedup)
    ingest.write_examples(Folder(pictures), split, tmp_path / "out", parts=tmp_path / "parts")
    assert len(seen) >= 3 and not any(seen)


def test_the_same_data_gives_the_same_bytes_and_nothing_else_is_written(tmp_path: Path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write(source(labelled(30)), tmp_path / name)
    first, second = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ("first", "second")
    )
    assert first == second
    assert {name.split("-")[0].split(".")[0] for name in first} == {
        *("train", "validation", "test"),
        *("info", "traits", "quarantine", "notes", "duplicates"),
    }
    assert {path.name for path in tmp_path.iterdir()} == {"first", "second"}


def test_info_tells_what_was_written(tmp_path: Path):
    told, said = write(source(labelled(60)), tmp_path, validation=20, test=20)
    assert records.info(tmp_path) == told
    assert list(told.counts) == ["train", "validation", "test"]
    assert sum(told.counts.values()) == 60
    assert told.split == "split(validation=20.0, test=20.0, group='', dedup=False)"
    for split, count in told.counts.items():
        labels = [int(row["label"]) for row in reading.dataset(tmp_path, split)]
        assert len(labels) == count
        assert told.class_counts[split] == (labels.count(0), labels.count(1))
    assert not said


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((), ("cut by ", "split(test=10.0)")),
        (("train", "val", "test"), ("split as the source has them", "")),
        (
            ("train", "test"),
            ("split as the source has them, but for validation, cut by ", "split(test=10.0)"),
        ),
    ],
)
def test_splits_of_the_source_are_told_as_such(given, shown, tmp_path):
    for split in given or ("",):
        draw(tmp_path / split, 8, seed=0)
    info = planning.planned(Folder(tmp_path), Split()).info
    assert figures.cut({**info.plain(), "split": "split(test=10.0)"}) == shown
    assert info.given == tuple(splits.named(split) for split in given)


def test_data_without_labels_has_no_class_counts(tmp_path: Path):
    rows = [(f"{i}", {"text": f"text {i}", "score": i / 7}) for i in range(20)]
    told, _ = write(source(rows, {"text": Text(), "score": Number()}, ()), tmp_path)
    assert told.class_counts == {}
    assert told.counts["test"] >= 1
    assert told.counts["validation"] >= 1


def test_the_parts_of_the_work_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "_SHARD_BYTES", 2_000)
    rows = labelled(60)
    for size in (512, 7):
        monkeypatch.setattr(ingest, "_PART", size)
        monkeypatch.setattr(ingest, "_MANY", 99)  # Other processes do not have the table of `Made`.
        write(source(rows), tmp_path / f"{size}", validation=20, test=20)
    whole, parts = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ("512", "7")
    )
    assert whole == parts and len(whole) > 8


def test_finished_parts_of_a_killed_run_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ingest, "_PART", 5)
    monkeypatch.setattr(ingest, "_MANY", 99)
    expected, _ = write(source(labelled(40)), tmp_path / "whole")
    parts, read = tmp_path / "parts", []

    class Killed(BaseException):
        pass

    def killed(expected: Any, found: Any) -> None:
        end = time.monotonic() + 120
        while not (parts / "read" / "00000001").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        raise Killed

    def between(made: Source, start: int, stop: int) -> Any:
        read.append(start)
        return itertools.islice(made.examples(), start, stop)

    monkeypatch.setattr(Made, "between", between)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(ingest, "_same_examples", killed)
        ingest.write_examples(source(labelled(40)), Split(), tmp_path / "out", parts=parts)
    read.clear()
    told = ingest.write_examples(source(labelled(40)), Split(), tmp_path / "out", parts=parts)
    assert told == expected and not parts.exists()
    assert 5 not in read and 0 in read  # Part 0 was put together, part 1 only done.
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.insert(3, ("new", rows[0][1])), "new came instead of 3.png"),
        (lambda rows: rows.pop(), "nothing came instead of 19.png"),
        (lambda rows: rows.append(("new", rows[0][1])), "new came instead of the end"),
    ],
)
def test_data_that_changes_while_it_is_read_is_refused(
    change: Callable[[list[Any]], Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    changing = source(labelled(20))
    change(made["it"][2])
    monkeypatch.setattr(
        Made,
        "labels",
        lambda made: iter([(identity, [row["label"]]) for identity, row in labelled(20)]),
    )
    with pytest.raises(ValueError, match=f"^The data changed while it was read: {message}; run"):
        write(changing, tmp_path)
    assert not (tmp_path / "info.json").exists()


def test_classes_that_change_while_the_data_are_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows, read = labelled(20), []

    def between(made: Made, start: int, stop: int) -> Iterator[tuple[str, dict[str, Any]]]:
        read.append(start)
        yield from rows[start:stop]

    monkeypatch.setattr(Made, "between", between)
    monkeypatch.setattr(Made, "classes", lambda made: ("a", "b", "c") if read else ("a", "b"))
    with pytest.raises(ValueError, match="its classes were a, b and are a, b, c; run again"):
        write(source(rows), tmp_path)
    assert not (tmp_path / "info.json").exists()


def test_all_broken_examples_are_told_at_once(tmp_path: Path):
    rows = labelled(40)
    for i in range(0, 36, 3):
        rows[i][1]["image"] = b"" if i else b"nonsense"
    with pytest.raises(ValueError, match=r"^12 of 40 examples cannot be used:") as failed:
        write(source(rows), tmp_path)
    lines = str(failed.value).splitlines()
    assert lines[1] == "  0.png is none of JPEG, PNG, BMP, GIF, WEBP, TIFF; it is text"
    assert lines[2] == "  3.png is an empty file"
    assert lines[11:] == [
        "  and 2 more",
        f"That is 30.0%, and max_bad_fraction=0.01 allows 1.0%. {tmp_path}/quarantine.json lists "
        "all of them. Repair or remove them, or leave them out by max_bad_fraction=0.3; then run "
        "again.",
    ]
    assert not (tmp_path / "info.json").exists()


def _with(**features: Any) -> Callable[[], Made]:
    kinds: dict[str, Kind] = {key: EVERY_KIND[key] for key in features}
    return lambda: source([("x", features)], kinds)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: source([]), "has no examples"),
        (lambda: source(labelled(9), classes=("cat",)), "has 1 class, 'cat'; .* at least 2"),
        (lambda: source(labelled(9), classes=()), "has 0 classes; .* at least 2"),
        (lambda: source([*labelled(4), labelled(4)[2]]), "has 1 ids more than once: 2.png"),
        (
            lambda: source([("x", {"image": b"", "label": 2}), ("y", {"image": b"", "label": -1})]),
            "Labels must be from 0 to 1: x has 2, y has -1",
        ),
        (lambda: source([], {"id": Text()}), "made has a feature 'id'"),
        (
            lambda: source([("x", {"image": b""})], {"image": ImageKind(), "caption": Text()}),
            r"x has the features \['image'\], expected \['image', 'caption'\]",
        ),
        (_with(boxes=[(10, 20, 30, 40)]), r"the box \(10.0, 20.0, 30.0, 40.0\), .* in \[0, 1\]"),
        (_with(boxes=[(0.5, 0, 0.5, 1)]), r"the box \(0.5, 0.0, 0.5, 1.0\), expected"),
        (
            _with(label=0, weight=float("nan")),
            r"x has nan where a finite number is expected \(weight\)",
        ),
        (_with(labels=3), r"x has a 'labels' that is not of kind labels"),
        (_with(labels=[0, 2]), "Labels must be from 0 to 1: x has 2"),
        (_with(label=1, labels=[0, 2]), "x has the labels 2, expected 0 to 1"),
        (
            _with(image=png(np.zeros((4, 5, 3))), mask=png(np.zeros((5, 4)))),
            "has an image and a mask of different sizes",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_one_clear_message(
    make: Callable[[], Made], message: str, tmp_path: Path
):
    with pytest.raises(ValueError, match=message):
        write(make(), tmp_path, validation=0, test=0)


def test_data_that_leaves_nothing_to_train_on_is_refused(tmp_path: Path):
    photos = tmp_path / "photos"
    for name in ("test/a/1.png", "test/b/1.png"):
        (photos / name).parent.mkdir(parents=True)
        (photos / name).write_bytes(png(np.zeros((2, 2, 3))))
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="no example for training: all 2 are in test"):
        write(Folder(photos), tmp_path / "out")


def test_copies_on_two_sides_of_the_split_are_told(tmp_path: Path):
    rows = labelled(60)
    for i in range(30):
        rows[i][1]["image"] = rows[59 - i][1]["image"]
    told, said = write(source(rows), tmp_path, validation=30, test=30)
    sides = {
        row["id"].decode(): split
        for split in told.counts
        for row in reading.dataset(tmp_path, split).as_numpy_iterator()
    }
    apart = [i for i in range(30) if sides[f"{i}.png"] != sides[f"{59 - i}.png"]]
    assert len(said) == 1
    assert said[0].startswith(f"{len(apart)} examples are exact copies of one in another split")
    last = apart[-1]  # The mirror image of the order in which copies are met.
    first = f"{last}.png ({sides[f'{last}.png']}) = {59 - last}.png ({sides[f'{59 - last}.png']})"
    assert said[0].splitlines()[1].strip() == first


def test_one_copy_on_another_side_is_told_in_the_singular(tmp_path: Path):
    for name, value in {"train/a/1": 1, "train/b/1": 2, "test/a/1": 1, "test/b/1": 3}.items():
        file = tmp_path / f"photos/{name}.png"
        file.parent.mkdir(parents=True)
        file.write_bytes(png(np.full((2, 2, 3), value)))
    _, said = write(Folder(tmp_path / "photos"), tmp_path / "out")
    assert "1 example is an exact copy of one in another split" in "\n".join(said)


def test_a_copy_of_a_pair_is_one_of_both_texts(tmp_path: Path):
    kinds: dict[str, Kind] = {"text": Text(), "pair": Text(), "label": Label()}
    rows = [
        (f"{i}", {"text": "same", "pair": f"second {i % 40}", "label": i % 2}) for i in range(60)
    ]
    _, said = write(source(rows, kinds), tmp_path, validation=40, test=0)
    apart = int(said[0].split()[0])
    assert "exact copies of one in another split" in said[0] and 0 < apart < 20


def test_groups_that_the_user_has_torn_are_told(tmp_path: Path):
    photos, pixels = tmp_path / "photos", np.random.default_rng(0)
    names = ("train/a/p1_1.png", "train/b/p2_1.png", "test/a/p1_2.png", "test/b/x.png")
    for name in names:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(png(pixels.integers(0, 255, (4, 4, 3))))
    _, said = write(Folder(photos), tmp_path / "out", validation=0, group=r"/(p\d)_")
    (told,) = (text for text in said if "groups" in text)
    assert told.startswith("1 groups have examples in more than one split") and "p1" in told
    (told,) = (text for text in said if "a group of its own" in text)
    assert told.startswith("In 1 of 4 ids") and "test/b/x.png" in told
    (note,) = (each for each in defects.notes(tmp_path / "out") if each.defect == defects.TORN)
    assert (note.identity, note.split) == ("test/a/p1_2.png", "test")


def test_the_groups_of_every_split_are_counted(tmp_path: Path):
    rows = [(f"p{i // 4}_{i}", features) for i, (_, features) in enumerate(labelled(40))]
    told, _ = write(source(rows), tmp_path / "out", validation=20, test=30, group=r"(p\d)_")
    assert told.groups == {name: count / 4 for name, count in told.counts.items()}
    assert {*told.groups} == {"train", "validation", "test"}
    assert records.info(tmp_path / "out") == told
    alone, _ = write(source(rows), tmp_path / "alone")
    assert alone.groups == {}


def test_what_is_left_out_has_no_group(tmp_path: Path):
    rows = [(f"p{i // 2}_{i}", features) for i, (_, features) in enumerate(labelled(8))]
    rows[7][1]["image"] = b"broken"
    told = ingest.write_examples(
        source(rows),
        Split(validation=0, test=0, group=r"(p\d)_"),
        tmp_path,
        lambda text: None,
        max_bad_fraction=0.5,
        excluded=["p0_0", "p3_6"],
    )
    assert (told.counts, told.groups) == ({"train": 5}, {"train": 3})


def test_examples_of_an_earlier_version_have_no_groups(pictures: Path, tmp_path: Path):
    told = ingest.write_examples(Folder(pictures), Split(), tmp_path)
    content = json.loads((tmp_path / "info.json").read_text())
    del content["groups"]
    (tmp_path / "info.json").write_text(json.dumps(content))
    assert records.info(tmp_path) == told


def test_what_was_written_there_before_is_gone_before_anything_is_read(tmp_path: Path):
    shares = {"validation": 20, "test": 20}
    write(source(labelled(40)), tmp_path, **shares)
    (tmp_path / "train-00001.tfrecord").write_bytes(b"of more examples")
    (tmp_path / "train-mine.tfrecord").write_bytes(b"not ours")
    rows = labelled(30)
    rows[0][1]["image"] = b"broken"
    with pytest.raises(ValueError, match="1 of 30 examples cannot be used"):
        write(source(rows), tmp_path, **shares)
    with pytest.raises(ValueError, match="holds no examples"):
        records.info(tmp_path)
    write(source(labelled(30)), tmp_path, validation=0, test=0)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("info.json", "traits.jsonl", "quarantine.json", "notes.json", "duplicates.json"),
        *("train-00000.tfrecord", "train.index.npy", "train-mine.tfrecord"),
    }


@pytest.mark.parametrize("told", ["[]", '{"classes": []}', "no JSON"])
def test_a_foreign_info_is_one_message(told: str, tmp_path: Path):
    (tmp_path / "info.json").write_text(told)
    with pytest.raises(ValueError, match=r"info\.json is not that of examples"):
        records.info(tmp_path)


@pytest.mark.parametrize("name", ["a\nb", "a\u2028b", "ros\udce9"])
def test_a_class_that_no_line_can_hold_is_refused(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match="the name of a class is one line of UTF-8"):
        write(source(labelled(4), classes=("a", name)), tmp_path)


def test_copies_on_one_side_are_nobodys_business(tmp_path: Path):
    rows = labelled(10)
    rows[1][1]["image"] = rows[0][1]["image"]
    assert write(source(rows), tmp_path, validation=0, test=0)[1] == []


def test_a_class_missing_in_a_split_is_told(tmp_path: Path):
    rows = [(f"{i}", {**row, "label": int(i == 0)}) for i, (_, row) in enumerate(labelled(30))]
    _, said = write(source(rows), tmp_path)
    assert len(said) == 2
    assert all(text.endswith("has no example of b.") for text in said)


def test_what_is_not_there_is_told_with_what_is(tmp_path: Path):
    with pytest.raises(ValueError, match=r"holds no examples: there is no info.json"):
        records.info(tmp_path)
    write(source(labelled(8)), tmp_path, validation=0, test=0)
    with pytest.raises(ValueError, match=r"No 'test' in .*; there are train"):
        reading.dataset(tmp_path, "test")
    with pytest.raises(ValueError, match=r"No 'lable' in .*; did you mean 'label'"):
        reading.dataset(tmp_path, "train", keys=["lable"])


def test_a_picture_from_outside_is_what_the_dataset_would_give(tmp_path: Path):
    clear = Image.new("RGBA", (5, 4), (9, 9, 9, 0))
    clear.save(tmp_path / "clear.png")
    for value in (str(tmp_path / "clear.png"), tmp_path / "clear.png"):
        assert (np.asarray(ImageKind().given(value)) == 255).all()
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    assert (np.asarray(ImageKind().given(pixels)) == pixels).all()
    assert (np.asarray(ImageKind().given(png(pixels))) == pixels).all()
    assert Text().given("a text").numpy() == b"a text"
    with pytest.raises(ValueError, match=r"has shape \(4, 5\), expected \[height, width, 3\]"):
        ImageKind().given(pixels[..., 0])


def test_paths_may_be_texts(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    photos: Any = str(pictures)
    told = ingest.write_examples(Folder(photos), Split(), "~/out", parts=str(tmp_path / "p"))
    assert records.info(tmp_path / "out") == told
    with pytest.raises(ValueError, match=r"no folder or file 'nowhere'"):
        ingest.write_examples(Folder(Path("nowhere")), Split(), tmp_path / "out")


def deep(largest: int, count: int = 6) -> list[tuple[str, dict[str, Any]]]:
    """Pictures of 16 bits; the last one alone has the largest value."""
    rows = []
    for i in range(count):
        pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) + 10 * i
        pixels[0, 0] = largest if i == count - 1 else 100
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "TIFF" if i % 2 else "PNG")
        rows.append((f"{i}", {"image": buffer.getvalue(), "label": i % 2}))
    return rows


@pytest.mark.parametrize(
    ("largest", "message"),
    [
        (4_095, "6 pictures have 16 bits and no value above 4095, so they keep 16 grey levels"),
        (16_383, "no value above 16383, so they keep 64 grey levels: .* Multiply them by 4 first"),
        (1_000, "so they keep 4 grey levels: .* Multiply them by 64 first"),
        (16_384, None),
        (65_535, None),
    ],
)
def test_sixteen_bits_that_are_mostly_unused_are_told(
    largest: int, message: str | None, tmp_path: Path
):
    _, said = write(source(deep(largest) + labelled(4)), tmp_path, validation=0, test=0)
    assert len(said) == (message is not None)
    assert message is None or re.search(message, said[0])


def test_dark_pictures_of_eight_bits_and_masks_are_not_told(tmp_path: Path):
    rows = [(f"{i}", {"image": png(np.full((3, 4, 3), i)), "label": i % 2}) for i in range(4)]
    assert write(source(rows), tmp_path, validation=0, test=0)[1] == []
    numbers = io.BytesIO()
    Image.fromarray(np.ones((3, 4), np.uint16)).save(numbers, "PNG")
    for _, row in rows:
        row["mask"] = numbers.getvalue()
    kinds: dict[str, Kind] = {"image": ImageKind(), "label": Label(), "mask": Mask()}
    assert write(source(rows, kinds), tmp_path, validation=0, test=0)[1] == []


def test_the_run_prints_the_first_ten_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for number in range(12):
        (tmp_path / "photos" / f"c{number:02d}").mkdir(parents=True)
        (tmp_path / f"photos/c{number:02d}/1.png").write_bytes(png(np.full((2, 2, 3), number)))
    example_gen.examples.run(
        tmp_path / "out",
        source=Folder(tmp_path / "photos"),
        split=Split(validation=0, test=0),
        max_bad_fraction=0.01,
        quarantine=tmp_path / "quarantine",
    )
    names = ", ".join(f"c{number:02d}" for number in range(10))
    assert f"  12 classes: {names}, and 2 more\n  12 train\n" in capsys.readouterr().out


def test_pictures_whose_names_are_no_utf_8_are_examples_like_others(tmp_path: Path):
    photos = tmp_path / "photos"
    for number, name in enumerate((b"a/1.png", b"a/ros\xe9.png", b"b/1.png")):
        path = photos / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(np.full((2, 2, 3), number)))
    assert Folder(photos).fingerprint()
    write(Folder(photos), tmp_path / "out", validation=0, test=0)
    rows = reading.dataset(tmp_path / "out", "train").as_numpy_iterator()
    assert {row["id"] for row in rows} == {b"a/1.png", b"a/ros\xe9.png", b"b/1.png"}


def test_an_info_names_no_split_outside_its_folder(pictures: Path, tmp_path: Path):
    out, other = tmp_path / "out", tmp_path / "other"
    for folder in (out, other):
        folder.mkdir()
    (other / "train-00000.tfrecord").touch()
    (other / "train.index.npy").touch()
    told = {"classes": [], "features": {}, "class_counts": {}, "split": ""}
    (out / "info.json").write_text(json.dumps({**told, "counts": {"../other/train": 1}}))
    with pytest.raises(ValueError, match="not that of examples"):
        records.info(out)
    ingest.write_examples(Folder(pictures), Split(validation=20, test=20), out)
    assert len([*other.iterdir()]) == 2


def test_names_cannot_command_the_terminal(pictures: Path, tmp_path: Path):
    shutil.copytree(pictures, tmp_path / "photos")
    (tmp_path / "photos" / "\x1b]0;x\x07.txt").touch()
    said: list[str] = []
    ingest.write_examples(Folder(tmp_path / "photos"), Split(), tmp_path / "out", said.append)
    assert any(r"\x1b]0;x\x07.txt" in line for line in said)
    assert "\x1b" not in "".join(said)
