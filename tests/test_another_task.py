"""A task and a modality of a user's own: the pipeline runs them with no file of ours changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tlkeras.measures import measures

ROOT = Path(__file__).parents[1]

PACKAGE = {
    "source.py": '''
"""Sentences, and how often each has the letter e."""
import numpy as np
from tlkeras.kinds.number import Number
from tlkeras.kinds.text import Text
from tlkeras.source import Source

class Sentences(Source, name="sentences"):
    """Made-up words."""

    count: int = 300

    def features(self):
        return {"text": Text(), "number": Number()}

    def classes(self):
        return ()

    def examples(self):
        for number in range(self.count):
            random = np.random.default_rng(number)
            letters = random.choice([*"abcde "], size=random.integers(20, 40))
            yield f"s{number:04d}", {
                "text": "".join(letters), "number": float((letters == "e").sum())
            }

    def fingerprint(self):
        return "1"
''',
    "backbone.py": '''
"""A network of bytes."""
from tlkeras.backbone import Backbone
from tlkeras.frameworks import keras, tf
from tlkeras.kinds.text import Text

class Bytes(Backbone, name="bytes"):
    """An embedding of bytes and a convolution, random weights."""

    block_pattern = r"^(block\\d)_"

    def raw(self):
        return {"text": Text()}

    def build(self):
        inputs = keras.Input([48], dtype="int32")
        x = keras.layers.Embedding(256, 8, name="block1_embedding")(inputs)
        x = keras.layers.Conv1D(16, 3, padding="same", name="block2_conv")(x)
        tokens = keras.layers.ReLU(name="block2_relu")(x)
        pooled = keras.layers.GlobalAveragePooling1D(name="pooled")(tokens)
        return keras.Model(inputs, {"tokens": tokens, "pooled": pooled}, name=self.name)

    def preprocess(self, example):
        return tf.cast(tf.io.decode_raw(example["text"], tf.uint8, fixed_length=48), tf.int32)
''',
    "task.py": '''
"""Regression of one number."""
import numpy as np
from tlkeras.frameworks import keras
from tlkeras.measures.measures import Curve, Example, Gallery, Measures, Scalar
from tlkeras.task import Output, Task

class Amount(Task, name="amount"):
    """How many."""

    reads = ("number",)
    primary = "mean_absolute_error"
    more_is_better = False

    def target(self, example, inputs, classes):
        return example["number"][None]

    def summarize(self, features):
        return features["pooled"]

    def head(self, summary, classes):
        return keras.layers.Dense(1, dtype="float32", name="amount")(summary)

    def loss(self):
        return keras.losses.MeanSquaredError()

    def metrics(self, classes):
        return []

    def served(self, outputs):
        return {"amount": outputs}

    def outputs(self):
        return (Output("amount", "vector"),)

    def tally(self, classes):
        return Errors()

    def agree(self, one, other):
        return np.abs(one["amount"] - other["amount"])[:, 0] < 0.01

class Errors:
    def __init__(self):
        self.errors, self.points = [], []

    def add(self, target, served, first):
        errors = np.abs(target - served["amount"])[:, 0]
        self.errors += [(float(error), first + place) for place, error in enumerate(errors)]
        self.points += [[float(x), float(y)] for x, y in zip(target[:, 0], served["amount"][:, 0])]

    def measures(self):
        worst = sorted(self.errors)[-3:]
        return Measures(
            "mean_absolute_error", len(self.errors),
            {"mean_absolute_error": Scalar(float(np.mean([e for e, _ in self.errors])),
                                           more_is_better=False)},
            [Curve("Errors", "number", "answer", {"test": sorted(self.points)}),
             Gallery("Worst", [Example(place, f"off by {e:.2f}") for e, place in worst])],
            ["It only counts one letter."],
        )
''',
}

MANY_AND_NONE = ["eabe ecedeeaebee cedeeae beeace", "abad acddbacabda cdab ca badcac"]

FLAGS = [
    "--source=sentences",
    "--backbone=bytes",
    "--task=amount",
    "--recipe=fine_tune(phases=[phase(epochs=12, unfreeze='all', learning_rate=0.01)])",
    "--exporters=saved_model|tflite|keras",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package beside tlkeras, imported wherever Python starts."""
    place = tmp_path_factory.mktemp("another")
    (place / "own").mkdir()
    for name, text in PACKAGE.items():
        (place / "own" / name).write_text(text, encoding="utf-8")
    (place / "own" / "__init__.py").touch()
    (place / "sitecustomize.py").write_text("import own.backbone, own.source, own.task\n")
    return place


def run(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(place), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-m", "pipeline", *words]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def pushed(place: Path) -> Path:
    ended = run(place, *FLAGS)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return place / "saved_models" / "sentences" / "1"


@pytest.mark.slow
def test_a_task_and_a_modality_of_ones_own_go_from_source_to_pushed_exports(pushed):
    found = measures.read(pushed)
    assert found.primary == "mean_absolute_error" and not found.score.more_is_better
    assert found.score.value < 2.5
    assert {"saved_model", "model.tflite", "model.keras"} <= {x.name for x in pushed.iterdir()}
    for page in ("report.html", "card.md"):
        text = (pushed / page).read_text(encoding="utf-8")
        assert "It only counts one letter." in text
    assert "off by" in (pushed / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_saved_model_takes_what_a_client_sends(pushed):
    from tlkeras.frameworks import tf

    loaded = tf.saved_model.load(str(pushed / "saved_model"))
    served = loaded.signatures["serving_default"](text=tf.constant(MANY_AND_NONE))
    many, none = served["amount"].numpy()[:, 0]
    assert many > none + 3


@pytest.mark.slow
def test_predictions_are_made_of_files_of_the_modality(place, pushed):
    (place / "new").mkdir()
    for name, text in zip("ab", MANY_AND_NONE, strict=True):
        (place / "new" / f"{name}.txt").write_text(text)
    flags = (f"--exports={pushed}", "--exporter=tflite", "--data=new", "--out=predictions")
    ended = run(place, "bulk_inferrer", *flags)
    assert ended.returncode == 0, ended.stderr
    lines = (place / "predictions" / "predictions.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert first["id"] == "a.txt" and first["amount"][0] > second["amount"][0] + 3


@pytest.mark.slow
def test_less_is_better_is_held_against_an_upper_bound(place, pushed):
    ended = run(place, *FLAGS, "--upper_bound=0.0001", "--baseline=none")
    assert ended.returncode == 2 and "upper bound" in ended.stderr
    ended = run(place, *FLAGS, "--lower_bound=0.5", "--baseline=none")
    assert ended.returncode == 1 and "--lower_bound" in ended.stderr
