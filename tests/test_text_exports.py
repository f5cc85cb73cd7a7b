"""Networks of texts in the formats that take pieces: equal to Keras."""

from __future__ import annotations

from pathlib import Path

import checkpoints
import numpy as np
import pytest
from toy_text import ToyText

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.backbones.hub_text import Bert
from tlkeras.backbones.starter_text import StarterText
from tlkeras.exporter import Exporter
from tlkeras.frameworks import tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.tagging import Tagging

CLASSES = ("O", "B-x", "I-x")
TEXTS = ["the soup was so good", "Bad, rather bad", "", "so " * 40]


def bert(folder: Path) -> Backbone:
    """Returns a BERT of random weights, as Hugging Face's libraries write one."""
    checkpoints.write("bert", folder, hidden_act="gelu")
    return Bert(weights=str(folder), length=16)


MODELS = {
    "starter_text": (lambda folder: StarterText(length=16), Classification()),
    "toy_text": (lambda folder: ToyText(), Classification()),
    "toy_text of words": (lambda folder: ToyText(input="words"), Tagging()),
    "toy_text of pairs": (lambda folder: ToyText(input="pair"), Classification()),
    "bert": (bert, Classification()),
}


def inputs_of(backbone: Backbone):
    example = {
        "text": tf.constant(TEXTS),
        "pair": tf.constant(TEXTS[::-1]),
        "words": tf.strings.split(TEXTS).to_tensor(),
    }
    return backbone.preprocess({key: example[key] for key in backbone.reads})


FAST = {("onnx", "toy_text of words"), ("onnx", "bert"), ("keras", "toy_text of words")}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param(text, name, marks=() if (text, name) in FAST else pytest.mark.slow)
        for text in ("onnx", "keras", "tflite")
        for name in MODELS
    ],
)
def test_networks_of_texts_give_what_keras_does(text, name, tmp_path):
    if text == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
    made, task = MODELS[name]
    (tmp_path / "weights").mkdir()
    backbone = made(tmp_path / "weights")
    model = TransferModel(backbone, task, CLASSES, seed=0)
    exporter = spec.parse(text, Exporter)
    exporter.write(model, None, tmp_path)
    inputs = tf.nest.map_structure(np.asarray, inputs_of(backbone))
    expected = np.asarray(model.served(inputs)["probabilities"])
    found = exporter.load(tmp_path)(inputs)["probabilities"]
    np.testing.assert_allclose(found, expected, atol=exporter.tolerance)
    assert np.ptp(expected[:2], axis=0).max() > 1e-3  # The texts are told apart.
