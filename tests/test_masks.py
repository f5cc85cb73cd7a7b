"""Masks as people have them: ids, palettes, colours, black and white, objects, 16 bits, sizes."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlkeras.data import ingest
from tlkeras.data.splits import Split
from tlkeras.images import decoding
from tlkeras.kinds.mask import Mask
from tlkeras.sources.masks import Masks

NUMBERS = np.arange(24, dtype=np.uint8).reshape(4, 6) % 3
TWO = ("background", "person")
THREE = ("background", "sea", "ship")


def put(place: Path, masks: dict[str, Any], pictures: tuple[str, ...] = ("1.png", "2.png")) -> None:
    """Writes noise as pictures of 4 x 6, and masks: arrays or what Pillow saves."""
    for folder, names in (("images", pictures), ("masks", (*masks,))):
        for number, name in enumerate(names):
            path = place / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            random = np.random.default_rng(number)
            made = random.integers(0, 255, (4, 6, 3), np.uint8) if folder == "images" else None
            content = made if made is not None else masks[name]
            image = content if isinstance(content, Image.Image) else Image.fromarray(content)
            image.save(path)


def source(place: Path, **fields: Any) -> Masks:
    return Masks(place / "images", place / "masks", **fields)


def numbers(source: Masks) -> list[np.ndarray]:
    """Returns the numbers of every mask as ingest gets them."""
    rows = [Image.open(io.BytesIO(row["mask"])) for _, row in source.examples()]
    return [np.asarray(row) for row in rows]


def palette(values: np.ndarray) -> Image.Image:
    made = Image.frombytes("P", values.shape[::-1], values.tobytes())
    made.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    return made


COLOURS = {"Void": (0, 0, 0), "Sky": (128, 128, 128), "Car": (64, 0, 128)}
TABLE = "name, r, g, b\n" + "\n".join(
    f"{name}, {', '.join(map(str, colour))}" for name, colour in COLOURS.items()
)


@pytest.mark.parametrize(
    ("mask", "fields", "expected"),
    [
        (NUMBERS, {"names": THREE}, NUMBERS),
        (palette(NUMBERS), {"names": THREE}, NUMBERS),
        (NUMBERS.astype(np.uint16), {"names": THREE}, NUMBERS),
        (
            np.where(NUMBERS == 2, 255, NUMBERS),
            {"names": TWO},
            np.where(NUMBERS == 2, 255, NUMBERS),
        ),
        (np.where(NUMBERS == 2, 11, NUMBERS), {"names": TWO, "ignore": 11}, None),
        (NUMBERS, {"names": ("sky", "car", "void"), "ignore": "void"}, None),
        ((NUMBERS > 0) * np.uint8(255), {"names": TWO, "ignore": None}, NUMBERS > 0),
        (Image.fromarray(NUMBERS > 0), {"names": TWO, "ignore": None}, NUMBERS > 0),
        (NUMBERS * np.uint16(900), {"names": TWO, "instances": True}, NUMBERS > 0),
        (
            np.array([*COLOURS.values()], np.uint8)[NUMBERS],
            {"colours": "table.csv", "ignore": "Void"},
            np.array([255, 0, 1])[NUMBERS],
        ),
        (
            np.array([*COLOURS.values()], np.uint8)[NUMBERS],
            {"colours": "table.csv"},
            NUMBERS,
        ),
    ],
)
def test_every_way_of_writing_a_mask_is_read(mask, fields, expected, tmp_path):
    put(tmp_path, {"1.png": mask, "2.png": mask})
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8-sig")
    if "colours" in fields:
        fields = {**fields, "colours": tmp_path / fields["colours"]}
    if expected is None:
        expected = np.where(NUMBERS == 2, 255, NUMBERS)
    for found in numbers(source(tmp_path, **fields)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("fields", "classes", "background"),
    [
        ({"names": THREE}, ("sea", "ship"), True),
        ({"names": ("sky", "Background")}, ("sky", "Background"), False),
        ({"names": ("sky", "car", "void"), "ignore": "void"}, ("sky", "car"), False),
        ({"names": ("_background_", "void", "car"), "ignore": "void"}, ("car",), True),
    ],
)
def test_classes_are_the_names_without_background_and_void(fields, classes, background, tmp_path):
    put(tmp_path, {"1.png": NUMBERS})
    made = source(tmp_path, **fields)
    assert made.classes() == classes
    assert made.features()["mask"] == Mask(background=background)


def test_the_background_of_a_table_of_colours_may_be_any_row(tmp_path):
    colours = np.array([(9, 9, 9), (0, 0, 0), (5, 5, 5)], np.uint8)
    put(tmp_path, {"1.png": colours[NUMBERS]}, ("1.png",))
    (tmp_path / "table.csv").write_text("Name,R,G,B\nsky,9,9,9\nBackground,0,0,0\ncar,5,5,5\n")
    made = source(tmp_path, colours=tmp_path / "table.csv")
    assert made.classes() == ("sky", "car")
    np.testing.assert_array_equal(numbers(made)[0], np.array([1, 0, 2])[NUMBERS])


@pytest.mark.parametrize(
    ("pictures", "masks", "told"),
    [
        (("1.png", "2.jpg"), ("1.png", "2.png"), ()),
        (("1.png", "10.png"), ("1_mask.png", "10_mask.png"), ()),
        (("train/1.png", "val/1.png"), ("train/1.png", "val/1.png"), ()),
        (("1.png", "2.png", "3.png"), ("1.png", "2.png"), ("1 pictures .* no mask .*: 3.png",)),
        (
            ("1.png", "2.png", "3.png"),
            ("1_mask.png", "2_mask.png"),
            ("1 pictures .* no mask .*: 3.png",),
        ),
        (("1.png", "2.png"), ("1.png", "2.png", "x.png"), ("1 masks .* no picture .*: x.png",)),
    ],
)
def test_pictures_and_masks_are_paired_by_name(pictures, masks, told, tmp_path):
    put(tmp_path, dict.fromkeys(masks, NUMBERS), pictures)
    made = source(tmp_path, names=THREE)
    assert [name for name, _ in made.labels()] == sorted(pictures)[:2]
    assert len(made.remarks()) == len(told)
    for remark, message in zip(made.remarks(), told, strict=True):
        assert re.search(message, remark)


TOWN = "train/aachen/aachen_000000_00001{}{}.png"


def city(place: Path) -> None:
    """Writes two pictures and their masks as Cityscapes names them."""
    ends = ("color", "instanceIds", "labelIds", "labelTrainIds")
    other = NUMBERS.max() - NUMBERS
    masks = {
        TOWN.format(number, f"_gtFine_{end}"): NUMBERS if end == "labelTrainIds" else other
        for number in (8, 9)
        for end in ends
    }
    put(place, masks, tuple(TOWN.format(number, "_leftImg8bit") for number in (8, 9)))


@pytest.mark.parametrize("is_one_folder", [False, True])
def test_endings_pair_pictures_and_masks_that_share_the_beginning_of_a_name(
    is_one_folder, tmp_path
):
    city(tmp_path)
    fields = {"names": THREE, "endings": ("_leftImg8bit", "_gtFine_labelTrainIds")}
    made = source(tmp_path, **fields)
    if is_one_folder:
        for file in (tmp_path / "images/train/aachen").iterdir():
            file.rename(tmp_path / "masks/train/aachen" / file.name)
        made = made.replace(images=tmp_path / "masks")
    assert [name for name, _ in made.examples()] == [
        TOWN.format(number, "_leftImg8bit") for number in (8, 9)
    ]
    assert all(np.array_equal(found, NUMBERS) for found in numbers(made)) and not made.remarks()
    with pytest.raises(ValueError, match=r"has a mask of its name .* give both ends: endings=\("):
        list(made.replace(images=tmp_path / "masks", endings=("", "_gone")).examples())


def test_masks_that_end_in_nothing_else_lie_beside_pictures_of_no_ending(tmp_path):
    put(tmp_path, {"1_mask.png": NUMBERS}, ("1.png", "2.png"))
    (tmp_path / "masks/1_mask.png").rename(tmp_path / "images/1_mask.png")
    made = Masks(tmp_path / "images", tmp_path / "images", names=THREE, endings=("", "_mask"))
    assert [name for name, _ in made.examples()] == ["1.png"]
    assert [remark.endswith(": 2.png.") for remark in made.remarks()] == [True]


def test_masks_of_several_endings_are_refused_until_one_is_chosen(tmp_path):
    other = NUMBERS.max() - NUMBERS
    masks = {
        f"{n}_{end}.png": mask for n in "12" for end, mask in (("id", other), ("lab", NUMBERS))
    }
    put(tmp_path, masks)
    made = source(tmp_path, names=THREE)
    with pytest.raises(ValueError, match=r"several endings, _id, _lab; choose .*=\('', '_id'\)"):
        list(made.examples())
    made = made.replace(endings=("", "_lab"))
    assert all(np.array_equal(found, NUMBERS) for found in numbers(made)) and not made.remarks()


def test_a_mask_of_a_picture_that_is_not_there_is_no_other_ending(tmp_path):
    more = ("1_2_mask.png", "1_mask_2.png", "3_mask.png")
    put(tmp_path, dict.fromkeys(("1_mask.png", *more), NUMBERS), ("1.png",))
    made = source(tmp_path, names=THREE)
    assert [name for name, _ in made.examples()] == ["1.png"]
    assert made.remarks()[0].endswith("left out: 1_2_mask.png, 1_mask_2.png, 3_mask.png.")


def test_folders_of_splits_are_the_user_s_splits(tmp_path):
    names = ("train/1.png", "val/1.png")
    put(tmp_path, dict.fromkeys(names, NUMBERS), names)
    made = source(tmp_path, names=THREE)
    assert [made.split(name) for name in names] == ["train", "validation"]
    assert made.split("1.png") is None
    assert [made.split(f"town/{name}/x/1.png") for name in ("test", "val2017")] == [
        "test",
        "validation",
    ]


@pytest.mark.parametrize("ending", ["_labels", "annot"])
def test_masks_may_lie_in_folders_beside_those_of_the_pictures(ending, tmp_path):
    names = ("train/1.png", "val/1.png", "test/1.png", "test/2.png")
    put(tmp_path, {name: NUMBERS for name in names}, names)
    for folder in ("train", "val", "test"):
        (tmp_path / "images" / folder).rename(tmp_path / folder)
        (tmp_path / "masks" / folder).rename(tmp_path / f"{folder}{ending}")
    made = Masks(tmp_path, tmp_path, names=THREE)
    assert [name for name, _ in made.examples()] == sorted(names) and not made.remarks()
    assert [made.split(name) for name in names] == ["train", "validation", "test", "test"]
    np.testing.assert_array_equal(numbers(made)[0], NUMBERS)
    (tmp_path / f"val{ending}/1.png").unlink()
    assert "val/1.png" in Masks(tmp_path, tmp_path, names=THREE).remarks()[0]


def test_one_folder_without_such_folders_in_it_is_refused(tmp_path):
    put(tmp_path, {"1.png": NUMBERS})
    with pytest.raises(
        ValueError, match=r"one folder, .* such as train and train_labels; it has im"
    ):
        list(Masks(tmp_path, tmp_path, names=THREE).examples())


@pytest.mark.parametrize(
    ("shape", "is_taken"),
    [
        ((4, 6), True),
        ((5, 6), True),
        ((2, 3), True),
        ((40, 61), True),
        ((6, 4), False),
        ((4, 12), False),
    ],
)
def test_a_mask_of_the_picture_s_shape_is_resized_and_another_refused(shape, is_taken, tmp_path):
    put(tmp_path, {"1.png": np.ones(shape, np.uint8)}, ("1.png",))
    made = source(tmp_path, names=THREE)
    if is_taken:
        np.testing.assert_array_equal(numbers(made)[0], np.ones((4, 6)))
    else:
        height, width = shape
        with pytest.raises(ValueError, match=f"1.png has {width} x {height} pixels, .* 6 x 4;"):
            numbers(made)


@pytest.mark.parametrize("ending", ["png", "tiff"])
@pytest.mark.parametrize(
    ("orientation", "seen"),
    {
        5: NUMBERS.T,
        6: np.rot90(NUMBERS, -1),
        7: NUMBERS[::-1, ::-1].T,
        8: np.rot90(NUMBERS),
    }.items(),
)
def test_a_mask_drawn_on_a_turned_photo_as_stored_is_turned_with_it(
    orientation, seen, ending, tmp_path
):
    put(tmp_path, {"1.png": NUMBERS, "2.png": seen.copy()}, ())
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = NUMBERS[..., None].repeat(3, axis=-1) * np.uint8(80)
    for name in ("1", "2"):
        Image.fromarray(pixels).save(tmp_path / f"images/{name}.{ending}", exif=exif)
    rows = [row for _, row in source(tmp_path, names=THREE).examples()]
    assert len(rows) == 2
    for row in rows:
        upright = np.asarray(Image.open(io.BytesIO(decoding.standard(row["image"]))))[..., 0] // 80
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["mask"]))), upright)


def test_an_orientation_that_is_none_turns_neither_picture_nor_mask(tmp_path):
    put(tmp_path, {"1.png": NUMBERS}, ("1.png",))
    exif = Image.Exif()
    exif[0x0112] = 9
    pixels = NUMBERS[..., None].repeat(3, axis=-1) * np.uint8(80)
    Image.fromarray(pixels).save(tmp_path / "images/1.png", exif=exif)
    np.testing.assert_array_equal(numbers(source(tmp_path, names=THREE))[0], NUMBERS)


@pytest.mark.parametrize(
    ("mask", "fields", "message"),
    [
        (
            NUMBERS,
            {"names": TWO},
            r"1.png has the number 2, expected 0 to 1 for background, person",
        ),
        (NUMBERS * np.uint16(900), {"names": THREE}, "has the number 1800, expected 0 to 2"),
        (
            np.zeros((4, 6, 3), np.uint8),
            {"names": TWO},
            r"in colour \(RGB\).*give the table colours",
        ),
        (
            np.full((4, 6, 3), 7, np.uint8),
            {"colours": "t.csv"},
            "1.png has the colour 7,7,7 at 24 of",
        ),
    ],
)
def test_values_beyond_the_classes_are_named_with_their_file(mask, fields, message, tmp_path):
    put(tmp_path, {"1.png": mask, "2.png": mask})
    (tmp_path / "t.csv").write_text(TABLE)
    if "colours" in fields:
        fields = {"colours": tmp_path / fields["colours"]}
    made = source(tmp_path, **fields)
    with pytest.raises(ValueError, match=message):
        numbers(made)
    with pytest.raises(ValueError, match="2 of 2 masks cannot be used") as raised:
        ingest.write_examples(made, Split(), tmp_path / "out", lambda text: None)
    assert str(raised.value).count("has the") + str(raised.value).count("in colour") == 2


def test_black_and_white_that_is_ignored_is_told(tmp_path):
    mask = (NUMBERS > 0) * np.uint8(255)
    put(tmp_path, {"1.png": mask, "2.png": mask})
    with pytest.raises(ValueError, match="If 255 is 'person', give ignore=None"):
        list(source(tmp_path, names=TWO).labels())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "masks needs names, .* or the table colours"),
        ({"names": TWO, "colours": Path("t.csv")}, "and not both"),
        ({"names": ("a", "a")}, "masks.names is .* expected distinct names"),
        ({"names": TWO, "ignore": "void"}, "masks.ignore is 'void', expected one of background"),
        ({"names": THREE, "instances": True}, "instances needs two names"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        source(tmp_path, **fields)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("a,b\n1,2\n", "has no column 'name'"),
        ("name,r,g,b\nsky,1,2,300\n", "line 2 has the colour 1,2,300"),
        ("name,r,g,b\nsky,1,2,3\ncar,1,2,3\n", "line 3 has a name or colour of an earlier"),
    ],
)
def test_a_table_of_colours_that_is_wrong_is_named(table, message, tmp_path):
    put(tmp_path, {"1.png": NUMBERS})
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        source(tmp_path, colours=tmp_path / "t.csv").classes()


def test_a_table_of_colours_that_is_not_utf_8_is_named(tmp_path):
    put(tmp_path, {"1.png": NUMBERS})
    (tmp_path / "t.csv").write_bytes("name,r,g,b\nGröße,1,2,3\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"t.csv cannot be read: line 2 has .*Save it in UTF-8"):
        source(tmp_path, colours=tmp_path / "t.csv").classes()


def test_folders_without_a_pair_are_refused(tmp_path):
    put(tmp_path, {"x.png": NUMBERS})
    with pytest.raises(ValueError, match=r"No picture in .* has a mask of its name .*: 1.png"):
        list(source(tmp_path, names=THREE).examples())
    with pytest.raises(ValueError, match=r"no folder or file '.*maskz'; did you mean '.*masks'"):
        list(source(tmp_path, names=THREE).replace(masks=tmp_path / "maskz").examples())


@pytest.mark.data
def test_pedestrians_are_read(real_data):
    folder = real_data / "images/pennfudan"
    made = Masks(folder / "images", folder / "masks", names=TWO, instances=True)
    assert made.title() == "pennfudan" and not made.remarks()
    labels = list(made.labels())
    assert len(labels) == 170 and {number for _, each in labels for number in each} == {0}
