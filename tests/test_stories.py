"""A network that was really trained, stories260K, read from a folder like Llama 2's."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tlkeras.backbones.hub_text import Llama
from tlkeras.frameworks import tf

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


def logits(weights: Weights, ids: Sequence[int]) -> np.ndarray:
    """Returns the logits of the next piece behind each, by llama2.c's own order of numbers."""
    count = len(ids)
    x = weights["emb"][[*ids]].astype(np.float64)
    turns = np.arange(count)[:, None] / 10_000 ** (np.arange(0, SIZE, 2) / SIZE)
    unseen = np.triu(np.full([count, count], -np.inf), 1)

    def norm(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + 1e-5) * scale

    def turned(x: np.ndarray) -> np.ndarray:
        pairs = x.reshape(count, -1, SIZE // 2, 2)
        whole = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * turns)[:, None]
        return np.stack([whole.real, whole.imag], axis=-1).reshape(count, -1, SIZE)

    for layer in range(LAYERS):
        w = {name: values[layer] for name, values in weights.items() if values.ndim > 1}
        state = norm(x, weights["ra"][layer])
        query, key = turned(state @ w["wq"].T), turned(state @ w["wk"].T)
        value = (state @ w["wv"].T).reshape(count, -1, SIZE)
        key, value = (np.repeat(each, HEADS // KEY_HEADS, axis=1) for each in (key, value))
        rated = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(SIZE) + unseen
        shares = np.exp(rated - rated.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", shares, value).reshape(count, -1) @ w["wo"].T
        state = norm(x, weights["rf"][layer])
        gate = state @ w["w1"].T
        x = x + (gate / (1 + np.exp(-gate)) * (state @ w["w3"].T)) @ w["w2"].T
    return norm(x, weights["rfin"]) @ weights["emb"].T


@pytest.mark.data
def test_stories260k_goes_on_with_a_story_by_the_logits_of_a_numpy_forward_pass(
    real_data, tmp_path
):
    folder = real_data / "weights/text"
    known = pieces(folder / "tok512.bin")
    weights = dict(np.load(folder / "stories260K_named.npz"))
    write(weights, known, tmp_path)
    backbone = Llama(weights=str(tmp_path), length=LENGTH)
    network = backbone.build()

    def found(ids: Sequence[int]) -> Any:
        row = np.pad([*ids], (0, LENGTH - len(ids)), constant_values=-1)
        tokens = network(tf.constant(row[None], tf.int32))["tokens"]
        return tokens.numpy()[0, : len(ids)] @ weights["emb"].T

    row = backbone.preprocess({"text": tf.constant("Once upon a time")}).numpy()
    ids = [int(piece) for piece in row if piece >= 0]
    while len(ids) < 64:
        ids.append(int(found(ids)[-1].argmax()))
    story = "".join(known[i][0] for i in ids[1:])
    assert story.startswith(" Once upon a time, there was a little girl named Lily. She loved to")
    expected = logits(weights, ids)
    np.testing.assert_allclose(found(ids), expected, atol=1e-4)
    chances = np.exp(expected - expected.max(axis=-1, keepdims=True))
    chances /= chances.sum(axis=-1, keepdims=True)
    of_next = chances[np.arange(len(ids) - 1), ids[1:]]
    assert np.exp(-np.log(of_next).mean()) < 3  # Perplexity; of 512 pieces.
