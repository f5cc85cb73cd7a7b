"""Class folders: the folders of a data set that stand for classes, alone or inside splits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tlkeras import folders, spec
from tlkeras.data import splits


class Place(NamedTuple):
    """A folder of examples of one class, and the split that the user has it in."""

    folder: Path
    label: str
    split: str | None


def found(path: Path, holds: Callable[[Path], bool], example: str) -> list[Place]:
    """Returns the class folders of a data set, split by split, in the order of names.

    They lie in `path`, or in folders of splits, or hold folders of splits.

    Args:
        path: The folder of the data.
        holds: Whether a folder itself has a file of the data.
        example: How files of class folders are written, for messages: ``CLASS/*.jpg``.

    Raises:
        ValueError: There are no classes, or it is not clear which folders are classes.
    """
    return _Search(path, holds, example).places()


class _Search(NamedTuple):
    """The arguments of `found`."""

    path: Path
    holds: Callable[[Path], bool]
    example: str

    @property
    def expected(self) -> str:
        return f"expected {self.example}, or train/CLASS/* beside val/CLASS/* or test/CLASS/*"

    def places(self) -> list[Place]:
        if not self.path.is_dir():
            if self.path.exists():
                raise ValueError(f"{self.path} is not a folder; {self.expected}.")
            raise ValueError(folders.missing(self.path))
        tops = self.inner(self.path)
        if self.are_splits(tops):
            places = [
                Place(each, each.name, splits.named(top.name))
                for top in tops
                for each in self.inner(self.unwrapped(top))
            ]
        elif len(tops) > 1 and all(self.has_splits(top) for top in tops):
            places = [
                Place(each, top.name, splits.named(each.name))
                for top in tops
                for each in self.inner(top)
            ]
        else:
            places = [Place(top, top.name, None) for top in tops]
        if not places:
            raise ValueError(f"{self.path} has no class folders; {self.expected}.")
        for _, siblings in itertools.groupby(places, lambda place: place.folder.parent):
            self.refuse_alike([place.folder for place in siblings])
        if len({place.label for place in places}) == 1:
            first = places[0].folder
            advice = f"perhaps {first} is meant" if self.inner(first) else self.expected
            raise ValueError(
                f"{self.path} has one class folder, {first.name!r}, and classes must be at least "
                f"two; {advice}."
            )
        return places

    def are_splits(self, tops: Sequence[Path]) -> bool:
        """Returns whether folders are splits of the user's; a mixture with others is refused."""
        own = [top for top in tops if splits.named(top.name)]
        if len(own) < len(tops) and not any(map(self.inner, own)):
            return False  # "train" may be a class, next to "car" and "plane".
        if own and (others := [top for top in tops if top not in own]):
            raise ValueError(
                f"{self.path} has the folder {others[0].name!r} beside {own[0].name!r}: "
                f"{self.expected}."
            )
        return bool(own)

    def has_splits(self, folder: Path) -> bool:
        """Returns whether a folder holds splits and nothing else."""
        inside = self.inner(folder)
        named = all(splits.named(each.name) for each in inside)
        return bool(inside) and named and not self.holds(folder)

    def unwrapped(self, split: Path) -> Path:
        """Returns the folder with the classes of a split: archives wrap it in one of its name."""
        inside = self.inner(split)
        while len(inside) == 1 and splits.named(inside[0].name) == splits.named(split.name):
            (split,) = inside
            inside = self.inner(split)
        return split

    def refuse_alike(self, siblings: Sequence[Path]) -> None:
        """Raises if two folders look like splits of the same classes and not like two classes.

        They hold no picture themselves, and more than half of the folders in the smaller one have
        the names of folders in the other.
        """
        seen: dict[str, list[tuple[Path, set[str]]]] = {}
        for folder in siblings:
            names = {each.name for each in self.inner(folder)}
            if not names or self.holds(folder):
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

    def inner(self, folder: Path) -> list[Path]:
        return folders.inner(folder, self.path)
