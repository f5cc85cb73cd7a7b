"""Towers: pairs of a picture and a text network of KerasHub, from Hugging Face's folders.

``config.json`` says what they are, ``model.safetensors`` holds the weights, and
``preprocessor_config.json`` says how pictures are resized and scaled. KerasHub 0.32 itself reads
presets alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tlkeras.files import read_json
from tlkeras.frameworks import keras_hub
from tlkeras.images.framing import Framing
from tlkeras.texts import checkpoints, hub_files
from tlkeras.texts.layout import Settings, layers

# What Pillow calls its filters in ``preprocessor_config.json``.
_FILTERS = {0: "nearest", 1: "lanczos3", 2: "bilinear", 3: "bicubic"}

# The tensor's last part, by the variable's.
_LAST = {"kernel": "weight", "embeddings": "weight", "gamma": "weight", "bias": "bias"}
_LAST["beta"] = "bias"

# Variables with a tensor of another name than those around them.
_WHOLE = {
    r"vision/embedding/class_embedding": "vision_model.embeddings.class_embedding",
    r"vision/head/variable(_\d+)?": "vision_model.head.probe",  # It has no name in KerasHub.
}

# The parts of a matrix that is one in PyTorch.
_STACKED = re.compile(r"vision/head/attention/(query|key|value)/(kernel|bias)")
_THIRDS = ("query", "key", "value")

Values = tuple[float, ...]


class Towers(NamedTuple):
    """How a folder describes a pair.

    Attributes:
        model_type: Of ``config.json``.
        prefix: Of the names of KerasHub's classes.
        defaults: Settings of ``vision_config`` and ``text_config`` that folders leave out.
        allowed: Of both, those that the networks do not know, with the values that they have.
        activations: By Hugging Face's name, what KerasHub's layers take.
        weights: From a pattern of a variable's tower and path, without its last part, to the name
            of the tensor, without its last part.
        paired: Makes the pair from both networks and the settings.
        tokenizer: Reads the tokenizer of a folder.
    """

    model_type: str
    prefix: str
    defaults: Mapping[str, Settings]
    allowed: Mapping[str, Sequence[Any]]
    activations: Mapping[str, str]
    weights: Mapping[str, str]
    paired: Callable[[Any, Any, Settings], Any]
    tokenizer: Callable[[Path], Any]

    def kind(self, part: str) -> Any:
        """Returns a class of KerasHub, ``CLIPBackbone`` of the part ``Backbone``."""
        return getattr(keras_hub.models, f"{self.prefix}{part}")


def settings(folder: Path, towers: Towers) -> dict[str, Any]:
    """Returns ``config.json`` with all settings of both towers.

    Raises:
        ValueError: The networks cannot be what it says.
    """
    file = folder / "config.json"
    found = read_json(file)
    for tower, defaults in towers.defaults.items():
        found[tower] = {**defaults, **found.get(tower, {})}
        for name, values in {"hidden_act": [*towers.activations], **towers.allowed}.items():
            if (value := found[tower].get(name, values[0])) not in values:
                raise ValueError(
                    f"{file}: {name} of {tower} is {value!r}, expected "
                    f"{' or '.join(map(repr, values))}: KerasHub's network has nothing else."
                )
    return found


def random(settings: Settings, towers: Towers) -> Any:
    """Returns the pair of KerasHub that settings describe, with random weights."""
    seen, written = settings["vision_config"], settings["text_config"]
    size = seen["image_size"]
    vision = towers.kind("VisionEncoder")(
        patch_size=seen["patch_size"], image_shape=(size, size, 3), **_sizes(seen, towers)
    )
    text = towers.kind("TextEncoder")(
        vocabulary_size=written["vocab_size"],
        embedding_dim=written["hidden_size"],
        max_sequence_length=written["max_position_embeddings"],
        **_sizes(written, towers),
    )
    pair = towers.paired(vision, text, settings)
    for variable in (*vision.variables, *text.variables):
        if variable.name == "position_ids":  # KerasHub's CLIP gives every patch the same place.
            variable.assign(np.arange(variable.shape[1])[None])
    return pair


def _sizes(tower: Settings, towers: Towers) -> dict[str, Any]:
    return {
        "hidden_dim": tower["hidden_size"],
        "num_layers": tower["num_hidden_layers"],
        "num_heads": tower["num_attention_heads"],
        "intermediate_dim": tower["intermediate_size"],
        "intermediate_activation": towers.activations[tower["hidden_act"]],
    }


def load(pair: Any, folder: Path, towers: Towers) -> None:
    """Sets every variable of a pair but the factor of its logits, which nothing here needs.

    Raises:
        ValueError: There are no such weights, or one is missing or of another shape.
    """
    opened = checkpoints.tensors(folder)
    inner = {"vision/": pair.vision_encoder.variables, "text/": pair.text_encoder.variables}
    seen = {id(variable) for variables in inner.values() for variable in variables}
    inner[""] = [variable for variable in pair.variables if id(variable) not in seen]
    for tower, variables in inner.items():
        for variable in variables:
            path, shape = f"{tower}{variable.path}", tuple(variable.shape)
            if variable.name == "position_ids" or variable.name.startswith("logit_"):
                continue
            tensor = _tensor(folder, opened, path, towers)
            try:
                variable.assign(_arranged(path, tensor, shape))
            except ValueError:
                raise ValueError(
                    f"{folder}: the tensor of {path} has the shape {list(tensor.shape)}, "
                    f"which does not fit {list(shape)}, as config.json says."
                ) from None


def _tensor(folder: Path, opened: Mapping[str, Any], path: str, towers: Towers) -> np.ndarray:
    for pattern, name in _WHOLE.items():
        if re.fullmatch(pattern, path):
            return checkpoints.read(folder, opened, [name])
    if match := _STACKED.fullmatch(path):
        name = f"vision_model.head.attention.in_proj_{_LAST[match[2]]}"
        stacked = checkpoints.read(folder, opened, [name])
        return np.split(stacked, 3)[_THIRDS.index(match[1])]
    place, last = path.rsplit("/", 1)
    for pattern, name in towers.weights.items():
        if match := re.fullmatch(pattern, place):
            return checkpoints.read(folder, opened, [f"{match.expand(name)}.{_LAST[last]}"])
    raise KeyError(path)


def _arranged(path: str, tensor: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns the value of a variable; kernels are stored with the outputs first."""
    if path.endswith("/kernel"):
        is_picture = tensor.ndim == 4
        tensor = np.transpose(tensor, (2, 3, 1, 0) if is_picture else (1, 0))
    return tensor.reshape(shape)


def pictures(folder: Path, size: int) -> tuple[Framing, Values, Values]:
    """Returns how pictures become squares, then the scale and the offset of pixels in [0, 255].

    They come from ``preprocessor_config.json``. Hugging Face's libraries resize with Pillow, which
    filters where a picture shrinks; a picture whose short side is resized is cropped.

    Raises:
        ValueError: The file is missing, or asks for another square than that of the network.
    """
    file = folder / "preprocessor_config.json"
    found = hub_files.settings(file, "how pictures are scaled")
    sides = {side for key in ("size", "crop_size") for side in _sides(found.get(key, size))}
    method = _FILTERS.get(found.get("resample", 3))
    if sides != {size} or method is None or not found.get("do_resize", True):
        raise ValueError(
            f"{file} has size {found.get('size')}, crop_size {found.get('crop_size')}, resample "
            f"{found.get('resample')}; expected a resize to {size}, the network's input."
        )
    factor = found.get("rescale_factor", 1 / 255) if found.get("do_rescale", True) else 1.0
    mean, deviation = np.zeros(3), np.ones(3)
    if found.get("do_normalize", True):
        mean, deviation = (np.array(found[f"image_{name}"]) for name in ("mean", "std"))
    crop = found.get("do_center_crop", False)
    scale, offset = factor / deviation, -mean / deviation
    return Framing(size, method, crop=crop), (*map(float, scale),), (*map(float, offset),)


def _sides(given: Any) -> list[int]:
    return [*given.values()] if isinstance(given, dict) else [given]


def _byte_pairs(folder: Path) -> Any:
    """Returns CLIP's tokenizer, of ``vocab.json`` and ``merges.txt`` or of ``tokenizer.json``."""
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    kind = keras_hub.tokenizers.CLIPTokenizer
    if vocabulary.is_file() and merges.is_file():
        return kind(str(vocabulary), str(merges))
    model = read_json(folder / "tokenizer.json")["model"]
    pairs = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
    return kind(model["vocab"], pairs)


def _sentence_piece(folder: Path) -> Any:
    """Returns SigLIP's tokenizer, of ``spiece.model``."""
    return keras_hub.tokenizers.SigLIPTokenizer((folder / "spiece.model").read_bytes())


def _clip(vision: Any, text: Any, settings: Settings) -> Any:
    # The networks were trained with this one; KerasHub 0.32 has 1e-6 in the last norm.
    text.layer_norm.epsilon = 1e-5
    width = settings.get("projection_dim", 512)
    return keras_hub.models.CLIPBackbone(vision, text, projection_dim=width)


def _siglip(vision: Any, text: Any, settings: Settings) -> Any:
    return keras_hub.models.SigLIPBackbone(vision, text)


_LAYERS = (r"(vision|text)/encoder_block_(\d+)", r"\1_model.encoder.layers.\2")
_ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "attention_output": "out_proj"}
_COMMON = {
    r"(vision|text)/embedding/(\w+)": r"\1_model.embeddings.\2",
    **layers(*_LAYERS, {r"layer_norm_?([12])": r"layer_norm\3"}),
    **layers(*_LAYERS, {rf"\w+/{ours}": f"self_attn.{name}" for ours, name in _ATTENTION.items()}),
    **layers(*_LAYERS, {r"(?:dense_|mlp/fc)([12])": r"mlp.fc\3"}),
}

CLIP = Towers(
    model_type="clip",
    prefix="CLIP",
    defaults={
        "vision_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 224,
            "patch_size": 32,
            "hidden_act": "quick_gelu",
        },
        "text_config": {
            "vocab_size": 49408,
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "max_position_embeddings": 77,
            "hidden_act": "quick_gelu",
        },
    },
    allowed={"layer_norm_eps": (1e-5,)},
    activations={"quick_gelu": "quick_gelu", "gelu": "gelu"},
    weights={
        **_COMMON,
        "vision/pre_layer_norm": "vision_model.pre_layrnorm",  # Their spelling.
        "vision/layer_norm": "vision_model.post_layernorm",
        "text/layer_norm": "text_model.final_layer_norm",
        "vision_projection": "visual_projection",
        "text_projection": "text_projection",
    },
    paired=_clip,
    tokenizer=_byte_pairs,
)

_SIGLIP_SIZES = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "gelu_pytorch_tanh",
}

SIGLIP = Towers(
    model_type="siglip",
    prefix="SigLIP",
    defaults={
        "vision_config": {**_SIGLIP_SIZES, "image_size": 224, "patch_size": 16},
        "text_config": {**_SIGLIP_SIZES, "vocab_size": 32000, "max_position_embeddings": 64},
    },
    allowed={"layer_norm_eps": (1e-6,)},
    activations={"gelu_pytorch_tanh": "gelu_approximate", "gelu": "gelu"},
    weights={
        **_COMMON,
        "vision/post_layer_norm": "vision_model.post_layernorm",
        "vision/head/attention/attention_output": "vision_model.head.attention.out_proj",
        "vision/head/layernorm": "vision_model.head.layernorm",
        r"vision/head/mlp/(fc\d)": r"vision_model.head.mlp.\1",
        "text/post_layer_norm": "text_model.final_layer_norm",
        "text/head": "text_model.head",
    },
    paired=_siglip,
    tokenizer=_sentence_piece,
)
