"""TFLite files: their kinds, what they need, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from conftest import Tiny

from tlkeras import spec
from tlkeras.exporter import Exporter
from tlkeras.exporters.tflite import TFLite
from tlkeras.formats import bias_correction, litert
from tlkeras.formats.joined import joined
from tlkeras.frameworks import keras, tf
from tlkeras.model import graph, precision
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.regression import Regression

KINDS = ("none", "dynamic", "float16", "int8")
CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def model():
    return TransferModel(Tiny(), Classification(), CLASSES, seed=0)


def samples(low=0, high=255):
    """Returns pictures without end: who reads more than a few never comes back."""
    random = np.random.default_rng(0)

    def pictures():
        while True:
            yield random.uniform(low, high, (32, 32, 3)).astype("float32")

    return tf.data.Dataset.from_generator(
        pictures, output_signature=tf.TensorSpec([32, 32, 3], tf.float32)
    )


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """A folder with every kind in it."""
    folder = tmp_path_factory.mktemp("kinds")
    for kind in KINDS:
        TFLite(quantize=kind).write(model, samples(50, 200), folder)
    return folder


def test_every_kind_is_a_file_of_its_own(written):
    text = "tflite|tflite(quantize='dynamic')|tflite(quantize='float16')|tflite(quantize='int8')"
    exporters = spec.parse_value(text, tuple[Exporter, ...])
    names = [name for exporter in exporters for name in exporter.files()]
    assert names == [
        "model.tflite", "model_dynamic.tflite", "model_float16.tflite", "model_int8.tflite",
    ]  # fmt: skip
    assert sorted(path.name for path in written.iterdir()) == sorted(names)


def test_an_int8_file_takes_pixels_as_they_are_and_computes_in_integers(written):
    opened = litert.interpreter(written / "model_int8.tflite")
    (given,), (told,) = opened.get_input_details(), opened.get_output_details()
    # Though the pictures it was calibrated on were pale.
    assert (given["dtype"], given["quantization"]) == (np.uint8, (1.0, 0))
    assert (told["dtype"], told["quantization"]) == (np.uint8, (1 / 256, 0))
    facts = TFLite(quantize="int8").facts(written)
    assert facts["float_operations"] == []
    assert facts["operations"]["CONV_2D"] == 4
    scales = [
        len(tensor["quantization_parameters"]["scales"])
        for tensor in opened.get_tensor_details()
        if tensor["dtype"] == np.int8 and len(tensor["shape"]) == 4
    ]
    assert {8, 12, 16, 24} <= set(scales)  # One for every channel.


@pytest.mark.parametrize(
    ("kind", "stored", "may_lose"),  # Numbers of types are those of LiteRT's schema.
    [("none", 0, 0.01), ("dynamic", 9, 0.01), ("float16", 1, 0.01), ("int8", 9, 0.02)],
)
def test_weights_are_stored_as_the_kind_says(written, kind, stored, may_lose):
    exporter = TFLite(quantize=kind)
    model = litert.parsed((written / exporter.files()[0]).read_bytes())
    kernels = [  # Of fewer than 1,024 weights the converter makes nothing smaller.
        each.type
        for each in model.subgraphs[0].tensors
        if model.buffers[each.buffer].data is not None
        and np.size(each.shape) == 4
        and np.prod(each.shape) > 1024
    ]
    assert kernels == [stored] * 2
    assert exporter.max_drop == may_lose


def test_int8_is_corrected_by_as_many_pictures_as_calibrate_it(model, tmp_path, monkeypatch):
    seen = []
    correct = bias_correction.corrected

    def watched(file, exact, inputs):
        seen.extend(inputs)
        return correct(file, exact, seen[:2])

    monkeypatch.setattr(bias_correction, "corrected", watched)
    TFLite(quantize="int8").write(model, samples(), tmp_path)
    assert len(seen) == 128


def test_the_float_kinds_say_that_they_compute_in_float(written):
    for kind in KINDS[:3]:
        assert "CONV_2D" in TFLite(quantize=kind).facts(written)["float_operations"]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_of_mixed_precision_is_exported_in_float32(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        mixed = TransferModel(Tiny(), Classification(), CLASSES, seed=0)
        rebuilt = precision.float32(mixed.full)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in rebuilt._flatten_layers()} == {"float32"}
    for kind in ("none", "int8"):
        TFLite(quantize=kind).write(mixed, samples(), tmp_path)
    inputs = np.stack(list(samples().take(4).as_numpy_iterator()))
    expected = mixed.task.served(rebuilt(inputs, training=False))["probabilities"]
    served = TFLite().load(tmp_path)(inputs)["probabilities"]
    np.testing.assert_allclose(served, expected, atol=1e-5)
    np.testing.assert_allclose(served, mixed.served(inputs)["probabilities"], atol=0.05)
    assert TFLite(quantize="int8").facts(tmp_path)["float_operations"] == []


def test_a_float32_network_is_not_rebuilt(model):
    assert precision.float32(model.full) is model.full


def test_int8_without_training_examples_is_refused(model, tmp_path):
    for nothing in (None, samples().take(0)):
        with pytest.raises(ValueError, match=r"sets its ranges by training examples, and there ar"):
            TFLite(quantize="int8").write(model, nothing, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_dense_weights_have_one_scale_for_old_runtimes(tmp_path):
    model = TransferModel(Tiny(), Classification(), [f"class {i}" for i in range(60)], seed=0)
    for kind in ("dynamic", "int8"):
        exporter = TFLite(quantize=kind)
        exporter.write(model, samples(), tmp_path)
        file = litert.parsed((tmp_path / exporter.files()[0]).read_bytes())
        (weights,) = (t for t in file.subgraphs[0].tensors if np.array_equal(t.shape, [60, 24]))
        assert np.size(weights.quantization.scale) == 1


FLOAT_ONLY: dict[str, Any] = {
    "CEIL": lambda x: tf.math.ceil(x),
    "COS": lambda x: tf.cos(x),
    "CUMSUM": lambda x: tf.cumsum(x, axis=-1),
    "ELU": lambda x: tf.nn.elu(x),
    "FLOOR": lambda x: tf.floor(x),
    "FLOOR_DIV": lambda x: x // 0.25,
    "FLOOR_MOD": lambda x: x % 0.25,
    "NEG": lambda x: -x,
    "NON_MAX_SUPPRESSION_V4": lambda x: suppressed(x),
    "ROUND": lambda x: tf.raw_ops.Rint(x=x) + tf.round(2 * x),
    "SIGN": lambda x: tf.sign(x),
    "SIN": lambda x: tf.sin(x),
    "SQUARE": lambda x: tf.square(x),
}


def suppressed(scores):
    kept, _ = tf.raw_ops.NonMaxSuppressionV4(
        boxes=tf.tile(tf.reshape(scores, [-1, 1]), [1, 4]),
        scores=tf.reshape(scores, [-1]),
        max_output_size=3,
        iou_threshold=0.5,
        score_threshold=0.0,
        pad_to_max_output_size=True,
    )
    return tf.cast(kept[None], tf.float32)


def test_the_table_of_what_computes_in_float_only_is_tested():
    assert {*FLOAT_ONLY} == {*litert._FLOAT_ONLY.values()}


@pytest.mark.parametrize(
    "names", [("NEG",), pytest.param((*FLOAT_ONLY,), marks=pytest.mark.slow)], ids=len
)
def test_int8_refuses_before_the_training_what_it_refuses_after(names, tmp_path, monkeypatch):
    def served(task, outputs):
        found = [FLOAT_ONLY[name](tf.sigmoid(outputs)) for name in names]
        return {"probabilities": tf.concat(found, axis=-1)}

    monkeypatch.setattr(Classification, "served", served)
    model = TransferModel(Tiny(), Classification(), CLASSES, seed=0)
    with pytest.raises(ValueError, match=r"LiteRT has its .* in float only") as before:
        TFLite(quantize="int8").fits(model)
    with monkeypatch.context() as patch:  # The converter finds the same.
        patch.setattr(litert, "float_only", lambda model: [])
        with pytest.raises(ValueError, match=r"LiteRT has its .* in float only") as after:
            TFLite(quantize="int8").write(model, samples(), tmp_path)
    for name in names:
        assert re.search(rf"\b{name}\b", str(before.value))
        assert re.search(rf"\b{name}\b", str(after.value))
    assert list(tmp_path.iterdir()) == []


def test_what_depends_on_no_input_may_be_negative(model, monkeypatch):
    weights = model.head.get_layer("logits").bias

    def served(task, outputs):
        return {"probabilities": outputs + -tf.convert_to_tensor(weights)}

    monkeypatch.setattr(Classification, "served", served)
    assert litert.float_only(model) == []


def test_a_folder_that_cannot_be_written_to_is_one_message(model, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(ValueError, match=f"There is no folder {folder} to export to"):
            TFLite().write(model, None, folder)


@pytest.mark.parametrize("size", [0, 3, 1000, -1])
def test_a_file_that_was_cut_off_is_one_message(size, written, tmp_path):
    (tmp_path / "model.tflite").write_bytes((written / "model.tflite").read_bytes()[:size])
    with pytest.raises(ValueError, match=r"model\.tflite cannot be loaded: its [\d,]+ bytes are"):
        TFLite().load(tmp_path)


def test_a_file_that_is_not_there_is_one_message(tmp_path):
    with pytest.raises(ValueError, match="There is no file"):
        TFLite().load(tmp_path)


def test_equal_arrays_are_written_once_and_nothing_else_changes(written):
    file = litert.written(litert.parsed((written / "model_int8.tflite").read_bytes()))
    assert litert.written(litert.parsed(file)) == file
    doubled = litert.parsed(file)
    first = max(doubled.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    doubled.buffers.append(type(first)())
    doubled.buffers[-1].data = first.data.copy()
    assert len(litert.written(doubled)) - len(file) < len(first.data) // 2


def _conv(image, weights, stride, padding):
    return tf.nn.conv2d(image, weights, stride, padding)


def _dilated(image, weights, stride, padding):
    return tf.nn.conv2d(image, weights, stride, padding, dilations=2)


def _depthwise(image, weights, stride, padding):
    return tf.nn.depthwise_conv2d(image, weights, [1, stride, stride, 1], padding)


@pytest.mark.parametrize(
    ("layer", "weights", "size", "stride", "padding"),
    [
        (_conv, (1, 1, 16, 2), (8, 8), 1, "SAME"),
        (_conv, (3, 3, 16, 2), (2, 2), 1, "SAME"),
        (_conv, (3, 3, 16, 2), (1, 1), 1, "SAME"),
        (_conv, (3, 2, 16, 2), (5, 8), 2, "VALID"),
        (_conv, (5, 3, 16, 2), (6, 7), 2, "SAME"),
        (_conv, (3, 3, 8, 2), (4, 3), 1, "SAME"),  # Two groups.
        (_dilated, (3, 3, 16, 2), (6, 5), 1, "SAME"),
        (_depthwise, (2, 2, 16, 1), (8, 8), 1, "VALID"),
        (_depthwise, (3, 3, 16, 1), (4, 4), 2, "SAME"),
        (_depthwise, (3, 3, 16, 1), (2, 2), 1, "SAME"),
        (_depthwise, (3, 3, 8, 2), (3, 3), 1, "SAME"),
    ],
)
def test_a_correction_gives_the_mean_that_float_gives(
    layer, weights, size, stride, padding, tmp_path
):
    channels = 16 if layer is not _depthwise else weights[2]
    # One large weight sets the scale; all others are rounded to 0, which is 0.45 too little each.
    lost = np.full(weights, 0.45, np.float32)
    lost[(0, 0) if layer is _depthwise else (0, 0, 0)] = 0
    weights = np.where(lost == 0, np.float32(127), lost)
    bias = np.arange(1, 17 if layer is _depthwise else 3, dtype=np.float32)

    @tf.function(input_signature=[tf.TensorSpec([1, *size, channels], tf.float32, name="image")])
    def serve(image):
        return {"mean": tf.nn.bias_add(layer(image, weights, stride, padding), bias)}

    random = np.random.default_rng(0)
    shape = (1, *size, channels)
    # Not the same everywhere, nor of every channel.
    level = random.uniform(0, 2, shape)
    inputs = [(level * random.uniform(0.5, 1.5, shape)).astype("float32") for _ in range(8)]
    holder = tf.Module()
    tf.saved_model.save(holder, tmp_path, signatures={"serving_default": serve})
    files = []
    for integer in (False, True):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))
        if integer:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([batch] for batch in inputs)
        files.append(converter.convert())
    exact, file = files
    before, after = (_bias(each) for each in (file, bias_correction.corrected(file, exact, inputs)))
    np.testing.assert_allclose(before, bias, atol=0.01)
    missing = [layer(batch, lost, stride, padding) for batch in inputs]
    np.testing.assert_allclose(after - before, np.mean(missing, (0, 1, 2, 3)), rtol=0.01)


def _bias(file):
    """Returns the numbers that the only int32 tensor with values of a file stands for."""
    model = litert.parsed(file)
    (tensor,) = (
        tensor
        for tensor in model.subgraphs[0].tensors
        if tensor.type == 2 and tensor.quantization.scale is not None
    )
    return model.buffers[tensor.buffer].data.view(np.int32) * tensor.quantization.scale


def converted(folder, run, release="", **shapes):
    """Returns the file of a function of named float32 tensors, perhaps of a stated release."""
    module: Any = tf.Module()
    specs = {name: tf.TensorSpec(shape, tf.float32, name=name) for name, shape in shapes.items()}
    module.run = tf.function(run, input_signature=[specs], autograph=False)
    tf.saved_model.save(module, str(folder), {"serving_default": module.run})
    file = litert.converted(litert.converter(folder))
    if release:
        model = litert.parsed(file)
        litert.state_runtime(model, [release])
        return litert.written(model)
    return file


def test_a_joined_file_is_the_second_function_of_the_first(tmp_path):
    weights = np.random.default_rng(0).normal(0, 1, (4, 3)).astype("float32")
    first = converted(
        tmp_path / "a",
        lambda sent: {"wide": sent["x"] @ weights, "narrow": tf.exp(sent["x"])},
        x=[1, 4],
        release="2.11.0",
    )
    second = converted(
        tmp_path / "b",
        lambda sent: {"z": sent["wide"] @ weights.T + sent["narrow"], "y": -sent["wide"]},
        narrow=[1, 4],
        wide=[1, 3],
        release="2.9.0",
    )
    (tmp_path / "joined.tflite").write_bytes(joined(first, second))
    x = np.random.default_rng(1).normal(0, 1, (1, 4)).astype("float32")
    found = litert.load(tmp_path / "joined.tflite")(x)
    np.testing.assert_allclose(found["y"], -(x @ weights), rtol=1e-5)
    np.testing.assert_allclose(found["z"], x @ weights @ weights.T + np.exp(x), rtol=1e-4)
    assert {*found} == {"y", "z"}
    assert litert.runtime(joined(first, second)) == "2.11.0"
    with pytest.raises(ValueError, match=r"A file gives .*y.* and the other takes .*x"):
        joined(second, first)


def test_int8_numbers_are_as_near_to_keras_wherever_they_lie(tmp_path):
    model = TransferModel(Tiny(), Regression(), (), seed=0)
    scale: Any = model.head.get_layer("scale")
    inputs = np.stack([*samples().take(32).as_numpy_iterator()])
    errors = []
    for least in (-10.0, 990.0):
        scale.adapt(np.array([[least], [least + 20]]))  # A deviation of 10.
        TFLite(quantize="int8").write(model, samples(), tmp_path)
        found = TFLite(quantize="int8").load(tmp_path)(inputs)["number"]
        errors.append(np.abs(found - np.asarray(model.served(inputs)["number"])).max() / 10)
    assert errors[0] < 0.1 and errors[1] < 1.1 * errors[0] + 1e-4


def test_a_cut_behind_the_weights_leaves_no_weight_after_it():
    x = inputs = keras.Input([6])
    x = keras.layers.Dense(5, activation="relu", name="a")(x)
    left, right = keras.layers.Dense(3, name="b")(x), keras.layers.Dense(2, name="c")(x)
    ends: Any = keras.ops.concatenate(
        [keras.ops.exp(left), keras.layers.Reshape([2])(right)], axis=-1
    )
    network: Any = keras.Model(inputs, 2 * ends)
    before, after = graph.behind_weights(network)
    assert sorted(each.shape[-1] for each in before.outputs) == [2, 3]
    assert after.weights == [] and len(before.weights) == 6
    values = np.random.default_rng(0).normal(0, 1, (4, 6)).astype("float32")
    np.testing.assert_allclose(after(before(values)), network(values), rtol=1e-6)
