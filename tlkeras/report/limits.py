"""Limits: what the numbers themselves say against a model, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tlkeras.measures import classification

# From where on a number is worth a sentence. Shares and differences of shares.
_WIDE = 0.1
_WEAK = 0.1
_FEW = 10
_UNEVEN = 3.0
_UNCALIBRATED = 0.05
_CONFUSED = 0.1
_LOST = 0.01
_NAMED = 5
"""So many classes are named; of the rest, how many there are."""


def found(
    measures: Mapping[str, Any],
    blessing: Mapping[str, Any],
    data: Mapping[str, Any],
    exports: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Returns the sentences that hold, the gravest first; of what is not given, none."""
    return [
        *_verdict(measures, blessing),
        *_precision(measures),
        *_classes(measures),
        *_confusions(measures),
        *_calibration(measures),
        *_imbalance(data),
        *_exported(measures, exports),
    ]


def guess(measures: Mapping[str, Any]) -> tuple[str, float] | None:
    """Returns the most frequent class and the accuracy of always answering it."""
    if not {"accuracy", "confusion_matrix", "per_class"} <= measures.keys():
        return None
    most = max(measures["per_class"], key=lambda row: row["support"])
    return most["class"], most["support"] / sum(row["support"] for row in measures["per_class"])


def _verdict(measures: Mapping[str, Any], blessing: Mapping[str, Any]) -> Iterator[str]:
    if blessing and not blessing["blessed"]:
        yield "The model did not pass its thresholds."
    if measures.get("split") == "validation":
        yield (
            "There was no test split. The validation split, which was measured instead, may also "
            "have chosen the best epoch: expect less on new data."
        )
    guessed = guess(measures)
    if guessed and measures["accuracy"] <= guessed[1]:
        yield f"The model is no better than always answering {guessed[0]}."


def _precision(measures: Mapping[str, Any]) -> Iterator[str]:
    low, high = measures.get("accuracy_interval", (0, 0))
    if high - low > _WIDE:
        yield (
            f"With only {measures['count']} examples the accuracy is known roughly: "
            f"{low:.2f} to {high:.2f} are all plausible."
        )


def _classes(measures: Mapping[str, Any]) -> Iterator[str]:
    rows = [row for row in measures.get("per_class", ()) if {"support", "recall"} <= row.keys()]
    if untested := [row["class"] for row in rows if not row["support"]]:
        yield f"Not measured, because they have no example: {_listed(untested)}."
    if few := [row["class"] for row in rows if 0 < row["support"] < _FEW]:
        yield f"Measured on fewer than {_FEW} examples each, so hardly known: {_listed(few)}."
    accuracy = measures.get("accuracy", 0.0)
    weak = [
        row
        for row in rows
        if row["support"]
        and row["recall"] < accuracy - _WEAK
        and classification.interval(round(row["recall"] * row["support"]), row["support"])[1]
        < accuracy
    ]
    if weak:
        weak.sort(key=lambda row: row["recall"])
        told = [f"{row['class']} ({row['recall']:.2f} of {row['support']})" for row in weak]
        yield f"Recognised much less often than examples on the whole: {_listed(told)}."


def _confusions(measures: Mapping[str, Any]) -> Iterator[str]:
    often = [
        pair for pair in classification.confusions(measures) if pair[3] >= _CONFUSED and pair[2] > 1
    ]
    if often:
        told = [f"{label} for {taken} ({share:.0%})" for label, taken, _, share in often]
        yield f"Often taken for another class: {_listed(told)}."


def _calibration(measures: Mapping[str, Any]) -> Iterator[str]:
    bins = [row for row in measures.get("reliability", ()) if row["count"]]
    if bins and measures["calibration_error"] > max(_UNCALIBRATED, _by_chance(bins)):
        sure, right = classification.calibration(bins)
        yield (
            f"The probabilities cannot be taken at their word: {sure:.1%} sure on average, right "
            f"in {right:.1%}, calibration error {measures['calibration_error']:.2f}."
        )


def _by_chance(bins: Sequence[Mapping[str, Any]]) -> float:
    """Returns a calibration error that probabilities without fault seldom exceed.

    It is two deviations above the mean, the right answers of a bin taken to be about normal.
    """
    sure = [(row["count"], min(row["confidence"], 1.0)) for row in bins]  # Or 1 and a rounding.
    variances = [count * confidence * (1 - confidence) for count, confidence in sure]
    mean = math.sqrt(2 / math.pi) * sum(math.sqrt(each) for each in variances)
    deviation = math.sqrt((1 - 2 / math.pi) * sum(variances))
    return (mean + 2 * deviation) / sum(row["count"] for row in bins)


def _imbalance(data: Mapping[str, Any]) -> Iterator[str]:
    counts = dict(
        zip(data.get("classes", ()), data.get("class_counts", {}).get("train", ()), strict=False)
    )
    if none := [name for name, count in counts.items() if not count]:
        yield f"Never seen in training: {_listed(none)}."
    seen = {name: count for name, count in counts.items() if count}
    if not seen:
        return
    least, most = min(seen, key=seen.__getitem__), max(seen, key=seen.__getitem__)
    if seen[most] >= _UNEVEN * seen[least]:
        yield (
            f"The training examples are uneven: {seen[most]} of {most}, {seen[least]} of {least}."
        )


def _exported(measures: Mapping[str, Any], exports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in exports:
        before = measures.get(row.get("primary", ""))
        if before is not None and row["value"] < before - _LOST:
            name = row["primary"].replace("_", " ")
            yield (
                f"{row['export']} is worse than the model it was made of: "
                f"{name} {row['value']:.4f} instead of {before:.4f}."
            )


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
