"""Llama: KerasHub's layer with a configuration by which Keras makes it again.

In KerasHub 0.32 its `get_config` reads an attribute that it has under another name. So a network
with it can be neither saved nor copied. Importing this module imports KerasHub.
"""

from __future__ import annotations

import inspect
from typing import Any

from keras_hub.src.models.llama.llama_decoder import LlamaTransformerDecoder

from tlkeras.frameworks import keras

_ARGUMENTS = [
    name
    for name, parameter in inspect.signature(LlamaTransformerDecoder).parameters.items()
    if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
]


@keras.saving.register_keras_serializable("tlkeras")
class LlamaDecoder(LlamaTransformerDecoder):
    """A layer of Llama; its weights and numbers are KerasHub's."""

    def get_config(self) -> dict[str, Any]:
        config = {name: getattr(self, name) for name in _ARGUMENTS}
        config["activation"] = keras.activations.serialize(config["activation"])
        config["kernel_initializer"] = keras.initializers.serialize(config["kernel_initializer"])
        return {**keras.layers.Layer.get_config(self), **config}
