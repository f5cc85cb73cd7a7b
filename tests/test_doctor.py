"""The doctor at ingest: what is broken, what is odd, what is a copy, and what is none of these."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import dirty
import numpy as np
import pytest
from PIL import Image

from pipeline.steps import example_gen
from pipeline.store import Store
from tlkeras.data import ingest, reading, records
from tlkeras.data.records import Info
from tlkeras.data.splits import Split
from tlkeras.doctor import copies, defects, duplicates, traits
from tlkeras.images import opening
from tlkeras.kinds.image import Image as ImageKind
from tlkeras.source import Source
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder

WHOLE = Split(validation=0, test=0)


def write(
    source: Source, out: Path, split: Split = WHOLE, most: float = 0.5
) -> tuple[Info, list[str]]:
    said: list[str] = []
    told = ingest.write_examples(source, split, out, said.append, max_bad_fraction=most)
    return told, said


def words(found: list[defects.Defect]) -> set[tuple[str, str]]:
    return {(Path(each.identity).name, each.defect) for each in found}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples of the dirty folder of pictures."""
    place = tmp_path_factory.mktemp("pictures")
    write(Folder(dirty.dirty_pictures(place / "data")), place / "out")
    return place


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples of the dirty folder of texts."""
    place = tmp_path_factory.mktemp("texts")
    write(Folder(dirty.dirty_texts(place / "data")), place / "out")
    return place


def test_every_broken_picture_is_in_quarantine_under_its_word(pictures: Path):
    expected = {(name, word) for name, (_, word) in dirty.QUARANTINED.items()}
    assert words(defects.read(pictures / "out")) == expected


def test_every_odd_picture_is_noted_under_its_word_and_no_sound_one(pictures: Path):
    found = words(defects.notes(pictures / "out"))
    expected = {(name, word) for name, (_, word) in dirty.NOTED.items()}
    assert expected <= found
    assert {name for name, _ in found} == {*dirty.NOTED}


def test_at_least_thirty_kinds_of_defect_are_planted():
    texts = dirty.TEXTS_QUARANTINED | dirty.TEXTS_NOTED
    assert len(dirty.QUARANTINED) + len(dirty.NOTED) + len(dirty.COPIES) + len(texts) >= 45
    kinds = {word for _, word in (dirty.QUARANTINED | dirty.NOTED).values()}
    assert len(kinds | {word for _, word in texts.values()}) + len(dirty.COPIES) >= 25


def test_copies_of_pictures_are_found_and_nothing_else(pictures: Path):
    found = [
        (sorted(map(_stem, each.ids)), each.exact) for each in duplicates.read(pictures / "out")
    ]
    assert sorted(found) == [([name, name], name == "again") for name in sorted(dirty.COPIES)]


def _stem(identity: str) -> str:
    return Path(identity).stem.partition("-")[0]


def test_every_broken_and_odd_text_is_found_under_its_word_and_no_sound_one(texts: Path):
    expected = {(name, word) for name, (_, word) in dirty.TEXTS_QUARANTINED.items()}
    assert words(defects.read(texts / "out")) == expected
    expected = {(name, word) for name, (_, word) in dirty.TEXTS_NOTED.items()}
    assert words(defects.notes(texts / "out")) == expected


def test_copies_of_texts_are_found_with_the_labels_of_both(texts: Path):
    same, near = sorted(duplicates.read(texts / "out"), key=lambda each: not each.exact)
    assert (same.ids, same.exact, same.distance) == (["a/same-1.txt", "b/same-2.txt"], True, 0)
    assert (near.ids, near.exact) == (["a/near-1.txt", "b/near-2.txt"], False)
    assert 0 < near.distance <= 0.2
    labels = {row.identity: row.labels for row in traits.read(texts / "out")}
    assert [labels[each] for each in same.ids] == [[0], [1]]


def test_an_exact_copy_is_told_as_no_near_one_where_its_group_has_one(tmp_path: Path):
    for folder in ("train/x", "train/y", "test/x"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    dirty.scene(2).save(tmp_path / "data" / "train/y/d.png")
    scene = dirty.scene(1)
    for name in ("train/x/a.png", "test/x/b.png"):
        scene.save(tmp_path / "data" / name)
    scene.save(tmp_path / "data" / "train/x/c.jpg", quality=90)
    _, said = write(Folder(tmp_path / "data"), tmp_path / "out", most=0.0)
    (group,) = duplicates.read(tmp_path / "out")
    assert len(group.ids) == 3 and not group.exact
    exact, near = (line.partition("\n  ")[2] for line in said if "cop" in line)
    assert exact == "test/x/b.png (test) = train/x/a.png (train)"
    assert near == "test/x/b.png (test) ~ train/x/c.jpg (train)"
    (found,) = copies.across([group])
    assert found.reason == "is an exact copy of train/x/a.png (train)"


@pytest.mark.parametrize("make", [dirty.clean_pictures, dirty.clean_texts])
def test_a_clean_folder_raises_no_alarm(make, tmp_path: Path):
    told, said = write(Folder(make(tmp_path / "data")), tmp_path / "out", Split(), most=0.0)
    assert not said and sum(told.counts.values()) == 60
    for name in (defects.QUARANTINE, defects.NOTES, duplicates.FILE):
        assert json.loads((tmp_path / "out" / name).read_text()) == []


def test_counts_and_traits_are_those_of_what_was_written(pictures: Path):
    out = pictures / "out"
    told = records.info(out)
    rows = [*traits.read(out)]
    ids = [row["id"].decode() for row in reading.dataset(out, "train").as_numpy_iterator()]
    assert [row.identity for row in rows] == ids
    assert told.counts == {"train": len(ids)}
    labels = [label for row in rows for label in row.labels]
    assert told.class_counts == {"train": (labels.count(0), labels.count(1))}
    assert not {*ids} & {each.identity for each in defects.read(out)}


def test_traits_are_those_that_numpy_measures(pictures: Path):
    rows = {row.identity: row for row in traits.read(pictures / "out")}
    for name, format, mode in (("a/000.jpg", "JPEG", "RGB"), ("a/strip.png", "PNG", "RGB")):
        data = (pictures / "data" / name).read_bytes()
        with Image.open(pictures / "data" / name) as image:
            image.draft("L", None)  # Of a JPEG the coded luma, which its colours round.
            grey = np.asarray(image.convert("L"), np.float64)
        row, found = rows[name], rows[name].traits["image"]
        inner = np.zeros(grey.shape, bool)
        inner[1:-1, 1:-1] = True
        assert row.sha256 == hashlib.sha256(data).hexdigest()
        assert (found["format"], found["mode"], found["bytes"]) == (format, mode, len(data))
        assert (found["height"], found["width"]) == grey.shape
        assert found["brightness"] == pytest.approx(grey.mean(), abs=1e-3)
        assert found["contrast"] == pytest.approx(grey.std(), abs=1e-3)
        assert found["border"] == pytest.approx(grey[~inner].mean(), abs=1e-3)


def test_a_picture_is_decoded_once(monkeypatch: pytest.MonkeyPatch):
    load, decoded = opening.loaded, []
    monkeypatch.setattr(opening, "loaded", lambda *given: (decoded.append(given), load(*given))[1])
    for number, format in enumerate(("WEBP", "JPEG", "PNG"), start=1):
        ImageKind().examined(dirty.encoded(dirty.scene(0), format))
        assert len(decoded) == number


def _spoilt(folder: Path, bad: int, count: int = 40) -> Folder:
    dirty.clean_pictures(folder, count)
    for number in range(bad):
        (folder / "ab"[number % 2] / f"{number:03d}.jpg").write_bytes(b"")
    return Folder(folder)


@pytest.mark.parametrize(
    ("bad", "most", "stops"),
    [(1, 0.01, True), (1, 0.025, False), (2, 0.025, True), (2, 0.06, False), (0, 0.0, False)],
)
def test_a_run_stops_where_more_is_bad_than_the_share_allows(
    bad: int, most: float, stops: bool, tmp_path: Path
):
    source, out = _spoilt(tmp_path / "data", bad), tmp_path / "out"
    before = {file: file.read_bytes() for file in (tmp_path / "data").rglob("*.jpg")}
    if stops:
        with pytest.raises(ValueError, match=f"^{bad} of 40 examples cannot be used") as told:
            write(source, out, most=most)
        least = str(told.value).rpartition("max_bad_fraction=")[2].partition(";")[0]
        assert [*out.iterdir()] == [out / "quarantine.json"]
        assert len(defects.read(out)) == bad
        info, _ = write(source, out, most=float(least))
        assert info.counts == {"train": 40 - bad}
    else:
        info, said = write(source, out, most=most)
        assert info.counts == {"train": 40 - bad}
        assert len(said) == bool(bad)
        assert not bad or said[0].startswith(f"{bad} of 40 examples cannot be used and are left")
    assert {file: file.read_bytes() for file in (tmp_path / "data").rglob("*.jpg")} == before


@pytest.mark.parametrize("most", [-0.1, 1.5])
def test_a_share_that_is_none_is_refused_before_anything_is_read(most: float, tmp_path: Path):
    with pytest.raises(ValueError, match=f"max_bad_fraction is {most}, expected a share"):
        write(Folder(tmp_path / "nowhere"), tmp_path / "out", most=most)


def test_what_the_bad_ones_leave_without_an_example_is_told(tmp_path: Path):
    source = _spoilt(tmp_path / "data", 0)
    for split, name in (("train", "c"), ("val", "a")):
        for number in range(2):
            path = tmp_path / "data" / split / name / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    for name in "ab":
        (tmp_path / "data" / name).rename(tmp_path / "data" / "train" / name)
    info, said = write(Folder(tmp_path / "data"), tmp_path / "out", most=0.5)
    assert info.counts == {"train": 40} and info.class_counts == {"train": (20, 20, 0)}
    assert said[-2:] == [
        "Without them, the split train has no example of c.",
        "Without them, there is no split validation.",
    ]
    assert not [*(tmp_path / "out").glob("validation*")]
    for file in (tmp_path / "data/train").rglob("*.jpg"):
        file.write_bytes(b"")
    (tmp_path / "data/val/a/0.jpg").write_bytes(dirty.encoded(dirty.scene(0)))
    with pytest.raises(ValueError, match="They leave no example for training"):
        write(Folder(tmp_path / "data"), tmp_path / "out", most=1.0)
    assert source


def test_the_list_of_a_step_that_stops_is_beside_the_store(tmp_path: Path):
    source, store = _spoilt(tmp_path / "data", 3), Store(tmp_path / "runs")
    fields = {
        **{"source": source, "split": WHOLE, "max_bad_fraction": 0.01},
        **{"beam_runner": "auto", "beam_options": ""},
    }
    with pytest.raises(ValueError, match=r"lists all of them") as told:
        store.make(example_gen.examples, fields, {})
    (report,) = (tmp_path / "runs" / "quarantine").iterdir()
    assert str(report) in str(told.value)
    assert [row["defect"] for row in json.loads(report.read_text())] == ["empty file"] * 3
    made = store.make(example_gen.examples, {**fields, "max_bad_fraction": 0.1}, {})
    assert len(defects.read(made)) == 3


def _near_copies(folder: Path, count: int = 40, copies: bool = True) -> Folder:
    """Half of the pictures have a copy of another size and quality in the other class."""
    dirty.clean_pictures(folder, count)
    for number in range(0, count if copies else 0, 2):
        image = dirty.scene(number).resize((80, 80))
        (folder / "b" / f"copy-{number:03d}.jpg").write_bytes(dirty.encoded(image, quality=60))
    return Folder(folder)


def _sides(out: Path) -> dict[str, str]:
    return {row.identity: row.split for row in traits.read(out)}


def test_near_copies_in_two_splits_are_told_and_dedup_keeps_them_on_one_side(tmp_path: Path):
    source = _near_copies(tmp_path / "data")
    _, said = write(source, tmp_path / "torn", Split(validation=30.0, test=30.0))
    torn = [group for group in duplicates.read(tmp_path / "torn") if len({*group.splits}) > 1]
    (told,) = said
    assert torn and told.startswith(f"{len(torn)} examples are near copies of one in another split")
    first, second = torn[0].ids
    assert f"{first} ({torn[0].splits[0]}) ~ {second} ({torn[0].splits[1]})" in told
    assert "or cut them with split(dedup=True)" in told
    info, said = write(source, tmp_path / "kept", Split(validation=30.0, test=30.0, dedup=True))
    assert not said and info.split.endswith("dedup=True)") and sum(info.counts.values()) == 60
    assert len(duplicates.read(tmp_path / "kept")) == 20
    assert all(len({*each.splits}) == 1 for each in duplicates.read(tmp_path / "kept"))
    records_of = {
        identity: side for side in info.counts for identity in _ids(tmp_path / "kept", side)
    }
    assert records_of == _sides(tmp_path / "kept")


def _ids(out: Path, side: str) -> list[str]:
    return [row["id"].decode() for row in reading.dataset(out, side).as_numpy_iterator()]


def test_a_side_depends_on_nothing_but_copies(tmp_path: Path):
    cut = Split(validation=30.0, test=30.0, dedup=True)
    write(_near_copies(tmp_path / "without", copies=False), tmp_path / "one", cut)
    write(_near_copies(tmp_path / "with"), tmp_path / "two", cut)
    before, after = _sides(tmp_path / "one"), _sides(tmp_path / "two")
    alone = [each for each in before if each.startswith("b")]
    assert alone and all(before[each] == after[each] for each in alone)
    moved = [each for each in before if before[each] != after[each]]
    assert all((tmp_path / "with/b" / f"copy-{Path(each).stem}.jpg").exists() for each in moved)


def test_without_dedup_a_side_is_that_of_the_hash_alone(tmp_path: Path):
    write(_near_copies(tmp_path / "data"), tmp_path / "out", Split(validation=30.0, test=30.0))
    sides = _sides(tmp_path / "out")
    digests = {each: hashlib.sha256(each.encode()).digest()[:6] for each in sides}
    spots = {each: int.from_bytes(digest, "big") / 2**48 * 100 for each, digest in digests.items()}
    expected = {
        each: "test" if spot < 30 else "validation" if spot < 60 else "train"
        for each, spot in spots.items()
    }
    assert sides == expected


def test_splits_of_the_users_own_stay_and_are_told_as_torn(tmp_path: Path):
    source = _near_copies(tmp_path / "data" / "train")
    (tmp_path / "data/train/b/copy-000.jpg").rename(tmp_path / "moved.jpg")
    (tmp_path / "data/test/b").mkdir(parents=True)
    (tmp_path / "data/test/a").mkdir()
    (tmp_path / "moved.jpg").rename(tmp_path / "data/test/b/copy-000.jpg")
    (tmp_path / "data/test/a/x.jpg").write_bytes(dirty.encoded(dirty.scene(99)))
    cut = Split(validation=0, test=0, dedup=True)
    info, said = write(Folder(tmp_path / "data"), tmp_path / "out", cut)
    assert info.counts == {"train": 59, "test": 2} and source
    (told,) = [text for text in said if "near cop" in text]
    assert "test/b/copy-000.jpg (test) ~ train/a/000.jpg (train)" in told
    assert "dedup" not in told  # It moves no example of the user's own splits.


def test_a_killed_run_with_dedup_reads_nothing_twice_and_ends_like_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source, cut = _near_copies(tmp_path / "data"), Split(validation=30.0, test=30.0, dedup=True)
    write(source, tmp_path / "whole", cut)
    out, parts, read = tmp_path / "out", tmp_path / "parts", []

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(ingest, "_write", killed)
        ingest.write_examples(source, cut, out, print, parts=parts)
    between = Folder.between
    monkeypatch.setattr(Folder, "between", lambda *each: (read.append(each), between(*each))[1])
    ingest.write_examples(source, cut, out, print, parts=parts)
    assert not read and not parts.exists()
    for file in (tmp_path / "whole").iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes()


def test_a_source_of_other_things_has_no_traits_and_no_copies(tmp_path: Path):
    write(Embedded(data="notes", count=40), tmp_path / "out")
    rows = [*traits.read(tmp_path / "out")]
    assert len(rows) == 40 and all(len(row.sha256) == 64 for row in rows)
    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError, match=r"has no traits\.jsonl; write the examples again"):
        next(traits.read(tmp_path / "old"))
