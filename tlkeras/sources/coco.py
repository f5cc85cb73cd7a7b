"""COCO: a JSON file of boxes, and the folder of its pictures."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tlkeras import folders, spec
from tlkeras.boxes.annotations import (
    KINDS,
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
from tlkeras.source import Source

_PARTS = ("images", "annotations", "categories")


class COCO(Source, name="coco"):
    """A JSON file with the lists ``images``, ``annotations`` and ``categories``.

    Classes are the categories by their ids, which may have gaps. Groups with ``iscrowd`` are
    neither learned nor measured. A picture without an annotation has no object. Ids are the names
    of the files; folders train, val and test in them are the user's splits. `path` may be a folder
    in which that file is the only one of its ending.
    """

    suffixes = (".json",)

    path: Path
    images: Path | None = None
    """The folder of the pictures; None looks beside the file, as in COCO and in usual exports."""

    def title(self):
        return self.path.resolve().stem

    def features(self):
        return KINDS

    def classes(self):
        names = tuple(str(each["name"]) for each in self._categories.values())
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{self._file} has several categories of the name {twice[0]!r}.")
        return names

    def examples(self):
        return self.between(0, len(self._found.pictures))

    def between(self, start, stop):
        return self._found.between(start, stop)

    def labels(self):
        return self._found.labels()

    def fingerprint(self):
        return self._found.fingerprint([self._file])

    def split(self, identity):
        return self._found.split(identity)

    def remarks(self):
        return list(self._found.remarks)

    @functools.cached_property
    def _file(self) -> Path:
        """The JSON file: `path`, or the only one in that folder."""
        if self.path.is_file():
            return self.path
        if not self.path.is_dir():
            raise ValueError(folders.missing(self.path))
        found = sorted(
            each
            for each in self.path.iterdir()
            if each.suffix.lower() in self.suffixes and each.is_file() and each.name[0] != "."
        )
        if len(found) != 1:
            names = spec.listed([file.name for file in found]) or "no .json file"
            raise ValueError(f"{self.path} has {names}; expected one .json file, or give its path.")
        return found[0]

    @functools.cached_property
    def _content(self) -> Mapping[str, Any]:
        try:
            read = json.loads(self._file.read_bytes())
        except (OSError, ValueError) as error:
            raise ValueError(f"{self._file} cannot be read: {error}.") from None
        missing = [name for name in _PARTS if not isinstance(_dict(read).get(name), list)]
        if missing:
            raise ValueError(
                f"{self._file} has no list {missing[0]!r}; a COCO file has {', '.join(_PARTS)}."
            )
        return read

    @functools.cached_property
    def _categories(self) -> dict[Any, Mapping[str, Any]]:
        """The categories by id, in the order of ids."""
        found = self._by_id("categories", ("id", "name"))
        if not found:
            raise ValueError(f"{self._file} has no category.")
        return dict(sorted(found.items()))

    def _by_id(self, part: str, needed: tuple[str, ...]) -> dict[Any, Mapping[str, Any]]:
        found: dict[Any, Mapping[str, Any]] = {}
        for place, each in enumerate(self._content[part]):
            if lost := [name for name in needed if name not in _dict(each)]:
                raise ValueError(f"{self._file}: {part}[{place}] has no {lost[0]!r}.")
            if not isinstance(each["id"], int) or each["id"] in found:
                raise ValueError(
                    f"{self._file}: {part}[{place}] has the id {each['id']!r}, expected a whole "
                    "number that no other has."
                )
            found[each["id"]] = each
        return found

    @functools.cached_property
    def _found(self) -> Annotations:
        problems = Problems()
        pictures = self._by_id("images", ("id", "file_name"))
        objects: dict[Any, list[Object]] = {number: [] for number in pictures}
        places = [*enumerate(self._content["annotations"])]
        for number, each in collected(self._object, places):
            if number in objects:
                objects[number].append(each)
            else:
                problems.add("annotations are of no picture in the file and left out", each.place)
        identities = [str(each["file_name"]).replace("\\", "/") for each in pictures.values()]
        top = self._top(identities)
        found: dict[str, Annotated] = {}
        for identity, (number, each) in zip(identities, pictures.items(), strict=True):
            if not (top / identity).is_file():
                problems.add(f"pictures are not in {top} and left out", identity)
                continue
            if identity in found:
                raise ValueError(f"{self._file} has two images of the file {identity!r}.")
            size = (float(each.get("height") or 0), float(each.get("width") or 0))
            split = splits.of_folders(identity)
            mine = tuple(objects[number])
            found[identity] = Annotated(identity, top / identity, mine, size, split)
        if not found:
            raise ValueError(
                f"None of the {len(pictures):,} pictures that {self._file} names is in {top}; give "
                "their folder as images."
            )
        return examined(found.values(), problems)

    def _object(self, row: tuple[int, Any]) -> tuple[Any, Object]:
        """Returns the id of the picture and the object of an annotation.

        Raises:
            ValueError: What is wrong with it.
        """
        place = f"annotations[{row[0]}] of {self._file.name}"
        each = _dict(row[1])
        category = each.get("category_id")
        if category not in self._numbers:
            raise ValueError(
                f"{place} has the category_id {category!r}; categories have the ids "
                f"{spec.listed([*map(str, self._numbers)])}."
            )
        crowd = CROWD if each.get("iscrowd") else 0
        return each.get("image_id"), Object(
            self._numbers[category], _box(each.get("bbox"), place), crowd, place
        )

    @functools.cached_property
    def _numbers(self) -> dict[Any, int]:
        return {number: place for place, number in enumerate(self._categories)}

    def _top(self, identities: list[str]) -> Path:
        """Returns the folder of the pictures, that with the most of the first ones."""
        if self.images is not None:
            if not self.images.is_dir():
                raise ValueError(folders.missing(self.images))
            return self.images
        near = [*self._near()]
        return max(near, key=lambda top: sum((top / each).is_file() for each in identities[:100]))

    def _near(self) -> Iterator[Path]:
        """Yields the folders where pictures usually are, the nearest first.

        Those of ``annotations/instances_val2017.json`` are in ``val2017``.
        """
        beside = self._file.absolute().parent
        stem = self._file.stem.rpartition("_")[2]
        for top in (beside, beside.parent):
            yield from (top, top / "images", top / "images" / stem, top / stem)


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
