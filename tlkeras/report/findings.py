"""Findings: what the page of the data shows of them, the first of each kind."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tlkeras.data import records
from tlkeras.doctor.defects import Defect
from tlkeras.doctor.duplicates import Group
from tlkeras.doctor.examined import Examined
from tlkeras.report import thumbnails
from tlkeras.report.statistics import MOST, Finding, Statistics

_CLASSES = 24  # Those with samples.
_SAMPLES = 6  # Of each class.
_GROUPS, _MEMBERS = 12, 4


def collected(
    examples: Path,
    found: Examined,
    groups: Sequence[Group],
    left_out: Sequence[Defect],
    whole: Sequence[Defect],
    single: Sequence[Defect],
    remarks: Sequence[str],
) -> Statistics:
    """Returns the content of the page of a folder of examples.

    Args:
        examples: The folder.
        found: Its examples without their values.
        groups: The groups of copies; the page shows first those in several splits.
        left_out: The quarantine.
        whole: Findings on classes, traits and splits.
        single: Findings on examples, those of a kind with the gravest first.
        remarks: What was not examined, and why.
    """
    info = records.info(examples)
    known = {*found.ids}
    kinds: dict[str, list[Defect]] = {}
    for each in single:
        if each.identity in known:  # A note may be on a file that is no example.
            kinds.setdefault(each.defect, []).append(each)
    first = {defect: members[:MOST] for defect, members in kinds.items()}
    of_classes = _samples(found, len(info.classes))
    apart = sorted(groups, key=lambda group: len({*group.splits}) == 1)[:_GROUPS]
    ids = [each.identity for members in first.values() for each in members]
    ids += [found.ids[number] for numbers in of_classes.values() for number in numbers]
    ids += [name for group in apart for name in group.ids[:_MEMBERS]]
    shown = thumbnails.of(examples, info, found, ids)
    names = info.classes or ("all",)
    return Statistics(
        title="Data",
        data=info.plain(),
        counts=collections.Counter(each.defect for each in [*left_out, *whole, *single]),
        remarks=remarks,
        samples={
            names[label]: [shown[found.ids[number]] for number in numbers]
            for label, numbers in of_classes.items()
        },
        whole=whole,
        findings={
            defect: [Finding(each, shown[each.identity]) for each in members]
            for defect, members in first.items()
        },
        groups=[
            (_connected(group), [shown[name] for name in group.ids[:_MEMBERS]]) for group in apart
        ],
        group_count=len(groups),
        left_out=left_out,
        traits=_by_split(found, [*info.counts]),
    )


def _samples(found: Examined, classes: int) -> Mapping[int, Sequence[int]]:
    """Returns examples of the first classes by number, spread over the data; without classes, of 0.

    The training split has them, if it has enough.
    """
    members: dict[int, list[int]] = {}
    for number in found.of("train").tolist():
        for label in {*found.labels[number]} if classes else (0,):
            if label < _CLASSES:
                members.setdefault(label, []).append(number)
    return {
        label: [numbers[i * len(numbers) // _SAMPLES] for i in range(_SAMPLES)]
        if len(numbers) > _SAMPLES
        else numbers
        for label, numbers in sorted(members.items())
    }


def _connected(group: Group) -> str:
    """Returns what connects a group: in which splits its copies are, and how near they are."""
    how = "exact copies" if group.exact else f"near copies, distance up to {group.distance:.3f}"
    counts = collections.Counter(group.splits)
    where = ", ".join(f"{count:,} in {split}" for split, count in counts.items())
    return f"{where}: {how}"


def _by_split(found: Examined, splits: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    rows = {split: found.of(split) for split in splits}
    return {
        name: {split: column[numbers] for split, numbers in rows.items()}
        for name, column in found.traits.items()
    }
