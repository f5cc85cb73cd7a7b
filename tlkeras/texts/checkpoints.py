"""Checkpoints: text networks of KerasHub from the folders of Hugging Face's libraries.

``config.json`` says what the network is, ``model.safetensors``, or the parts in
``model.safetensors.index.json``, hold its weights. Every variable gets its tensor; a tensor that
no variable needs, such as those of a classifier, is not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import files
from tlkeras.frameworks import keras, keras_hub, tf
from tlkeras.texts.layout import Layout, Settings

_WEIGHTS = "model.safetensors"

# Integers and 8 bits hold quantised values, which are none without their scales.
_FLOATS = ("F16", "BF16", "F32", "F64")

# The tensor's last part, by the variable's; BERT's first folders have the names of TensorFlow.
_LAST = {
    "kernel": ("weight",),
    "bias": ("bias",),
    "embeddings": ("weight",),
    "rel_embedding": ("weight",),
    "scale": ("weight",),
    "gamma": ("weight", "gamma"),
    "beta": ("bias", "beta"),
}


def _tanh_gelu() -> Any:
    keras_hub.layers  # noqa: B018 (registers the function)
    return keras.saving.get_registered_object("keras_hub>gelu_approximate")


# By Hugging Face's name, what KerasHub's layers take.
_ACTIVATIONS = {
    "gelu": lambda: "gelu",
    "gelu_new": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "relu": lambda: "relu",
    "silu": lambda: "silu",
    "swish": lambda: "silu",
}


def settings(folder: Path, layout: Layout) -> Settings:
    """Returns the settings of ``config.json``, with the defaults of what it leaves out.

    Raises:
        ValueError: The network cannot be what it says.
    """
    file = folder / "config.json"
    merged = {**layout.defaults, **files.read_json(file)}
    if merged.get("quantization_config") is not None:
        raise ValueError(
            f"{file} has a quantization_config, so the weights are quantised, which is not read "
            "here; use the folder of the same network in 16 or 32 bits."
        )
    allowed = {layout.activation: [*_ACTIVATIONS], **layout.settings}
    for name, values in allowed.items():
        if name in merged and merged[name] not in values:
            raise ValueError(
                f"{file}: {name} is {merged[name]!r}, expected {' or '.join(map(repr, values))}: "
                "KerasHub's network has nothing else."
            )
    if missing := [name for name in layout.sizes.values() if name not in merged]:
        raise ValueError(f"{file} has no {missing[0]!r}.")
    return merged


def sizes(settings: Settings, layout: Layout) -> dict[str, Any]:
    """Returns the arguments of KerasHub's constructor."""
    named = {argument: settings[name] for argument, name in layout.sizes.items()}
    return {**named, **layout.sized(settings)}


def changes(settings: Settings, layout: Layout) -> dict[str, Any]:
    """Returns the activation and the epsilon that settings name; no constructor takes them."""
    return {
        "activation": _ACTIVATIONS[settings[layout.activation]](),
        "layer_norm_epsilon": settings[layout.epsilon],
        "epsilon": settings[layout.epsilon],
    }


def rebuilt(network: keras.Model, changes: Mapping[str, Any]) -> keras.Model:
    """Returns a network of new layers, random and with changes of their configurations."""
    from tlkeras.texts.hub_layers import MENDED  # It imports KerasHub.

    copies: dict[int, Any] = {}  # Keras asks for a layer that is called twice twice.

    def copy(layer: Any) -> Any:
        if id(layer) not in copies:
            kind = MENDED.get(type(layer).__name__, type(layer))
            config = kind.get_config(layer)
            named = {name: value for name, value in changes.items() if name in config}
            if "layer_norm_epsilon" not in config:
                named.pop("activation", None)  # That of a pooler is its own.
            copies[id(layer)] = kind.from_config({**config, **named})
        return copies[id(layer)]

    def call(layer: Any, *arguments: Any, **named: Any) -> Any:
        # Gemma's factor is a tensor, which Keras cannot save in bfloat16.
        plain = (float(each) if keras.ops.is_tensor(each) else each for each in arguments)
        return layer(*plain, **named)

    return keras.models.clone_model(network, clone_function=copy, call_function=call)


def load(network: keras.Model, folder: Path, layout: Layout) -> None:
    """Sets every variable of a network.

    Raises:
        ValueError: There are no such weights, or one is missing or of another shape.
    """
    opened = tensors(folder)
    prefix = _prefix(folder, opened, layout)
    for variable in network.variables:
        if variable.name == "seed_generator_state":
            continue
        place, last = variable.path.rsplit("/", 1)
        found = [
            read(folder, opened, [f"{prefix}{name}.{end}" for end in _LAST[last]])
            for name in _names(place, layout).split(" + ")
        ]
        shape = tuple(variable.shape)
        try:
            parts = [layout.arranged(variable.path, tensor, shape) for tensor in found]
            variable.assign(np.broadcast_to(sum(parts), shape))
        except ValueError:
            raise ValueError(
                f"{folder}: the tensor of {variable.path} has the shape {list(found[0].shape)}, "
                f"which does not fit {list(shape)}, as config.json says."
            ) from None


def readout(folder: Path) -> np.ndarray:
    """Returns the matrix that rates the next piece, where it is not the table of the pieces.

    Raises:
        ValueError: It is not there; a file that Keras wrote of a network has none.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder} holds no readout, and config.json has one of its own (tie_word_embeddings "
            "is false); set weights to the folder with model.safetensors."
        )
    return read(folder, tensors(folder), ["lm_head.weight"]).T


def tensors(folder: Path) -> dict[str, Any]:
    """Returns the open file of every tensor of a folder, by name.

    Raises:
        ValueError: A file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    index = folder / f"{_WEIGHTS}.index.json"
    names = [_WEIGHTS]
    if index.exists():
        names = sorted({*files.read_json(index)["weight_map"].values()})
    opened: dict[str, Any] = {}
    for name in names:
        try:
            file = safe_open(folder / name, framework="tf")
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{folder / name} cannot be read: {error}.") from None
        opened |= dict.fromkeys(file.keys(), file)
    return opened


def read(folder: Path, tensors: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
    """Returns the first of these tensors that there is, float32.

    Raises:
        ValueError: There is none, or it holds no floating-point numbers of 16 bits or more.
    """
    for name in names:
        if name in tensors:
            if (kind := tensors[name].get_slice(name).get_dtype()) not in _FLOATS:
                raise ValueError(
                    f"{folder}: the tensor {name} holds {kind}, expected {' or '.join(_FLOATS)}: "
                    "quantised weights are not read here; use the folder of the same network in "
                    "16 or 32 bits."
                )
            return tf.cast(tensors[name].get_tensor(name), tf.float32).numpy()
    raise ValueError(f"{folder}: there is no tensor {' or '.join(names)}.")


def _prefix(folder: Path, tensors: Mapping[str, Any], layout: Layout) -> str:
    """Returns what stands before all names, such as ``bert.``; a bare network has nothing."""
    first = f"{next(iter(layout.weights.values()))}.weight"
    for name in tensors:
        if name == first or name.endswith(f".{first}"):
            return name.removesuffix(first)
    raise ValueError(f"{folder}: there is no tensor {first}, nor one under another model's name.")


def _names(place: str, layout: Layout) -> str:
    for pattern, names in layout.weights.items():
        if found := re.fullmatch(pattern, place):
            return found.expand(names)
    raise KeyError(place)
