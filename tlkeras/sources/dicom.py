"""DICOM: files of a scanner, with classes from folders or from a table."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from tlkeras import folders
from tlkeras.data import class_folders, columns
from tlkeras.data.columns import TARGETS
from tlkeras.doctor import defects
from tlkeras.doctor.defects import Unusable
from tlkeras.kinds.image import Image
from tlkeras.medical import dicom_file, dicom_picture, scans, screen
from tlkeras.medical.dicom_picture import Ranges, Window
from tlkeras.medical.labels import Labels, labels_of, require_columns
from tlkeras.medical.scans import Entry, Listing
from tlkeras.source import Derived, Source, digest, stamp


class DICOM(Source, name="dicom"):
    """Pictures of DICOM files; needs ``tlkeras[medical]``.

    Classes are folders, as those of `folder`, or stand in a table. A picture is shown in 8 bits, by
    its modality's rule and a window; only pixels go into the examples. The id is a digest of the
    file's SOPInstanceUID, with ``#2`` behind it for the second of several frames. All pictures of
    a patient, by PatientID, stay in one split, unless ``split(group=…)`` says otherwise.
    """

    path: Path
    table: Path | None = None
    """A table with a row for each file, or for each patient: commas, semicolons or tabs part its
    cells. Then folders are no classes, but may be called train, val or test."""
    key: str = ""
    """The column of the table with the SOPInstanceUID, the PatientID, or the name of the file."""
    label: str | tuple[str, ...] | None = ""
    """The column with the class, ``label`` if it is empty; or a column for each class. None if
    nothing is known of the pictures; then folders are no classes."""
    multilabel: bool = False
    """Whether a cell of `label` has any number of classes, or any number of its columns a 1."""
    separator: str = ","
    """What parts the classes in a cell."""
    number: str = ""
    """The column with a number to predict, in place of a class."""
    window: Window = None
    """The window: its number in the file, from 1, its name there, or center and width.

    If None, the first window of a file, else its first VOI table, else the range of all values that
    files of the same modality without a window have in the whole data.
    """
    frames: Literal["all", "middle"] = "all"
    """Which pictures of a file with several are examples."""

    @classmethod
    def owns(cls, folder):
        first = folders.first(folder)
        try:
            return first is not None and scans.is_dicom(first)
        except ValueError:  # Whoever reads the folder for its data says so.
            return False

    def validate(self):
        require_columns(self)
        if isinstance(self.window, tuple):
            self.require(self.window[1] >= 1, "window", "center and width, which is at least 1")
        elif isinstance(self.window, int):
            self.require(self.window >= 1, "window", "the number of a window, from 1")

    def title(self):
        return self.path.resolve().name

    def features(self):
        return {"image": Image(), **{key: TARGETS[key] for key in columns.targets(self)}}

    def classes(self):
        return self._labels.classes

    def examples(self):
        return self._read(self._pictures(0, None))

    def between(self, start, stop):
        return self._read(self._pictures(start, stop))

    def labels(self):
        for entry, frame in self._pictures(0, None):
            yield _identity(entry, frame), entry.classes

    def fingerprint(self):
        return self.replace()._stamp

    def split(self, identity):
        return self._splits.get(_entry_identity(identity))

    def stays_with(self, identity):
        return self._patients.get(_entry_identity(identity))

    def remarks(self):
        ranged = [each for each in self._listing.entries if each.is_ranged and self.window is None]
        told = [*self._listing.remarks(), *self._labels.remarks(), *screen.told(len(ranged))]
        return [*told, *folders.left_out(self.path, [Path(each).name for each in self._others])]

    def left_out(self):
        return iter(self._listing.left_out)

    @functools.cached_property
    def _places(self) -> list[class_folders.Place]:
        def holds(folder: Path) -> bool:
            return any(each.is_file() and scans.is_dicom(each) for each in folder.iterdir())

        return class_folders.found(self.path, holds, "CLASS/*.dcm")

    @functools.cached_property
    def _files(self) -> list[Path]:
        if not self.path.is_dir():
            raise ValueError(folders.missing(self.path))
        is_whole = self.table is not None or self.label is None
        tops = [self.path] if is_whole else [each.folder for each in self._places]
        return [file for top in tops for file in scans.found(self.path, top)]

    @functools.cached_property
    def _others(self) -> list[str]:
        """The path below the source's of every file that is no scan, or in no class."""
        own = {*self._files}
        every = (file for file in folders.walk(self.path, self.path) if file not in own)
        return [file.relative_to(self.path).as_posix() for file in every]

    @functools.cached_property
    def _stamp(self) -> str:
        files = [(file.relative_to(self.path).as_posix(), file) for file in self._files]
        table = [(self.table.name, self.table)] if self.table else []
        return stamp([*files, *table], self._others)

    @property
    def _listing(self) -> Listing:
        return _listed(self, self._stamp)[0]

    @property
    def _labels(self) -> Labels:
        """What gives the classes, after it was asked for every file."""
        return _listed(self, self._stamp)[1]

    @functools.cached_property
    def _splits(self) -> dict[str, str | None]:
        """The split that the user's folders have a file in, by its id."""
        return {entry.identity: self._labels.split(entry.file) for entry in self._listing.entries}

    @functools.cached_property
    def _patients(self) -> dict[str, str]:
        return {entry.identity: entry.patient for entry in self._listing.entries}

    def _pictures(self, start: int, stop: int | None) -> Iterator[tuple[Entry, int]]:
        """Yields files with the numbers of their frames, from 0."""
        first = 0
        for entry in self._listing.entries:
            if stop is not None and first >= stop:
                return
            chosen = [*range(entry.frames)] if self.frames == "all" else [entry.frames // 2]
            for place, frame in enumerate(chosen, start=first):
                if start <= place and (stop is None or place < stop):
                    yield entry, frame
            first += len(chosen)

    def _read(self, pictures: Iterator[tuple[Entry, int]]) -> Iterator[tuple[str, dict[str, Any]]]:
        targets = columns.targets(self)
        for entry, frames in itertools.groupby(pictures, lambda pair: pair[0]):
            numbers = [frame for _, frame in frames]
            for frame, image in zip(numbers, self._images(entry, numbers), strict=True):
                yield (
                    _identity(entry, frame),
                    {"image": image, **dict.fromkeys(targets, entry.target)},
                )

    def _images(self, entry: Entry, frames: Sequence[int]) -> Iterator[bytes | ValueError]:
        """Yields frames of one file, or what is wrong with each."""
        if entry.problem:
            yield from [Unusable(entry.defect, entry.problem)] * len(frames)
            return
        needs_ranges = entry.is_ranged and self.window is None
        ranges = _ranges(self, self._stamp) if needs_ranges else {}
        with contextlib.ExitStack() as stack:
            try:
                scan = stack.enter_context(dicom_file.opened(entry.file))
                origin = digest(entry.file)
            except ValueError as error:  # It was sound when it was listed.
                yield from [error] * len(frames)
                return
            for frame in frames:
                try:
                    pixels = dicom_picture.pixels(scan, frame, self.window, ranges)
                    yield Derived(screen.png(pixels), origin)
                except ValueError as error:
                    yield Unusable(defects.word(error), f"{error} (in {entry.shown})")


def _identity(entry: Entry, frame: int) -> str:
    return f"{entry.identity}#{frame + 1}" if entry.frames > 1 else entry.identity


def _entry_identity(identity: str) -> str:
    return identity.partition("#")[0]


@functools.lru_cache(maxsize=2)
def _listed(source: DICOM, stamped: str) -> tuple[Listing, Labels]:
    """Returns the files of a source with a stamp, whose headers are read once in a process."""
    labels = labels_of(source, lambda: source._places)
    return Listing(source._files, source.path, labels.of), labels


@functools.lru_cache(maxsize=2)
def _ranges(source: DICOM, stamped: str) -> Ranges:
    """Returns the least and the largest value of files without a window, by modality."""
    found: dict[str, tuple[float, float]] = {}
    for entry in source._listing.entries:
        if entry.is_ranged and not entry.problem:
            try:
                with dicom_file.opened(entry.file) as scan:
                    ends, modality = dicom_picture.extent(scan), scan.text("Modality")
            except ValueError:
                continue  # Its frames are named, with what is wrong, when they are read.
            if ends:
                low, high = found.get(modality, ends)
                found[modality] = min(low, ends[0]), max(high, ends[1])
    return found
