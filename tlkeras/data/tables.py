"""Tables: files whose lines have cells, with or without a first line of column names."""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlkeras.data import columns
from tlkeras.data.lines import lines

# What spreadsheets write between two cells; the last cell of a line may have blanks in it.
_DELIMITERS = "\t;,"
_BLANK = " "

# So many lines tell the delimiter where the column names do not.
_TRIED = 20

# So many characters may be in a cell, more than in any book; beyond is a quote that is left open.
_LONGEST = 10_000_000

_HEADLESS = " If line 1 is an example, name the columns in their order: columns=['label', 'text']."


class Layout(NamedTuple):
    """How a file is read: the names of its columns, its delimiter, whether line 1 has the names."""

    header: list[str]
    delimiter: str
    headed: bool


@dataclasses.dataclass(frozen=True)
class Table:
    """How files are read as tables.

    Attributes:
        wanted: The columns that are read, each with the field of the source that names it.
        columns: The names of all columns where no line has them.
        quotes: Whether quotes around a cell are not part of it.
        encoding: Of the files.
        has_fields: Whether the source has the fields `columns`, `quotes` and `encoding`, which
            messages then advise.
    """

    wanted: Mapping[str, str]
    columns: Sequence[str]
    quotes: bool
    encoding: str
    has_fields: bool = True

    def layout(self, file: Path) -> Layout:
        """Returns the layout of a file.

        Raises:
            ValueError: Its lines have not so many cells as there are `columns`.
        """
        if self.columns:
            return Layout([*self.columns], self._fitting(file), headed=False)
        found = [self._header(file, each) for each in _DELIMITERS]
        best = max(map(self._fit, found))
        equal = [each for each in found if self._fit(each) == best]
        fitting = (each for each in equal if self._parts(file, each[1], len(each[0])))
        return Layout(*next(fitting, equal[0]), headed=True)

    def cut(self, file: Path, start: int) -> Iterator[tuple[int, int, tuple[list[str], list[str]]]]:
        """Yields the first byte, the last line, and names and cells of every row with any text.

        Raises:
            ValueError: The columns that are missing, or a line that belongs to no table.
        """
        header, delimiter, headed = self.layout(file)
        for column, field in self.wanted.items():
            if column not in header:
                where = f"{file} line 1" if headed else "columns"
                advice = _HEADLESS if headed and self.has_fields else ""
                raise ValueError(f"{where} {columns.missing(column, field, header)}{advice}")
            if header.count(column) > 1:
                raise ValueError(f"{file} line 1 has the column {column!r} more than once.")
        rows = self._rows(file, delimiter, start)
        for begin, line, cells in rows:
            if not (headed and begin == 0) and any(map(str.strip, cells)):
                if delimiter == _BLANK:
                    cells = _BLANK.join(cells).strip().split(_BLANK, len(header) - 1)
                yield begin, line, (header, cells)

    def _header(self, file: Path, delimiter: str) -> tuple[list[str], str]:
        _, _, cells = next(self._rows(file, delimiter, strict=False), (0, 0, []))
        return [name.strip() for name in cells], delimiter

    def _fit(self, found: tuple[list[str], str]) -> tuple[int, int]:
        """Rates a delimiter by the wanted columns in line 1, then by all of them."""
        return len({*self.wanted}.intersection(found[0])), len(found[0])

    def _fitting(self, file: Path) -> str:
        """Returns the delimiter by which the first lines have as many cells as `columns`."""
        expected = len(self.columns)
        if expected == 1:
            return _BLANK  # The whole line is one cell.
        for delimiter in _DELIMITERS + _BLANK:
            if self._parts(file, delimiter, expected):
                return delimiter
        _, _, first = next(self._rows(file, "\t", strict=False), (0, 0, []))
        raise ValueError(
            f"The lines of {file} do not have {expected} cells each, as columns="
            f"{[*self.columns]} says: tabs, semicolons, commas or blanks part line 1 into others: "
            f"{_BLANK.join(first)[:80]!r}. Name all columns, '' for one that is not read."
        )

    def _parts(self, file: Path, delimiter: str, expected: int) -> bool:
        """Returns whether a delimiter parts each of the first lines into so many cells."""
        rows = itertools.islice(self._rows(file, delimiter, strict=False), _TRIED)
        counts = {
            min(len(cells), expected) if delimiter == _BLANK else len(cells)
            for _, _, cells in rows
            if any(map(str.strip, cells))
        }
        return counts <= {expected}

    def _rows(
        self, file: Path, delimiter: str, start: int = 0, strict: bool = True
    ) -> Iterator[tuple[int, int, list[str]]]:
        """Yields the first byte, the last line and the cells of every row from a byte on."""
        end = start

        def fed() -> Iterator[str]:
            nonlocal end
            for text, end in lines(file, self.encoding, start, self.has_fields):  # noqa: B007
                yield text

        quoted = self.quotes and delimiter != _BLANK
        quoting: Any = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        # The limit is of the whole process; as it is only raised, others read all that they did.
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))
        rows = csv.reader(fed(), delimiter=delimiter, quoting=quoting, strict=strict)
        begin = start
        try:
            for cells in rows:
                yield begin, rows.line_num, cells
                begin = end
        except csv.Error as error:
            advice = ", or set quotes=False if quotes are plain characters"
            raise ValueError(
                f"{file} cannot be read as a table: line {rows.line_num}, {error}; is a quote left "
                f"open? Save it as CSV in UTF-8{advice if self.has_fields else ''}."
            ) from None
