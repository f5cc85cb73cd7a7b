"""Precision: a network that was trained in fewer bits, in float32."""

from __future__ import annotations

from typing import Any

from tlkeras.frameworks import keras

_FEWER = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def float32(network: keras.Model) -> keras.Model:
    """Returns a network with the same weights that computes in float32; itself if it does so.

    Converters take a network of mixed precision without complaint, and what they write then needs
    operations that no phone has.
    """
    if all(layer.compute_dtype == "float32" for layer in network._flatten_layers()):
        return network
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # That of the models within, which do not keep theirs.
    try:
        rebuilt: Any = type(network).from_config(_widened(network.get_config()))
    finally:
        keras.config.set_dtype_policy(policy)
    for layer, copy in zip(network._flatten_layers(), rebuilt._flatten_layers(), strict=True):
        # As when a file is loaded; `set_weights` forgets what a Normalization makes of its weights.
        held: dict[str, Any] = {}
        layer.save_own_variables(held)
        copy.load_own_variables(held)
    return rebuilt


def _widened(value: Any) -> Any:
    """Returns a config in which every number, of inputs inside as well, is float32."""
    match value:
        case dict():
            return {key: _widened(each) for key, each in value.items()}
        case list() | tuple():
            return type(value)(map(_widened, value))
        case str() if value in _FEWER:
            return "float32"
        case _:
            return value
