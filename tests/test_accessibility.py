"""Pages for everybody: axe-core finds nothing wrong, on a phone and on a desk, light and dark."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chromium
import numpy as np
import pytest
from accessibility import violations
from test_evidence import STATED
from test_report import full, picture
from test_statistics_page import contents

from tlkeras.doctor import examined, traits
from tlkeras.doctor.defects import Defect
from tlkeras.doctor.judging import Finding
from tlkeras.doctor.samples import Sample
from tlkeras.measures.measures import Bar, Bars, Curve, Example, Gallery, Mark, Matrix, Table
from tlkeras.report import report, statistics, validation
from tlkeras.report.report import Report
from tlkeras.report.views import Shown

pytestmark = pytest.mark.slow

LONG = "a name of a class that is much longer than a phone is wide, and has noplacetobreakit" * 2


@pytest.fixture(scope="module")
def tab(tmp_path_factory) -> Iterator[chromium.Page]:
    with chromium.opened(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def reported(out: Path, recorded: Path) -> None:
    """Writes a report with every view, of many colours."""
    marks = {"why": [Mark(i, i + 1, f"kind {i}", 1.0, i) for i in range(6)]}
    against = {"why not": [Mark(0, 1, "against", -0.6)]}
    views = [
        Table("Many", [LONG, "share", "count"], [[f"{LONG} {i}", i / 40, i] for i in range(40)]),
        Matrix("Confusions", [LONG, "b", "c"], [[7, 1, 0], [0, 0, 90], [0, 0, 3]]),
        Curve("Lines", "x", "y", {f"line {i}": [[0, i], [1, i + 1]] for i in range(4)}, "A note."),
        Bars("Calibration", "score", "right", [Bar(0, 0.5, 0.25, 0.3, 1)], "A note."),
        Gallery("Pictures", [Example(0, LONG, {"true": "AAAA"}), Example(1, "plain")], "A note."),
        Gallery("Texts", [Example(2, "for", marks=marks), Example(2, "against", marks=against)]),
    ]
    shown = dict.fromkeys((0, 1), Shown(LONG, picture("PNG"), "said of it"))
    texts = {2: Shown("17", "one two three four five six " * 40)}
    every: Report = full(examples={**shown, **texts}, evidence=STATED)
    assert every.measures
    measures = dataclasses.replace(every.measures, views=views)
    report.write(out, dataclasses.replace(every, measures=measures))


def stated(out: Path, recorded: Path) -> None:
    """Writes the page of the data with findings of each form."""
    ids = examined.read(traits.read(recorded)).ids
    single = [Defect(name, "train", "outlier", f"is like no {LONG}") for name in ids]
    whole = [Defect("image.height", "", "shortcut", LONG)] * 40
    left_out = [Defect(f"{LONG}.jpg", "train", "damaged", "is damaged")]
    statistics.write(out, contents(recorded, single, whole, left_out, ["Not examined: x."]))


def judged(out: Path, recorded: Path) -> None:
    """Writes the page on new data with wrong and right comparisons, and unreadable files."""
    random = np.random.default_rng(0)

    def sample(mean: float) -> Sample:
        numbers = {"image.brightness": random.normal(mean, 1, 50)}
        return Sample(50, numbers, {"label": {LONG: 20, "b": 30}}, np.zeros([0, 0], np.float16))

    found = [
        Finding("image.brightness", "ks", "0", "1", 0.4, 1e-9, 1e-8, True, "DRIFT", LONG),
        Finding("label", "chi2", "0", "1", 0.01, 0.5, 1.0, False, "", "As before."),
    ]
    validation.write(out, "new data", found, sample(0), sample(1), [f"{LONG} is damaged"])


@pytest.mark.parametrize("write", [reported, stated, judged])
def test_a_page_has_no_violation_at_any_width_and_in_any_colours(
    write: Callable[[Path, Path], None], tab, recorded, tmp_path
):
    write(tmp_path / "page.html", recorded)
    tab.open((tmp_path / "page.html").as_uri())
    assert tab.run("document.querySelectorAll('h2').length") >= 4
    assert [*violations(tab)] == []


def test_a_violation_is_found(tab, tmp_path):
    """The check itself works: of a page with each kind of fault it names them all."""
    pale, wide = "color: #999; background: #aaa", "width: 3000px"
    faults = f"<p style='{pale}'>pale</p><img src='data:,'><div style='{wide}'>wide</div>"
    (tmp_path / "page.html").write_text(f"<!doctype html><title>x</title>{faults}")
    tab.open((tmp_path / "page.html").as_uri())
    found = "\n".join(violations(tab))
    for fault in ("color-contrast", "image-alt", "html-has-lang", "wider than the window"):
        assert fault in found


def test_a_number_stands_beside_its_bar_in_a_table_of_many_columns(tab, tmp_path):
    columns = [
        "class",
        "precision",
        "recall",
        "f1",
        "95 % interval of f1",
        "average precision",
        "support",
    ]
    rows = [["complaint", 0.6591, 0.6824, 0.6705, "0.59 to 0.75", 0.7073, 85]]
    every = full()
    assert every.measures
    measures = dataclasses.replace(every.measures, views=[Table("Classes", columns, rows)])
    report.write(tmp_path / "page.html", dataclasses.replace(every, measures=measures))
    tab.open((tmp_path / "page.html").as_uri())
    tab.resize(1000)
    heights = "Array.from(document.querySelectorAll('td')).filter((x) => x.querySelector('.bar'))"
    found = tab.run(
        f"{heights}.map((x) => x.clientHeight / parseFloat(getComputedStyle(x).fontSize))"
    )
    assert len(found) >= 4 and max(found) < 3, found  # In the height of its letters.


def test_a_keyboard_reaches_what_scrolls_and_opens_what_is_folded(tab, recorded, tmp_path):
    reported(tmp_path / "page.html", recorded)
    tab.open((tmp_path / "page.html").as_uri())
    tab.resize(390)
    reached: list[Any] = []
    for _ in range(60):
        tab.press("Tab", 9)
        reached.append(tab.run("[document.activeElement].map((x) => x.tagName + x.className)[0]"))
    assert {"A", "SUMMARY", "DIVwide"} <= {*reached}
    tab.run(
        "Array.from(document.querySelectorAll('.wide'))"
        ".find((x) => x.scrollWidth > x.clientWidth && x.checkVisibility()).focus()"
    )
    for _ in range(5):
        tab.press("ArrowRight", 39)
    tab.until("document.activeElement.scrollLeft > 0", 20)
    tab.run("document.querySelector('summary').focus()")
    tab.press("Enter", 13, "\r")
    assert tab.run("document.querySelector('details').open")
