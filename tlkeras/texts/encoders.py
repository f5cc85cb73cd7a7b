"""Encoders: the layouts of networks in which every piece sees all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras.texts.layout import Layout, Settings, dense, layers

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
_BERT_LAYERS = layers(r"transformer_layer_(\d+)", r"encoder.layer.\1", _BERT_LAYER)
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
        **layers(
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


def _behind(path: str, tensor: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """RoBERTa's first positions are never used: it counts from the id of its padding on."""
    if path.endswith("position_embedding/embeddings"):
        return tensor[-shape[0] :]
    return dense(path, tensor, shape)


def _behind_padding(settings: Settings) -> Settings:
    """Returns how many positions RoBERTa uses."""
    first = settings["pad_token_id"] + 1
    return {"max_sequence_length": settings["max_position_embeddings"] - first}


ROBERTA = Layout(
    ("roberta",),
    {
        "vocabulary_size": "vocab_size",
        "max_sequence_length": "max_position_embeddings",
        **_ENCODER,
    },
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
        **layers(
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
        **layers(
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
