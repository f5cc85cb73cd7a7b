"""Examined: the examples of a folder as the doctor compares them, without their values."""

from __future__ import annotations

import array
import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from tlkeras.doctor.traits import Row, Traits

Column: TypeAlias = "array.array[float] | list[str]"

# A hash has a value for every example, and tells copies alone.
_LEFT_OUT = {"hash"}


@dataclasses.dataclass(frozen=True)
class Examined:
    """Ids, splits, classes and traits of all examples, each in the order of the source.

    Attributes:
        ids: The ids.
        splits: The split of each.
        places: The number of each among those of its split.
        labels: The numbers of the classes of each.
        traits: By feature and name, ``image.height``: an array of numbers or of texts. Traits that
            an example lacks are left out; height and width also give an ``aspect ratio``.
    """

    ids: Sequence[str]
    splits: Sequence[str]
    places: np.ndarray
    labels: Sequence[tuple[int, ...]]
    traits: Mapping[str, np.ndarray]

    def of(self, split: str) -> np.ndarray:
        """Returns the numbers of the examples of a split, in its order."""
        return np.flatnonzero(np.array([each == split for each in self.splits], bool))


def read(rows: Iterable[Row]) -> Examined:
    """Returns what the rows of a folder tell; one row is in memory at a time."""
    ids, splits, labels, places = [], [], [], array.array("q")
    counts: dict[str, int] = {}
    traits: dict[str, Column] = {}
    for number, row in enumerate(rows):
        ids.append(row.identity)
        splits.append(sys.intern(row.split))
        labels.append(tuple(row.labels))
        places.append(counts.get(row.split, 0))
        counts[row.split] = places[-1] + 1
        for feature, found in row.traits.items():
            for name, value in _with_derived(found):
                _append(traits, f"{feature}.{name}", number, value)
    whole = {name: np.array(each) for name, each in traits.items() if len(each) == len(ids)}
    return Examined(ids, splits, np.array(places), labels, whole)


def _append(traits: dict[str, Column], name: str, number: int, value: float | str) -> None:
    """Adds a value to a column, unless an example before lacks it."""
    if number == 0:
        traits[name] = [] if isinstance(value, str) else array.array("d")
    column = traits.get(name)
    if column is not None and len(column) == number:
        column.append(sys.intern(value) if isinstance(value, str) else value)  # pyright: ignore[reportArgumentType]


def _with_derived(traits: Traits) -> Iterator[tuple[str, float | str]]:
    yield from ((name, value) for name, value in traits.items() if name not in _LEFT_OUT)
    for name, (needed, derive) in _DERIVED.items():
        if all(each in traits for each in needed):
            yield name, derive(*(float(traits[each]) for each in needed))


_DERIVED: Mapping[str, tuple[Sequence[str], Callable[..., float]]] = {
    "aspect ratio": (("width", "height"), lambda width, height: width / height),
}
"""Traits that others give."""
