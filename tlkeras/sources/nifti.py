"""NIfTI: slices of volumes, with classes from folders or from a table."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tlkeras import folders, spec
from tlkeras.data import class_folders, columns
from tlkeras.data.columns import TARGETS
from tlkeras.doctor import defects
from tlkeras.doctor.defects import Unusable
from tlkeras.kinds.image import Image
from tlkeras.medical import screen, volumes
from tlkeras.medical.labels import Labels, labels_of, require_columns
from tlkeras.medical.volumes import Volume
from tlkeras.source import Derived, Source, digest, stamp


class NIfTI(Source, name="nifti"):
    """Slices of NIfTI files; needs ``tlkeras[medical]``.

    Classes are folders, as those of `folder`, or stand in a table. Of the header only what turns,
    scales and shows the values is read. The id is the path of the file with the number of the
    slice, ``a/1.nii.gz#17``; all slices of a file stay in one split.
    """

    path: Path
    axis: Literal["axial", "coronal", "sagittal"] = "axial"
    """What slices stand across."""
    table: Path | None = None
    """A table with a row for each file, or for each folder of a patient."""
    key: str = ""
    """The column of the table with the name of the file, or of a folder that it is in."""
    label: str | tuple[str, ...] | None = ""
    """The column with the class, ``label`` if it is empty; or a column for each class."""
    multilabel: bool = False
    """Whether a cell of `label` has any number of classes, or any number of its columns a 1."""
    separator: str = ","
    """What parts the classes in a cell."""
    number: str = ""
    """The column with a number to predict, in place of a class."""
    window: tuple[float, float] | None = None
    """The center and width of the values that are shown.

    If None, those from ``cal_min`` to ``cal_max`` of the header, else the range of all values that
    files without have in the whole data.
    """
    slices: Literal["all", "middle"] = "all"
    """Which slices of a file are examples."""

    @classmethod
    def owns(cls, folder):
        first = next(iter(folders.walk(folder, folder)), None)
        return first is not None and _is_volume(first)

    def validate(self):
        require_columns(self)
        is_wide = self.window is None or self.window[1] >= 1
        self.require(is_wide, "window", "center and width, which is at least 1")

    def title(self):
        return self.path.resolve().name

    def features(self):
        return {"image": Image(), **{key: TARGETS[key] for key in columns.targets(self)}}

    def classes(self):
        return self._labels.classes

    def examples(self):
        return self.between(0, sum(len(entry.slices) for entry in self._entries))

    def between(self, start, stop):
        first = 0
        for entry in self._entries:
            chosen = entry.slices[max(start - first, 0) : max(stop - first, 0)]
            if chosen:
                yield from self._read(entry, chosen)
            first += len(entry.slices)

    def labels(self):
        for entry in self._entries:
            for number in entry.slices:
                yield entry.named(number), entry.classes

    def fingerprint(self):
        return self.replace()._stamp

    def split(self, identity):
        return self._splits.get(identity.rpartition("#")[0] or identity)

    def stays_with(self, identity):
        return identity.rpartition("#")[0] or identity

    def remarks(self):
        told = self._labels.remarks()
        if lacking := _listed(self, self._stamp)[2]:
            told.append(
                f"{len(lacking):,} files have no row in the table and are left out: "
                f"{spec.listed(lacking)}."
            )
        others = [file for file in folders.walk(self.path, self.path) if not _is_volume(file)]
        if others:
            first = others[0].name
            told.append(f"{self.path} has {len(others):,} other files, such as {first}; left out.")
        return told

    @functools.cached_property
    def _files(self) -> list[Path]:
        if not self.path.is_dir():
            raise ValueError(folders.missing(self.path))
        tops = [self.path] if self.table is not None else [each.folder for each in self._places]
        found = (file for top in tops for file in folders.walk(top, self.path))
        return [file for file in found if _is_volume(file) and file.is_file()]

    @functools.cached_property
    def _places(self) -> list[class_folders.Place]:
        def holds(folder: Path) -> bool:
            return any(_is_volume(each) for each in folder.iterdir())

        return class_folders.found(self.path, holds, "CLASS/*.nii.gz")

    @functools.cached_property
    def _stamp(self) -> str:
        files = [(self._name(file), file) for file in self._files]
        return stamp([*files, *([(self.table.name, self.table)] if self.table else [])])

    @functools.cached_property
    def _splits(self) -> dict[str, str | None]:
        return {entry.identity: self._labels.split(entry.file) for entry in self._entries}

    @property
    def _entries(self) -> list[_Entry]:
        return _listed(self, self._stamp)[0]

    @property
    def _labels(self) -> Labels:
        return _listed(self, self._stamp)[1]

    def _name(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    def _read(self, entry: _Entry, chosen: range) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields slices of one file, which is opened once."""
        (target,) = columns.targets(self)
        try:
            if entry.problem:
                raise Unusable(entry.defect, entry.problem)
            volume = Volume(entry.file, self.axis)
            origin = digest(entry.file)
            ends = volume.shown or (_range(self, self._stamp) if not self.window else (0.0, 0.0))
        except ValueError as error:
            for number in chosen:
                yield entry.named(number), {"image": error, target: entry.target}
            return
        for number in chosen:
            try:
                pixels = volume.pixels(number, self.window, *ends)
                image = Derived(screen.png(pixels), origin)
            except ValueError as error:
                image = error
            yield entry.named(number), {"image": image, target: entry.target}


class _Entry(NamedTuple):
    """A file: where it is, its id, its slices from 0, its target, what is wrong and its word."""

    file: Path
    identity: str
    slices: range
    target: Any
    classes: list[int]
    problem: str
    defect: str

    def named(self, number: int) -> str:
        """Returns the id of a slice, or of a file that has none."""
        return self.identity if self.problem else f"{self.identity}#{number + 1}"


def _is_volume(file: Path) -> bool:
    return file.name.lower().endswith(volumes.SUFFIXES)


@functools.lru_cache(maxsize=2)
def _listed(source: NIfTI, stamped: str) -> tuple[list[_Entry], Labels, list[str]]:
    """Returns the files of a source with a stamp, what gives their classes, and those without."""
    labels = labels_of(source, lambda: source._places)
    volumes.library()  # Its absence is no fault of the files.
    entries, lacking = [], []
    for file in source._files:
        inside = file.relative_to(source.path)
        bare = file.name.lower().partition(".nii")[0]
        names = [inside.as_posix(), file.name, file.name[: len(bare)], *inside.parts[-2::-1]]
        if (found := labels.of(file, names)) is None:
            lacking.append(file.name)
            continue
        problem, defect, count = "", "", 1
        try:
            count = Volume(file, source.axis).slices
        except ValueError as error:
            problem, defect = f"{error}", defects.word(error)
        is_all = source.slices == "all"
        slices = range(count) if is_all else range(count // 2, count // 2 + 1)
        entries.append(_Entry(file, inside.as_posix(), slices, *found, problem, defect))
    return entries, labels, lacking


@functools.lru_cache(maxsize=2)
def _range(source: NIfTI, stamped: str) -> tuple[float, float]:
    """Returns the least and the largest value of files whose headers say nothing of it."""
    ends = []
    for entry in source._entries:
        try:
            volume = Volume(entry.file, source.axis)
            ends += [] if volume.shown else [volume.extent()]
        except ValueError:
            continue  # Each is named, with what is wrong, when it is read.
    return min((low for low, _ in ends), default=0.0), max((high for _, high in ends), default=0.0)
