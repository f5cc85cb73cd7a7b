"""Terminal: progress with the time left, tables, and texts that are safe to print."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import tqdm

T = TypeVar("T")


def shown(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yields the items and shows the progress on the error stream.

    A terminal shows a moving bar; any other stream gets a line every ten seconds.
    """
    interval = 0.1 if sys.stderr.isatty() else 10.0
    yield from tqdm.tqdm(items, label, total, mininterval=interval, delay=2)


def printable(text: str) -> str:
    """Returns a text in UTF-8 with control characters escaped, but for newlines and tabs."""
    valid = text.encode("utf-8", "backslashreplace").decode()
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", valid)


def table(rows: Iterable[Sequence[str]], columns: Sequence[str]) -> str:
    """Returns an aligned table; columns of numbers are right-aligned."""
    cells = [[cell.replace("\n", " ") for cell in row] for row in rows]
    lines = [list(columns), *cells]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    right = [bool(cells) and all(map(is_number, column)) for column in zip(*cells, strict=True)]
    right = right or [False] * len(columns)

    def line(row: Sequence[str]) -> str:
        padded: list[str] = []
        for cell, width, is_right in zip(row, widths, right, strict=True):
            space = " " * (width - _width(cell))
            padded.append(space + cell if is_right else cell + space)
        return "  ".join(padded).rstrip()

    head, *body = map(line, lines)
    return "\n".join([head, "  ".join("-" * width for width in widths), *body])


def is_number(cell: str) -> bool:
    """Returns whether the text of a cell is a number, or empty."""
    try:
        float(cell.replace(",", "").removesuffix("%"))
    except ValueError:
        return not cell
    return True


def _width(text: str) -> int:
    """Returns the width of a text in columns of a terminal."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))
