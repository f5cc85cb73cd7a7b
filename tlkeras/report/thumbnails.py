"""Thumbnails: examples of a folder as a page shows them, by their ids."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tlkeras.data import records
from tlkeras.data.records import Info, Records
from tlkeras.doctor.examined import Examined
from tlkeras.report.views import Shown


def of(examples: Path, info: Info, found: Examined, ids: Iterable[str]) -> dict[str, Shown]:
    """Returns the first feature of some examples, as `Kind.shown` has it.

    Other features of its kind, such as the second of two texts, are said with it.
    """
    wanted = {*ids}
    first = next(iter(info.features.values()))
    kinds = {key: kind for key, kind in info.features.items() if kind == first}
    places: dict[str, list[int]] = {}
    for identity, split, place in zip(found.ids, found.splits, found.places, strict=True):
        if identity in wanted:
            places.setdefault(split, []).append(int(place))
    shown: dict[str, Shown] = {}
    for split, numbers in places.items():
        for record in Records(examples, split).read(numbers):
            identity, values = records.values(record, kinds)
            content, *others = (kind.shown(values[key]) for key, kind in kinds.items())
            said = [other for other in others if isinstance(other, str)]
            shown[identity] = Shown(identity, content, "; ".join(said))
    return shown
