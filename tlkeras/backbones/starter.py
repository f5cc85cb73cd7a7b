"""The starter: a small network with weights inside tlkeras, for runs without a download."""

from __future__ import annotations

import warnings
from typing import Any

from tlkeras import shipped
from tlkeras.backbone import Backbone
from tlkeras.frameworks import keras
from tlkeras.images.pixels import squash
from tlkeras.kinds.image import Image
from tlkeras.model.pyramid import features


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
        arrays = shipped.read("starter")
        network.set_weights([arrays[number] for number in sorted(arrays)])
        return keras.Model(inputs, features(keras.Model(inputs, network.output)), name=self.name)

    def raw(self):
        return {"image": Image()}

    def preprocess(self, example):
        return squash(example["image"], self.size)

    def fingerprint(self):
        return shipped.digest("starter")
