"""Classes: those without examples, with one alone, or in one split alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tlkeras.doctor.defects import Defect

EMPTY, LONE, ONE_SPLIT = DEFECTS = ("empty class", "lone class", "class of one split")


def odd(names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> Iterator[Defect]:
    """Yields a finding for each odd class, under its name.

    Args:
        names: The names of the classes.
        counts: The examples of each class, by split. With one split, no class is of one alone.
    """
    for label, name in enumerate(names):
        found = {split: row[label] for split, row in counts.items() if row[label]}
        total = sum(found.values())
        if not total:
            yield Defect(name, "", EMPTY, "is a class without examples")
        elif total == 1:
            (split,) = found
            yield Defect(name, split, LONE, "is a class of one example")
        elif len(found) == 1 and len(counts) > 1:
            (split,) = found
            yield Defect(
                name, split, ONE_SPLIT, f"is a class of {total:,} examples, all in {split}"
            )
