"""The source of DICOM files: which of them are examples, of which class, in which split."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import scanner
from PIL import Image
from scanner import scan, shapes, shipped

from tlkeras import spec
from tlkeras.data import ingest, reading, splits
from tlkeras.data.splits import Split
from tlkeras.doctor import defects, traits
from tlkeras.medical import dicom_file, scans
from tlkeras.source import Source
from tlkeras.sources.dicom import DICOM
from tlkeras.sources.domains import Domains
from tlkeras.sources.folder import Folder

WINDOW = {"WindowCenter": 0, "WindowWidth": 4000}


def pixels(number: int, frames: int = 1) -> np.ndarray:
    """Stored values unlike any other number's."""
    values = np.random.default_rng(number).integers(0, 4095, (frames, 8, 9)).astype("<u2")
    return values[0] if frames == 1 else values


def seen(source: Source) -> dict[str, Any]:
    return {
        identity: np.asarray(Image.open(io.BytesIO(row["image"])))
        for identity, row in source.examples()
    }


def sides(source: Source, split: Split | None = None) -> dict[str, str]:
    ids, labels = zip(*source.labels(), strict=True)
    given, named = [*map(source.split, ids)], [*map(source.stays_with, ids)]
    found = splits.assigned(split or Split(validation=20, test=20), ids, labels, given, named)
    return dict(zip(ids, found, strict=True))


def table(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines))
    return file


def test_classes_are_folders_and_files_need_no_ending(tmp_path):
    source = DICOM(shapes(tmp_path / "scans", 12))
    assert source.classes() == ("disk", "ring")
    assert [numbers for _, numbers in source.labels()] == [[0]] * 6 + [[1]] * 6
    assert {picture.shape for picture in seen(source).values()} == {(32, 32)}


def test_a_bare_folder_of_dicom_files_is_this_source(tmp_path):
    for name in ("a/IM1", "b/IM2"):
        scan(tmp_path / "scans" / name, pixels(0))
    assert spec.parse(str(tmp_path / "scans"), Source) == DICOM(tmp_path / "scans")


def test_what_cannot_be_read_does_not_tell_whether_a_folder_is_of_this_source(
    tmp_path, monkeypatch
):
    scan(tmp_path / "scans/a/IM1", pixels(0))
    (tmp_path / "photos/a").mkdir(parents=True)
    for name in ("scans", "photos"):
        (tmp_path / name / "0").symlink_to("gone")
    (tmp_path / "photos/a/1.jpg").touch()
    assert spec.parse(str(tmp_path / "scans"), Source) == DICOM(tmp_path / "scans")
    assert spec.parse(str(tmp_path / "photos"), Source) == Folder(tmp_path / "photos")

    def refuse(file):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(dicom_file, "is_marked", refuse)
    assert spec.parse(str(tmp_path / "photos"), Source) == Folder(tmp_path / "photos")


def test_pictures_of_which_nothing_is_known_need_no_class_folders(tmp_path):
    expected = seen(DICOM(shapes(tmp_path / "scans", 4)))
    (tmp_path / "scans/disk").rename(tmp_path / "scans/ring/2024")
    source = DICOM(tmp_path / "scans", label=None)
    assert [*source.features()] == ["image"] and source.classes() == ()
    found = seen(source)
    assert {*found} == {*expected} and all((found[each] == expected[each]).all() for each in found)
    assert [row.keys() for _, row in source.examples()] == [{"image"}] * 4
    assert not any(numbers for _, numbers in source.labels())
    with pytest.raises(ValueError, match=r"dicom\.label is None, expected a column of the table"):
        DICOM(tmp_path / "scans", label=None, table=tmp_path / "labels.csv")


@pytest.mark.parametrize("key", ["SOPInstanceUID", "PatientID", "file", "name", "path"])
def test_a_table_names_pictures_by_uid_by_patient_or_by_file(key, tmp_path):
    made = {}
    for number in range(6):
        file = scan(
            tmp_path / f"scans/{number}/{number}.dcm", pixels(number), PatientID=f"P{number}"
        )
        uid = scanner.data_set(pixels(number), PatientID=f"P{number}").SOPInstanceUID
        names = {"SOPInstanceUID": uid, "PatientID": f"P{number}", "file": file.name}
        names |= {"name": file.stem, "path": f"{number}/{number}.dcm"}
        made[names[key]] = ("sound", "ill")[number % 2]
    rows = [f"{name},{label}" for name, label in made.items()]
    found = table(tmp_path / "labels.csv", f"{key},label", *rows)
    source = DICOM(tmp_path / "scans", table=found, key=key)
    assert source.classes() == ("ill", "sound")
    assert [numbers for _, numbers in source.labels()] == [[1], [0]] * 3
    assert not any("row" in remark for remark in source.remarks())


@pytest.mark.parametrize(
    ("key", "labels"), [("PatientID", [0, 0, 1, 1]), ("file", [0, 1, 0, 1]), ("id", None)]
)
def test_the_column_says_whether_a_number_is_of_a_patient_or_of_a_file(key, labels, tmp_path):
    for patient in "12":
        for slice_ in "12":
            scan(
                tmp_path / f"scans/{patient}/{slice_}.dcm",
                pixels(int(patient + slice_)),
                PatientID=patient,
            )
    source = DICOM(
        tmp_path / "scans", table=table(tmp_path / "t.csv", f"{key},label", "1,benign", "2,ill")
    )
    if labels is None:
        with pytest.raises(ValueError, match="lines 2 and 3 differ and fit the same picture"):
            list(source.labels())
    else:
        assert [numbers for _, numbers in source.labels()] == [[label] for label in labels]


def test_a_table_has_several_classes_or_a_number_a_picture(tmp_path):
    for number in range(4):
        scan(tmp_path / f"scans/{number}.dcm", pixels(number), PatientID=f"P{number}")
    rows = ["id,finding,age,a,b", "P0,x|y,1.5,0,1", "P1,,2,1,0", "P2,y,3,1,1", "P3,x,4,0,0"]
    found = table(tmp_path / "t.csv", *rows)
    several = DICOM(
        tmp_path / "scans", table=found, label="finding", multilabel=True, separator="|"
    )
    assert [numbers for _, numbers in several.labels()] == [[0, 1], [], [1], [0]]
    flags = DICOM(tmp_path / "scans", table=found, label=("a", "b"), multilabel=True)
    assert [row["labels"] for _, row in flags.examples()] == [[1], [0], [0, 1], []]
    ages = DICOM(tmp_path / "scans", table=found, number="age")
    assert [row["number"] for _, row in ages.examples()] == [1.5, 2, 3, 4]
    assert ages.classes() == ()


def test_files_without_a_row_and_rows_without_a_file_are_counted(tmp_path):
    for number in range(4):
        scan(tmp_path / f"scans/{number}.dcm", pixels(number), PatientID=f"P{number}")
    found = table(tmp_path / "t.csv", "PatientID,label", "P0,a", "P1,b", "P7,b", "P8,a")
    told = " ".join(DICOM(tmp_path / "scans", table=found).remarks())
    assert "2 files have no row in the table and are left out: 2.dcm, 3.dcm." in told
    assert f"2 rows of {found} name no file in {tmp_path / 'scans'}; the first is line 4." in told


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["PatientID,label", "P0,a", "P0,b"], "line 3 says something else than line 2 of the same"),
        (["PatientID,label", "P0"], "line 2 has 1 cells, expected 2"),
        (["PatientID,label", ",a"], "line 2 has no PatientID"),
        (["PatientID,class", "P0,a"], r"no column 'label'.*Set label='class'"),
        (["who,label", "P0,a"], r"no column that names the pictures.*Name it by key='…'"),
    ],
)
def test_a_wrong_table_is_told_by_its_lines_and_never_by_a_patient(rows, message, tmp_path):
    scan(tmp_path / "scans/0.dcm", pixels(0), PatientID="P0")
    source = DICOM(tmp_path / "scans", table=table(tmp_path / "t.csv", *rows))
    with pytest.raises(ValueError, match=message) as raised:
        list(source.labels())
    assert "P0" not in str(raised.value)


def test_all_pictures_of_a_patient_stay_in_one_split(tmp_path):
    source = DICOM(shapes(tmp_path / "scans", 80, patients=20))
    found: dict[str | None, set[str]] = {}
    for identity, side in sides(source).items():
        found.setdefault(source.stays_with(identity), set()).add(side)
    assert len(found) == 20 and {len(each) for each in found.values()} == {1}
    assert {side for each in found.values() for side in each} == {"train", "validation", "test"}


def test_a_patient_stays_in_its_split_while_others_come(tmp_path):
    shapes(tmp_path / "scans", 80, patients=20)
    before = sides(DICOM(tmp_path / "scans"))
    for number in range(20):
        scan(tmp_path / f"scans/disk/new{number}", pixels(number), PatientID=f"Q{number % 4}")
    after = sides(DICOM(tmp_path / "scans"))
    assert len(after) == 100 and before.items() <= after.items()


def test_a_group_of_the_users_own_counts_instead(tmp_path):
    """Each picture by itself: pictures of a patient are then in several splits."""
    source = DICOM(shapes(tmp_path / "scans", 80, patients=4))
    found = sides(source, Split(validation=20, test=20, group=".+"))
    pairs = {(source.stays_with(identity), side) for identity, side in found.items()}
    assert len(pairs) > 4


def test_without_a_patient_the_study_stays_together(tmp_path):
    for number in range(8):
        name, study = f"scans/{'ab'[number % 2]}/{number}", f"1.2.{number // 4}"
        scan(tmp_path / name, pixels(number), PatientID="", StudyInstanceUID=study)
    source = DICOM(tmp_path / "scans")
    assert len({source.stays_with(identity) for identity, _ in source.labels()}) == 2
    assert "8 files have no PatientID, so each study is a patient" in " ".join(source.remarks())


def test_data_of_one_patient_alone_are_told(tmp_path):
    source = DICOM(shapes(tmp_path / "scans", 8, patients=1))
    assert "All 8 files are of one patient" in " ".join(source.remarks())


def test_a_patient_torn_by_the_users_folders_is_told_by_its_pictures(tmp_path):
    for number, name in enumerate(("train/a/1", "train/b/2", "test/a/3", "test/b/4")):
        scan(tmp_path / "scans" / name, pixels(number), PatientID=("Doe", "Roe")[number // 3])
    source = DICOM(tmp_path / "scans")
    told: list[str] = []
    ingest.write_examples(source, Split(), tmp_path / "out", told.append)
    torn = next(text for text in told if "more than one split" in text)
    ids = [identity for identity, _ in source.labels()]
    assert torn.startswith("1 groups have") and "(test) and" in torn and "(train)." in torn
    notes = [each for each in defects.notes(tmp_path / "out") if each.defect == defects.TORN]
    assert len(notes) == 1 and notes[0].split == "test"
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    named = {name.encode() for name in map(source.stays_with, ids) if name} | {b"Doe"}
    assert "Doe" not in " ".join(told)
    assert not [name for name in named if any(name in content for content in written)]
    assert [source.split(identity) for identity in ids].count("test") == 2


def test_the_group_of_a_source_holds_within_domains(tmp_path):
    source = DICOM(shapes(tmp_path / "a", 8, patients=2))
    both = Domains(source, DICOM(shapes(tmp_path / "b", 40, patients=10)))
    targets = [identity for identity, _ in both.labels() if identity.startswith("target/")]
    groups: dict[str | None, set[str | None]] = {}
    for identity in targets:
        own = both.target.stays_with(identity.removeprefix("target/"))
        groups.setdefault(own, set()).add(both.split(identity))
    assert len(groups) == 10 and {len(each) for each in groups.values()} == {1}
    first = next(identity for identity, _ in source.labels())
    assert both.stays_with(first) == source.stays_with(first)
    # A target is another place, whose patient of the same name is another one.
    assert len({*map(both.stays_with, targets)} - {both.stays_with(first)}) == 10
    told = ingest.write_examples(both, Split(), tmp_path / "out", lambda text: None)
    assert sum(told.groups.values()) == 12 and told.groups["target_test"] >= 1


@pytest.mark.parametrize(("frames", "expected"), [("all", [1, 2, 3, 4]), ("middle", [3])])
def test_frames_are_examples_of_their_own(frames, expected, tmp_path):
    stored = pixels(1, frames=4)
    scan(tmp_path / "scans/a/1.dcm", stored, **WINDOW)
    scan(tmp_path / "scans/b/1.dcm", pixels(2), **WINDOW)
    found = seen(DICOM(tmp_path / "scans", frames=frames))
    *several, single = found
    assert [int(identity.partition("#")[2]) for identity in several] == expected
    assert "#" not in single and len({identity[:16] for identity in several}) == 1
    for identity, number in zip(several, expected, strict=True):
        linear = (stored[number - 1] - 1024.0 + 0.5) / 3999 + 0.5
        np.testing.assert_array_equal(found[identity], np.rint(linear.clip(0, 1) * 255))


def test_any_part_of_the_examples_is_the_same_part_of_all(tmp_path):
    scan(tmp_path / "scans/a/1.dcm", pixels(1, frames=5), **WINDOW)
    for number in range(4):
        scan(tmp_path / f"scans/b/{number}.dcm", pixels(number + 9), **WINDOW)
    source = DICOM(tmp_path / "scans")
    rows = list(source.examples())
    for start in range(10):
        for stop in range(start, 11):
            assert list(source.between(start, stop)) == rows[start:stop]


def test_files_without_a_window_share_the_range_of_their_modality(tmp_path):
    for number, (name, modality) in enumerate(
        [("a/1", "MR"), ("a/2", "MR"), ("b/3", "MR"), ("b/4", "PT"), ("b/5", "MR")]
    ):
        window = {"WindowCenter": 0, "WindowWidth": 2000} if number == 4 else {}
        stored = np.array([[number * 100, number * 100 + 50]], "<u2")
        more = {"Modality": modality, "RescaleIntercept": 0, **window}
        scan(tmp_path / "scans" / name, stored, **more)
    values = [each.ravel().tolist() for each in seen(DICOM(tmp_path / "scans")).values()]
    shared = [[round(x / 250 * 255) for x in (low, low + 50)] for low in (0, 100, 200)]
    assert values[:3] == shared and values[3] == [0, 255]
    assert values[4] == [round((x + 0.5) / 1999 * 255 + 127.5) for x in (400, 450)]


def test_a_copy_of_a_file_is_left_out_and_both_are_named(tmp_path):
    shapes(tmp_path / "scans", 8)
    shutil.copy(tmp_path / "scans/disk/IM0000", tmp_path / "scans/ring/copy.dcm")
    source = DICOM(tmp_path / "scans")
    assert len(list(source.labels())) == 8
    expected = "1 files repeat the SOPInstanceUID of another and are left out: copy.dcm = IM0000."
    assert expected in source.remarks()


def bad_folder(root: Path) -> Path:
    """Sound files, and one of every kind that is none or cannot be used."""
    shapes(root, 12)
    (root / "disk/letter.dcm").write_bytes(b"Dear doctor, " * 40)
    (root / "disk/empty.dcm").write_bytes(b"")
    (root / "ring/cut.dcm").write_bytes(shipped("MR_small.dcm").read_bytes()[:5_000])
    scan(root / "ring/rows.dcm", pixels(1), Rows=None)
    shutil.copy(shipped("rtplan.dcm"), root / "ring/plan.dcm")
    shutil.copy(shipped("JPEG-lossy.dcm"), root / "ring/lossy.dcm")
    (root / "notes.txt").write_text("of the study")
    return root


@pytest.mark.parametrize(
    ("patient", "name", "shown"),
    [
        ("Doe^Jo", "doe_jo.dcm", "…_jo.dcm"),
        ("홍^길동", "홍길동_CT.dcm", "……_CT.dcm"),
        ("Yamada^Tarou=山田^太郎", "山田太郎_CT.dcm", "……_CT.dcm"),
        ("Müller^Eva", "Mu\u0308ller_eva.dcm", "…_….dcm"),
    ],
)
def test_the_name_of_a_patient_is_in_no_name_of_a_file_that_is_told(patient, name, shown):
    header: Any = types.SimpleNamespace(text={"PatientName": patient, "PatientID": ""}.get)
    assert scans._discreet(name, header) == shown


def test_no_name_of_a_patient_is_told_of_whatever_header_can_be_read(tmp_path):
    folder = shapes(tmp_path / "scans", 2) / "disk"
    patient = {"PatientName": "Miller^Zoe", "PatientID": "Q-7781"}
    report = pydicom.dcmread(shipped("rtplan.dcm"))
    report.PatientName, report.PatientID = patient.values()
    report.save_as(folder / "miller_report.dcm")
    scan(folder / "Zoe_rows.dcm", pixels(1), Rows=None, **patient)
    scan(folder / "Q-7781_ct.dcm", pixels(2), **patient)
    cut = scan(folder / "MILLER_cut.dcm", pixels(3), **patient)
    cut.write_bytes(cut.read_bytes()[:-40])
    shutil.copy(folder / "Q-7781_ct.dcm", folder / "zoe_copy.dcm")
    source = DICOM(tmp_path / "scans")
    told = "\n".join([*source.remarks(), *map(str, source._listing.left_out)])
    for shown in (
        "left out: …_report.dcm.",
        "…_rows.dcm (",
        "…_cut.dcm (",
        "…_copy.dcm = Q-…_ct.dcm",
    ):
        assert shown in told
    assert not re.search("miller|zoe|7781", told, re.IGNORECASE)


def test_files_that_are_no_picture_are_counted_and_named(tmp_path):
    source = DICOM(bad_folder(tmp_path / "scans"))
    told = "\n".join(source.remarks())
    assert "1 files hold no picture and are left out: plan.dcm." in told
    assert "has 1 other file, notes.txt; it is left out." in told
    (unusable,) = (line for line in told.splitlines() if "cannot be used" in line)
    assert unusable.startswith("4 files cannot be used: empty.dcm (")
    for what in (
        "letter.dcm (",
        ") is no DICOM file",
        "cut.dcm (",
        ") is cut short",
        ") has no Rows",
    ):
        assert what in unusable
    ids = [identity for identity, _ in source.labels()]
    assert len(ids) == len({*ids}) == 12 + 4 + 1


def test_an_example_that_cannot_be_used_says_why_in_place_of_its_picture(tmp_path):
    source = DICOM(bad_folder(tmp_path / "scans"))
    broken = {
        i: row["image"] for i, row in source.examples() if isinstance(row["image"], ValueError)
    }
    reasons = sorted(str(error) for error in broken.values())
    assert len(reasons) == 5
    assert reasons[0].startswith("has no Rows") and reasons[-1].startswith("is no DICOM")
    assert any("JPEG Extended" in each and "(in lossy.dcm)" in each for each in reasons)


def test_ingest_goes_through_the_bad_ones_and_names_each(tmp_path):
    source = DICOM(bad_folder(tmp_path / "scans"))
    out = tmp_path / "out"
    info = ingest.write_examples(source, Split(), out, lambda text: None, max_bad_fraction=0.4)
    assert sum(info.counts.values()) == 12
    found = {each.defect: each.reason for each in defects.read(out)}
    assert {*found} == {
        *("empty file", "unsupported format", "truncated", "missing attribute", "no decoder"),
    }
    assert found["no decoder"].endswith("(in lossy.dcm)")
    left = [(each.identity, each.defect) for each in defects.notes(out) if not each.split]
    assert [(len(name), defect) for name, defect in left] == [(16, "no picture")]


def test_the_name_of_a_patient_in_the_name_of_a_file_is_not_told(tmp_path):
    shapes(tmp_path / "scans", 8)
    name = "scans/ring/doe_JANE-4711.dcm"
    scan(tmp_path / name, pixels(1), PatientID="4711", WindowCenter=1, WindowWidth=0)
    source = DICOM(tmp_path / "scans")
    errors = [row["image"] for _, row in source.examples() if isinstance(row["image"], ValueError)]
    assert [str(each) for each in errors] == ["has a WindowWidth that is too small (in …_…-….dcm)"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key": "PatientID"}, "dicom.key is 'PatientID', expected nothing, or a table beside it"),
        ({"number": "age"}, "dicom.number is 'age', expected nothing"),
        ({"window": 0}, "dicom.window is 0, expected the number of a window, from 1"),
        ({"window": (40, 0)}, "expected center and width, which is at least 1"),
        ({"frames": "first"}, "dicom.frames is 'first', expected"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        DICOM(Path("scans"), **fields)


def test_a_window_is_written_on_the_command_line():
    text = "dicom(path='scans', window=(-600, 1500))"
    assert spec.parse(text, Source) == DICOM(Path("scans"), window=(-600.0, 1500.0))


def test_the_records_hold_what_the_source_gives(tmp_path):
    source = DICOM(shapes(tmp_path / "scans", 12), window=(40, 400))
    info = ingest.write_examples(source, Split(), tmp_path / "out", lambda text: None)
    expected = seen(source)
    for split in info.counts:
        for row in reading.dataset(tmp_path / "out", split).as_numpy_iterator():
            np.testing.assert_array_equal(row["image"][..., 0], expected[row["id"].decode()])


@pytest.mark.parametrize("frames", [1, 3])
def test_examples_are_found_again_by_the_content_of_their_file(frames, tmp_path):
    files = [
        scan(tmp_path / f"scans/{'ab'[i % 2]}/{i}.dcm", pixels(i, frames), PatientID=f"{i}")
        for i in range(6)
    ]
    ingest.write_examples(DICOM(tmp_path / "scans"), Split(), tmp_path / "out", lambda text: None)
    found = Counter(row.sha256 for row in traits.read(tmp_path / "out"))
    assert found == {hashlib.sha256(file.read_bytes()).hexdigest(): frames for file in files}


@pytest.mark.parametrize(("member", "package"), [("dicom", "pydicom"), ("nifti", "nibabel")])
def test_a_library_that_is_missing_is_no_fault_of_the_files(member, package, tmp_path, monkeypatch):
    for number in range(2):
        scan(tmp_path / f"scans/{number}/{number}.dcm", pixels(number))
        (tmp_path / f"scans/{number}/{number}.nii").write_bytes(b"")
    monkeypatch.setattr(dicom_file, "_loaded", dicom_file._loaded.__wrapped__)
    monkeypatch.setitem(sys.modules, package, None)
    source = spec.parse(f"{member}(path={str(tmp_path / 'scans')!r})", Source)
    with pytest.raises(
        ValueError, match=rf"files need {package}: pip install 'tlkeras\[medical\]'"
    ):
        list(source.labels())


def test_files_that_name_no_window_are_told_unless_one_is_given(tmp_path):
    scan(tmp_path / "scans/a/0.dcm", pixels(0))
    scan(tmp_path / "scans/b/1.dcm", pixels(1), **WINDOW)
    source = DICOM(tmp_path / "scans")
    assert any("1 files name no window" in remark for remark in source.remarks())
    given = source.replace(window=(40, 400))
    assert not any("window" in remark for remark in given.remarks())


def test_files_with_colours_need_no_window(tmp_path):
    for place in range(2):
        colours = np.stack([pixels(place)] * 3, axis=-1).astype(np.uint8)
        scan(tmp_path / f"scans/{place}/{place}.dcm", colours, PhotometricInterpretation="RGB")
    source = DICOM(tmp_path / "scans")
    assert not any("window" in remark for remark in source.remarks())
    scan(tmp_path / "scans/1/2.dcm", pixels(2))
    assert any("1 files name no window" in remark for remark in source.replace().remarks())
