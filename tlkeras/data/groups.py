"""Groups: which group each example of a split is in, by every feature of the kind ``group``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tlkeras.data import records
from tlkeras.data.records import Info, Records
from tlkeras.kind import Kind
from tlkeras.kinds.group import Group

MOST = 50
"""A feature of more groups names single things, such as patients: its groups are not compared."""


@dataclasses.dataclass(frozen=True)
class Groups:
    """The groups of the examples of a split by one feature.

    Attributes:
        names: In the order of the alphabet.
        numbers: The place of each example's group in `names`, int32 [count], in file order.
    """

    names: tuple[str, ...]
    numbers: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        """The number of examples of each group."""
        counts = np.bincount(self.numbers, minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))


class Members(NamedTuple):
    """The groups of a split by key, and the classes of its examples.

    Attributes:
        groups: By the key of the feature.
        classes: Of each example, every number once; none without a key of them.
    """

    groups: dict[str, Groups]
    classes: list[tuple[int, ...]]


def keys(info: Info) -> list[str]:
    """Returns the features that tell the group of an example."""
    return [key for key, kind in info.features.items() if kind == Group()]


def class_key(info: Info, read: tuple[str, ...]) -> str:
    """Returns the first of some features that names classes; empty if none does."""
    return next((key for key in read if info.features[key].least_classes), "")


def members(folder: Path, split: str, classes: str = "") -> Members:
    """Returns the groups of a split; one record is in memory at a time.

    Args:
        folder: A folder of `ingest.write_examples`.
        split: One of its splits.
        classes: The key of the classes to read as well.
    """
    info = records.info(folder)
    found = keys(info)
    read: Mapping[str, Kind] = {
        key: info.features[key] for key in (*found, *([classes] if classes else []))
    }
    places: dict[str, dict[str, int]] = {key: {} for key in found}
    numbers: dict[str, list[int]] = {key: [] for key in found}
    pool: dict[tuple[int, ...], tuple[int, ...]] = {}
    labels: list[tuple[int, ...]] = []
    if info.counts.get(split) and read:
        for record in Records(folder, split).between(0, info.counts[split]):
            _, values = records.values(record, read)
            for key in found:
                numbers[key].append(places[key].setdefault(values[key], len(places[key])))
            if classes:
                own = tuple(sorted({*read[classes].classes_in(values[classes])}))
                labels.append(pool.setdefault(own, own))
    return Members({key: _sorted(places[key], numbers[key]) for key in found}, labels)


def _sorted(places: Mapping[str, int], numbers: list[int]) -> Groups:
    names = sorted(places)
    rank = np.zeros(len(names), np.int32)
    rank[[places[name] for name in names]] = np.arange(len(names))
    return Groups(tuple(names), rank[np.array(numbers, np.int64)])
