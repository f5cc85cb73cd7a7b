"""Report: all there is to see of a model in one HTML file, and tables for the terminal.

A part that there is nothing for is left out. Measures are read by what they hold, not by task: any
share on the top level is a headline, ``confusion_matrix``, ``per_class`` and ``reliability`` are
drawn where they are.
"""

from __future__ import annotations

import base64
import dataclasses
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlkeras.report import figures
from tlkeras.report.page import Markup, element, folded, is_number, joined, number, page
from tlkeras.report.page import table as page_table


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A test example and the wrong class that it was taken for."""

    image: bytes
    """A PNG or JPEG file; a small one, it becomes a part of the page."""
    label: str
    predicted: str
    probability: float
    """Of the predicted class."""
    id: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a report shows; the parts are in the form in which the pipeline keeps them as JSON."""

    title: str
    measures: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the task's `measure` returned, and the ``split`` they are of."""
    blessing: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """``blessed``, ``reasons``; ``primary``, ``value``, ``lower_bound``, ``baseline``,
    ``baseline_value``."""
    logs: Sequence[Mapping[str, Any]] = ()
    """One of every epoch: ``phase`` and ``epoch`` from 0, ``seconds``, and any ``x``, ``val_x``."""
    exports: Sequence[Mapping[str, Any]] = ()
    """Rows of any columns, among them ``export``, ``files`` and ``bytes``."""
    mistakes: Sequence[Mistake] = ()
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The `Info` of the examples: ``classes``, ``counts`` and ``class_counts`` by split."""
    slices: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """The measures of every group."""
    command: str = ""
    """The command line that makes this model again."""
    lineage: Sequence[Mapping[str, Any]] = ()
    """The manifests of the products: ``step``, ``key``, ``seconds``, ``git``, ``versions``."""


def write(out: Path, contents: Report) -> None:
    """Writes the file `out`; it needs no network, no script and no other file."""
    sections = {heading: section(contents) for heading, section in _SECTIONS.items()}
    made = {heading: content for heading, content in sections.items() if content}
    out.write_text(page(contents.title, made), encoding="utf-8")


def table(rows: Iterable[Sequence[Any]], columns: Sequence[str]) -> str:
    """Returns an aligned table for the terminal; columns of numbers stand to the right."""
    cells = [[number(cell).replace("\n", " ") for cell in row] for row in rows]
    lines = [list(columns), *cells]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    right = [bool(cells) and all(map(is_number, column)) for column in zip(*cells, strict=True)]
    right = right or [False] * len(columns)

    def line(row: Sequence[str]) -> str:
        padded = []
        for cell, width, is_right in zip(row, widths, right, strict=True):
            space = " " * (width - _width(cell))
            padded.append(space + cell if is_right else cell + space)
        return "  ".join(padded).rstrip()

    head, *body = map(line, lines)
    return "\n".join([head, "  ".join("-" * width for width in widths), *body])


def _results(contents: Report) -> Markup:
    measures = contents.measures
    primary = contents.blessing.get("primary")
    shares = [name for name, value in measures.items() if isinstance(value, float)]
    shares.sort(key=lambda name: name != primary)
    tiles = []
    for name in shares:
        low, high = measures.get(f"{name}_interval", (None, None))
        spread = "" if low is None else f"95 % interval {low:.4f} to {high:.4f}"
        tiles.append(
            element(
                "div",
                element("dt", figures.readable(name)),
                element("dd", number(measures[name])),
                element("dd", spread, class_="quiet"),
            )
        )
    measured = [_split_told(measures), element("dl", *tiles, class_="tiles")] if tiles else []
    return joined([_verdict(contents.blessing), *measured])


def _verdict(blessing: Mapping[str, Any]) -> Markup:
    if not blessing:
        return Markup()
    told = []
    if "primary" in blessing:
        name = figures.readable(blessing["primary"])
        value, bound = number(blessing["value"]), number(blessing["lower_bound"])
        told.append(f"{name} is {value}, lower bound {bound}.")
    if blessing.get("baseline"):
        value = number(blessing["baseline_value"])
        told.append(f"The baseline {blessing['baseline']} has {value} on the same examples.")
    word = "Blessed." if blessing["blessed"] else "Not blessed."
    reasons = [element("li", reason) for reason in blessing.get("reasons", ())]
    return element(
        "div",
        element("p", element("strong", word), " " + " ".join(told)),
        *([element("ul", *reasons)] if reasons else []),
        class_="verdict" if blessing["blessed"] else "verdict bad",
    )


def _split_told(measures: Mapping[str, Any]) -> Markup:
    count, split = measures.get("count"), measures.get("split")
    told = f"Measured on {number(count)} examples" if count else "Measured"
    told += f" of the {split} split." if split else "."
    if split == "validation":
        told += (
            " There is no test split, and this one may also have chosen the best epoch: "
            "expect less on new data."
        )
    return element("p", told, class_="quiet")


def _mistakes(contents: Report) -> Markup:
    shown = [
        element(
            "figure",
            element(
                "img",
                src=f"data:{_kind(each)};base64,{base64.b64encode(each.image).decode()}",
                alt=f"{each.label}, taken for {each.predicted}",
            ),
            element(
                "figcaption",
                element("strong", each.label),
                " taken for ",
                element("strong", each.predicted),
                f", {each.probability:.1%} sure",
                *([element("div", each.id)] if each.id else []),
            ),
        )
        for each in contents.mistakes
    ]
    return element("div", *shown, class_="gallery") if shown else Markup()


def _kind(mistake: Mistake) -> str:
    for start, kind in ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg")):
        if mistake.image.startswith(start):
            return kind
    raise ValueError(
        f"The picture of the mistake {mistake.id!r} begins with {mistake.image[:8]!r}, "
        "expected a PNG or JPEG file."
    )


def _exports(contents: Report) -> Markup:
    names = dict.fromkeys(name for row in contents.exports for name in row)
    names.pop("primary", None)
    primary = next((row["primary"] for row in contents.exports if "primary" in row), "value")
    told = {"value": primary, **_COLUMNS}
    columns = [told.get(name, name).replace("_", " ") for name in names]
    rows = [[_export_cell(name, row.get(name)) for name in names] for row in contents.exports]
    return page_table("What was measured of each", columns, rows) if rows else Markup()


def _export_cell(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {key}" for key, count in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return _as(_FORMS[name], value) if name in _FORMS else value


def _as(form: str, value: Any) -> Any:
    """Returns a number written in a form; None if there is none."""
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
    parts = [page_table("In the order made", ["product", "key", "seconds", "finished"], rows)]
    if commits:
        parts.append(element("p", "Code: ", element("code", ", ".join(commits))))
    if versions:
        listed = page_table("Libraries", ["library", "version"], versions.items())
        parts.append(folded("Versions of the libraries", listed))
    return joined(parts)


def _width(text: str) -> int:
    """Returns how many columns of a terminal a text takes."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


_COLUMNS = {
    "difference": "largest difference from Keras",
    "agreement": "same class as Keras",
    "p50_ms": "median ms",
    "p95_ms": "95 % within ms",
    "p50_ms_2_threads": "median ms on 2 threads",
    "p95_ms_2_threads": "95 % within ms on 2 threads",
    "reasons": "not pushed because it",
}
_FORMS = {"difference": "{:.1e}"} | {name: "{:.2f}" for name in _COLUMNS if name[0] == "p"}

_SECTIONS: dict[str, Callable[[Report], Markup]] = {
    "Results": _results,
    "Learning curves": lambda contents: figures.learning(contents.logs),
    "Confusions": lambda contents: figures.confusion(contents.measures),
    "Classes": lambda contents: figures.classes(contents.measures),
    "Calibration": lambda contents: figures.calibration(contents.measures),
    "Groups": lambda contents: figures.slices(contents.slices),
    "Mistakes": _mistakes,
    "Exports": _exports,
    "Data": lambda contents: figures.data(contents.data),
    "Configuration": _command,
    "Lineage": _lineage,
}
"""What makes each section, in the order of the page; an empty one is left out."""
