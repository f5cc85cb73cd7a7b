"""Segmentation: its loss and metric against NumPy and Keras, a fit on drawn shapes, and exports."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from conftest import Tiny
from PIL import Image

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.data.batches import Data
from tlkeras.exporter import Exporter
from tlkeras.exporters.tflite import TFLite
from tlkeras.formats import litert
from tlkeras.frameworks import keras, tf
from tlkeras.kinds.mask import Mask
from tlkeras.losses.segmentation import MeanIoU, PixelLoss
from tlkeras.model import decoder, pyramid
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.fine_tune import FineTune, Phase
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.training import schedule

TASK = Segmentation(width=16)


def drawn(count: int = 3, side: int = 32, classes: int = 2) -> np.ndarray:
    """Returns masks of coarse cells with every class, the background and ignored pixels."""
    cells = np.random.default_rng(0).integers(0, classes + 2, (count, side // 8, side // 8))
    cells[cells == classes + 1] = 255
    return cells.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)


def logits(count: int = 3, side: int = 8, classes: int = 2) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 2, (count, side, side, classes + 1)).astype("float32")


def enlarged(rows: np.ndarray) -> np.ndarray:
    """Logits at four times the size: of each pixel the line between the two nearest middles."""
    for axis in (1, 2):
        places = np.clip((np.arange(4 * rows.shape[axis]) + 0.5) / 4 - 0.5, 0, rows.shape[axis] - 1)
        below = np.floor(places).astype(int)
        above = np.minimum(below + 1, rows.shape[axis] - 1)
        share = (places - below).reshape([-1 if each == axis else 1 for each in range(4)])
        rows = rows.take(below, axis) * (1 - share) + rows.take(above, axis) * share
    return rows


def softmax(rows: np.ndarray) -> np.ndarray:
    exp = np.exp(rows.astype(np.float64))
    return exp / exp.sum(axis=-1, keepdims=True)


def loss(target: Any, outputs: Any) -> np.ndarray:
    made: Any = PixelLoss()
    return np.asarray(made.call(tf.constant(target), tf.constant(outputs)))


def test_the_loss_is_cross_entropy_and_dice_of_the_pixels_that_count():
    target, outputs = drawn(), logits()
    expected = []
    for mask, row in zip(target, softmax(enlarged(outputs)), strict=True):
        known = mask != 255
        picked = row[known][np.arange(known.sum()), mask[known]]
        dice = [
            (2 * row[known & (mask == c), c].sum() + 1)
            / (row[known, c].sum() + (mask == c).sum() + 1)
            for c in np.unique(mask[known])
        ]
        expected.append(-np.log(picked).mean() + 1 - np.mean(dice))
    np.testing.assert_allclose(loss(target, outputs), expected, rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_of_the_loss_is_that_of_its_formula(weighted: bool):
    target = tf.constant(drawn())
    if weighted:
        target, _ = TASK.weighted(target, tf.constant([0.5, 1.0, 4.0]))
    outputs, upstream = tf.Variable(logits()), tf.constant([1.0, -2.0, 0.5])
    made: Any = PixelLoss()
    with tf.GradientTape(persistent=True) as tape:
        ours = made.call(target, outputs)
        labels, weights = (
            tf.unstack(target, axis=-1) if weighted else (target, tf.ones([3, 32, 32]))
        )
        hot = tf.one_hot(tf.cast(labels, tf.int32), 3)
        chances = tf.nn.softmax(tf.image.resize(outputs, [32, 32]))
        known = tf.reduce_sum(hot, axis=-1)
        entropies = weights * tf.reduce_sum(-hot * tf.math.log(chances), axis=-1)
        found, true, both = (
            tf.reduce_sum(each * known[..., None], axis=[1, 2])
            for each in (chances, hot, chances * hot)
        )
        lost = tf.where(true > 0, 1 - (2 * both + 1) / (found + true + 1), 0)
        dice = tf.reduce_sum(lost, axis=1) / tf.reduce_sum(tf.cast(true > 0, tf.float32), axis=1)
        theirs = tf.reduce_sum(entropies, axis=[1, 2]) / tf.reduce_sum(known, axis=[1, 2]) + dice
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    expected = tape.gradient(theirs, outputs, upstream)
    np.testing.assert_allclose(tape.gradient(ours, outputs, upstream), expected, atol=1e-6)


def test_a_class_that_is_neither_in_mask_nor_answer_is_right():
    sure = np.full([1, 8, 8, 3], -30, "float32")
    sure[..., 0] = 30
    assert loss(np.zeros([1, 32, 32], np.uint8), sure) == pytest.approx(0, abs=1e-6)


def test_ignored_pixels_have_no_part_in_loss_and_metric():
    target, outputs = drawn(), logits()
    target[:, :16] = 255
    outputs[:, :3] += 50 * np.eye(3, dtype="float32")[1]
    np.testing.assert_allclose(loss(target, outputs), loss(target, logits()), rtol=1e-5)
    assert not loss(np.full([1, 32, 32], 255, np.uint8), outputs[:1])[0] > 1
    metric, expected = MeanIoU(), MeanIoU()
    metric.update_state(target, outputs)
    expected.update_state(target, logits())
    assert 0 < float(metric.result()) == float(expected.result())


def test_a_weight_counts_a_pixel_so_often():
    target, outputs = drawn(), logits()
    weights = tf.constant([0.5, 1.0, 4.0])
    pairs, ones = TASK.weighted(tf.constant(target), weights)
    np.testing.assert_array_equal(ones, np.ones(3))
    rows = softmax(enlarged(outputs))
    unweighted = loss(target, outputs)
    for i, (mask, row) in enumerate(zip(target, rows, strict=True)):
        known = mask != 255
        entropies = -np.log(row[known][np.arange(known.sum()), mask[known]])
        more = ((weights.numpy()[mask[known]] - 1) * entropies).mean()
        assert loss(pairs, outputs)[i] == pytest.approx(unweighted[i] + more, rel=1e-5)
    metric, plain = MeanIoU(), MeanIoU()
    metric.update_state(pairs, outputs)
    plain.update_state(target, outputs)
    assert float(metric.result()) == float(plain.result())


def test_class_weights_are_of_pixels(shapes):
    data = Data(shapes, Tiny(), TASK)
    counts = np.zeros(256, np.int64)
    for _, target in data.batches("train").as_numpy_iterator():
        counts += np.bincount(target.ravel(), minlength=256)
    counts = counts[: 1 + len(data.classes)]
    expected = counts.sum() / (len(counts) * counts)
    np.testing.assert_allclose(schedule._class_weights(data), expected, rtol=1e-6)


def test_the_metric_is_that_of_keras_over_all_batches():
    target, outputs = drawn(6), logits(6)
    ours: Any = MeanIoU()
    theirs: Any = keras.metrics.MeanIoU(3, ignore_class=255, sparse_y_pred=False)
    for part in (slice(0, 2), slice(2, 6)):
        ours.update_state(target[part], outputs[part])
        theirs.update_state(target[part].astype(int), enlarged(outputs[part]))
    assert float(ours.result()) == pytest.approx(float(theirs.result()), rel=1e-5)
    ours.reset_state()
    assert float(ours.result()) == 0
    ours.update_state(target, outputs, sample_weight=tf.constant([1.0, 1, 0, 0, 0, 0]))
    theirs.reset_state()
    theirs.update_state(target[:2].astype(int), enlarged(outputs[:2]))
    assert float(ours.result()) == pytest.approx(float(theirs.result()), rel=1e-5)


def test_the_target_is_the_mask_at_the_size_of_the_network_s_picture():
    mask = np.random.default_rng(0).integers(0, 3, (50, 70, 1)).astype(np.uint8)
    example = {"mask": tf.constant(mask)}
    np.testing.assert_array_equal(TASK.target(example, None, 2), mask[..., 0])
    found = TASK.target(example, tf.zeros([32, 32, 3]), 2)
    assert found.dtype == tf.uint8 and found.shape == (32, 32)
    rows, columns = ((np.arange(32) + 0.5) * side / 32 for side in (50, 70))
    np.testing.assert_array_equal(found, mask[rows.astype(int)[:, None], columns.astype(int), 0])


@pytest.mark.parametrize(
    ("kind", "stored", "expected"),
    [
        (Mask(), [0, 1, 2, 255], [1, 2, 3, 255]),
        (Mask(background=True), [0, 1, 2, 255], [0, 1, 2, 255]),
        (Mask(ignore=11), [0, 1, 11, 10], [1, 2, 255, 11]),
        (Mask(ignore=0, background=True), [0, 1, 2, 3], [255, 1, 2, 3]),
    ],
)
def test_a_decoded_mask_is_of_one_form_whatever_its_kind(kind, stored, expected):
    found = kind.decoded(tf.io.encode_png(np.array([stored], np.uint8)[..., None]))
    assert found.dtype == tf.uint8
    np.testing.assert_array_equal(found[0, :, 0], expected)


def test_a_backbone_without_maps_is_refused():
    with pytest.raises(ValueError, match=r"segmentation needs a picture backbone .* has tokens"):
        TASK.summarize({"tokens": None})


def test_the_decoder_takes_the_narrow_end_of_an_expansion():
    image = keras.Input([32, 32, 3])
    x = keras.layers.Conv2D(8, 3, strides=4, padding="same")(image)
    waist = keras.layers.BatchNormalization()(x)
    wide = keras.layers.ReLU()(keras.layers.BatchNormalization()(keras.layers.Conv2D(48, 1)(waist)))
    near = keras.layers.Conv2D(48, 3, padding="same")(waist)
    assert pyramid.narrow(wide) is waist
    assert pyramid.narrow(near) is near
    assert decoder.maps({"stride4": wide, "pooled": wide}, "a task") == {"stride4": waist}


@pytest.mark.parametrize(
    "backbone", ["inception_v3(size=107, weights=None)", "vgg16(size=64, weights=None)"]
)
def test_odd_sizes_of_maps_are_joined(backbone):
    network = spec.parse(backbone, Backbone)
    model = TransferModel(network, TASK, ("one",), seed=0)
    (side, _) = model.inputs["image"].shape[1:3]
    served = np.asarray(model.served(np.zeros([1, side, side, 3], "float32"))["mask"])
    assert abs(served.shape[1] - side) <= 16 and served.shape[1] % 4 == 0
    assert np.isfinite(
        loss(np.ones([1, side, side], np.uint8), model.full(np.zeros([1, side, side, 3])))
    ).all()


@pytest.fixture(scope="module")
def fitted(shapes, tmp_path_factory):
    """A model that has seen a few shapes, and its data."""
    data = Data(shapes, Tiny(), TASK, batch_size=8)
    model = TransferModel(data.backbone, TASK, data.classes, seed=0)
    phase = Phase(epochs=8, learning_rate=3e-3, unfreeze="all")
    recipe = FineTune(phases=(phase,), class_weight="balanced", cache="none")
    logs = recipe.fit(model, data, tmp_path_factory.mktemp("fit"))
    assert logs[-1]["loss"] < logs[0]["loss"] and {"val_mean_iou", "mean_iou"} <= {*logs[0]}
    return model, data


def test_a_loaded_model_serves_the_same_masks(fitted, tmp_path):
    model, data = fitted
    model.save(tmp_path)
    inputs, _ = next(iter(data.batches("test")))
    loaded = TransferModel.load(tmp_path)
    np.testing.assert_allclose(
        model.served(inputs)["mask"], loaded.served(inputs)["mask"], atol=1e-6
    )
    assert [*loaded.blocks] == [*model.blocks]


def test_a_prediction_has_the_classes_of_pixels(fitted):
    model, _ = fitted
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    (one,) = model.predict([picture])
    assert one["category"].dtype == np.uint8 and one["category"].shape == (40, 50)
    np.testing.assert_allclose(one["mask"].sum(-1), 1, atol=1e-5)
    # Channel by channel, by Pillow, whose bilinear enlargement is TensorFlow's.
    chances = [
        np.asarray(Image.fromarray(channel).resize((50, 40), Image.Resampling.BILINEAR))
        for channel in np.moveaxis(one["mask"], -1, 0)
    ]
    np.testing.assert_array_equal(one["category"], np.argmax(chances, axis=0))


def test_masks_of_pictures_of_several_sizes_are_255_beside_the_smaller_ones(fitted):
    model, _ = fitted
    pictures = [np.full([20, 60, 3], 90, np.uint8), np.full([40, 30, 3], 200, np.uint8)]
    alone = [one["category"] for one in model.predict(pictures)]
    inputs = np.stack([model.backbone.preprocess({"image": each}) for each in pictures])
    found = TASK.placed(model.served(inputs), tf.constant([[20, 60], [40, 30]]))["category"]
    assert found.shape == (2, 40, 60)
    for row, one in zip(found.numpy(), alone, strict=True):
        height, width = one.shape
        np.testing.assert_array_equal(row[:height, :width], one)
        assert (row == 255).sum() == row.size - one.size


def test_a_sure_half_picture_is_a_half_of_a_picture_of_any_size():
    mask = np.zeros([1, 8, 8, 2], "float32")
    mask[:, :, :4, 0], mask[:, :, 4:, 1] = 1, 1
    for height, width in ((9, 30), (100, 7 * 2), (4, 6)):
        found = TASK.placed({"mask": tf.constant(mask)}, tf.constant([[height, width]]))["category"]
        np.testing.assert_array_equal(
            found[0], np.arange(width)[None].repeat(height, 0) >= width / 2
        )


EXPORTERS = [
    "saved_model",
    pytest.param("keras", marks=pytest.mark.slow),
    pytest.param("onnx", marks=pytest.mark.slow),
    pytest.param("tflite", marks=pytest.mark.slow),
    pytest.param("tflite(quantize='float16')", marks=pytest.mark.slow),
    pytest.param("tflite(quantize='dynamic')", marks=pytest.mark.slow),
    pytest.param("tflite(quantize='int8')", marks=pytest.mark.slow),
]
LEAST = {"tflite(quantize='dynamic')": 0.9, "tflite(quantize='int8')": 0.85}
"""The share of pixels of the same class; the network is hardly trained and most are unsure."""


@pytest.fixture(scope="module")
def exported(fitted, tmp_path_factory):
    """A function that writes the model by an exporter, at its first call, and returns both."""
    model, data = fitted
    folder = tmp_path_factory.mktemp("exports")

    @functools.cache
    def write(text):
        exporter = spec.parse(text, Exporter)
        exporter.fits(model)
        exporter.write(model, data.singles("train"), folder)
        return exporter, folder

    return write


@pytest.mark.parametrize("text", EXPORTERS)
def test_exports_give_the_masks_of_keras(text, fitted, exported):
    if text == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
    model, data = fitted
    exporter, folder = exported(text)
    inputs, _ = next(data.batches("test").as_numpy_iterator())
    expected = {name: np.asarray(value) for name, value in model.served(inputs).items()}
    found = exporter.load(folder)(inputs)
    if exporter.tolerance < 1:
        np.testing.assert_allclose(found["mask"], expected["mask"], atol=exporter.tolerance)
        assert TASK.agree(TASK.kept(expected), TASK.kept(found)).all()
    equal = TASK.kept(expected)["category"] == TASK.kept(found)["category"]
    assert equal.mean() >= LEAST.get(text, 0.99)
    if isinstance(exporter, TFLite):
        _, inexact = litert.operations((folder / exporter.files()[0]).read_bytes())
        assert exporter.quantize != "int8" or not {*inexact} - {"QUANTIZE", "DEQUANTIZE"}


def test_the_saved_model_gives_the_classes_of_pixels_to_clients(fitted, exported):
    model, _ = fitted
    _, folder = exported("saved_model")
    random = np.random.default_rng(0)
    pictures = [
        random.integers(0, 256, (*side, 3)).astype(np.uint8) for side in [(40, 50), (90, 9)]
    ]
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    small, large = model.predict(pictures)
    served = loaded.signatures["serving_default"](image=tf.constant(pictures[0][None]))
    np.testing.assert_array_equal(served["category"][0], small["category"])
    encoded = tf.stack([tf.io.encode_png(picture) for picture in pictures])
    both = loaded.signatures["encoded"](image=encoded)["category"].numpy()
    assert both.shape == (2, 90, 50)
    np.testing.assert_array_equal(both[0, :40], small["category"])
    np.testing.assert_array_equal(both[1, :, :9], large["category"])
    assert (both[0, 40:] == 255).all() and (both[1, :, 9:] == 255).all()


# In a process of its own: wrong metadata can end it, or keep it waiting.
SEGMENTER = """
import json, sys
import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
picture = mediapipe.Image.create_from_file("picture.png")
for number, path in enumerate(sys.argv[1:]):
    options = vision.ImageSegmenterOptions(
        BaseOptions(model_asset_path=path),
        output_confidence_masks=True, output_category_mask=True,
    )
    with vision.ImageSegmenter.create_from_options(options) as task:
        result = task.segment(picture)
        masks = [np.squeeze(mask.numpy_view()) for mask in result.confidence_masks]
        category = np.squeeze(result.category_mask.numpy_view())
        np.savez(f"{number}.npz", masks=masks, category=category)
        print(json.dumps(task.labels))
"""


@pytest.mark.slow
def test_mediapipe_segments_as_the_files_of_float_and_of_integers_do(fitted, exported, tmp_path):
    pytest.importorskip("mediapipe")
    model, data = fitted
    made = [exported(text) for text in ("tflite", "tflite(quantize='int8')")]
    inputs, _ = next(data.batches("test").as_numpy_iterator())
    pixels = np.rint(inputs[:1]).astype(np.uint8)
    Image.fromarray(pixels[0]).save(tmp_path / "picture.png")
    paths = [str(folder / exporter.files()[0]) for exporter, folder in made]
    ended = subprocess.run(
        [sys.executable, "-c", SEGMENTER, *paths],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    labels = ended.stdout.splitlines()[-2:]
    for number, (exporter, folder) in enumerate(made):
        assert json.loads(labels[number]) == ["background", *model.classes]
        found = np.load(tmp_path / f"{number}.npz")
        served = exporter.load(folder)(pixels.astype("float32"))["mask"][0]
        np.testing.assert_allclose(np.moveaxis(found["masks"], 0, -1), served, atol=0.01)
        assert (found["category"] == served.argmax(-1)).mean() >= 0.995
