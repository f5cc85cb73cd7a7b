"""NIfTI: slices of volumes, with classes from folders or from a table."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
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

# How BIDS 1.10 names a participant, in folders and in files.
_PARTICIPANT = re.compile(r"(?<![^/_])sub-[0-9A-Za-z]+(?=[/_.])")


class NIfTI(Source, name="nifti"):
    """Slices of NIfTI files; needs ``tlkeras[medical]``.

    Classes are folders, as those of `folder`, or stand in a table. Of the header only what turns,
    scales and shows the values is read. The id is the path of the file with the number of the
    slice, ``a/1.nii.gz#17``. All slices of a patient stay in one split, unless ``split(group=…)``
    says otherwise: of the participant that BIDS names, ``sub-01``; else of the folder that the
    table names; else of the outermost folder in that of the class, where there are several, else of
    the file.
    """

    path: Path
    axis: Literal["axial", "coronal", "sagittal"] = "axial"
    """What slices stand across."""
    table: Path | None = None
    """A table with a row for each file, or for each folder of a patient."""
    key: str = ""
    """The column of the table with the name of the file, or of a folder that it is in."""
    label: str | tuple[str, ...] | None = ""
    """The column with the class, ``label`` if it is empty; or a column for each class. None if
    nothing is known of the pictures; then folders are no classes."""
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
        first = folders.first(folder)
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
        file = identity.rpartition("#")[0] or identity
        return self._patients.get(file, file)

    def remarks(self):
        ranged = [each for each in self._entries if each.is_ranged and self.window is None]
        told = [*self._labels.remarks(), *screen.told(len(ranged))]
        if lacking := _listed(self, self._stamp)[2]:
            told.append(
                f"{len(lacking):,} files have no row in the table and are left out: "
                f"{spec.listed(lacking)}."
            )
        return [*told, *folders.left_out(self.path, [Path(each).name for each in self._others])]

    @functools.cached_property
    def _files(self) -> list[Path]:
        if not self.path.is_dir():
            raise ValueError(folders.missing(self.path))
        is_whole = self.table is not None or self.label is None
        tops = [self.path] if is_whole else [each.folder for each in self._places]
        found = (file for top in tops for file in folders.walk(top, self.path))
        return [file for file in found if _is_volume(file) and file.is_file()]

    @functools.cached_property
    def _places(self) -> list[class_folders.Place]:
        return class_folders.found(self.path, _holds, "CLASS/*.nii.gz")

    @functools.cached_property
    def _others(self) -> list[str]:
        """The path below the source's of every file that is no volume."""
        every = folders.walk(self.path, self.path)
        return [self._name(file) for file in every if not _is_volume(file)]

    @functools.cached_property
    def _stamp(self) -> str:
        files = [(self._name(file), file) for file in self._files]
        table = [(self.table.name, self.table)] if self.table else []
        return stamp([*files, *table], self._others)

    @functools.cached_property
    def _splits(self) -> dict[str, str | None]:
        return {entry.identity: self._labels.split(entry.file) for entry in self._entries}

    @functools.cached_property
    def _patients(self) -> dict[str, str]:
        """What tells the patient of a file apart from all others, by its id."""
        return {entry.identity: entry.patient for entry in self._entries}

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
        targets = columns.targets(self)
        try:
            if entry.problem:
                raise Unusable(entry.defect, entry.problem)
            volume = Volume(entry.file, self.axis)
            origin = digest(entry.file)
            ends = volume.shown or (_range(self, self._stamp) if not self.window else (0.0, 0.0))
        except ValueError as error:
            for number in chosen:
                yield entry.named(number), {"image": error, **dict.fromkeys(targets, entry.target)}
            return
        for number in chosen:
            try:
                pixels = volume.pixels(number, self.window, *ends)
                image = Derived(screen.png(pixels), origin)
            except ValueError as error:
                image = error
            yield entry.named(number), {"image": image, **dict.fromkeys(targets, entry.target)}


class _Entry(NamedTuple):
    """A file: where it is, its id, its patient, its slices from 0, its target, what is wrong.

    `is_ranged` is whether its header does not say which values to show.
    """

    file: Path
    identity: str
    patient: str
    slices: range
    is_ranged: bool
    target: Any
    classes: Sequence[int]
    problem: str
    defect: str

    def named(self, number: int) -> str:
        """Returns the id of a slice, or of a file that has none."""
        return self.identity if self.problem else f"{self.identity}#{number + 1}"


def _is_volume(file: Path) -> bool:
    return file.name.lower().endswith(volumes.SUFFIXES)


def _holds(folder: Path) -> bool:
    return any(map(_is_volume, folder.iterdir()))


def _patients(source: NIfTI) -> list[Path]:
    """Returns the folders whose own folders are of one patient each; none beside a table."""
    is_told = source.table is None and source.label is not None
    tops = [place.folder for place in source._places] if is_told else []
    are_several = any(len(folders.inner(top, source.path)) > 1 for top in tops)
    return tops if are_several else []  # A folder for all of a class says nothing of patients.


def _patient(inside: Path, named: str | None, top: Path | None) -> str:
    """Returns what tells the patient of a file apart from others.

    Args:
        inside: The path of the file below the source's.
        named: What names the file or one of its folders in the table, if there is one.
        top: One of `_patients` that it is in, below the source's, if it is in one.
    """
    if found := _PARTICIPANT.search(inside.as_posix()):
        return found[0]
    if named in inside.parts[:-1]:
        return named
    own = inside.relative_to(top).parts if top else ()
    return (top / own[0]).as_posix() if top and len(own) > 1 else inside.as_posix()


@functools.lru_cache(maxsize=2)
def _listed(source: NIfTI, stamped: str) -> tuple[list[_Entry], Labels, list[str]]:
    """Returns the files of a source with a stamp, what gives their classes, and those without."""
    labels = labels_of(source, lambda: source._places)
    volumes.library()  # Its absence is no fault of the files.
    tops = {top.relative_to(source.path) for top in _patients(source)}
    entries, lacking = [], []
    for file in source._files:
        inside = file.relative_to(source.path)
        bare = file.name.lower().partition(".nii")[0]
        names = [inside.as_posix(), file.name, file.name[: len(bare)]]
        outward = inside.parts[-2::-1]
        if (found := labels.of(file, names, outward)) is None:
            lacking.append(file.name)
            continue
        problem, defect, count, is_ranged = "", "", 1, False
        try:
            volume = Volume(file, source.axis)
            count, is_ranged = volume.slices, volume.shown is None
        except ValueError as error:
            problem, defect = f"{error}", defects.word(error)
        is_all = source.slices == "all"
        slices = range(count) if is_all else range(count // 2, count // 2 + 1)
        patient = _patient(
            inside, found.name, next((up for up in inside.parents if up in tops), None)
        )
        entry = _Entry(
            *(file, inside.as_posix(), patient, slices, is_ranged),
            *(found.target, found.classes, problem, defect),
        )
        entries.append(entry)
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
