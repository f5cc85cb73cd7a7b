#!/usr/bin/env bash
# KerasHub 0.32.0 reads a Llama that transformers 5.24.0 saved, and leaves out what makes a Llama
# 3.1 or 3.2 one of long texts: the stretching of its rotary embedding. transformers 4 wrote
# `rope_theta` and `rope_scaling`; transformers 5 writes both as `rope_parameters`. Since
# keras-hub#2733 `rope_theta` is taken from there, but the rest is still looked for under
# `rope_scaling` alone, and its absence means no stretching. So the network answers otherwise,
# without a warning; before, there was at least a KeyError. gpt-oss fares alike: its 32 becomes 1.
# Who tunes Llama 3.1 by transformers 5 and goes on in Keras is hurt; the folder as it was published
# is read rightly. What helps: pass the four numbers to `from_preset`, under the names below, and
# `layer_norm_epsilon` too: `rms_norm_eps` is not read from any Llama, 1e-6 is taken (theirs: 1e-5).
# My guess was that two folders that transformers reads alike give the same network.
# Seen when this was written (Python 3.11, Keras 3.15.1 on TensorFlow 2.21.0), 200 words, beside a
# Llama in NumPy:
#   rope_scaling, as in transformers 4: off by 0.00000, outputs to 3.3
#   rope_parameters, by transformers 5: off by 1.05024, outputs to 3.3
#   the same, numbers passed: off by 0.00000, outputs to 3.3
#   gpt-oss by transformers 5: factor 32.0 is read as 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet keras-hub==0.32.0 keras==3.15.1 \
  tensorflow==2.21.0 tensorflow-text==2.21.1 safetensors==0.8.0 transformers==5.24.0
cat > "$folder/stretched.py" <<'PYTHON'
import json
import pathlib
import sys

import keras_hub
import numpy as np
from safetensors.numpy import save_file
from transformers import GptOssConfig, LlamaConfig

words, width, blocks, heads, pairs, head, inner = 50, 64, 2, 4, 2, 16, 96
theta, epsilon = 500000.0, 1e-5
scaling = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
random = np.random.default_rng(0)
shapes = {
    "self_attn.q_proj": (heads * head, width),
    "self_attn.k_proj": (pairs * head, width),
    "self_attn.v_proj": (pairs * head, width),
    "self_attn.o_proj": (width, heads * head),
    "mlp.gate_proj": (inner, width),
    "mlp.up_proj": (inner, width),
    "mlp.down_proj": (width, inner),
}
tensors = {"embed_tokens": random.normal(size=(words, width)), "norm": np.ones(width)}
for block in range(blocks):
    for name, shape in shapes.items():
        kernel = random.normal(size=shape) / shape[1] ** 0.5
        tensors[f"layers.{block}.{name}"] = kernel
    for name in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"layers.{block}.{name}"] = np.ones(width)
tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def frequencies():
    """Those of Llama 3.1: long waves are stretched, short ones are kept, some lie between."""
    plain = theta ** -(np.arange(0, head, 2) / head)
    waves = scaling["original_max_position_embeddings"] * plain / (2 * np.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = np.clip((waves - low) / (high - low), 0, 1)
    return kept * plain + (1 - kept) * plain / scaling["factor"]


def llama(tokens):
    def norm(x):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon)

    def turned(x, count):
        x = x.reshape(len(tokens), count, head)
        first, second = np.split(x, 2, axis=-1)
        return x * np.cos(angles) + np.concatenate([-second, first], -1) * np.sin(angles)

    angles = np.outer(np.arange(len(tokens)), frequencies())
    angles = np.concatenate([angles, angles], 1)[:, None]
    seen = np.tril(np.ones((len(tokens), len(tokens)), bool))
    x = tensors["embed_tokens"][tokens].astype(np.float64)
    for block in range(blocks):
        query, key, value, out, gate, up, down = (
            tensors[f"layers.{block}.{name}"].T.astype(np.float64) for name in shapes
        )
        y = norm(x)
        keys = turned(y @ key, pairs).repeat(heads // pairs, 1)
        values = (y @ value).reshape(-1, pairs, head).repeat(heads // pairs, 1)
        scores = np.einsum("qhd,khd->hqk", turned(y @ query, heads), keys) / head**0.5
        shares = np.where(seen, np.exp(scores - scores.max(-1, keepdims=True)), 0)
        shares /= shares.sum(-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", shares, values).reshape(len(tokens), -1) @ out
        y = norm(x)
        x = x + (y @ gate / (1 + np.exp(-(y @ gate))) * (y @ up)) @ down
    return norm(x)


root = pathlib.Path(sys.argv[1])
old, new, oss = (root / name for name in ("old", "new", "oss"))
old.mkdir(parents=True)
config = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": words,
    "hidden_size": width,
    "num_hidden_layers": blocks,
    "num_attention_heads": heads,
    "num_key_value_heads": pairs,
    "intermediate_size": inner,
    "rms_norm_eps": epsilon,
    "rope_theta": theta,
    "rope_scaling": scaling,
    "tie_word_embeddings": True,
}
(old / "config.json").write_text(json.dumps(config))
LlamaConfig.from_pretrained(old).save_pretrained(new)
written = json.loads((new / "config.json").read_text())
assert written["rope_parameters"] == {**scaling, "rope_theta": theta}
assert "rope_scaling" not in written
for path in (old, new):
    named = {f"model.{name}.weight": tensor for name, tensor in tensors.items()}
    save_file(named, path / "model.safetensors")

tokens = random.integers(0, words, 200)
right = llama(tokens)
passed = {
    "rope_frequency_adjustment_factor": scaling["factor"],
    "rope_low_freq_factor": scaling["low_freq_factor"],
    "rope_high_freq_factor": scaling["high_freq_factor"],
    "rope_pretraining_sequence_length": scaling["original_max_position_embeddings"],
}
ways = {
    "rope_scaling, as in transformers 4": (old, {}),
    "rope_parameters, by transformers 5": (new, {}),
    "the same, numbers passed": (new, passed),
}
off = []
for name, (path, more) in ways.items():
    backbone = keras_hub.models.Llama3Backbone.from_preset(
        str(path), layer_norm_epsilon=epsilon, **more
    )
    inputs = {"token_ids": tokens[None], "padding_mask": np.ones((1, len(tokens)), int)}
    off.append(float(abs(np.asarray(backbone(inputs))[0] - right).max()))
    print(f"{name}: off by {off[-1]:.5f}, outputs to {abs(right).max():.1f}")
small = {
    "vocab_size": words,
    "hidden_size": width,
    "num_hidden_layers": 1,
    "num_attention_heads": heads,
    "num_key_value_heads": pairs,
    "head_dim": head,
    "intermediate_size": inner,
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
}
gpt = GptOssConfig(**small, architectures=["GptOssForCausalLM"])
gpt.save_pretrained(oss)
read = keras_hub.models.GptOssBackbone.from_preset(str(oss), load_weights=False)
meant = gpt.rope_parameters["factor"]
print(f"gpt-oss by transformers 5: factor {meant} is read as {read.rope_scaling_factor}")
assert off[0] < 1e-4 and off[1] > 0.5 and off[2] < 1e-4
assert (meant, read.rope_scaling_factor) == (32.0, 1.0)
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" -W ignore "$folder/stretched.py" "$folder/models"
