"""The frozen part in LiteRT: the same features, and when TensorFlow computes them."""

import dataclasses
import shutil

import numpy as np
import pytest
from conftest import Tiny
from toy_text import ToyText

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.frameworks import keras, tf
from tlkeras.images.pixels import squash
from tlkeras.kinds.image import Image
from tlkeras.model.pyramid import features as pyramid
from tlkeras.model.transfer_model import HEAD, TransferModel, computing_in
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.training import engine, feature_store, features
from tlkeras.training.engine import Engine
from tlkeras.training.features import Cache, Tap

TAPS = (Tap("train", HEAD), Tap("train", "block2"), Tap("validation", HEAD))
COLOURS = ("blue", "green", "red")


class Deep(Backbone, name="deep"):
    """Depthwise and grouped convolutions; with `odd` an operation that LiteRT lacks."""

    block_pattern = r"^(block\d)_"
    odd: bool = False

    def build(self):
        inputs = x = keras.Input([32, 32, 3])
        x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
        x = keras.layers.Conv2D(8, 5, strides=4, padding="same", name="block1_conv")(x)
        x = keras.layers.DepthwiseConv2D(3, padding="same", name="block1_depthwise")(x)
        x = keras.layers.BatchNormalization(name="block1_norm")(x)
        x = keras.layers.Activation("gelu", name="block1_gelu")(x)
        x = keras.ops.erfinv(keras.ops.tanh(x)) if self.odd else x
        x = keras.layers.Conv2D(8, 3, groups=4, strides=2, padding="same", name="block2_grouped")(x)
        x = keras.layers.Dropout(0.5, name="block2_dropout")(x)
        x = keras.layers.Conv2D(12, 1, activation="relu6", name="block2_conv")(x)
        return keras.Model(inputs, pyramid(keras.Model(inputs, x)), name=self.name)

    def raw(self):
        return {"image": Image()}

    def preprocess(self, example):
        return squash(example["image"], 32)


def made(backbone: Backbone = Deep(), **fields):  # noqa: B008 - a spec is frozen
    return TransferModel(backbone, Classification(**fields), COLOURS, seed=3)


def rows(found):
    return {tap: each.rows.read(np.arange(each.kept)) for tap, each in found.items()}


def without_features(cache):
    """Removes all but the converted networks from a cache."""
    for entry in cache.folder.glob("*-*-*-*[0-9a-f]"):
        if entry.is_dir():
            shutil.rmtree(entry)


def near(found, expected):
    for tap, columns in expected.items():
        for one, other in zip(found[tap], columns, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


@pytest.fixture
def data(data):
    return dataclasses.replace(data, backbone=Deep())


@pytest.fixture
def eager(monkeypatch):
    """Lets LiteRT pay for any number of examples."""
    monkeypatch.setattr(engine, "_LEAST", 0)


@pytest.fixture
def unconverted(monkeypatch):
    def convert(network):
        raise AssertionError("converted a network")

    return lambda: monkeypatch.setattr(engine, "_converted", convert)


def both(model, data, taps, folder, monkeypatch):
    """Returns the rows of TensorFlow and those of LiteRT."""
    expected = rows(features.at(model, data, taps, Cache(folder / "one"), "float32"))
    monkeypatch.setattr(engine, "_LEAST", 0)
    found = rows(features.at(model, data, taps, Cache(folder / "other"), "float32"))
    return expected, found


def test_features_are_tensorflows_at_every_tap(data, tmp_path, monkeypatch, capsys):
    expected, found = both(made(), data, TAPS, tmp_path, monkeypatch)
    near(found, expected)
    assert any((found[tap][0] != expected[tap][0]).any() for tap in TAPS)  # They are not they.
    assert "TensorFlow runs" not in capsys.readouterr().out


def test_a_pyramid_comes_in_its_order(tmp_path):
    network = TransferModel(Deep(), Segmentation(), COLOURS).body
    assert len(network.outputs) > 1
    batch = np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 3)).astype(np.float32)
    (found,) = engine.litert({HEAD: network}, Cache(tmp_path), (HEAD,))(batch).values()
    expected = keras.tree.flatten(network(batch, training=False))
    near({HEAD: found}, {HEAD: expected})


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "mobilenet_v2(alpha=0.35, size=32, weights=None)",
        "efficientnet_b0(size=32, weights=None)",
    ],
)
def test_features_of_real_architectures_are_tensorflows(data, tmp_path, monkeypatch, text):
    backbone = spec.parse(text, Backbone)
    data = dataclasses.replace(data, backbone=backbone)
    model = made(backbone)
    middle = list(model.blocks)[len(model.blocks) // 2]
    taps = (Tap("train", HEAD), Tap("train", middle))
    expected, found = both(model, data, taps, tmp_path, monkeypatch)
    near(found, expected)
    (converted,) = (tmp_path / "other").glob("litert-*[0-9a-f]")
    assert converted.is_dir()


def test_a_network_is_converted_once_for_all_passes(data, tmp_path, eager, unconverted):
    cache, model = Cache(tmp_path), made()
    first = rows(features.at(model, data, TAPS[:1], cache, "float32"))
    unconverted()
    features.at(model, data, [Tap("validation", HEAD)], cache, "float32")
    without_features(cache)
    again = rows(features.at(made(dropout=0.5), data, TAPS[:1], cache, "float32"))
    np.testing.assert_array_equal(again[TAPS[0]], first[TAPS[0]])


def test_a_row_has_the_same_bits_in_every_batch_and_on_any_number_of_threads(monkeypatch):
    network, random = made().body, np.random.default_rng(0)
    outputs = {HEAD: keras.tree.flatten(network.output)}
    file = engine._converted(network)
    batch = random.uniform(0, 255, (11, 32, 32, 3)).astype(np.float32)
    ((expected,),) = engine._LiteRT(file, outputs)(batch).values()
    order = random.permutation(11)
    for cores, memory in ((1, 1e9), (2, 1e9), (2, 1)):
        monkeypatch.setattr(engine, "_cores", lambda cores=cores: cores)
        monkeypatch.setattr(engine, "_MOST", memory)
        run = engine._LiteRT(file, outputs)
        for places in (order, order[:3], order[3:4]):
            ((found,),) = run(batch[places]).values()
            np.testing.assert_array_equal(found, expected[places])


def test_a_killed_pass_ends_with_the_bits_of_an_unbroken_one(data, tmp_path, eager, monkeypatch):
    class Killed(Exception):
        pass

    def kill(writer, first, columns):
        if first >= 2 * feature_store.LENGTH:
            raise Killed
        add(writer, first, columns)

    monkeypatch.setattr(feature_store, "LENGTH", 16)
    cache, add = Cache(tmp_path), feature_store.Writer.add
    whole = rows(features.at(made(), data, TAPS[:2], cache, "float16"))
    without_features(cache)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(feature_store.Writer, "add", kill)
        features.at(made(), data, TAPS[:2], cache, "float16")
    assert len([*tmp_path.glob("train-block2-*/?????")]) == 2
    ended = rows(features.at(made(), data, TAPS[:2], cache, "float16"))
    for tap, columns in whole.items():
        np.testing.assert_array_equal(ended[tap], columns)


def test_few_examples_and_dense_layers_do_not_pay_for_a_conversion(data, tmp_path, monkeypatch):
    model, cache = made(), Cache(tmp_path)
    work = 8 * 8 * (9 * 8) + 4 * 4 * (9 * 2 * 8)
    assert engine._work(model.body) == work and engine._work(made(Tiny()).body) == 0
    assert engine.chosen(model, data, cache) == Engine()
    monkeypatch.setattr(engine, "_LEAST", work * data.count("train") / engine._cores())
    assert engine.chosen(model, data, cache).key.startswith("litert ")
    monkeypatch.setattr(engine, "_LEAST", work * data.count("train") / engine._cores() + 1)
    assert engine.chosen(model, data, cache) == Engine()


def gpu(monkeypatch):
    devices = [tf.config.LogicalDevice("/gpu:0", "GPU"), tf.config.LogicalDevice("/cpu:0", "CPU")]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: devices)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (gpu, "there is a GPU"),
        (lambda patch: patch.setattr(engine.hardware, "replicas", lambda: 2), "several replicas"),
        (lambda patch: patch.setattr(engine, "_MOST", 100), "weights of 0 MB would be in memory"),
    ],
)
def test_what_speaks_against_litert_is_said(data, tmp_path, eager, monkeypatch, changed, reason):
    changed(monkeypatch)
    found = engine.chosen(made(), data, Cache(tmp_path))
    assert not found.key and found.reason.startswith(reason)


def test_other_networks_than_those_of_float32_pictures_are_tensorflows(data, tmp_path, eager):
    with computing_in("mixed_bfloat16"):
        mixed = made()
    assert engine.chosen(mixed, data, Cache(tmp_path)).reason == "the network computes in bfloat16"
    text = TransferModel(ToyText(), Classification(), COLOURS)
    assert engine.chosen(text, data, Cache(tmp_path)).reason == "LiteRT wants inputs of one length"


def test_a_network_that_litert_cannot_run_is_tensorflows(
    data, tmp_path, eager, unconverted, capsys
):
    model, cache = made(Deep(odd=True)), Cache(tmp_path)
    data = dataclasses.replace(data, backbone=Deep(odd=True))
    found = rows(features.at(model, data, TAPS[:1], cache, "float32"))
    said = capsys.readouterr().out
    assert said.count("TensorFlow runs the frozen layers: LiteRT cannot run the network (") == 1
    expected = np.asarray(model.body(np.stack([x for x, _ in data.pairs("train")])))
    near(found, {TAPS[0]: [expected]})
    unconverted()  # It is remembered.
    without_features(cache)
    features.at(model, data, TAPS[:1], cache, "float32")
    assert "LiteRT cannot run the network (" in capsys.readouterr().out


def test_other_numbers_in_the_first_rows_leave_the_pass_to_tensorflow(
    data, tmp_path, monkeypatch, capsys
):
    model, convert = made(), engine._converted
    expected = rows(features.at(model, data, TAPS[:2], Cache(tmp_path / "one"), "float32"))

    def wrongly(network):
        weights = network.get_weights()
        network.set_weights([each * 1.0001 for each in weights])
        file = convert(network)
        network.set_weights(weights)
        return file

    monkeypatch.setattr(engine, "_LEAST", 0)
    monkeypatch.setattr(engine, "_converted", wrongly)
    cache = Cache(tmp_path / "other")
    found = rows(features.at(model, data, TAPS[:2], cache, "float32"))
    assert "runs the frozen layers: LiteRT's numbers differ by " in capsys.readouterr().out
    for tap, columns in expected.items():
        np.testing.assert_array_equal(found[tap], columns)
    assert not [*cache.folder.glob("litert-*")]
    names = [{path.name for path in (tmp_path / each).glob("train-*")} for each in ("one", "other")]
    assert names[0] <= names[1]  # What TensorFlow computes is found without an engine, too.
