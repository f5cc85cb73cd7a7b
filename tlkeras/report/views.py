"""Views: how a page draws each type of view that measures hold."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tlkeras.measures.measures import Bars, Curve, Gallery, Mark, Matrix, Table, View
from tlkeras.report import charts
from tlkeras.report.page import Markup, element, folded, joined, number, scrolled, table

ROWS = 30
"""Rows of a table that are shown; of a longer one, the rest is folded away."""

_HEAT = 24  # A matrix of more classes is not drawn: its cells would be too small.


@dataclasses.dataclass(frozen=True)
class Shown:
    """An example of a gallery: its id, and a text or a small PNG or JPEG file (`Kind.shown`).

    `said` is what else of it can be read, such as the caption of a picture.
    """

    id: str
    content: bytes | str
    said: str = ""


def drawn(view: View, examples: Mapping[int, Shown]) -> Markup:
    """Returns the element of a view; nothing if there is nothing to show.

    `examples` are those of galleries by their number; of another one, only the caption is shown.
    """
    return _DRAWN[type(view)](view, examples)


def long_table(view: Table) -> Markup:
    """Returns a table; of many rows the weakest, or the first ones, and all of them folded."""
    if not view.rows:
        return element("p", view.note) if view.note else Markup()
    columns, rows = view.columns, _with_bars(view.rows)
    if len(rows) <= ROWS:
        # The title is the heading above; only those who cannot see it need it once more.
        return table(view.note or element("span", view.title, class_="unseen"), columns, rows)
    half = ROWS // 2
    known = view.ranked()
    end = "smallest" if view.more_is_better else "largest"
    order = f"with the {end} {view.weakest}" if view.weakest else "first"
    caption = f"{min(half, len(known))} of {len(rows)} rows, those {order}"
    whole = table(view.title, columns, rows)
    return joined(
        [
            element("p", view.note) if view.note else Markup(),
            table(caption, columns, [rows[i] for i in known[:half]]),
            folded(f"All {len(rows)} rows", whole),
        ]
    )


def _with_bars(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Returns the cells of rows, with a bar at each number of a column of shares."""
    shares = [
        all(cell is None or (isinstance(cell, float) and 0 <= cell <= 1) for cell in column)
        for column in zip(*rows, strict=True)
    ]
    return [
        [_with_bar(cell) if is_share else cell for cell, is_share in zip(row, shares, strict=True)]
        for row in rows
    ]


def _with_bar(share: float | None) -> Markup | None:
    if share is None:
        return None
    bar = element("span", class_="bar", style=f"--share:{share:.3f}")
    return joined([bar, element("span", number(share))])


def _heat(view: Matrix) -> Markup:
    """Returns the matrix as a heat map."""
    if len(view.names) > _HEAT:
        return Markup()

    def cell(label: int, predicted: int) -> Markup:
        row = view.counts[label]
        style = "none" if not row[predicted] else "right" if label == predicted else "wrong"
        share = row[predicted] / max(sum(row), 1)
        return element("td", number(row[predicted]), class_=style, style=f"--share:{share:.3f}")

    every = range(len(view.names))
    heads = [element("th", element("span", name), scope="col") for name in view.names]
    body = [
        element("tr", element("th", view.names[i], scope="row"), *(cell(i, j) for j in every))
        for i in every
    ]
    is_tall = len(view.names) > 6 or max(map(len, view.names)) > 10
    grid = element(
        "table",
        element("caption", view.note or view.title),
        element("thead", element("tr", element("td", class_="none"), *heads)),
        element("tbody", *body),
        class_="heat tall" if is_tall else "heat",
    )
    return scrolled(view.note or view.title, grid)


def _curve(view: Curve) -> Markup:
    if not any(view.series.values()):
        return Markup()
    rows = [[name, x, y] for name, points in view.series.items() for x, y in points]
    numbers = table(view.title, ["line", view.x, view.y], rows)
    return _figure(view.note, charts.lines(view), "The numbers of every point", numbers)


def _bars(view: Bars) -> Markup:
    if not view.bars:
        return Markup()
    columns = [view.x, "share of examples", "mark", view.y]
    rows = [
        (f"{bar.low:.2f} to {bar.high:.2f}", bar.share, bar.mark, bar.height) for bar in view.bars
    ]
    numbers = table(view.title, columns, rows)
    return _figure(view.note, charts.ranges(view), "The numbers of every bar", numbers)


def _figure(note: str, chart: Markup, summary: str, numbers: Markup) -> Markup:
    above = element("p", note) if note else Markup()
    return joined([above, element("figure", chart), folded(summary, numbers)])


def _gallery(view: Gallery, examples: Mapping[int, Shown]) -> Markup:
    if not view.examples:
        return Markup()
    figures, has_texts = [], False
    for example in view.examples:
        shown = examples.get(example.number)
        parts = []
        if shown is not None:
            has_texts |= isinstance(shown.content, str)
            content = _content(shown, example.caption)
            if isinstance(shown.content, str):
                marked = [_marked(shown.content, *each) for each in example.marks.items()]
                parts += marked or [content]
            else:
                overlaid = [_overlaid(content, *each) for each in example.overlays.items()]
                if view.legend and len(overlaid) == 1:  # Nothing else shows the picture alone.
                    overlaid.insert(0, element("span", content, class_="overlaid"))
                parts += overlaid or [content]
        name = [element("div", shown.id)] if shown and shown.id else []
        said = [element("q", shown.said, dir="auto")] if shown and shown.said else []
        caption = element("figcaption", element("strong", example.caption), *said, *name)
        figures.append(element("figure", *parts, caption))
    is_overlaid = any(example.overlays for example in view.examples)
    style = "texts" if has_texts else "pairs" if is_overlaid else ""
    return joined(
        [
            element("p", view.note, class_="quiet") if view.note else Markup(),
            _legend(view.legend) if view.legend else Markup(),
            element("div", *figures, class_=f"gallery {style}".strip()),
        ]
    )


def _legend(highest: str) -> Markup:
    """Returns what the colours of heat say, see `images.heat`."""
    bar = element("span", class_="ramp")
    return element("p", "says nothing ", bar, f" {highest} most", class_="quiet legend")


def _overlaid(content: Markup, name: str, overlay: str) -> Markup:
    """Returns a picture with a PNG file in base64 stretched over it."""
    above = element("img", src=f"data:image/png;base64,{overlay}", alt=name, title=name)
    return element("span", content, above, class_="overlaid")


def _marked(text: str, name: str, marks: Sequence[Mark]) -> Markup:
    """Returns a text with words marked, and what is said of them behind each mark."""
    words = [match.span() for match in re.finditer(r"\S+", text)]
    parts: list[Markup | str] = []
    end = 0
    for mark in sorted(marks, key=lambda mark: mark.first):
        if mark.stop > len(words):
            break  # The text is longer than a page shows.
        start, stop = words[mark.first][0], words[mark.stop - 1][1]
        sign = "against" if mark.weight < 0 else f"kind{mark.kind % _KINDS}"
        style = f"--share:{min(abs(mark.weight), 1):.3f}"
        said = element("small", mark.name)
        parts += [
            text[end:start],
            element("mark", text[start:stop], said, class_=sign, style=style),
        ]
        end = stop
    quote = element("blockquote", *parts, text[end:], dir="auto", tabindex=0)
    return element("div", element("div", name, class_="quiet"), quote, class_="marked")


_KINDS = 6
"""There are so many colours of marks; their names tell kinds apart."""


def _content(shown: Shown, caption: str) -> Markup:
    """Returns the picture or the text of an example."""
    if isinstance(shown.content, str):
        # A long text scrolls, which a keyboard has to reach.
        return element("blockquote", shown.content, dir="auto", tabindex=0)
    for start, type_ in _TYPES.items():
        if shown.content.startswith(start):
            encoded = base64.b64encode(shown.content).decode()
            return element("img", src=f"data:{type_};base64,{encoded}", alt=caption)
    raise ValueError(
        f"The picture of the example {shown.id!r} begins with {shown.content[:8]!r}, "
        "expected a PNG or JPEG file."
    )


_TYPES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
"""The media types of picture files by their first bytes."""

_DRAWN: Mapping[type[View], Callable[[Any, Mapping[int, Shown]], Markup]] = {
    Table: lambda view, examples: long_table(view),
    Matrix: lambda view, examples: _heat(view),
    Curve: lambda view, examples: _curve(view),
    Bars: lambda view, examples: _bars(view),
    Gallery: _gallery,
}
