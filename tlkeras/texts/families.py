"""Families: what Hugging Face's folders of a text network call its sizes and its weights.

A `Layout` leads from ``config.json`` to the arguments of KerasHub's constructor, and from the path
of a variable to the tensors of ``model.safetensors``. A setting that the network cannot honour is
in `Layout.settings` with the values that change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Settings = Mapping[str, Any]
Arranged = Callable[[str, np.ndarray, Sequence[int]], np.ndarray]


def _dense(path: str, tensor: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Kernels are stored as [outputs, inputs]."""
    return (tensor.T if path.endswith("/kernel") else tensor).reshape(shape)


def _joined(path: str, tensor: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Kernels of GPT-2 are stored as [inputs, outputs], those of query, key and value as one."""
    parts = ("query", "key", "value")
    if (name := path.split("/")[-2]) in parts:
        tensor = np.split(tensor, len(parts), axis=-1)[parts.index(name)]
    return tensor.reshape(shape)


def _behind(path: str, tensor: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """RoBERTa's first positions are never used: it counts from the id of its padding on."""
    if path.endswith("position_embedding/embeddings"):
        return tensor[-shape[0] :]
    return _dense(path, tensor, shape)


def _by_head(path: str, tensor: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Gemma's kernels of query, key and value are [heads, inputs, outputs]."""
    if path.split("/")[-2] in ("query", "key", "value"):
        heads, width, size = shape
        return tensor.reshape(heads, size, width).transpose(0, 2, 1)
    return _dense(path, tensor, shape)


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
        sized: The constructor's other arguments, from the settings.
    """

    model_types: tuple[str, ...]
    sizes: Mapping[str, str]
    weights: Mapping[str, str]
    settings: Mapping[str, Sequence[Any]]
    defaults: Settings
    activation: str = "hidden_act"
    epsilon: str = "layer_norm_eps"
    arranged: Arranged = _dense
    sized: Callable[[Settings], Settings] = lambda settings: {}


def _layers(keras: str, theirs: str, parts: Mapping[str, str]) -> dict[str, str]:
    return {f"{keras}/{part}": f"{theirs}.{name}" for part, name in parts.items()}


_ENCODER = {
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "dropout": "hidden_dropout_prob",
}
_BERT_SIZES = {
    "vocabulary_size": "vocab_size",
    "max_sequence_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
    **_ENCODER,
}
_BERT_LAYER = {
    "self_attention_layer/query": "attention.self.query",
    "self_attention_layer/key": "attention.self.key",
    "self_attention_layer/value": "attention.self.value",
    "self_attention_layer/attention_output": "attention.output.dense",
    "self_attention_layer_norm": "attention.output.LayerNorm",
    "feedforward_intermediate_dense": "intermediate.dense",
    "feedforward_output_dense": "output.dense",
    "feedforward_layer_norm": "output.LayerNorm",
}
_BERT_EMBEDDINGS = {
    "token_embedding": "embeddings.word_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "segment_embedding": "embeddings.token_type_embeddings",
    "embeddings_layer_norm": "embeddings.LayerNorm",
}
_BERT_LAYERS = _layers(r"transformer_layer_(\d+)", r"encoder.layer.\1", _BERT_LAYER)
_BERT_SETTINGS: dict[str, Sequence[Any]] = {
    "position_embedding_type": ["absolute"],
    "is_decoder": [False],
    "add_cross_attention": [False],
}
_BERT_DEFAULTS = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "type_vocab_size": 2,
}

BERT = Layout(
    ("bert",),
    _BERT_SIZES,
    {**_BERT_EMBEDDINGS, **_BERT_LAYERS, "pooled_dense": "pooler.dense"},
    _BERT_SETTINGS,
    _BERT_DEFAULTS,
)

DISTIL_BERT = Layout(
    ("distilbert",),
    {
        "vocabulary_size": "vocab_size",
        "max_sequence_length": "max_position_embeddings",
        "num_layers": "n_layers",
        "num_heads": "n_heads",
        "hidden_dim": "dim",
        "intermediate_dim": "hidden_dim",
        "dropout": "dropout",
    },
    {
        "token_and_position_embedding/token_embedding": "embeddings.word_embeddings",
        "token_and_position_embedding/position_embedding": "embeddings.position_embeddings",
        "embeddings_layer_norm": "embeddings.LayerNorm",
        **_layers(
            r"transformer_layer_(\d+)",
            r"transformer.layer.\1",
            {
                "self_attention_layer/query": "attention.q_lin",
                "self_attention_layer/key": "attention.k_lin",
                "self_attention_layer/value": "attention.v_lin",
                "self_attention_layer/attention_output": "attention.out_lin",
                "self_attention_layer_norm": "sa_layer_norm",
                "feedforward_intermediate_dense": "ffn.lin1",
                "feedforward_output_dense": "ffn.lin2",
                "feedforward_layer_norm": "output_layer_norm",
            },
        ),
    },
    {},
    {"activation": "gelu", "layer_norm_eps": 1e-12, "dropout": 0.1},
    activation="activation",
)


def _behind_padding(settings: Settings) -> Settings:
    """Returns how many positions RoBERTa uses."""
    first = settings["pad_token_id"] + 1
    return {"max_sequence_length": settings["max_position_embeddings"] - first}


ROBERTA = Layout(
    ("roberta", "camembert"),
    {"vocabulary_size": "vocab_size", **_ENCODER},
    {
        "embeddings/token_embedding": "embeddings.word_embeddings",
        # All pieces are in the same segment, whose row KerasHub has no place for.
        "embeddings/position_embedding": (
            "embeddings.position_embeddings + embeddings.token_type_embeddings"
        ),
        "embeddings_layer_norm": "embeddings.LayerNorm",
        **_BERT_LAYERS,
    },
    {**_BERT_SETTINGS, "type_vocab_size": [1]},
    {**_BERT_DEFAULTS, "layer_norm_eps": 1e-5, "type_vocab_size": 1, "pad_token_id": 1},
    arranged=_behind,
    sized=_behind_padding,
)

XLM_ROBERTA = ROBERTA._replace(model_types=("xlm-roberta",))

ALBERT = Layout(
    ("albert",),
    {
        **_BERT_SIZES,
        "embedding_dim": "embedding_size",
        "num_groups": "num_hidden_groups",
        "num_inner_repetitions": "inner_group_num",
    },
    {
        **_BERT_EMBEDDINGS,
        "embedding_projection": "encoder.embedding_hidden_mapping_in",
        **_layers(
            r"group_(\d+)_inner_layer_(\d+)",
            r"encoder.albert_layer_groups.\1.albert_layers.\2",
            {
                "self_attention_layer/query": "attention.query",
                "self_attention_layer/key": "attention.key",
                "self_attention_layer/value": "attention.value",
                "self_attention_layer/attention_output": "attention.dense",
                "self_attention_layer_norm": "attention.LayerNorm",
                "feedforward_intermediate_dense": "ffn",
                "feedforward_output_dense": "ffn_output",
                "feedforward_layer_norm": "full_layer_layer_norm",
            },
        ),
        "pooled_dense": "pooler",
    },
    _BERT_SETTINGS,
    {
        **_BERT_DEFAULTS,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
    },
)

ELECTRA = Layout(
    ("electra",),
    {
        **{key: name for key, name in _BERT_SIZES.items() if key != "vocabulary_size"},
        "vocab_size": "vocab_size",
        "embedding_dim": "embedding_size",
    },
    {
        **_BERT_EMBEDDINGS,
        "embeddings_projection": "embeddings_project",
        **_BERT_LAYERS,
    },
    _BERT_SETTINGS,
    _BERT_DEFAULTS,
)

DEBERTA_V3 = Layout(
    ("deberta-v2",),
    {
        "vocabulary_size": "vocab_size",
        "max_sequence_length": "max_position_embeddings",
        "bucket_size": "position_buckets",
        **_ENCODER,
    },
    {
        "token_embedding": "embeddings.word_embeddings",
        "embeddings_layer_norm": "embeddings.LayerNorm",
        "rel_embedding": "encoder.rel_embeddings",
        "rel_embedding/rel_embeddings_layer_norm": "encoder.LayerNorm",
        **_layers(
            r"disentangled_attention_encoder_layer_(\d+)",
            r"encoder.layer.\1",
            {
                **_BERT_LAYER,
                "self_attention_layer/query": "attention.self.query_proj",
                "self_attention_layer/key": "attention.self.key_proj",
                "self_attention_layer/value": "attention.self.value_proj",
            },
        ),
    },
    {
        "relative_attention": [True],
        "position_biased_input": [False],
        "pos_att_type": [["p2c", "c2p"], ["c2p", "p2c"], "p2c|c2p", "c2p|p2c"],
        "share_att_key": [True],
        "norm_rel_ebd": ["layer_norm"],
        "max_relative_positions": [-1],
        "conv_kernel_size": [0, None],
        "type_vocab_size": [0],
        "embedding_size": [None],
    },
    {
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-7,
        "hidden_dropout_prob": 0.1,
        # What a folder does not say is what transformers takes for it, which is DeBERTa's first.
        "relative_attention": False,
        "position_biased_input": True,
        "share_att_key": False,
        "norm_rel_ebd": "none",
    },
)

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
        **_layers(
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
    # The embeddings are not used to rate pieces here.
    return {name: rotary[key] for name, key in names.items()} | {"tie_word_embeddings": True}


_CAUSAL_SIZES = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_query_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
}

LLAMA = Layout(
    ("llama",),
    _CAUSAL_SIZES,
    {
        "token_embedding": "embed_tokens",
        **_layers(
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
    {"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_types": ["default", "llama3"]},
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
    return {
        "intermediate_dim": 2 * settings["intermediate_size"],
        "head_dim": settings["head_dim"],
    }


GEMMA = Layout(
    ("gemma",),
    {name: key for name, key in _CAUSAL_SIZES.items() if name != "intermediate_dim"},
    {
        "token_embedding": "embed_tokens",
        **_layers(
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
