"""stories260K, a small network that was really trained, as a folder like Llama 2's.

Its weights and pieces are those of llama2.c, where the pairs of numbers that a position turns stand
beside each other.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

LAYERS, HEADS, KEY_HEADS, WIDTH, LENGTH = 5, 8, 4, 64, 128
SIZE = WIDTH // HEADS
BYTES = range(3, 259)  # The pieces of single bytes; before them are <unk>, <s> and </s>.

Weights = Mapping[str, np.ndarray]


def pieces(file: Path) -> list[tuple[str, float]]:
    """Returns the pieces of a tokenizer of llama2.c, in the order of their ids, and their ranks."""
    held, found, place = file.read_bytes(), [], 4
    while place < len(held):
        rank, size = struct.unpack_from("fi", held, place)
        found.append((held[place + 8 : place + 8 + size].decode(), rank))
        place += 8 + size
    return found


def varint(number: int) -> bytes:
    number, found = number % 2**64, b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def whole(field: int, number: int) -> bytes:
    return varint(field << 3) + varint(number)


def text(field: int, held: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(held)) + held


def sentence_piece(known: Sequence[tuple[str, float]]) -> bytes:
    """Returns a SentencePiece model; its own classes need another protobuf than TensorFlow's."""
    unknown, control, normal, byte = 2, 3, 1, 6
    model = b""
    for i, (piece, rank) in enumerate(known):
        kind = byte if i in BYTES else normal if i > 2 else control if i else unknown
        name = piece.replace(" ", "\u2581") if kind == normal else piece.strip()
        rated = varint(2 << 3 | 5) + struct.pack("<f", rank)
        model += text(1, text(1, name.encode()) + rated + whole(3, kind))
    numbers = {3: 2, 4: len(known), 35: 1, 40: 0, 41: 1, 42: 2, 43: -1}
    trainer = b"".join(whole(field, number) for field, number in numbers.items())
    normalizer = text(1, b"identity") + whole(3, 1) + whole(4, 0) + whole(5, 1)
    return model + text(2, trainer) + text(3, normalizer)


def halved(kernel: np.ndarray) -> np.ndarray:
    """Returns a kernel of queries or keys whose pairs of numbers stand half a head apart."""
    parts = kernel.reshape(-1, SIZE // 2, 2, WIDTH)
    return parts.swapaxes(1, 2).reshape(-1, WIDTH)


def write(weights: Weights, known: Sequence[tuple[str, float]], folder: Path) -> None:
    names = {
        "self_attn.v_proj": "wv",
        "self_attn.o_proj": "wo",
        "mlp.gate_proj": "w1",
        "mlp.down_proj": "w2",
        "mlp.up_proj": "w3",
        "input_layernorm": "ra",
        "post_attention_layernorm": "rf",
    }
    tensors = {"model.embed_tokens.weight": weights["emb"], "model.norm.weight": weights["rfin"]}
    for layer in range(LAYERS):
        place = f"model.layers.{layer}."
        for name, own in (("q_proj", "wq"), ("k_proj", "wk")):
            tensors[f"{place}self_attn.{name}.weight"] = halved(weights[own][layer])
        for name, own in names.items():
            tensors[f"{place}{name}.weight"] = weights[own][layer]
    save_file(
        {k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "model.safetensors"
    )
    settings = {
        "model_type": "llama",
        "vocab_size": len(known),
        "hidden_size": WIDTH,
        "intermediate_size": weights["w1"].shape[1],
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.model").write_bytes(sentence_piece(known))
