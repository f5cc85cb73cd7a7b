"""Planning: the split of every example and the contents of ``info.json``, before any picture."""

from __future__ import annotations

import array
import collections
import dataclasses
import itertools
import re
import types
from collections.abc import Collection, Iterator, Mapping, Sequence

from tlkeras import spec, terminal
from tlkeras.data import splits
from tlkeras.data.records import Info
from tlkeras.data.splits import Split
from tlkeras.source import Source


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a folder of examples is to hold.

    Attributes:
        sides: The split of every id, in order.
        labels: The numbers of the classes of every example, in order.
        info: The description of the folder.
        groups: The number of the group of every example, in order; empty if nothing names any.
    """

    sides: Mapping[str, str]
    labels: Sequence[Sequence[int]]
    info: Info
    groups: Sequence[int] = ()

    def without(self, ids: Collection[str]) -> Info:
        """Returns the description of the folder where some of the examples are left out.

        A split that loses all its examples is not in it.
        """
        if not ids:
            return self.info
        kept = [identity not in ids for identity in self.sides]
        sides = [side for side, keeps in zip(self.sides.values(), kept, strict=True) if keeps]
        labels = [numbers for numbers, keeps in zip(self.labels, kept, strict=True) if keeps]
        return dataclasses.replace(
            self.info,
            counts=_counts(sides),
            class_counts=_class_counts(sides, labels, len(self.info.classes))
            if self.info.class_counts
            else {},
            groups=_group_counts(sides, [*itertools.compress(self.groups, kept)]),
        )

    def excluding(self, ids: Collection[str]) -> Plan:
        """Returns the plan without some of the examples; all others stay in their split.

        Raises:
            ValueError: None is left, or none for training.
        """
        if not ids:
            return self
        sides = {identity: side for identity, side in self.sides.items() if identity not in ids}
        if splits.TRAIN not in sides.values():
            left = f"the {len(sides):,} others are in {' and '.join(sorted({*sides.values()}))}"
            raise ValueError(
                f"{len(self.sides) - len(sides):,} of {len(self.sides):,} examples are excluded, "
                f"which leaves none for training{f': {left}' if sides else ''}; exclude fewer."
            )
        pairs = zip(self.sides, self.labels, strict=True)
        labels = [numbers for identity, numbers in pairs if identity in sides]
        groups = [*itertools.compress(self.groups, (each in sides for each in self.sides))]
        return Plan(sides, labels, self.without(ids), groups)


def planned(
    source: Source, split: Split, twins: Mapping[str, str] = types.MappingProxyType({})
) -> Plan:
    """Returns the split of every example and the description of the folder of examples.

    Args:
        source: Where the examples come from.
        split: How they are cut.
        twins: By id, the name of the set of copies that an example is in, if it is in one.

    Raises:
        ValueError: The classes, ids or labels of the source are wrong, or none is for training.
    """
    kinds, classes = dict(source.features()), tuple(source.classes())
    if "id" in kinds:
        raise ValueError(f"{source.member} has a feature 'id', which is the example's own name.")
    naming = {key: kind.least_classes for key, kind in kinds.items() if kind.least_classes}
    for key, least in naming.items():
        if len(classes) < least:
            raise ValueError(
                f"{source} has {len(classes)} class{'' if len(classes) == 1 else 'es'}"
                f"{f', {classes[0]!r}' if classes else ''}; its {key!r} needs at least {least}."
            )
    for name in classes:
        if name.splitlines() != [name] or name != terminal.printable(name):
            raise ValueError(
                f"{source} has the class {name!r}; the name of a class is one line of UTF-8."
            )
    ids, labels = _listed(source)
    _require_sound(source, ids, labels, classes)
    given, named = [*map(source.split, ids)], [*map(source.stays_with, ids)]
    sides = splits.assigned(split, ids, labels, given, named, twins)
    if strange := [name for name in {*sides} if not re.fullmatch(r"\w+", name)]:
        raise ValueError(f"{source} has the split {strange[0]!r}, expected a plain word.")
    if splits.TRAIN not in sides:
        raise ValueError(
            f"{source} leaves no example for training: all {len(ids):,} are in "
            f"{' and '.join(sorted({*sides}))}. Add examples to the training split."
        )
    groups = _groups(split, ids, named)
    return Plan(
        dict(zip(ids, sides, strict=True)),
        labels,
        Info(
            classes=classes,
            features=kinds,
            counts=_counts(sides),
            class_counts=_class_counts(sides, labels, len(classes)) if naming else {},
            split=split.full(),
            groups=_group_counts(sides, groups),
            given=tuple(name for name in _counts(sides) if name in {*given}),
        ),
        groups,
    )


def _listed(source: Source) -> tuple[list[str], list[tuple[int, ...]]]:
    """Returns the ids of all examples and the numbers of their classes; equal ones are one tuple.

    With a million examples, each object that all of them have is a good part of the memory.
    """
    ids, labels, known = [], [], dict[tuple[int, ...], tuple[int, ...]]()
    for identity, named in source.labels():
        numbers = tuple(named)
        ids.append(identity)
        labels.append(known.setdefault(numbers, numbers))
    return ids, labels


def _counts(sides: Sequence[str]) -> dict[str, int]:
    """Returns the number of examples of every split: train, validation, test, then others."""
    known = (splits.TRAIN, splits.VALIDATION, splits.TEST)
    ordered = [name for name in known if name in sides] + sorted({*sides} - {*known})
    counts = collections.Counter(sides)
    return {name: counts[name] for name in ordered}


def _class_counts(
    sides: Sequence[str], labels: Sequence[Sequence[int]], classes: int
) -> dict[str, tuple[int, ...]]:
    """Returns the number of examples of every class, by split."""
    pairs = collections.Counter(
        (side, number) for side, numbers in zip(sides, labels, strict=True) for number in {*numbers}
    )
    return {name: tuple(pairs[name, label] for label in range(classes)) for name in _counts(sides)}


def _groups(split: Split, ids: Sequence[str], named: Sequence[str | None]) -> Sequence[int]:
    """Returns the number of the group of every example; none if neither names any.

    The name of a group, which can be that of a person, goes no further.
    """
    if not split.group and not any(named):
        return ()
    numbers: dict[str, int] = {}
    pairs = zip(ids, named, strict=True)
    found = (split.group_of(identity, name) for identity, name in pairs)
    return array.array("q", (numbers.setdefault(name, len(numbers)) for name in found))


def _group_counts(sides: Sequence[str], groups: Sequence[int]) -> dict[str, int]:
    """Returns the number of groups of every split; none without groups."""
    pairs = {*zip(sides, groups, strict=True)} if groups else set()
    counts = collections.Counter(side for side, _ in pairs)
    return {name: counts[name] for name in _counts(sides)} if groups else {}


def remarks(source: Source, split: Split, plan: Plan) -> Iterator[str]:
    """Yields messages on classes that a split lacks and on groups that the data do not fit.

    Args:
        source: Where the examples come from.
        split: The shares and the group.
        plan: What the folder of examples is to hold.
    """
    for name, labels in lacking(plan.info).items():
        yield f"The split {name} has no example of {spec.listed(labels)}."
    if torn := split.torn(plan.sides, source.stays_with):
        yield (
            f"{len(torn):,} groups have examples in more than one split, so measures will flatter "
            f"the model: {spec.listed(torn)}."
        )
    if lone := split.ungrouped(plan.sides):
        yield (
            f"In {len(lone):,} of {len(plan.sides):,} ids group={split.group!r} finds nothing; "
            f"each is a group of its own: {spec.listed(lone)}."
        )


def exclusions(excluded: Collection[str], every: Plan) -> Iterator[str]:
    """Yields messages on the ids to leave out of a plan."""
    unknown = sorted({*excluded} - every.sides.keys())
    if count := len(excluded) - len(unknown):
        yield f"{count:,} of {len(every.sides):,} examples are excluded."
    if unknown:
        yield (
            f"{len(unknown):,} of {len(excluded):,} excluded ids are in no example; they may have "
            f"gone already: {spec.listed(unknown)}."
        )


def lacking(info: Info) -> dict[str, list[str]]:
    """Returns the classes without an example in a split, by the splits where there is one."""
    found = {
        name: [label for label, count in zip(info.classes, row, strict=True) if not count]
        for name, row in splits.labelled(info.class_counts).items()
    }
    return {name: labels for name, labels in found.items() if labels}


def _require_sound(
    source: Source,
    ids: Sequence[str],
    labels: Sequence[Sequence[int]],
    classes: Sequence[str],
) -> None:
    if not ids:
        raise ValueError(f"{source} has no examples.")
    if len(set(ids)) < len(ids):
        twice = [identity for identity, times in collections.Counter(ids).items() if times > 1]
        raise ValueError(f"{source} has {len(twice):,} ids more than once: {spec.listed(twice)}.")
    wrong = [
        f"{identity} has {number}"
        for identity, numbers in zip(ids, labels, strict=True)
        for number in numbers
        if not 0 <= number < len(classes)
    ]
    if wrong:
        raise ValueError(f"Labels must be from 0 to {len(classes) - 1}: {spec.listed(wrong)}.")
