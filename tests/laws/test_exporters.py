"""What every exporter promises."""

from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import Tiny, export

from tlkeras import spec
from tlkeras.backbones.applications import TABLE, Application
from tlkeras.exporter import Exporter
from tlkeras.exporters.tflite import TFLite
from tlkeras.formats import litert
from tlkeras.frameworks import keras, tf
from tlkeras.model import precision
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.classification import Classification


@pytest.fixture(scope="module")
def model():
    return TransferModel(Tiny(), Classification(), ("blue", "green", "red"), seed=0)


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 3)).astype("float32")


@pytest.fixture(params=spec.names(Exporter))
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


def test_an_export_serves_what_keras_serves(exporter, model, inputs, tmp_path):
    samples = tf.data.Dataset.from_tensor_slices(inputs)
    export(exporter, model, samples, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(exporter.files())
    served, expected = exporter.load(tmp_path)(inputs), model.served(inputs)
    for key, tensor in expected.items():
        np.testing.assert_allclose(served[key], tensor, rtol=0, atol=exporter.tolerance)


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

LEAST_CORRELATION = {"none": 0.9999, "float16": 0.999, "dynamic": 0.9, "int8": 0.75}
"""Rounding grows in an untrained network: 0.82 for resnet50 in int8."""


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
CONVERSIONS = [
    *((name, "int8") for name in REPRESENTATIVES),
    *(("mobilenet_v2", kind) for kind in ("none", "dynamic", "float16")),
    ("convnext_tiny", "none"),
]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(
            name, kind, marks=[] if (name, kind) == ("mobilenet_v2", "int8") else pytest.mark.slow
        )
        for name, kind in CONVERSIONS
    ],
)
def test_every_family_runs_as_tflite(name, kind, networks, tmp_path):
    model, pictures = networks(name)
    exporter, samples = TFLite(quantize=kind), tf.data.Dataset.from_tensor_slices(pictures)
    if kind == "int8" and name in FLOAT_ONLY:
        with pytest.raises(ValueError, match=rf"LiteRT has its {FLOAT_ONLY[name]} in float only"):
            exporter.write(model, samples, tmp_path)
        return
    exporter.write(model, samples, tmp_path)
    served = exporter.load(tmp_path)(pictures)["probabilities"]
    expected = model.served(pictures)["probabilities"].numpy()
    assert np.ptp(expected, axis=0).max() > 0.02  # What is the same for all proves nothing.
    np.testing.assert_allclose(served, expected, rtol=0, atol=exporter.tolerance)
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
