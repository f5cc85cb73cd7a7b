"""Masks and boxes in TFLite files, as MediaPipe reads them by their metadata."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import Tiny
from PIL import Image

from tlkeras.exporters.tflite import TFLite
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Output, Task

CLASSES = ("sky", "sea", "ship")


class Toy(Task):
    """What the two tasks below do not differ in; nothing of it is trained."""

    reads = ("image",)
    primary = "none"

    def target(self, example, inputs, classes):
        raise NotImplementedError

    def loss(self):
        raise NotImplementedError

    def metrics(self, classes):
        return []

    def tally(self, classes):
        raise NotImplementedError

    def agree(self, one, other):
        raise NotImplementedError


class Masks(Toy, name="masks"):
    """The share of each class for each of 8 x 8 cells."""

    def summarize(self, features):
        return features["stride4"]

    def head(self, summary, classes):
        return keras.layers.Conv2D(classes, 1, name="logits")(summary)

    def served(self, outputs):
        return {"masks": keras.ops.softmax(outputs)}

    def outputs(self):
        return (Output("masks", "mask", labelled=True),)


BOXES = [[0.1, 0.2, 0.5, 0.75], [0.25, 0.0, 1.0, 0.5]]
"""Top, left, bottom and right."""


class Finds(Toy, name="finds"):
    """Two boxes that are the same in every picture: a ship and, less likely, the sky."""

    def summarize(self, features):
        return features["pooled"]

    def head(self, summary, classes):
        return keras.layers.Dense(2, name="logits", kernel_initializer="zeros")(summary)

    def served(self, outputs):
        return {
            "boxes": outputs[:, :, None] + tf.constant([BOXES]),
            "class_numbers": outputs + tf.constant([[2.0, 0.0]]),
            "chances": outputs + tf.constant([[0.75, 0.5]]),
            "found": outputs[:, 0] + 2.0,
        }

    def outputs(self):
        return (
            Output("boxes", "boxes"),
            Output("class_numbers", "category", labelled=True),
            Output("chances", "scores"),
            Output("found", "count"),
        )


# In a process of its own: wrong metadata can end it, or keep it waiting.
SEEN = """
import json
import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
base = BaseOptions(model_asset_path="model.tflite")
picture = mediapipe.Image.create_from_file("picture.png")
{run}
print(json.dumps(found))
"""
SEGMENTER = """
options = vision.ImageSegmenterOptions(
    base, output_confidence_masks=True, output_category_mask=True
)
with vision.ImageSegmenter.create_from_options(options) as task:
    result = task.segment(picture)
    masks = [np.squeeze(mask.numpy_view()).tolist() for mask in result.confidence_masks]
    found = {"labels": task.labels, "masks": masks}
"""
DETECTOR = """
with vision.ObjectDetector.create_from_options(vision.ObjectDetectorOptions(base)) as task:
    found = [
        [
            each.categories[0].category_name, each.categories[0].score, each.bounding_box.origin_y,
            each.bounding_box.origin_x, each.bounding_box.height, each.bounding_box.width,
        ]
        for each in task.detect(picture).detections
    ]
"""


def seen(task, run, folder):
    """Returns the model of a task, its input, and what MediaPipe says of that."""
    pytest.importorskip("mediapipe")
    model = TransferModel(Tiny(), task, CLASSES, seed=0)
    TFLite().write(model, None, folder)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    ended = subprocess.run(
        [sys.executable, "-c", SEEN.format(run=run)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return model, pixels[None].astype("float32"), json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.slow
def test_masks_are_those_of_keras_in_the_order_of_the_classes(tmp_path):
    model, inputs, found = seen(Masks(), SEGMENTER, tmp_path)
    expected = np.asarray(model.served(inputs)["masks"])[0]
    assert found["labels"] == list(CLASSES)
    rows = np.moveaxis(np.array(found["masks"]), 0, -1)
    # MediaPipe makes them as large as the picture; the corners stay where they are.
    np.testing.assert_allclose(rows[::31, ::31], expected[::7, ::7], atol=0.01)


@pytest.mark.slow
def test_boxes_are_where_the_network_has_them_with_their_classes(tmp_path):
    _, _, found = seen(Finds(), DETECTOR, tmp_path)
    size = 32
    expected = [
        [name, score, top * size, left * size, (bottom - top) * size, (right - left) * size]
        for name, score, (top, left, bottom, right) in zip(
            ("ship", "sky"), (0.75, 0.5), BOXES, strict=True
        )
    ]
    assert [row[0] for row in found] == [row[0] for row in expected]
    np.testing.assert_allclose([row[1:] for row in found], [row[1:] for row in expected], atol=1.0)
