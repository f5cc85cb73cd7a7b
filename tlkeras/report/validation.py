"""Validation: the page on a batch of new data beside those on which a model was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tlkeras.doctor.drift import EXCEEDANCES, LEAST_SIZE, LEVEL
from tlkeras.doctor.judging import Finding
from tlkeras.doctor.samples import Sample
from tlkeras.measures.measures import Curve
from tlkeras.report import charts
from tlkeras.report.page import Markup, element, folded, joined, number, page, side_by_side, table

_NAMES: tuple[str, str] = ("reference", "new data")
_POINTS = 60  # Of a curve.
_WORDS = 12  # Bars of a chart.
_LISTED = 50  # Files that cannot be read.

# Few far values would press all others into a corner of the chart.
_SHOWN = (0.005, 0.995)


def write(
    out: Path,
    title: str,
    found: Sequence[Finding],
    reference: Sample,
    new: Sample,
    problems: Sequence[str],
) -> None:
    """Writes the file `out`; it needs no network, no script and no other file."""
    sections = {
        "Verdict": _verdict(found, reference, new),
        "Comparisons": _comparisons(found),
        "Numbers": _numbers(reference, new),
        "Words": _words(reference, new),
        "Examples that cannot be read": _problems(problems),
    }
    filled = {heading: content for heading, content in sections.items() if content}
    out.write_text(page(title, filled), encoding="utf-8")


def _verdict(found: Sequence[Finding], reference: Sample, new: Sample) -> Markup:
    wrong = [element("li", each.sentence) for each in found if each.is_wrong]
    word = f"{len(wrong)} of {len(found)} comparisons are wrong." if wrong else "Nothing is wrong."
    about = (
        f" {number(new.count)} new examples beside {number(reference.count)} on which the model "
        "was measured."
    )
    return element(
        "div",
        element("p", element("strong", word), about),
        *([element("ul", *wrong)] if wrong else []),
        class_="verdict bad" if wrong else "verdict",
    )


def _comparisons(found: Sequence[Finding]) -> Markup:
    rows = [
        (
            each.column or "examples",
            each.test or "rule",
            each.expected,
            each.found,
            each.size,
            each.p,
            each.corrected,
            "wrong" if each.is_wrong else "",
        )
        for each in found
    ]
    columns = ("column", "test", "reference", "new data", "size", "p", "corrected p", "verdict")
    note = element(
        "p",
        f"A difference is wrong if its corrected p-value is below {LEVEL} and, of numbers and "
        f"words, its size is at least {LEAST_SIZE}: the share of examples that it moves. Of "
        f"{EXCEEDANCES}, numbers and words that training never had, any size is. The "
        "correction is that of Holm, so independent examples of the same distribution are found "
        f"wrong at most once in {1 / LEVEL:.0f} times; several of each patient, more often.",
        class_="quiet",
    )
    return joined([note, table("Wrong ones first", columns, rows)])


def _numbers(reference: Sample, new: Sample) -> Markup:
    """Returns, of every column that both have, the share of examples at or below each number."""
    both = [name for name in reference.numbers if len(new.numbers.get(name, ()))]
    drawn = [
        charts.lines(Curve(name, name, "share of examples", series))
        for name in both
        if (series := _cumulative(reference.numbers[name], new.numbers[name]))
    ]
    return side_by_side(*drawn) if drawn else Markup()


def _cumulative(*samples: np.ndarray) -> Mapping[str, Sequence[Sequence[float]]]:
    ends = [np.quantile(each, _SHOWN) for each in samples]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    places = np.linspace(low, high, _POINTS) if high > low else []
    return {
        name: [
            (float(x), float(share))
            for x, share in zip(
                places,
                np.searchsorted(np.sort(each), places, side="right") / len(each),
                strict=True,
            )
        ]
        for name, each in zip(_NAMES, samples, strict=True)
        if len(places)
    }


def _words(reference: Sample, new: Sample) -> Markup:
    """Returns the shares of the words, the most frequent ones first."""
    drawn = []
    for name, counts in reference.words.items():
        if not sum((others := new.words.get(name, {})).values()):
            continue
        totals = sum(counts.values()), sum(others.values())
        shares = {
            word: [each.get(word, 0) / n for each, n in zip((counts, others), totals, strict=True)]
            for word in {*counts, *others}
        }
        ranked = sorted(shares, key=lambda word: (-max(shares[word]), word))
        groups = {
            word or "(none)": dict(zip(_NAMES, shares[word], strict=True))
            for word in ranked[:_WORDS]
        }
        more = f", the first {_WORDS} of {len(ranked)}" if len(ranked) > _WORDS else ""
        drawn.append(charts.bars(f"{name}: share of examples{more}", groups))
    return side_by_side(*drawn) if drawn else Markup()


def _problems(problems: Sequence[str]) -> Markup:
    if not problems:
        return Markup()
    items = [element("li", each) for each in problems[:_LISTED]]
    more = f" The first {_LISTED} are listed." if len(problems) > _LISTED else ""
    told = element("p", f"{number(len(problems))} examples.{more}")
    return joined([told, folded("Which, and why", element("ul", *items, class_="remarks"))])
