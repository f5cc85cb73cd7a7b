"""What every exporter promises."""

import json
import os
import re
import subprocess
import sys
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import Tiny, export, members

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.backbones.applications import TABLE, Application
from tlkeras.backbones.towers import Towers
from tlkeras.exporter import Exporter
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.exporters.tflite import TFLite
from tlkeras.formats import litert
from tlkeras.frameworks import keras, tf
from tlkeras.images.pixels import squash
from tlkeras.kinds.image import Image
from tlkeras.kinds.text import Text
from tlkeras.model import precision
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Output, Task
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.retrieval import Retrieval

LEAST_CORRELATION = {"none": 0.9999, "float16": 0.999, "dynamic": 0.9, "int8": 0.75}
"""Rounding grows in an untrained network: 0.82 for resnet50 in int8."""

LENGTH = 12


def letters(text):
    """Returns int32 [..., LENGTH]: the characters of texts of any shape, 0 behind the last."""
    flat = tf.strings.unicode_decode(tf.reshape(text, [-1]), "UTF-8")
    codes = flat.to_tensor(shape=[None, LENGTH]) % 128
    return tf.reshape(codes, tf.concat([tf.shape(text), [LENGTH]], 0))


class Letters(Backbone, name="letters"):
    """A network of texts: the embedded characters and their mean."""

    block_pattern = r"^(dense)"

    def build(self):
        inputs = keras.Input([LENGTH], dtype="int32")
        tokens = keras.layers.Embedding(128, 16, name="embedding")(inputs)
        pooled = keras.ops.mean(keras.layers.Dense(16, name="dense")(tokens), axis=1)
        return keras.Model(inputs, {"pooled": pooled, "tokens": tokens}, name=self.name)

    def raw(self):
        return {"text": Text()}

    def preprocess(self, example):
        return tf.ensure_shape(letters(example["text"]), [*example["text"].shape, LENGTH])


class Captioned(Backbone, name="captioned"):
    """A network of two inputs: a picture's colours and the characters of its caption."""

    block_pattern = r"^(dense)"

    def build(self):
        inputs = {
            "image": keras.Input([8, 8, 3], name="image"),
            "caption": keras.Input([LENGTH], dtype="int32", name="caption"),
        }
        words = keras.layers.Embedding(128, 8, name="embedding")(inputs["caption"])
        colours = keras.layers.Rescaling(1 / 255, name="scale")(inputs["image"])
        pooled = keras.ops.concatenate(
            [keras.ops.mean(colours, axis=(1, 2)), keras.ops.mean(words, axis=1)], axis=-1
        )
        pooled = keras.layers.Dense(8, name="dense")(pooled)
        return keras.Model(inputs, {"pooled": pooled}, name=self.name)

    def raw(self):
        return {"image": Image(), "caption": Text()}

    def preprocess(self, example):
        caption = tf.ensure_shape(letters(example["caption"]), [*example["caption"].shape, LENGTH])
        return {"image": squash(example["image"], 8), "caption": caption}


class Amount(Task, name="amount"):
    """One number, without classes."""

    reads = ("amount",)
    primary = "error"

    def target(self, example, inputs, classes):
        return tf.reshape(example["amount"], [1])

    def summarize(self, features):
        return features["pooled"]

    def head(self, summary, classes):
        return keras.layers.Dense(1, name="value")(summary)

    def loss(self):
        return keras.losses.MeanSquaredError()

    def metrics(self, classes):
        return []

    def served(self, outputs):
        return {"value": outputs}

    def outputs(self):
        return (Output("value", "vector"),)

    def tally(self, classes):
        raise NotImplementedError

    def agree(self, one, other):
        return np.isclose(one["value"], other["value"])[:, 0]


COLOURS = ("blue", "green", "red")
MODELS = {
    "pictures and classes": (Tiny(), Classification(), COLOURS),
    "pictures and a number": (Tiny(), Amount(), ()),
    "texts and classes": (Letters(), Classification(), COLOURS),
    "texts and a number": (Letters(), Amount(), ()),
    "two inputs and a number": (Captioned(), Amount(), ()),
    "a pair of towers": (Towers(Tiny(), Letters()), Retrieval(channels=8), ()),
}
TEXTS = ["a", "b", "Grüße aus Wien", "tea for two", "123"]


@pytest.fixture(params=MODELS, scope="module")
def model(request):
    return TransferModel(*MODELS[request.param], seed=0)


@pytest.fixture(scope="module")
def values(model):
    """Five examples in their standard form."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (5, 20, 40, 3), np.uint8)
    examples = {"text": TEXTS, "caption": TEXTS, "image": [*map(png, pictures)]}
    return [{key: examples[key][i] for key in model.backbone.raw()} for i in range(5)]


@pytest.fixture(scope="module")
def inputs(model, values):
    """The preprocessed batch of them."""
    kinds = model.backbone.raw()
    rows = [
        model.backbone.preprocess({key: kind.given(one[key]) for key, kind in kinds.items()})
        for one in values
    ]
    return tf.nest.map_structure(lambda *parts: np.stack(parts), *rows)


def png(pixels):
    return bytes(tf.io.encode_png(pixels).numpy())


NESTED = {"tower": "tower(side='picture', to=saved_model)"}
"""Members that hold another one, as a user writes them."""

EXPORTERS = [NESTED.get(name, name) for name in members(Exporter)]


@pytest.fixture(params=EXPORTERS)
def exporter(request):
    """Every member of the family, unless the extra that it needs is not installed."""
    try:
        return spec.parse(request.param, Exporter)
    except ValueError as error:
        if "pip install 'tlkeras[" not in str(error):
            raise
        pytest.skip(str(error))


def test_an_exporter_is_its_text(exporter):
    assert spec.parse(str(exporter), Exporter) == spec.parse(exporter.full(), Exporter) == exporter


def test_an_export_serves_what_keras_serves_or_is_refused_beforehand(
    exporter, model, inputs, tmp_path
):
    samples = tf.data.Dataset.from_tensor_slices(inputs)
    try:
        exporter.fits(model)
    except ValueError as refused:
        with pytest.raises(ValueError) as raised:
            exporter.write(model, samples, tmp_path)
        assert str(raised.value) == str(refused)
        assert not any(tmp_path.iterdir())
        return
    export(exporter, model, samples, tmp_path)
    assert all((tmp_path / name).exists() for name in exporter.files())
    top = {name.split("/")[0] for name in exporter.files()}
    assert {path.name for path in tmp_path.iterdir()} == top
    run, expected = exporter.load(tmp_path), model.served(inputs)
    by_name = inputs if isinstance(inputs, dict) else {next(iter(model.inputs)): inputs}
    for served in (run(inputs), run(by_name)):
        names = exporter.serves or tuple(expected)
        assert {*names} <= {*served}
        for key in names:
            np.testing.assert_allclose(served[key], expected[key], rtol=0, atol=exporter.tolerance)


REFUSED = {
    each: {name for name in MODELS if "pictures" not in name}
    for each in ("browser", "tflite(quantize='int8')")
} | {NESTED["tower"]: {name for name in MODELS if "towers" not in name}}
"""The models that cannot be exported; all other exporters take all."""


@pytest.mark.parametrize(
    "text",
    [*EXPORTERS, *(f"tflite(quantize='{kind}')" for kind in LEAST_CORRELATION)],
)
def test_models_are_refused_by_what_the_format_cannot_hold(text):
    if text == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
    exporter = spec.parse(text, Exporter)
    for name, parts in MODELS.items():
        model = TransferModel(*parts, seed=0)
        if name in REFUSED.get(text, ()):
            with pytest.raises(ValueError, match=rf"{model.backbone.name}|{model.task.name}"):
                exporter.fits(model)
        else:
            exporter.fits(model)


@pytest.mark.parametrize(
    "text", ["browser", "onnx", *(f"tflite(quantize={kind!r})" for kind in LEAST_CORRELATION)]
)
def test_weights_of_two_gigabytes_are_refused_by_formats_of_one_file(text):
    if text == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
    exporter = spec.parse(text, Exporter)
    model = TransferModel(*MODELS["pictures and classes"], seed=0)
    told = (
        rf"^{re.escape(str(exporter))} makes one file of less than 2\.15 GB, and the weights of "
        r"tiny are 2\.15 GB in float32; take saved_model or keras"
    )
    exporter.fits(model)
    with (
        mock.patch.object(keras.Model, "count_params", return_value=2**29),
        pytest.raises(ValueError, match=told),
    ):
        exporter.fits(model)
    with mock.patch.object(keras.Model, "count_params", return_value=2**29 - 1):
        exporter.fits(model)


def test_every_endpoint_answers_raw_examples_as_the_model_does(exporter, model, values, tmp_path):
    kinds = model.backbone.raw()
    if type(exporter).endpoints is Exporter.endpoints:
        assert exporter.endpoints(tmp_path, kinds) == {}
        return
    if exporter.serves and not model.backbone.towers():
        pytest.skip("the exporter is for other models, as another law tells")
    export(exporter, model, None, tmp_path)
    answers = model.predict(values)
    calls = exporter.endpoints(tmp_path, kinds)
    offered = {name for kind in kinds.values() for name in kind.entrances()}
    assert {*calls} == offered | {"examples"}
    for call in calls.values():
        for one, expected in zip(values, answers, strict=True):
            served = call(one)
            for name in exporter.serves or [output.name for output in model.task.outputs()]:
                found = served[name]
                assert found.shape[0] == 1
                np.testing.assert_allclose(found[0], expected[name], atol=1e-5)


ALONE = """
import json, sys
sys.modules["tlkeras"] = sys.modules["pipeline"] = None  # As if they were not installed.
import tensorflow as tf
loaded = tf.saved_model.load("saved_model")
texts = json.loads(sys.argv[1])
served = loaded.signatures["serving_default"](text=tf.constant(texts))
print(json.dumps(served["value"].numpy().tolist()))
"""


def test_a_saved_model_takes_raw_texts_with_tensorflow_alone(tmp_path):
    model = TransferModel(*MODELS["texts and a number"], seed=0)
    SavedModel().write(model, None, tmp_path)
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps(TEXTS)],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    expected = [one["value"] for one in model.predict(TEXTS)]
    np.testing.assert_allclose(json.loads(ended.stdout.splitlines()[-1]), expected, atol=1e-5)


# One network of each family of keras.applications.
REPRESENTATIVES = (
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_b0",
    "inception_resnet_v2",
    "inception_v3",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "nasnet_mobile",
    "resnet50",
    "resnet50v2",
    "vgg16",
    "xception",
)

DEEPEST = {"densenet121": 8, "inception_resnet_v2": 16, "nasnet_mobile": 8, "resnet50v2": 8}
"""The largest stride of what is converted: behind it come the same kinds of layers."""

FLOAT_ONLY = {"convnext_tiny": "NEG"}
"""What keeps a network from being all integer."""


def test_every_family_is_represented():
    members = spec.names(Application)
    assert {members[name].family for name in REPRESENTATIVES} == {row[2] for row in TABLE}


def settled(name, policy="float32"):
    """Returns a model that tells pictures apart, and pictures: random weights alone do not."""
    member = spec.names(Application)[name]
    size = max(48, member.family.smallest)
    keras.config.set_dtype_policy(policy)
    build = member.build

    def built(self):
        network = build(self)
        maps: Any = network.output
        deepest = f"stride{DEEPEST.get(name, 32)}"
        pooled = keras.layers.GlobalAveragePooling2D()(maps[deepest])
        return keras.Model(network.input, {"pooled": pooled})

    try:
        with mock.patch.object(member, "build", built):
            backbone = member(size=size, weights=None)
            model = TransferModel(backbone, Classification(), ("blue", "green", "red"), seed=0)
    finally:
        keras.config.set_dtype_policy("float32")
    coarse = np.random.default_rng(0).uniform(0, 255, (16, 3, 3, 3))
    pictures = tf.image.resize(coarse.astype("float32"), [size, size]).numpy()
    for layer in model.full._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            # Most units pass, so that rounding is not amplified as it is by no trained network.
            shift: Any = layer.beta
            shift.assign(np.ones(shift.shape))
    model.full(pictures, training=True)  # Batch norms take over what they see.
    return model, pictures


@pytest.fixture(scope="module")
def networks():
    """The model of the last name asked for; one is in memory at a time."""
    kept = {}

    def network(name):
        if name not in kept:
            kept.clear()
            kept[name] = settled(name)
        return kept[name]

    return network


# A conversion to integers begins with one to float, and is the hardest; one network shows the rest.
# The longest of all to convert has the operations of inception_v3, and is left out.
CONVERSIONS = [
    *((name, "int8") for name in REPRESENTATIVES if name != "inception_resnet_v2"),
    *(("mobilenet_v2", kind) for kind in ("none", "dynamic", "float16")),
    ("convnext_tiny", "none"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), CONVERSIONS)
def test_every_family_runs_as_tflite(name, kind, networks, tmp_path):
    model, pictures = networks(name)
    exporter, samples = TFLite(quantize=kind), tf.data.Dataset.from_tensor_slices(pictures)
    if kind == "int8" and name in FLOAT_ONLY:
        with pytest.raises(ValueError, match=rf"LiteRT has its {FLOAT_ONLY[name]} in float only"):
            exporter.fits(model)
        return
    exporter.write(model, samples, tmp_path)
    served = exporter.load(tmp_path)(pictures)["probabilities"]
    expected = model.served(pictures)["probabilities"].numpy()
    assert np.ptp(expected, axis=0).max() > 0.02  # What is the same for all proves nothing.
    assert np.abs(served - expected).max() <= exporter.tolerance
    correlation = np.corrcoef(served.ravel(), expected.ravel())[0, 1]
    assert correlation > LEAST_CORRELATION[kind]
    if kind == "int8":
        assert litert.operations((tmp_path / "model_int8.tflite").read_bytes())[1] == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "mobilenet_v3_small" else pytest.mark.slow)
        for name in ("mobilenet_v3_small", "convnext_tiny", "efficientnet_b0", "nasnet_mobile")
    ],
)
def test_networks_with_their_own_layers_are_rebuilt_in_float32(name):
    mixed, pictures = settled(name, "mixed_bfloat16")
    rebuilt = precision.float32(mixed.full)
    assert {layer.compute_dtype for layer in rebuilt._flatten_layers()} == {"float32"}
    outputs, expected = (network(pictures, training=False) for network in (rebuilt, mixed.full))
    correlation = np.corrcoef(np.ravel(outputs), np.ravel(tf.cast(expected, tf.float32)))[0, 1]
    assert correlation > 0.9
