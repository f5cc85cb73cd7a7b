"""Pairs of KerasHub: equal to KerasHub's and to NumPy's, whole through exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pairs
import pytest
from conftest import export, read_afresh
from pairs import PLACES, SIZE, TEXTS
from PIL import Image

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.exporter import Exporter
from tlkeras.formats import page_inputs
from tlkeras.frameworks import keras_hub, tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.detection import Detection
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.texts import towers

NAMES = ("clip", "siglip")
of_both = pytest.mark.parametrize("name", NAMES)


def made(name: str, weights: Path | None, **fields: Any) -> Any:
    member: Any = spec.names(Backbone)[name]
    return member(weights=None if weights is None else str(weights), **fields)


def unit(rows: Any) -> np.ndarray:
    return np.asarray(rows) / np.linalg.norm(rows, axis=-1, keepdims=True)


def inputs_of(backbone: Backbone, pictures: list[np.ndarray]) -> Any:
    return tf.stack([backbone.preprocess({"image": tf.constant(each)}) for each in pictures])


def near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, atol=2e-5 * max(1.0, float(np.abs(expected).max())))


PICTURES = pairs.drawn([(40, 64), (64, 40), (32, 32)])


@of_both
def test_both_towers_of_a_folder_are_those_of_a_forward_pass_in_numpy(name, tmp_path):
    tensors = {key: x.astype(np.float64) for key, x in pairs.write(name, tmp_path).items()}
    backbone = made(name, tmp_path)
    inputs = inputs_of(backbone, PICTURES)
    found = backbone.build()(inputs)
    near(found["pooled"], pairs.picture_rows(name, tensors, np.asarray(inputs, np.float64)))
    near(backbone.words(TEXTS), unit(pairs.text_rows(name, tensors, IDS[name](tmp_path))))
    maps = {"clip": {}, "siglip": {"stride8": (3, SIZE // 8, SIZE // 8, pairs.WIDTH)}}
    assert {key: each.shape for key, each in found.items() if key != "pooled"} == maps[name]


def test_boxes_and_masks_are_refused_where_the_network_sees_the_middle_square(tmp_path):
    pairs.write("clip", tmp_path)
    for task in (Detection(), Segmentation()):
        with pytest.raises(
            ValueError, match=r"this one has pooled\..* middle square .*; take siglip"
        ):
            TransferModel(made("clip", tmp_path), task, ["a", "b"])
    _changed("preprocessor_config.json", do_center_crop=False)(tmp_path)
    TransferModel(made("clip", tmp_path), Segmentation(), ["a", "b"])


def _byte_pair_ids(folder: Path) -> np.ndarray:
    """Returns the ids of `TEXTS` by the rules of CLIP's tokenizer, their merges written out."""
    ids = json.loads((folder / "vocab.json").read_text())
    pieces = [
        [
            "a</w>",
            "p",
            "h",
            "o",
            "t",
            "o</w>",
            "o",
            "f</w>",
            "a</w>",
            "ra",
            "i",
            "n",
            "y</w>",
            "day</w>",
            ".</w>",
        ],
        ["rain</w>"],
        ["a</w>", "day</w>"],
    ]
    rows = np.zeros((len(TEXTS), PLACES), int)
    for row, words in zip(rows, pieces, strict=True):
        whole = ["<|startoftext|>", *words[: PLACES - 2], "<|endoftext|>"]
        row[: len(whole)] = [ids[piece] for piece in whole]
    return rows


def _sentence_piece_ids(folder: Path) -> np.ndarray:
    """Returns the ids of `TEXTS` in small letters without a full stop, filled with ends."""
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    rows = np.full((len(TEXTS), PLACES), pieces.piece_to_id("</s>"))
    for row, text in zip(rows, TEXTS, strict=True):
        ids = pieces.encode(text.lower().rstrip("."))[: PLACES - 1]
        row[: len(ids)] = ids
    return rows


IDS = {"clip": _byte_pair_ids, "siglip": _sentence_piece_ids}


def preset(name: str, folder: Path) -> tuple[Any, Any]:
    """Writes a preset of a small random pair; returns KerasHub's pair and preprocessor."""
    pairs.describe(name, folder / "settings")
    prefix = {"clip": "CLIP", "siglip": "SigLIP"}[name]
    sizes = {"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "intermediate_dim": 24}
    vision = getattr(keras_hub.models, f"{prefix}VisionEncoder")(
        patch_size=16, image_shape=(SIZE, SIZE, 3), **sizes
    )
    if name == "clip":
        tokenizer = keras_hub.tokenizers.CLIPTokenizer(
            str(folder / "settings/vocab.json"), str(folder / "settings/merges.txt")
        )
    else:
        proto = (folder / "settings/spiece.model").read_bytes()
        tokenizer = keras_hub.tokenizers.SigLIPTokenizer(proto)
    text = getattr(keras_hub.models, f"{prefix}TextEncoder")(
        vocabulary_size=tokenizer.vocabulary_size(),
        embedding_dim=16,
        max_sequence_length=PLACES,
        **sizes,
    )
    more = {"projection_dim": 12} if name == "clip" else {}
    pair = getattr(keras_hub.models, f"{prefix}Backbone")(vision, text, **more)
    scaled = {
        "clip": {"scale": [0.01, 0.02, 0.03], "offset": [-1.0, 0.5, 0.0], "antialias": True},
        "siglip": {"scale": 1 / 127.5, "offset": -1.0, "crop_to_aspect_ratio": False},
    }[name]
    converter = getattr(keras_hub.layers, f"{prefix}ImageConverter")(
        image_size=(SIZE, SIZE), interpolation="bicubic", **scaled
    )
    preprocessor = getattr(keras_hub.models, f"{prefix}Preprocessor")(
        tokenizer, converter, sequence_length=PLACES
    )
    pair.save_to_preset(str(folder))
    preprocessor.save_to_preset(str(folder))
    return pair, preprocessor


@of_both
def test_both_towers_of_a_preset_are_those_of_keras_hub(name, tmp_path):
    pair, preprocessor = preset(name, tmp_path)
    backbone = made(name, tmp_path)
    for picture in PICTURES[:2]:
        given = preprocessor({"prompts": tf.constant(TEXTS), "images": tf.constant(picture)[None]})
        found = backbone.build()(inputs_of(backbone, [picture]))["pooled"]
        near(found, pair.get_vision_embeddings(given["images"]))
        near(backbone.words(TEXTS), unit(pair.get_text_embeddings(given["token_ids"])))


@of_both
def test_words_are_asked_of_one_network(name, tmp_path):
    pairs.write(name, tmp_path)
    backbone = made(name, None, configuration=tmp_path)
    np.testing.assert_array_equal(backbone.words(TEXTS), backbone.words(TEXTS))


@of_both
def test_a_picture_is_resized_as_by_pillow(name, tmp_path):
    pairs.describe(name, tmp_path)
    backbone = made(name, None, configuration=tmp_path)
    for picture in PICTURES:
        whole = Image.fromarray(picture)
        if name == "clip":
            edge = min(whole.size)
            left, top = (whole.width - edge) // 2, (whole.height - edge) // 2
            whole = whole.crop((left, top, left + edge, top + edge))
        expected = np.asarray(whole.resize((SIZE, SIZE), Image.Resampling.BICUBIC), float)
        found = backbone.preprocess({"image": tf.constant(picture)})
        # Pillow rounds the rows before it shrinks the columns.
        assert np.abs(found - expected).max() <= 1


@of_both
@pytest.mark.parametrize(
    "exporter",
    [
        "saved_model",
        "tflite",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("keras", "onnx")),
    ],
)
def test_the_picture_tower_is_exported_to_equal_outputs(name, exporter, tmp_path):
    pairs.write(name, tmp_path / "pair")
    model = TransferModel(made(name, tmp_path / "pair"), Classification(), ["a", "b"])
    format_ = spec.parse(exporter, Exporter)
    inputs = inputs_of(model.backbone, PICTURES)
    samples = tf.data.Dataset.from_tensor_slices(inputs)
    export(format_, model, samples, tmp_path)
    found = format_.load(tmp_path)(np.asarray(inputs))
    expected = model.task.served(model.full(inputs))
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=format_.tolerance)


@of_both
def test_the_code_of_a_card_and_the_page_know_that_pictures_are_not_squashed(name, tmp_path):
    pairs.write(name, tmp_path)
    model = TransferModel(made(name, tmp_path), Classification(), ["a", "b"])
    for text in ("keras", "tflite"):
        (use,) = spec.parse(text, Exporter).usage(model.backbone, model.task)
        assert "inputs = backbone.preprocess(" in use.code and ".resize(" not in use.code
    with pytest.raises(ValueError, match=f"the backbone {name} does otherwise"):
        page_inputs.settings(model)


@pytest.mark.slow
def test_a_model_of_a_pair_is_read_in_a_process_that_built_none(tmp_path):
    pairs.write("siglip", tmp_path / "pair")
    model = TransferModel(made("siglip", tmp_path / "pair"), Classification(), ["a", "b"])
    Image.fromarray(PICTURES[0]).save(tmp_path / "picture.jpg")
    read, printed = read_afresh(model, tmp_path)
    assert read.split() == ["siglip"] and "probabilities" in printed


def test_pixels_are_scaled_only_where_the_folder_says_so(tmp_path):
    pairs.write("clip", tmp_path)
    file = tmp_path / "preprocessor_config.json"
    told = json.loads(file.read_text())
    assert towers.pictures(tmp_path, pairs.SIZE)[1:] != ((1 / 255,) * 3, (0.0,) * 3)
    file.write_text(json.dumps({**told, "do_normalize": False}))
    assert towers.pictures(tmp_path, pairs.SIZE)[1:] == ((1 / 255,) * 3, (0.0,) * 3)
    file.write_text(json.dumps({**told, "do_normalize": False, "do_rescale": False}))
    assert towers.pictures(tmp_path, pairs.SIZE)[1:] == ((1.0,) * 3, (0.0,) * 3)


@of_both
def test_a_saved_model_is_read_back_whole(name, tmp_path):
    pairs.write(name, tmp_path / "pair")
    model = TransferModel(made(name, tmp_path / "pair"), Classification(), ["a", "b"])
    inputs = inputs_of(model.backbone, PICTURES)
    model.save(tmp_path)
    np.testing.assert_array_equal(TransferModel.load(tmp_path).full(inputs), model.full(inputs))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": None}, r"configuration is None, expected a folder with config.json"),
        ({"weights": "x", "configuration": Path("y")}, "expected None, as weights='x' has its own"),
    ],
)
def test_fields_that_do_not_fit_are_refused(given, message):
    member: Any = spec.names(Backbone)["clip"]
    with pytest.raises(ValueError, match=message):
        member(**given)


def _changed(file: str, **changes: Any) -> Any:
    def change(folder: Path) -> None:
        found = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**found, **changes}))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_changed("config.json", model_type="bert"), "model_type is 'bert', which clip does not"),
        (
            _changed("config.json", text_config={"layer_norm_eps": 1e-4}),
            "layer_norm_eps of text_config is 0.0001, expected 1e-05",
        ),
        (_changed("config.json", projection_dim=13), r"has the shape \[12, 16\], which does not"),
        (_changed("preprocessor_config.json", crop_size=40), "expected a resize to 32"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "how pictures are scaled"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be read"),
    ],
)
def test_a_folder_that_is_no_such_pair_is_refused(change, message, tmp_path):
    pairs.write("clip", tmp_path)
    change(tmp_path)
    with pytest.raises(ValueError, match=message):
        made("clip", tmp_path).build()
