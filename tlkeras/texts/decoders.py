"""Decoders: the layouts of networks in which a piece sees those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras.texts.layout import Layout, Settings, dense, layers


def _joined(path: str, tensor: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Kernels of GPT-2 are stored as [inputs, outputs], those of query, key and value as one."""
    parts = ("query", "key", "value")
    if (name := path.split("/")[-2]) in parts:
        tensor = np.split(tensor, len(parts), axis=-1)[parts.index(name)]
    return tensor.reshape(shape)


def _by_head(path: str, tensor: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Gemma's kernels of query, key and value are [heads, inputs, outputs]."""
    if path.split("/")[-2] in ("query", "key", "value"):
        heads, width, size = shape
        return tensor.reshape(heads, size, width).transpose(0, 2, 1)
    return dense(path, tensor, shape)


GPT2 = Layout(
    ("gpt2",),
    {
        "vocabulary_size": "vocab_size",
        "max_sequence_length": "n_positions",
        "num_layers": "n_layer",
        "num_heads": "n_head",
        "hidden_dim": "n_embd",
        "dropout": "resid_pdrop",
    },
    {
        "token_embedding": "wte",
        "position_embedding": "wpe",
        **layers(
            r"transformer_layer_(\d+)",
            r"h.\1",
            {
                "self_attention/query": "attn.c_attn",
                "self_attention/key": "attn.c_attn",
                "self_attention/value": "attn.c_attn",
                "self_attention/attention_output": "attn.c_proj",
                "self_attention_layer_norm": "ln_1",
                "feedforward_intermediate_dense": "mlp.c_fc",
                "feedforward_output_dense": "mlp.c_proj",
                "feedforward_layer_norm": "ln_2",
            },
        ),
        "layer_norm": "ln_f",
    },
    {
        "scale_attn_weights": [True],
        "scale_attn_by_inverse_layer_idx": [False],
        "add_cross_attention": [False],
    },
    {
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.1,
        "n_inner": None,
    },
    activation="activation_function",
    epsilon="layer_norm_epsilon",
    arranged=_joined,
    sized=lambda settings: {"intermediate_dim": settings["n_inner"] or 4 * settings["n_embd"]},
)


def _rotary(settings: Settings) -> dict[str, Any]:
    """Returns how positions turn, of the folders of transformers 5 and of those before it.

    Raises:
        ValueError: In a way that KerasHub does not know, or heads are not equal parts.
    """
    heads, size = settings["num_attention_heads"], settings["hidden_size"]
    if (found := settings.get("head_dim")) not in (None, size // heads):
        raise ValueError(f"config.json: head_dim is {found}, expected {size // heads}.")
    scaling = settings.get("rope_scaling") or {}
    rotary = {"rope_theta": settings.get("rope_theta", 10_000.0), **scaling}
    rotary |= settings.get("rope_parameters") or {}
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    if kind not in settings["rope_types"]:
        known = " or ".join(map(repr, settings["rope_types"]))
        raise ValueError(f"config.json: rope_type is {kind!r}, expected {known}.")
    return {"kind": kind, **rotary}


def _llama_sizes(settings: Settings) -> Settings:
    rotary = _rotary(settings)
    names = {"rope_max_wavelength": "rope_theta"}
    if rotary["kind"] == "llama3":
        names |= {
            "rope_frequency_adjustment_factor": "factor",
            "rope_low_freq_factor": "low_freq_factor",
            "rope_high_freq_factor": "high_freq_factor",
            "rope_pretraining_sequence_length": "original_max_position_embeddings",
        }
    heads = settings.get("num_key_value_heads") or settings["num_attention_heads"]
    # The embeddings are not used to rate pieces here.
    own = {"num_key_value_heads": heads, "tie_word_embeddings": True}
    return {**own, **{name: rotary[key] for name, key in names.items()}}


_CAUSAL_SIZES = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_query_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
}

LLAMA = Layout(
    ("llama",),
    _CAUSAL_SIZES,
    {
        "token_embedding": "embed_tokens",
        **layers(
            r"transformer_layer_(\d+)",
            r"layers.\1",
            {
                "self_attention/query": "self_attn.q_proj",
                "self_attention/key": "self_attn.k_proj",
                "self_attention/value": "self_attn.v_proj",
                "self_attention/attention_output": "self_attn.o_proj",
                "self_attention_layernorm": "input_layernorm",
                "feedforward_intermediate_dense": "mlp.up_proj",
                "feedforward_gate_dense": "mlp.gate_proj",
                "feedforward_output_dense": "mlp.down_proj",
                "feedforward_layernorm": "post_attention_layernorm",
            },
        ),
        "sequence_output_layernorm": "norm",
    },
    {"attention_bias": [False], "mlp_bias": [False]},
    {
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_types": ["default", "llama3"],
        "tie_word_embeddings": False,
    },
    epsilon="rms_norm_eps",
    sized=_llama_sizes,
)

QWEN = LLAMA._replace(
    model_types=("qwen2",),
    settings={"use_sliding_window": [False]},
    defaults={**LLAMA.defaults, "rope_types": ["default"]},
)


def _gemma_sizes(settings: Settings) -> Settings:
    rotary = _rotary({**settings, "head_dim": None})
    if rotary["rope_theta"] != 10_000:
        raise ValueError(f"config.json: rope_theta is {rotary['rope_theta']}, expected 10000.")
    return {"intermediate_dim": 2 * settings["intermediate_size"]}


GEMMA = Layout(
    ("gemma",),
    {**_CAUSAL_SIZES, "num_key_value_heads": "num_key_value_heads", "head_dim": "head_dim"},
    {
        "token_embedding": "embed_tokens",
        **layers(
            r"decoder_block_(\d+)",
            r"layers.\1",
            {
                "pre_attention_norm": "input_layernorm",
                "attention/query": "self_attn.q_proj",
                "attention/key": "self_attn.k_proj",
                "attention/value": "self_attn.v_proj",
                "attention/attention_output": "self_attn.o_proj",
                "pre_ffw_norm": "post_attention_layernorm",
                "ffw_gating": "mlp.gate_proj",
                "ffw_gating_2": "mlp.up_proj",
                "ffw_linear": "mlp.down_proj",
            },
        ),
        "final_normalization": "norm",
    },
    {
        "attention_bias": [False],
        "hidden_act": ["gelu", "gelu_pytorch_tanh"],  # Both name the approximation here.
        "hidden_activation": [None, "gelu_pytorch_tanh"],
    },
    {"hidden_act": "gelu", "rms_norm_eps": 1e-6, "rope_types": ["default"]},
    epsilon="rms_norm_eps",
    arranged=_by_head,
    sized=_gemma_sizes,
)
