"""A language model in GGUF, llama.cpp's format, as a folder that `llama(weights=…)` reads.

    pip install gguf==0.19.0
    python benchmarks/gguf_folder.py --file=MODEL.gguf --out=FOLDER

For networks of the architecture ``llama`` with byte pairs cut as SmolLM2's are. Quantized weights
become float32; queries and keys are put back in the order of Hugging Face's libraries, which have
the two halves of what a position turns one behind the other. Names of tensors and fields:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import save_file

SIZES = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
SINGLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
CONTROL = 3
"""The type of a piece that stands for no text."""


def main() -> None:
    """Reads and writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.file, options.out)


def write(file: Path, folder: Path) -> None:
    """Writes the configuration, the tokenizer and the weights of a file into a folder."""
    reader = gguf.GGUFReader(file)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    expected = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
    }
    for name, value in expected.items():
        if fields.get(name) != value:
            raise SystemExit(f"{file}: {name} is {fields.get(name)!r}, expected {value!r}.")
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        heads = {"attn_q": "head_count", "attn_k": "head_count_kv"}.get(part(tensor.name))
        if heads:
            values = halved(values, fields[f"llama.attention.{heads}"])
        tensors[named(tensor.name)] = np.ascontiguousarray(values, np.float32)
    save_file(tensors, folder / "model.safetensors")
    config = {name: fields[f"llama.{key}"] for name, key in SIZES.items()} | {
        "model_type": "llama",
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": "lm_head.weight" not in tensors,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name, held in tokenizer(fields).items():
        (folder / name).write_text(json.dumps(held, ensure_ascii=False), encoding="utf-8")


def part(name: str) -> str:
    """Returns the name of a tensor without its layer."""
    return name.removesuffix(".weight").split(".")[-1]


def named(name: str) -> str:
    """Returns what Hugging Face's libraries call a tensor."""
    if not name.startswith("blk."):
        return f"{SINGLE[part(name)]}.weight"
    return f"model.layers.{name.split('.')[1]}.{NAMES[part(name)]}.weight"


def halved(kernel: np.ndarray, heads: int) -> np.ndarray:
    """Returns a kernel, [outputs, inputs], whose pairs of outputs stand half a head apart."""
    pairs = kernel.reshape(heads, -1, 2, kernel.shape[-1])
    return pairs.swapaxes(1, 2).reshape(kernel.shape)


def tokenizer(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns what the two files of a tokenizer hold, by name."""
    pieces = fields["tokenizer.ggml.tokens"]
    types = fields["tokenizer.ggml.token_type"]
    special = [
        {"id": number, "content": piece, "special": True}
        for number, (piece, kind) in enumerate(zip(pieces, types, strict=True))
        if kind == CONTROL
    ]
    known = {piece: number for number, piece in enumerate(pieces)}
    words = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    whole = {
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, words],
        },
        "post_processor": None,
        "model": {"type": "BPE", "vocab": known, "merges": fields["tokenizer.ggml.merges"]},
    }
    padding = pieces[fields["tokenizer.ggml.padding_token_id"]]
    config = {"tokenizer_class": "GPT2Tokenizer", "pad_token": padding}
    return {"tokenizer.json": whole, "tokenizer_config.json": config}


if __name__ == "__main__":
    main()
