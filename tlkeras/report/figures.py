"""Figures: what a page shows of measures and logs, each an element, or nothing to put on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tlkeras.measures import classification
from tlkeras.report import charts
from tlkeras.report.page import Markup, element, folded, joined, number, table

SHOWN = 30
"""Rows of a table that may be as long as there are classes; the rest is folded away."""

_HEAT = 24  # More classes than these are not drawn as a heat map: its cells would be too small.
_PAIRS = 12


def readable(name: str) -> str:
    """Returns the name of a measure as text, ``top5_accuracy`` as ``Top5 accuracy``."""
    words = name.replace("_", " ")
    return (words[:1].upper() + words[1:]).replace("f1", "F1")


def learning(logs: Sequence[Mapping[str, Any]]) -> Markup:
    """Returns the curves of every measure over the epochs of all phases, and their numbers."""
    logs = [
        {"phase": 0, **log, "epoch": log.get("epoch", place) + 1} for place, log in enumerate(logs)
    ]
    phases = [
        [log for log in logs if log["phase"] == phase]
        for phase in dict.fromkeys(log["phase"] for log in logs)
    ]
    boundaries = {
        phase[0]["epoch"] - 0.5: f"phase {place}"
        for place, phase in enumerate(phases, start=1)
        if len(phases) > 1
    }
    keys = [*dict.fromkeys(key for log in logs for key in log if key not in ("phase", "epoch"))]
    names = dict.fromkeys(key.removeprefix("val_") for key in keys if key != "seconds")
    drawn = []
    for name in names:
        lines = {"train": _lines(phases, name), "validation": _lines(phases, f"val_{name}")}
        series = {told: line for told, line in lines.items() if line}
        if series:
            drawn.append(element("figure", charts.curves(readable(name), series, boundaries)))
    if not drawn:
        return Markup()
    rows = [[log["epoch"], log["phase"] + 1, *map(log.get, keys)] for log in logs]
    numbers = table("Every epoch", ["epoch", "phase", *keys], rows)
    return joined(
        [element("div", *drawn, class_="charts"), folded("The numbers of every epoch", numbers)]
    )


def confusion(measures: Mapping[str, Any]) -> Markup:
    """Returns the confusion matrix, unless it has too many classes, and the most confused pairs."""
    matrix = measures.get("confusion_matrix")
    if not matrix:
        return Markup()
    found = classification.confusions(measures)
    rows = [(label, taken, count, share) for label, taken, count, share in found[:_PAIRS]]
    if rows:
        caption = "What was taken for what"
        if len(rows) < len(found):
            caption += f", the {len(rows)} most frequent of {len(found)} kinds"
        columns = ["class", "taken for", "examples", "share of the class"]
        listed = table(caption, columns, rows)
    else:
        listed = element("p", "No example was taken for another class.")
    return joined([_heat(measures) if len(matrix) <= _HEAT else "", listed])


def data(info: Mapping[str, Any]) -> Markup:
    """Returns the counts of examples by class and split."""
    counts = info.get("counts", {})
    by_class = info.get("class_counts", {})
    if not counts:
        return Markup()
    splits = list(counts)
    rows: list[list[Any]] = [["all", *(counts[split] for split in splits)]]
    of_classes = [
        [name, *(by_class[split][place] if split in by_class else None for split in splits)]
        for place, name in enumerate(info.get("classes", ()) if by_class else ())
    ]
    cut = info.get("split")
    told = element("p", "Cut by ", element("code", cut), ".") if cut else Markup()
    if len(of_classes) <= SHOWN:
        whole = table("Examples", ["class", *splits], [*of_classes, *rows])
        return joined([told, whole])
    for name, choose in (("smallest class", min), ("largest class", max)):
        rows.append([name, *(choose(by_class.get(split, [0])) for split in splits)])
    return joined(
        [
            told,
            table(f"Examples of {len(of_classes)} classes", ["", *splits], rows),
            folded("Every class", table("Examples", ["class", *splits], of_classes)),
        ]
    )


def classes(measures: Mapping[str, Any]) -> Markup:
    """Returns the measures of every class; of many, first the weakest."""
    found = measures.get("per_class", ())
    if not found:
        return Markup()
    columns = list(found[0])

    def row(measures: Mapping[str, Any]) -> list[Any]:
        return [_with_bar(measures[name]) for name in columns]

    caption = "0.0000 where undefined: a class that has no example or is never predicted"
    if len(found) <= SHOWN:
        return table(caption, columns, map(row, found))
    tested = [each for each in found if each.get("support", 1)]
    weakest = sorted(tested, key=lambda each: each.get("f1", 0.0))[: SHOWN // 2]
    return joined(
        [
            table(f"The {len(weakest)} weakest of {len(found)}", columns, map(row, weakest)),
            folded(f"All {len(found)} classes", table(caption, columns, map(row, found))),
        ]
    )


def calibration(measures: Mapping[str, Any]) -> Markup:
    """Returns the reliability diagram, and in words what it says on the whole."""
    bins = [row for row in measures.get("reliability", ()) if row["count"]]
    if not bins:
        return Markup()
    confidence, accuracy = classification.calibration(bins)
    gap = confidence - accuracy
    told = f"On average the model is {confidence:.1%} sure of what it predicts and right in "
    told += f"{accuracy:.1%} of the cases"
    if abs(gap) >= 0.0005:
        told += f": {'over' if gap > 0 else 'under'}confident by {100 * abs(gap):.1f} points"
    told += ". Where a blue bar ends at its mark, the mean confidence of its examples, the model "
    told += "is as often right as it is sure; where few examples lie, bars end anywhere by chance."
    columns = ["confidence", "examples", "mean confidence", "accuracy"]
    rows = [
        (f"{row['low']:.2f} to {row['high']:.2f}", row["count"], row["confidence"], row["accuracy"])
        for row in bins
    ]
    numbers = table("Predictions by confidence", columns, rows)
    return joined(
        [
            element("p", told),
            element("figure", charts.reliability(bins)),
            folded("The numbers of every bin", numbers),
        ]
    )


def slices(groups: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Returns a table of the measures of every group."""
    names = classification.single(groups.values())
    rows = [[group, *map(each.get, names)] for group, each in groups.items()]
    columns = ["group", *(name.replace("_", " ") for name in names)]
    return table("The same measures of each group", columns, rows) if rows else Markup()


def _lines(phases: Sequence[Sequence[Mapping[str, Any]]], key: str) -> list[list[charts.Point]]:
    """Returns (epoch, value) of every log that has a finite one, phase by phase."""
    lines = [
        [(log["epoch"], log[key]) for log in logs if _is_finite(log.get(key))] for logs in phases
    ]
    return [line for line in lines if line]


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _heat(measures: Mapping[str, Any]) -> Markup:
    names = [row["class"] for row in measures["per_class"]]

    def cell(label: int, predicted: int) -> Markup:
        row = measures["confusion_matrix"][label]
        kind = "none" if not row[predicted] else "right" if label == predicted else "wrong"
        share = row[predicted] / max(sum(row), 1)
        return element("td", number(row[predicted]), class_=kind, style=f"--share:{share:.3f}")

    every = range(len(names))
    heads = [element("th", element("span", name), scope="col") for name in names]
    body = [
        element("tr", element("th", names[i], scope="row"), *(cell(i, j) for j in every))
        for i in every
    ]
    is_tall = len(names) > 6 or max(map(len, names)) > 10
    grid = element(
        "table",
        element("caption", "Rows are true classes, columns predictions; shaded by share of a row."),
        element("thead", element("tr", element("td", class_="none"), *heads)),
        element("tbody", *body),
        class_="heat tall" if is_tall else "heat",
    )
    return element("div", grid, class_="wide")


def _with_bar(value: Any) -> Any:
    if not isinstance(value, float) or not 0 <= value <= 1:
        return value
    bar = element("span", class_="bar", style=f"--share:{value:.3f}")
    return joined([bar, element("span", number(value))])
