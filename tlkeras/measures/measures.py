"""Measures: numbers with intervals, views to draw and remarks in words, the same for every task.

A task's tally makes them; the terminal, the report and the model card draw these shapes and know no
task. `Measures.plain` is what ``metrics.json`` holds: a number is on its top level under its own
name, so that a script reads ``accuracy``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlkeras import files

FILE = "metrics.json"

NORMAL = 1.959963984540054
"""Between minus and plus this lie 95 % of a normal distribution."""

ROUNDING = 1e-9
"""What a difference of two measures may be off by: 0.95 - 0.94 is more than 0.01."""

COMPARED = "compared"
"""The column of a table that says whether a row is ranked; most tables have none."""

_SMALL = 0.01  # Below it, four decimals are too few digits.

_NAMED = 5  # So many names are listed; of the others, their number.


@dataclasses.dataclass(frozen=True)
class Scalar:
    """One number and its 95 % interval, if it is known.

    Where nothing is to be found and nothing was, a number that counts it is 0 and not defined.
    """

    value: float
    interval: tuple[float, float] | None = None
    more_is_better: bool = True
    is_defined: bool = True

    def lost(self, other: Scalar) -> float:
        """Returns by how much this is worse than another, as a share; below 0 if it is better.

        A share loses the difference: 0.90 is 0.05 worse than 0.95. Where less is better, it is the
        part of the other's value: 2.2 is 0.1 worse than 2.0.
        """
        if self.more_is_better:
            return other.value - self.value
        difference = self.value - other.value
        return difference / abs(other.value) if other.value else difference


def decimals(value: float) -> str:
    """Returns the text of a measure: four decimals, or four digits of what has a small unit."""
    return f"{value:.4g}" if 0 < abs(value) < _SMALL else f"{value:.4f}"


def share(right: int, count: int) -> Scalar:
    """Returns a share of `count` examples with its interval, Wilson's; right at 0 and 1 too."""
    return Scalar(right / count, interval(right, count))


def interval(right: float, count: float) -> tuple[float, float]:
    """Returns the 95 % interval of a share, by Wilson's score.

    The numbers need not be whole, see `estimates.spread`.
    """
    part, z2 = right / count, NORMAL**2
    middle = (part + z2 / (2 * count)) / (1 + z2 / count)
    reach = math.sqrt(part * (1 - part) / count + z2 / (4 * count**2))
    reach *= NORMAL / (1 + z2 / count)
    low = 0.0 if right == 0 else middle - reach
    return low, 1.0 if right == count else middle + reach


def listed(names: Sequence[str]) -> str:
    """Returns the first names for a remark, and how many more there are."""
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def bounds(scalar: Scalar) -> str | None:
    """Returns the interval of a number for a cell of a table; None if it has none."""
    return "{:.2f} to {:.2f}".format(*scalar.interval) if scalar.interval else None


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells; the first cell of a row is its name.

    An empty cell is None. With more rows than a page shows at once, those that are weakest by the
    column `weakest` come first, see `ranked`; the others are folded away.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    weakest: str = ""
    more_is_better: bool = True

    def ranked(self) -> list[int]:
        """Returns the numbers of the rows, the weakest first; in their order without `weakest`.

        Those without a number in that column are left out, and those that are not `COMPARED`.
        """
        numbers, columns = [*range(len(self.rows))], [*self.columns]
        if not self.weakest:
            return numbers
        place = columns.index(self.weakest)
        known = [number for number in numbers if self.rows[number][place] is not None]
        if COMPARED in columns:
            known = [each for each in known if self.rows[each][columns.index(COMPARED)]]
        return sorted(
            known, key=lambda each: self.rows[each][place], reverse=not self.more_is_better
        )


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Counts by label (row) and prediction (column)."""

    title: str
    names: Sequence[str]
    counts: Sequence[Sequence[int]]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Lines through points ``(x, y)``, by the name of each line."""

    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[Sequence[float]]]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Bar:
    """A bar from `low` to `high` of the axis, with the share of all examples that it is of.

    `mark` is the height at which it should end.
    """

    low: float
    high: float
    height: float
    mark: float
    share: float


@dataclasses.dataclass(frozen=True)
class Bars:
    """Bars over ranges of a number, all in [0, 1]."""

    title: str
    x: str
    y: str
    bars: Sequence[Bar]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Mark:
    """Words of a text to be seen: white space parts words, and the first is 0.

    Attributes:
        first: The first of them.
        stop: The word behind the last of them.
        name: What is said of them, never by colour alone.
        weight: How strongly, from -1 to 1.
        kind: The number of a colour; marks of one kind have one.
    """

    first: int
    stop: int
    name: str
    weight: float = 1.0
    kind: int = 0


@dataclasses.dataclass(frozen=True)
class Example:
    """An example of the measured split by its number, and what to say of it.

    `overlays` are small PNG files in base64, by what each shows: a page draws the picture of the
    example once for each, with the overlay stretched over it. `marks` are, too, of a text.
    """

    number: int
    caption: str
    overlays: Mapping[str, str] = dataclasses.field(default_factory=dict)
    marks: Mapping[str, Sequence[Mark]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Examples to look at; `legend` is what the highest colour of heat says, if there is any."""

    title: str
    examples: Sequence[Example]
    note: str = ""
    legend: str = ""


View = Table | Matrix | Curve | Bars | Gallery


def _example(marks: Mapping[str, Any], **fields: Any) -> Example:
    """Returns an example of its plain fields."""
    own = {name: [Mark(**mark) for mark in each] for name, each in marks.items()}
    return Example(**fields, marks=own)


_VIEWS: Mapping[str, Any] = {
    cls.__name__.lower(): cls for cls in (Table, Matrix, Curve, Bars, Gallery)
}
_PARTS: Mapping[str, tuple[str, Any]] = {"bars": ("bars", Bar), "gallery": ("examples", _example)}


@dataclasses.dataclass(frozen=True)
class Measures:
    """What was measured on a split.

    Attributes:
        primary: The scalar that blesses a model or not.
        count: The number of examples.
        scalars: By name; the first ones are shown first.
        views: What to draw, in order.
        remarks: What the numbers say against the model, the gravest first, in full sentences.
        split: The split that was measured.
        groups: Of how many groups the examples are, such as patients; 0 if each is of its own.
        known: Of how many of the examples training has copies, or others of their group.
    """

    primary: str
    count: int
    scalars: Mapping[str, Scalar]
    views: Sequence[View] = ()
    remarks: Sequence[str] = ()
    split: str = ""
    groups: int = 0
    known: int = 0

    @property
    def score(self) -> Scalar:
        """The primary scalar."""
        return self.scalars[self.primary]

    def plain(self) -> dict[str, Any]:
        """Returns the same as JSON can hold it."""
        return {
            "split": self.split,
            "count": self.count,
            "groups": self.groups,
            "known": self.known,
            "primary": self.primary,
            **{name: scalar.value for name, scalar in self.scalars.items()},
            "intervals": {
                name: list(scalar.interval)
                for name, scalar in self.scalars.items()
                if scalar.interval
            },
            "less_is_better": [
                name for name, scalar in self.scalars.items() if not scalar.more_is_better
            ],
            "undefined": [name for name, scalar in self.scalars.items() if not scalar.is_defined],
            "remarks": list(self.remarks),
            "views": [*map(plain_view, self.views)],
        }


_NO_SCALARS = {
    *("split", "count", "groups", "known", "primary"),
    *("intervals", "less_is_better", "undefined", "remarks", "views"),
}


def parsed(plain: Mapping[str, Any]) -> Measures:
    """Returns the measures that `Measures.plain` gave."""
    intervals = plain["intervals"]
    scalars = {
        name: Scalar(
            value,
            tuple(intervals[name]) if name in intervals else None,
            name not in plain["less_is_better"],
            name not in plain.get("undefined", ()),  # Earlier versions have no such list.
        )
        for name, value in plain.items()
        if name not in _NO_SCALARS
    }
    return Measures(
        primary=plain["primary"],
        count=plain["count"],
        scalars=scalars,
        views=[*map(parsed_view, plain["views"])],
        remarks=plain["remarks"],
        split=plain["split"],
        groups=plain.get("groups", 0),  # An earlier version wrote neither of these.
        known=plain.get("known", 0),
    )


def read(folder: Path) -> Measures:
    """Returns the measures in the file `FILE` of a folder."""
    return parsed(files.read_json(folder / FILE))


def write(measures: Measures, folder: Path) -> None:
    """Writes the file `FILE` into a folder."""
    files.write_json(folder / FILE, measures.plain())


def plain_view(view: View) -> dict[str, Any]:
    """Returns a view as JSON can hold it."""
    return {"view": type(view).__name__.lower(), **dataclasses.asdict(view)}


def parsed_view(plain: Mapping[str, Any]) -> View:
    """Returns the view that `plain_view` gave."""
    kind = plain["view"]
    fields = {name: value for name, value in plain.items() if name != "view"}
    if kind in _PARTS:
        key, part = _PARTS[kind]
        fields[key] = [part(**each) for each in fields[key]]
    return _VIEWS[kind](**fields)
