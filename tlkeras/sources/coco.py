"""COCO: a JSON file of boxes, or one for each split, and the folders of their pictures."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlkeras import folders, spec
from tlkeras.boxes.annotations import (
    KINDS,
    YOLO_SETTINGS,
    Annotated,
    Annotations,
    Box,
    Object,
    Problems,
    collected,
    examined,
)
from tlkeras.boxes.geometry import CROWD
from tlkeras.data import splits
from tlkeras.images import decoding
from tlkeras.source import Source

_PARTS = ("images", "annotations", "categories")
_FOLDER = "annotations"

# COCO has files of captions and of keypoints beside those of boxes.
_BOXES = "instances"


class COCO(Source, name="coco"):
    """A JSON file with the lists ``images``, ``annotations`` and ``categories``.

    Classes are the categories by their ids, which may have gaps. Groups with ``iscrowd`` are
    neither learned nor measured. A picture without an annotation has no object. Ids are the names
    of the files; folders train, val and test in them are the user's splits.

    `path` may be a folder with one such file, or with one for each split: side by side, in it or in
    ``annotations``, such as ``instances_train2017.json``, or in folders ``train``, ``valid`` and
    ``test``. Then ids are paths below the folder that holds the pictures of all.
    """

    suffixes = (".json",)

    path: Path
    images: Path | None = None
    """The folder of the pictures; None looks beside the file, as in COCO and in usual exports."""
    crowds: bool = False
    """Whether crowds count as objects, as CVAT marks those of its brush."""

    @classmethod
    def owns(cls, folder):
        if any((folder / name).is_file() for name in YOLO_SETTINGS):
            return False
        found = _in_folders(folder)
        # Folders of classes may have a table beside them, too.
        return _are_clear(found) and all(
            file.parent.name == _FOLDER or folders.holds(file.parent, decoding.SUFFIXES)
            for file, _ in found
        )

    def title(self):
        return self.path.resolve().stem

    def features(self):
        return KINDS

    def classes(self):
        names = tuple(str(each["name"]) for each in self._categories.values())
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{self.path} has several categories of the name {twice[0]!r}.")
        return names

    def examples(self):
        return self.between(0, len(self._found.pictures))

    def between(self, start, stop):
        return self._found.between(start, stop)

    def labels(self):
        return self._found.labels()

    def fingerprint(self):
        return self._found.fingerprint([table.file for table in self._tables])

    def split(self, identity):
        return self._found.split(identity)

    def remarks(self):
        return list(self._found.remarks)

    @functools.cached_property
    def _tables(self) -> list[_Table]:
        """The JSON file `path`, or those in that folder."""
        if self.path.is_file():
            return [_Table(self.path, self.path.name)]
        if not self.path.is_dir():
            raise ValueError(folders.missing(self.path))
        found = _inside(self.path) or _in_folders(self.path)
        names = [file.relative_to(self.path).as_posix() for file, _ in found]
        if not _are_clear(found):
            raise ValueError(
                f"{self.path} has {spec.listed(names) or 'no .json file'}; expected one .json "
                "file, or one for each of train, val and test, or give its path."
            )
        if len(found) == 1:  # Whatever its name, it has all the pictures.
            return [_Table(found[0][0], names[0])]
        return [_Table(file, name, split) for (file, split), name in zip(found, names, strict=True)]

    @functools.cached_property
    def _categories(self) -> dict[Any, Mapping[str, Any]]:
        """The categories of all files by id, in the order of ids."""
        found: dict[Any, Mapping[str, Any]] = {}
        for table in self._tables:
            for number, each in table.by_id("categories", ("id", "name")).items():
                known = found.setdefault(number, each)["name"]
                if known != each["name"]:
                    raise ValueError(
                        f"{table.file} has the category {number} as {each['name']!r}, expected "
                        f"{known!r} as in the file before it."
                    )
        if not found:
            raise ValueError(f"{self.path} has no category.")
        return dict(sorted(found.items()))

    @functools.cached_property
    def _found(self) -> Annotations:
        problems, found, owner = Problems(), {}, {}
        tops = [self._top(table) for table in self._tables]
        common = Path(os.path.commonpath(tops))
        for table, top in zip(self._tables, tops, strict=True):
            objects, before = self._objects(table, problems), len(found)
            for number, each in table.pictures.items():
                name = _name(each)
                if not (top / name).is_file():
                    problems.add(f"pictures are not in {top} and left out", name)
                    continue
                identity = name if top == common else (top.relative_to(common) / name).as_posix()
                if identity in found:
                    raise ValueError(
                        f"{table.file} has an image of the file {name!r}, which {owner[identity]} "
                        "has, too."
                    )
                owner[identity] = table.name
                size = (float(each.get("height") or 0), float(each.get("width") or 0))
                split = table.split or splits.of_folders(identity)
                mine = tuple(objects[number])
                found[identity] = Annotated(identity, top / name, mine, size, split)
            if table.pictures and len(found) == before:
                raise ValueError(
                    f"None of the {len(table.pictures):,} pictures that {table.file} names is in "
                    f"{top}; give their folder as images."
                )
        if not found:
            raise ValueError(f"{self.path} names no picture.")
        self._tell_crowds([one for each in found.values() for one in each.objects], problems)
        return examined(found.values(), problems)

    def _tell_crowds(self, objects: Sequence[Object], problems: Problems) -> None:
        """Adds the classes of which every object is a crowd; raises if that is all of them."""
        counted = {each.label for each in objects if not each.ignored}
        if objects and not counted:
            raise ValueError(
                f"All {len(objects):,} objects in {self.path} have iscrowd, so none is learned or "
                "measured. If each is one object, as CVAT exports those of its brush, give "
                "crowds=True."
            )
        names = self.classes()
        for each in objects:
            if each.label not in counted:
                what = f"objects of the class {names[each.label]!r} are all crowds, which count"
                problems.add(f"{what} with crowds=True alone", each.place)

    def _objects(self, table: _Table, problems: Problems) -> dict[Any, list[Object]]:
        """Returns the objects of every picture in a file, by the id of the picture."""
        found: dict[Any, list[Object]] = {number: [] for number in table.pictures}
        places = [(table.name, *row) for row in enumerate(table.content["annotations"])]
        for number, each in collected(self._object, places):
            if number in found:
                found[number].append(each)
            else:
                problems.add("annotations are of no picture in the file and left out", each.place)
        return found

    def _object(self, row: tuple[str, int, Any]) -> tuple[Any, Object]:
        """Returns the id of the picture and the object of an annotation of a file.

        Raises:
            ValueError: What is wrong with it.
        """
        place = f"annotations[{row[1]}] of {row[0]}"
        each = _dict(row[2])
        category = each.get("category_id")
        if category not in self._numbers:
            raise ValueError(
                f"{place} has the category_id {category!r}; categories have the ids "
                f"{spec.listed([*map(str, self._numbers)])}."
            )
        crowd = CROWD if each.get("iscrowd") and not self.crowds else 0
        return each.get("image_id"), Object(
            self._numbers[category], _box(each.get("bbox"), place), crowd, place
        )

    @functools.cached_property
    def _numbers(self) -> dict[Any, int]:
        return {number: place for place, number in enumerate(self._categories)}

    def _top(self, table: _Table) -> Path:
        """Returns the folder of the pictures of a file, that with the most of the first ones."""
        if self.images is not None:
            if not self.images.is_dir():
                raise ValueError(folders.missing(self.images))
            return self.images
        names = [_name(each) for each in itertools.islice(table.pictures.values(), 100)]
        near = [*_near(table.file)]
        return max(near, key=lambda top: sum((top / name).is_file() for name in names))


@dataclasses.dataclass(frozen=True)
class _Table:
    """A JSON file.

    Attributes:
        file: The file.
        name: How messages on what is in it name it.
        split: The split that it has; None if folders of its pictures, or the hash, decide.
    """

    file: Path
    name: str
    split: str | None = None

    @functools.cached_property
    def content(self) -> Mapping[str, Any]:
        """What is in the file."""
        try:
            read = json.loads(self.file.read_bytes())
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.file} cannot be read: {error}.") from None
        missing = [name for name in _PARTS if not isinstance(_dict(read).get(name), list)]
        if missing:
            raise ValueError(
                f"{self.file} has no list {missing[0]!r}; a COCO file has {', '.join(_PARTS)}."
            )
        return read

    @functools.cached_property
    def pictures(self) -> dict[Any, Mapping[str, Any]]:
        """The pictures by id."""
        return self.by_id("images", ("id", "file_name"))

    def by_id(self, part: str, needed: tuple[str, ...]) -> dict[Any, Mapping[str, Any]]:
        """Returns what is in a list by id; each must have some keys."""
        found: dict[Any, Mapping[str, Any]] = {}
        for place, each in enumerate(self.content[part]):
            if lost := [name for name in needed if name not in _dict(each)]:
                raise ValueError(f"{self.file}: {part}[{place}] has no {lost[0]!r}.")
            if not isinstance(each["id"], int) or each["id"] in found:
                raise ValueError(
                    f"{self.file}: {part}[{place}] has the id {each['id']!r}, expected a whole "
                    "number that no other has."
                )
            found[each["id"]] = each
        return found


def _in_folders(folder: Path) -> list[tuple[Path, str | None]]:
    """Returns the JSON files in ``annotations``, or in folders of splits, and their splits."""
    if (folder / _FOLDER).is_dir() and (found := _inside(folder / _FOLDER)):
        return found
    named = ((each, splits.named(each.name)) for each in folders.inner(folder, folder))
    return [(file, split) for top, split in named if split for file, _ in _inside(top)]


def _inside(folder: Path) -> list[tuple[Path, str | None]]:
    """Returns the JSON files of boxes in a folder, and the splits that words in names tell."""
    found = sorted(
        each
        for each in folder.iterdir()
        if each.suffix.lower() in COCO.suffixes and each.is_file() and each.name[0] != "."
    )
    found = [file for file in found if file.stem.startswith(_BOXES)] or found
    words = [{splits.named(word) for word in re.split(r"[\W_]+", file.stem)} for file in found]
    told = [{split for split in each if split} for each in words]
    return [
        (file, next(iter(each)) if len(each) == 1 else None)
        for file, each in zip(found, told, strict=True)
    ]


def _are_clear(found: Sequence[tuple[Path, str | None]]) -> bool:
    """Returns whether JSON files are one, or one for each of several splits."""
    told = {split for _, split in found if split}
    return len(found) == 1 or (len(found) > 1 and len(told) == len(found))


def _near(file: Path) -> Iterator[Path]:
    """Yields the folders where the pictures of a JSON file usually are, the nearest first.

    Those of ``annotations/instances_val2017.json`` are in ``val2017``.
    """
    beside = file.absolute().parent
    stem = file.stem.rpartition("_")[2]
    for top in (beside, beside.parent):
        yield from (top, top / "images", top / "images" / stem, top / stem)


def _name(picture: Mapping[str, Any]) -> str:
    """Returns the name of the file of a picture, with slashes."""
    return str(picture["file_name"]).replace("\\", "/")


def _box(bbox: Any, place: str) -> Box:
    """Returns (top, left, bottom, right) of COCO's (left, top, width, height)."""
    try:
        left, top, width, height = map(float, bbox)
    except (TypeError, ValueError):
        raise ValueError(
            f"{place} has the bbox {bbox!r}, expected [left, top, width, height]."
        ) from None
    return top, left, top + height, left + width


def _dict(value: Any) -> Mapping[str, Any]:
    """Returns a value if it is an object of JSON, else an empty one."""
    return value if isinstance(value, dict) else {}
