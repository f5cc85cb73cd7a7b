"""Report: all there is to see of a model, in one HTML file.

It knows no task: it draws the scalars, views and remarks of `Measures`. A part without content is
left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlkeras.measures.measures import Measures, Scalar
from tlkeras.report import duties, figures, summary, views
from tlkeras.report.evidence import Evidence
from tlkeras.report.page import Markup, anchors, element, folded, joined, number, page, table
from tlkeras.report.views import Shown


@dataclasses.dataclass(frozen=True)
class Report:
    """The content of a report; the products of the pipeline hold its parts as JSON."""

    title: str
    measures: Measures | None = None
    blessing: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """``blessed``, ``reasons``; ``primary``, ``value``, ``lower_bound``, ``upper_bound``,
    ``baseline``, ``baseline_value``."""
    logs: Sequence[Mapping[str, Any]] = ()
    """One of every epoch: ``phase`` and ``epoch`` from 0, ``seconds``, and any ``x``, ``val_x``."""
    exports: Sequence[Mapping[str, Any]] = ()
    """Rows of any columns, among them ``export``, ``files`` and ``bytes``."""
    examples: Mapping[int, Shown] = dataclasses.field(default_factory=dict)
    """The examples of galleries, by their number."""
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """`Info.plain` of the examples: ``classes``, ``counts`` and ``class_counts`` by split."""
    command: str = ""
    """The command line that makes this model again."""
    lineage: Sequence[Mapping[str, Any]] = ()
    """The manifests of the products: ``step``, ``key``, ``seconds``, ``git``, ``versions``."""
    evidence: Evidence | None = None
    """What the summary, and the duties before the law, are made of."""


def write(out: Path, contents: Report) -> None:
    """Writes the file `out`; it needs no network, no script and no other file."""
    sections = [
        ("Results", _results(contents)),
        ("Learning curves", figures.learning(contents.logs)),
        *_views(contents),
        *((heading, section(contents)) for heading, section in _SECTIONS.items()),
    ]
    # Views of one title share a section.
    found: dict[str, list[Markup]] = {}
    for heading, content in sections:
        if content:
            found.setdefault(heading, []).append(content)
    sections = {heading: joined(parts) for heading, parts in found.items()}
    if evidence := contents.evidence:
        links = anchors([summary.HEADING, *sections, _DUTIES])
        first = {summary.HEADING: summary.drawn(evidence, links)}
        sections = {**first, **sections, _DUTIES: duties.drawn(evidence, links)}
    out.write_text(page(contents.title, sections), encoding="utf-8")


def _views(contents: Report) -> list[tuple[str, Markup]]:
    held = contents.measures.views if contents.measures else ()
    return [(view.title, views.drawn(view, contents.examples)) for view in held]


def _results(contents: Report) -> Markup:
    measures = contents.measures
    if not measures:
        return _verdict(contents.blessing)
    scalars = sorted(measures.scalars.items(), key=lambda each: each[0] != measures.primary)
    remarks = [element("li", remark) for remark in measures.remarks]
    return joined(
        [
            _verdict(contents.blessing, measures.score.is_defined),
            _measured_on(measures),
            element("dl", *(_tile(name, scalar) for name, scalar in scalars), class_="tiles"),
            element("ul", *remarks, class_="remarks") if remarks else Markup(),
        ]
    )


def _tile(name: str, scalar: Scalar) -> Markup:
    about = [] if scalar.more_is_better else ["less is better"]
    if scalar.interval:
        low, high = map(number, scalar.interval)
        about.insert(0, f"95 % interval {low} to {high}")
    return element(
        "div",
        element("dt", figures.readable(name)),
        element("dd", figures.value(scalar)),
        element("dd", ", ".join(about), class_="quiet"),
    )


def _verdict(blessing: Mapping[str, Any], is_defined: bool = True) -> Markup:
    if not blessing:
        return Markup()
    sentences = []
    if "primary" in blessing:
        value = figures.value(Scalar(blessing["value"], is_defined=is_defined))
        sentence = f"{figures.readable(blessing['primary'])} is {value}"
        for bound in ("lower_bound", "upper_bound"):
            if blessing.get(bound) is not None:
                sentence += f", {bound.replace('_', ' ')} {number(blessing[bound])}"
        sentences.append(f"{sentence}.")
    if blessing.get("baseline"):
        value = number(blessing["baseline_value"])
        sentences.append(f"The baseline {blessing['baseline']} has {value} on the same examples.")
    word = "Blessed." if blessing["blessed"] else "Not blessed."
    reasons = [element("li", reason) for reason in blessing.get("reasons", ())]
    return element(
        "div",
        element("p", element("strong", word), " " + " ".join(sentences)),
        *([element("ul", *reasons)] if reasons else []),
        class_="verdict" if blessing["blessed"] else "verdict bad",
    )


def _measured_on(measures: Measures) -> Markup:
    text = f"Measured on {number(measures.count)} examples"
    text += f" of the {measures.split} split." if measures.split else "."
    if measures.split == "validation":
        text += (
            " There is no test split, and this one may also have chosen the best epoch: "
            "expect less on new data."
        )
    return element("p", text, class_="quiet")


def _exports(contents: Report) -> Markup:
    if not contents.exports:
        return Markup()
    names = dict.fromkeys(name for row in contents.exports for name in row)
    for name in ("primary", "reasons"):
        names.pop(name, None)
    primary = next((row["primary"] for row in contents.exports if "primary" in row), "value")
    titles = {"value": primary, **_COLUMNS}
    titles = {name: titles.get(name, name).replace("_", " ") for name in names}
    long = [name for name in names if any(_is_long(row.get(name)) for row in contents.exports)]
    short = [name for name in names if name not in long]
    rows = [[_export_cell(name, row.get(name)) for name in short] for row in contents.exports]
    unfit = [
        element("li", f"{row['export']} is unfit: it {reason}.")
        for row in contents.exports
        for reason in row.get("reasons", ())
    ]
    lists = [
        (row["export"], titles[name], _export_cell(name, row[name]))
        for row in contents.exports
        for name in long
        if row.get(name)
    ]
    parts = [table("The measures of each export", [titles[name] for name in short], rows)]
    if unfit:
        parts.append(element("ul", *unfit, class_="remarks"))
    if lists:
        told = table("What each export is made of", ["export", "list", "content"], lists)
        parts.append(folded("What each export is made of", told))
    return joined(parts)


def _is_long(value: Any) -> bool:
    """Returns whether a cell would be far higher than the others."""
    return isinstance(value, (Mapping, list, tuple)) and len(value) > _FEW


def _export_cell(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {key}" for key, count in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return _as(_FORMS[name], value) if name in _FORMS else value


def _as(form: str, value: Any) -> Any:
    """Returns a number in a format; None if there is none."""
    return None if value is None else form.format(value)


def _command(contents: Report) -> Markup:
    return element("pre", contents.command) if contents.command else Markup()


def _lineage(contents: Report) -> Markup:
    if not contents.lineage:
        return Markup()
    rows = [
        (
            made["step"],
            made.get("key", "")[:12],
            _as("{:.1f}", made.get("seconds")),
            made.get("finished"),
        )
        for made in contents.lineage
    ]
    versions: dict[str, str] = {}
    for made in contents.lineage:
        versions |= made.get("versions", {})
    commits = dict.fromkeys(made["git"] for made in contents.lineage if made.get("git"))
    columns = ["product", "key", "seconds", "finished"]
    parts = [table("In the order of their making", columns, rows)]
    if commits:
        parts.append(element("p", "Code: ", element("code", ", ".join(commits))))
    if versions:
        libraries = table("Libraries", ["library", "version"], versions.items())
        parts.append(folded("Versions of the libraries", libraries))
    return joined(parts)


_DUTIES = "What laws ask"

_FEW = 3  # Parts of a cell; of a network's operations there are dozens.

_COLUMNS = {
    "difference": "largest difference from Keras",
    "agreement": "same answer as Keras",
    "p50_ms": "median ms",
    "p95_ms": "95 % within ms",
    "p50_ms_2_threads": "median ms on 2 threads",
    "p95_ms_2_threads": "95 % within ms on 2 threads",
}
_FORMS = {"difference": "{:.1e}"} | {name: "{:.2f}" for name in _COLUMNS if name[0] == "p"}

_SECTIONS: Mapping[str, Callable[[Report], Markup]] = {
    "Exports": _exports,
    "Data": lambda contents: figures.data(contents.data),
    "Configuration": _command,
    "Lineage": _lineage,
}
"""What makes each section below the views, in the order of the page."""
