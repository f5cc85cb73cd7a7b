"""A network that was really trained, stories260K, read from a folder like Llama 2's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from stories import HEADS, KEY_HEADS, LAYERS, LENGTH, SIZE, Weights, pieces, write

from tlkeras.backbones.hub_text import Llama
from tlkeras.frameworks import tf


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
