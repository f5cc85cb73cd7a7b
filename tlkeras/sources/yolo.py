"""YOLO: pictures, and for each a text file with a line for every box."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

from tlkeras import folders
from tlkeras.boxes.annotations import (
    KINDS,
    Annotated,
    Annotations,
    Object,
    Problems,
    collected,
    examined,
)
from tlkeras.data import lines, splits
from tlkeras.images import decoding
from tlkeras.source import Source

_SETTINGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_LISTS = ("classes.txt", "obj.names", "classes.names")
_PICTURES, _LABELS = "images", "labels"
_NUMBERS = 5  # Of a line: class, middle (x, y), width and height in [0, 1].

# In YAML a quote stands around a word only if it is the first character of it.
_QUOTED = r"""(?:'(?:[^']|'')*'|"(?:[^"\\]|\\.)*")"""
_COMMENT = re.compile(rf"((?:^|[\[{{,:-])\s*{_QUOTED})|(?:^|\s)#.*")
_ITEM = re.compile(rf"\s*(?:\d+\s*:\s*)?{_QUOTED}\s*(?=,|$)|[^,]+")


class YOLO(Source, name="yolo"):
    """A folder with ``data.yaml`` or ``classes.txt``, pictures, and ``.txt`` files of boxes.

    The boxes of ``images/train/1.jpg`` are in ``labels/train/1.txt``; they may also lie beside the
    picture. Folders train, valid and test are the splits. A line of a polygon gives its box. A
    picture without a file, or with an empty one, has no object.
    """

    path: Path

    @classmethod
    def owns(cls, folder):
        return any((folder / name).is_file() for name in (*_SETTINGS, *_LISTS))

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
        return self._found.fingerprint([self._settings, *(file for file in files if file)])

    def split(self, identity):
        return self._found.split(identity)

    def remarks(self):
        return list(self._found.remarks)

    @property
    def _settings(self) -> Path:
        """The file with the names of the classes."""
        if not self.path.is_dir():
            raise ValueError(folders.missing(self.path))
        for name in (*_SETTINGS, *_LISTS):
            if (self.path / name).is_file():
                return self.path / name
        raise ValueError(
            f"{self.path} has none of {', '.join((*_SETTINGS, *_LISTS))}, which name the classes."
        )

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        written = lines.whole(self._settings).splitlines()
        if self._settings.name in _LISTS:
            names, count = [line.strip() for line in written if line.strip()], None
        else:
            bare = [_COMMENT.sub(r"\1", line).rstrip() for line in written]
            names, count = _names(bare), _count(bare)
        if not names or not all(names):
            raise ValueError(
                f"{self._settings} names no classes, expected names: [cat, dog] or a list below it."
            )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{self._settings} names the class {twice[0]!r} twice.")
        if count not in (None, len(names)):
            raise ValueError(f"{self._settings} names {len(names)} classes, and its nc is {count}.")
        return tuple(names)

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
        objects = dict(zip(with_boxes, collected(self._objects, with_boxes), strict=True))
        found = []
        for identity, picture in pictures.items():
            file = files[identity]
            if file is None:
                problems.add("pictures have no file of boxes, so no object", identity)
            split = splits.of_folders(identity)
            found.append(Annotated(identity, picture, objects[file] if file else (), None, split))
        for file in folders.walk(self.path, self.path):
            is_boxes = file.suffix == ".txt" and _LABELS in file.relative_to(self.path).parts[:-1]
            if is_boxes and file not in objects:
                place = file.relative_to(self.path).as_posix()
                problems.add("files of boxes have no picture and are left out", place)
        return examined(found, problems)

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
            if len(numbers) < _NUMBERS - 1 or (len(numbers) > _NUMBERS - 1 and len(numbers) % 2):
                raise ValueError(
                    f"{place} has {1 + len(numbers)} numbers, expected a class and x, y, width, "
                    "height, or a class and the corners of a polygon."
                )
            if label not in range(len(self._names)):
                raise ValueError(
                    f"{place} has the class {label:g}; {self._settings.name} names "
                    f"{len(self._names)}, from 0 on."
                )
            x, y, width, height = (
                numbers if len(numbers) == _NUMBERS - 1 else _around(numbers[::2], numbers[1::2])
            )
            box = (y - height / 2, x - width / 2, y + height / 2, x + width / 2)
            found.append(Object(int(label), box, 0, place))
        return tuple(found)


def _around(xs: list[float], ys: list[float]) -> tuple[float, float, float, float]:
    """Returns the middle and the sides of the box around the corners of a polygon."""
    (left, right), (top, bottom) = ((min(each), max(each)) for each in (xs, ys))
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _count(bare: list[str]) -> int | None:
    """Returns the value of ``nc`` in a YAML file without comments, if it is there."""
    found = (re.fullmatch(r"nc\s*:\s*(\d+)", line) for line in bare)
    return next((int(match.group(1)) for match in found if match), None)


def _names(bare: list[str]) -> list[str]:
    """Returns the value of ``names`` in a YAML file without comments: words in a list or numbered.

    Of YAML no more is read than such files need.
    """
    start = next((i for i, line in enumerate(bare) if re.match(r"names\s*:", line)), None)
    if start is None:
        return []
    first = bare[start].split(":", 1)[1].strip()
    if first:
        last = start
        while not first.endswith(("]", "}")) and last + 1 < len(bare):
            last += 1
            first += " " + bare[last].strip()
        items = [each for each in _ITEM.findall(first[1:-1]) if each.strip()]
    else:
        items = []
        for line in bare[start + 1 :]:
            if line.strip() and not re.match(r"\s|-", line):
                break  # The next key.
            if line.strip():
                items.append(line.strip().removeprefix("-"))
    if all(re.match(r"\s*\d+\s*:", each) for each in items):
        pairs = sorted((int(key), name) for key, name in (each.split(":", 1) for each in items))
        if [number for number, _ in pairs] != list(range(len(pairs))):
            return []
        items = [name for _, name in pairs]
    return [_plain(each.strip()) for each in items]


def _plain(word: str) -> str:
    """Returns a word of YAML without its quotes."""
    if not re.fullmatch(_QUOTED, word):
        return word
    return word[1:-1].replace("''", "'") if word[0] == "'" else str(ast.literal_eval(word))
