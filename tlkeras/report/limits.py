"""Limits: what verdict, measures, data and exports say against a model, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tlkeras.measures.measures import Measures, Scalar, decimals, listed

# From where on a number is worth a sentence.
_UNEVEN = 3.0
_LOST = 0.01


def found(
    measures: Measures | None,
    blessing: Mapping[str, Any],
    data: Mapping[str, Any],
    exports: Sequence[Mapping[str, Any]],
    answers_classes: bool = True,
) -> list[str]:
    """Returns the sentences that hold, the gravest first; about a missing part, none.

    Without `answers_classes` none is about the classes of the data: the model names no class.
    """
    return [
        *_verdict(measures, blessing),
        *(measures.remarks if measures else ()),
        *(_imbalance(data) if answers_classes else ()),
        *_exported(measures, exports),
    ]


def _verdict(measures: Measures | None, blessing: Mapping[str, Any]) -> Iterator[str]:
    if blessing and not blessing["blessed"]:
        yield "The model did not pass its thresholds."
    if measures and measures.split == "validation":
        yield (
            "There is no test split. The measures are of the validation split, which may also have "
            "chosen the best epoch: expect less on new data."
        )


def _imbalance(data: Mapping[str, Any]) -> Iterator[str]:
    counts = dict(
        zip(data.get("classes", ()), data.get("class_counts", {}).get("train", ()), strict=False)
    )
    if unseen := [name for name, count in counts.items() if not count]:
        yield f"These classes have no training example: {listed(unseen)}."
    seen = {name: count for name, count in counts.items() if count}
    if not seen:
        return
    least, most = min(seen, key=seen.__getitem__), max(seen, key=seen.__getitem__)
    if seen[most] >= _UNEVEN * seen[least]:
        yield (
            f"The training examples are uneven: {seen[most]:,} of {most}, {seen[least]:,} of "
            f"{least}."
        )


def _exported(measures: Measures | None, exports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    scalars = measures.scalars if measures else {}
    for row in exports:
        before = scalars.get(row.get("primary", ""))
        if before is None:
            continue
        after = Scalar(row["value"], more_is_better=before.more_is_better)
        if after.lost(before) > _LOST:
            yield (
                f"{row['export']} is worse than the model: its {row['primary'].replace('_', ' ')} "
                f"is {decimals(after.value)} instead of {decimals(before.value)}."
            )
