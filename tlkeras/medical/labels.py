"""Labels: what pictures show, by the folders that they are in or by a table.

A row of a table names a file, a patient or a SOPInstanceUID.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlkeras import spec
from tlkeras.data import cells, columns, splits
from tlkeras.data.cells import Columns
from tlkeras.data.class_folders import Place
from tlkeras.data.index import sorted_names
from tlkeras.data.tables import Table

# How people call the column that names patients, and those that name pictures, in lower case.
_PATIENTS = ("patientid", "patient_id", "participant_id", "subject", "subject_id", "patient")
_PICTURES = ("sopinstanceuid", "sop_instance_uid", "image_id")
_KEYS = (*_PICTURES, *_PATIENTS, "id", "name")  # The last two may name either.


class Found(NamedTuple):
    """What is known of a picture.

    Attributes:
        target: What is to be predicted.
        classes: The numbers of its classes.
        name: What names it, or its patient, in the table, if there is one.
    """

    target: Any
    classes: Sequence[int]
    name: str | None = None


class FolderLabels:
    """Class folders.

    Attributes:
        classes: The names of the classes, sorted.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        """Takes the folders of `class_folders.found`."""
        self.classes = tuple(sorted({place.label for place in places}))
        self._places = {place.folder: place for place in places}

    def of(self, file: Path, names: Sequence[str], patients: Sequence[str]) -> Found | None:
        """Returns the class of a file."""
        number = self.classes.index(self._place(file).label)
        return Found(number, [number])

    def split(self, file: Path) -> str | None:
        """Returns the split that the user has a file in, if any."""
        return self._place(file).split

    def remarks(self) -> list[str]:
        """Returns no message: each file has a class."""
        return []

    def _place(self, file: Path) -> Place:
        return next(self._places[up] for up in file.parents if up in self._places)


class TableLabels:
    """The rows of a table.

    Attributes:
        classes: The names of the classes, sorted as numbers if all are whole numbers.
    """

    def __init__(
        self, top: Path, file: Path, key: str, targets: Mapping[str, Columns], separator: str
    ) -> None:
        """Reads the table.

        Args:
            top: The folder of the data.
            file: The table, as `tlkeras.data.tables` reads it.
            key: The column that names the pictures; a usual one if it is empty.
            targets: The columns of the target by its key in `cells.TARGETS`.
            separator: What parts the classes in a cell.

        Raises:
            ValueError: A column is missing, or the lines that are wrong and why.
        """
        ((self._target, named),) = targets.items()
        self._top, self._file = top, file
        field = "number" if self._target == "number" else "label"
        wanted = dict.fromkeys([named] if isinstance(named, str) else named, field)
        table = Table(wanted, (), True, "utf-8", has_fields=False)
        key = key or _usual(file, table.layout(file).header)
        table = dataclasses.replace(table, wanted={key: "key", **wanted})
        self._key, column = key, key.lower()
        self._is_of_patients = column in _PATIENTS
        self._is_of_pictures = column in _PICTURES or bool(columns.usual("image", [key]))
        self._rows: dict[str, Any] = {}
        self._lines: dict[str, int] = {}
        wrong = []
        for _, line, (header, written) in table.cut(file, 0):
            try:
                if len(written) != len(header):
                    raise ValueError(f"has {len(written)} cells, expected {len(header)}")
                row = {name: cell.strip() for name, cell in zip(header, written, strict=True)}
                name = cells.line(row, key)
                value = cells.TARGETS[self._target](row, named, separator)
                if self._rows.setdefault(name, value) != value:
                    raise ValueError(
                        f"says something else than line {self._lines[name]} of the same {key}"
                    )
                self._lines.setdefault(name, line)
            except ValueError as error:
                wrong.append(f"line {line} {error}")
        if wrong:
            raise ValueError(f"{file}:\n  " + spec.listed(wrong, separator="\n  "))
        self._unused = {*self._rows}
        found = {name for value in self._rows.values() for name in self._names(value)}
        self.classes = sorted_names(found) if isinstance(named, str) else tuple(named)
        self._numbers = {name: number for number, name in enumerate(self.classes)}

    def of(self, file: Path, names: Sequence[str], patients: Sequence[str]) -> Found | None:
        """Returns what the table says of a picture; None if no row has it.

        Args:
            file: Where the picture is.
            names: What may name the picture in the table, the most exact first.
            patients: What may name its patient, the most exact first.

        Raises:
            ValueError: Rows that differ fit the picture and its patient, and the name of the column
                does not tell which of them it means.
        """
        name = self._named(names, patients)
        if name is None:
            return None
        self._unused.discard(name)
        value = self._rows[name]
        numbers = [self._numbers[each] for each in self._names(value)]
        if self._target == "number":
            return Found(value, [], name)
        return Found(numbers[0] if self._target == "label" else numbers, numbers, name)

    def _named(self, names: Sequence[str], patients: Sequence[str]) -> str | None:
        """Returns the one of the names of a picture and its patient that is in the table."""
        picture, patient = (
            next((each for each in side if each in self._rows), None) for side in (names, patients)
        )
        if picture is None or patient is None:
            return patient if picture is None else picture
        is_told = self._is_of_patients or self._is_of_pictures
        if not is_told and self._rows[picture] != self._rows[patient]:
            first, second = sorted((self._lines[picture], self._lines[patient]))
            raise ValueError(
                f"{self._file}: lines {first} and {second} differ and fit the same picture, one by "
                f"a name of its file and one by that of its patient. Call the column {self._key!r} "
                "by what it holds: PatientID, SOPInstanceUID or file."
            )
        return patient if self._is_of_patients else picture

    def split(self, file: Path) -> str | None:
        """Returns the split that a folder of the user's is called by, if any."""
        return splits.of_folders(file.relative_to(self._top).as_posix())

    def remarks(self) -> list[str]:
        """Returns a message on rows of which no picture came so far."""
        if not self._unused:
            return []
        return [
            f"{len(self._unused):,} rows of {self._file} name no file in {self._top}; the first is "
            f"line {min(self._lines[name] for name in self._unused)}."
        ]

    def _names(self, value: Any) -> Iterator[str]:
        if self._target != "number":
            yield from [value] if isinstance(value, str) else value


class NoLabels:
    """None: the pictures are those of any folders, to be predicted."""

    classes = ()

    def of(self, file: Path, names: Sequence[str], patients: Sequence[str]) -> Found | None:
        """Returns no target and no class."""
        return Found(None, [])

    def split(self, file: Path) -> str | None:
        """Returns None: nobody has cut them."""
        return None

    def remarks(self) -> list[str]:
        """Returns no message."""
        return []


Labels = FolderLabels | TableLabels | NoLabels


def require_columns(source: Any) -> None:
    """Raises ValueError if the fields of a source that name columns do not fit together."""
    for field in ("key", "label", "multilabel", "number") if source.table is None else ():
        source.require(not getattr(source, field), field, "nothing, or a table beside it")
    is_told = source.label is not None or source.table is None
    source.require(is_told, "label", "a column of the table")
    columns.targets(source)


def labels_of(source: Any, places: Callable[[], Sequence[Place]]) -> Labels:
    """Returns the labels of a source: those of its table, or without one of its class folders."""
    if source.label is None:
        return NoLabels()
    if source.table is None:
        return FolderLabels(places())
    targets = columns.targets(source)
    return TableLabels(source.path, source.table, source.key, targets, source.separator)


def _usual(file: Path, header: Sequence[str]) -> str:
    """Returns the column that names the pictures, where no field does."""
    found = [name for name in header if name.lower() in _KEYS] or columns.usual("image", header)
    if not found:
        raise ValueError(
            f"{file} has no column that names the pictures, such as SOPInstanceUID, PatientID or "
            f"file; it has {spec.listed(header)}. Name it by key='…'."
        )
    return found[0]
