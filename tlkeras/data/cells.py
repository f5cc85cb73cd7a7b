"""Cells: from the texts in the cells of a row to its target."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tlkeras import spec
from tlkeras.kind import LARGEST

Columns = str | tuple[str, ...]
"""One column, or a column for each class."""

# How a column of a class says yes and no.
_FLAGS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


def line(values: Mapping[str, str], column: str) -> str:
    """Returns a cell with one line of text.

    Raises:
        ValueError: It has none, or several.
    """
    if not values[column]:
        raise ValueError(f"has no {column}")
    if len(values[column].splitlines()) > 1:
        raise ValueError(f"has a line break in its {column}; is a quote left open?")
    return values[column]


def group(values: Mapping[str, str], column: str) -> str:
    """Returns a cell with the name of a group.

    Raises:
        ValueError: It has none.
    """
    if not values[column]:
        raise ValueError(f"has no {column}; write 'unknown' where the group is not known")
    return line(values, column)


def _label(values: Mapping[str, str], named: Columns, separator: str) -> str:
    if isinstance(named, str):
        return line(values, named)
    ones = _ones(values, named)
    if len(ones) != 1:
        raise ValueError(
            f"has a 1 in {spec.listed(ones) or 'none'} of the columns {spec.listed(named)}, "
            "expected it in one of them"
        )
    return ones[0]


def _labels(values: Mapping[str, str], named: Columns, separator: str) -> list[str]:
    if not isinstance(named, str):
        return _ones(values, named)
    parts = (part.strip() for part in values[named].split(separator))
    return [*dict.fromkeys(filter(None, parts))]


def _number(values: Mapping[str, str], named: str, separator: str) -> float:
    try:
        number = float(line(values, named))
    except ValueError:
        number = math.nan
    if not abs(number) <= LARGEST:
        raise ValueError(f"has {values[named]!r} in {named}, expected a number such as 3.5")
    return number


TARGETS: dict[str, Callable[[Mapping[str, str], Any, str], Any]] = {
    "label": _label,
    "labels": _labels,
    "number": _number,
}
"""From the cells of a row by column, the columns of the target and what parts classes in a cell, to
a value of the kinds in `columns.TARGETS`, with names of classes in place of their numbers."""


def _ones(values: Mapping[str, str], named: Sequence[str]) -> list[str]:
    """Returns the columns with a 1."""
    for name in named:
        if values[name].lower() not in _FLAGS:
            raise ValueError(f"has {values[name]!r} in {name}, expected 0 or 1")
    return [name for name in named if _FLAGS[values[name].lower()]]
