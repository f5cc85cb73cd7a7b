"""Texts of charts: none is cut at an edge, none covers another one."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import pytest
from PIL import ImageFont

from tlkeras.measures.measures import Bar, Bars, Curve
from tlkeras.report import charts, lettering

LONG = [
    "this model, loss threshold",
    "this model, likelihood ratio",
    "a plain head, loss threshold",
    "a plain head, likelihood ratio",
    "chance",
]
WIDE = ["WWWWWWWW MMMM", "人口普查类别的名称", "a_name_without_a_space_" * 6, "x", "y"]
FONT = ImageFont.load_default(12)
RATE = "true positive rate, power of 10"
POINTS = [[0.00012345, 3e-7], [123456.0, 9e-7]]


def lines(names: list[str], y: str = RATE) -> str:
    series = {name: POINTS for name in names}
    return charts.lines(Curve("Membership", "false positive rate, power of 10", y, series))


def epochs(title: str) -> str:
    points = [[(float(epoch), 1e-7 * epoch) for epoch in range(1, 41)], [(41.0, 1e-7)]]
    series = {"train": points, "validation": points}
    return charts.curves(title, series, {40.5: "phase 2"})


CHARTS = {
    "short": lines(["train", "validation"], "loss"),
    "long": lines(LONG),
    "wide": lines(WIDE, " ".join(WIDE)),
    "epochs": epochs("loss"),
    "epochs with a long title": epochs(" ".join(LONG)),
    "ranges": charts.ranges(Bars("Calibration", "confidence", RATE, [Bar(0.0, 1.0, 0.5, 0.5, 1)])),
    "bars": charts.bars(RATE * 3, {name: dict.fromkeys(LONG[:3], 1.2345e-7) for name in WIDE}),
}


def texts(svg: str) -> list[tuple[float, float, float, str]]:
    """Returns left, right and y of every text as Pillow's font draws it, and the text."""
    found = []
    for each in ElementTree.fromstring(str(svg)).iter("text"):
        wide = FONT.getlength(each.text or "") * (13 / 12 * 1.05 if each.get("class") else 1)
        share = {"middle": 0.5, "end": 1.0}.get(each.get("text-anchor", ""), 0.0)
        left = float(each.attrib["x"]) - share * wide
        found.append((left, left + wide, float(each.attrib["y"]), each.text or ""))
    return found


@pytest.mark.parametrize("name", CHARTS)
def test_no_text_of_a_chart_lies_outside_of_it(name):
    view = ElementTree.fromstring(str(CHARTS[name])).attrib["viewBox"]
    left, top, width, height = map(float, view.split())
    assert len(texts(CHARTS[name])) > 5
    for start, end, y, text in texts(CHARTS[name]):
        assert left <= start and end <= left + width, text
        assert top + 9 <= y <= top + height - 2, text


@pytest.mark.parametrize("name", CHARTS)
def test_no_text_above_a_plot_covers_another(name):
    above = sorted((y, start, end) for start, end, y, _ in texts(CHARTS[name]) if y <= 38)
    assert above
    for (y, _, end), (below, start, _) in itertools.pairwise(above):
        assert below - y >= 14 or (below == y and end < start)


def test_no_curve_runs_through_the_name_of_a_phase():
    svg = charts.curves("loss", {"train": [[(1.0, 20.0), (2.0, 5.0)]]}, {0.5: "phase 1"})
    (name,) = [y for *_, y, text in texts(svg) if text == "phase 1"]
    grid = ElementTree.fromstring(str(svg)).iterfind("line[@class='grid']")
    assert name < min(float(line.attrib["y1"]) for line in grid)


def test_a_legend_of_few_names_takes_one_row_and_long_ones_are_all_there():
    assert 'viewBox="0 0 480 260"' in CHARTS["short"]
    shown = [text for *_, text in texts(CHARTS["long"])]
    assert all(name in shown for name in LONG[:4])  # Four lines have a colour.
    assert 'viewBox="0 -' in CHARTS["long"]


@pytest.mark.parametrize(
    ("text", "room", "expected"),
    [("short", 100, "short"), ("abcdefghij", 50, "abcde…"), ("ab cdefghij", 32, "ab…")],
)
def test_what_does_not_fit_ends_in_an_ellipsis(text, room, expected):
    assert lettering.shortened(text, room) == expected
    assert lettering.width(expected) <= room


def test_a_text_is_broken_between_words():
    assert lettering.wrapped("one two three four", 60) == ["one two", "three", "four"]
    assert [*lettering.rows([5.0, 5.0, 9.0, 30.0, 1.0], 10.0)] == [[0, 1], [2], [3], [4]]
