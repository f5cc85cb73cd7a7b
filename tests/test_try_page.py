"""The page that tries a model, in a real browser, on a version that the pipeline pushed."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import chromium
import numpy as np
import pytest
from accessibility import violations
from conftest import draw
from PIL import Image
from test_pipeline import run

from tlkeras.backbones.starter import Starter
from tlkeras.formats import litert
from tlkeras.images.pixels import squash
from tlkeras.kinds import image as kinds

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=window.harmed=1>"


@pytest.fixture(scope="module")
def version(tmp_path_factory) -> Path:
    """What `python -m pipeline` pushed, one class of a hostile name among three."""
    place = tmp_path_factory.mktemp("place")
    draw(place / "pictures", 24)
    (place / "pictures" / "red").rename(place / "pictures" / HOSTILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("npm_config_fetch_retries", "0")
        ended = run(
            [
                sys.executable, "-m", "pipeline", f"--source=folder(path='{place / 'pictures'}')",
                "--split=split(validation=20, test=20)", "--backbone=starter(size=64)",
                "--recipe=fine_tune(phases=[phase(epochs=3, learning_rate=0.01)])",
                "--exporters=browser", "--name=colours", f"--root={place / 'runs'}",
                f"--saved_models={place / 'saved_models'}",
            ]
        )  # fmt: skip
    if "is fetched by npm" in ended.stderr or "npm cannot fetch" in ended.stderr:
        pytest.skip(ended.stderr.strip())
    assert ended.returncode == 0, ended.stderr
    return place / "saved_models" / "colours" / "1"


@pytest.fixture(scope="module")
def origin(version) -> Iterator[str]:
    with chromium.served(version) as address:
        yield address


@pytest.fixture(scope="module")
def page(origin, tmp_path_factory) -> Iterator[chromium.Page]:
    with chromium.opened(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def tried(page, origin) -> chromium.Page:
    """The page, just opened and ready for a picture."""
    page.open(f"{origin}/try/")
    page.until("!document.querySelector('#input').disabled")
    return page


def answer(page):
    """Returns what the page shows once it has an answer: classes and exact probabilities."""
    page.until(
        "/^Most likely|readable|picture that/.test(document.querySelector('#status').textContent)"
    )
    rows = page.run(
        "Array.from(document.querySelectorAll('#results li'), "
        "(row) => [row.children[0].textContent, Number(row.children[1].value)])"
    )
    assert rows == sorted(rows, key=lambda row: -row[1])
    return dict(rows)


def expected(version, picture):
    """Returns what LiteRT gives in Python for a picture file, by class."""
    inputs = Starter(size=64).preprocess({"image": kinds.Image().given(picture)})
    served = litert.load(version / "try" / "model.tflite")(np.asarray(inputs)[None])
    classes = (version / "labels.txt").read_text(encoding="utf-8").splitlines()
    return dict(zip(classes, served["probabilities"][0].tolist(), strict=True))


def smooth(seed, width, height, channels=3):
    """Returns a picture of soft spots of random colours."""
    random = np.random.default_rng(seed)
    spots = random.integers(0, 256, (5, 7, channels), np.uint8)
    return Image.fromarray(spots.squeeze()).resize((width, height), Image.Resampling.BICUBIC)


def written(folder, kind):
    """Returns the path of a picture of one kind."""
    path = folder / f"{kind}.png"
    match kind:
        case "large" | "larger":
            smooth(len(kind), 1203, 517).save(path)
        case "small":
            smooth(2, 30, 19).save(path)
        case "grey":
            smooth(3, 200, 300, 1).save(path)
        case "palette":
            smooth(4, 200, 300).quantize(64).save(path)
        case "transparent":
            smooth(5, 200, 300, 4).save(path)
        case "photograph":
            exif = Image.Exif()
            exif[0x0112] = 6  # Taken with the camera on its side.
            path = folder / "photograph.jpg"
            smooth(6, 640, 480).save(path, exif=exif, quality=90)
        case colour:
            random = np.random.default_rng(7)
            pixels = np.full((90, 120, 3), dict(blue=(40, 60, 220), green=(30, 190, 60))[colour])
            noisy = np.clip(pixels + random.normal(0, 40, pixels.shape), 0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(path)
    return path


# What a PNG holds is known to the byte; JPEG and what is laid on white are rounded otherwise.
KINDS = {
    "large": 1e-4, "larger": 1e-4, "small": 1e-4, "grey": 1e-4, "palette": 1e-4, "blue": 1e-4,
    "green": 1e-4, "transparent": 1e-2, "photograph": 1e-2,
}  # fmt: skip


def test_the_page_gives_the_class_that_python_gives(tried, version, tmp_path):
    best = set()
    for kind, tolerance in KINDS.items():
        picture = written(tmp_path, kind)
        tried.choose("#file", picture)
        found, wanted = answer(tried), expected(version, picture)
        assert found == pytest.approx(wanted, abs=tolerance), kind
        assert next(iter(found)) == max(wanted, key=lambda name: wanted[name]), kind
        best.add(next(iter(found)))
    assert len(best) > 1  # Else it would prove little.


def test_the_answer_rests_on_the_part_without_which_it_is_less_likely(tried, version, tmp_path):
    pixels = np.full((128, 128, 3), 120, np.uint8)
    pixels[80:112, 16:56] = (30, 190, 60)
    picture = tmp_path / "spot.png"
    Image.fromarray(pixels).save(picture)
    tried.choose("#file", picture)
    label = next(iter(answer(tried)))
    tried.run("document.querySelector('#why').click()")
    tried.until("!document.querySelector('#rests').hidden")
    inputs = Starter(size=64).preprocess({"image": kinds.Image().given(picture)}).numpy()
    network = litert.load(version / "try" / "model.tflite")
    place = (version / "labels.txt").read_text(encoding="utf-8").splitlines().index(label)

    def score(pixels):
        return network(pixels[None])["probabilities"][0, place]

    heat, counts = np.zeros([8, 8]), np.zeros([8, 8])
    for row in range(7):
        for column in range(7):
            covered = inputs.copy()
            covered[8 * row : 8 * row + 16, 8 * column : 8 * column + 16] = inputs.mean((0, 1))
            lost = score(inputs) - score(covered)
            heat[row : row + 2, column : column + 2] += lost
            counts[row : row + 2, column : column + 2] += 1
    levels = np.maximum(heat / counts, 0) / (heat / counts).max()
    drawn = tried.run(
        "Array.from(document.querySelector('#layer .heat').getContext('2d')"
        ".getImageData(0, 0, 8, 8).data)"
    )
    # The green of a colour rises with its level.
    green = np.reshape(drawn, [8, 8, 4])[..., 1]
    np.testing.assert_allclose(green, np.interp(levels, [0, 0.5, 1], [34, 123, 232]), atol=6)
    assert tried.run("document.querySelector('#status').textContent").startswith(
        f"What speaks for {label} is "
    )
    # Of another picture nothing is told until it is asked for.
    tried.choose("#file", written(tmp_path, "blue"))
    answer(tried)
    tried.until("document.querySelector('#rests').hidden")
    assert not tried.run("document.querySelector('#why').hidden")


def test_a_dropped_picture_is_classified_and_shown(tried, version, tmp_path):
    picture = written(tmp_path, "blue")
    tried.drop("#stage", picture)
    assert answer(tried) == pytest.approx(expected(version, picture), abs=1e-4)
    tried.until("document.querySelector('#picture').naturalWidth === 120")
    times = tried.run("document.querySelector('#times').innerText")
    assert re.fullmatch(
        r"Time for the picture\s+[\d.]+ ms\s+resizing\s+[\d.]+ ms\s+network\s+[\d.]+ ms", times
    )


def test_a_class_name_is_shown_and_never_run(tried, version, tmp_path):
    tried.choose("#file", written(tmp_path, "blue"))
    assert HOSTILE in answer(tried)
    assert HOSTILE in tried.run("document.querySelector('#results').textContent")
    assert tried.run("document.querySelectorAll('#results img').length") == 0
    assert tried.run("typeof window.harmed") == "undefined"


def test_name_version_and_size_are_those_of_the_pushed_model(tried, version):
    assert tried.run("document.querySelector('#name').textContent") == "colours"
    megabytes = (version / "try" / "model.tflite").stat().st_size / 1e6
    assert tried.run("document.querySelector('#facts').textContent") == (
        f"version 1 · starter at 64 \u00d7 64 pixels · 3 classes · {megabytes:.1f} MB"
    )


@pytest.mark.parametrize(
    ("width", "height", "size"), [(50, 37, 16), (9, 70, 16), (5, 7, 16), (16, 16, 16), (1, 1, 8)]
)
def test_the_page_resizes_as_python_does(tried, width, height, size):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    rgba = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
    found = tried.run(
        "import('./squash.js').then(({ squash }) => Array.from("
        f"squash(() => {rgba.flatten().tolist()}, {width}, {height}, {size})))"
    )
    wanted = np.asarray(squash(pixels, size)).flatten()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3)


def test_a_phone_s_picture_is_read_in_bands_from_one_small_canvas(tried, version, tmp_path):
    tried.run(
        "window.canvases = new Set(), window.largest = 0; "
        "const own = CanvasRenderingContext2D.prototype.getImageData; "
        "void (CanvasRenderingContext2D.prototype.getImageData = function (...given) { "
        "const { width, height } = this.canvas; canvases.add(this.canvas); "
        "largest = Math.max(largest, width * height); return own.apply(this, given); })"
    )
    for seed, sides in ((8, (2600, 2300)), (9, (1900, 3300)), (10, (300, 200))):
        picture = tmp_path / f"{seed}.png"
        smooth(seed, *sides).save(picture)
        tried.run("document.querySelector('#status').textContent = ''")
        tried.choose("#file", picture)
        assert answer(tried) == pytest.approx(expected(version, picture), abs=1e-4)
    assert tried.run("window.canvases.size") == 1
    assert tried.run("window.largest") <= 2**22


def test_a_picture_that_is_read_in_bands_is_resized_as_python_does(tried):
    width, height = 4096, 1500
    rgba = f"Uint8Array.from({{ length: {4 * width * height} }}, (_, i) => (i * i) % 251)"
    found = tried.run(
        f"import('./squash.js').then(({{ squash }}) => {{ const rgba = {rgba}; let reads = 0; "
        f"const read = (top, rows) => {{ reads++; return rgba.subarray(4 * {width} * top, "
        f"4 * {width} * (top + rows)); }}; "
        f"const all = Array.from(squash(read, {width}, {height}, 16)); return [reads, all]; }})"
    )
    places = np.arange(4 * width * height, dtype=np.int64)
    pixels = (places * places % 251).astype(np.uint8).reshape(height, width, 4)[..., :3]
    assert found[0] == 2
    np.testing.assert_allclose(found[1], np.asarray(squash(pixels, 16)).flatten(), atol=1e-2)


def test_a_mask_over_a_phone_s_picture_has_no_more_pixels_than_a_canvas(tried):
    shown = tried.run(
        "import('./mask.js').then(({ open }) => { "
        "const layer = document.createElement('div'); "
        "const output = { names: { mask: 'mask' }, others: ['nothing'], shape: [1, 2, 2, 2] }; "
        "const mask = Float32Array.from([0, 1, 0, 1, 1, 0, 1, 0]); "
        "const draw = open({ classes: ['a'], output }, { mask }); "
        "return [[5712, 4284], [60, 40]].map(([width, height]) => { "
        "const said = draw({ mask }, { width, height, layer }); "
        "const { firstChild } = layer; return [firstChild.width, firstChild.height, said]; }) })"
    )
    (wide, high, said), small = shown
    assert wide * high <= 2**22 and wide / high == pytest.approx(5712 / 4284, rel=1e-3)
    assert said == "The largest part is a, 50.0% of the pixels."
    assert small == [60, 40, "The largest part is a, 50.0% of the pixels."]


def test_nothing_is_fetched_from_elsewhere_and_nothing_fails(tried, origin, tmp_path):
    tried.choose("#file", written(tmp_path, "green"))
    answer(tried)
    addresses = [each["request"]["url"] for each in tried.told("Network.requestWillBeSent")]
    assert any(address.endswith("/try/model.tflite") for address in addresses)
    assert [
        each for each in addresses if not re.match(f"{origin}/|blob:{origin}/|data:", each)
    ] == []
    assert tried.told("Runtime.exceptionThrown") == []
    errors = [each["entry"] for each in tried.told("Log.entryAdded")]
    assert [each for each in errors if each["level"] == "error"] == []
    # Nor could it be: another name of this very server is elsewhere to the policy.
    elsewhere = origin.replace("127.0.0.1", "localhost")
    refused = tried.run(
        "new Promise((tell) => { "
        "addEventListener('securitypolicyviolation', (event) => tell(event.effectiveDirective)); "
        f"fetch('{elsewhere}/labels.txt').then(() => tell('fetched'), () => 0) }})"
    )
    assert refused == "connect-src"


def test_the_keyboard_reaches_everything(tried):
    reached = []
    for _ in range(3):
        tried.press("Tab", 9)
        reached.append(tried.run("document.activeElement.id || document.activeElement.tagName"))
    assert reached == ["file", "camera", "A"]
    tried.run("document.querySelector('#camera').focus()")
    tried.press("Enter", 13, "\r")
    tried.until("!document.querySelector('#times').hidden")


def test_the_camera_is_classified_until_it_is_stopped(tried):
    tried.run("document.querySelector('#camera').click()")
    tried.until("!document.querySelector('#times').hidden")
    # Not the text, which may be 100.0% all the time.
    shown = "[...document.querySelectorAll('#results data')].map(each => each.value).join()"
    before = tried.run(shown)
    tried.until(f"{shown} !== {json.dumps(before)}")  # The camera's test picture moves.
    assert tried.run("document.querySelector('#camera').textContent") == "Stop the camera"
    track = "document.querySelector('#video').srcObject.getTracks()[0]"
    tried.run(f"void (window.track = {track})")
    tried.run("document.querySelector('#camera').click()")
    assert tried.run("window.track.readyState") == "ended"
    assert tried.run("document.querySelector('#answer').hidden")
    assert tried.run("document.querySelector('#status').textContent") == "The camera is off."

    tried.run("document.querySelector('#camera').click()")
    tried.until("!document.querySelector('#times').hidden")
    tried.run(f"{track}.stop()")  # As if it were unplugged.
    tried.until(
        "/cannot be used: it has stopped/.test(document.querySelector('#status').textContent)"
    )


def test_the_page_has_no_violation_before_and_after_an_answer(tried, tmp_path):
    assert [*violations(tried)] == []
    tried.choose("#file", written(tmp_path, "blue"))
    answer(tried)
    assert [*violations(tried)] == []
    (tmp_path / "notes.txt").write_text("no picture")
    tried.choose("#file", tmp_path / "notes.txt")
    tried.until("document.querySelector('.bad')?.textContent")
    assert [*violations(tried)] == []


def test_a_file_that_is_no_picture_is_told(tried, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    tried.choose("#file", tmp_path / "notes.txt")
    told = tried.until("document.querySelector('.bad')?.textContent")
    assert told == "notes.txt is not a picture that this browser can read."
    picture = written(tmp_path, "blue")
    tried.choose("#file", picture)
    assert tried.until("/^Most likely/.test(document.querySelector('#status').textContent)")
    assert not tried.run("document.querySelector('.bad')")


@pytest.mark.parametrize(
    ("file", "spoil", "told"),
    [
        ("model.tflite", Path.unlink, "model.tflite is not there (404)."),
        ("model.tflite", lambda path: os.truncate(path, 5000), "has 5,000 bytes, expected "),
        ("model.tflite", lambda path: path.write_bytes(bytes(path.stat().st_size)), "load model"),
        ("model.json", lambda path: _edit(path, '"blue",', ""), "3 outputs for 2 classes."),
        ("model.json", lambda path: _edit(path, "{", "{,"), "model.json is damaged"),
        ("npm/@litertjs/core/wasm/litert_wasm_internal.js", Path.unlink, "LiteRT.js is not there"),
    ],
)
def test_a_spoilt_folder_is_told(page, origin, version, request, file, spoil, told):
    place = f"spoilt{request.node.callspec.indices['file']}"
    shutil.copytree(version / "try", version / place / "try")
    spoil(version / place / "try" / file)
    page.open(f"{origin}/{place}/try/")
    found = page.until("document.querySelector('.bad')?.textContent")
    assert found.startswith("The model cannot be run: ") and told in found
    assert page.run("document.querySelector('#input').disabled")


def _edit(path, old, new):
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def test_the_manifest_of_another_application_is_none_of_the_model(page, version, tmp_path):
    shutil.copytree(version / "try", tmp_path / "try")
    for other in ('{"name": "Shop", "icons": []}', "<!doctype html>"):
        (tmp_path / "manifest.json").write_text(other)
        with chromium.served(tmp_path) as address:
            page.open(f"{address}/try/")
            page.until("!document.querySelector('#input').disabled")
            assert page.run("document.querySelector('#name').textContent") == "starter"
            assert "version" not in page.run("document.querySelector('#facts').textContent")


def test_the_manifest_is_that_of_now_and_one_that_cannot_be_had_is_none(page, version, tmp_path):
    shutil.copytree(version / "try", tmp_path / "try")
    manifest, place = tmp_path / "manifest.json", "document.querySelector('#facts').textContent"
    with chromium.served(tmp_path) as address:
        for number in (1, 2):
            told = {"name": "colours", "version": number, "products": [1]}
            manifest.write_text(json.dumps(told))
            os.utime(manifest, (1e9 + number, 1e9 + number))  # So old that browsers keep it long.
            page.open(f"{address}/try/")
            page.until("!document.querySelector('#input').disabled")
            assert f"version {number} " in page.run(place)
        page.call("Network.setBlockedURLs", urls=["*/manifest.json"])  # As the policy does.
        try:
            page.open(f"{address}/try/")
            page.until("!document.querySelector('#input').disabled", seconds=60)
            assert "version" not in page.run(place)
        finally:
            page.call("Network.setBlockedURLs", urls=[])


def test_without_a_server_the_page_tells_how_to_be_served(page, version):
    page.open((version / "try" / "index.html").as_uri())
    page.until("getComputedStyle(document.querySelector('#unserved')).visibility === 'visible'")
    assert "python -m http.server" in page.run("document.querySelector('#unserved').innerText")
