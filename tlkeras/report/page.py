"""Page: one HTML file that needs no other, and the elements it is made of.

Every text is escaped when it is put into an element, unless it is `Markup`, which only elements
are. The page forbids the browser to fetch anything.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_VOID = {"img", "meta"}


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
    """Returns a cell's text: counts with separators, shares with four digits, texts as they are."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def is_number(cell: str) -> bool:
    """Returns whether a cell reads as a number, or is empty."""
    try:
        float(cell.replace(",", "").removesuffix("%"))
    except ValueError:
        return not cell
    return True


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
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", head),
            element("tbody", *body),
        ),
        class_="wide",
    )


def folded(summary: str, *children: str) -> Markup:
    """Returns what is shown when its summary is clicked, and in print."""
    return element("details", element("summary", summary), *children)


def page(title: str, sections: Mapping[str, str]) -> str:
    """Returns the whole file: the title, a list of the headings, and a section under each."""
    numbered = list(enumerate(sections.items(), start=1))
    links = [
        element("li", element("a", heading, href=f"#section{place}"))
        for place, (heading, _) in numbered
    ]
    parts = [
        element("section", element("h2", heading, id=f"section{place}"), content)
        for place, (heading, content) in numbered
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
        element("style", Markup(_COLOURS + _STYLE + _DRAWN)),
    )
    contents = element("nav", element("ul", *links), aria_label="Contents")
    body = element("body", element("main", element("h1", title), contents, *parts))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def picture(svg: Markup) -> str:
    """Returns a chart as an SVG file of its own, with the style that it has in a page."""
    font = "svg { font-family: system-ui, sans-serif; background: var(--paper); }\n"
    style = element("style", Markup(_COLOURS + font + _DRAWN))
    tag, rest = svg.split(">", 1)
    return f'{tag} xmlns="http://www.w3.org/2000/svg">{style}{rest}\n'


def _plain(text: str) -> str:
    """Returns a text that UTF-8 can hold and a page may: file names can be any bytes."""
    return "".join(
        "�" if unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\n\t" else sign
        for sign in text
    )


_STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-top: .9rem;
  border-top: 1px solid var(--line); }
p { margin: .5rem 0 1rem; max-width: 46rem; }
.quiet, caption, figcaption { color: var(--quiet); font-size: .875rem; }
a { color: rgb(var(--blue)); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; list-style: none; padding: 0;
  margin: 0 0 1.5rem; font-size: .9rem; }
.verdict { border-left: .3rem solid var(--good); background: var(--panel);
  padding: .75rem 1rem; margin: 0 0 1.25rem; }
.verdict.bad { border-color: var(--bad); }
.verdict p { margin: 0; }
.verdict ul { margin: .35rem 0 0; padding-left: 1.2rem; }
.verdict strong { color: var(--good); }
.verdict.bad strong { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .75rem;
  margin: 0; }
.tiles > div { background: var(--panel); border-radius: .5rem; padding: .8rem 1rem; }
.tiles dt { color: var(--quiet); font-size: .875rem; }
.tiles dd { margin: 0; font-size: 1.55rem; font-variant-numeric: tabular-nums; line-height: 1.3; }
.tiles dd.quiet { font-size: .8rem; min-height: 1.1em; }
.wide { overflow-x: auto; margin: .5rem 0 1.25rem; }
table { border-collapse: collapse; font-size: .9rem; }
caption { text-align: left; padding-bottom: .4rem; min-width: 18rem; }
th, td { padding: .3rem .75rem; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: break-word; }
thead th { color: var(--quiet); font-weight: 600; border-bottom-width: 2px; vertical-align: bottom;
  overflow-wrap: normal; }
tbody th { font-weight: 500; max-width: 22rem; }
th.number, .number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
.bar { display: inline-block; width: 6.5rem; height: .6rem; margin-right: .6rem;
  background: linear-gradient(rgb(var(--blue)) 0 0) 0 / calc(var(--share) * 100%) 100% no-repeat
    var(--panel); }
.heat th, .heat td { border: 1px solid var(--paper); padding: .3rem .45rem; }
.heat td { background: rgb(var(--orange) / calc(var(--share) * .85)); text-align: center;
  font-variant-numeric: tabular-nums; min-width: 2.2rem; }
.heat td.right { background: rgb(var(--blue) / calc(.08 + var(--share) * .5)); }
.heat td.none { color: var(--quiet); background: var(--panel); }
.heat tbody th { text-align: right; max-width: 12rem; }
.heat thead th { max-width: 6rem; overflow-wrap: anywhere; text-align: center; }
.heat.tall thead th[scope=col] { writing-mode: vertical-rl; transform: rotate(180deg);
  text-align: left; vertical-align: top; max-width: none; max-height: 10rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr));
  gap: 1rem 1.5rem; }
figure { margin: 0 0 1rem; }
svg { width: 100%; height: auto; max-width: 34rem; display: block; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; }
.gallery img { width: 100%; height: 9rem; object-fit: contain; background: var(--panel);
  border-radius: .4rem; display: block; }
.gallery figcaption { overflow-wrap: anywhere; line-height: 1.35; padding-top: .35rem; }
.gallery strong { color: var(--ink); font-weight: 600; }
pre { background: var(--panel); padding: .9rem 1rem; border-radius: .5rem; font-size: .85rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
code, pre { font-family: ui-monospace, "SF Mono", Consolas, "Liberation Mono", monospace; }
summary { cursor: pointer; color: rgb(var(--blue)); font-size: .9rem; margin: .5rem 0; }
@media (max-width: 30rem) { .charts { grid-template-columns: 1fr; } }
@media print {
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; } nav, summary { display: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  h2 { break-after: avoid; } figure, tr, .verdict, .tiles > div { break-inside: avoid; }
  .wide { overflow: visible; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""

_COLOURS = """
:root {
  --paper: #fdfdfc; --ink: #1d2329; --quiet: #59636e; --line: #dfe3e8; --panel: #f3f5f7;
  --blue: 38 101 173; --orange: 190 82 20; --good: #1c7042; --bad: #a8341c;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14181d; --ink: #e3e7eb; --quiet: #9aa5b1; --line: #323a43; --panel: #1d232a;
    --blue: 98 162 232; --orange: 240 146 84; --good: #66c290; --bad: #f08b70;
  }
}
"""

_DRAWN = """
svg text { fill: var(--quiet); font-size: 12px; font-family: inherit; }
svg .title { fill: var(--ink); font-size: 13px; font-weight: 600; }
svg .grid { stroke: var(--line); }
svg .mark { stroke: var(--ink); stroke-width: 2; }
svg .boundary, svg .ideal { stroke: var(--quiet); stroke-dasharray: 4 4; }
svg .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .train { stroke: rgb(var(--orange)); stroke-dasharray: 6 3; }
svg .validation { stroke: rgb(var(--blue)); }
svg circle { stroke-width: 0; }
svg circle.train { fill: rgb(var(--orange)); }
svg circle.validation { fill: rgb(var(--blue)); }
svg .share { fill: rgb(var(--blue) / .75); }
svg .count { fill: rgb(var(--orange) / .7); }
svg .other { fill: var(--quiet); opacity: .6; }
"""
