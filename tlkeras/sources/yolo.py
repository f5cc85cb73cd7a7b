"""YOLO: pictures, and for each a text file with a line for every box."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from tlkeras import folders
from tlkeras.boxes.annotations import (
    KINDS,
    YOLO_SETTINGS,
    Annotated,
    Annotations,
    Object,
    Problems,
    collected,
    examined,
)
from tlkeras.data import lines, splits, yaml
from tlkeras.images import decoding
from tlkeras.source import Source

_LISTS = ("classes.txt", "obj.names", "classes.names")
_PICTURES, _LABELS = "images", "labels"
_NUMBERS = 5  # Of a line: class, middle (x, y), width and height in [0, 1].


class YOLO(Source, name="yolo"):
    """A folder with ``data.yaml`` or ``classes.txt``, pictures, and ``.txt`` files of boxes.

    The boxes of ``images/train/1.jpg`` are in ``labels/train/1.txt``; they may also lie beside the
    picture. The splits are those that ``data.yaml`` names as ``train``, ``val`` and ``test``:
    folders, or lists of pictures. Else folders of such names are. A line of a polygon gives its
    box; with ``kpt_shape`` in ``data.yaml`` points stand behind the box, which are not used. A
    picture without a file, or with an empty one, has no object.
    """

    path: Path

    @classmethod
    def owns(cls, folder):
        settings, listed = (
            any((folder / name).is_file() for name in names) for names in (YOLO_SETTINGS, _LISTS)
        )
        # Folders of classes may have a list of them, too.
        return settings or (listed and _has_boxes(folder))

    def title(self):
        return self.path.resolve().name

    def features(self):
        return KINDS

    def classes(self):
        return self._names

    def examples(self):
        return self.between(0, len(self._found.pictures))

    def between(self, start, stop):
        return self._found.between(start, stop)

    def labels(self):
        return self._found.labels()

    def fingerprint(self):
        pictures = [each.identity for each in self._found.pictures]
        files = (self._file(identity) for identity in pictures)
        lists = [place for _, place in self._named[0] if place.is_file()]
        return self._found.fingerprint([self._settings, *lists, *(file for file in files if file)])

    def split(self, identity):
        return self._found.split(identity)

    def remarks(self):
        return list(self._found.remarks)

    @property
    def _settings(self) -> Path:
        """The file with the names of the classes."""
        if not self.path.is_dir():
            raise ValueError(folders.missing(self.path))
        names = (*YOLO_SETTINGS, *_LISTS)
        for name in names:
            if (self.path / name).is_file():
                return self.path / name
        raise ValueError(f"{self.path} has none of {', '.join(names)}, which name the classes.")

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        if self._settings.name in _LISTS:
            written = lines.whole(self._settings).splitlines()
            names = [line.strip() for line in written if line.strip()]
        else:
            names = self._values("names")
        if not names or not all(names):
            raise ValueError(
                f"{self._settings} names no classes, expected names: [cat, dog] or a list below it."
            )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{self._settings} names the class {twice[0]!r} twice.")
        for count in self._values("nc"):
            if count.isdecimal() and int(count) != len(names):
                raise ValueError(
                    f"{self._settings} names {len(names)} classes, and its nc is {count}."
                )
        return tuple(names)

    @functools.cached_property
    def _written(self) -> list[str]:
        """The lines of ``data.yaml`` without comments; none if there is only a list of names."""
        if self._settings.name in _LISTS:
            return []
        return yaml.lines(lines.whole(self._settings))

    def _values(self, key: str) -> list[str]:
        """Returns the words of a key of ``data.yaml``, see `yaml.values`."""
        try:
            return yaml.values(self._written, key)
        except ValueError as error:
            raise ValueError(f"{self._settings}: {error}") from None

    @functools.cached_property
    def _points(self) -> int:
        """How many numbers of points of a pose stand behind a box; 0 if there are no points."""
        shape = self._values("kpt_shape")
        if not all(map(str.isdecimal, shape)) or len(shape) not in (0, 2):
            raise ValueError(
                f"{self._settings} has the kpt_shape {shape}, expected two numbers such as [17, 3]."
            )
        return math.prod(map(int, shape)) if shape else 0

    @functools.cached_property
    def _named(self) -> tuple[list[tuple[str, Path]], list[tuple[str, str]]]:
        """The folders and lists of splits that ``data.yaml`` names, and those that are not there.

        As in Ultralytics, ``../train/images`` may mean ``train/images``.
        """
        found, lost, top = [], [], self._top
        bases = [*(top / written for written in self._values("path")), top]
        for key in yaml.keys(self._written):
            split = splits.named(key)
            for written in filter(None, self._values(key) if split else ()):
                texts = (written, written.removeprefix("../"))
                places = [Path(os.path.normpath(base / text)) for base in bases for text in texts]
                there = (each for each in places if each.is_relative_to(top) and each.exists())
                if place := next(there, None):
                    found.append((split, place))
                else:
                    lost.append((key, written))
        return found, lost

    @property
    def _top(self) -> Path:
        """The folder, absolute and without dots, so that paths can be told to lie below it."""
        return Path(os.path.normpath(self.path.absolute()))

    @functools.cached_property
    def _found(self) -> Annotations:
        problems = Problems()
        pictures = {
            file.relative_to(self.path).as_posix(): file
            for file in folders.walk(self.path, self.path)
            if file.suffix.lower() in decoding.SUFFIXES
        }
        if not pictures:
            raise ValueError(f"{self.path} has no pictures ({', '.join(decoding.SUFFIXES)}).")
        files = {identity: self._file(identity) for identity in pictures}
        with_boxes = [file for file in files.values() if file]
        if not with_boxes:
            raise ValueError(
                f"None of the {len(pictures):,} pictures in {self.path} has a file of boxes; "
                f"expected {_LABELS}/1.txt for {_PICTURES}/1.jpg, or 1.txt beside it."
            )
        if self._points:
            problems.add("points of poses are not used, only their boxes", self._settings.name)
        objects = dict(zip(with_boxes, collected(self._objects, with_boxes), strict=True))
        found, sides = [], self._sides(pictures, problems)
        for identity, picture in pictures.items():
            if identity not in sides:
                problems.add("pictures are in no split and are left out", identity)
                continue
            file, split = files[identity], sides[identity]
            if file is None:
                problems.add("pictures have no file of boxes, so no object", identity)
            found.append(Annotated(identity, picture, objects[file] if file else (), None, split))
        for file in folders.walk(self.path, self.path):
            is_boxes = file.suffix == ".txt" and _LABELS in file.relative_to(self.path).parts[:-1]
            if is_boxes and file not in objects:
                place = file.relative_to(self.path).as_posix()
                problems.add("files of boxes have no picture and are left out", place)
        if not found:
            raise ValueError(
                f"None of the {len(pictures):,} pictures in {self.path} is in a split that "
                f"{self._settings.name} names, such as {next(iter(pictures))}."
            )
        return examined(found, problems)

    def _sides(self, pictures: Collection[str], problems: Problems) -> dict[str, str | None]:
        """Returns the split of each picture to take, None of one that the hash decides on."""
        named, lost = self._named
        for key, written in lost:
            place = f"{key}: {written} of {self._settings.name}"
            problems.add(f"places of splits are not in {self.path}", place)
        if not named:
            return {identity: splits.of_folders(identity) for identity in pictures}
        given = {split for split, _ in named}
        # The pictures of training that are not where they should be may be all others.
        is_lost = splits.TRAIN in {splits.named(key) for key, _ in lost}
        own = self._places(pictures, problems)
        found: dict[str, str | None] = {}
        for identity in pictures:
            above = (each.as_posix() for each in PurePosixPath(identity).parents)
            # The nearest place counts: of images and images/val the second one.
            several = next((own[each] for each in (identity, *above) if each in own), set())
            split = splits.of_folders(identity)
            if len(several) == 1:
                (found[identity],) = several
            elif split in several:
                found[identity] = split
            elif splits.TRAIN in several:
                problems.add("pictures of training and of another split are cut anew", identity)
                found[identity] = None
            elif several:
                problems.add("pictures of validation and test are for the test alone", identity)
                found[identity] = splits.TEST
            elif is_lost or (split and split not in given):
                found[identity] = split
        return found

    def _places(self, pictures: Collection[str], problems: Problems) -> dict[str, set[str]]:
        """Returns the splits of every folder and picture that ``data.yaml`` or its lists name."""
        found: dict[str, set[str]] = {}
        for split, place in self._named[0]:
            if place.is_dir():
                found.setdefault(place.relative_to(self._top).as_posix(), set()).add(split)
                continue
            beside = place.parent.relative_to(self._top)
            for line in filter(None, map(str.strip, lines.whole(place).split("\n"))):
                tails = ((beside / tail, Path(tail)) for tail in _tails(line))
                near = (each.as_posix() for pair in tails for each in pair)
                if identity := next((each for each in near if each in pictures), None):
                    found.setdefault(identity, set()).add(split)
                else:
                    problems.add("listed pictures are not there", f"{line} of {place.name}")
        return found

    def _file(self, identity: str) -> Path | None:
        """Returns the file of boxes of a picture, if there is one."""
        parts = list(Path(identity).with_suffix(".txt").parts)
        there = [self.path / Path(*parts)]
        # The innermost folder is the one that counts.
        for place in reversed(range(len(parts) - 1)):
            if parts[place] == _PICTURES:
                parts[place] = _LABELS
                there.insert(0, self.path / Path(*parts))
                break
        return next((each for each in there if each.is_file()), None)

    def _objects(self, file: Path) -> tuple[Object, ...]:
        """Returns the objects in a file.

        Raises:
            ValueError: A line of it is wrong.
        """
        found, name = [], file.relative_to(self.path).as_posix()
        for number, line in enumerate(lines.whole(file).split("\n"), start=1):
            if not line.strip():
                continue
            place = f"{name} line {number}"
            try:
                label, *numbers = map(float, line.split())
            except ValueError:
                raise ValueError(f"{place} is {line.strip()!r}, expected numbers.") from None
            if self._points and len(numbers) == _NUMBERS - 1 + self._points:
                numbers = numbers[: _NUMBERS - 1]
            is_box = len(numbers) == _NUMBERS - 1
            if self._points and not is_box:
                raise ValueError(
                    f"{place} has {1 + len(numbers)} numbers, expected a class, x, y, width and "
                    f"height, and {self._points} numbers of points as kpt_shape has them."
                )
            if not is_box and (len(numbers) < _NUMBERS - 1 or len(numbers) % 2):
                raise ValueError(
                    f"{place} has {1 + len(numbers)} numbers, expected a class and x, y, width, "
                    "height, or a class and the corners of a polygon."
                )
            if label not in range(len(self._names)):
                raise ValueError(
                    f"{place} has the class {label:g}; {self._settings.name} names "
                    f"{len(self._names)}, from 0 on."
                )
            x, y, width, height = numbers if is_box else _around(numbers[::2], numbers[1::2])
            box = (y - height / 2, x - width / 2, y + height / 2, x + width / 2)
            found.append(Object(int(label), box, 0, place))
        return tuple(found)


def _has_boxes(folder: Path) -> bool:
    """Returns whether files of boxes are in a folder, by their names."""
    files = [PurePosixPath(name) for name, _ in folders.scan(folder, folder)]
    pictures = {each.with_suffix("") for each in files if each.suffix.lower() in decoding.SUFFIXES}
    return any(
        _LABELS in each.parts[:-1] or each.with_suffix("") in pictures
        for each in files
        if each.suffix == ".txt"
    )


def _around(xs: list[float], ys: list[float]) -> tuple[float, float, float, float]:
    """Returns the middle and the sides of the box around the corners of a polygon."""
    (left, right), (top, bottom) = ((min(each), max(each)) for each in (xs, ys))
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _tails(line: str) -> Iterator[str]:
    """Yields a path, and what is left of it without its first folders, with one folder at least.

    Lists name pictures as they lay where the list was written.
    """
    parts = PurePosixPath(line.replace("\\", "/")).parts
    inner = [part for part in parts if part not in ("/", "..")]
    return ("/".join(inner[start:]) for start in range(max(1, len(inner) - 1)))
