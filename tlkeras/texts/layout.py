"""Layout: how the folders of Hugging Face's libraries describe a text network.

It leads from ``config.json`` to the arguments of KerasHub's constructor, and from the path of a
variable to the tensors of ``model.safetensors``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Settings = Mapping[str, Any]
Arranged = Callable[[str, np.ndarray, Sequence[int]], np.ndarray]


def dense(path: str, tensor: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns the value of a variable; kernels are stored as [outputs, inputs]."""
    return (tensor.T if path.endswith("/kernel") else tensor).reshape(shape)


class Layout(NamedTuple):
    """How a folder describes a network.

    Attributes:
        model_types: Of ``config.json``, those that this layout reads.
        sizes: The constructor's arguments, by the setting that gives each.
        weights: From a pattern of the path of a variable, without its last part, to the names of
            the tensors, without their last part; several are added.
        settings: Settings that the network does not know, with the values that change nothing.
        defaults: Settings that older or newer folders leave out.
        activation: The setting of the activation, which is put into the network.
        epsilon: The setting of the norms' epsilon, which is put into the network.
        arranged: From the path of a variable, a tensor and the variable's shape to its value.
        sized: The constructor's arguments that are no setting as it stands, from the settings.
    """

    model_types: tuple[str, ...]
    sizes: Mapping[str, str]
    weights: Mapping[str, str]
    settings: Mapping[str, Sequence[Any]]
    defaults: Settings
    activation: str = "hidden_act"
    epsilon: str = "layer_norm_eps"
    arranged: Arranged = dense
    sized: Callable[[Settings], Settings] = lambda settings: {}


def layers(keras: str, theirs: str, parts: Mapping[str, str]) -> dict[str, str]:
    """Returns the weights of every layer: Keras's paths of its parts, and their names."""
    return {f"{keras}/{part}": f"{theirs}.{name}" for part, name in parts.items()}
