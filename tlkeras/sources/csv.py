"""CSV: a table of picture files and their labels."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from tlkeras import folders, spec
from tlkeras.data import splits
from tlkeras.images import decoding
from tlkeras.kinds.image import Image
from tlkeras.kinds.label import Label
from tlkeras.source import Source, content, stamp

# What spreadsheets write between two cells.
_DELIMITERS = ",;\t"

# How a column of a class says yes and no.
_FLAGS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


class CSV(Source, name="csv"):
    """A text file whose first line has column names; commas, semicolons or tabs part its cells.

    The id of an example is the text in the column of pictures. Classes are the labels in the
    table, sorted as numbers if all are whole numbers.
    """

    suffixes = (".csv", ".tsv")

    path: Path
    image: str = "image"
    """The column with the paths of the pictures, from `image_folder` on."""
    label: str | tuple[str, ...] = "label"
    """The column with the class; or a column for each class, with a 1 in one of them."""
    split_column: str = ""
    """A column with train, val, test or another usual word; if it is empty the hash decides."""
    image_folder: Path = Path()
    """The folder of the pictures, from the table's own folder on."""
    suffix: str = ""
    """The ending of the files, such as '.jpg', if the table leaves it out."""

    def validate(self):
        if not isinstance(self.label, str):
            is_distinct = len({*self.label}) == len(self.label) >= 2
            self.require(is_distinct, "label", "one column, or a column for each class")

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
        """Returns the contents of the table, read again only after a change."""
        if not self.path.is_file():
            if self.path.exists():
                raise ValueError(f"{self.path} is not a file, expected a table with column names.")
            raise ValueError(folders.missing(self.path))
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
    """Returns the contents of a table of a size and modification time.

    Raises:
        ValueError: The columns that are missing, or the lines that are wrong and why.
    """
    try:
        rows = _parsed(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{table.path} cannot be read as a table: {error}. Save it as CSV in UTF-8."
        ) from None
    if isinstance(table.label, str):
        found = {row.label for row in rows.values()}
        whole = all(name.isdecimal() for name in found)
        classes = tuple(sorted(found, key=lambda name: (int(name) if whole else 0, name)))
    else:
        classes = table.label
    number = {name: label for label, name in enumerate(classes)}
    return _Table(rows, [(name, number[row.label]) for name, row in rows.items()], classes)


def _parsed(table: CSV) -> dict[str, _Row]:
    rows: dict[str, _Row] = {}
    wrong: list[str] = []
    with table.path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=_delimiter(table), strict=True)
        header = _names(next(lines, []))
        for column in _columns(table):
            if column not in header:
                raise ValueError(
                    f"{table.path} line 1 has no column {column!r}; "
                    f"{spec.nearest(column, header or ['no columns'])} "
                    f"Its columns are {spec.listed(header, most=60) or 'none'}."
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
        raise ValueError(f"{table.path}:\n  " + spec.listed(wrong, separator="\n  "))
    return rows


def _delimiter(table: CSV) -> str:
    """Returns the delimiter by which line 1 has most of the columns, or most columns at all."""
    wanted = {*_columns(table)}

    def fit(delimiter: str) -> tuple[int, int]:
        with table.path.open(encoding="utf-8-sig", newline="") as file:
            header = _names(next(csv.reader(file, delimiter=delimiter), []))
        return len(wanted.intersection(header)), len(header)

    return max(_DELIMITERS, key=fit)


def _names(header: Sequence[str]) -> list[str]:
    return [name.strip() for name in header]


def _numbered(lines: Any) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the cells of every line with any text."""
    try:
        yield from ((lines.line_num, cells) for cells in lines if any(map(str.strip, cells)))
    except csv.Error as error:
        raise csv.Error(f"line {lines.line_num}, {error}; is a quote left open?") from None


def _columns(table: CSV) -> Iterator[str]:
    labels = [table.label] if isinstance(table.label, str) else table.label
    yield from filter(None, (table.image, *labels, table.split_column))


def _row(table: CSV, header: Sequence[str], cells: Sequence[str]) -> tuple[str, _Row]:
    if len(cells) != len(header):
        raise ValueError(f"has {len(cells)} cells, expected {len(header)}")
    values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    label = _label(table, values)
    picture = _text(values, table.image)
    word = values[table.split_column] if table.split_column else ""
    split = splits.named(word)
    if word and split is None:
        raise ValueError(f"has the {table.split_column} {word!r}, expected train, val or test")
    identity, file = _found(table, picture)
    return identity, _Row(file, label, split)


def _label(table: CSV, values: dict[str, str]) -> str:
    if isinstance(table.label, str):
        return _text(values, table.label)
    for name in table.label:
        if values[name].lower() not in _FLAGS:
            raise ValueError(f"has {values[name]!r} in {name}, expected 0 or 1")
    ones = [name for name in table.label if _FLAGS[values[name].lower()]]
    if len(ones) != 1:
        raise ValueError(
            f"has a 1 in {spec.listed(ones) or 'none'} of the columns {spec.listed(table.label)}, "
            "expected it in one of them"
        )
    return ones[0]


def _text(values: dict[str, str], column: str) -> str:
    if not values[column]:
        raise ValueError(f"has no {column}")
    if len(values[column].splitlines()) > 1:
        raise ValueError(f"has a line break in its {column}; is a quote left open?")
    return values[column]


def _found(table: CSV, picture: str) -> tuple[str, Path]:
    """Returns the id and the file of a picture; Windows writes backslashes between folders."""
    for written in (picture, picture.replace("\\", "/")):
        identity = PurePath(written).as_posix()
        file = _file(table, identity, table.suffix)
        try:
            if file.is_file():
                return identity, file
        except OSError as error:  # A text too long for the name of a file, say.
            raise ValueError(f"names {identity[:60]!r}: {error.strerror}") from None
    identity = PurePath(picture).as_posix()
    endings = {each for suffix in decoding.SUFFIXES for each in (suffix, suffix.upper())}
    near = [each for each in sorted(endings) if _file(table, identity, each).is_file()]
    hint = f"; with suffix={near[0]!r} it does" if near and not table.suffix else ""
    file = _file(table, identity, table.suffix)
    raise ValueError(f"names {identity}, and {file} does not exist{hint}")


def _file(table: CSV, identity: str, suffix: str) -> Path:
    return table.path.parent / table.image_folder / f"{identity}{suffix}"
