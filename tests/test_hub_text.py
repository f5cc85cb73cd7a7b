"""Text networks of KerasHub: equal to NumPy's, whole through files, and strict about folders."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from checkpoints import FAMILIES, LAYERS, MERGES, POSITIONS, TEXTS, WORD_PIECES
from conftest import printed, read_afresh

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.backbones import hub_text
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.exporters.tflite import TFLite
from tlkeras.frameworks import keras, keras_hub, tf
from tlkeras.model import folding, lengths, precision
from tlkeras.model.transfer_model import TransferModel, computing_in
from tlkeras.tasks.classification import Classification

LENGTH = 16

slow = pytest.mark.slow


def made(name: str, weights: Path | None, **fields: Any) -> Any:
    member: Any = spec.names(Backbone)[name]
    text = None if weights is None else str(weights)
    return member(**{"weights": text, "length": LENGTH, **fields})


def states(name: str, folder: Path, tensors: Any, ids: Any, segments: Any = None) -> Any:
    """Returns NumPy's hidden states of ids, and which of them are no padding."""
    config = json.loads((folder / "config.json").read_text())
    ids = np.asarray(ids)
    mask = ids != config.get("pad_token_id", -1)
    exact = {key: value.astype(np.float64) for key, value in tensors.items()}
    segments = np.zeros_like(ids) if segments is None else segments
    return FAMILIES[name].states(exact, config, ids, mask, segments), mask


def ids_of(backbone: Any) -> Any:
    return backbone.preprocess({"text": tf.constant(TEXTS)})


def assert_near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_and_their_summary_are_those_of_a_forward_pass_in_numpy(name, tmp_path):
    tensors = checkpoints.write(name, tmp_path)
    backbone = made(name, tmp_path)
    ids = ids_of(backbone)
    found = backbone.build()(ids)
    (*_, last), mask = states(name, tmp_path, tensors, ids)
    assert mask.any(axis=1).sum() >= 3 and not mask.all()
    assert np.array_equal(found["mask"], mask)
    assert_near(found["tokens"][mask], last[mask])
    for pooled, tokens, kept in zip(found["pooled"], last, mask, strict=True):
        if kept.any():
            of_text = tokens[kept]
            assert_near(pooled, of_text[-1] if backbone.pooling == "last" else of_text.mean(0))


def test_a_start_that_is_named_as_padding_too_is_read_as_a_start(tmp_path):
    checkpoints.write("gpt2", tmp_path, pad_token_id=0)
    file, found = tmp_path / "tokenizer_config.json", []
    start = "<|endoftext|>"
    for padding in ({}, {"pad_token": start}):
        file.write_text(json.dumps({"add_bos_token": True, "bos_token": start, **padding}))
        backbone = made("gpt2", tmp_path)
        found.append(backbone.build()(ids_of(backbone)))
    without, named = found
    assert without["mask"][:, 0].numpy().all()
    for key, value in without.items():
        np.testing.assert_array_equal(named[key], value)


@pytest.mark.parametrize("name", FAMILIES)
def test_short_texts_have_the_same_features_at_their_own_length(name, tmp_path):
    checkpoints.write(name, tmp_path)
    backbone = made(name, tmp_path)
    ids = ids_of(backbone)
    ids = ids[backbone.lengths(ids) < LENGTH]
    network = backbone.build()
    signature = [tf.TensorSpec([None, None], tf.int32)]
    run = tf.function(lambda ids: folding.run(network, ids), input_signature=signature)
    short = lengths.shortened(backbone, ids)
    found, expected = run(short), network(ids)
    assert len(ids) >= 2 and short.shape[1] < LENGTH
    mask = found["mask"].numpy()
    assert np.array_equal(mask, expected["mask"][:, : mask.shape[1]])
    assert_near(found["tokens"][mask], expected["tokens"][:, : mask.shape[1]][mask])
    kept = mask.any(axis=1)
    assert_near(found["pooled"][kept], expected["pooled"][kept])


@pytest.mark.parametrize(
    "name, settings",
    [
        ("bert", {"hidden_act": "relu", "layer_norm_eps": 0.1}),
        ("roberta", {"hidden_act": "gelu_new", "layer_norm_eps": 0.1}),
        ("albert", {"hidden_act": "gelu", "num_hidden_groups": 1}),
        pytest.param("llama", {"rms_norm_eps": 0.1, "rope_scaling": None}, marks=slow),
        ("gemma", {"rms_norm_eps": 0.1}),
    ],
)
def test_what_constructors_do_not_take_is_honoured(name, settings, tmp_path):
    tensors = checkpoints.write(name, tmp_path, **settings)
    backbone = made(name, tmp_path)
    ids = ids_of(backbone)
    (*_, last), mask = states(name, tmp_path, tensors, ids)
    assert_near(backbone.build()(ids)["tokens"][mask], last[mask])


def test_a_llama_is_stretched_as_either_version_of_transformers_writes_it(tmp_path):
    checkpoints.write("llama", tmp_path)
    file = tmp_path / "config.json"
    settings = json.loads(file.read_text())
    found = []
    theta, scaling = settings.pop("rope_theta"), settings.pop("rope_scaling")
    for own in (
        {"rope_theta": theta, "rope_scaling": scaling},  # 4 wrote these two, and 5 one.
        {"rope_parameters": {"rope_theta": theta, **scaling}},
        {"rope_theta": theta},
    ):
        file.write_text(json.dumps({**settings, **own}))
        backbone = made("llama", tmp_path)
        found.append(np.asarray(backbone.build()(ids_of(backbone))["tokens"]))
    by_4, by_5, unstretched = found
    np.testing.assert_array_equal(by_5, by_4)
    assert not np.allclose(unstretched, by_4, atol=1e-3)


@pytest.mark.parametrize("groups", [None, ...])  # ``...`` leaves it out.
def test_every_head_of_llama_has_its_own_keys_where_the_folder_tells_no_number(groups, tmp_path):
    tensors = dict(checkpoints.write("llama", tmp_path, num_key_value_heads=groups))
    shape = tensors["layers.0.self_attn.q_proj.weight"].shape
    random = np.random.default_rng(1)
    for name in tensors:
        if "k_proj" in name or "v_proj" in name:
            tensors[name] = random.normal(0, 0.3, shape).astype(np.float32)
    _saved(tensors, tmp_path)
    backbone = made("llama", tmp_path)
    ids = ids_of(backbone)
    (*_, last), mask = states("llama", tmp_path, tensors, ids)
    assert_near(backbone.build()(ids)["tokens"][mask], last[mask])


@pytest.mark.parametrize(
    "name, layer",
    [
        ("bert", 0),
        ("bert", -2),
        ("gpt2", 1),
        ("gpt2", LAYERS),
        pytest.param("bert", -LAYERS - 1, marks=slow),
        pytest.param("gpt2", -2, marks=slow),
    ],
)
def test_layer_tells_whose_tokens_come_out(name, layer, tmp_path):
    tensors = checkpoints.write(name, tmp_path)
    backbone = made(name, tmp_path, layer=layer)
    ids = ids_of(backbone)
    expected, mask = states(name, tmp_path, tensors, ids)
    assert_near(backbone.build()(ids)["tokens"][mask], expected[layer][mask])


@pytest.mark.parametrize("name, dense", [("bert", "pooler.dense"), ("albert", "pooler")])
def test_the_pooler_is_a_trained_layer_on_the_first_token(name, dense, tmp_path):
    tensors = checkpoints.write(name, tmp_path)
    backbone, of_first = made(name, tmp_path, pooling="pooler"), made(name, tmp_path, pooling="cls")
    ids, network = ids_of(backbone), backbone.build()
    (*_, last), _ = states(name, tmp_path, tensors, ids)
    first = last[:, 0]
    pooled = np.tanh(first @ tensors[f"{dense}.weight"].T + tensors[f"{dense}.bias"])
    assert_near(network(ids)["pooled"], pooled)
    assert_near(of_first.build()(ids)["pooled"], first)
    assert [*backbone.blocks(network)][-1] == "pooled_dense"


@pytest.mark.parametrize("name", ["bert", "electra", "roberta"])
def test_the_second_text_of_a_pair_is_another_segment(name, tmp_path):
    tensors = checkpoints.write(name, tmp_path)
    backbone = made(name, tmp_path, input="pair")
    ids = backbone.preprocess({"text": tf.constant(TEXTS[:2]), "pair": tf.constant(TEXTS[1::-1])})
    (end,) = {"bert": [3], "electra": [3], "roberta": [2]}[name]
    segments = np.zeros(ids.shape, int)
    for row, kept in zip(segments, ids.numpy(), strict=True):
        first, *_, last = np.flatnonzero(kept == end)
        row[first + 1 : last + 1] = name != "roberta"
    (*_, last), mask = states(name, tmp_path, tensors, ids, segments)
    assert_near(backbone.build()(ids)["tokens"][mask], last[mask])


def test_words_have_the_tokens_of_their_first_pieces(tmp_path):
    checkpoints.write("bert", tmp_path)
    by_word, by_piece = made("bert", tmp_path, input="words"), made("bert", tmp_path)
    words = tf.constant([["unwelcome", "rain", "."]])
    given = by_word.preprocess({"words": words})
    assert given["starts"].numpy()[0, :4].tolist() == [1, 4, 5, -1]
    pieces = by_piece.build()(given["token_ids"])["tokens"].numpy()
    found = by_word.build()(given)
    assert_near(found["tokens"][0, :3], pieces[0, [1, 4, 5]])
    assert found["mask"].numpy()[0].tolist() == [True] * 3 + [False] * (LENGTH - 3)


def _with_prefix(folder: Path) -> Any:
    return checkpoints.write("bert", folder, prefix="bert.")


def _with_old_names(folder: Path) -> Any:
    tensors = checkpoints.write("bert", folder)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    named = dict(tensors)
    for new, name in old.items():
        named = {key.replace(new, name): value for key, value in named.items()}
    return _saved(named, folder) and tensors


def _without_pooler(folder: Path) -> Any:
    tensors = checkpoints.write("bert", folder)
    return _saved({k: v for k, v in tensors.items() if not k.startswith("pooler")}, folder)


def _without_vocabulary_file(folder: Path) -> Any:
    tokenizers: Any = pytest.importorskip("tokenizers")
    tensors = checkpoints.write("bert", folder)
    (folder / "vocab.txt").unlink()
    fast = tokenizers.BertWordPieceTokenizer({piece: i for i, piece in enumerate(WORD_PIECES)})
    fast.save(str(folder / "tokenizer.json"))
    return tensors


def _without_class_of_its_tokenizer(folder: Path) -> Any:
    tensors = _without_vocabulary_file(folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}')
    return tensors


def _in_parts(folder: Path) -> Any:
    from safetensors.numpy import save_file

    tensors = checkpoints.write("bert", folder)
    (folder / "model.safetensors").unlink()
    places = {key: f"model-{i % 2}.safetensors" for i, key in enumerate(tensors)}
    for name in sorted({*places.values()}):
        save_file({k: v for k, v in tensors.items() if places[k] == name}, folder / name)
    index = {"weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return tensors


def _in_sixteen_bits(folder: Path) -> Any:
    from safetensors.tensorflow import save_file

    tensors = checkpoints.write("bert", folder)
    halved = {key: tf.cast(value, tf.bfloat16) for key, value in tensors.items()}
    save_file(halved, str(folder / "model.safetensors"))
    return {key: tf.cast(value, tf.float32).numpy() for key, value in halved.items()}


def _saved(tensors: Any, folder: Path) -> Any:
    from safetensors.numpy import save_file

    save_file(tensors, folder / "model.safetensors")
    return tensors


@pytest.mark.parametrize(
    "write",
    [
        _with_prefix,
        _with_old_names,
        _without_pooler,
        _without_vocabulary_file,
        _without_class_of_its_tokenizer,
        _in_parts,
        _in_sixteen_bits,
    ],
)
def test_folders_of_every_age_are_read(write: Callable[[Path], Any], tmp_path):
    tensors = write(tmp_path)
    backbone = made("bert", tmp_path)
    ids = ids_of(backbone)
    (*_, last), mask = states("bert", tmp_path, tensors, ids)
    assert_near(backbone.build()(ids)["tokens"][mask], last[mask])


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_tokenizer_of_any_kind_is_told_by_its_own_file_alone(name, tmp_path):
    checkpoints.write(name, tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}')
    with pytest.raises(
        ValueError, match=r"has no tokenizer\.json, which says how its texts are cut"
    ):
        made(name, None, configuration=tmp_path).tokenizer  # noqa: B018 (reads it)


def test_texts_of_roberta_have_its_frame_where_no_file_says_so(tmp_path):
    checkpoints.describe("roberta", tmp_path)
    file = tmp_path / "tokenizer_config.json"
    backbone = made("roberta", None, configuration=tmp_path)
    expected = ids_of(backbone).numpy().tolist()
    assert {row[0] for row in expected} == {0}
    file.write_text('{"max_len": 512}')
    assert ids_of(backbone.replace()).numpy().tolist() == expected
    file.unlink()
    assert ids_of(backbone.replace()).numpy().tolist() == expected


BAD_SETTINGS = [
    ("bert", {"model_type": "t5"}, r"'t5', which bert does not read; known: albert, bert, deb"),
    ("bert", {"model_type": "electra"}, r"'electra', which bert does not read; use electra\."),
    ("bert", {"model_type": ...}, r"model_type is '', which bert does not read"),
    ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_"),
    ("bert", {"hidden_act": "mish"}, r"hidden_act is 'mish', expected 'gelu' or"),
    ("bert", {"pad_token_id": 5}, r"pad_token_id is 5 in config.json, but .* '\[PAD\]' is 0"),
    ("bert", {"vocab_size": 9}, "vocabulary has 15 pieces, but the network has rows for 9"),
    ("bert", {"max_position_embeddings": 8}, "length is 16, expected at most 8"),
    ("bert", {"hidden_size": ...}, "config.json has no 'hidden_size'"),
    ("roberta", {"max_position_embeddings": ...}, "has no 'max_position_embeddings'"),
    ("gemma", {"head_dim": ...}, "config.json has no 'head_dim'"),
    ("gemma", {"intermediate_size": ...}, "config.json has no 'intermediate_size'"),
    ("bert", {"intermediate_size": 25}, r"feedforward.* the shape \[24, 16\].* fit \[16, 25\]"),
    ("bert", {"num_hidden_layers": 4}, r"no tensor encoder.layer.3.attention.self.query.weight"),
    ("bert", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config.*in 16 or 32"),
    ("roberta", {"type_vocab_size": 2}, r"type_vocab_size is 2, expected 1"),
    ("deberta_v3", {"share_att_key": ...}, r"share_att_key is False, expected True"),
    ("deberta_v3", {"pos_att_type": ["c2p"]}, r"pos_att_type is \['c2p'\]"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
    ("llama", {"rope_scaling": {"rope_type": "yarn"}}, "rope_type is 'yarn', expected 'default'"),
    ("llama", {"attention_bias": True}, "attention_bias is True"),
    ("llama", {"head_dim": 4}, "head_dim is 4, expected 8"),
    ("qwen", {"use_sliding_window": True}, "use_sliding_window is True"),
    ("gemma", {"rope_theta": 500.0}, "rope_theta is 500.0, expected 10000"),
    ("gemma", {"model_type": "gemma2"}, "model_type is 'gemma2', which gemma does not"),
]


@pytest.mark.parametrize("name, settings, message", BAD_SETTINGS)
def test_a_setting_that_the_network_would_ignore_is_refused(name, settings, message, tmp_path):
    checkpoints.write(name, tmp_path)
    checkpoints.describe(name, tmp_path, **settings)
    with pytest.raises(ValueError, match=message):
        made(name, tmp_path).build()


def test_weights_of_integers_are_refused(tmp_path):
    tensors = dict(checkpoints.write("llama", tmp_path))
    name = "layers.0.self_attn.q_proj.weight"
    tensors[name] = np.ones(tensors[name].shape, np.int8)
    _saved(tensors, tmp_path)
    with pytest.raises(ValueError, match=rf"{name} holds I8, expected F16 or .* in 16 or 32 bits"):
        made("llama", tmp_path).build()


def _no_configuration(folder: Path) -> None:
    (folder / "config.json").unlink()


def _no_vocabulary(folder: Path) -> None:
    (folder / "vocab.txt").unlink()


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _damaged_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no tensors")


def _other_weights(folder: Path) -> None:
    _saved({"conv.weight": np.zeros([2, 2], np.float32)}, folder)


def _vocabulary_with_a_piece_twice(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join([*WORD_PIECES[:-1], WORD_PIECES[-2]]))


@pytest.mark.parametrize(
    "harm, message",
    [
        (_no_configuration, "config.json, which says what the network is, cannot be read"),
        (_no_vocabulary, "has no tokenizer: .*vocab.txt"),
        (_no_weights, r"model.safetensors cannot be read"),
        (_damaged_weights, r"model.safetensors cannot be read"),
        (_other_weights, "no tensor embeddings.word_embeddings.weight"),
        (_vocabulary_with_a_piece_twice, "vocabulary has '##s' twice"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(harm, message, tmp_path):
    checkpoints.write("bert", tmp_path)
    harm(tmp_path)
    with pytest.raises(ValueError, match=message):
        made("bert", tmp_path).build()


FOLDER = "folder"
BAD_FIELDS = [
    ("bert", {"weights": None}, "configuration is None, expected a folder with config.json"),
    ("bert", {"weights": "a.weights.h5"}, "configuration is None, expected a folder"),
    ("bert", {"weights": "x", "configuration": "y"}, "configuration is .*, expected None"),
    ("bert", {"weights": "x", "length": 3}, "length is 3, expected at least 8"),
    ("bert", {"weights": "x", "pooling": "last"}, "'last', expected one of mean, cls, pooler"),
    ("electra", {"weights": "x", "pooling": "pooler"}, "expected one of mean, cls"),
    ("bert", {"weights": "x", "pooling": "pooler", "layer": 2}, "layer is 2, expected -1 where"),
]


@pytest.mark.parametrize("name, fields, message", BAD_FIELDS)
def test_fields_that_contradict_each_other_are_refused(name, fields, message):
    member: Any = spec.names(Backbone)[name]
    with pytest.raises(ValueError, match=message):
        member(**fields)


def test_a_path_without_a_file_is_no_name_of_a_preset(tmp_path):
    with pytest.raises(ValueError, match=r"weights is '.*missing', but there is no such file"):
        made("bert", tmp_path / "missing").build()


def test_a_layer_that_is_not_there_is_refused(tmp_path):
    checkpoints.write("bert", tmp_path)
    with pytest.raises(ValueError, match=r"layer is 4, expected -4 … 3, as there are 3 layers"):
        made("bert", tmp_path, layer=4).build()


def test_a_file_of_weights_brings_back_the_same_network(tmp_path):
    checkpoints.describe("bert", tmp_path / "folder")
    random = made("bert", None, configuration=tmp_path / "folder")
    network = random.build()
    network.save_weights(tmp_path / "a.weights.h5")
    other = random.replace(weights=str(tmp_path / "a.weights.h5"))
    ids = ids_of(random)
    assert np.array_equal(other.build()(ids)["tokens"], network(ids)["tokens"])
    assert not np.array_equal(random.build()(ids)["tokens"], network(ids)["tokens"])
    with pytest.raises(ValueError, match=r"does not hold the weights of bert\("):
        other.replace(pooling="pooler").build()


def test_the_fingerprint_changes_with_the_files_of_the_network_alone(tmp_path):
    checkpoints.write("bert", tmp_path)
    backbone = made("bert", tmp_path)
    before = backbone.fingerprint()
    (tmp_path / "README.md").write_text("words")
    assert backbone.fingerprint() == before
    (tmp_path / "vocab.txt").write_text("\n".join([*WORD_PIECES[:-1], "rains"]))
    assert backbone.fingerprint() != before


def _bert_preset(folder: Path) -> tuple[str, Any]:
    tokenizer = keras_hub.tokenizers.BertTokenizer(WORD_PIECES, lowercase=True)
    network = keras_hub.models.BertBackbone(len(WORD_PIECES), 2, 2, 8, 12, max_sequence_length=32)
    tokenizer.save_to_preset(folder)
    network.save_to_preset(folder)
    return "bert", network


def _roberta_preset(folder: Path) -> tuple[str, Any]:
    checkpoints.describe("roberta", folder)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary["<mask>"] = len(vocabulary)
    (folder / "config.json").unlink()
    tokenizer = keras_hub.tokenizers.RobertaTokenizer(vocabulary, MERGES)
    network = keras_hub.models.RobertaBackbone(len(vocabulary), 2, 2, 8, 12, max_sequence_length=32)
    tokenizer.save_to_preset(folder)
    network.save_to_preset(folder)
    return "roberta", network


def _qwen_preset(folder: Path) -> tuple[str, Any]:
    checkpoints.describe("qwen", folder)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    (folder / "config.json").unlink()
    tokenizer = keras_hub.tokenizers.QwenTokenizer(vocabulary, MERGES)
    network = keras_hub.models.QwenBackbone(len(vocabulary), 2, 2, 1, 8, 12)
    tokenizer.save_to_preset(folder)
    network.save_to_preset(folder)
    return "qwen", network


@pytest.mark.parametrize(
    "save", [_bert_preset, _roberta_preset, pytest.param(_qwen_preset, marks=slow)]
)
def test_a_folder_of_keras_s_preset_gives_its_network_and_tokenizer(save, tmp_path):
    name, network = save(tmp_path)
    backbone = made(name, tmp_path)
    ids = ids_of(backbone)
    mask = ids != backbone._id(backbone.tokenizer.padding)
    given = {"token_ids": tf.maximum(ids, 0), "padding_mask": mask}
    if "segment_ids" in network.input:
        given["segment_ids"] = tf.zeros_like(ids)
    whole = network(given)
    expected = whole["sequence_output"] if isinstance(whole, dict) else whole
    assert_near(backbone.build()(ids)["tokens"][mask], expected[mask].numpy())
    random = backbone.replace(weights=None, configuration=tmp_path)
    with pytest.raises(ValueError, match=f"model_type is '', which {name} does not read"):
        random.build()
    other = "electra" if name == "bert" else "gpt2"
    with pytest.raises(ValueError, match=r"which holds a \w+Backbone, expected a|cannot read"):
        made(other, tmp_path).build()


@pytest.mark.parametrize(
    "name, file, frame, shift",
    [
        ("albert", "spiece.model", ("[CLS]", "[SEP]"), 0),
        ("deberta_v3", "spm.model", ("[CLS]", "[SEP]"), 0),
        ("gemma", "tokenizer.model", ("<bos>", ""), 0),
        ("llama", "tokenizer.model", ("<s>", ""), 0),
        ("xlm_roberta", "sentencepiece.bpe.model", ("<s>", "</s>"), 1),
    ],
)
def test_sentence_pieces_are_those_of_the_package(name, file, frame, shift, tmp_path):
    sentencepiece: Any = pytest.importorskip("sentencepiece")
    checkpoints.describe(name, tmp_path)
    backbone = made(name, None, configuration=tmp_path, length=24)
    package = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / file))
    start, end = ([backbone._id(piece)] if piece else [] for piece in frame)
    texts = [text.lower() if name == "albert" else text for text in TEXTS]
    for text, row in zip(texts, ids_of(backbone).numpy(), strict=True):
        pieces = [piece + shift if piece or not shift else 3 for piece in package.encode(text)]
        expected = [*start, *pieces[: 24 - len(start + end)], *end]
        padding = backbone._id(backbone.tokenizer.padding)
        assert row.tolist() == expected + [padding] * (24 - len(expected))
    words = made(name, None, configuration=tmp_path, input="words")
    found = words.preprocess({"words": tf.constant(["rain", "in"])})
    first = [len(start), len(start) + len(package.encode("rain"))]
    assert found["starts"].numpy().tolist() == [*first, *[-1] * (LENGTH - 2)]


@pytest.mark.parametrize("name, start, end", [("llama", 1, 2), ("gemma", 2, 1)])
def test_a_decoder_s_texts_have_the_start_and_the_end_that_the_folder_says(
    name, start, end, tmp_path
):
    checkpoints.describe(name, tmp_path)
    backbone = made(name, None, configuration=tmp_path)
    plain = backbone.tokenizer(["rain"], 5).numpy()[0].tolist()
    inner = [piece for piece in plain if piece > 3]
    for frame in ([start], []), ([start], [end]), ([], [end]), ([], []):
        flags = dict(zip(("add_bos_token", "add_eos_token"), map(bool, frame), strict=True))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(flags))
        first, last = frame
        row = backbone.replace().tokenizer(["rain"], 9).numpy()[0].tolist()
        expected = [*first, *inner, *last]
        assert row == expected + [backbone.tokenizer.padding_id] * (9 - len(expected))


@pytest.mark.parametrize(
    "name, setting",
    [
        ("deberta_v3", {"do_lower_case": True}),
        ("deberta_v3", {"split_by_punct": True}),
        ("gpt2", {"add_eos_token": True}),
        ("xlm_roberta", {"truncation_side": "left"}),
    ],
)
def test_a_setting_of_pieces_that_is_not_followed_is_refused(name, setting, tmp_path):
    checkpoints.describe(name, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(setting))
    (key,) = setting
    with pytest.raises(ValueError, match=f"tokenizer_config.json: {key} is .*, expected"):
        made(name, None, configuration=tmp_path).tokenizer  # noqa: B018 (reads it)


def test_a_folder_of_llama_2_without_the_file_of_its_pieces_is_told_which(tmp_path):
    checkpoints.describe("llama", tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    model = {"type": "BPE", "byte_fallback": True, "vocab": {}, "merges": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    with pytest.raises(
        ValueError, match=r"has no tokenizer\.model, from which LlamaTokenizer.* copy"
    ):
        made("llama", None, configuration=tmp_path).tokenizer  # noqa: B018 (reads it)


@pytest.mark.parametrize("name", [*FAMILIES, "preset"])
def test_words_with_single_spaces_have_the_pieces_of_their_text(name, tmp_path):
    if name == "preset":
        name, _ = _qwen_preset(tmp_path)
        tokenizer = made(name, tmp_path).tokenizer
    else:
        checkpoints.describe(name, tmp_path)
        tokenizer = made(name, None, configuration=tmp_path).tokenizer
    texts = tf.constant([" ".join(text.split()) for text in TEXTS])
    # A data set traces it before anything has run.
    ids, starts = tf.function(lambda texts: tokenizer.words(tf.strings.split(texts), 32))(texts)
    assert ids.numpy().tolist() == tokenizer(texts, 32).numpy().tolist()
    assert starts.numpy().max(axis=1).tolist() == [len(text.split()) - 1 for text in TEXTS]


BUILT = [name if name == "bert" else pytest.param(name, marks=slow) for name in FAMILIES]


def test_albert_s_texts_lose_capitals_and_accents(tmp_path):
    checkpoints.describe("albert", tmp_path)
    backbone = made("albert", None, configuration=tmp_path)
    texts = tf.constant(["Räin ``ÍN'' a", 'rain "in" a'])
    one, other = backbone.preprocess({"text": texts}).numpy()
    assert one.tolist() == other.tolist()


def test_albert_s_texts_have_capitals_where_the_folder_keeps_their_accents_too(tmp_path):
    checkpoints.describe("albert", tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"do_lower_case": false, "keep_accents": true}')
    kept = made("albert", None, configuration=tmp_path)
    texts = tf.constant(["rain ``in'' a", 'rain "in" a', 'RAIN "in" a', 'räin "in" a'])
    first, *others = kept.preprocess({"text": texts}).numpy().tolist()
    assert [row == first for row in others] == [True, False, False]
    config.write_text('{"do_lower_case": false}')
    with pytest.raises(ValueError, match="keep_accents is False and do_lower_case False, expected"):
        made("albert", None, configuration=tmp_path).tokenizer  # noqa: B018 (reads it)


def model_of(folder: Path, name: str = "bert", **fields: Any) -> TransferModel:
    checkpoints.write(name, folder)
    return TransferModel(made(name, folder, **fields), Classification(), ("bad", "good"), seed=0)


@pytest.mark.parametrize("name", BUILT)
def test_a_model_is_read_back_the_same_and_with_its_trainable_flags(name, tmp_path):
    model = model_of(tmp_path / "folder", name)
    *_, last = [block for block in model.blocks if block.partition("_")[0] != "pooled"]
    model.train_only([last])
    ids = ids_of(model.backbone)
    model.full.compile("sgd", model.task.loss())
    model.full.train_on_batch(ids, np.eye(2)[[0, 1, 0, 1]])
    model.save(tmp_path / "model")
    loaded = TransferModel.load(tmp_path / "model")
    assert (
        dict(loaded.trainable)
        == dict(model.trainable)
        == {block: block == last for block in model.blocks}
    )
    assert len(loaded.full.trainable_variables) == len(model.full.trainable_variables)
    assert np.array_equal(loaded.full(ids), model.full(ids))
    loaded.save(tmp_path / "again")


@pytest.mark.parametrize("name", ["llama", pytest.param("deberta_v3", marks=pytest.mark.slow)])
def test_a_model_with_mended_layers_is_read_in_a_process_that_built_none(name, tmp_path):
    read, card = read_afresh(model_of(tmp_path / "folder", name), tmp_path)
    assert read.split() == [name] and "probabilities" in card


def test_a_model_is_not_read_where_its_tokenizer_is_missing(tmp_path):
    model_of(tmp_path / "folder").save(tmp_path / "model")
    (tmp_path / "folder").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"bert\.weights is '.*folder', but there is no such file"):
        TransferModel.load(tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT)
def test_a_model_of_mixed_precision_is_read_back_and_computes_in_float32(name, tmp_path):
    model = model_of(tmp_path / "folder", name)
    ids = ids_of(model.backbone)
    with computing_in("mixed_bfloat16"):
        narrow = TransferModel(model.backbone, model.task, model.classes, seed=0)
    narrow.save(tmp_path / "model")
    loaded = TransferModel.load(tmp_path / "model")
    assert np.array_equal(loaded.full(ids), narrow.full(ids))
    assert_near(precision.float32(loaded.full)(ids), model.full(ids).numpy())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TransferModel:
    return model_of(tmp_path_factory.mktemp("folder"))


@slow
def test_a_saved_model_takes_texts_and_needs_tensorflow_alone(model, tmp_path):
    SavedModel().write(model, None, tmp_path)
    program = (
        "import json, sys, tensorflow as tf\n"
        "loaded = tf.saved_model.load(sys.argv[1])\n"
        "served = loaded.signatures['serving_default'](text=tf.constant(json.loads(sys.argv[2])))\n"
        "assert not {'keras_hub', 'tensorflow_text', 'tlkeras'} & {*sys.modules}\n"
        "print(json.dumps(served['probabilities'].numpy().tolist()))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "saved_model"), json.dumps(TEXTS)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    served = model.served(ids_of(model.backbone))["probabilities"]
    np.testing.assert_allclose(json.loads(said.stdout.splitlines()[-1]), served, atol=1e-5)


@slow
@pytest.mark.parametrize("name", ["deberta_v3", "gemma", "xlm_roberta"])
def test_a_saved_model_with_pieces_of_kerashub_is_loaded_by_the_exporter_and_by_the_card(
    name, tmp_path
):
    model = model_of(tmp_path / "folder", name)
    SavedModel().write(model, None, tmp_path)
    asked = "from pathlib import Path\nimport json, sys\n"
    asked += (
        "from tlkeras.exporters.saved_model import SavedModel\nfrom tlkeras.kinds.text import Text"
    )
    asked += "\nanswer = SavedModel().endpoints(Path(sys.argv[1]), {'text': Text()})\n"
    asked += "found = answer['serving_default']({'text': sys.argv[2]})['probabilities']\n"
    asked += "print(json.dumps(found[0].tolist()))\n"
    (use,) = SavedModel().usage(model.backbone, model.task)
    text = "rain in spain"
    answered, card = (printed(code, tmp_path, f"{tmp_path}", text) for code in (asked, use.code))
    (expected,) = (one["probabilities"] for one in model.predict([text]))
    np.testing.assert_allclose(json.loads(answered.splitlines()[-1]), expected, atol=1e-5)
    assert "probabilities" in card


@slow
@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_tflite_has_built_in_operations_alone(pooling, tmp_path):
    model = model_of(tmp_path / "folder", pooling=pooling)
    exporter = TFLite()
    exporter.write(model, None, tmp_path)
    ids = ids_of(model.backbone).numpy()
    run = exporter.load(tmp_path)
    for row in ids:
        found = run(row[None])["probabilities"]
        expected = model.served(row[None])["probabilities"]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_default_is_a_preset_that_keras_hub_publishes():
    for constructor, _, _, preset in hub_text.TABLE:
        assert preset in getattr(keras_hub.models, f"{constructor}Backbone").presets


def test_the_members_are_listed_without_keras_hub():
    program = (
        "import sys; from tlkeras import spec; from tlkeras.backbone import Backbone\n"
        "assert 'gemma' in spec.names(Backbone)\n"
        "assert not {'keras_hub', 'tensorflow', 'safetensors'} & {*sys.modules}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_network_that_is_only_cloned_never_has_values(tmp_path, monkeypatch):
    checkpoints.write("bert", tmp_path)
    cloned: list[Any] = []
    rebuilt = hub_text.checkpoints.rebuilt

    def noted(network: Any, changes: Any) -> Any:
        cloned.append(network)
        return rebuilt(network, changes)

    monkeypatch.setattr(hub_text.checkpoints, "rebuilt", noted)
    built = made("bert", None, configuration=tmp_path).build()
    with keras.StatelessScope():
        pass  # At its end Keras draws all values that variables wait for.
    (network,) = cloned
    assert {each._value is None for each in network.variables} == {True}
    assert {each._value is None for each in built.variables} == {False}


def test_positions_are_as_many_as_the_folder_says(tmp_path):
    checkpoints.write("roberta", tmp_path)
    assert made("roberta", tmp_path, length=POSITIONS).build()
    with pytest.raises(ValueError, match=f"expected at most {POSITIONS}"):
        made("roberta", tmp_path, length=POSITIONS + 1).build()


def test_sentence_pieces_outlive_the_building_of_a_model(tmp_path):
    checkpoints.write("albert", tmp_path)
    backbone = made("albert", tmp_path)
    before = ids_of(backbone)
    TransferModel(backbone, Classification(), ("no", "yes"), seed=3)
    assert np.array_equal(ids_of(backbone), before)
