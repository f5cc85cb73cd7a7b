"""Figures: what a page shows of logs and data, each an element, or nothing to put on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tlkeras.data import splits
from tlkeras.measures.measures import Scalar
from tlkeras.report import charts
from tlkeras.report.page import Markup, element, folded, joined, number, side_by_side, table
from tlkeras.report.views import ROWS


def readable(name: str) -> str:
    """Returns the name of a measure as text, ``top5_accuracy`` as ``Top5 accuracy``."""
    words = name.replace("_", " ")
    return (words[:1].upper() + words[1:]).replace("f1", "F1")


def value(scalar: Scalar) -> str:
    """Returns a measure as text; that of one that the examples do not define says so."""
    return number(scalar.value) if scalar.is_defined else "not defined by these examples"


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
        series = {split: line for split, line in lines.items() if line}
        if series:
            drawn.append(charts.curves(readable(name), series, boundaries))
    if not drawn:
        return Markup()
    rows = [[log["epoch"], log["phase"] + 1, *map(log.get, keys)] for log in logs]
    numbers = table("Every epoch", ["epoch", "phase", *keys], rows)
    return joined([side_by_side(*drawn), folded("The numbers of every epoch", numbers)])


def of_classes(info: Mapping[str, Any]) -> list[list[Any]]:
    """Returns a row for each class: its name, and its examples by split; None without labels."""
    if not info.get("class_counts"):
        return []
    known = splits.labelled(info["class_counts"])
    return [
        [name, *(known[split][place] if split in known else None for split in info["counts"])]
        for place, name in enumerate(info.get("classes", ()))
    ]


def cut(info: Mapping[str, Any]) -> tuple[str, str]:
    """Returns how the splits came about, behind "they are", and the `Split` that cut any."""
    text, given = info.get("split", ""), info.get("given", ())
    made = [name for name in info.get("counts", ()) if name not in given]
    if not given:
        return ("cut by ", text) if text else ("", "")
    if not made:
        return "split as the source has them", ""
    return f"split as the source has them, but for {' and '.join(made)}, cut by ", text


def data(info: Mapping[str, Any]) -> Markup:
    """Returns the counts of examples by class and split."""
    counts = info.get("counts", {})
    if not counts:
        return Markup()
    rows, classes = [["all", *counts.values()]], of_classes(info)
    words, split = cut(info)
    by = element("code", split) if split else ""
    cut_by = element("p", "The examples are ", words, by, ".") if words else Markup()
    if len(classes) <= ROWS:
        heading = "class" if classes else ""
        return joined([cut_by, table("Examples", [heading, *counts], [*classes, *rows])])
    _, *columns = zip(*classes, strict=True)
    for name, choose in (("smallest class", min), ("largest class", max)):
        rows.append([name, *(None if None in column else choose(column) for column in columns)])
    return joined(
        [
            cut_by,
            table(f"Examples of {len(classes)} classes", ["", *counts], rows),
            folded("Every class", table("Examples", ["class", *counts], classes)),
        ]
    )


def _lines(phases: Sequence[Sequence[Mapping[str, Any]]], key: str) -> list[list[charts.Point]]:
    """Returns (epoch, value) of every log that has a finite one, phase by phase."""
    lines = [
        [(log["epoch"], log[key]) for log in logs if _is_finite(log.get(key))] for logs in phases
    ]
    return [line for line in lines if line]


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
