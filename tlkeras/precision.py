"""Precision: a network that was trained in fewer bits, in float32."""

from __future__ import annotations

from typing import Any

from tlkeras.frameworks import keras


def float32(network: keras.Model) -> keras.Model:
    """Returns a network with the same weights that computes in float32; itself if it does so.

    Converters take a network of mixed precision without complaint, and what they write then needs
    operations that no phone has.
    """
    if all(layer.compute_dtype == "float32" for layer in network._flatten_layers()):
        return network

    def copied(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, keras.Layer):  # Operations have no precision of their own.
            config["dtype"] = "float32"
        return type(layer).from_config(config)

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        rebuilt: Any = keras.models.clone_model(network, clone_function=copied, recursive=True)
    finally:
        keras.config.set_dtype_policy(policy)
    for layer, copy in zip(network._flatten_layers(), rebuilt._flatten_layers(), strict=True):
        # As when a file is loaded; `set_weights` forgets what a Normalization makes of its weights.
        held: dict[str, Any] = {}
        layer.save_own_variables(held)
        copy.load_own_variables(held)
    return rebuilt
