"""Folder: pictures in a folder for each class."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tlkeras.data import splits
from tlkeras.images import decoding
from tlkeras.kinds.image import Image
from tlkeras.kinds.label import Label
from tlkeras.source import Source, content, stamp

_EXPECTED = "expected CLASS/*.jpg, or train/CLASS/*.jpg beside val/CLASS/* or test/CLASS/*"


class Folder(Source, name="folder"):
    """Class folders, or folders train, val, test (any usual word, any case) of class folders.

    Ids are paths below `path`; folders inside a class folder belong to the class. Class names are
    those of all splits together, sorted, so labels do not depend on what is in one split. Hidden
    files, links to folders or to outside and files that are no pictures are left out.
    """

    path: Path

    def title(self):
        return self.path.resolve().name

    def features(self):
        return {"image": Image(), "label": Label()}

    def classes(self):
        return tuple(sorted({folder.name for folder in self._class_folders()}))

    def examples(self):
        return self._read(self._files())

    def between(self, start, stop):
        return self._read(self._listed[start:stop])

    def labels(self):
        label = self._labeller()
        for identity, _ in self._files():
            yield identity, [label(identity)]

    def fingerprint(self):
        return stamp(self._files())

    def split(self, identity):
        return splits.named(identity.split("/")[0]) if self._is_split else None

    def remarks(self):
        left = self._left_out()
        if not left:
            return []
        return [f"{len(left):,} files or links under {self.path} are left out, such as {left[0]}."]

    @functools.cached_property
    def _is_split(self) -> bool:
        """Whether the user has made the splits; a mixture with other folders is refused."""
        folders = _folders(self._root())
        own = [folder for folder in folders if splits.named(folder.name)]
        if len(own) < len(folders) and not any(_folders(folder) for folder in own):
            return False  # "train" may be a class, next to "car" and "plane".
        if others := [folder.name for folder in folders if folder not in own]:
            raise ValueError(
                f"{self.path} has the folder {others[0]!r} beside {own[0].name!r}: {_EXPECTED}."
            )
        return bool(own)

    @functools.cached_property
    def _listed(self) -> list[tuple[str, Path]]:
        """Every id and file, listed once for all the parts that a worker reads."""
        return list(self._files())

    def _read(self, files: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, dict[str, Any]]]:
        label = self._labeller()
        for identity, file in files:
            yield identity, {"image": content(file), "label": label(identity)}

    def _labeller(self) -> Callable[[str], int]:
        """Returns the function from ids to labels."""
        number = {name: label for label, name in enumerate(self.classes())}
        place = 1 if self._is_split else 0
        return lambda identity: number[identity.split("/")[place]]

    def _root(self) -> Path:
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is not a folder; {_EXPECTED}.")
        return self.path

    def _class_folders(self) -> list[Path]:
        """Returns the folders of all classes, split by split, in the order of names."""
        tops = _folders(self._root())
        found = [inner for top in tops for inner in _folders(top)] if self._is_split else tops
        if not found:
            raise ValueError(f"{self.path} has no class folders; {_EXPECTED}.")
        if len({folder.name for folder in found}) == 1:
            hint = _folders(found[0])
            raise ValueError(
                f"{self.path} has one class folder, {found[0].name!r}, and classes must be at "
                f"least two; {f'perhaps {found[0]} is meant' if hint else _EXPECTED}."
            )
        return found

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Yields id and path of every picture, class folder by class folder."""
        root = self.path.resolve()
        for folder in self._class_folders():
            empty = True
            for file in _walk(folder):
                if _is_picture(file, root):
                    empty = False
                    yield file.relative_to(self.path).as_posix(), file
            if empty:
                raise ValueError(
                    f"The class folder {folder} has no pictures "
                    f"({', '.join(decoding.SUFFIXES)}); fill or remove it."
                )

    def _left_out(self) -> list[str]:
        taken = {identity for identity, _ in self._files()}
        every = (file.relative_to(self.path).as_posix() for file in _walk(self.path))
        return [identity for identity in every if identity not in taken]


def _folders(path: Path) -> list[Path]:
    inside = (item for item in path.iterdir() if item.is_dir() and not item.is_symlink())
    return sorted(item for item in inside if not item.name.startswith("."))


def _walk(folder: Path) -> Iterator[Path]:
    """Yields what is in and below a folder but folders, sorted, hidden ones left out.

    A link to a folder is not followed and so counts as a file, which is no picture.
    """
    for place, inner, files in os.walk(folder, onerror=_refuse):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        links = [name for name in inner if Path(place, name).is_symlink()]
        names = sorted([*files, *links])
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise ValueError(f"{error.filename} cannot be read: {error.strerror}.") from None


def _is_picture(file: Path, root: Path) -> bool:
    if file.suffix.lower() not in decoding.SUFFIXES:
        return False
    return not file.is_symlink() or (file.is_file() and file.resolve().is_relative_to(root))
