"""Summary: what a reader without the trade's words has to know of a model, atop the report.

It says whether the model passed, what it is for, how sure that is, where and for whom it fails,
what it saw and what it costs; of each, what was not measured or stated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tlkeras.measures.measures import Table, View
from tlkeras.report import figures
from tlkeras.report.evidence import Evidence, duration, was_judged
from tlkeras.report.page import Markup, element, number

HEADING = "In short"

MEANINGS = {
    "accuracy": "the share of examples whose class it names right",
    "macro_f1": "how well it finds each class and nothing else, the mean of all classes, at best 1",
    "mean_absolute_error": "by how much its numbers are off on average, in the unit of the labels",
    "mean_iou": "how well its areas cover the true ones, the mean of all classes, at best 1",
    "ap": "how well its boxes and classes are those of the true objects, at best 1",
    "entity_f1": "how well it finds each named thing, whole and of the right type, at best 1",
    "perplexity": "among how many pieces of words it is, so to say, unsure of the next, at best 1",
    "recall_at_1": "the share of examples to which it finds the right partner first",
}
"""In words, what the primary measures of tasks say; another one is shown by its name alone."""

_WEAKEST = 3

_GROUPS = "Groups"  # So the titles of views of groups begin.


def drawn(evidence: Evidence, anchors: Mapping[str, str]) -> Markup:
    """Returns the summary; `anchors` are links to the sections of the report by their headings."""
    rows: list[Markup] = []
    for question, (answer, place) in _ANSWERS.items():
        said = [element("p", sentence) for sentence in answer(evidence)]
        # A heading may say more, such as what the groups are of.
        if found := [heading for heading in anchors if place and heading.startswith(place)]:
            said.append(element("p", element("a", f"More: {found[0]}", href=anchors[found[0]])))
        rows.append(element("div", element("dt", question), element("dd", *said)))
    return element("dl", *rows, class_="short")


def _verdict(evidence: Evidence) -> Iterator[str]:
    blessing = evidence.blessing
    if not blessing:
        yield "It was not judged."
        return
    if not blessing["blessed"]:
        yield f"No: {'; '.join(blessing['reasons'])}."
    elif was_judged(blessing):
        yield "Yes: it passed what was asked of it."
    else:
        yield (
            "Nothing was asked of it: no bound was set, and it was compared with no earlier "
            "version."
        )


def _use(evidence: Evidence) -> Iterator[str]:
    stated = evidence.details
    yield stated.description or "Nobody described it."
    yield f"For: {stated.intended_use}" if stated.intended_use else "Nobody stated what it is for."
    yield (
        f"Not for: {stated.out_of_scope}"
        if stated.out_of_scope
        else ("Nobody stated what it must not be used for.")
    )


def _sureness(evidence: Evidence) -> Iterator[str]:
    found = evidence.measures
    if not found:
        yield "It was not measured."
        return
    name = figures.readable(found.primary)
    meaning = MEANINGS.get(found.primary)
    yield f"{name} is {figures.value(found.score)}{f': {meaning}' if meaning else ''}."
    doubts = []
    if found.known:
        doubts.append(
            f"Training has copies of {number(found.known)} of them, or others of the same group, "
            "so expect less of new ones."
        )
    if found.split == "validation":
        doubts.append("They may have chosen its best state, so expect less of new ones.")
    learnt = " ".join(doubts) or "The model did not learn from them."
    yield f"This was measured on {number(found.count)} examples. {learnt}"
    if found.score.interval:
        low, high = map(number, found.score.interval)
        yield (
            "Other examples of this kind could give another number: with 95 % confidence it lies "
            f"between {low} and {high}"
            + (
                f" if all are independent, but these are of {number(found.groups)} groups, such "
                "as patients, so it may lie further away."
                if found.groups
                else "."
            )
        )
    else:
        yield "How far chance may have moved the number was not measured."


def _failures(evidence: Evidence) -> Iterator[str]:
    found = evidence.limits
    yield from found
    views = evidence.measures.views if evidence.measures else ()
    weak = [view for view in views if _ranks(view) and not view.title.startswith(_GROUPS)]
    yield from map(_weakest, weak[:1])
    if not (found or weak):
        yield "The measures show no weakness worth a sentence."
    yield "On data from elsewhere, nothing was measured."


def _ranks(view: View) -> bool:
    return isinstance(view, Table) and bool(view.weakest and view.ranked())


def _weakest(view: Any) -> str:
    """Returns the weakest rows of a table that ranks them."""
    place = list(view.columns).index(view.weakest)
    rows = [view.rows[each] for each in view.ranked()[:_WEAKEST]]
    named = ", ".join(f"{row[0]} ({number(row[place])})" for row in rows)
    return f"Weakest of “{view.title.lower()}”, by {figures.readable(view.weakest)}: {named}."


def _groups(evidence: Evidence) -> Iterator[str]:
    views = evidence.measures.views if evidence.measures else ()
    found = [view for view in views if view.title.startswith(_GROUPS)]
    yield from (_weakest(view) for view in found if _ranks(view))
    if found and not any(map(_ranks, found)):
        yield "Its groups were measured, and not compared: see “Where does it fail?”."
    if not found:
        yield (
            "Whether it serves groups of people, devices or places unequally was not measured: a "
            "model that is good on the whole may fail one of them."
        )
    if people := evidence.data_details.people:
        yield f"People in the data: {people}"
    else:
        yield "Nobody stated whether the data are about people."


def _seen(evidence: Evidence) -> Iterator[str]:
    if not evidence.data:
        yield "The data were not described."
        return
    counts, classes = evidence.counts, evidence.data.get("classes", ())
    of = f" of {len(classes)} class{'' if len(classes) == 1 else 'es'}" if classes else ""
    told = ", ".join(f"{number(count)} {split}" for split, count in counts.items())
    yield f"Examples{of}: {told}."
    yield evidence.quality
    if names := [*dict.fromkeys(text.partition("(")[0] for text in evidence.pretrained)]:
        networks = f"network{'' if len(names) == 1 else 's'} {' and '.join(names)}"
        yield f"Before these it saw what the {networks} had been trained on."
    elif "backbone" in evidence.configuration:
        yield "Its network began with random weights."


def _cost(evidence: Evidence) -> Iterator[str]:
    for row in evidence.exports:
        time = f", {row['p50_ms']:.2f} ms an example" if "p50_ms" in row else ""
        yield f"{', '.join(row['files'])}: {_size(row['bytes'])}{time}."
    if any("p50_ms" in row for row in evidence.exports):
        yield "Times are of one thread of the machine of this run."
    if fitted := evidence.made("model"):
        yield f"Its training took {duration(fitted)}."
    yield "Its energy was not measured."


def _size(count: int) -> str:
    """Returns a number of bytes in the unit that fits."""
    if count < 1_000_000:
        return f"{count / 1_000:,.1f} kB"
    return f"{count / 1_000_000:,.1f} MB"


_ANSWERS: Mapping[str, tuple[Callable[[Evidence], Iterator[str]], str]] = {
    "Did it pass?": (_verdict, "Results"),
    "What is it for?": (_use, ""),
    "How good is it, and how sure is that?": (_sureness, "Calibration"),
    "Where does it fail?": (_failures, "Mistakes"),
    "For whom?": (_groups, _GROUPS),
    "What did it see?": (_seen, "Data"),
    "What does it cost?": (_cost, "Exports"),
}
"""By question, what answers it, and the section with more."""
