"""Datasheet: what is known of the data, in Markdown, after the questions of Gebru et al. 2021.

The paper is https://arxiv.org/abs/1803.09010; headings and words are our own. What no file tells is
what people have stated, and where they have not, the datasheet says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tlkeras.report import figures
from tlkeras.report.card import code, counted, plain, table
from tlkeras.report.evidence import Evidence

UNSTATED = {
    "purpose": "Why the data were gathered has not been stated.",
    "creators": "Who gathered them, and who paid for it, has not been stated.",
    "people": "Whether the data are about people, and which, has not been stated.",
    "collection": "How, where and when they were gathered has not been stated.",
    "consent": "Whether people concerned were told and agreed has not been stated.",
    "labelling": "Who labelled the data, and by which rules, has not been stated.",
    "licence": "Under which licence or terms they may be used has not been stated.",
    "uses": "What else they may and must not be used for has not been stated.",
    "upkeep": "Who keeps and corrects them, and for how long, has not been stated.",
}
"""The sentence in place of each field of `DataDetails` that people have not stated."""


def datasheet(evidence: Evidence) -> str:
    """Returns the datasheet of the data that a model was fitted to."""
    said = {
        key: plain(getattr(evidence.data_details, key)) or sentence
        for key, sentence in UNSTATED.items()
    }
    sections = {
        "Why they were gathered": [said["purpose"], said["creators"]],
        "What is in them": [said["people"], *_content(evidence)],
        "How they were gathered": [*_source(evidence), said["collection"], said["consent"]],
        "What was done to them": [said["labelling"], *_cleaning(evidence)],
        "What looks odd": _oddities(evidence),
        "What they are for": [said["uses"]],
        "Who may have them": [said["licence"], _PUSHED],
        "Who looks after them": [said["upkeep"], _ERASURE],
    }
    blocks = [f"# Datasheet of the data of {plain(evidence.name)}"]
    if missing := [key for key, text in said.items() if text == UNSTATED[key]]:
        fields = ", ".join(f"{key}='…'" for key in missing)
        blocks.append(f'Not stated yet; give `--data_details="data_details({fields})"`.')
    for heading, lines in sections.items():
        blocks += [f"## {heading}", *filter(None, lines)]
    return "\n\n".join(blocks) + "\n"


_PUSHED = (
    "A pushed version holds none of the examples, but for those that its `report.html` shows, what "
    "the galleries in `metrics.json` say of them and lay over them, such as true masks, and the "
    "numbers in `reference.json` and `reference.npy`. The store of the runs holds all of them."
)
_ERASURE = (
    "`tlkeras lineage` tells which products and versions saw an example. `tlkeras forget` removes "
    "these products from the store, marks the versions and writes a certificate. It does not touch "
    "the data themselves, and a model keeps what it has learnt until it is trained again."
)


def _content(evidence: Evidence) -> Iterator[str]:
    data = evidence.data
    if not data:
        yield "The data were not described."
        return
    yield table(
        ("feature", "kind"),
        [(code(key), code(kind)) for key, kind in data["features"].items()],
    )
    yield counted(data, "examples")
    if evidence.columns:
        yield "The training examples, measured:"
        columns = [(plain(name), *map(_cell, rest)) for name, *rest in evidence.columns]
        yield table(("column", "least", "median", "most"), columns)


def _cell(value: object) -> object:
    return plain(value) if isinstance(value, str) else value


def _source(evidence: Evidence) -> Iterator[str]:
    if source := evidence.configuration.get("source"):
        yield f"They were read from {code(source)}."
    if finished := evidence.made("examples").get("finished"):
        yield f"They were taken in at {finished}."


def _cleaning(evidence: Evidence) -> Iterator[str]:
    yield from evidence.beside
    words, split = figures.cut(evidence.data)
    if words:
        yield f"They were {words}{code(split) if split else ''}."
    excluded = evidence.configuration.get("exclude_ids", "None")
    if excluded != "None":
        yield f"The examples listed by {code(excluded)} were excluded."
    if evidence.left_out:
        yield "These were left out, because no model can be trained on them:"
        yield _counted(evidence.left_out)
    elif evidence.data:
        yield "No example was left out as unusable."


def _oddities(evidence: Evidence) -> Iterator[str]:
    if evidence.noted:
        yield "These are among the examples, or said of them, and worth a look:"
        yield _counted(evidence.noted)
    else:
        yield "Nothing odd was found; what was not looked for may be there."


def _counted(counts: Mapping[str, int]) -> str:
    return table(("finding", "count"), [(plain(word), n) for word, n in counts.items()])
