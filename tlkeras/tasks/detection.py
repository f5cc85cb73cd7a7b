"""Detection: where the objects of a picture are, and of which class."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from tlkeras.boxes import geometry, suppression
from tlkeras.frameworks import keras, tf
from tlkeras.measures.detection import COLUMNS, DetectionTally, agreement
from tlkeras.model import decoder
from tlkeras.task import Output, Task

# A new head finds an object in so many of its cells.
_CHANCE = 0.01


# Boxes below this score are not served.
_LEAST_SCORE = 0.01

# Of uint16: what is kept for comparisons.
_STEPS = 65_535


class Detection(Task, name="detection"):
    """Boxes of classes: every cell of the maps rates the classes and has a box, without anchors.

    A top-down decoder joins the maps of `stride` and coarser. Cells learn by task-aligned
    assignment. At most `most` boxes of a picture are learned, measured and served.
    """

    reads = ("boxes", "labels")
    optional = ("ignored",)
    needs_float = True  # Of 256 places, boxes would have too few.
    primary = "ap"
    explains = True
    recipe = (
        "fine_tune(phases=["
        "phase(epochs=36, learning_rate=2e-3, schedule='cosine', warmup=0.1, "
        "augment=[flip, zoom], views=6), "
        "phase(epochs=24, learning_rate=1e-3, unfreeze=0.6, schedule='cosine', warmup=0.1, "
        "augment=[flip, zoom], views=6)])"
    )

    most: int = 100
    """How many boxes a picture has at most; more are counted and told."""
    threshold: float = 0.5
    """Of two boxes of a class with more than this IoU, the one of the lower score is left out."""
    stride: Literal[4, 8, 16] = 8
    """The finest cells in pixels of the network's input; small objects need fine cells."""
    width: int = 96
    """Channels of the decoder."""

    def validate(self):
        self.require(self.most >= 1, "most", "at least 1")
        self.require(0 < self.threshold < 1, "threshold", "an IoU above 0 and below 1")
        self.require(self.width >= 1, "width", "at least 1")

    def target(self, example, inputs, classes):
        """Returns float32 [1 + most, 6].

        The first row is the height and the width of the picture in pixels, 1 if there is no
        picture, and the number of its boxes. The others are (top, left, bottom, right, class,
        ignored), -1 behind the last box. Ignored is 0, 1 for difficult objects or 2 for crowds.
        """
        boxes, labels = example["boxes"], tf.cast(example["labels"], tf.float32)
        ignored = tf.cast(example.get("ignored", tf.zeros_like(labels)), tf.float32)
        rows = tf.concat([boxes, labels[:, None], ignored[:, None]], axis=1)[: self.most]
        rows = tf.pad(rows, [[0, self.most - tf.shape(rows)[0]], [0, 0]], constant_values=-1.0)
        size = tf.shape(example["image"])[:2] if "image" in example else tf.ones([2], tf.int32)
        first = tf.cast(tf.concat([size, tf.shape(boxes)[:1], [0, 0, 0]], axis=0), tf.float32)
        return tf.ensure_shape(tf.concat([first[None], rows], axis=0), [1 + self.most, COLUMNS])

    def counts(self, target, classes):
        """Returns the boxes of every class that are learned, int64 [classes]."""
        labels, ignored = target[1:, 4], target[1:, 5]
        learned = tf.boolean_mask(labels, (labels >= 0) & (ignored == 0))
        return tf.math.bincount(
            tf.cast(learned, tf.int32), minlength=classes, maxlength=classes, dtype=tf.int64
        )

    def weighted(self, target, class_weights):
        """Returns targets with one column more, the weight of every box, and ones."""
        labels = tf.cast(target[:, :, 4], tf.int32)
        weights = tf.gather(class_weights, tf.maximum(labels, 0))
        return tf.concat([target, weights[..., None]], axis=-1), tf.ones(tf.shape(target)[:1])

    def initialize(self, head, targets):
        """Changes nothing; says how many boxes are left out of the training, or hardly learned."""
        told = np.array([(target[0, 2], _repeated(np.asarray(target))) for target in targets])
        counts, repeated = told[:, 0], int(told[:, 1].sum())
        if repeated:
            print(
                f"Boxes that equal an earlier one of their training picture: {repeated:,}. A cell "
                "learns one box and its class, so these are hardly learned or found."
            )
        if (more := counts > self.most).any():
            left = int((counts - self.most)[more].sum())
            print(
                f"{int(more.sum()):,} of {len(counts):,} training pictures have more boxes than "
                f"detection.most, {self.most}; {left:,} boxes are left out, the last of each."
            )

    def summarize(self, features):
        """Returns the maps of `stride` and coarser, of finer ones only if there are no others."""
        maps = decoder.maps(features, self.name)
        fitting = {name: each for name, each in maps.items() if _stride(name) >= self.stride}
        return fitting or dict([max(maps.items(), key=lambda item: _stride(item[0]))])

    def head(self, summary, classes):
        """Returns [b, cells, 8 + classes]: of every cell itself, its code, and logits."""
        rare: Any = keras.initializers.Constant(geometry.initial_bias(_CHANCE))
        levels = []
        for name, x in decoder.joined(summary, self.width).items():
            codes = keras.layers.Conv2D(
                geometry.SIZE, 1, dtype="float32", kernel_initializer="zeros", name=f"{name}_codes"
            )(decoder.separable(x, self.width, f"{name}_boxes"))
            logits = keras.layers.Conv2D(
                classes,
                1,
                dtype="float32",
                bias_initializer=rare,
                name=f"{name}_logits",
            )(decoder.separable(x, self.width, f"{name}_classes"))
            rows, columns = x.shape[1:3]
            codes, logits = (
                keras.layers.Reshape(
                    [rows * columns, each.shape[-1]], dtype="float32", name=f"{name}_{part}_rows"
                )(each)
                for part, each in (("codes", codes), ("logits", logits))
            )
            cells = keras.ops.zeros_like(codes) + geometry.cells(rows, columns)
            levels.append(_joined([cells, codes, logits], -1, f"{name}_cells"))
        return levels[0] if len(levels) == 1 else _joined(levels, 1, "cells")

    def loss(self):
        from tlkeras.losses import detection

        return detection.DetectionLoss()

    def metrics(self, classes):
        from tlkeras.losses import detection

        return [detection.AP50(self)]

    def served(self, outputs):
        """Returns ``boxes`` (top, left, bottom, right) in [0, 1], best first; see `suppressed`."""
        cells, codes, logits = geometry.parts(outputs)
        # Not argmax, in which Keras has an operation that TFLite does not.
        ops: Any = keras.ops
        best, categories = ops.top_k(logits, 1)
        return suppression.suppressed(
            geometry.clipped(geometry.decoded(codes, cells)),
            keras.ops.sigmoid(best[..., 0]),
            keras.ops.cast(categories[..., 0], "float32"),
            self.most,
            self.threshold,
            _LEAST_SCORE,
        )

    def outputs(self):
        return (
            Output("boxes", "boxes"),
            Output("category", "category", labelled=True),
            Output("scores", "scores"),
            Output("count", "count"),
        )

    def named(self, served, classes):
        """Returns ``names`` too, the names of the classes, [b, most]; empty behind the last box."""
        names = tf.gather(tf.constant(classes), tf.cast(served["category"], tf.int32))
        return {**served, "names": tf.where(served["scores"] > 0, names, "")}

    def placed(self, served, sizes):
        """Returns ``pixels``, the boxes in pixels of the picture, float32 [b, most, 4]."""
        sides = tf.cast(tf.concat([sizes, sizes], axis=1), tf.float32)
        return {"pixels": served["boxes"] * sides[:, None]}

    def record(self, answer):
        """Returns ``names``, ``scores`` and ``pixels`` of the boxes that there are."""
        count = int(answer["count"])
        return {name: answer[name][:count] for name in ("names", "scores", "pixels")}

    def explained(self, outputs):
        """Returns the log-odds of the served boxes, best first, [b, most]; from a score of 0.5."""
        served = self.served(outputs)
        scores = tf.clip_by_value(served["scores"], _LEAST_SCORE, 1 - 1e-6)
        labels = tf.where(scores >= 0.5, tf.cast(served["category"], tf.int32), -1)
        return tf.math.log(scores) - tf.math.log1p(-scores), labels

    def tally(self, classes):
        return DetectionTally(classes)

    def kept(self, served):
        """Returns the served numbers as parts of 65,535, uint16, and the classes.

        Boxes of nearly equal scores change places by rounding, so no difference of numbers judges
        an export: `agree` and the measures do.
        """
        shares = {name: np.asarray(served[name]) for name in ("boxes", "scores")}
        rounded = {
            name: np.rint(np.clip(each, 0, 1) * _STEPS).astype(np.uint16)
            for name, each in shares.items()
        }
        return {**rounded, "category": np.rint(served["category"]).astype(np.uint16)}

    def agree(self, one, other):
        """Returns whether each box of a score of 0.5 is one of the other's, at an IoU of 0.9."""
        return agreement(_shares(one), _shares(other))


def _joined(tensors: Any, axis: int, name: str) -> Any:
    """Returns tensors joined in float32, which mixed precision would round."""
    return keras.layers.Concatenate(axis=axis, dtype="float32", name=name)(tensors)


def _repeated(target: np.ndarray) -> int:
    """Returns how many boxes of a target that are learned equal an earlier one."""
    boxes = target[1:][(target[1:, 4] >= 0) & (target[1:, 5] == 0), : geometry.SIZE]
    return len(boxes) - len(np.unique(boxes, axis=0))


def _shares(kept: Any) -> dict[str, Any]:
    parts = {name: kept[name].astype(np.float32) / _STEPS for name in ("boxes", "scores")}
    return {**parts, "category": kept["category"]}


def _stride(name: str) -> int:
    return int(name.removeprefix("stride"))
