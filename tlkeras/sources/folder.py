"""Folder: files of pictures or of texts in a folder for each class."""

from __future__ import annotations

import functools
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tlkeras import folders
from tlkeras.data import class_folders
from tlkeras.data.class_folders import Place
from tlkeras.images import signatures
from tlkeras.kind import Kind
from tlkeras.kinds.image import Image
from tlkeras.kinds.label import Label
from tlkeras.kinds.text import Text
from tlkeras.source import Source, content, stamp

_KINDS: dict[str, Kind] = {"image": Image(), "text": Text()}
"""What a folder may hold, by key; the first of which there is a file is read."""

_CALLED = {"image": "pictures", "text": "texts"}


class Folder(Source, name="folder"):
    """Class folders of pictures or ``.txt`` files, alone or inside folders of splits.

    Splits are called train, val, test or another usual word.
    ``CLASS/train/*`` and ``train/train/CLASS/*`` are such splits, too. Ids are paths below `path`;
    other folders inside a class folder belong to the class. Classes are those of all splits,
    sorted. Links are followed. Hidden files, other files and a store of the pipeline are left out;
    so are texts beside pictures.
    """

    path: Path

    def title(self):
        return self.path.resolve().name

    def features(self):
        return {self._key: _KINDS[self._key], "label": Label()}

    def classes(self):
        return tuple(sorted({place.label for place in self._places()}))

    def examples(self):
        return self._read(self._files())

    def between(self, start, stop):
        return self._read(self._listed[start:stop])

    def labels(self):
        for identity, label in self._files():
            yield identity, [self._numbers[label]]

    def fingerprint(self):
        files = ((identity, self.path / identity) for identity, _ in self._files())
        return stamp(files, self._others())

    def split(self, identity):
        return self._splits.get(self._inside(identity))

    def remarks(self):
        self._places()  # It says what is wrong with the whole folder.
        told = folders.left_out(self.path, self._others())
        if made := folders.made(self.path):
            names = ", ".join(each.name for each in made)
            told.append(f"{self.path} has products of tlkeras in {names}; they are left out.")
        return told

    def left_out(self):
        for place in self._places():
            for name, item in folders.scan(place.folder, self.path):
                if not self._is_example(item):
                    reason = _left_out(Path(item), self._suffixes)
                    yield f"{self._name(place.folder)}/{name}", *reason

    def _others(self) -> list[str]:
        """Returns the path below the source's of every file that is no example."""
        every = folders.scan(self.path, self.path)
        return [name for name, item in every if not (self._is_example(item) and self._inside(name))]

    @functools.cached_property
    def _splits(self) -> dict[str, str | None]:
        """The split of every folder of pictures, by its path below the source's."""
        return {self._name(place.folder): place.split for place in self._places()}

    def _inside(self, name: str) -> str:
        """Returns the class folder that a path below the source's lies in, or an empty text."""
        end = name.find("/")
        while end > 0 and name[:end] not in self._splits:
            end = name.find("/", end + 1)
        return name[: max(end, 0)]

    @functools.cached_property
    def _listed(self) -> list[tuple[str, str]]:
        """Every file with its class, listed once for all the parts that a worker reads."""
        return list(self._files())

    def _read(self, files: Iterable[tuple[str, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
        key = self._key
        for identity, label in files:
            value = content(_KINDS[key], self.path / identity)
            yield identity, {key: value, "label": self._numbers[label]}

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        """The numbers of the classes, listed once for all the parts that a worker reads."""
        return {name: number for number, name in enumerate(self.classes())}

    def _files(self) -> Iterator[tuple[str, str]]:
        """Yields the path of every example below the source's, and its class, folder by folder."""
        for place in self._places():
            base, empty = self._name(place.folder), True
            for name, item in folders.scan(place.folder, self.path):
                if self._is_example(item):
                    empty = False
                    yield f"{base}/{name}", place.label
            if empty:
                raise ValueError(
                    f"The class folder {place.folder} has no {_CALLED[self._key]} "
                    f"({', '.join(self._suffixes)}); fill or remove it.{self._mixture()}"
                )

    def _is_example(self, item: os.DirEntry[str]) -> bool:
        ending = posixpath.splitext(item.name)[1].lower()
        return ending in self._suffixes and folders.is_file(item)

    @functools.cached_property
    def _key(self) -> str:
        """The first of `_KINDS` of which a class folder has a file."""
        tops = folders.inner(self.path, self.path) if self.path.is_dir() else []
        below = (file for top in tops for file in folders.walk(top, self.path))
        found: set[str] = set()
        for file in below:
            if file.suffix.lower() in Image.suffixes:
                return "image"  # Few files are listed before the first picture.
            found.add(file.suffix.lower())
        return next((key for key, kind in _KINDS.items() if found & {*kind.suffixes}), "image")

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return _KINDS[self._key].suffixes

    def _mixture(self) -> str:
        """Returns the end of a message if there are files of several kinds: their counts."""
        every = [file.suffix.lower() for file in folders.walk(self.path, self.path)]
        counts = {
            _CALLED[key]: count
            for key, kind in _KINDS.items()
            if (count := sum(suffix in kind.suffixes for suffix in every))
        }
        listed = " and ".join(f"{count:,} {called}" for called, count in counts.items())
        return f" {self.path} has {listed}; expected one kind." if len(counts) > 1 else ""

    def _places(self) -> list[Place]:
        """Returns the class folders; see `class_folders.found`."""
        return class_folders.found(
            self.path, lambda folder: folders.holds(folder, self._suffixes), "CLASS/*.jpg or *.txt"
        )

    def _name(self, path: Path) -> str:
        return path.relative_to(self.path).as_posix()


def _left_out(file: Path, suffixes: Sequence[str]) -> tuple[str, str]:
    """Returns the defect of a file in a class folder that has none of the endings, and a reason."""
    expected = f"is left out: its ending is none of {', '.join(suffixes)}"
    try:
        with file.open("rb") as opened:
            head = opened.read(signatures.HEAD)
    except OSError as error:
        return "unreadable file", f"is left out: {error.strerror}"
    if not head:
        return "empty file", "is left out: it is empty"
    found = signatures.named(head)
    if found in signatures.READ and suffixes == Image.suffixes:
        return "wrong ending", f"{expected}; it is {found}"
    told = f"; it is {found}" if found else ""
    return "unsupported format", f"{expected}{told}"
