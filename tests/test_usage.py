"""The code of a card: it prepares a file as ingest does, and runs every export."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from conftest import Tiny, Wordy, cropped, export, members
from PIL import Image as Pillow
from toy_text import ToyText

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.backbones.towers import Towers
from tlkeras.exporter import Exporter, Usage
from tlkeras.exporters.tflite import TFLite
from tlkeras.formats import usage
from tlkeras.frameworks import tf
from tlkeras.images import decoding
from tlkeras.kinds.image import Image
from tlkeras.kinds.numbers import Numbers
from tlkeras.kinds.text import Text
from tlkeras.measures.tagging import tags_of
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.detection import Detection
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.retrieval import Retrieval
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.tasks.tagging import Tagging

FILE = "picture.jpg"  # Pillow looks at what a file holds, not at its name.


def colours(seed=0, channels=3):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (30, 40, channels), np.uint8).squeeze()


def smooth(channels=3):
    """Returns soft spots of colour, which JPEG stores nearly as they are."""
    spots = np.random.default_rng(1).integers(0, 256, (3, 4, channels), np.uint8)
    return Pillow.fromarray(spots).resize((40, 30), Pillow.Resampling.BICUBIC)


def palette():
    image = Pillow.fromarray(colours()).quantize(16)
    image.info["transparency"] = 3
    return image


def turned():
    exif = Pillow.Exif()
    exif[0x0112] = 6  # As a phone held upright notes it.
    return exif


def sixteen():
    values = np.random.default_rng(2).integers(0, 2**16, (30, 40), np.uint16)
    values[:5] = 4660
    return Pillow.fromarray(values)


# The picture, its format, how it is saved, and by how many levels ingest's may differ: a turned
# photo and one in CMYK are written anew as JPEG.
PICTURES = {
    "RGB": (lambda: Pillow.fromarray(colours()), "PNG", {}, 0),
    "RGB with one transparent colour": (
        lambda: Pillow.fromarray(colours()), "PNG", {"transparency": tuple(colours()[3, 4])}, 0,
    ),
    "RGBA": (lambda: Pillow.fromarray(colours(channels=4)), "PNG", {}, 0),
    "L": (lambda: Pillow.fromarray(colours(channels=1)), "PNG", {}, 0),
    "LA": (lambda: Pillow.fromarray(colours(channels=2)), "PNG", {}, 0),
    "P with transparency": (palette, "PNG", {"transparency": 3}, 0),
    "I;16": (sixteen, "PNG", {}, 0),
    "I;16 with transparency": (sixteen, "PNG", {"transparency": 4660}, 0),
    "I;16 as TIFF": (sixteen, "TIFF", {}, 0),
    "1": (lambda: Pillow.fromarray(colours(channels=1)).convert("1"), "PNG", {}, 0),
    "CMYK": (lambda: smooth().convert("CMYK"), "JPEG", {"quality": 95}, 20),
    "turned": (smooth, "JPEG", {"quality": 95, "exif": turned()}, 20),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_the_code_reads_a_picture_as_ingest_does(name, tmp_path, monkeypatch):
    made, kind, options, may_differ = PICTURES[name]
    made().save(tmp_path / FILE, kind, **options)
    monkeypatch.chdir(tmp_path)
    found: dict[str, np.ndarray] = {}
    exec(Image().reading(), found)
    with Pillow.open(io.BytesIO(decoding.standard(Path(FILE).read_bytes()))) as standard:
        expected = np.asarray(standard.convert("RGB"))
    assert found["value"].dtype == np.uint8
    assert found["value"].shape == expected.shape
    difference = np.abs(found["value"].astype(int) - expected)
    assert difference.max() <= may_differ


@pytest.fixture(scope="module")
def model():
    return TransferModel(Tiny(), Classification(), ("blue", "green", "red"), seed=0)


def striped(channels):
    """Returns stripes that lie otherwise when turned, half of them clear or of half the range."""
    stripes = np.zeros((192, 256, 4), np.uint8)
    stripes[:, ::2] = np.linspace([255, 0, 90, 0], [0, 255, 10, 255], 128)
    return stripes[..., :channels]


SHOWN = {
    "turned": (lambda: Pillow.fromarray(striped(3)), "JPEG", {"quality": 95, "exif": turned()}),
    "transparent": (lambda: Pillow.fromarray(striped(4)), "PNG", {}),
    "sixteen bits": (
        lambda: Pillow.fromarray(np.linspace(0, 65535, 48000, dtype=np.uint16).reshape(240, 200)),
        "PNG",
        {},
    ),
}  # fmt: skip

EXPORTERS = ["saved_model", "keras", "tflite", "tflite(quantize='int8')", "onnx"]
PYTHON = {name.partition("(")[0] for name in EXPORTERS}


def test_every_exporter_tells_how_its_files_are_used():
    for name in [each for each in members(Exporter) if each != "tower"]:
        if name == "onnx":
            pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
        exporter = spec.parse(name, Exporter)
        uses = exporter.usage(Tiny(), Classification())
        assert [use.file for use in uses] == [*exporter.files()]
        assert {use.language for use in uses} == {"python" if name in PYTHON else "sh"}


def test_the_files_of_one_tower_are_used_as_those_of_a_network_alone():
    exporter = spec.parse("tower(side='picture', to=tflite)", Exporter)
    (use,) = exporter.usage(Towers(Tiny(), Wordy(input="text")), Retrieval())
    (alone,) = TFLite().usage(Tiny(), Retrieval(alone="picture"))
    assert [use.file] == [*exporter.files()] and use.language == alone.language
    assert use.code == alone.code.replace(f'"{alone.file}"', f'"{use.file}"') != alone.code
    assert exporter.usage(Tiny(), Classification()) == []


def exported(text: str, model: TransferModel, out: Path) -> Usage:
    """Writes an export of a model of pictures; returns its only use."""
    exporter = spec.parse(text, Exporter)
    random = np.random.default_rng(0)
    pictures = random.uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    export(exporter, model, tf.data.Dataset.from_tensor_slices(pictures), out)
    (use,) = exporter.usage(model.backbone, model.task)
    return use


@pytest.mark.parametrize("text", EXPORTERS)
def test_the_code_gives_the_label_that_the_model_predicts(text, model, tmp_path, monkeypatch):
    if text == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
    use = exported(text, model, tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, (made, kind, options) in SHOWN.items():
        made().save(tmp_path / FILE, kind, **options)
        seen, naive = model.predict([FILE, np.asarray(Pillow.open(FILE).convert("RGB"))])
        printed: dict[str, np.ndarray] = {}

        def note(name, value, printed=printed):
            printed[name] = np.asarray(value)

        exec(use.code, {"print": note})
        found = printed["probabilities"][0]
        assert model.classes[found.argmax()] == seen["label"], name
        apart = np.abs(np.subtract(seen["probabilities"], naive["probabilities"])).max()
        may_differ = apart / 5 if "int8" not in text else 0.02
        np.testing.assert_allclose(found, seen["probabilities"], atol=may_differ, err_msg=name)


@pytest.mark.parametrize("text", ["keras", "tflite", "tflite(quantize='int8')", "onnx"])
def test_the_code_prepares_a_picture_as_the_network_was_trained(text, tmp_path, monkeypatch):
    if text == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
    monkeypatch.setattr(Tiny, "preprocess", cropped)
    model = TransferModel(Tiny(), Classification(), ("blue", "green", "red"), seed=0)
    use = exported(text, model, tmp_path)
    monkeypatch.chdir(tmp_path)
    pixels = np.full((192, 256, 3), 255, np.uint8)
    pixels[48:144, 64:192] = striped(3)[:96, :128]
    Pillow.fromarray(pixels).save(FILE, "PNG")
    (seen,) = model.predict([FILE])
    printed: dict[str, np.ndarray] = {}
    exec(use.code, {"print": lambda name, value: printed.update({name: np.asarray(value)})})
    may_differ = 1e-5 if "int8" not in text else 0.02
    np.testing.assert_allclose(printed["probabilities"][0], seen["probabilities"], atol=may_differ)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (Classification(), ["# Scores in probabilities are in the order of labels.txt."]),
        (Regression(), []),
        (Segmentation(), ["# Scores in mask are of background, then in the order of labels.txt."]),
        (Detection(), ["# A number in category counts the lines of labels.txt, from 0."]),
    ],
)
def test_the_code_says_which_names_the_values_of_each_output_have(task, said):
    for text in ("keras", "tflite", "onnx"):
        if text == "onnx":
            pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
        (use,) = spec.parse(text, Exporter).usage(Tiny(), task)
        assert [line for line in use.code.splitlines() if "labels.txt" in line] == said


def test_the_code_of_tagging_names_what_makes_tags_of_its_scores():
    for text in ("keras", "tflite", "onnx"):
        if text == "onnx":
            pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
        (use,) = spec.parse(text, Exporter).usage(Wordy(), Tagging())
        assert f"{tags_of.__module__}.{tags_of.__name__} makes them." in use.code


class Placed(Backbone, name="placed"):
    """A `Wordy` with the fields of a network that is read from a folder."""

    block_pattern = Wordy.block_pattern
    weights: str | None = None
    input: Literal["text"] = "text"

    def build(self):
        return Wordy(input="text").build()

    def raw(self):
        return Wordy(input="text").raw()

    def preprocess(self, example):
        return Wordy(input="text").preprocess(example)


def test_the_code_says_where_to_run_it_if_it_reads_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("MiniLM", "text"):
        (tmp_path / folder).mkdir()
    said = "# Run it in the folder where the training ran: it reads MiniLM/.\n"
    for backbone in (Placed("MiniLM/"), Towers(Tiny(), Placed("MiniLM/"))):
        (use,) = spec.parse("keras", Exporter).usage(backbone, Classification())
        assert use.code.startswith(said)
    for weights in (None, "preset", str(tmp_path / "MiniLM")):
        (use,) = spec.parse("keras", Exporter).usage(Placed(weights), Classification())
        assert "Run it in" not in use.code


OF_TEXTS = {
    "text": (ToyText(), Regression(), {"text": "a text"}),
    "pair": (ToyText(input="pair"), Classification(), {"text": "a text", "pair": "a text"}),
    "words": (ToyText(input="words"), Tagging(), {"words": "the words of a text"}),
}
"""The example is that of `Kind.reading`."""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param(text, name, marks=() if name in fast else pytest.mark.slow)
        for text, fast in {
            "saved_model": (),
            "keras": ("words",),
            "tflite": ("text",),
            "onnx": ("pair",),
        }.items()
        for name in OF_TEXTS
    ],
)
def test_the_code_of_a_text_gives_what_the_model_predicts(text, name, tmp_path, monkeypatch):
    if text == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
    backbone, task, example = OF_TEXTS[name]
    classes = () if name == "text" else ("O", "B-x", "I-x")
    model, exporter = TransferModel(backbone, task, classes, seed=0), spec.parse(text, Exporter)
    exporter.write(model, None, tmp_path)
    (use,) = exporter.usage(backbone, task)
    monkeypatch.chdir(tmp_path)
    printed: dict[str, np.ndarray] = {}
    exec(use.code, {"print": lambda name, value: printed.update({name: np.asarray(value)})})
    (seen,) = model.predict([example])
    for output in task.outputs():
        np.testing.assert_allclose(printed[output.name][0], seen[output.name], atol=1e-5)


def test_the_code_for_mediapipe_takes_the_text_itself():
    (use,) = TFLite().usage(ToyText(), Classification())
    assert use.code.startswith("from mediapipe.") and "tlkeras" not in use.code
    assert 'value = "a text"' in use.code and "classify(value)" in use.code


def test_code_of_several_keys_names_each_value():
    kinds = {"text": Text(), "age": Numbers()}
    (use,) = usage.of_values(
        kinds, "saved_model", "import numpy as np\nserved = run(FILE, INPUTS)\n"
    )
    assert use.code == (
        "import numpy as np\n"
        "\n"
        'value = "a text"\n'
        "text_value = value\n"
        "value = [0.0]\n"
        "age_value = value\n"
        'served = run("saved_model", '
        'text=tf.constant([text_value], "string"), age=tf.constant([age_value], "float32"))\n'
    )


def test_imports_stand_once_at_the_beginning(tmp_path):
    lines = "import numpy as np\nfrom PIL import Image\n\nprint(Image, value)\n"
    (use,) = usage.of_prepared(Tiny(), "model.keras", lines, "")
    assert use.code.startswith("import numpy as np\nfrom PIL import Image, ImageOps\n\npicture")
    assert use.code.count("import") == 2
    (tmp_path / "code.py").write_text(use.code)
    Pillow.fromarray(colours()).save(tmp_path / FILE, "PNG")
    subprocess.run([sys.executable, "code.py"], cwd=tmp_path, check=True, capture_output=True)
