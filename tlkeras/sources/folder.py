"""Folder: files of pictures or of texts in a folder for each class."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlkeras import folders, spec
from tlkeras.data import splits
from tlkeras.images import signatures
from tlkeras.kind import Kind
from tlkeras.kinds.image import Image
from tlkeras.kinds.label import Label
from tlkeras.kinds.text import Text
from tlkeras.source import Source, content, stamp

_EXPECTED = "expected CLASS/*.jpg or *.txt, or train/CLASS/* beside val/CLASS/* or test/CLASS/*"

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
        number = self._numbers()
        for picture in self._files():
            yield picture.identity, [number(picture)]

    def fingerprint(self):
        return stamp((picture.identity, picture.file) for picture in self._files())

    def split(self, identity):
        parts = identity.split("/")
        names = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        return next((self._splits[name] for name in names if name in self._splits), None)

    def remarks(self):
        taken = {picture.file for picture in self._files()}
        left = [file for file in folders.walk(self.path, self.path) if file not in taken]
        told = []
        if left:
            first = left[0].relative_to(self.path).as_posix()
            told.append(
                f"{self.path} has {len(left):,} other files, such as {first}; they are left out."
            )
        if made := folders.made(self.path):
            names = ", ".join(each.name for each in made)
            told.append(f"{self.path} has products of tlkeras in {names}; they are left out.")
        return told

    def left_out(self):
        taken = {picture.file for picture in self._files()}
        for place in self._places():
            for file in folders.walk(place.folder, self.path):
                if file not in taken:
                    yield self._name(file), *_left_out(file, self._suffixes)

    @functools.cached_property
    def _splits(self) -> dict[str, str | None]:
        """The split of every folder of pictures, by its path below the source's."""
        return {self._name(place.folder): place.split for place in self._places()}

    @functools.cached_property
    def _listed(self) -> list[_Picture]:
        """Every picture, listed once for all the parts that a worker reads."""
        return list(self._files())

    def _read(self, pictures: Iterable[_Picture]) -> Iterator[tuple[str, dict[str, Any]]]:
        number = self._numbers()
        for picture in pictures:
            features = {
                self._key: content(_KINDS[self._key], picture.file),
                "label": number(picture),
            }
            yield picture.identity, features

    def _numbers(self) -> Callable[[_Picture], int]:
        """Returns the function from pictures to the numbers of their classes."""
        numbers = {name: number for number, name in enumerate(self.classes())}
        return lambda picture: numbers[picture.label]

    def _files(self) -> Iterator[_Picture]:
        """Yields every picture, class folder by class folder."""
        for place in self._places():
            empty = True
            for file in folders.walk(place.folder, self.path):
                if file.suffix.lower() in self._suffixes and file.is_file():
                    empty = False
                    yield _Picture(self._name(file), file, place.label)
            if empty:
                raise ValueError(
                    f"The class folder {place.folder} has no {_CALLED[self._key]} "
                    f"({', '.join(self._suffixes)}); fill or remove it.{self._mixture()}"
                )

    @functools.cached_property
    def _key(self) -> str:
        """The first of `_KINDS` of which a class folder has a file."""
        tops = self._inner(self.path) if self.path.is_dir() else []
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

    def _places(self) -> list[_Place]:
        """Returns the folders of pictures, split by split, in the order of names.

        Raises:
            ValueError: There are no classes, or it is not clear which folders are classes.
        """
        if not self.path.is_dir():
            if self.path.exists():
                raise ValueError(f"{self.path} is not a folder; {_EXPECTED}.")
            raise ValueError(folders.missing(self.path))
        tops = self._inner(self.path)
        if self._are_splits(tops):
            found = [
                _Place(each, each.name, splits.named(top.name))
                for top in tops
                for each in self._inner(self._unwrapped(top))
            ]
        elif len(tops) > 1 and all(self._has_splits(top) for top in tops):
            found = [
                _Place(each, top.name, splits.named(each.name))
                for top in tops
                for each in self._inner(top)
            ]
        else:
            found = [_Place(top, top.name, None) for top in tops]
        if not found:
            raise ValueError(f"{self.path} has no class folders; {_EXPECTED}.")
        for _, siblings in itertools.groupby(found, lambda place: place.folder.parent):
            self._refuse_alike([place.folder for place in siblings])
        if len({place.label for place in found}) == 1:
            first = found[0].folder
            advice = f"perhaps {first} is meant" if self._inner(first) else _EXPECTED
            raise ValueError(
                f"{self.path} has one class folder, {first.name!r}, and classes must be at least "
                f"two; {advice}."
            )
        return found

    def _are_splits(self, tops: Sequence[Path]) -> bool:
        """Returns whether folders are splits of the user's; a mixture with others is refused."""
        own = [top for top in tops if splits.named(top.name)]
        if len(own) < len(tops) and not any(map(self._inner, own)):
            return False  # "train" may be a class, next to "car" and "plane".
        if own and (others := [top for top in tops if top not in own]):
            raise ValueError(
                f"{self.path} has the folder {others[0].name!r} beside {own[0].name!r}: "
                f"{_EXPECTED}."
            )
        return bool(own)

    def _has_splits(self, folder: Path) -> bool:
        """Returns whether a folder holds splits and nothing else."""
        inside = self._inner(folder)
        named = all(splits.named(each.name) for each in inside)
        return bool(inside) and named and not folders.holds(folder, self._suffixes)

    def _unwrapped(self, split: Path) -> Path:
        """Returns the folder with the classes of a split: archives wrap it in one of its name."""
        inside = self._inner(split)
        while len(inside) == 1 and splits.named(inside[0].name) == splits.named(split.name):
            (split,) = inside
            inside = self._inner(split)
        return split

    def _refuse_alike(self, siblings: Sequence[Path]) -> None:
        """Raises if two folders look like splits of the same classes and not like two classes.

        They hold no picture themselves, and more than half of the folders in the smaller one have
        the names of folders in the other.
        """
        seen: dict[str, list[tuple[Path, set[str]]]] = {}
        for folder in siblings:
            names = {each.name for each in self._inner(folder)}
            if not names or folders.holds(folder, self._suffixes):
                continue
            near = [each for name in names for each in seen.get(name, ())]
            for other, others in near:
                shared = sorted(names & others)
                if 2 * len(shared) > min(len(names), len(others)):
                    raise ValueError(
                        f"{other} and {folder} have no pictures but folders of the same names: "
                        f"{spec.listed(shared)}. If they are splits, call them train, val or test, "
                        "side by side in the source; if they are classes, put the pictures into "
                        "them without these folders."
                    )
            for name in names:
                seen.setdefault(name, []).append((folder, names))

    def _inner(self, folder: Path) -> list[Path]:
        return folders.inner(folder, self.path)

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


class _Picture(NamedTuple):
    identity: str
    file: Path
    label: str


class _Place(NamedTuple):
    """A folder of pictures of one class, and the split that the user has it in."""

    folder: Path
    label: str
    split: str | None
