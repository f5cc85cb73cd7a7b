"""Small random pairs as Hugging Face's libraries write them, and their forward passes in NumPy.

The passes follow the papers (https://arxiv.org/abs/2103.00020, https://arxiv.org/abs/2303.15343)
and the names in the tensors, not the code under test.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.texts.bytepairs import LETTERS

WIDTH, INNER, HEADS, LAYERS, JOINED, PLACES, SIZE, PATCH = 16, 24, 2, 2, 12, 10, 32, 8
TEXTS = ["a photo of a rainy day.", "Rain", "a day"]
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
EPSILON = {"clip": 1e-5, "siglip": 1e-6}

Tensors = Mapping[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]


def describe(name: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """Writes a folder without weights and returns its settings; `changes` are of both towers."""
    folder.mkdir(parents=True, exist_ok=True)
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        **changes,
    }
    pieces = _byte_pairs(folder) if name == "clip" else _sentence_pieces(folder)
    settings = {
        "model_type": name,
        "vision_config": {**tower, "image_size": SIZE, "patch_size": PATCH},
        "text_config": {**tower, "vocab_size": pieces, "max_position_embeddings": PLACES},
        **({"projection_dim": JOINED} if name == "clip" else {}),
    }
    (folder / "config.json").write_text(json.dumps(settings))
    pictures: dict[str, Any] = {"resample": 3, "rescale_factor": 1 / 255}
    if name == "clip":
        pictures |= {"do_center_crop": True, "crop_size": SIZE, "size": {"shortest_edge": SIZE}}
        pictures |= {"image_mean": CLIP_MEAN, "image_std": CLIP_STD}
    else:
        pictures |= {"size": {"height": SIZE, "width": SIZE}}
        pictures |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    return settings


def write(name: str, folder: Path) -> Tensors:
    """Writes a folder and returns its tensors."""
    from safetensors.numpy import save_file

    settings = describe(name, folder)
    random = np.random.default_rng(0)
    tensors = {}
    for key, shape in _shapes(name, settings["text_config"]["vocab_size"]).items():
        value = random.normal(0, 0.3, shape).astype(np.float32)
        is_norm = "norm" in key and key.endswith("weight")
        tensors[key] = value + 1 if is_norm else value
    save_file(tensors, folder / "model.safetensors")
    return tensors


def _byte_pairs(folder: Path) -> int:
    letters = [str(letter) for letter in LETTERS]
    pairs = ["r a", "i n</w>", "ra in</w>", "d a", "da y</w>"]
    pieces = [*letters, *(f"{x}</w>" for x in letters), *(x.replace(" ", "") for x in pairs)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({x: i for i, x in enumerate(pieces)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]))
    return len(pieces)


def _sentence_pieces(folder: Path) -> int:
    import sentencepiece

    proto = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text.lower().rstrip(".") for text in TEXTS]),
        model_writer=proto,
        vocab_size=30,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    (folder / "spiece.model").write_bytes(proto.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=proto.getvalue()).vocab_size()


def _shapes(name: str, pieces: int) -> Shapes:
    places, count = (SIZE // PATCH) ** 2, 0
    found: Shapes = {
        "vision_model.embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        "text_model.embeddings.token_embedding.weight": (pieces, WIDTH),
        "text_model.embeddings.position_embedding.weight": (PLACES, WIDTH),
    }
    if name == "clip":
        count = 1
        found["vision_model.embeddings.class_embedding"] = (WIDTH,)
        found |= _norm("vision_model.pre_layrnorm")
        found |= {f"{x}_projection.weight": (JOINED, WIDTH) for x in ("text", "visual")}
    else:
        found["vision_model.embeddings.patch_embedding.bias"] = (WIDTH,)
        found["vision_model.head.probe"] = (1, 1, WIDTH)
        found["vision_model.head.attention.in_proj_weight"] = (3 * WIDTH, WIDTH)
        found["vision_model.head.attention.in_proj_bias"] = (3 * WIDTH,)
        found |= _linear("vision_model.head.attention.out_proj", WIDTH, WIDTH)
        found |= _norm("vision_model.head.layernorm") | _perceptron("vision_model.head")
        found |= _linear("text_model.head", WIDTH, WIDTH)
    found["vision_model.embeddings.position_embedding.weight"] = (places + count, WIDTH)
    found |= _norm("vision_model.post_layernorm") | _norm("text_model.final_layer_norm")
    for tower in ("vision", "text"):
        for number in range(LAYERS):
            layer = f"{tower}_model.encoder.layers.{number}"
            found |= _norm(f"{layer}.layer_norm1") | _norm(f"{layer}.layer_norm2")
            found |= _perceptron(layer)
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                found |= _linear(f"{layer}.self_attn.{part}", WIDTH, WIDTH)
    return found


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str) -> Shapes:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def _perceptron(name: str) -> Shapes:
    return _linear(f"{name}.mlp.fc1", WIDTH, INNER) | _linear(f"{name}.mlp.fc2", INNER, WIDTH)


def picture_rows(name: str, tensors: Tensors, pixels: np.ndarray) -> np.ndarray:
    """Returns NumPy's embeddings of pictures [b, SIZE, SIZE, 3] in [0, 255]."""
    mean, deviation = (CLIP_MEAN, CLIP_STD) if name == "clip" else ([0.5] * 3, [0.5] * 3)
    scaled = (pixels / 255 - np.array(mean)) / np.array(deviation)
    net = _Pass(name, tensors)
    side, stem = SIZE // PATCH, "vision_model.embeddings"
    cut = scaled.reshape(len(pixels), side, PATCH, side, PATCH, 3).transpose(0, 1, 3, 5, 2, 4)
    kernel = tensors[f"{stem}.patch_embedding.weight"].reshape(WIDTH, -1)
    x = cut.reshape(len(pixels), side * side, -1) @ kernel.T
    x = x + tensors.get(f"{stem}.patch_embedding.bias", 0)
    if name == "clip":
        first = np.tile(tensors[f"{stem}.class_embedding"], (len(pixels), 1, 1))
        x = np.concatenate([first, x], axis=1)
    x = x + tensors[f"{stem}.position_embedding.weight"]
    if name == "clip":
        x = net.norm(x, "vision_model.pre_layrnorm")
    x = net.norm(net.encoded(x, "vision_model"), "vision_model.post_layernorm")
    if name == "clip":
        return x[:, 0] @ tensors["visual_projection.weight"].T
    probe = np.tile(tensors["vision_model.head.probe"][0], (len(x), 1, 1))
    head = "vision_model.head"
    parts = [np.split(tensors[f"{head}.attention.in_proj_{end}"], 3) for end in ("weight", "bias")]
    query, key, value = (
        y @ kernel.T + bias for y, kernel, bias in zip((probe, x, x), *parts, strict=True)
    )
    found = net.linear(_mixed(query, key, value, 0), f"{head}.attention.out_proj")
    found = found + net.perceptron(net.norm(found, f"{head}.layernorm"), head)
    return found[:, 0]


def text_rows(name: str, tensors: Tensors, ids: np.ndarray) -> np.ndarray:
    """Returns NumPy's embeddings of texts, given as ids int [b, PLACES]."""
    net, stem = _Pass(name, tensors), "text_model.embeddings"
    x = tensors[f"{stem}.token_embedding.weight"][ids]
    x = x + tensors[f"{stem}.position_embedding.weight"]
    hidden = np.triu(np.full((PLACES, PLACES), -np.inf), 1) if name == "clip" else 0
    x = net.norm(net.encoded(x, "text_model", hidden), "text_model.final_layer_norm")
    if name == "clip":
        ends = (ids == ids.max()).argmax(axis=1)
        return x[np.arange(len(ids)), ends] @ tensors["text_projection.weight"].T
    return net.linear(x[:, -1], "text_model.head")


class _Pass:
    """The parts of a forward pass."""

    def __init__(self, name: str, tensors: Tensors) -> None:
        self._tensors, self._epsilon = tensors, EPSILON[name]
        self._activated = _quick_gelu if name == "clip" else _tanh_gelu

    def linear(self, x: Any, name: str) -> Any:
        return x @ self._tensors[f"{name}.weight"].T + self._tensors[f"{name}.bias"]

    def norm(self, x: Any, name: str) -> Any:
        unit = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + self._epsilon)
        return unit * self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]

    def perceptron(self, x: Any, name: str) -> Any:
        return self.linear(self._activated(self.linear(x, f"{name}.mlp.fc1")), f"{name}.mlp.fc2")

    def encoded(self, x: Any, tower: str, hidden: Any = 0) -> Any:
        for number in range(LAYERS):
            layer = f"{tower}.encoder.layers.{number}"
            y = self.norm(x, f"{layer}.layer_norm1")
            parts = (self.linear(y, f"{layer}.self_attn.{part}_proj") for part in "qkv")
            x = x + self.linear(_mixed(*parts, hidden), f"{layer}.self_attn.out_proj")
            x = x + self.perceptron(self.norm(x, f"{layer}.layer_norm2"), layer)
        return x


def _mixed(query: Any, key: Any, value: Any, hidden: Any) -> Any:
    """Returns what the heads of attention take from the values."""
    query, key, value = (np.stack(np.split(x, HEADS, axis=-1), axis=1) for x in (query, key, value))
    scores = query @ key.swapaxes(-1, -2) / math.sqrt(WIDTH / HEADS) + hidden
    parts = np.exp(scores - scores.max(-1, keepdims=True))
    found = (parts / parts.sum(-1, keepdims=True)) @ value
    return np.concatenate([found[:, head] for head in range(HEADS)], axis=-1)


def _quick_gelu(x: Any) -> Any:
    return x / (1 + np.exp(-1.702 * x))


def _tanh_gelu(x: Any) -> Any:
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def drawn(sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Returns smooth pictures, uint8 [h, w, 3]."""
    found = []
    for height, width in sizes:
        rows, columns = np.mgrid[0:height, 0:width]
        waves = [np.sin(rows / 9 + colour) + np.cos(columns / 7 - colour) for colour in range(3)]
        found.append((127 + 40 * np.stack(waves, axis=-1)).astype(np.uint8))
    return found
