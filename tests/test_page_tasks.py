"""The try page of every task, in a real browser: what it shows is what Python gives."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import numpy as np
import pytest
from accessibility import violations
from conftest import export
from PIL import Image

from tlkeras.backbone import Backbone
from tlkeras.backbones.starter import Starter
from tlkeras.backbones.starter_text import StarterText
from tlkeras.boxes import geometry
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.exporters.browser import Browser
from tlkeras.frameworks import tf
from tlkeras.measures.entities import Scheme
from tlkeras.measures.tagging import tags_of
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.sources.embedded import Embedded
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.detection import Detection
from tlkeras.tasks.multilabel import Multilabel
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.tasks.tagging import Tagging
from tlkeras.training.schedule import Phase

pytestmark = pytest.mark.slow

SHAPES = Embedded(data="shapes", count=60, size=96)

NOTES = [
    "Maria Olsen met Peter Brandt in New York on Tuesday.",
    "Where is the lamp that I bought in Port Elena?\nIt is broken, and I'm angry!",
    "Ein Café\u00a0für 日本 😀 <img src=x onerror=window.harmed=1>",
    "word " * 100,
]


@dataclasses.dataclass(frozen=True)
class Case:
    """One task, and what it is fitted with."""

    backbone: Backbone
    task: Task
    source: Embedded
    epochs: int


def notes(target: Any) -> Embedded:
    return Embedded(data="notes", count=120, target=target)


CASES = {
    "classes": Case(StarterText(length=64), Classification(), notes("label"), 5),
    "pairs": Case(StarterText(length=64, input="pair"), Classification(), notes("pair"), 2),
    "labels": Case(StarterText(length=64), Multilabel(), notes("labels"), 5),
    "number": Case(StarterText(length=64), Regression(), notes("label"), 2),
    "tags": Case(StarterText(length=64, input="words"), Tagging(), notes("tags"), 8),
    "mask": Case(Starter(size=96), Segmentation(width=32), SHAPES, 15),
    "boxes": Case(Starter(size=96), Detection(width=32), SHAPES, 25),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def origin(place) -> Iterator[str]:
    with chromium.served(place) as address:
        yield address


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[chromium.Page]:
    with chromium.opened(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def fitted(place) -> dict[str, TransferModel]:
    """The models that were fitted and exported up to now."""
    return {}


@pytest.fixture
def tried(page, origin, place, fitted):
    """Opens the page of a case, fitted and exported once; returns its model."""

    def opened(name: str) -> TransferModel:
        case = CASES[name]
        if name not in fitted:
            examples, out = place / f"{name}-examples", place / name
            ingest.write_examples(case.source, Split(validation=10, test=10), examples)
            data = Data(examples, case.backbone, case.task, batch_size=16)
            model = TransferModel(case.backbone, case.task, data.classes)
            phases = (Phase(epochs=case.epochs, learning_rate=3e-3),)
            FineTune(phases=phases).fit(model, data, place / f"{name}-fit")
            out.mkdir()
            export(Browser(), model, None, out)
            fitted[name] = model
        page.resize(1100, 1600)
        page.open(f"{origin}/{name}/try/")
        page.until("!document.querySelector('#input').disabled")
        return fitted[name]

    return opened


def served(model: TransferModel, example: dict[str, Any]) -> dict[str, Any]:
    """Returns what the Keras model gives for one raw example, as NumPy arrays."""
    kinds = model.backbone.raw()
    given = {key: kinds[key].given(value) for key, value in example.items()}
    inputs = tf.nest.map_structure(lambda each: each[None], model.backbone.preprocess(given))
    return {name: np.asarray(each)[0] for name, each in model.served(inputs).items()}


def typed(page: chromium.Page, texts: tuple[str, ...]) -> str:
    """Types texts and returns the sentence of the answer."""
    page.run("document.querySelector('#status').textContent = ''")
    for field, text in zip(("#text", "#pair"), texts, strict=False):
        page.type(field, text)
    said = "document.querySelector('#status').textContent"
    return page.until(f"{said} !== 'Type a text.' && {said}")


def rows(page: chromium.Page) -> dict[str, float]:
    found = page.run(
        "Array.from(document.querySelectorAll('#results li'), "
        "(row) => [row.children[0].textContent, Number(row.children[1].value)])"
    )
    return dict(found)


def chosen(page: chromium.Page, picture: Path) -> str:
    """Gives a picture and returns the sentence of the answer."""
    page.run("document.querySelector('#status').textContent = ''")
    page.choose("#file", picture)
    text = "document.querySelector('#status').textContent"
    return page.until(f"{text} !== 'Looking…' && {text}")


def write_later(path: Path, text: str) -> None:
    """Writes a file again, two seconds later by its date: a server tells no shorter spans apart."""
    date = path.stat().st_mtime + 2
    path.write_text(text, encoding="utf-8")
    os.utime(path, (date, date))


def pictures(folder: Path) -> list[Path]:
    """Returns files of shapes, as large as none of those of the training, and not square."""
    paths = []
    source = Embedded(data="shapes", count=6, size=250)
    for number, (_, example) in enumerate(source.examples()):
        (folder / "shape.jpg").write_bytes(example["image"])
        with Image.open(folder / "shape.jpg") as picture:
            paths.append(folder / f"{number}.png")
            picture.resize((320, 250 - 20 * number)).save(paths[-1])
    return paths


@pytest.mark.parametrize("name", ["classes", "pairs", "labels"])
def test_a_typed_text_has_the_probabilities_that_python_gives(name, tried, page):
    model = tried(name)
    keys = list(model.backbone.raw())
    best = set()
    for text in NOTES:
        texts = (text, NOTES[0])[: len(keys)]
        sentence = typed(page, texts)
        scores = served(model, dict(zip(keys, texts, strict=True)))["probabilities"]
        expected = dict(zip(model.classes, scores.tolist(), strict=True))
        assert rows(page) == pytest.approx(expected, abs=1e-3)
        order = sorted(expected, key=lambda each: -expected[each])
        assert [*rows(page)] == order
        held = [label for label in order if expected[label] >= 0.5]
        labels = f"Labels: {', '.join(held)}." if held else "No label."
        assert (sentence == labels) if name == "labels" else (f"likely {order[0]}," in sentence)
        best.add(sentence)
    assert len(best) > 1
    read = re.search(
        r"reads (\d+) of (\d+) pieces", page.run("document.querySelector('#count').textContent")
    )
    assert read and int(read[1]) == 63 - len(keys) < 100 <= int(read[2])
    assert page.run("typeof window.harmed") == "undefined"


def test_the_answer_follows_the_keys_and_goes_with_the_text(tried, page):
    model = tried("classes")
    page.run("document.querySelector('#text').focus()")
    for key in "Why is it late?":
        page.call("Input.insertText", text=key)
    page.until("document.querySelector('#count').textContent === '5 of at most 62 pieces.'")
    scores = served(model, {"text": "Why is it late?"})["probabilities"]
    expected = dict(zip(model.classes, scores.tolist(), strict=True))
    assert rows(page) == pytest.approx(expected, abs=1e-3)
    page.run("document.querySelector('#text').select()")
    page.press("Backspace", 8)
    page.until("document.querySelector('#answer').hidden")
    assert page.run("document.querySelector('#status').textContent") == "Type a text."


def test_words_are_marked_by_what_the_class_loses_without_them(tried, page):
    model = tried("classes")
    text = "Why is  the Rivo\nlate, Uma?"
    typed(page, (text,))
    page.run("document.querySelector('#why').click()")
    page.until("!document.querySelector('#rests').hidden")
    scores = served(model, {"text": text})["probabilities"]
    best, expected = int(scores.argmax()), {}
    for word in text.split():
        left = served(model, {"text": text.replace(word, "")})["probabilities"]
        expected[word] = float(scores[best] - left[best])
    marks = page.run(
        "Object.fromEntries(Array.from(document.querySelectorAll('#words mark'), "
        "({ firstChild, lastChild }) => [firstChild.textContent, "
        "Number(lastChild.textContent.replace('\\u2212', '-'))]))"
    )
    sure = {word for word, weight in expected.items() if abs(weight) > 0.021}
    assert sure <= {*marks} <= {*expected}
    assert marks == pytest.approx({word: expected[word] for word in marks}, abs=6e-3)
    assert page.run("document.querySelector('#status').textContent") == (
        f"{len(marks)} of 6 words matter for {model.classes[best]}."
    )


def test_an_answer_that_is_not_sure_enough_is_unknown(tried, page, place, origin):
    tried("classes")
    file = place / "classes" / "try" / "model.json"
    before = file.read_text(encoding="utf-8")
    about = json.loads(before)
    assert about["output"]["abstains_below"] is None
    about["output"]["abstains_below"] = 0.99999
    try:
        write_later(file, json.dumps(about))
        page.open(f"{origin}/classes/try/")
        page.until("!document.querySelector('#input').disabled")
        sentence = typed(page, (NOTES[1],))
    finally:
        write_later(file, before)
    (first, *_) = rows(page)
    assert sentence.startswith(f"Unknown: the most likely, {first}, ")
    assert sentence.endswith("is below 100.0%.")


def test_a_number_is_the_one_that_python_gives(tried, page):
    model = tried("number")
    for text in NOTES[:2]:
        (found,) = re.findall(r"The number is (\S+)\.$", typed(page, (text,)))
        expected = served(model, {"text": text})["number"][0]
        assert float(found.replace(",", "")) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert "class" not in page.run("document.querySelector('#facts').textContent")
    shown = page.run(
        "import('./number.js').then(({ open }) => ["
        "312457, 0.1, -1.234567].map((each) => open({ output: { names: { vector: 'number' } } })("
        "{ number: Float32Array.of(each) })))"
    )
    assert shown == [f"The number is {number}." for number in ("312,457", "0.1", "-1.234567")]


def test_words_have_the_tags_that_python_gives(tried, page):
    model = tried("tags")
    found: set[str] = set()
    for text in NOTES:
        typed(page, (text,))
        shown = page.run(
            "Array.from(document.querySelectorAll('#words > span'), "
            "(each) => [each.firstChild.textContent, each.dataset.tag])"
        )
        words = tf.strings.split(text).numpy().tolist()
        scores = served(model, {"words": [word.decode() for word in words]})["probabilities"]
        scheme = Scheme(model.classes)
        numbers = tags_of(np.asarray(scores)[None], scheme)[0, : len(words)]
        tags = ["" if number < 0 else model.classes[number] for number in numbers]
        tags += [""] * (len(words) - len(tags))
        assert shown == [[word.decode(), tag] for word, tag in zip(words, tags, strict=True)]
        found |= {*tags}
    assert len(found) > 2 and "" in found  # The last text is cut.
    assert page.run("document.querySelectorAll('#words img').length") == 0


@pytest.mark.parametrize("letters", ["BI", "BIES", "BMES", "BILU"])
def test_the_page_allows_the_tags_that_python_allows(tried, page, letters):
    tried("tags")
    classes = [f"{letter}-{kind}" for kind in ("place", "item") for letter in letters] + ["O"]
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(len(classes), 0.3), (200, 9)).astype("float32")
    probabilities *= (random.random((200, 9)) < 0.9)[..., None]
    rows = [[row if sum(row) else None for row in each] for each in probabilities.tolist()]
    found = page.run(
        f"import('./scheme.js').then(({{ tagger }}) => {json.dumps(rows)}.map("
        f"tagger({json.dumps(classes)})))"
    )
    tags = tags_of(probabilities, Scheme(classes))
    assert found == [[[*classes, ""][number] for number in each] for each in tags.tolist()]


def test_the_words_of_an_entity_have_one_colour_whatever_the_scheme(tried, page):
    tried("tags")
    classes = ["B-place", "M-place", "E-place", "O", "S-place", "U-item", "L-item", "I-item", "B-"]
    shown = page.run(
        f"import('./tokens.js').then(({{ open }}) => {{ const classes = {json.dumps(classes)}; "
        "const shape = [1, classes.length, classes.length]; "
        "const scores = Float32Array.from({ length: classes.length ** 2 }, (_, place) => "
        "Number(place % (classes.length + 1) === 0)); "
        "const output = { names: { tokens: 'tags' }, shape }; "
        "open({ classes, output }, { tags: scores })({ tags: scores }, { words: classes }); "
        "return Array.from(document.querySelectorAll('#words > span'), "
        "(each) => each.style.getPropertyValue('--colour')) })"
    )
    colours = page.run(
        "import('./colours.js').then(({ colour }) => [0, 1, 2].map((at) => colour(at).code))"
    )
    assert shown == [[*colours, ""][place] for place in Scheme(classes).type_of]


def test_the_mask_has_the_pixels_that_python_gives(tried, page, tmp_path):
    model = tried("mask")
    names = ["background", *model.classes]
    found: set[str] = set()
    for picture in pictures(tmp_path):
        sentence = chosen(page, picture)
        pixels = page.run(
            "import('./colours.js').then(({ colour }) => { "
            "const canvas = document.querySelector('#layer canvas'); "
            "const { width, height } = canvas; "
            "const { data } = canvas.getContext('2d').getImageData(0, 0, width, height); "
            f"const codes = Array.from({{ length: {len(model.classes)} }}, (_, c) => "
            "colour(c).parts); return [width, height, Array.from({ length: width * height }, "
            "(_, i) => data[4 * i + 3] ? 1 + codes.findIndex((code) => code.every("
            "(part, k) => Math.abs(part - data[4 * i + k]) < 4)) : 0)]; })"
        )
        width, height, shown = pixels
        mask = served(model, {"image": picture})["mask"]
        expected = np.asarray(tf.image.resize(mask, [height, width])).argmax(-1)
        with Image.open(picture) as opened:
            assert (width, height) == opened.size
        assert np.mean(np.reshape(shown, [height, width]) == expected) >= 0.995
        shares = np.bincount(expected.ravel(), minlength=len(names)) / expected.size
        legend = {label.split(" ")[0]: share for label, share in rows(page).items()}
        assert legend == pytest.approx(
            {names[c]: shares[c] for c in np.flatnonzero(shares)}, abs=0.005
        )
        largest = names[1:][shares[1:].argmax()] if shares[1:].any() else "No class"
        assert largest in sentence
        found |= {*legend}
    assert len(found) > 2


def test_the_page_finds_the_boxes_that_python_finds(tried, page, tmp_path):
    model = tried("boxes")
    count = 0
    for picture in pictures(tmp_path):
        chosen(page, picture)
        shown = page.run(
            "Array.from(document.querySelectorAll('.box'), ({ dataset }) => "
            "[dataset.box.split(',').map(Number), dataset.category, Number(dataset.score)])"
        )
        expected = served(model, {"image": picture})
        kept = expected["scores"] >= 0.3
        assert len(shown) == kept.sum() == len(page.run("[...document.querySelectorAll('li')]"))
        for box, label, score in shown:
            overlaps = geometry.pairs(tf.constant([[box]]), expected["boxes"][None])[0, 0]
            same = [model.classes[int(each)] == label for each in expected["category"]]
            near = np.abs(expected["scores"] - score) < 1e-3
            assert np.any(kept & same & near & (np.asarray(overlaps) > 0.9)), (picture, label)
        count += len(shown)
    assert count > 2


def test_a_slider_sets_the_score_of_the_boxes_by_key(tried, page, tmp_path):
    model = tried("boxes")
    picture = pictures(tmp_path)[0]
    chosen(page, picture)
    scores = served(model, {"image": picture})["scores"]
    page.run("document.querySelector('#least').focus()")
    for press, least in ((("Home", 36), 0.05), (("ArrowRight", 39), 0.1), (("End", 35), 0.95)):
        page.press(*press)
        page.until(f"document.querySelector('#least').value === '{least}'")
        assert page.run("document.querySelectorAll('.box').length") == (scores >= least).sum()
    assert "95.0%" in page.run("document.querySelector('#least-shown').textContent")


@pytest.mark.parametrize("name", ["mask", "boxes"])
def test_the_camera_is_drawn_upon_until_it_is_stopped(name, tried, page):
    tried(name)
    page.run("document.querySelector('#camera').click()")
    page.until("!document.querySelector('#answer').hidden")
    if name == "boxes":
        page.run(
            "const least = document.querySelector('#least'); least.min = least.value = 0.01; "
            "void least.dispatchEvent(new Event('input'))"
        )
    drawn = {"mask": "#layer canvas", "boxes": "#layer .box"}[name]
    page.until(f"Boolean(document.querySelector('{drawn}'))")
    sizes = page.run(
        "['#video', '#layer'].map((id) => { "
        "const { x, y, width, height } = document.querySelector(id).getBoundingClientRect(); "
        "return [x, y, width, height].join() })"
    )
    assert sizes[0] == sizes[1]
    page.until("!/camera/.test(document.querySelector('#status').textContent)")
    page.run("document.querySelector('#camera').click()")
    assert page.run("document.querySelector('#layer').children.length") == 0
    assert page.run("document.querySelector('#answer').hidden")


@pytest.mark.parametrize("name", CASES)
def test_each_page_is_readable_on_a_phone_and_reached_by_keys(name, tried, page, tmp_path):
    model = tried(name)
    fields = [f"#{field}" for field in ("text", "pair")][: len(model.backbone.raw())]
    is_text = "image" not in model.backbone.raw()
    if is_text:
        typed(page, tuple(NOTES[:2]))
    else:
        chosen(page, pictures(tmp_path)[0])
    for width in (400, 1200):
        page.resize(width, 1600)
        wide = "document.documentElement.scrollWidth"
        assert page.run(wide) <= width
        out = page.run(
            "[...document.querySelectorAll('main *')].filter((each) => "
            f"each.getBoundingClientRect().right > {width}).map((each) => each.outerHTML)"
        )
        assert out == []
    assert [*violations(page)] == []
    page.run("document.activeElement.blur(); void getSelection().removeAllRanges()")
    page.call(
        "Input.dispatchMouseEvent", type="mousePressed", x=1, y=1, button="left", clickCount=1
    )
    reached = []
    while not reached or reached[-1] != "A":
        page.press("Tab", 9)
        reached.append(page.run("document.activeElement.id || document.activeElement.tagName"))
    expected = [field[1:] for field in fields] if is_text else ["file", "camera"]
    own = {"boxes": "least", "classes": "why", "pairs": "why", "labels": "why"}
    assert reached == [*expected, *([own[name]] if name in own else []), "A"]
    named = page.run(
        "[...document.querySelectorAll('textarea, input')].filter((each) => each.checkVisibility())"
        ".every((each) => each.labels.length === 1 && each.labels[0].textContent.trim())"
    )
    assert named


def test_colours_are_far_from_each_other_and_have_names(tried, page):
    tried("mask")
    told = page.run(
        "import('./colours.js').then(({ colour }) => "
        "Array.from({ length: 21 }, (_, number) => colour(number)))"
    )
    assert told[20]["name"] == told[0]["name"] == "red"
    first = told[:20]
    assert len({each["name"] for each in first}) == 20
    parts = np.array([each["parts"] for each in first]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.transpose(to_xyz) / [0.9505, 1, 1.089]
    roots = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    a, b = 500 * (roots[:, 0] - roots[:, 1]), 200 * (roots[:, 1] - roots[:, 2])
    lab = np.stack([116 * roots[:, 1] - 16, a, b], axis=1)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1000 * np.eye(20)
    assert apart.min() > 15  # A difference of 2.3 is just seen (CIE 1976).
    luminance = linear @ to_xyz[1]
    for light, each in zip(luminance, first, strict=True):
        on_ink = (light + 0.05) / 0.05 if each["ink"] == "#000000" else 1.05 / (light + 0.05)
        assert on_ink >= 4.5, each["name"]


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("tags", '"B-place",', "", "7 outputs a word for 6 classes."),
        ("mask", '"star",', "", "13 outputs a pixel for 12 classes."),
        ("classes", '"wordpiece"', '"letters"', "cannot be run"),
    ],
)
def test_a_spoilt_folder_of_any_task_is_told(name, old, new, told, tried, page, origin, place):
    tried(name)
    file = "pieces.json" if name == "classes" else "model.json"
    path = place / name / "try" / file
    before = path.read_text(encoding="utf-8")
    assert old in before
    with contextlib.ExitStack() as after:
        after.callback(write_later, path, before)
        write_later(path, before.replace(old, new))
        page.open(f"{origin}/{name}/try/")
        found = page.until("document.querySelector('.bad')?.textContent")
    assert found.startswith("The model cannot be run: ") and told in found
    assert page.run("document.querySelector('#input').disabled")


def test_no_script_fails_and_nothing_comes_from_elsewhere(tried, page, origin, tmp_path):
    for name in ("tags", "boxes"):
        tried(name)
        if name == "tags":
            typed(page, tuple(NOTES[:1]))
        else:
            chosen(page, pictures(tmp_path)[0])
        addresses = [each["request"]["url"] for each in page.told("Network.requestWillBeSent")]
        strange = [
            each for each in addresses if not re.match(f"{origin}/|blob:{origin}/|data:", each)
        ]
        assert strange == [] and page.told("Runtime.exceptionThrown") == []
        errors = [each["entry"] for each in page.told("Log.entryAdded")]
        told = [each for each in errors if each["level"] == "error"]
        # There is no manifest of a pushed version beside the folder.
        assert [each for each in told if not each["url"].endswith("manifest.json")] == [], (
            json.dumps(told)
        )
