"""Planning: the split of every example and the contents of ``info.json``, before any picture."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Mapping, Sequence

from tlkeras import spec, terminal
from tlkeras.data import splits
from tlkeras.data.records import Info
from tlkeras.data.splits import Split
from tlkeras.source import Source


def planned(source: Source, split: Split) -> tuple[dict[str, str], Info]:
    """Returns the split of every id, in order, and the description of the folder of examples.

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
    examples = [(identity, tuple(numbers)) for identity, numbers in source.labels()]
    ids, labels = [each for each, _ in examples], [numbers for _, numbers in examples]
    _require_sound(source, ids, labels, classes)
    sides = splits.assigned(split, ids, labels, [source.split(identity) for identity in ids])
    if strange := [name for name in {*sides} if not re.fullmatch(r"\w+", name)]:
        raise ValueError(f"{source} has the split {strange[0]!r}, expected a plain word.")
    if splits.TRAIN not in sides:
        raise ValueError(
            f"{source} leaves no example for training: all {len(ids):,} are in "
            f"{' and '.join(sorted({*sides}))}. Add examples to the training split."
        )
    known = (splits.TRAIN, splits.VALIDATION, splits.TEST)
    ordered = [name for name in known if name in sides] + sorted({*sides} - {*known})
    counts = collections.Counter(sides)
    pairs = collections.Counter(
        (side, number) for side, numbers in zip(sides, labels, strict=True) for number in {*numbers}
    )
    rows = {name: tuple(pairs[name, label] for label in range(len(classes))) for name in ordered}
    return dict(zip(ids, sides, strict=True)), Info(
        classes=classes,
        features=kinds,
        counts={name: counts[name] for name in ordered},
        class_counts=rows if naming else {},
        split=split.full(),
    )


def remarks(split: Split, sides: Mapping[str, str], plan: Info) -> Iterator[str]:
    """Yields messages on classes that a split lacks and on groups that the data do not fit.

    Args:
        split: The shares and the group.
        sides: The split of every id.
        plan: The contents of the folder of examples.
    """
    for name, row in plan.class_counts.items():
        if lacking := [label for label, count in zip(plan.classes, row, strict=True) if not count]:
            yield f"The split {name} has no example of {spec.listed(lacking)}."
    if torn := split.torn(sides):
        yield (
            f"{len(torn):,} groups have examples in more than one split, so measures will flatter "
            f"the model: {spec.listed(torn)}."
        )
    if lone := split.ungrouped(sides):
        yield (
            f"In {len(lone):,} of {len(sides):,} ids group={split.group!r} finds nothing; each is "
            f"a group of its own: {spec.listed(lone)}."
        )


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
