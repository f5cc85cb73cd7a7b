"""Precision: converts a network of mixed precision to float32."""

from __future__ import annotations

from typing import Any

from tlkeras.frameworks import keras

_FEWER = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def float32(network: keras.Model) -> keras.Model:
    """Returns a network with the same weights that computes in float32; itself if it already does.

    Converters accept a network of mixed precision, but their file then needs operations that no
    phone has.
    """
    if all(layer.compute_dtype == "float32" for layer in network._flatten_layers()):
        return network
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # Nested models take the global policy.
    try:
        rebuilt: Any = type(network).from_config(_widened(network.get_config()))
    finally:
        keras.config.set_dtype_policy(policy)
    for layer, copy in zip(network._flatten_layers(), rebuilt._flatten_layers(), strict=True):
        # As on the load of a file; after `set_weights` a Normalization would use stale values.
        variables: dict[str, Any] = {}
        layer.save_own_variables(variables)
        copy.load_own_variables(variables)
    return rebuilt


def _widened(value: Any) -> Any:
    """Returns a config with float32 in place of every narrower type, also of nested inputs."""
    match value:
        case dict():
            return {key: _widened(each) for key, each in value.items()}
        case list() | tuple():
            return type(value)(map(_widened, value))
        case str() if value in _FEWER:
            return "float32"
        case _:
            return value
