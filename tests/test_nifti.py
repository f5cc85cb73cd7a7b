"""Slices of NIfTI volumes, turned and scaled."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension
from PIL import Image

from tlkeras import spec
from tlkeras.data import ingest
from tlkeras.data.splits import Split
from tlkeras.doctor import traits
from tlkeras.medical import volumes
from tlkeras.medical.volumes import Volume
from tlkeras.source import Source
from tlkeras.sources.nifti import NIfTI

# By position: 100 to the patient's right, 10 to the front, 1 up; all from the left, back and feet.
PLACES = np.add.outer(np.add.outer(np.arange(2) * 100, np.arange(3) * 10), np.arange(4))


def volume(
    file: Path, values: np.ndarray = PLACES, affine: Any = None, scale: Any = None, **header: Any
) -> Path:
    """Writes a volume whose axes go right, to the front and up, unless `affine` says otherwise."""
    made = nibabel.Nifti1Image(values.astype(np.int16), np.eye(4) if affine is None else affine)
    if scale:
        made.header.set_slope_inter(*scale)
    for key, value in header.items():
        made.header[key] = value
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(made, file)
    return file


@pytest.mark.parametrize(
    ("axis", "slices", "first"),
    [
        ("axial", 4, [[120, 20], [110, 10], [100, 0]]),
        ("coronal", 3, [[103, 3], [102, 2], [101, 1], [100, 0]]),
        ("sagittal", 2, [[23, 13, 3], [22, 12, 2], [21, 11, 1], [20, 10, 0]]),
    ],
)
def test_the_patients_right_or_front_is_on_the_left_and_the_front_or_head_at_the_top(
    axis, slices, first, tmp_path
):
    found = Volume(volume(tmp_path / "a.nii"), axis)
    assert found.slices == slices
    assert found.values(0).tolist() == first


@pytest.mark.parametrize("axis", volumes.AXES)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_all_48_ways_to_store_a_volume_give_the_same_slices(axis, name, tmp_path):
    import itertools

    expected = Volume(volume(tmp_path / "plain.nii"), axis)
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            stored = PLACES.transpose(order)
            affine = np.eye(4)[:, [*order, 3]]
            for place, sign in enumerate(signs):
                stored = np.flip(stored, place) if sign < 0 else stored
                affine[:, place] *= sign
            found = Volume(volume(tmp_path / name, stored, affine), axis)
            for number in range(expected.slices):
                np.testing.assert_array_equal(found.values(number), expected.values(number))


def test_slope_and_intercept_scale_the_values(tmp_path):
    found = Volume(volume(tmp_path / "a.nii.gz", scale=(2, -50)), "axial")
    assert found.values(1)[-1, -1] == 1 * 2 - 50
    assert found.extent() == (-50, 123 * 2 - 50)


def test_a_window_shows_its_values(tmp_path):
    found = Volume(volume(tmp_path / "a.nii"), "axial").pixels(0, (60, 101), 0, 0)
    exact = (np.array([[120, 20], [110, 10], [100, 0]]) - 59.5) / 100 + 0.5
    np.testing.assert_array_equal(found, np.rint(exact.clip(0, 1) * 255))


def test_what_is_no_number_is_black(tmp_path):
    values = np.ones((2, 2, 1), np.float32)
    values[0, 0, 0] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    assert Volume(tmp_path / "a.nii", "axial").pixels(0, None, 0, 1).tolist() == [
        [255, 255],
        [255, 0],
    ]


def test_voxels_that_are_no_cubes_become_square_pixels(tmp_path):
    file = volume(tmp_path / "a.nii", affine=np.diag([1.0, 1, 5, 1]))
    assert Volume(file, "axial").pixels(0, None, 0, 200).shape == (3, 2)
    assert Volume(file, "coronal").pixels(0, None, 0, 200).shape == (20, 2)


def folder(root: Path) -> Path:
    for number, name in enumerate(("sound/1", "sound/2", "ill/3", "ill/4")):
        volume(root / f"{name}.nii.gz", PLACES + number)
    return root


def seen(source: Source) -> dict[str, np.ndarray]:
    return {
        identity: np.asarray(Image.open(io.BytesIO(row["image"])))
        for identity, row in source.examples()
    }


def test_slices_are_examples_and_those_of_a_file_stay_together(tmp_path):
    source = NIfTI(folder(tmp_path / "data"))
    assert source.classes() == ("ill", "sound")
    ids = [identity for identity, _ in source.labels()]
    assert ids[:5] == [*(f"ill/3.nii.gz#{n}" for n in range(1, 5)), "ill/4.nii.gz#1"]
    assert {source.stays_with(identity) for identity in ids[:4]} == {"ill/3.nii.gz"}
    assert [*seen(source)] == ids
    assert spec.parse(str(tmp_path / "data"), Source) == source


@pytest.mark.parametrize(
    ("files", "patients"),
    [
        (["HGG/a/flair", "HGG/a/t1", "HGG/b/t1", "LGG/c/t1"], "aabc"),  # BraTS.
        (["ill/sub-1/ses-1/T1w", "ill/sub-1/ses-2/T2w", "sound/sub-2/ses-1/T1w"], "112"),  # BIDS.
        (["ill/sub-1_ses-1_T1w", "ill/sub-1_ses-2_T1w", "sound/sub-2_T1w"], "112"),
        (["ill/scans/a", "ill/scans/b", "sound/files/c"], "abc"),
        (["train/ill/a/1", "train/ill/a/2", "train/ill/b/1", "train/sound/c/1"], "aabc"),
    ],
)
def test_all_volumes_of_a_patient_stay_together(files, patients, tmp_path):
    for file in files:
        volume(tmp_path / f"data/{file}.nii.gz")
    source = NIfTI(tmp_path / "data", slices="middle")
    ids = [each for each, _ in source.labels()]
    found = {each.partition(".nii")[0]: source.stays_with(each) for each in ids}
    for one, own in zip(files, patients, strict=True):
        for other, others in zip(files, patients, strict=True):
            assert (found[one] == found[other]) == (own == others)


def test_a_table_of_patients_keeps_the_volumes_of_each_together(tmp_path):
    for file in ("p1/a", "p1/b", "p2/a"):
        volume(tmp_path / f"data/{file}.nii.gz")
    (tmp_path / "t.csv").write_text("patient_id,label\np1,ill\np2,sound")
    source = NIfTI(tmp_path / "data", table=tmp_path / "t.csv", slices="middle")
    assert [source.stays_with(each) for each, _ in source.labels()] == ["p1", "p1", "p2"]


def test_without_a_range_in_the_header_that_of_the_whole_data_is_shown(tmp_path):
    source = NIfTI(folder(tmp_path / "data"))
    whole = seen(source)["sound/2.nii.gz#1"]
    expected = np.array([[121, 21], [111, 11], [101, 1]]) / (123 + 3)
    np.testing.assert_array_equal(whole, np.rint(expected * 255))
    volume(tmp_path / "data/sound/2.nii.gz", PLACES, cal_min=0, cal_max=50)
    assert any("3 files name no window" in each for each in source.replace().remarks())
    assert not source.replace(window=(0, 9)).remarks()
    own = seen(source.replace())["sound/2.nii.gz#1"]
    assert own.tolist() == [[255, 102], [255, 51], [255, 0]]


def test_the_extent_of_a_volume_is_of_its_numbers_alone(tmp_path):
    values = np.full([2, 3, 4], np.nan, np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "none.nii")
    values[:, :, 1:] = np.linspace(800, 3000, 18, dtype=np.float32).reshape(2, 3, 3)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "head.nii")
    assert Volume(tmp_path / "head.nii", "axial").extent() == (800.0, 3000.0)
    assert Volume(tmp_path / "none.nii", "axial").extent() == (0.0, 0.0)


def test_the_middle_slice_alone_is_asked_for(tmp_path):
    source = NIfTI(folder(tmp_path / "data"), slices="middle", axis="sagittal")
    assert [*seen(source)][:2] == ["ill/3.nii.gz#2", "ill/4.nii.gz#2"]


def test_any_part_of_the_examples_is_the_same_part_of_all(tmp_path):
    source = NIfTI(folder(tmp_path / "data"))
    rows = list(source.examples())
    for start in (0, 3, 4, 5, 15, 16):
        for stop in (start, start + 1, start + 6, 17):
            assert list(source.between(start, stop)) == rows[start:stop]


def test_a_table_names_the_folder_of_a_patient(tmp_path):
    for number in range(4):
        volume(tmp_path / f"data/sub-{number:02}/anat/T1w.nii.gz")
    rows = ["participant_id,label", *(f"sub-{n:02},{'ab'[n % 2]}" for n in range(5))]
    (tmp_path / "participants.csv").write_text("\n".join(rows))
    source = NIfTI(tmp_path / "data", table=tmp_path / "participants.csv", slices="middle")
    assert [numbers for _, numbers in source.labels()] == [[0], [1], [0], [1]]
    assert "1 rows of" in source.remarks()[0] and "line 6" in source.remarks()[0]


def packed(file: Path, change: Any) -> None:
    content = bytearray(gzip.decompress(file.read_bytes()))
    change(content)
    file.write_bytes(gzip.compress(bytes(content)))


def _claim(content: bytearray) -> None:
    content[42:48] = (30_000).to_bytes(2, "little") * 3


def _stand_far_behind(content: bytearray) -> None:
    content[108:112] = struct.pack("<f", 2.0**25)


def _say_a_long_extension(content: bytearray) -> None:
    """The values begin 32 bytes later, behind one that goes far beyond them."""
    content[108:112] = struct.pack("<f", 384.0)
    content[348:352] = b"\1\0\0\0" + struct.pack("<ii", 2**25, 6) + b"\0" * 24
    content += bytes(2**25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_claim, "is too large: 54,000,000,000,000 bytes packed, expected at most 536,870,912"),
        (
            _stand_far_behind,
            "is too large: 33,554,432 bytes before its values, expected at most 16",
        ),
        (_say_a_long_extension, "is no NIfTI file that can be read (HeaderDataError)"),
        (lambda content: content.__delitem__(slice(360, None)), "has damaged values"),
        (lambda content: content.__delitem__(slice(100, None)), "is no NIfTI file"),
        (lambda content: content.clear(), "is no NIfTI file"),
    ],
)
def test_a_damaged_file_is_told_in_place_of_its_slices(change, message, tmp_path):
    root = folder(tmp_path / "data")
    packed(root / "ill/4.nii.gz", change)
    rows = {i: row["image"] for i, row in NIfTI(root).examples() if i.startswith("ill/4")}
    assert rows and all(isinstance(each, ValueError) for each in rows.values())
    assert all(message in str(each) for each in rows.values())


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_packed_file_with_an_extension_is_read(kind, tmp_path):
    made = kind(PLACES.astype(np.int16), np.eye(4))
    made.header.extensions.append(Nifti1Extension("comment", b"of a study" * 99))
    nibabel.save(made, tmp_path / "a.nii.gz")
    found = Volume(tmp_path / "a.nii.gz", "axial")
    assert found.values(0).tolist() == [[120, 20], [110, 10], [100, 0]]


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((2, 3, 4, 5), np.int16, "has 4 dimensions, expected a volume of 3"),
        ((2, 3), np.int16, "has 2 dimensions, expected a volume of 3"),
        ((2, 3, 4), np.complex64, "has values of type complex64"),
    ],
)
def test_what_is_no_volume_is_told(shape, kind, message, tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.ones(shape, kind), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(ValueError, match=message):
        Volume(tmp_path / "a.nii", "axial")


def test_a_volume_of_one_time_is_one(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4, 1)), np.eye(4)), tmp_path / "a.nii")
    assert Volume(tmp_path / "a.nii", "axial").values(3).shape == (3, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"axis": "oblique"}, "nifti.axis is 'oblique', expected"),
        ({"label": "x"}, "nifti.label is 'x', expected nothing, or a table beside it"),
        ({"window": (40, 0)}, "expected center and width"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        NIfTI(Path("scans"), **fields)


def test_slices_are_found_again_by_the_content_of_their_file(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (4, 9, 9, 5))
    files = [volume(tmp_path / f"scans/{'ab'[i % 2]}/{i}.nii", values[i]) for i in range(4)]
    ingest.write_examples(NIfTI(tmp_path / "scans"), Split(), tmp_path / "out", lambda text: None)
    found = Counter(row.sha256 for row in traits.read(tmp_path / "out"))
    assert found == {hashlib.sha256(file.read_bytes()).hexdigest(): 5 for file in files}


def test_slices_of_which_nothing_is_known_need_no_class_folders(tmp_path):
    volume(tmp_path / "scans" / "a.nii.gz")
    volume(tmp_path / "scans" / "late" / "b.nii.gz")
    source = NIfTI(tmp_path / "scans", label=None, slices="middle")
    assert [identity for identity, _ in source.examples()] == ["a.nii.gz#3", "late/b.nii.gz#3"]
    assert [row.keys() for _, row in source.examples()] == [{"image"}] * 2
    assert source.classes() == () and [*source.features()] == ["image"]
