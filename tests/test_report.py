"""The report: what is on the page, that it is escaped, and that it needs nothing else."""

from __future__ import annotations

import dataclasses
import html.parser
import io
import itertools
import re
import xml.etree.ElementTree
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlkeras.measures.classification import ClassificationTally
from tlkeras.measures.measures import (
    Bar,
    Bars,
    Curve,
    Example,
    Gallery,
    Mark,
    Matrix,
    Measures,
    Scalar,
    Table,
)
from tlkeras.report import charts, page, report, views
from tlkeras.report.report import Report
from tlkeras.report.views import Shown

HOSTILE = "<script>alert('&')</script>\"|\x1b\udcff"
NAMES = [HOSTILE, "rose", "tulip"]


class Page(html.parser.HTMLParser):
    """The elements of a page; complains about one that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if "style" not in self.open:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def tallied(labels: Any, probabilities: Any, names: Sequence[str]) -> Measures:
    tally = ClassificationTally(names)
    tally.add(np.eye(len(names))[labels], {"probabilities": probabilities}, 0)
    return dataclasses.replace(tally.measures(), split="test")


def measured(names: Sequence[str], seed: int = 0) -> Measures:
    random = np.random.default_rng(seed)
    labels = random.integers(len(names), size=200)
    probabilities = random.dirichlet(np.ones(len(names)), 200) + 0.4 * np.eye(len(names))[labels]
    return tallied(labels, probabilities / 1.4, names)


def with_view(view: Any) -> Report:
    return Report(title="x", measures=Measures("accuracy", 9, {"accuracy": Scalar(0.5)}, [view]))


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 30, 30)).save(buffer, kind)
    return buffer.getvalue()


def full(**changes: Any) -> Report:
    parts: dict[str, Any] = {
        "title": f"flowers {HOSTILE}",
        "measures": measured(NAMES),
        "blessing": {
            "blessed": False,
            "reasons": ["accuracy 0.7 is below the lower bound 0.9"],
            "primary": "accuracy",
            "value": 0.7,
            "lower_bound": 0.9,
            "upper_bound": None,
            "baseline": "saved_models/flowers/1",
            "baseline_value": 0.65,
        },
        "logs": [
            {"phase": 0, "epoch": 0, "loss": 2.0, "val_loss": 1.5, "seconds": 1.0},
            {"phase": 0, "epoch": 1, "loss": 1.0, "val_loss": float("nan"), "seconds": 1.0},
            {"phase": 1, "epoch": 5, "loss": 0.5, "val_loss": 0.75, "seconds": 1.0},
        ],
        "exports": [
            {"export": HOSTILE, "files": ["model.tflite"], "bytes": 1234567, "difference": 2e-7},
            {"export": "saved_model", "files": ["saved_model"], "bytes": 89, "p50_ms": 1.5},
            {"export": "onnx", "files": ["model.onnx"], "bytes": 9, "reasons": ["is too weak"]},
        ],
        "examples": dict.fromkeys(range(200), Shown(HOSTILE, picture("PNG")))
        | dict.fromkeys(range(100, 200), Shown("17.jpg", picture("JPEG"))),
        "data": {
            "classes": NAMES,
            "counts": {"train": 60, "test": 30},
            "class_counts": {"train": [10, 20, 30], "test": [10, 10, 10]},
            "split": "split(test=33.0)",
        },
        "command": f"python -m pipeline --name={HOSTILE}",
        "lineage": [
            {"step": "examples", "digest": "00"},
            {"step": "model", "key": "ab" * 32, "seconds": 12.34, "git": "0123abc"},
        ],
    }
    return Report(**{**parts, **changes})


def written(contents: Report, folder: Path) -> Page:
    out = folder / "report.html"
    report.write(out, contents)
    return Page(out.read_text(encoding="utf-8"))


def test_every_part_has_a_section(tmp_path):
    page = written(full(), tmp_path)
    assert page.headings == [
        "Results",
        "Learning curves",
        "Confusions",
        "Most confused classes",
        "Classes",
        "Precision and recall",
        "Calibration",
        "Mistakes",
        "Most doubtful",
        "Most certain",
        "Exports",
        "Data",
        "Configuration",
        "Lineage",
    ]
    for text in (
        "Not blessed.",
        "Accuracy is 0.7000, lower bound 0.9000.",
        "less is better",
        "accuracy 0.7 is below the lower bound 0.9",
        "has 0.6500 on the same examples",
        "Measured on 200 examples of the test split.",
        "1,234,567",
        "2.0e-07",
        "onnx is unfit: it is too weak.",
        "abababababab",
        "12.3",
    ):
        assert text in page.text


@pytest.mark.parametrize(
    ("part", "heading"),
    [
        ("logs", "Learning curves"),
        ("exports", "Exports"),
        ("data", "Data"),
        ("command", "Configuration"),
        ("lineage", "Lineage"),
    ],
)
def test_a_part_without_content_is_left_out(part, heading, tmp_path):
    nothing = getattr(Report(title=""), part)
    headings = written(full(**{part: nothing}), tmp_path).headings
    assert heading not in headings
    assert len(headings) == 13


def test_the_dozens_of_operations_of_an_export_stand_below_the_table_of_measures(tmp_path):
    operations = {f"OPERATION_{number}": number for number in range(1, 30)}
    exports = [{"export": "tflite", "bytes": 5, "files": ["a", "b"], "operations": operations}]
    written(Report(title="", exports=exports), tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    measured, _, below = html.partition("<details")
    assert "a, b" in measured and "OPERATION_7" not in measured
    assert "7 OPERATION_7" in below


def test_a_report_of_nothing_is_a_title(tmp_path):
    page = written(Report(title="empty"), tmp_path)
    assert page.headings == []
    assert "empty" in page.text


def test_the_measures_of_any_task_make_headlines(tmp_path):
    scalars = {"perplexity": Scalar(7.5, (7.0, 8.0), more_is_better=False), "rare": Scalar(2e-6)}
    measures = Measures("rare", 400, scalars, remarks=["It is weak."], split="validation")
    page = written(Report(title="texts", measures=measures), tmp_path)
    assert page.headings == ["Results"]
    for text in ("Perplexity", "7.5000", "95 % interval 7.0000 to 8.0000, less is better"):
        assert text in page.text
    assert page.text.index("Rare") < page.text.index("Perplexity")  # The primary one is first.
    assert "2.0e-06" in page.text
    assert "It is weak." in page.text
    assert "There is no test split" in page.text


def test_a_bound_from_above_is_in_the_verdict(tmp_path):
    blessing = {"blessed": True, "primary": "perplexity", "value": 7.5, "upper_bound": 9.0}
    page = written(Report(title="x", blessing=blessing), tmp_path)
    assert "Blessed. Perplexity is 7.5000, upper bound 9.0000." in page.text


def test_every_view_is_drawn(tmp_path):
    for view, text in [
        (Table("A view", ["word", "count"], [["haus", 3]], "A note."), "A note."),
        (Table("A view", ["word", "count"], [], "There are none."), "There are none."),
        (Matrix("A view", ["a", "b"], [[7, 1], [2, 9]], "A note."), "A note."),
        (Curve("A view", "recall", "precision", {"a": [[0, 1], [1, 0.5]]}, "A note."), "A note."),
        (Bars("A view", "score", "accuracy", [Bar(0, 0.5, 0.25, 0.3, 1)], "A note."), "A note."),
        (Gallery("A view", [Example(3, "a taken for b")], "A note."), "a taken for b"),
    ]:
        page = written(with_view(view), tmp_path)
        assert page.headings == ["Results", "A view"]
        assert text in page.text
    assert set(views._DRAWN) == {Table, Matrix, Curve, Bars, Gallery}


@pytest.mark.parametrize(
    "view",
    [
        Table("A view", ["word"], []),
        Matrix("A view", [f"{i}" for i in range(25)], np.eye(25, dtype=int).tolist()),
        Curve("A view", "x", "y", {"a": []}),
        Bars("A view", "x", "y", []),
        Gallery("A view", []),
    ],
    ids=lambda view: type(view).__name__,
)
def test_a_view_without_content_is_left_out(view, tmp_path):
    assert written(with_view(view), tmp_path).headings == ["Results"]


def test_views_of_one_title_share_a_section(tmp_path):
    tables = [Table("Words", ["word"], [[word]]) for word in ("haus", "baum")]
    measures = Measures("accuracy", 9, {"accuracy": Scalar(0.5)}, tables)
    page = written(Report(title="x", measures=measures), tmp_path)
    assert page.headings == ["Results", "Words"]
    assert len(page.named("table")) == 2


def test_a_column_of_shares_has_bars_and_another_has_none(tmp_path):
    rows = [["a", 0.5, 0.5, 3], ["b", 1.5, None, 1]]
    page = written(with_view(Table("Words", ["word", "error", "share", "n"], rows)), tmp_path)
    bars = [span for span in page.named("span") if span.get("class") == "bar"]
    assert [bar["style"] for bar in bars] == ["--share:0.500"]


def test_an_overlay_lies_on_a_picture_of_its_own(tmp_path):
    overlays = {"true": "AAAA", "predicted": "BBBB"}
    gallery = Gallery("Masks", [Example(3, "a mask", overlays), Example(4, "another")])
    shown = dict.fromkeys((3, 4), Shown("17.jpg", picture("JPEG")))
    report.write(tmp_path / "report.html", dataclasses.replace(with_view(gallery), examples=shown))
    read = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    names = [(image["alt"], str(image["src"])[:15]) for image in read.named("img")]
    assert names == [
        ("a mask", "data:image/jpeg"),
        ("true", "data:image/png;"),
        ("a mask", "data:image/jpeg"),
        ("predicted", "data:image/png;"),
        ("another", "data:image/jpeg"),
    ]
    assert {"class": "gallery pairs"} in read.named("div")


def test_marked_words_are_in_marks_with_what_is_said_of_them(tmp_path):
    text = "Ada  Lovelace <b>met</b>\nBabbage in London"
    marks = {
        "true": [Mark(0, 2, "PER"), Mark(3, 4, "PER"), Mark(5, 6, "LOC", 1.0, 1)],
        "predicted": [Mark(2, 3, "-0.25", -0.25), Mark(5, 9, "beyond the end")],
    }
    gallery = Gallery("Mistakes", [Example(3, "two of three", marks=marks)])
    contents = dataclasses.replace(with_view(gallery), examples={3: Shown("17", text)})
    report.write(tmp_path / "report.html", contents)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    found = re.findall(r'<mark class="(.*?)" style="--share:(.*?)">(.*?)<small>(.*?)</small>', html)
    assert found == [
        ("kind0", "1.000", "Ada  Lovelace", "PER"),
        ("kind0", "1.000", "Babbage", "PER"),
        ("kind1", "1.000", "London", "LOC"),
        ("against", "0.250", "&lt;b&gt;met&lt;/b&gt;", "-0.25"),
    ]
    quotes = re.findall(r"<blockquote.*?>(.*?)</blockquote>", html, re.DOTALL)
    plain = [re.sub(r"<small>.*?</small>|<.*?>", "", quote) for quote in quotes]
    assert [unescape(quote) for quote in plain] == [text, text]


def test_a_text_in_a_gallery_is_a_text(tmp_path):
    gallery = Gallery("Mistakes", [Example(3, "bad taken for good")])
    contents = dataclasses.replace(with_view(gallery), examples={3: Shown("17", HOSTILE)})
    page = written(contents, tmp_path)
    assert [quote["dir"] for quote in page.named("blockquote")] == ["auto"]
    assert "<script>alert('&')</script>" in page.text and not page.named("img")


def test_what_users_name_is_shown_and_never_run(tmp_path):
    page = written(full(), tmp_path)
    assert "script" not in {tag for tag, _ in page.elements}
    assert "<script>alert('&')</script>\"|" in page.text
    assert "\x1b" not in page.text  # Neither what a terminal would obey nor what UTF-8 cannot hold.
    handlers = [name for _, attributes in page.elements for name in attributes if name[:2] == "on"]
    assert not handlers


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    page = written(full(), tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(str(image["src"]).startswith("data:image/") for image in page.named("img"))
    assert all(str(link["href"]).startswith("#") for link in page.named("a"))
    assert "://" not in text and "@import" not in text and "url(" not in text
    policy = page.named("meta")[1]
    assert str(policy["content"]).startswith("default-src 'none'")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_pictures_charts_and_tables_can_be_read_aloud(tmp_path):
    page = written(full(), tmp_path)
    assert all(image["alt"] for image in page.named("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.named("svg"))
    assert all(head["scope"] in ("col", "row") for head in page.named("th"))
    assert len(page.named("caption")) == len(page.named("table"))
    assert page.named("html")[0]["lang"] == "en"
    loss = str(page.named("svg")[0]["aria-label"])
    assert "train: 2.0000 at first, 0.5000 at last" in loss
    assert "validation: 1.5000 at first, 0.7500 at last" in loss  # What is not finite is no point.


def test_pictures_are_in_the_page_as_they_came(tmp_path):
    page = written(full(), tmp_path)
    assert {str(image["src"])[:23] for image in page.named("img")} == {
        "data:image/png;base64,i",
        "data:image/jpeg;base64,",
    }
    other = dict.fromkeys(range(200), Shown("17", b"GIF89a"))
    with pytest.raises(ValueError, match="'17' begins with b'GIF89a', expected a PNG or JPEG"):
        written(full(examples=other), tmp_path)


def test_phases_are_marked_and_not_joined_by_a_line(tmp_path):
    page = written(full(), tmp_path)
    assert "phase 1" in page.text and "phase 2" in page.text
    lines = [line for line in page.named("polyline") if line["class"] == "curve train"]
    assert [len(str(line["points"]).split()) for line in lines] == [2, 1]
    alone = written(full(logs=full().logs[:2]), tmp_path)
    assert "phase 2" not in alone.text


@pytest.mark.parametrize(
    ("labels", "sure", "sentence"),
    [([0, 0, 0, 1], 0.95, "overconfident by 20.0"), ([0] * 4, 0.6, "underconfident by 40.0")],
)
def test_confidence_and_confusions_are_drawn_the_right_way_round(labels, sure, sentence, tmp_path):
    measures = tallied(labels, np.tile([sure, 1 - sure], (4, 1)), ["a", "b"])
    assert sentence in written(Report(title="x", measures=measures), tmp_path).text
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    (mark,) = re.findall(r'<line[^>]*class="mark"[^>]*>', text)
    (first, second) = re.findall(r' y[12]="([\d.]+)"', mark)
    assert first == second
    wrong = labels.count(1)
    assert re.findall(r'<td class="(\w+)" style="[^"]*">(\d+)</td>', text) == [
        ("right", f"{4 - wrong}"),
        ("none", "0"),
        ("wrong" if wrong else "none", f"{wrong}"),
        ("none", "0"),
    ]


def test_many_classes_are_listed_by_weakness_and_drawn_no_more(tmp_path):
    names = [f"class {i}" for i in range(40)]
    counts = {"counts": {"train": 80}, "class_counts": {"train": [2] * 40}, "classes": names}
    page = written(Report(title="many", measures=measured(names), data=counts), tmp_path)
    assert not [table for table in page.named("table") if table.get("class")]
    assert "15 of 40 rows, those with the smallest f1" in page.text
    assert "largest class" in page.text
    text = (tmp_path / "report.html").read_text(encoding="utf-8").split("15 of 40 rows", 1)[1]
    listed = re.findall(r'<th scope="row">(class \d+)</th>', text)[:15]
    (table,) = (view for view in measured(names).views if view.title == "Classes")
    assert isinstance(table, Table)
    f1 = {row[0]: row[3] for row in table.rows if row[-1]}
    assert [f1[name] for name in listed] == sorted(f1.values())[:15]
    few = written(Report(title="few", measures=measured(names[:20])), tmp_path)
    assert [table["class"] for table in few.named("table") if table.get("class")] == ["heat tall"]


def test_a_model_without_mistakes_has_no_confusions(tmp_path):
    page = written(Report(title="right", measures=tallied([0, 1], np.eye(2), "ab")), tmp_path)
    assert "The model confuses no classes: every prediction is right." in page.text
    assert "Mistakes" not in page.headings


@pytest.mark.parametrize(
    "values", [[0.5], [0.0, 0.0], [1e-9, 2e-9], [3e8, -3e8], [0.1, 0.2, 0.30000000001]]
)
def test_any_values_lie_within_their_chart(values):
    points = [(float(epoch), value) for epoch, value in enumerate(values, start=1)]
    drawn = Page(charts.curves("loss", {"train": [points]}, {}))
    [line] = drawn.named("polyline")
    for x, y in (pair.split(",") for pair in str(line["points"]).split()):
        assert 52 <= float(x) <= 466
        assert 44 <= float(y) <= 224
    assert 2 <= sum(line["class"] == "grid" for line in drawn.named("line")) <= 10


def test_lines_of_a_curve_lie_within_their_chart_and_the_first_four_have_a_colour():
    series = {f"line {i}": [[0.0, i / 5], [0.5, 1.0]] for i in range(6)}
    drawn = Page(charts.lines(Curve("Curves", "recall", "precision", series)))
    found = [str(line["class"]) for line in drawn.named("polyline")]
    assert found == [
        f"curve {name}" for name in ("rest", "rest", "fourth", "third", "second", "first")
    ]
    for line in drawn.named("polyline"):
        for x, y in (pair.split(",") for pair in str(line["points"]).split()):
            assert 52 <= float(x) <= 466
            assert 44 <= float(y) <= 224
    assert "line 0: 0.0000 at first, 1.0000 at last" in str(drawn.named("svg")[0]["aria-label"])


def test_the_four_lines_with_a_colour_are_told_apart_by_it():
    sheet = Path(charts.__file__).with_name("charts.css").read_text(encoding="utf-8")
    lines = re.findall(r"svg \.(first|second|third|fourth) { stroke: .*?(--\w+)", sheet)
    assert len(lines) == 4
    light, dark = sheet.split("@media")
    for theme in (light, dark.split("svg", 1)[0]):
        given = dict(re.findall(r"(--\w+): (#\w+|[\d ]+)", theme))
        found = [given[name] for _, name in lines]
        colours = [
            [*bytes.fromhex(each[1:])] if each[0] == "#" else [*map(int, each.split())]
            for each in found
        ]
        for one, other in itertools.combinations(colours, 2):
            assert np.linalg.norm(np.subtract(one, other)) > 75, (one, other)


def test_a_line_of_one_point_lies_within_its_chart():
    drawn = Page(charts.lines(Curve("Curves", "recall", "precision", {"a": [[1.0, 0.5]]})))
    [line] = drawn.named("polyline")
    x, y = map(float, str(line["points"]).split(","))
    assert 52 < x < 466 and 44 < y < 224


def test_bars_are_as_wide_as_their_numbers_and_described_in_words():
    svg = charts.bars("seconds", {"small": {"ours": 5.0, "theirs": 20.0}, "large": {"ours": 10.0}})
    drawn = Page(svg)
    legend, bars = drawn.named("rect")[:2], drawn.named("rect")[2:]
    widths = [float(str(bar["width"])) for bar in bars]
    assert widths == pytest.approx([widths[1] / 4, widths[1], widths[1] / 2], abs=0.1)
    assert [bar["class"] for bar in bars] == ["share", "count", "share"]
    assert [each["class"] for each in legend] == ["share", "count"]
    assert "small: ours 5, theirs 20; large: ours 10." in drawn.text


def test_a_chart_is_a_picture_file_of_its_own():
    file = page.picture(charts.bars("seconds", {"a": {"ours": 1.0}}))
    root = xml.etree.ElementTree.fromstring(file)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.find("{*}style") is not None
