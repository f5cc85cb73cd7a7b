"""Copies: groups of near duplicates that are in two splits, or have two labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tlkeras.data.splits import TRAIN
from tlkeras.doctor import defects
from tlkeras.doctor.defects import Defect
from tlkeras.doctor.duplicates import Group

ACROSS, MIXED = "copy in another split", "mixed labels"


def across(groups: Iterable[Group]) -> Iterator[Defect]:
    """Yields the examples beside the training split that are copies of one of it.

    In a group without one of the training split, the first stands for it.
    """
    for group in groups:
        if len({*group.splits}) > 1:
            first = group.splits.index(TRAIN) if TRAIN in group.splits else 0
            side = group.splits[first]
            for place, (identity, split) in enumerate(zip(group.ids, group.splits, strict=True)):
                if split != side:
                    reason = f"is {_kind(group, first, place)} copy of {group.ids[first]} ({side})"
                    yield Defect(identity, split, ACROSS, reason)


def learnt(groups: Iterable[Group], notes: Iterable[Defect], split: str) -> set[str]:
    """Returns the ids of a split of which training has copies, or others of their group.

    The split ``target`` is a part of training, though without its labels.

    Args:
        groups: The groups of copies.
        notes: What ingest noted of the examples.
        split: The split, beside that of training.
    """
    copied = {
        identity
        for group in groups
        if {TRAIN, "target"} & {*group.splits}
        for identity, own in zip(group.ids, group.splits, strict=True)
        if own == split
    }
    torn = (each for each in notes if each.defect == defects.TORN and each.split == split)
    return copied | {each.identity for each in torn}


def mixed(
    groups: Iterable[Group], labels: Mapping[str, tuple[int, ...]], classes: Sequence[str]
) -> Iterator[Defect]:
    """Yields the examples whose classes differ from those of a copy.

    Args:
        groups: The groups of copies.
        labels: The numbers of the classes of each labelled example by its id; that of a picture
            may have one for each of its boxes, of which copies need not have as many.
        classes: The names of the classes.
    """
    for group in groups:
        known = [place for place, identity in enumerate(group.ids) if identity in labels]
        for place in known:
            identity, first = group.ids[place], group.ids[known[0]]
            if {*labels[identity]} != {*labels[first]}:
                one, other = (_named(labels[each], classes) for each in (identity, first))
                kind = _kind(group, known[0], place)
                reason = f"is labelled {one}, and {kind} copy of it, {first}, is {other}"
                yield Defect(identity, group.splits[place], MIXED, reason)


def _kind(group: Group, one: int, other: int) -> str:
    return "an exact" if group.are_equal(one, other) else "a near"


def _named(labels: Sequence[int], classes: Sequence[str]) -> str:
    return ", ".join(repr(classes[each]) for each in dict.fromkeys(labels)) or "without a class"
