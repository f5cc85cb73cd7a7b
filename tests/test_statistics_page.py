"""The page of the data: what it shows, how much of it, and that it needs nothing else."""

from __future__ import annotations

import json
import re

import chromium
import numpy as np
import pytest

from tlkeras.data import ingest
from tlkeras.data.splits import Split
from tlkeras.doctor import duplicates, examined, traits
from tlkeras.doctor.defects import Defect
from tlkeras.report import findings, statistics
from tlkeras.sources.jsonl import JSONL


def contents(examples, single=(), whole=(), left_out=(), remarks=()):
    found = examined.read(traits.read(examples))
    groups = duplicates.read(examples)
    return findings.collected(examples, found, groups, left_out, whole, single, remarks)


def written(tmp_path, *args, **parts) -> str:
    statistics.write(tmp_path / "statistics.html", contents(*args, **parts))
    return (tmp_path / "statistics.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """Texts of two classes as examples, two of them copies of others."""
    folder = tmp_path_factory.mktemp("notes")
    words = ["sun", "rain", "wind", "snow", "fog"]
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(words, 12)) + f" {i}" for i in range(40)]
    rows = [{"text": text, "label": ["dry", "wet"][i % 2]} for i, text in enumerate(texts)]
    rows[3]["text"] = rows[2]["text"] = "<b>one & the same</b>"
    (folder / "notes.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    source = JSONL(folder / "notes.jsonl", text="text", label="label")
    ingest.write_examples(source, Split(validation=20, test=20), folder / "examples")
    return folder / "examples"


def test_pictures_have_samples_counts_and_distributions(recorded, tmp_path):
    page = written(tmp_path, recorded)
    for name in ("blue", "green", "red"):
        assert f"<h3>{name}</h3>" in page
    assert page.count("data:image/jpeg;base64,") == 18
    assert page.count('alt="blue/') == 6 and 'alt=""' not in page
    assert "Nothing odd was found." in page
    assert "share of examples by image.brightness" in page
    assert re.search(r"<caption>image.format</caption>.*?PNG", page)
    assert 'src="http' not in page and "<script" not in page


def test_texts_are_shown_as_texts_and_cannot_break_the_page(notes, tmp_path):
    page = written(tmp_path, notes)
    assert "&lt;b&gt;one &amp; the same&lt;/b&gt;" in page
    assert "<b>one" not in page and "<img" not in page
    assert "exact copies" in page
    assert "share of examples by text.words" in page


def test_findings_have_their_example_beside_them_and_the_rest_is_counted(recorded, tmp_path):
    ids = examined.read(traits.read(recorded)).ids
    many = [Defect(name, "train", "suspected label", f"is {i}th") for i, name in enumerate(ids)]
    page = written(
        tmp_path,
        recorded,
        single=[*many, Defect("a <file>", "", "unsupported format", "is no picture")],
        whole=[Defect("image.format", "", "shortcut", "alone tells 'red'")],
        left_out=[Defect("x/broken.jpg", "train", "damaged", "is damaged")],
        remarks=["Labels of <few> are not examined."],
    )
    section = page.split("Suspected label</h2>")[1].split("</section>")[0]
    assert section.count("<figure>") == statistics.MOST
    assert f"The first {statistics.MOST} of {len(ids)}." in section
    assert 'alt="is 0th (train)"' in section
    assert "<strong>image.format</strong> alone tells &#x27;red&#x27;" in page
    assert "x/broken.jpg" in page and "Labels of &lt;few&gt; are not examined." in page
    # A file that is no example has no thumbnail, but it counts.
    counts = page.split("What was found</caption>")[1].split("</table>")[0]
    assert "Unsupported format" in counts and "a &lt;file&gt;" not in page


def test_the_page_stays_small_however_many_the_findings(recorded, tmp_path):
    ids = examined.read(traits.read(recorded)).ids
    whole = [Defect(f"image.{i}", "", "shortcut", "alone tells") for i in range(100)]
    single = [Defect(name, "train", f"kind {i}", "is") for i in range(3) for name in ids]
    page = written(tmp_path, recorded, single=single, whole=whole)
    assert page.count("<img") == 18 + 3 * statistics.MOST
    assert "The other 70" in page
    assert len(page) < 2**20


def test_data_without_classes_have_samples_too(shapes, tmp_path):
    page = written(tmp_path, shapes)
    assert "data:image/" in page


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_fits_narrow_and_wide_windows_and_asks_for_nothing(recorded, tmp_path, width: int):
    ids = examined.read(traits.read(recorded)).ids
    written(
        tmp_path,
        recorded,
        single=[Defect(name, "train", "outlier", "is like no class " * 4) for name in ids],
        whole=[Defect("image.height", "", "shortcut", "alone tells 'x' " * 9)] * 40,
        left_out=[Defect(f"{'long' * 30}.jpg", "train", "damaged", "is damaged " * 6)] * 4,
    )
    with chromium.opened(tmp_path / "profile") as tab:
        tab.resize(width)
        tab.open((tmp_path / "statistics.html").as_uri())
        assert tab.run("document.documentElement.scrollWidth <= innerWidth")
        asked = [each["request"]["url"] for each in tab.told("Network.requestWillBeSent")]
        assert len([url for url in asked if not url.startswith("data:")]) == 1
        assert not tab.told("Log.entryAdded")
        assert tab.run("[...document.images].every(x => x.complete && x.naturalWidth && x.alt)")
        # A keyboard opens what is folded away.
        tab.run("document.querySelector('summary').focus()")
        tab.press("Enter", 13, "\r")
        assert tab.run("document.querySelector('details').open")
