"""Small random networks as Hugging Face's libraries write them, and their forward passes in NumPy.

A folder holds ``config.json``, ``model.safetensors`` and the files of the tokenizer. The passes
follow the papers and the names in the tensors, not the code under test.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tlkeras.texts.bytepairs import LETTERS

WIDTH, INNER, HEADS, LAYERS, NARROW, POSITIONS = 16, 24, 2, 3, 6, 24

WORDS = ["un", "##wel", "##come", "rain", "in", "spain", ".", "falls", "##s", "a"]
WORD_PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
MERGES = ["r a", "i n", "ra in", "Ġ in", "Ġ rain"]
TEXTS = ["unwelcome rain in Spain falls.", "rain", "", "a rain in a rain in a rain in a rain in a"]

Tensors = Mapping[str, np.ndarray]


class Family(NamedTuple):
    """What a folder holds, and the hidden states of its network."""

    config: Mapping[str, Any]
    shapes: Mapping[str, Sequence[int]]
    tokenizer: Callable[[Path], int]
    states: Callable[..., list[np.ndarray]]


def write(name: str, folder: Path, prefix: str = "", **changes: Any) -> Tensors:
    """Writes a folder, with some settings changed, and returns its tensors without the prefix."""
    from safetensors.numpy import save_file

    config, tensors = describe(name, folder, **changes), {}
    random = np.random.default_rng(0)
    for key, shape in FAMILIES[name].shapes.items():
        size = [config["vocab_size"] if n == "vocabulary" else n for n in shape]
        value = random.normal(0, 0.3, size).astype(np.float32)
        tensors[key] = value + 1 if "norm" in key.lower() and key.endswith("weight") else value
    save_file({prefix + key: value for key, value in tensors.items()}, folder / "model.safetensors")
    return tensors


def describe(name: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """Writes a folder without weights, and returns its settings."""
    folder.mkdir(parents=True, exist_ok=True)
    family = FAMILIES[name]
    config = {**family.config, "vocab_size": family.tokenizer(folder), **changes}
    config = {key: value for key, value in config.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))
    return config


def _word_pieces(folder: Path) -> int:
    (folder / "vocab.txt").write_text("\n".join(WORD_PIECES) + "\n")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    return len(WORD_PIECES)


def _byte_pairs(folder: Path, special: Sequence[str], tokenizer: str) -> int:
    pieces = [*special, *LETTERS, *(merge.replace(" ", "") for merge in MERGES)]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer}))
    return len(pieces)


def _roberta_pieces(folder: Path) -> int:
    return _byte_pairs(folder, ["<s>", "<pad>", "</s>", "<unk>"], "RobertaTokenizer")


def _gpt2_pieces(folder: Path) -> int:
    return _byte_pairs(folder, ["<|endoftext|>"], "GPT2Tokenizer")


def _sentence_pieces(file: str, *, more: int = 0, **options: Any) -> Callable[[Path], int]:
    def write(folder: Path) -> int:
        import sentencepiece

        proto = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS),
            model_writer=proto,
            vocab_size=30,
            hard_vocab_limit=False,
            minloglevel=2,
            **options,
        )
        (folder / file).write_bytes(proto.getvalue())
        return (
            sentencepiece.SentencePieceProcessor(model_proto=proto.getvalue()).vocab_size() + more
        )

    return write


# The published tokenizers of decoders keep all white space.
_AS_WRITTEN = {"remove_extra_whitespaces": False, "normalization_rule_name": "identity"}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, Sequence[int]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int = WIDTH) -> dict[str, Sequence[int]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


class Names(NamedTuple):
    """What the parts of an encoder's layer are called."""

    layer: str
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    inner: str = "intermediate.dense"
    outer: str = "output.dense"
    norm: str = "output.LayerNorm"

    def shapes(self, layers: Sequence[str]) -> dict[str, Sequence[int]]:
        shapes: dict[str, Sequence[int]] = {}
        for layer in layers:
            for name in (self.query, self.key, self.value, self.output):
                shapes |= _linear(f"{layer}.{name}", WIDTH, WIDTH)
            shapes |= _linear(f"{layer}.{self.inner}", WIDTH, INNER)
            shapes |= _linear(f"{layer}.{self.outer}", INNER, WIDTH)
            shapes |= _norm(f"{layer}.{self.attention_norm}") | _norm(f"{layer}.{self.norm}")
        return shapes

    def layers(self) -> list[str]:
        return [self.layer.format(i) for i in range(LAYERS)]


BERT_NAMES = Names("encoder.layer.{}")
DISTIL_NAMES = Names(
    "transformer.layer.{}",
    *("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
    *("sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"),
)
ALBERT_NAMES = Names(
    "encoder.albert_layer_groups.{}.albert_layers.0",
    *("attention.query", "attention.key", "attention.value", "attention.dense"),
    *("attention.LayerNorm", "ffn", "ffn_output", "full_layer_layer_norm"),
)

DEBERTA_NAMES = BERT_NAMES._replace(
    query="attention.self.query_proj",
    key="attention.self.key_proj",
    value="attention.self.value_proj",
)


def _embeddings(width: int, segments: int, positions: int = POSITIONS) -> dict[str, Sequence[int]]:
    return {
        "embeddings.word_embeddings.weight": ("vocabulary", width),  # type: ignore[dict-item]
        "embeddings.position_embeddings.weight": (positions, width),
        **({"embeddings.token_type_embeddings.weight": (segments, width)} if segments else {}),
        **_norm("embeddings.LayerNorm", width),
    }


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def tanh_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {"gelu": gelu, "gelu_new": tanh_gelu, "relu": lambda x: np.maximum(x, 0)}


def normed(t: Tensors, name: str, x: np.ndarray, epsilon: float) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return x * t[f"{name}.weight"] + t[f"{name}.bias"]


def linear(t: Tensors, name: str, x: np.ndarray) -> np.ndarray:
    return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray, heads: int) -> Any:
    """Returns the attention's sums; `seen` says which keys a query may see, [b, queries, keys]."""
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2) for x in (q, k, v))
    scores = q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1])
    scores = np.where(seen[:, None], scores, -1e30)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    sums = (scores / scores.sum(-1, keepdims=True)) @ v
    return sums.swapaxes(1, 2).reshape(*sums.shape[::2], -1)


def encoded(
    t: Tensors, names: Names, layers: Sequence[str], x: Any, mask: Any, heads: int, config: Any
) -> list[np.ndarray]:
    """Returns the embeddings and what comes out of every layer."""
    epsilon = config.get("layer_norm_eps", 1e-12)
    act = ACTIVATIONS[config.get("hidden_act") or config["activation"]]
    seen = np.repeat(mask[:, None], mask.shape[1], axis=1)
    states = [x]
    for layer in layers:
        q, k, v = (
            linear(t, f"{layer}.{name}", x) for name in (names.query, names.key, names.value)
        )
        sums = linear(t, f"{layer}.{names.output}", attended(q, k, v, seen, heads))
        x = normed(t, f"{layer}.{names.attention_norm}", x + sums, epsilon)
        inner = act(linear(t, f"{layer}.{names.inner}", x))
        outer = linear(t, f"{layer}.{names.outer}", inner)
        x = normed(t, f"{layer}.{names.norm}", x + outer, epsilon)
        states.append(x)
    return states


def embedded(t: Tensors, config: Any, ids: Any, segments: Any, first: int = 0) -> np.ndarray:
    x = t["embeddings.word_embeddings.weight"][ids]
    x = x + t["embeddings.position_embeddings.weight"][first : first + ids.shape[1]]
    if (kinds := t.get("embeddings.token_type_embeddings.weight")) is not None:
        x = x + kinds[segments]
    return normed(t, "embeddings.LayerNorm", x, config.get("layer_norm_eps", 1e-12))


def bert(t: Tensors, config: Any, ids: Any, mask: Any, segments: Any) -> list[np.ndarray]:
    layers = [BERT_NAMES.layer.format(i) for i in range(config["num_hidden_layers"])]
    x = embedded(t, config, ids, segments)
    return encoded(t, BERT_NAMES, layers, x, mask, config["num_attention_heads"], config)


def distil_bert(t: Tensors, config: Any, ids: Any, mask: Any, segments: Any) -> list[np.ndarray]:
    x = embedded(t, config, ids, segments)
    return encoded(t, DISTIL_NAMES, DISTIL_NAMES.layers(), x, mask, HEADS, config)


def roberta(t: Tensors, config: Any, ids: Any, mask: Any, segments: Any) -> list[np.ndarray]:
    x = embedded(t, config, ids, np.zeros_like(ids), first=config["pad_token_id"] + 1)
    return encoded(t, BERT_NAMES, BERT_NAMES.layers(), x, mask, HEADS, config)


def electra(t: Tensors, config: Any, ids: Any, mask: Any, segments: Any) -> list[np.ndarray]:
    x = linear(t, "embeddings_project", embedded(t, config, ids, segments))
    return encoded(t, BERT_NAMES, BERT_NAMES.layers(), x, mask, HEADS, config)


def albert(t: Tensors, config: Any, ids: Any, mask: Any, segments: Any) -> list[np.ndarray]:
    name = "encoder.embedding_hidden_mapping_in"
    x = linear(t, name, embedded(t, config, ids, segments))
    groups = config["num_hidden_groups"]
    per_group = config["num_hidden_layers"] // groups
    layers = [layer for layer in ALBERT_NAMES.layers()[:groups] for _ in range(per_group)]
    return encoded(t, ALBERT_NAMES, layers, x, mask, HEADS, config)


def deberta_v3(t: Tensors, config: Any, ids: Any, mask: Any, segments: Any) -> list[np.ndarray]:
    """He et al. 2020, https://arxiv.org/abs/2006.03654, with the buckets of the second version."""
    length, buckets, layer = ids.shape[1], config["position_buckets"], BERT_NAMES.layer
    x = normed(t, "embeddings.LayerNorm", t["embeddings.word_embeddings.weight"][ids], 1e-7)
    relative = normed(t, "encoder.LayerNorm", t["encoder.rel_embeddings.weight"], 1e-7)
    place = np.arange(length)[:, None] - np.arange(length)
    middle = buckets // 2
    far = np.ceil(
        np.log(np.maximum(abs(place), middle) / middle)
        / math.log((config["max_position_embeddings"] - 1) / middle)
        * (middle - 1)
    )
    place = np.where(abs(place) <= middle, place, (far + middle) * np.sign(place)).astype(int)
    seen = mask[:, None, :] & mask[:, :, None]
    states = [x]

    def heads(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:-1], HEADS, -1).swapaxes(-3, -2)

    for name in (layer.format(i) for i in range(LAYERS)):
        q, k, v = (
            lambda x, part=part: heads(linear(t, f"{name}.attention.self.{part}_proj", x))  # noqa: B023
            for part in ("query", "key", "value")
        )
        to_place = q(x) @ k(relative).swapaxes(-1, -2)
        from_place = k(x) @ q(relative).swapaxes(-1, -2)
        last = 2 * buckets - 1
        queries, keys = np.indices((length, length))
        scores = (
            q(x) @ k(x).swapaxes(-1, -2)
            + to_place[..., queries, np.clip(place + buckets, 0, last)]
            + from_place[..., keys, np.clip(buckets - place, 0, last)[keys, queries]]
        ) / math.sqrt(3 * WIDTH / HEADS)
        scores = np.where(seen[:, None], scores, -1e30)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        sums = (scores / scores.sum(-1, keepdims=True)) @ v(x)
        sums = sums.swapaxes(1, 2).reshape(*x.shape)
        sums = linear(t, f"{name}.attention.output.dense", sums)
        x = normed(t, f"{name}.attention.output.LayerNorm", x + sums, 1e-7)
        outer = linear(t, f"{name}.output.dense", gelu(linear(t, f"{name}.intermediate.dense", x)))
        x = normed(t, f"{name}.output.LayerNorm", x + outer, 1e-7)
        states.append(x)
    return states


def gpt2(t: Tensors, config: Any, ids: Any, mask: Any, segments: Any) -> list[np.ndarray]:
    act, length = ACTIVATIONS[config["activation_function"]], ids.shape[1]
    seen = np.tril(np.ones((length, length), bool)) & mask[:, None]
    seen = seen | np.eye(length, dtype=bool)  # Rows of padding see something, whatever it is.

    def conv(name: str, x: np.ndarray) -> np.ndarray:
        return x @ t[f"{name}.weight"] + t[f"{name}.bias"]

    x = t["wte.weight"][np.maximum(ids, 0)] + t["wpe.weight"][:length]
    states = [x]
    for layer in (f"h.{i}" for i in range(LAYERS)):
        q, k, v = np.split(conv(f"{layer}.attn.c_attn", normed(t, f"{layer}.ln_1", x, 1e-5)), 3, -1)
        x = x + conv(f"{layer}.attn.c_proj", attended(q, k, v, seen, HEADS))
        inner = act(conv(f"{layer}.mlp.c_fc", normed(t, f"{layer}.ln_2", x, 1e-5)))
        x = x + conv(f"{layer}.mlp.c_proj", inner)
        states.append(x)
    return [*states[:-1], normed(t, "ln_f", x, 1e-5)]


_GPT2_SHAPES: dict[str, Sequence[int]] = {
    "wte.weight": ("vocabulary", WIDTH),  # type: ignore[dict-item]
    "wpe.weight": (POSITIONS, WIDTH),
    **_norm("ln_f"),
}
for _layer in (f"h.{i}" for i in range(LAYERS)):
    _GPT2_SHAPES |= _norm(f"{_layer}.ln_1") | _norm(f"{_layer}.ln_2")
    for _name, _inputs, _outputs in (
        ("attn.c_attn", WIDTH, 3 * WIDTH),
        ("attn.c_proj", WIDTH, WIDTH),
        ("mlp.c_fc", WIDTH, 4 * WIDTH),
        ("mlp.c_proj", 4 * WIDTH, WIDTH),
    ):
        _GPT2_SHAPES[f"{_layer}.{_name}.weight"] = (_inputs, _outputs)
        _GPT2_SHAPES[f"{_layer}.{_name}.bias"] = (_outputs,)


def rms_normed(t: Tensors, name: str, x: np.ndarray, epsilon: float, add: float = 0) -> np.ndarray:
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)
    return x * (t[f"{name}.weight"] + add)


def turned(x: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Turns every pair of channels half a head apart (Su et al. 2021), x being [b, n, h, size]."""
    angles = (np.arange(x.shape[1])[:, None] * frequencies)[:, None]
    one, other = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)


def frequencies(config: Any, size: int) -> np.ndarray:
    """Returns how fast each pair turns; long waves are stretched in Llama 3.1's way."""
    found = config.get("rope_theta", 10_000.0) ** -(np.arange(0, size, 2) / size)
    if (scaling := config.get("rope_scaling")) is None:
        return found
    old, waves = scaling["original_max_position_embeddings"], 2 * math.pi / found
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    share = np.clip((old / waves - low) / (high - low), 0, 1)
    return share * found + (1 - share) * found / scaling["factor"]


def decoded(
    t: Tensors, config: Any, ids: Any, mask: Any, scale: float, add: float, act: Callable[..., Any]
) -> list[np.ndarray]:
    """Returns the hidden states of Llama, Qwen or Gemma."""
    b, length = ids.shape
    size = config.get("head_dim") or WIDTH // HEADS
    groups, epsilon = config.get("num_key_value_heads") or HEADS, config["rms_norm_eps"]
    seen = np.tril(np.ones((length, length), bool)) & mask[:, None] | np.eye(length, dtype=bool)
    turns = frequencies(config, size)

    def projected(name: str, x: np.ndarray) -> np.ndarray:
        return x @ t[f"{name}.weight"].T + t.get(f"{name}.bias", 0)

    x = t["embed_tokens.weight"][np.maximum(ids, 0)] * scale
    states = [x]
    for layer in (f"layers.{i}" for i in range(LAYERS)):
        h = rms_normed(t, f"{layer}.input_layernorm", x, epsilon, add)
        q, k, v = (projected(f"{layer}.self_attn.{part}_proj", h) for part in "qkv")
        q = turned(q.reshape(b, length, HEADS, size), turns)
        k = turned(k.reshape(b, length, groups, size), turns)
        k, v = (
            np.repeat(y.reshape(b, length, groups, size), HEADS // groups, axis=2) for y in (k, v)
        )
        q, k, v = (y.reshape(b, length, -1) for y in (q, k, v))
        x = x + projected(f"{layer}.self_attn.o_proj", attended(q, k, v, seen, HEADS))
        h = rms_normed(t, f"{layer}.post_attention_layernorm", x, epsilon, add)
        gate = act(projected(f"{layer}.mlp.gate_proj", h))
        x = x + projected(f"{layer}.mlp.down_proj", gate * projected(f"{layer}.mlp.up_proj", h))
        states.append(x)
    return [*states[:-1], rms_normed(t, "norm", x, epsilon, add)]


def llama(t: Tensors, config: Any, ids: Any, mask: Any, segments: Any) -> list[np.ndarray]:
    return decoded(t, config, ids, mask, 1, 0, lambda x: x / (1 + np.exp(-x)))


def gemma(t: Tensors, config: Any, ids: Any, mask: Any, segments: Any) -> list[np.ndarray]:
    return decoded(t, config, ids, mask, math.sqrt(WIDTH), 1, tanh_gelu)


def _decoder_shapes(groups: int, size: int, bias: bool) -> dict[str, Sequence[int]]:
    shapes: dict[str, Sequence[int]] = {
        "embed_tokens.weight": ("vocabulary", WIDTH),  # type: ignore[dict-item]
        "norm.weight": (WIDTH,),
    }
    for layer in (f"layers.{i}" for i in range(LAYERS)):
        for part, heads in (("q", HEADS), ("k", groups), ("v", groups)):
            shapes[f"{layer}.self_attn.{part}_proj.weight"] = (heads * size, WIDTH)
            if bias:
                shapes[f"{layer}.self_attn.{part}_proj.bias"] = (heads * size,)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (WIDTH, HEADS * size)
        for part in ("gate", "up"):
            shapes[f"{layer}.mlp.{part}_proj.weight"] = (INNER, WIDTH)
        shapes[f"{layer}.mlp.down_proj.weight"] = (WIDTH, INNER)
        for part in ("input", "post_attention"):
            shapes[f"{layer}.{part}_layernorm.weight"] = (WIDTH,)
    return shapes


_LLAMA_CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 1,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "max_position_embeddings": POSITIONS,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
    "tie_word_embeddings": True,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_BERT_CONFIG = {
    "model_type": "bert",
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
}
_ROBERTA_CONFIG = {
    **_BERT_CONFIG,
    "model_type": "roberta",
    "max_position_embeddings": POSITIONS + 2,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
}
_ROBERTA_SHAPES = {
    **_embeddings(WIDTH, 1, POSITIONS + 2),
    **BERT_NAMES.shapes(BERT_NAMES.layers()),
}

FAMILIES = {
    "bert": Family(
        _BERT_CONFIG,
        {
            **_embeddings(WIDTH, 2),
            **BERT_NAMES.shapes(BERT_NAMES.layers()),
            **_linear("pooler.dense", WIDTH, WIDTH),
        },
        _word_pieces,
        bert,
    ),
    "distil_bert": Family(
        {
            "model_type": "distilbert",
            "n_layers": LAYERS,
            "n_heads": HEADS,
            "dim": WIDTH,
            "hidden_dim": INNER,
            "max_position_embeddings": POSITIONS,
            "activation": "gelu",
            "dropout": 0.1,
            "pad_token_id": 0,
        },
        {**_embeddings(WIDTH, 0), **DISTIL_NAMES.shapes(DISTIL_NAMES.layers())},
        _word_pieces,
        distil_bert,
    ),
    "roberta": Family(_ROBERTA_CONFIG, _ROBERTA_SHAPES, _roberta_pieces, roberta),
    "xlm_roberta": Family(
        {**_ROBERTA_CONFIG, "model_type": "xlm-roberta"},
        _ROBERTA_SHAPES,
        _sentence_pieces("sentencepiece.bpe.model", more=2),
        roberta,
    ),
    "electra": Family(
        {**_BERT_CONFIG, "model_type": "electra", "embedding_size": NARROW},
        {
            **_embeddings(NARROW, 2),
            **_linear("embeddings_project", NARROW, WIDTH),
            **BERT_NAMES.shapes(BERT_NAMES.layers()),
        },
        _word_pieces,
        electra,
    ),
    "albert": Family(
        {
            **_BERT_CONFIG,
            "model_type": "albert",
            "hidden_act": "gelu_new",
            "embedding_size": NARROW,
            "num_hidden_layers": 2 * LAYERS,
            "num_hidden_groups": LAYERS,
            "inner_group_num": 1,
        },
        {
            **_embeddings(NARROW, 2),
            **_linear("encoder.embedding_hidden_mapping_in", NARROW, WIDTH),
            **ALBERT_NAMES.shapes(ALBERT_NAMES.layers()),
            **_linear("pooler", WIDTH, WIDTH),
        },
        _sentence_pieces(
            "spiece.model",
            pad_piece="<pad>",
            control_symbols="[CLS],[SEP],[MASK]",
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
        ),
        albert,
    ),
    "deberta_v3": Family(
        {
            "model_type": "deberta-v2",
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "max_position_embeddings": POSITIONS,
            "position_buckets": 4,
            "relative_attention": True,
            "position_biased_input": False,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "pos_att_type": ["p2c", "c2p"],
            "max_relative_positions": -1,
            "type_vocab_size": 0,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-7,
            "pad_token_id": 0,
        },
        {
            "embeddings.word_embeddings.weight": ("vocabulary", WIDTH),  # type: ignore[dict-item]
            **_norm("embeddings.LayerNorm"),
            "encoder.rel_embeddings.weight": (8, WIDTH),
            **_norm("encoder.LayerNorm"),
            **DEBERTA_NAMES.shapes(DEBERTA_NAMES.layers()),
        },
        _sentence_pieces(
            "spm.model",
            more=1,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            pad_piece="[PAD]",
            bos_piece="[CLS]",
            eos_piece="[SEP]",
            unk_piece="[UNK]",
        ),
        deberta_v3,
    ),
    "gpt2": Family(
        {
            "model_type": "gpt2",
            "n_layer": LAYERS,
            "n_head": HEADS,
            "n_embd": WIDTH,
            "n_positions": POSITIONS,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "resid_pdrop": 0.1,
        },
        _GPT2_SHAPES,
        _gpt2_pieces,
        gpt2,
    ),
    "llama": Family(
        {**_LLAMA_CONFIG, "rope_scaling": _LLAMA3},
        _decoder_shapes(1, WIDTH // HEADS, bias=False),
        _sentence_pieces("tokenizer.model", unk_id=0, bos_id=1, eos_id=2, **_AS_WRITTEN),
        llama,
    ),
    "qwen": Family(
        {**_LLAMA_CONFIG, "model_type": "qwen2", "use_sliding_window": False},
        _decoder_shapes(1, WIDTH // HEADS, bias=True),
        _gpt2_pieces,
        llama,
    ),
    "gemma": Family(
        {
            **_LLAMA_CONFIG,
            "model_type": "gemma",
            "hidden_act": "gelu",
            "head_dim": 6,
            "rope_theta": 10_000.0,
            "pad_token_id": 0,
        },
        _decoder_shapes(1, 6, bias=False),
        _sentence_pieces(
            "tokenizer.model",
            pad_id=0,
            eos_id=1,
            bos_id=2,
            unk_id=3,
            pad_piece="<pad>",
            eos_piece="<eos>",
            bos_piece="<bos>",
            unk_piece="<unk>",
            add_dummy_prefix=False,
            **_AS_WRITTEN,
        ),
        gemma,
    ),
}
