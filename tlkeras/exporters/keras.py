"""Keras: for anything that runs Keras 3."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlkeras.exporter import UNSTATED, Exporter
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import save_network


class Keras(Exporter, name="keras"):
    """One file ``model.keras``, which ``keras.saving.load_model`` reads without tlkeras.

    It takes float32 [b, size, size, 3] in [0, 255], scaling inside, and gives a dict of the served
    outputs.
    """

    def files(self):
        return ("model.keras",)

    def write(self, model, samples, out, origin=UNSTATED):
        served = model.task.served(model.full.output)
        network: Any = keras.Model(model.full.input, served, name=model.full.name)
        own = [added for added in network.operations if added not in model.full.operations]
        for number, operation in enumerate(own):
            operation.name = f"served_{number}"  # Keras counts those of the whole process.
        save_network(network, out / "model.keras")

    def load(self, out):
        network: Any = keras.saving.load_model(out / "model.keras", compile=False)

        signature = [tf.TensorSpec(network.inputs[0].shape, tf.float32)]
        run = tf.function(lambda inputs: network(inputs, training=False), signature)

        def predict(inputs):
            served = run(inputs)
            return {name: np.asarray(tensor) for name, tensor in served.items()}

        return predict
