"""Duties: what laws ask of a model and its data, what this run shows of it, and what it cannot.

The rows are those of ``duties.json``, in our own words: law, article, what is asked, the names of
what a run shows (`facts.SHOWN`), and the question that is left to people. It is no legal advice,
and no row says that a duty is met.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tlkeras import files
from tlkeras.report import facts
from tlkeras.report.evidence import Evidence
from tlkeras.report.page import Markup, element, folded, joined

NOTE = (
    "What some laws ask of a model and its data, beside what this run shows of it, and the "
    "question that only people can answer. It is no legal advice, and no line says that a duty is "
    "met. Which laws apply is such a question, too."
)


@dataclasses.dataclass(frozen=True)
class Duty:
    """One row.

    Attributes:
        law: Its short name.
        article: Where it asks.
        asks: What, in our words.
        shows: What this run shows of it: sentences that are true of it, and the file of the version
            or the section of the report that holds more, or an empty text.
        people: What only people can answer.
    """

    law: str
    article: str
    asks: str
    shows: tuple[tuple[str, str], ...]
    people: str


def duties(evidence: Evidence) -> list[Duty]:
    """Returns all rows, filled with what the run shows."""
    rows = files.read_json(Path(__file__).with_name("duties.json"))
    return [
        Duty(
            law=row["law"],
            article=row["article"],
            asks=row["asks"],
            shows=tuple(_shown(row["shows"], evidence)),
            people=row["people"],
        )
        for row in rows
    ]


def _shown(names: Sequence[str], evidence: Evidence) -> Iterator[tuple[str, str]]:
    for name in names:
        if said := " ".join(facts.SHOWN[name](evidence)):
            yield said, _PLACES.get(name, "")


def drawn(evidence: Evidence, anchors: Mapping[str, str]) -> Markup:
    """Returns the rows of each law, folded; `anchors` are links to the report's sections."""
    laws: dict[str, list[Markup]] = {}
    for duty in duties(evidence):
        said = [
            element("p", duty.asks),
            element("p", element("strong", "This run shows: "), _linked(duty, anchors)),
            element("p", element("strong", "People answer: "), duty.people),
        ]
        row = element("div", element("dt", duty.article), element("dd", *said))
        laws.setdefault(duty.law, []).append(row)
    parts = [folded(law, element("dl", *rows, class_="short")) for law, rows in laws.items()]
    return joined([element("p", NOTE, class_="quiet"), *parts])


def _linked(duty: Duty, anchors: Mapping[str, str]) -> Markup:
    parts: list[str] = []
    for sentences, place in duty.shows:
        address = anchors.get(place, place if "." in place else "")
        more = [" See ", element("a", place, href=address), "."] if address else []
        parts += [sentences, *more, " "]
    return joined(parts[:-1]) if parts else Markup("nothing.")


_PLACES = {
    "use": "card.md",
    "purpose": "datasheet.md",
    "people": "datasheet.md",
    "consent": "datasheet.md",
    "upkeep": "datasheet.md",
    "features": "datasheet.md",
    "quality": "datasheet.md",
    "data": "datasheet.md",
    "records": "manifest.json",
    "integrity": "manifest.json",
    "measures": "Results",
    "bounds": "Results",
    "limits": "In short",
    "description": "card.md",
    "parts": "bom.cdx.json",
    "exports": "Exports",
    "repeat": "Configuration",
}
"""Where more stands: a file of the version, or a section of the report."""
