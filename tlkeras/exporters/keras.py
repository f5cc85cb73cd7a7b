"""Keras: for anything that runs Keras 3."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlkeras.exporter import UNSTATED, Exporter, existing
from tlkeras.formats import signature, usage
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import save_network


class Keras(Exporter, name="keras"):
    """One file ``model.keras``, which ``keras.saving.load_model`` reads without tlkeras.

    Its input is a batch of what `Backbone.preprocess` returns, its output a dict of the served
    outputs.
    Pictures are float32 [b, size, size, 3] in [0, 255], scaling inside.
    """

    def files(self):
        return ("model.keras",)

    def write(self, model, samples, out, origin=UNSTATED):
        out = existing(out)
        self.fits(model)
        served = model.task.served(model.full.output)
        network: Any = keras.Model(model.full.input, served, name=model.full.name)
        own = [added for added in network.operations if added not in model.full.operations]
        for number, operation in enumerate(own):
            operation.name = f"served_{number}"  # Keras counts those of the whole process.
        save_network(network, out / "model.keras")

    def load(self, out):
        network: Any = keras.saving.load_model(out / "model.keras", compile=False)
        tensors: Any = network.input
        inputs = tensors if isinstance(tensors, dict) else {"input": tensors}
        specs = {name: tf.TensorSpec(each.shape, each.dtype) for name, each in inputs.items()}

        @tf.function(input_signature=[specs])
        def run(batch):
            return network(signature.unnamed(batch, network), training=False)

        def predict(batch):
            if len(specs) == 1 and isinstance(batch, dict):
                (batch,) = batch.values()  # A network of one tensor has no name for it.
            arrays = signature.named(batch, specs)
            served = run({name: tf.constant(arrays[name], specs[name].dtype) for name in specs})
            return {name: np.asarray(tensor) for name, tensor in served.items()}

        return predict

    def usage(self, backbone, task):
        used = usage.of_prepared(backbone, "model.keras", _USE, _USE_OF_OTHERS)
        return usage.abstaining(used, task)


_USE = """\
import keras
import numpy as np
from PIL import Image

network = keras.saving.load_model(FILE)
height, width = network.inputs[0].shape[1:3]
picture = Image.fromarray(value).resize((width, height), Image.Resampling.BILINEAR)
for name, value in network(np.asarray(picture, "float32")[None]).items():
    print(name, value.numpy())  # Scores are in the order of labels.txt.
"""

_USE_OF_OTHERS = """\
import keras

network = keras.saving.load_model(FILE)
for name, value in network(inputs).items():
    print(name, value.numpy())  # Scores are in the order of labels.txt.
"""
