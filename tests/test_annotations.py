"""Boxes as people have them: sound ones go through, others are named, counted or refused."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from conftest import Tiny
from PIL import Image

from pipeline.steps import evaluator
from tlkeras.boxes.geometry import CROWD, DIFFICULT
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.doctor import defects
from tlkeras.images import decoding
from tlkeras.source import Source
from tlkeras.sources.coco import COCO
from tlkeras.sources.folder import Folder
from tlkeras.sources.instances import Instances
from tlkeras.sources.voc import VOC
from tlkeras.sources.yolo import YOLO
from tlkeras.tasks.detection import Detection

WIDTH, HEIGHT = 40, 20
ORIENTATION = 0x0112


def picture(file: Path, orientation: int = 1, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """Writes a grey picture of a file's own size, turned by its EXIF tag."""
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    seed = sum(file.name.encode())
    pixels = np.random.default_rng(seed).integers(0, 255, size[::-1], np.uint8)
    Image.fromarray(pixels).save(file, exif=exif)
    return file


def voc(root: Path, files: dict[str, str], pictures: tuple[str, ...] = ("a.jpg", "b.jpg")) -> VOC:
    for name in pictures:
        picture(root / "JPEGImages" / name)
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
    return VOC(root)


def thing(*corners: Any, name: str = "cat", more: str = "") -> str:
    """Returns an object of VOC, its corners as (xmin, ymin, xmax, ymax)."""
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"


SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"


def boxes_of(source: Source, place: int = 0) -> list[list[float]]:
    """Returns the boxes of an example in pixels of the picture as people see it."""
    example = list(source.examples())[place][1]
    height, width = decoding.size(decoding.standard(example["image"]))
    return [
        [round(side * (height, width)[i % 2], 4) for i, side in enumerate(box)]
        for box in example["boxes"]
    ]


def told(source: Source) -> str:
    return "\n".join(source.remarks())


def test_the_pixels_of_voc_count_from_one_and_end_with_the_last(tmp_path):
    source = voc(tmp_path, {"a": SIZE + thing(1, 1, WIDTH, HEIGHT) + thing(11, 6, 20, 10)})
    assert boxes_of(source) == [[0, 0, HEIGHT, WIDTH], [5, 10, 10, 20]]
    assert boxes_of(source, 1) == []
    assert source.remarks() == ["Pictures have no .xml file, so no object: 1, in b.jpg."]
    assert [labels for _, labels in source.labels()] == [[0, 0], []]


PROBLEMS = {
    "larger": ((-3, 1, 50, 10), [0, 0, 10, 40], "Boxes reach outside of their picture"),
    "outside": ((50, 1, 60, 10), None, "Boxes are outside of their picture and left out"),
    "empty": ((5, 5, 5, 10), None, "Boxes are empty and left out"),
    "swapped": ((20, 10, 11, 6), [5, 10, 10, 20], "corners swapped"),
    "half swapped": ((11, 10, 20, 6), [5, 10, 10, 20], "corners swapped"),
}


@pytest.mark.parametrize("corners, expected, message", PROBLEMS.values(), ids=[*PROBLEMS])
def test_a_box_that_cannot_be_is_mended_or_left_out_and_told(corners, expected, message, tmp_path):
    source = voc(tmp_path, {"a": SIZE + thing(*corners), "b": SIZE + thing(1, 1, 9, 9)})
    assert boxes_of(source) == ([expected] if expected else [])
    (remark,) = source.remarks()
    assert message in remark and remark.endswith(": 1, in a.xml.")


def test_copies_of_a_box_are_one_and_those_of_another_class_are_two(tmp_path):
    text = thing(1, 1, 9, 9) * 3 + thing(1, 1, 9, 9, name="dog")
    source = voc(tmp_path, {"a": SIZE + text})
    (_, example), _ = source.examples()
    assert example["labels"] == [
        0,
        1,
    ] and "Boxes are there twice and left out once: 2, in a.xml." in told(source)


def test_difficult_objects_are_marked(tmp_path):
    difficult = thing(1, 1, 9, 9, more="<difficult>1</difficult>")
    source = voc(
        tmp_path, {"a": SIZE + difficult + thing(3, 3, 9, 9, more="<difficult>0</difficult>")}
    )
    assert next(source.examples())[1]["ignored"] == [DIFFICULT, 0]


@pytest.mark.parametrize("name", ["b.png", "b", "folder\\b.JPG", "b.tar.jpg"])
def test_a_file_is_of_the_picture_of_its_name_else_of_the_one_that_it_names(name, tmp_path):
    files = {"other": f"<filename>{name}</filename>{SIZE}{thing(1, 1, 9, 9)}"}
    pictures = ("a.jpg", "b.tar.jpg" if "tar" in name else "b.jpg")
    assert boxes_of(voc(tmp_path, files, pictures), 1) == [[0, 0, 9, 9]]


def test_the_own_name_of_a_file_counts_before_the_one_in_it(tmp_path):
    source = voc(tmp_path, {"a": f"<filename>b.jpg</filename>{SIZE}{thing(1, 1, 9, 9)}"})
    assert boxes_of(source) == [[0, 0, 9, 9]]


def test_a_file_of_a_picture_s_own_name_counts_before_one_that_only_names_it(tmp_path):
    files = {"a1": f"<filename>b.jpg</filename>{SIZE}{thing(1, 1, 2, 2)}"}
    source = voc(tmp_path, files | {"b": SIZE + thing(1, 1, 9, 9)})
    assert boxes_of(source, 1) == [[0, 0, 9, 9]]
    message = "Annotations are of a picture that has one and are left out: 1, in Annotations/a1.xml"
    assert message in told(source)


def test_annotations_without_a_picture_are_left_out(tmp_path):
    source = voc(tmp_path, {"a": SIZE + thing(1, 1, 9, 9), "lost": thing(1, 1, 2, 2, name="emu")})
    assert "Annotations have no picture and are left out: 1, in Annotations/lost.xml." in told(
        source
    )
    assert len([*source.examples()]) == 2


def test_the_lists_of_voc_2007_are_training_and_test(tmp_path):
    names = ("a.jpg", "b.jpg", "c.jpg")
    source = voc(tmp_path, {"a": SIZE + thing(1, 1, 9, 9)}, names)
    lists = tmp_path / "ImageSets/Main"
    lists.mkdir(parents=True)
    for name, text in {"trainval": "a\nb\n", "test": "c\n"}.items():
        (lists / f"{name}.txt").write_text(text)
    assert [source.split(name) for name, _ in source.examples()] == ["train", "train", "test"]
    (lists / "val.txt").write_text("b\n")
    source = source.replace()
    assert [source.split(name) for name, _ in source.examples()] == ["train", "validation", "test"]


FILMS = {
    "VOC": ("JPEGImages/{}.jpg", "Annotations/{}.xml", ("seq01/f_0", "seq02/f_0", "f_0")),
    "tops": ("images/{}.jpg", "annotations/{}.xml", ("train/1", "val/1", "1")),
    "within": ("{}/images/1.jpg", "{}/xml/1.xml", ("train", "val", "test/a")),
    "beside": ("{}.jpg", "{}.xml", ("train/1", "val/1", "a/train/1", "1")),
    "deep": ("images/{}.jpg", "xml/boxes/{}.xml", ("a/x/1", "b/x/1", "a/y/1", "a/y/2")),
}


@pytest.mark.parametrize("pictures, files, names", FILMS.values(), ids=[*FILMS])
def test_pictures_of_one_name_are_told_apart_by_their_folders(pictures, files, names, tmp_path):
    for width, name in enumerate(names, start=2):
        picture(tmp_path / pictures.format(name))
        file = tmp_path / files.format(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"<annotation>{SIZE}{thing(1, 1, width, 9)}</annotation>")
    source = VOC(tmp_path)
    top = "JPEGImages/" if "JPEG" in pictures else ""
    found = {name: round(example["boxes"][0][3] * WIDTH) for name, example in source.examples()}
    assert found == {
        pictures.format(name).removeprefix(top): width for width, name in enumerate(names, start=2)
    }
    assert not source.remarks()


def test_the_folder_in_a_file_s_name_of_its_picture_tells_pictures_of_one_name_apart(tmp_path):
    names = ("seq01/1.jpg", "seq02/1.jpg")
    files = {
        f"{place}": f"<filename>seq0{place}\\1.jpg</filename>{SIZE}{thing(1, 1, 4 * place, 9)}"
        for place in (1, 2)
    }
    source = voc(tmp_path, files, names)
    assert [boxes_of(source, place) for place in (0, 1)] == [[[0, 0, 9, 4]], [[0, 0, 9, 8]]]


def test_pictures_whose_annotations_fit_several_are_left_out_and_told(tmp_path):
    names = ("x/1.jpg", "y/1.jpg", "y/2.jpg")
    source = voc(tmp_path, {name: SIZE + thing(1, 1, 9, 9) for name in "12"}, names)
    assert [name for name, _ in source.examples()] == ["y/2.jpg"]
    assert source.remarks() == [
        "Annotations fit several pictures and are left out: 1, in Annotations/1.xml.",
        "Pictures whose annotations fit several are left out: 2, in x/1.jpg, y/1.jpg.",
    ]


def test_lines_of_lists_name_pictures_by_their_folders(tmp_path):
    names = ("seq01/f_0.jpg", "seq02/f_0.jpg", "seq02/f_1.jpg")
    source = voc(tmp_path, {"f_1": SIZE + thing(1, 1, 9, 9)}, names)
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("seq01/f_0\nf_1\nf_0\n")
    (tmp_path / "ImageSets/Main/test.txt").write_text("seq02/f_0\n")
    splits = [source.split(identity) for identity, _ in source.examples()]
    assert splits == ["train", "test", "train"]
    assert "Listed names fit several pictures: 1, in f_0 of train.txt." in told(source)


@pytest.mark.parametrize(
    "size, expected",
    [
        ("<size><width>0</width><height>0</height></size>", [0, 0, 10, 20]),
        ("", [0, 0, 10, 20]),
        ("<size><width>80</width><height>40</height></size>", [0, 0, 5, 10]),
        ("<size><width>90</width><height>20</height></size>", [0, 0, 10, 20]),
    ],
)
def test_a_stated_size_counts_if_it_has_the_shape_of_the_picture(size, expected, tmp_path):
    source = voc(tmp_path, {"a": size + thing(1, 1, 20, 10)})
    assert boxes_of(source) == [expected]
    assert ("larger or smaller copy" in told(source)) == ("80" in size)
    assert ("state another size" in told(source)) == ("90" in size)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("frame", ["stored", "upright"])
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_boxes_follow_the_turn_of_a_camera_if_they_were_drawn_before_it(
    orientation, frame, ending, tmp_path
):
    """A white rectangle is drawn into the file; the box is where people see it."""
    pixels = np.zeros([HEIGHT, WIDTH], np.uint8)
    pixels[4:9, 12:30] = 255
    (tmp_path / "JPEGImages").mkdir()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = tmp_path / f"JPEGImages/a.{ending}"
    Image.fromarray(pixels).save(file, exif=exif)
    seen = np.asarray(decoding_of(file.read_bytes()))
    assert seen.shape[:2] == ((WIDTH, HEIGHT) if orientation >= 5 else (HEIGHT, WIDTH))
    rows, columns = np.nonzero(seen > 128)
    hull = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    if frame == "stored":
        text = SIZE + thing(13, 5, 30, 9)
    else:
        height, width = seen.shape
        text = f"<size><width>{width}</width><height>{height}</height></size>"
        text += thing(hull[1] + 1, hull[0] + 1, hull[3], hull[2])
    is_quarter = orientation >= 5
    source = voc(tmp_path, {"a": text}, ())
    found = boxes_of(source)
    # A size of the same shape as the turned picture says nothing of the turn.
    if frame == "upright" or is_quarter or orientation == 1:
        assert found == [hull]
    assert ("before its camera's turn" in told(source)) == (frame == "stored" and is_quarter)


def decoding_of(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(decoding.standard(file)))


@pytest.mark.parametrize(
    "text, message",
    [
        ("<object>", "a.xml cannot be read"),
        (SIZE + thing("x", 1, 2, 3), r"a.xml has 'x' as <xmin>, expected a number"),
        (SIZE + thing("nan", 1, 2, 3), r"a.xml has 'nan' as <xmin>"),
        (SIZE + "<object><name>cat</name></object>", "a.xml has '' as a side of a box"),
        (SIZE + thing(1, 1, 9, 9, name=" "), "a.xml has an object without a name"),
        (SIZE, "has no object in 1 .xml files"),
    ],
)
def test_a_voc_file_that_cannot_be_read_is_refused_by_its_name(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        list(voc(tmp_path, {"a": text}).examples())


def test_difficult_objects_are_no_examples_of_their_class(tmp_path):
    dog = thing(1, 1, 9, 9, name="dog")
    hard = thing(1, 1, 9, 9, name="dog", more="<difficult>1</difficult>")
    texts = {"a": SIZE + thing(9, 9, 15, 15) + hard, "b": SIZE + thing(9, 9, 15, 15) + dog}
    source = voc(tmp_path, texts)
    lists = tmp_path / "ImageSets/Main"
    lists.mkdir(parents=True)
    for name, text in {"train": "a", "test": "b"}.items():
        (lists / f"{name}.txt").write_text(text)
    said: list[str] = []
    info = ingest.write_examples(source, Split(0, 0), tmp_path / "out", said.append)
    assert info.classes == ("cat", "dog") and "The split train has no example of dog." in said
    assert info.class_counts == {"train": (1, 0), "test": (1, 1)}
    data = Data(tmp_path / "out", Tiny(), Detection())
    (reason,) = evaluator._unseen(tmp_path, data, "test")
    assert reason == "the test split has classes without a training example: dog"


def test_lists_are_the_splits_and_pictures_in_none_are_left_out(tmp_path):
    names = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    source = voc(tmp_path / "VOC2007", {"a": SIZE + thing(1, 1, 9, 9)}, names)
    lists = tmp_path / "VOC2007/ImageSets/Main"
    lists.mkdir(parents=True)
    for name, text in {"train": "a\n", "val": "b", "trainval": "a\nb", "test": "c\nx\n"}.items():
        (lists / f"{name}.txt").write_text(text)
    (lists / "cat_train.txt").write_text("a 1\nd -1\n")
    for each in (source, VOC(tmp_path)):
        splits = {identity: each.split(identity) for identity, _ in each.examples()}
        assert splits == {"a.jpg": "train", "b.jpg": "validation", "c.jpg": "test"}
    assert "Pictures are in no list and left out: 1, in d.jpg." in told(source)
    assert "Listed pictures are not there: 1, in x of test.txt." in told(source)


def coco(root: Path, pictures=("a.jpg", "b.jpg"), **changes: Any) -> COCO:
    for name in pictures:
        picture(root / "images" / name)
    table = {
        "images": [
            {"id": 0, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT},
            {"id": 8, "file_name": "b.jpg", "width": WIDTH, "height": HEIGHT},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 90, "bbox": [10, 5, 20, 10], "iscrowd": 0},
            {"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 8, 8], "iscrowd": 1},
        ],
    } | changes
    (root / "boxes.json").write_text(json.dumps(table))
    return COCO(root / "boxes.json")


def test_categories_with_gaps_ids_from_zero_and_crowds_are_read(tmp_path):
    source = coco(tmp_path)
    assert source.classes() == ("person", "toothbrush")
    (name, example), (_, other) = source.examples()
    assert name == "a.jpg" and example["labels"] == [1, 0] and example["ignored"] == [0, CROWD]
    assert boxes_of(source) == [[5, 10, 15, 30], [0, 0, 8, 8]] and other["boxes"] == []


def test_a_class_of_crowds_alone_is_told_and_a_file_of_them_is_refused(tmp_path):
    source = coco(tmp_path)
    assert source.remarks() == [
        "Objects of the class 'person' are all crowds, which count with crowds=True alone: 1, in "
        "annotations[1] of boxes.json."
    ]
    objects = source.replace(crowds=True)
    assert next(objects.examples())[1]["ignored"] == [0, 0] and not objects.remarks()
    brush = coco(tmp_path, **annotation(iscrowd=1))
    with pytest.raises(ValueError, match=r"All 1 objects .* have iscrowd, .* give crowds=True\."):
        list(brush.labels())
    assert next(brush.replace(crowds=True).examples())[1]["labels"] == [0]


def annotation(**changes: Any) -> dict[str, Any]:
    plain = {"id": 3, "image_id": 0, "category_id": 1, "bbox": [1, 1, 4, 4]} | changes
    return {"annotations": [plain]}


@pytest.mark.parametrize(
    "change, message",
    [
        (annotation(category_id=2), r"annotations\[0\] of boxes.json has the category_id 2.*1, 90"),
        (annotation(bbox=[1, 2, 3]), r"annotations\[0\] of boxes.json has the bbox \[1, 2, 3\]"),
        (annotation(bbox=None), "has the bbox None"),
        (annotation(bbox=[0, 0, float("nan"), 1]), "expected finite numbers"),
        ({"categories": []}, "has no category"),
        ({"images": {}}, "has no list 'images'"),
        ({"images": [{"id": 0}]}, r"images\[0\] has no 'file_name'"),
        (
            {"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]},
            "has the id 1, expected",
        ),
        (
            {"images": [{"id": 0, "file_name": "lost.jpg"}], "annotations": []},
            "None of the 1 pictures",
        ),
    ],
)
def test_a_coco_file_that_cannot_be_right_is_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        list(coco(tmp_path, **change).examples())


def test_lost_pictures_and_lost_annotations_are_told(tmp_path):
    source = coco(tmp_path, pictures=("a.jpg",), **annotation(image_id=77))
    assert [name for name, _ in source.examples()] == ["a.jpg"]
    assert "Pictures are not in" in told(source) and "b.jpg" in told(source)
    assert "Annotations are of no picture in the file and left out: 1" in told(source)


def test_pictures_are_found_where_coco_has_them(tmp_path):
    source = coco(tmp_path)
    (tmp_path / "annotations").mkdir()
    moved = tmp_path / "annotations/instances_val2017.json"
    source.path.rename(moved)
    (tmp_path / "images").rename(tmp_path / "val2017")
    assert len([*COCO(moved).examples()]) == 2
    (tmp_path / "val2017").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="give their folder as images"):
        list(COCO(moved).examples())
    assert len([*COCO(moved, tmp_path / "elsewhere").examples()]) == 2


def test_backslashes_in_names_of_pictures_part_folders_wherever_they_lie(tmp_path):
    images = [{"id": 0, "file_name": "train\\a.jpg"}]
    source = coco(tmp_path, pictures=("train/a.jpg",), images=images)
    assert [name for name, _ in source.examples()] == ["train/a.jpg"]
    assert source.split("train/a.jpg") == "train"


def test_a_folder_with_one_file_of_coco_and_its_pictures_is_read(tmp_path):
    folder = tmp_path / "export/train"
    for name in ("a.jpg", "b.jpg"):
        picture(folder / name)
    coco(tmp_path, pictures=()).path.rename(folder / "_annotations.coco.json")
    assert Source.expand(str(folder)) == f"coco(path={str(folder)!r})"
    source = COCO(folder)
    assert [name for name, _ in source.examples()] == ["a.jpg", "b.jpg"]
    assert source.fingerprint() == COCO(folder / "_annotations.coco.json").fingerprint()


EXPORTS = {
    "Roboflow": (
        "{0}/_annotations.coco.json",
        "{0}",
        {"train": "train", "valid": "validation", "test": "test"},
    ),
    "COCO": (
        "annotations/instances_{0}.json",
        "{0}",
        {"train2017": "train", "val2017": "validation"},
    ),
    "Datumaro": (
        "annotations/instances_{0}.json",
        "images/{0}",
        {"train": "train", "test": "test"},
    ),
    "beside": ("boxes_{0}.json", "images/{0}", {"train": "train", "val": "validation"}),
}


@pytest.mark.parametrize("file, folder, names", EXPORTS.values(), ids=[*EXPORTS])
def test_a_folder_with_a_file_of_coco_for_each_split_has_these_splits(
    file, folder, names, tmp_path
):
    for place, name in enumerate(names):
        for each in ("a.jpg", "b.jpg"):
            picture(tmp_path / folder.format(name) / each)
        moved = tmp_path / file.format(name)
        moved.parent.mkdir(parents=True, exist_ok=True)
        box = annotation(bbox=[0, 0, 8 + place, 8])
        coco(tmp_path, pictures=(), **box).path.rename(moved)
    if "train2017" in names:
        (tmp_path / "annotations/captions_train2017.json").write_text("{}")
    source = COCO(tmp_path)
    splits = {name: source.split(name) for name, _ in source.examples()}
    assert splits == {
        f"{name}/{each}": split for name, split in names.items() for each in ("a.jpg", "b.jpg")
    }
    found = dict(
        zip(splits, map(boxes_of, [source] * len(splits), range(len(splits))), strict=True)
    )
    for place, name in enumerate(names):
        assert found[f"{name}/a.jpg"] == [[0, 0, 8, 8 + place]] and not found[f"{name}/b.jpg"]
    assert not source.remarks()
    assert source.classes() == ("person", "toothbrush")
    if "/" in file:
        assert Source.expand(str(tmp_path)) == f"coco(path={str(tmp_path)!r})"


def test_a_table_beside_folders_of_classes_makes_no_coco(tmp_path):
    picture(tmp_path / "train/cat/a.jpg")
    (tmp_path / "train/table.json").write_text("{}")
    assert Source.expand(str(tmp_path)).startswith("folder(")


def two_files(root: Path, **changes: Any) -> COCO:
    """Writes a file for training, and one for validation with changes, of the same pictures."""
    for name, change in (("train", {}), ("val", changes)):
        coco(root, **change).path.rename(root / f"{name}.json")
    return COCO(root)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({}, r"val.json has an image of the file 'a.jpg', which train.json has, too"),
        ({"categories": [{"id": 1, "name": "cat"}]}, "has the category 1 as 'cat', expected 'per"),
        (annotation(bbox=None), r"annotations\[0\] of val.json has the bbox None"),
        (
            {"images": [{"id": 0, "file_name": "c.jpg"}], "annotations": []},
            r"None of the 1 pictures that .*val.json names",
        ),
    ],
)
def test_files_of_splits_that_do_not_fit_each_other_are_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        list(two_files(tmp_path, **changes).examples())


@pytest.mark.parametrize(
    "names, message",
    [((), "has no .json file; expected one"), (("a.json", "b.json"), "has a.json, b.json; expec")],
)
def test_a_folder_with_several_files_of_coco_or_none_is_refused(names, message, tmp_path):
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=message):
        COCO(tmp_path).classes()


def yolo(root: Path, text: str, names: str = "names: [cat, dog]\n") -> YOLO:
    picture(root / "images/train/a.jpg")
    picture(root / "images/val/b.jpg")
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text(text)
    (root / "data.yaml").write_text(names)
    return YOLO(root)


def test_yolo_has_middles_and_sides_and_the_folders_are_the_splits(tmp_path):
    source = yolo(tmp_path, "1 0.5 0.5 0.25 0.5\n\n0 0 0 0.5 0 0.5 0.5\n")
    assert boxes_of(source) == [[5, 15, 15, 25], [0, 0, 10, 20]]
    assert next(source.examples())[1]["labels"] == [1, 0]
    assert [source.split(name) for name, _ in source.examples()] == ["train", "validation"]
    assert told(source) == "Pictures have no file of boxes, so no object: 1, in images/val/b.jpg."


@pytest.mark.parametrize(
    "folders",
    [("images/train2017", "images/val2017"), ("obj_train_data", "obj_valid_data")],
)
def test_folders_of_a_year_and_of_cvat_are_the_splits_of_yolo(folders, tmp_path):
    for folder in folders:
        picture(tmp_path / folder / "a.jpg")
        labels = tmp_path / folder.replace("images", "labels") / "a.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "obj.names").write_text("cat\n")
    source = YOLO(tmp_path)
    assert [source.split(name) for name, _ in source.examples()] == ["train", "validation"]
    assert not source.remarks()


CITIES = ("cityA/images/1.jpg", "cityB/images/2.jpg", "cityC/images/3.jpg", "cityD/images/4.jpg")


def cities(root: Path, settings: str) -> YOLO:
    """Writes pictures of four cities, each with a box."""
    for name in CITIES:
        file = picture(root / name)
        labels = file.parents[1] / "labels" / f"{file.stem}.txt"
        labels.parent.mkdir(exist_ok=True)
        labels.write_text("0 0.5 0.5 1 1\n")
    (root / "data.yaml").write_text(f"names: [cat]\n{settings}")
    return YOLO(root)


@pytest.mark.parametrize(
    "settings",
    [
        "train: [cityA/images, cityB/images]\nval: cityC/images\ntest: cityD\n",
        "train:  # two\n- ../cityA/images\n- '../cityB'\nval: ../cityC/images/\ntest: ./cityD",
        "path: .\ntrain: train.txt\nval: cityC/images\ntest: lists/test.txt\n",
        "path: lists\ntrain: ../train.txt\nval: ../cityC\ntest: test.txt\n",
        "path: /content/gone\ntrain: [cityA, cityB]\nval: cityC\ntest: cityD\n",
        "path: HERE\ntrain: [cityA, HERE/cityB]\nval: cityC\ntest: cityD\n",
        "train: .\nval: cityC\ntest: cityD\n",
    ],
)
def test_the_splits_that_the_settings_of_yolo_name_are_the_splits(settings, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "train.txt").write_text("./cityA/images/1.jpg\n/content/x/cityB/images/2.jpg\n\n")
    (tmp_path / "lists/test.txt").write_text("data\\cityD\\images\\4.jpg\n")
    source = cities(tmp_path, settings.replace("HERE", str(tmp_path)))
    splits = {name: source.split(name) for name, _ in source.examples()}
    expected = ("train", "train", "validation", "test")
    assert splits == dict(zip(CITIES, expected, strict=True)) and not source.remarks()


def test_folders_of_splits_count_where_the_settings_of_yolo_name_all_of_them(tmp_path):
    for name in ("images/train/1.jpg", "images/val/2.jpg"):
        picture(tmp_path / name)
        labels = tmp_path / name.replace("images", "labels").replace("jpg", "txt")
        labels.parent.mkdir(parents=True)
        labels.write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images\nval: images\n")
    source = YOLO(tmp_path)
    assert [source.split(name) for name, _ in source.examples()] == ["train", "validation"]


def test_a_list_of_yolo_changes_the_fingerprint(tmp_path):
    (tmp_path / "train.txt").write_text("cityA/images/1.jpg\n")
    source = cities(tmp_path, "train: train.txt\nval: cityC\n")
    before = source.fingerprint()
    (tmp_path / "train.txt").write_text("cityA/images/1.jpg\ncityB/images/2.jpg\n")
    assert source.replace().fingerprint() != before


@pytest.mark.parametrize(
    "settings, splits, message",
    [
        (
            "train: [cityA, cityB]\nval: cityC\ntest: ../gone\n",
            ("train", "train", "validation"),
            "Places of splits are not in {}: 1, in test: ../gone of data.yaml.\n"
            "Pictures are in no split and are left out: 1, in cityD/images/4.jpg.",
        ),
        (
            "train: [cityA, cityB]\nval: list.txt\n",
            ("train", "train", "validation"),
            "Listed pictures are not there: 1, in cityC/images/9.jpg of list.txt.\n"
            "Pictures are in no split and are left out: 1, in cityD/images/4.jpg.",
        ),
        (
            "train: [cityA, cityB]\nval: [cityC, cityD]\ntest: [cityC, cityD]\n",
            ("train", "train", "test", "test"),
            "Pictures of validation and test are for the test alone: 2, in "
            "cityC/images/3.jpg, cityD/images/4.jpg.",
        ),
        (
            "train: /content/gone\nval: cityC\n",
            (None, None, "validation", None),
            "Places of splits are not in {}: 1, in train: /content/gone of data.yaml.",
        ),
        (
            "train: .\nval: .\n",
            (None, None, None, None),
            "Pictures of training and of another split are cut anew: 4, such as in "
            "cityA/images/1.jpg, cityB/images/2.jpg, cityC/images/3.jpg.",
        ),
    ],
)
def test_what_is_odd_in_the_splits_of_yolo_is_told(settings, splits, message, tmp_path):
    (tmp_path / "list.txt").write_text("cityC/images/3.jpg\ncityC/images/9.jpg\n")
    source = cities(tmp_path, settings)
    assert told(source) == message.format(tmp_path)
    assert tuple(source.split(name) for name, _ in source.examples()) == splits


def test_a_list_of_yolo_that_names_no_picture_is_refused(tmp_path):
    (tmp_path / "list.txt").write_text("x.jpg\n")
    with pytest.raises(ValueError, match=r"None of the 4 pictures .* in a split that data.yaml"):
        list(cities(tmp_path, "train: list.txt\n").examples())


@pytest.mark.parametrize(
    "line, expected, message",
    [
        ("1 0.5 0.5 0 0.5", [], "Boxes are empty and left out"),
        ("1 1.5 0.5 0.25 0.5", [], "Boxes are outside of their picture and left out"),
        ("1 0.5 0.5 -0.25 0.5", [[5, 15, 15, 25]], "corners swapped"),
        ("1 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.25 0.5", [[5, 15, 15, 25]], "there twice"),
    ],
)
def test_a_line_of_yolo_that_is_wrong_is_mended_or_left_out_and_told(
    line, expected, message, tmp_path
):
    source = yolo(tmp_path, line)
    (tmp_path / "labels/train/lost.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert boxes_of(source) == expected
    assert message in told(source) and "labels/train/a.txt line" in told(source)
    assert "Files of boxes have no picture and are left out: 1, in labels/train/lost.txt." in told(
        source
    )


@pytest.mark.parametrize("orientation", [3, 6])
def test_shares_of_a_turned_photo_are_of_what_people_see(orientation, tmp_path):
    source = yolo(tmp_path, "0 0.25 0.5 0.5 1\n")
    picture(tmp_path / "images/train/a.jpg", orientation)
    height, width = (WIDTH, HEIGHT) if orientation == 6 else (HEIGHT, WIDTH)
    assert boxes_of(source) == [[0, 0, height, width / 2]]


@pytest.mark.parametrize("side", [0, None])
def test_a_size_of_nothing_in_a_coco_file_is_not_known(side, tmp_path):
    images = [{"id": 0, "file_name": "a.jpg", "width": side, "height": side}]
    source = coco(tmp_path, images=images)
    assert boxes_of(source) == [[5, 10, 15, 30], [0, 0, 8, 8]] and "size" not in told(source)


def test_a_box_of_coco_with_sides_below_nothing_has_its_corners_put_right(tmp_path):
    source = coco(tmp_path, **annotation(bbox=[30, 15, -20, -10]))
    assert boxes_of(source) == [[5, 10, 15, 30]] and "corners swapped" in told(source)


@pytest.mark.parametrize(
    "names",
    [
        "path: x  # names: [no]\nnames: ['cat', \"dog\"]  # two\nnc: 2\n",
        "nc: 2\nnames:\n- cat\n- dog\ntrain: images\n",
        "names:\n  0: cat\n  1: dog\n",
        "names: {1: dog, 0: cat}\n",
        "names: [\n  cat,\n  dog\n]\n",
    ],
)
def test_names_are_read_from_the_forms_of_yaml_that_people_use(names, tmp_path):
    assert yolo(tmp_path, "", names).classes() == ("cat", "dog")


@pytest.mark.parametrize(
    "names, expected",
    [
        ("names: ['cup, mug', 'plate']  # 'two'\nnc: 2\n", ("cup, mug", "plate")),
        ("names: ['Player #1', \"Player #2\"]\n", ("Player #1", "Player #2")),
        ("names: {1: 'a, b # c', 0: d}  # e\n", ("d", "a, b # c")),
        ("names: [\n  'a, b', # c\n  'd # e',\n]\n", ("a, b", "d # e")),
        ("names:\n- 'a # b'\n- c # d\n", ("a # b", "c")),
        ("names:\n  0: 'a # b'\n  1: c # d\n", ("a # b", "c")),
        ("names: ['it''s', cat's, dog's]  # x\n", ("it's", "cat's", "dog's")),
        ("names: ['a' or 'b', c\\d, 'e\\n']\n", ("'a' or 'b'", "c\\d", "e\\n")),
    ],
)
def test_quotes_keep_commas_and_comments_in_names_of_classes(names, expected, tmp_path):
    assert yolo(tmp_path, "", names).classes() == expected


def test_a_path_of_windows_in_double_quotes_is_refused_with_its_file(tmp_path):
    told = r"data\.yaml: \"C:\\Users\\x\" has a backslash.* write single quotes\."
    with pytest.raises(ValueError, match=told):
        list(yolo(tmp_path, "", 'path: "C:\\Users\\x"\nnames: [cat]\ntrain: images\n').examples())
    source = yolo(tmp_path / "single", "", "path: 'C:\\Users\\x'\nnames: [cat]\ntrain: images\n")
    assert source.classes() == ("cat",) and list(source.examples())


def test_lines_of_poses_are_boxes_whose_points_are_not_used(tmp_path):
    text = "1 0.5 0.5 0.25 0.5 0.1 0.1 2 0.9 0.9 0\n0 0.5 0.5 1 1\n"
    source = yolo(tmp_path, text, "kpt_shape: [2, 3]  # of two\nnames: [cat, dog]\n")
    assert boxes_of(source) == [[5, 15, 15, 25], [0, 0, HEIGHT, WIDTH]]
    assert "Points of poses are not used, only their boxes: 1, in data.yaml." in told(source)


@pytest.mark.parametrize(
    "shape, message",
    [
        (
            "[2, 2]",
            "labels/train/a.txt line 1 has 11 numbers, expected a class, x, y, .* and 4 num",
        ),
        ("[x]", r"data.yaml has the kpt_shape \['x'\], expected two numbers"),
    ],
)
def test_lines_that_do_not_fit_the_points_of_poses_are_refused(shape, message, tmp_path):
    text = "1 0.5 0.5 0.25 0.5 0.1 0.1 2 0.9 0.9 0\n"
    with pytest.raises(ValueError, match=message):
        list(yolo(tmp_path, text, f"kpt_shape: {shape}\nnames: [cat, dog]\n").examples())


def test_another_number_of_names_than_stated_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data.yaml names 2 classes, and its nc is 3\."):
        yolo(tmp_path, "", "nc: 3  # of them\nnames: [cat, dog]\n").classes()


@pytest.mark.parametrize(
    "text, message",
    [
        ("2 0.5 0.5 0.1 0.1", "labels/train/a.txt line 1 has the class 2; data.yaml names 2"),
        ("0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1", "line 2 has 4 numbers"),
        ("cat 0.5 0.5 0.1 0.1", "line 1 is 'cat 0.5 0.5 0.1 0.1', expected numbers"),
        ("0.5 0.5 0.5 0.1 0.1", "has the class 0.5"),
    ],
)
def test_a_line_of_yolo_that_cannot_be_is_refused_by_its_number(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        list(yolo(tmp_path, text).examples())


@pytest.mark.parametrize("file", ["data.yaml", "labels/train/a.txt"])
def test_a_file_of_yolo_that_is_not_utf_8_is_named(file, tmp_path):
    source = yolo(tmp_path, "0 0.5 0.5 0.1 0.1\n")
    (tmp_path / file).write_bytes("# Größe\n".encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{file} cannot be read: line 1 .*0xf6.*Save it in UTF"):
        list(source.examples())


def test_a_list_of_voc_that_is_not_utf_8_is_named(tmp_path):
    source = voc(tmp_path, {"a": SIZE + thing(1, 1, 9, 9)})
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_bytes("a\nGröße\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"train.txt cannot be read: line 2 has the byte 0xf6"):
        list(source.examples())


def test_boxes_beside_pictures_with_a_list_of_classes_are_read(tmp_path):
    picture(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 1.2 1\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    assert boxes_of(YOLO(tmp_path)) == [[0, 0, HEIGHT, WIDTH]]
    assert "Boxes reach outside of their picture" in told(YOLO(tmp_path))
    (tmp_path / "a.txt").unlink()
    with pytest.raises(ValueError, match="None of the 1 pictures"):
        list(YOLO(tmp_path).examples())


def test_every_number_of_a_mask_is_an_object(tmp_path):
    picture(tmp_path / "images/a.jpg")
    picture(tmp_path / "images/b.jpg")
    numbers = np.zeros([HEIGHT, WIDTH], np.uint8)
    numbers[2:7, 3:9], numbers[10:, 30:] = 7, 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(numbers).save(tmp_path / "masks/a_mask.png")
    Image.fromarray(numbers).save(tmp_path / "masks/lost.png")
    source = Instances(tmp_path / "images", tmp_path / "masks", label="person")
    assert boxes_of(source) == [[2, 3, 7, 9], [10, 30, HEIGHT, WIDTH]]
    assert "Masks have no picture of their own and are left out: 1, in lost.png." in told(source)
    assert "Pictures have no mask, so no object: 1, in b.jpg." in told(source)
    Image.fromarray(np.zeros([4, 4, 3], np.uint8)).save(tmp_path / "masks/b.png")
    with pytest.raises(ValueError, match=r"b.png is a mask in colour"):
        list(source.replace().examples())


def instances(root: Path, pictures: tuple[str, ...], masks: dict[str, int]) -> Instances:
    """Writes pictures, and masks of one object so many pixels wide."""
    for name in pictures:
        picture(root / "images" / name)
    (root / "masks").mkdir()
    for name, width in masks.items():
        numbers = np.zeros([HEIGHT, WIDTH], np.uint8)
        numbers[:5, :width] = 1
        Image.fromarray(numbers).save(root / "masks" / name)
    return Instances(root / "images", root / "masks")


@pytest.mark.parametrize(
    "masks, left",
    [
        ({"1_mask.png": 3, "2_mask.png": 4, "10_mask.png": 9}, "10_mask.png"),
        ({"1.png": 3, "2.png": 4, "1-old.png": 9}, "1-old.png"),
    ],
)
def test_a_mask_is_of_its_own_picture_and_of_no_other(masks, left, tmp_path):
    source = instances(tmp_path, ("1.png", "2.png"), masks)
    assert [boxes_of(source, place) for place in (0, 1)] == [[[0, 0, 5, 3]], [[0, 0, 5, 4]]]
    assert told(source) == f"Masks have no picture of their own and are left out: 1, in {left}."


@pytest.mark.parametrize(
    "pictures, masks",
    [(("a.jpg", "a.png"), {"a_mask.png": 1}), (("a.jpg",), {"a.png": 1, "a.tif": 1})],
)
def test_names_that_differ_in_their_suffix_alone_are_refused(pictures, masks, tmp_path):
    with pytest.raises(ValueError, match=r"a\.\w+ and .*a\.\w+ differ in their suffix alone"):
        list(instances(tmp_path, pictures, masks).examples())


def test_a_bare_path_is_the_source_of_its_layout(tmp_path):
    voc(tmp_path / "one", {"a": SIZE + thing(1, 1, 9, 9)})
    coco(tmp_path / "two")
    yolo(tmp_path / "three", "")
    for path, name in {"one": "voc", "two/boxes.json": "coco", "three": "yolo"}.items():
        expected = f"{name}(path={str(tmp_path / path)!r})"
        assert Source.expand(str(tmp_path / path)) == expected
    (tmp_path / "three/annotations").mkdir()
    (tmp_path / "two/boxes.json").rename(tmp_path / "three/annotations/instances_val.json")
    assert Source.expand(str(tmp_path / "three")).startswith("yolo(")
    assert Source.expand(str(tmp_path)).startswith("folder(")


@pytest.mark.parametrize("listed", ["classes.txt", "obj.names", "classes.names"])
def test_a_list_of_classes_makes_yolo_of_pictures_with_files_of_boxes_alone(listed, tmp_path):
    for name in ("plain/cat/a.jpg", "plain/dog/b.jpg", "beside/x/a.jpg", "apart/images/a.JPG"):
        picture(tmp_path / name)
    for name in ("beside/x/a.txt", "apart/labels/a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("0 0.5 0.5 1 1\n")
    for name, member in {"plain": "folder", "beside": "yolo", "apart": "yolo"}.items():
        (tmp_path / name / listed).write_text("cat\ndog\n")
        assert Source.expand(str(tmp_path / name)).startswith(f"{member}(")
    assert Folder(tmp_path / "plain").classes() == ("cat", "dog")


def header(side: int) -> bytes:
    """Returns the begin of a PNG file of a grey square."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", crc32(chunk))


def set_of(name: str, root: Path) -> Source:
    """Writes three pictures with boxes in a format."""
    letters, files = "abc", ("a.jpg", "b.jpg", "c.jpg")
    if name == "voc":
        return voc(root, {each: SIZE + thing(1, 1, 9, 9) for each in letters}, files)
    if name == "coco":
        sides = {"width": WIDTH, "height": HEIGHT}
        box = {"category_id": 1, "bbox": [10, 5, 20, 10]}
        return coco(
            root,
            files,
            images=[{"id": i, "file_name": file, **sides} for i, file in enumerate(files)],
            annotations=[{"id": i, "image_id": i, **box} for i in range(3)],
        )
    if name == "instances":
        return instances(root, files, {f"{each}.png": 3 for each in letters})
    for each in letters:
        picture(root / f"{each}.jpg")
        (root / f"{each}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "classes.txt").write_text("cat\n")
    return YOLO(root)


@pytest.mark.parametrize("encoded", [b"", b"<html>no picture</html>", header(20_000)])
@pytest.mark.parametrize("name", ["voc", "coco", "yolo", "instances"])
def test_a_file_that_is_no_picture_is_left_out_of_the_run(name, encoded, tmp_path):
    source, out = set_of(name, tmp_path / "data"), tmp_path / "out"
    (broken,) = (tmp_path / "data").rglob("b.jpg")
    broken.write_bytes(encoded)
    info = ingest.write_examples(source, Split(0, 0), out, max_bad_fraction=0.4)
    (told,) = defects.read(out)
    assert told.identity.endswith("b.jpg") and info.counts == {"train": 2}


@pytest.mark.data
def test_boxes_of_real_data_are_read_and_the_empty_ones_told(real_data):
    cells = VOC(real_data / "images/bccd")
    examples = [example for _, example in cells.examples()]
    assert cells.classes() == ("Platelets", "RBC", "WBC") and len(examples) == 364
    assert sum(len(example["boxes"]) for example in examples) == 4886
    assert cells.remarks() == [
        "Boxes are empty and left out: 2, in BloodImage_00338.xml, BloodImage_00343.xml."
    ]
    splits = [cells.split(identity) for identity, _ in cells.examples()]
    assert [splits.count(each) for each in ("train", "validation", "test")] == [205, 87, 72]
    folder = real_data / "images/pennfudan"
    people = Instances(folder / "images", folder / "masks", label="person")
    assert sum(len(example["boxes"]) for _, example in people.examples()) == 423
