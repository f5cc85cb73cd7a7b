"""What the tests share: drawn pictures, a tiny backbone, the folder of real data."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from random import SystemRandom
from typing import Any

# The suite runs alike with and without an accelerator.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import numpy as np
import pytest
from PIL import Image

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.exporter import Exporter
from tlkeras.exporters.keras import Keras
from tlkeras.formats import npm
from tlkeras.frameworks import keras, tf
from tlkeras.images.pixels import squash
from tlkeras.kinds.image import Image as ImageKind
from tlkeras.model.pyramid import features
from tlkeras.model.transfer_model import TransferModel
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.spec import Spec
from tlkeras.tasks.classification import Classification
from tlkeras.texts import inputs
from tlkeras.texts.wordpiece import WordPiece

COLOURS = {"blue": (40, 60, 220), "green": (30, 190, 60), "red": (220, 50, 40)}


class Tiny(Backbone, name="tiny"):
    """Four strided convolutions, [size, size, 3] in [0, 255], random weights of a fixed seed."""

    block_pattern = r"^(block\d)_"
    size: int = 32

    def build(self):
        inputs = x = keras.Input([self.size, self.size, 3])
        x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="scale")(x)
        for i, width in enumerate((8, 12, 16, 24), start=1):
            x = keras.layers.Conv2D(width, 3, strides=2, padding="same", name=f"block{i}_conv")(x)
            x = keras.layers.BatchNormalization(name=f"block{i}_norm")(x)
            x = keras.layers.ReLU(name=f"block{i}_relu")(x)
            x = keras.layers.Dropout(0.1, name=f"block{i}_dropout")(x)
        network = keras.Model(inputs, x)
        return keras.Model(inputs, features(network), name=self.name)

    def raw(self):
        return {"image": ImageKind()}

    def preprocess(self, example):
        return squash(example["image"], self.size)


def cropped(tiny: Tiny, example: Any) -> Any:
    """Returns what a `Tiny` could make of a picture, or of a batch: the middle half, squashed."""
    return squash(tf.image.central_crop(example["image"], 0.5), tiny.size)


_LETTERS = WordPiece(
    ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh", *(f"##{letter}" for letter in "abcdefgh"))
)


class Wordy(Backbone, name="wordy"):
    """A dense layer on the embedded pieces of words, random weights.

    Every letter of ``abcdefgh`` is a piece, other words are unknown and one piece.
    """

    block_pattern = r"^(block\d)_"
    input: inputs.Input = "words"
    length: int = 12

    def build(self):
        given, ids = inputs.entrance(self.input, self.length)
        mask = keras.ops.not_equal(ids, 0)
        x = keras.layers.Embedding(20, 16, name="block1_embedding")(ids)
        x = keras.layers.Dense(24, name="block2_dense")(x)
        x = keras.layers.ReLU(name="block2_relu")(x)
        found = inputs.features(given, x, mask, inputs.mean(x, mask))
        found["next"] = inputs.following(ids, keras.ops.not_equal(ids, 0))
        return keras.Model(given, found, name=self.name)

    def readout(self, network):
        return np.random.default_rng(0).normal(size=(24, 20)).astype(np.float32)

    def raw(self):
        return inputs.raw(self.input)

    def preprocess(self, example):
        return inputs.preprocess(_LETTERS, example, self.input, self.length)

    @property
    def tokenizer(self):
        return _LETTERS


SUMMANDS = {"block2": 27, "block3": 99, "head": 355, "logits": 379}
"""How many products are added up on the way to the entrance of a block of `Tiny`: 27 in the first
convolution, then 72, 108 and 144, 4 in the mean, 24 in the head."""


def assert_near(found: Any, expected: Any, summands: int) -> None:
    """Asserts that float32 arrays differ by no more than sums taken in another order do.

    The order in which a kernel adds up depends on the processor, the number of threads, the graph,
    and on which row of which batch it is. Every addition rounds by at most 2**-24 of its sum, for
    which the largest number of the array stands here. Of weights that differ by that, losses differ
    by less.
    """
    bound = summands * 2**-24 * float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


def members(family: type[Spec]) -> list[str]:
    """Returns the names of a family's members that are tlkeras's own, none of a test's."""
    names = spec.names(family).items()
    return [name for name, member in names if member.__module__.startswith("tlkeras.")]


def ports(count: int) -> list[int]:
    """Returns free ports of this machine, of those that it gives to nobody unasked."""
    found: list[int] = []
    while len(found) < count:
        port = SystemRandom().randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as held:
            held.bind(("localhost", port))
            found += [port] * (port not in found)
    return found


def configs(count: int = 2) -> list[str]:
    """Returns the ``TF_CONFIG`` of every worker."""
    cluster = {"worker": [f"localhost:{port}" for port in ports(count)]}
    tasks = [{"type": "worker", "index": i} for i in range(count)]
    return [json.dumps({"cluster": cluster, "task": task}) for task in tasks]


def last_of_ours(said: str) -> str:
    """Returns the last line that is not of TensorFlow's log, which may go on until the end."""
    logged = re.compile(r"[IWEF]\d{4} |\d{4}-\d\d-\d\d ")
    return [line for line in said.splitlines() if not logged.match(line)][-1]


def mounted(mount: str) -> list[str]:
    """Returns what goes before a command that alone is to see a mount, made by a shell command."""
    own = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    prefix = [*own, "sh", "-c", f'{mount} && exec "$@"', "sh"]
    found = shutil.which("unshare")
    if not found or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("this system does not let a test mount a file system")
    return prefix


def draw(folder: Path, per_class: int, seed: int = 0) -> Path:
    """Writes small noisy pictures, one folder for every colour."""
    random = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            noise = random.normal(0, 40, (24, 28, 3))
            pixels = np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:03d}.png")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes with 24 pictures each."""
    return draw(tmp_path_factory.mktemp("pictures"), 24)


@pytest.fixture(scope="session")
def recorded(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures as examples."""
    out = tmp_path_factory.mktemp("examples")
    ingest.write_examples(Folder(pictures), Split(validation=20, test=20), out)
    return out


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn shapes as examples, with captions, boxes and masks."""
    out = tmp_path_factory.mktemp("shapes")
    source = Embedded(data="shapes", count=60, size=32)
    ingest.write_examples(source, Split(validation=20, test=20), out)
    return out


@pytest.fixture
def data(recorded: Path) -> Data:
    """Batches of them for the tiny backbone and classification."""
    return Data(recorded, Tiny(), Classification(), batch_size=8, seed=0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data beside the checkout; the test is skipped where there is none."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} with real data")
    return folder


def export(exporter: Exporter, model: TransferModel, samples: Any, out: Path) -> None:
    """Writes an export; the test is skipped where the network that this needs is not there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("npm_config_fetch_retries", "0")  # Its absence is known at once.
        try:
            exporter.write(model, samples, out)
        except npm.Unreachable as error:
            pytest.skip(str(error))


def read_afresh(model: TransferModel, folder: Path) -> tuple[str, str]:
    """Returns what two fresh processes say: one reads a model and its export, one is the card's.

    The file of an example that the card reads lies in the folder.
    """
    model.save(folder / "model")
    Keras().write(model, None, folder)
    reading = (
        "from pathlib import Path\n"
        "from tlkeras.exporters.keras import Keras\n"
        "from tlkeras.model.transfer_model import TransferModel\n"
        "Keras().load(Path())\n"
        "print(TransferModel.load('model').backbone.name)\n"
    )
    (use,) = Keras().usage(model.backbone, model.task)
    return printed(reading, folder), printed(use.code, folder)


def printed(code: str, folder: Path, *arguments: str) -> str:
    """Returns what a fresh process prints that runs code in a folder."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    ).stdout


def weights_of(model: Any) -> dict[str, np.ndarray]:
    """Returns every weight of a model by path; where dropout's generators stand is none."""
    kept = (v for v in model.variables if v.name != "seed_generator_state")
    return {variable.path: variable.numpy() for variable in kept}
