"""Page: one HTML file that needs no other, and its elements.

Every text is escaped when it is put into an element, unless it is `Markup`, which only elements
are. The page forbids the browser to fetch anything.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlkeras.terminal import is_number

_VOID = {"img", "meta"}
_SMALL, _LARGE = 5e-5, 1e4  # Between them, four decimals fit a number.


class Markup(str):
    """HTML; any other text is escaped when it is put into an element."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: Any) -> Markup:
    """Returns an element; ``class_`` gives the attribute class, ``aria_label`` aria-label."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(_plain(str(value)))}"'
        for name, value in attributes.items()
    )
    end = "" if tag in _VOID else f"{joined(children)}</{tag}>"
    return Markup(f"<{tag}{written}>{end}")


def joined(children: Iterable[str]) -> Markup:
    """Returns elements and texts one after another."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else html.escape(_plain(child)) for child in children
        )
    )


def number(value: Any) -> str:
    """Returns the text of a cell: counts with separators, other numbers with four decimals.

    Very small and very large numbers have other decimals; texts stay as they are.
    """
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if value and abs(value) < _SMALL:
        return f"{value:.1e}"
    return f"{value:,.1f}" if abs(value) >= _LARGE else f"{value:.4f}"


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """Returns a table; the first cell of a row is its heading, columns of numbers to the right."""
    cells = [[each if isinstance(each, Markup) else number(each) for each in row] for row in rows]
    right = [all(is_number(row[place]) for row in cells) for place in range(len(columns))]
    right[0] = False
    kinds = [{"class_": "number"} if is_right else {} for is_right in right]

    def row_of(tags: Sequence[tuple[str, dict[str, str]]], row: Sequence[str]) -> Markup:
        return element(
            "tr",
            *(
                element(tag, each, **attributes, **kind)
                for (tag, attributes), each, kind in zip(tags, row, kinds, strict=True)
            ),
        )

    others = len(columns) - 1
    head = row_of([("th", {"scope": "col"})] * len(columns), columns)
    body = [row_of([("th", {"scope": "row"}), *[("td", {})] * others], row) for row in cells]
    rows_of = [element("caption", caption), element("thead", head), element("tbody", *body)]
    return scrolled(_read_aloud(caption), element("table", *rows_of))


def scrolled(name: str, content: Markup) -> Markup:
    """Returns what may be wider than the page, with a name; a keyboard reaches it and moves it."""
    return element("div", content, class_="wide", tabindex=0, role="group", aria_label=name)


def folded(summary: str, *children: str) -> Markup:
    """Returns elements that a click on the summary shows; print shows them always."""
    return element("details", element("summary", summary), *children)


def side_by_side(*charts: str) -> Markup:
    """Returns charts in a row, below each other where it is narrow."""
    return element("div", *(element("figure", each) for each in charts), class_="charts")


def anchors(headings: Iterable[str]) -> dict[str, str]:
    """Returns the links to the sections of a page with these headings, in their order."""
    return {heading: f"#section{place}" for place, heading in enumerate(headings, start=1)}


def page(title: str, sections: Mapping[str, str]) -> str:
    """Returns the whole file: the title, a list of the headings, and a section under each."""
    places = anchors(sections)
    links = [element("li", element("a", each, href=place)) for each, place in places.items()]
    parts = [
        element("section", element("h2", heading, id=places[heading][1:]), content)
        for heading, content in sections.items()
    ]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; img-src data:; style-src 'unsafe-inline'",
        ),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", _style("charts.css"), _style("page.css")),
    )
    contents = element("nav", element("ul", *links), aria_label="Contents")
    body = element("body", element("main", element("h1", title), contents, *parts))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def picture(svg: Markup) -> str:
    """Returns a chart as an SVG file of its own, with the style that it has in a page."""
    font = Markup("svg { font-family: system-ui, sans-serif; background: var(--paper); }\n")
    style = element("style", _style("charts.css"), font)
    tag, rest = svg.split(">", 1)
    return f'{tag} xmlns="http://www.w3.org/2000/svg">{style}{rest}\n'


def _style(name: str) -> Markup:
    """Returns a style sheet in the folder of this module; ``charts.css`` has the colours too."""
    return Markup(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _read_aloud(text: str) -> str:
    """Returns the words of a text or of elements."""
    return html.unescape(re.sub("<[^>]*>", "", text)) if isinstance(text, Markup) else text


def _plain(text: str) -> str:
    """Returns a text that UTF-8 can hold and a page may: file names can be any bytes."""
    return "".join(
        "�" if unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\n\t" else sign
        for sign in text
    )
