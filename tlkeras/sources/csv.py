"""CSV: a table of picture files and their labels."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from tlkeras import spec
from tlkeras.data import splits
from tlkeras.kinds.image import Image
from tlkeras.kinds.label import Label
from tlkeras.source import Source, content, stamp

# How many wrong lines an error tells.
_TOLD = 10


class CSV(Source, name="csv"):
    """A text file with a line of column names, comma-separated, or tab-separated if ``.tsv``.

    Pictures lie where their column says, seen from the table's own folder, and that text is the id.
    Classes are the labels that occur, sorted as numbers if they all are whole numbers.
    """

    path: Path
    image: str = "image"
    label: str = "label"
    split_column: str = ""
    """A column with train, val, test or another usual word; examples without are cut by hash."""

    def title(self):
        return self.path.stem

    def features(self):
        return {"image": Image(), "label": Label()}

    def classes(self):
        return self._table().classes

    def examples(self):
        return self.between(0, len(self._table().labels))

    def between(self, start, stop):
        rows, labels, _ = self._table()
        for identity, label in labels[start:stop]:
            yield identity, {"image": content(rows[identity].file), "label": label}

    def labels(self):
        for identity, label in self._table().labels:
            yield identity, [label]

    def fingerprint(self):
        files = ((identity, row.file) for identity, row in self._table().rows.items())
        return stamp([(self.path.name, self.path), *files])

    def split(self, identity):
        return self._table().rows[identity].split

    def _table(self) -> _Table:
        """Returns what the table holds, read again only if it has changed."""
        if not self.path.is_file():
            raise ValueError(f"{self.path} is not a file, expected a table with column names.")
        status = self.path.stat()
        return _read(self, status.st_size, status.st_mtime_ns)


class _Row(NamedTuple):
    file: Path
    label: str
    split: str | None


class _Table(NamedTuple):
    """The rows by id, each id with its label in their order, and the classes."""

    rows: dict[str, _Row]
    labels: list[tuple[str, int]]
    classes: tuple[str, ...]


@functools.lru_cache(maxsize=1)
def _read(table: CSV, size: int, changed: int) -> _Table:
    """Returns what a table of a size and time of change holds.

    Raises:
        ValueError: The columns that are missing, or the lines that are wrong and why.
    """
    try:
        rows = _parsed(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{table.path} cannot be read as a table: {error}. Save it as CSV in UTF-8."
        ) from None
    found = {row.label for row in rows.values()}
    whole = all(name.isdecimal() for name in found)
    classes = tuple(sorted(found, key=lambda name: (int(name) if whole else 0, name)))
    number = {name: label for label, name in enumerate(classes)}
    return _Table(rows, [(name, number[row.label]) for name, row in rows.items()], classes)


def _parsed(table: CSV) -> dict[str, _Row]:
    rows: dict[str, _Row] = {}
    wrong: list[str] = []
    with table.path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = "\t" if table.path.suffix.lower() == ".tsv" else ","
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        header = [name.strip() for name in next(lines, [])]
        for column in _columns(table):
            if column not in header:
                raise ValueError(
                    f"{table.path} line 1 has no column {column!r}; "
                    f"{spec.nearest(column, header or ['no columns'])} "
                    f"Its columns are {', '.join(header) or 'none'}."
                )
            if header.count(column) > 1:
                raise ValueError(f"{table.path} line 1 has the column {column!r} more than once.")
        for line, cells in _numbered(lines):
            try:
                identity, row = _row(table, header, cells)
                if identity in rows:
                    raise ValueError(f"names {identity} again")
                rows[identity] = row
            except ValueError as error:
                wrong.append(f"line {line} {error}")
    if wrong:
        more = [f"and {len(wrong) - _TOLD:,} more lines"] if len(wrong) > _TOLD else []
        raise ValueError("\n  ".join([f"{table.path}:", *wrong[:_TOLD], *more]))
    return rows


def _numbered(lines: Any) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the cells of every line with any."""
    try:
        yield from ((lines.line_num, cells) for cells in lines if cells)
    except csv.Error as error:
        raise csv.Error(f"line {lines.line_num}, {error}; is a quote left open?") from None


def _columns(table: CSV) -> Iterator[str]:
    yield from filter(None, (table.image, table.label, table.split_column))


def _row(table: CSV, header: list[str], cells: list[str]) -> tuple[str, _Row]:
    if len(cells) != len(header):
        raise ValueError(f"has {len(cells)} cells, expected {len(header)}")
    values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    for column in (table.image, table.label):
        if not values[column]:
            raise ValueError(f"has no {column}")
        if len(values[column].splitlines()) > 1:
            raise ValueError(f"has a line break in its {column}; is a quote left open?")
    word = values[table.split_column] if table.split_column else ""
    split = splits.named(word)
    if word and split is None:
        raise ValueError(f"has the {table.split_column} {word!r}, expected train, val or test")
    identity = PurePath(values[table.image]).as_posix()
    file = table.path.parent / identity
    try:
        is_there = file.is_file()
    except OSError as error:  # A text too long for the name of a file, say.
        raise ValueError(f"names {identity[:60]!r}: {error.strerror}") from None
    if not is_there:
        raise ValueError(f"names {identity}, and {file} does not exist")
    return identity, _Row(file, values[table.label], split)
