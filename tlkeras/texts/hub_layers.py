"""Hub layers: those of KerasHub 0.32 that Keras cannot make again from a file, mended.

Importing this module imports KerasHub; Keras does so when it reads a network with such a layer.
"""

from __future__ import annotations

import inspect
from typing import Any

from keras_hub.src.models.deberta_v3 import relative_embedding
from keras_hub.src.models.llama import llama_decoder
from keras_hub.src.models.siglip import siglip_layers

from tlkeras.frameworks import keras

_LLAMA = [
    name
    for name, parameter in inspect.signature(
        llama_decoder.LlamaTransformerDecoder
    ).parameters.items()
    if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
]


@keras.saving.register_keras_serializable("tlkeras")
class LlamaTransformerDecoder(llama_decoder.LlamaTransformerDecoder):
    """A layer of Llama; KerasHub's `get_config` reads an attribute under another name."""

    def get_config(self) -> dict[str, Any]:
        config = {name: getattr(self, name) for name in _LLAMA}
        config["activation"] = keras.activations.serialize(config["activation"])
        config["kernel_initializer"] = keras.initializers.serialize(config["kernel_initializer"])
        return {**keras.layers.Layer.get_config(self), **config}


@keras.saving.register_keras_serializable("tlkeras")
class RelativeEmbedding(relative_embedding.RelativeEmbedding):
    """DeBERTa's distances; KerasHub builds their norm too late for the weights in a file."""

    def build(self, input_shape: Any) -> None:
        self.layer_norm.build((1, 2 * self.bucket_size, self.hidden_dim))
        self.built = True


@keras.saving.register_keras_serializable("tlkeras")
class SigLIPVisionEmbedding(siglip_layers.SigLIPVisionEmbedding):
    """The patches of SigLIP; KerasHub tells Keras of one more than there are, as CLIP has."""

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0], self.num_positions, self.hidden_dim


MENDED: dict[str, Any] = {
    each.__name__: each
    for each in (LlamaTransformerDecoder, RelativeEmbedding, SigLIPVisionEmbedding)
}
"""What stands in place of a layer of KerasHub, by its name."""
