"""Statistics: the page of the data, with samples and everything that is odd about them.

It shows examples of the training, so it is for those who may see the data.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.doctor.defects import Defect
from tlkeras.measures.measures import Curve, Example, Gallery
from tlkeras.report import charts, figures, views
from tlkeras.report.page import Markup, element, folded, joined, page, side_by_side, table
from tlkeras.report.views import ROWS, Shown

MOST = 24
"""Examples shown of each kind of finding; the others are counted."""

_BINS = 24
_ENDS = (0.5, 99.5)  # Percentiles; beyond them one value would squeeze all others.


@dataclasses.dataclass(frozen=True)
class Finding:
    """A defect of an example, with its thumbnail."""

    defect: Defect
    shown: Shown


@dataclasses.dataclass(frozen=True)
class Statistics:
    """The content of the page.

    Attributes:
        title: The name of the page.
        data: `Info.plain` of the examples.
        counts: How often each defect was found, those that are not shown too.
        remarks: What was not examined, and why.
        samples: Examples of each class, by its name.
        whole: Findings on classes, traits and splits.
        findings: The first findings on examples, by their defect.
        groups: The first groups of copies: what connects them, and its members.
        group_count: The number of all groups.
        left_out: What is in quarantine.
        traits: The values of each trait by split, numbers or texts.
    """

    title: str
    data: Mapping[str, Any]
    counts: Mapping[str, int]
    remarks: Sequence[str]
    samples: Mapping[str, Sequence[Shown]]
    whole: Sequence[Defect]
    findings: Mapping[str, Sequence[Finding]]
    groups: Sequence[tuple[str, Sequence[Shown]]]
    group_count: int
    left_out: Sequence[Defect]
    traits: Mapping[str, Mapping[str, np.ndarray]]


def write(out: Path, contents: Statistics) -> None:
    """Writes the file `out`; it needs no network, no script and no other file."""
    sections = {"Findings": _found(contents), "Classes and traits": _whole(contents)}
    for defect, found in contents.findings.items():
        sections[_heading(defect)] = _findings(found, contents.counts[defect])
    sections |= {heading: section(contents) for heading, section in _SECTIONS.items()}
    shown = {heading: content for heading, content in sections.items() if content}
    out.write_text(page(contents.title, shown), encoding="utf-8")


def _heading(defect: str) -> str:
    return defect[:1].upper() + defect[1:]


def _found(contents: Statistics) -> Markup:
    """Returns how often each defect was found, and what was not examined."""
    rows = [[_heading(defect), count] for defect, count in contents.counts.items()]
    found = table("What was found", ["finding", "count"], rows) if rows else None
    remarks = [element("li", remark) for remark in contents.remarks]
    return joined(
        [
            found or element("p", "Nothing odd was found."),
            element("ul", *remarks, class_="remarks") if remarks else Markup(),
        ]
    )


def _whole(contents: Statistics) -> Markup:
    if not contents.whole:
        return Markup()
    items = [
        element("li", element("strong", each.identity), f" {each.reason} ", element("small", where))
        for each in contents.whole
        for where in [", ".join(filter(None, [each.defect, each.split]))]
    ]
    first = element("ul", *items[:ROWS], class_="remarks")
    if len(items) <= ROWS:
        return first
    rest = element("ul", *items[ROWS:], class_="remarks")
    return joined([first, folded(f"The other {len(items) - ROWS:,}", rest)])


def _samples(contents: Statistics) -> Markup:
    parts = [
        joined([element("h3", name), _gallery([("", each) for each in shown])])
        for name, shown in contents.samples.items()
    ]
    classes = contents.data.get("classes", ())
    rest = len(classes) - len(parts)
    if classes and rest > 0:
        parts.append(element("p", f"The other {rest:,} classes are not shown.", class_="quiet"))
    return joined(parts)


def _findings(found: Sequence[Finding], count: int) -> Markup:
    items = [(f"{each.defect.reason} ({each.defect.split})", each.shown) for each in found]
    return joined([_of(len(found), count), _gallery(items)])


def _groups(contents: Statistics) -> Markup:
    if not contents.groups:
        return Markup()
    parts = [
        joined([element("h3", name), _gallery([("", each) for each in shown])])
        for name, shown in contents.groups
    ]
    return joined([_of(len(parts), contents.group_count), *parts])


def _left_out(contents: Statistics) -> Markup:
    if not contents.left_out:
        return Markup()
    rows = [[each.identity, each.split, each.defect, each.reason] for each in contents.left_out]
    columns = ["example", "split", "defect", "what"]
    return joined(
        [_of(len(rows[:ROWS]), len(rows)), table("Never trained on", columns, rows[:ROWS])]
    )


def _traits(contents: Statistics) -> Markup:
    """Returns a chart for each trait of numbers, and a table for each of texts."""
    drawn, tables = [], []
    for name, columns in contents.traits.items():
        if next(iter(columns.values())).dtype.kind == "U":
            tables.append(_words(name, columns))
        elif (curve := _curve(name, columns)) is not None:
            drawn.append(charts.lines(curve))
    return joined([*([side_by_side(*drawn)] if drawn else []), *tables])


def _curve(name: str, columns: Mapping[str, np.ndarray]) -> Curve | None:
    """Returns the share of each split's examples by the value; None if all have one value."""
    every = np.concatenate([*columns.values()])
    low, high = np.percentile(every, _ENDS)
    if low == high:
        low, high = every.min(), every.max()
    if low == high:
        return None
    edges = np.linspace(low, high, _BINS + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    series = {
        split: list(zip(middles, np.histogram(values, edges)[0] / len(values), strict=True))
        for split, values in columns.items()
    }
    return Curve(name, name, "share of examples", series)


def _words(name: str, columns: Mapping[str, np.ndarray]) -> Markup:
    counts = {split: collections.Counter(values.tolist()) for split, values in columns.items()}
    words = sum(counts.values(), collections.Counter()).most_common(MOST)
    rows = [[word or "none", *(counts[split][word] for split in columns)] for word, _ in words]
    return table(name, ["value", *columns], rows)


def _of(shown: int, count: int) -> Markup:
    """Returns how many are shown, if that is not all."""
    if shown >= count:
        return Markup()
    return element("p", f"The first {shown:,} of {count:,}.", class_="quiet")


def _gallery(items: Sequence[tuple[str, Shown]]) -> Markup:
    """Returns examples with their captions; alternative texts are the captions, or the ids."""
    gallery = Gallery("", [Example(i, said or shown.id) for i, (said, shown) in enumerate(items)])
    shown = {
        i: shown if said else dataclasses.replace(shown, id="")
        for i, (said, shown) in enumerate(items)
    }
    return views.drawn(gallery, shown)


_SECTIONS: Mapping[str, Callable[[Statistics], Markup]] = {
    "Copies": _groups,
    "Quarantine": _left_out,
    "Examples": lambda contents: figures.data(contents.data),
    "Samples": _samples,
    "Distributions": _traits,
}
"""What makes the sections behind the findings, in the order of the page."""
