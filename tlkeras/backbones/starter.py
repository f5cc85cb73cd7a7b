"""The starter: a small network with weights inside tlkeras, for runs without a download."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import files
from tlkeras.backbone import Backbone
from tlkeras.frameworks import keras
from tlkeras.images.pixels import squash
from tlkeras.kinds.image import Image
from tlkeras.model.pyramid import features

WEIGHTS = Path(__file__).parents[1] / "weights"


class Starter(Backbone, name="starter"):
    """MobileNetV2 0.35 with weights from ``tools/pretrain_starter.py``; best at 128 pixels or more.

    ``tlkeras/weights/starter.json`` describes the data, the recipe and the result.
    """

    block_pattern = r"^(block_\d+|Conv_1)"

    size: int = 128

    def validate(self):
        self.require(self.size >= 32, "size", "at least 32")

    def build(self):
        none: Any = None  # Keras annotates it as a text only.
        shape = (self.size, self.size, 3)
        inputs = keras.Input(shape)
        scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(inputs)
        with warnings.catch_warnings():
            # The warning is about published weights, which this network does not use.
            warnings.filterwarnings("ignore", "`input_shape` is undefined")
            network = keras.applications.MobileNetV2(
                alpha=0.35, weights=none, include_top=False, input_tensor=scaled, input_shape=shape
            )
        network.set_weights(read(WEIGHTS))
        return keras.Model(inputs, features(keras.Model(inputs, network.output)), name=self.name)

    def raw(self):
        return {"image": Image()}

    def preprocess(self, example):
        return squash(example["image"], self.size)

    def fingerprint(self):
        return _described(WEIGHTS)["sha256"]


def read(folder: Path) -> list[np.ndarray]:
    """Returns the float32 arrays of ``starter.npz``, in Keras's order.

    Raises:
        ValueError: The file is missing, or its SHA-256 is not that of ``starter.json``.
    """
    expected = _described(folder)["sha256"]
    path = folder / "starter.npz"
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); {_ADVICE}") from None
    digest = hashlib.sha256(encoded).hexdigest()
    if digest != expected:
        raise ValueError(
            f"{path} has {len(encoded):,} bytes of SHA-256 {digest[:12]}…, expected "
            f"{expected[:12]}…: it is damaged or another file; {_ADVICE}"
        )
    with np.load(io.BytesIO(encoded), allow_pickle=False) as arrays:
        return [arrays[name].astype(np.float32) for name in sorted(arrays.files)]


_ADVICE = "reinstall tlkeras."


def _described(folder: Path) -> dict[str, str]:
    path = folder / "starter.json"
    try:
        return files.read_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); {_ADVICE}") from None
