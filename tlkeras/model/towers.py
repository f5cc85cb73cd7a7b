"""Towers: networks side by side, in one network and out of it again.

A layer of a tower has the tower's name before its own, so that no two layers have one name and that
each tower is found again, also in a network that was read from a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tlkeras.backbone import Backbone, grouped
from tlkeras.frameworks import keras

PICTURE, TEXT = "picture", "text"
"""The names of the towers of a pair."""

PAIR = {PICTURE: "image", TEXT: "caption"}
"""What each tower of a pair reads of an example; alone, that of texts reads ``text``."""

_CALL = "convert_to_tensor"


def named(tower: str, layer: str) -> str:
    """Returns the name of a tower's layer or block in the network of all towers."""
    return f"{tower}_{layer}"


def joined(towers: Mapping[str, tuple[str, Backbone]], name: str) -> keras.Model:
    """Returns the network of all towers, flat, with new weights of each.

    Its inputs are those of the towers by the key of each, its outputs their ``pooled`` features by
    the tower's name; ``pooled`` joins them, [b, channels of all].

    Args:
        towers: By name, the key of an example that a tower reads, and the tower. It has one input.
        name: Of the network.
    """
    inputs: dict[str, Any] = {}
    features: dict[str, Any] = {}
    for tower, (key, backbone) in towers.items():
        network: Any = backbone.build()
        for operation in network.operations:
            operation.name = named(tower, operation.name)
        given = network.input
        inputs[key] = keras.Input(given.shape[1:], dtype=given.dtype, name=key)
        features[tower] = network.call(inputs[key])["pooled"]
    pooled = keras.layers.Concatenate(name="pooled")([*features.values()])
    made: Any = keras.Model(inputs, {"pooled": pooled, **features}, name=name)
    name_calls(made)
    return made


def name_calls(network: keras.Model) -> None:
    """Gives names of the network's own to what Keras adds where it calls another network.

    Keras counts these in a process, so that one which was read from a file has the name of a new
    one, and both cannot be in one network.
    """
    added = [each for each in network.operations if each.name.startswith(_CALL)]
    for number, operation in enumerate(added):
        operation.name = f"{network.name}_called_{number}"


def blocks(towers: Mapping[str, Backbone], network: keras.Model) -> dict[str, list[keras.Layer]]:
    """Returns the layers of a network that begins with towers, by block, tower after tower.

    So the blocks of the first towers may be cut off as a frozen part. Inputs join the first block,
    layers behind the towers the last.
    """
    found: dict[str, list[keras.Layer]] = {}
    rest = list(network.layers)
    for tower, backbone in towers.items():
        prefix = named(tower, "")
        own = [layer for layer in rest if layer.name.startswith(prefix)]
        found |= grouped(backbone.block_pattern, own, prefix)
        rest = [layer for layer in rest if not layer.name.startswith(prefix)]
    inputs = [layer for layer in rest if isinstance(layer, keras.layers.InputLayer)]
    first, last = next(iter(found)), next(reversed(found))
    found[first] = inputs + found[first]
    found[last] = found[last] + [layer for layer in rest if layer not in inputs]
    return found
