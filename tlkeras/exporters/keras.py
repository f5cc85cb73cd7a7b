"""Keras: for anything that runs Keras 3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.exporter import UNSTATED, Exporter, existing
from tlkeras.formats import signature, usage
from tlkeras.frameworks import keras, tf
from tlkeras.model.network_file import read_network, save_network
from tlkeras.model.transfer_model import HEAD, TransferModel, called_with

if TYPE_CHECKING:
    from tlkeras.backbone import Backbone
    from tlkeras.task import Task


class Keras(Exporter, name="keras"):
    """One file ``model.keras``, which ``keras.saving.load_model`` reads without tlkeras.

    Those of deberta_v3, llama and siglip have layers of tlkeras: `read_network` reads them, and
    Keras does after ``import tlkeras.texts.hub_layers``.

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
        _name_added(served, model.full)
        network: Any = keras.Model(model.full.input, served, name=model.full.name)
        save_network(network, out / "model.keras")

    def load(self, out):
        network = read_network(out / "model.keras")
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

    def model(
        self, out: Path, backbone: Backbone, task: Task, classes: Sequence[str]
    ) -> TransferModel:
        """Returns the model of a written export, with its body and its head apart.

        It is of this backbone and task, and has these classes.
        """
        network = read_network(out / "model.keras")
        head = network.get_layer(HEAD)
        body = keras.Model(network.input, called_with(head), name="body")
        full = keras.Model(body.input, head(body.output), name=backbone.name)
        return TransferModel.of(backbone, task, classes, body, head, full)

    def usage(self, backbone, task):
        used = usage.of_prepared(backbone, "model.keras", _USE, _USE_OF_OTHERS)
        return usage.abstaining(usage.labelled(used, task), task)


def _name_added(served: Any, network: keras.Model) -> None:
    """Gives names to the operations between a network and what is served of its outputs.

    Keras counts those of the whole process. So one may have the name of an operation in a network
    that was read from a file, and both cannot be in one network.
    """
    known = {id(operation) for operation in network.operations}
    waiting = keras.tree.flatten(served)
    number = 0
    while waiting:
        operation, node, _ = waiting.pop()._keras_history
        if id(operation) not in known:
            known.add(id(operation))
            operation.name = f"served_{number}"
            number += 1
            waiting += operation._inbound_nodes[node].input_tensors


_USE = """\
import keras
import numpy as np
from PIL import Image

network = keras.saving.load_model(FILE)
height, width = network.inputs[0].shape[1:3]
picture = Image.fromarray(value).resize((width, height), Image.Resampling.BILINEAR)
for name, value in network(np.asarray(picture, "float32")[None]).items():
    print(name, value.numpy())
"""

_USE_OF_OTHERS = """\
from tlkeras.model.transfer_model import read_network

network = read_network(FILE)
for name, value in network(inputs).items():
    print(name, value.numpy())
"""
