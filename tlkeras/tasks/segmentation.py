"""Segmentation: a class for every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.images.masks import IGNORE, VALUES
from tlkeras.measures.segmentation import BACKGROUND, SegmentationTally
from tlkeras.model import decoder
from tlkeras.task import Output, Task

STRIDE = 4
"""Of the logits; what is served has the size of the network's input."""

_EQUAL = 0.995  # The share of equal pixels from which on two masks are one answer.


class Segmentation(Task, name="segmentation"):
    """A class or none for every pixel: a top-down decoder on the maps of all strides.

    The outputs are the background and the classes: 0 is of no class, 1 + c of class c. The loss is
    the cross entropy and the soft Dice loss. Pixels that the mask ignores have no part in it.
    """

    reads = ("mask",)
    primary = "mean_iou"
    explains = True
    recipe = (
        "fine_tune(phases=["
        "phase(epochs=36, learning_rate=2e-3, schedule='cosine', warmup=0.1, "
        "augment=[flip, zoom], views=6), "
        "phase(epochs=16, learning_rate=5e-4, unfreeze=0.6, schedule='cosine', warmup=0.1, "
        "augment=[flip, zoom], views=6)])"
    )

    width: int = 96
    """Channels of the decoder."""

    def validate(self):
        self.require(self.width >= 1, "width", "at least 1")

    def target(self, example, inputs, classes):
        """Returns uint8 [h, w], the mask at the size of the network's picture; see `Mask`."""
        mask = example["mask"]
        if inputs is not None:
            (picture,) = (each for each in tf.nest.flatten(inputs) if each.shape.rank == 3)
            mask = tf.image.resize(mask, picture.shape[:2], method="nearest")
        return mask[..., 0]

    def counts(self, target, classes):
        """Returns the pixels of the background and of every class, int64 [1 + classes]."""
        labels = tf.cast(tf.reshape(target, [-1]), tf.int32)
        return tf.math.bincount(labels, minlength=VALUES, maxlength=VALUES, dtype=tf.int64)[
            : classes + 1
        ]

    def weighted(self, target, class_weights):
        """Returns float32 [b, h, w, 2], the class of every pixel and its weight, and ones.

        One weight for a whole picture could not tell its classes apart.
        """
        labels = tf.cast(target, tf.int32)
        # Nothing is said of the pixels of other numbers.
        weights = tf.gather(tf.pad(class_weights, [[0, VALUES - class_weights.shape[0]]]), labels)
        pairs = tf.stack([tf.cast(labels, tf.float32), weights], axis=-1)
        return pairs, tf.ones(tf.shape(target)[:1])

    def summarize(self, features):
        """Returns the maps of the strides from 4 to 32 that the backbone has."""
        return decoder.maps(features, self.name)

    def head(self, summary, classes):
        """Returns logits [b, h / 4, w / 4, 1 + classes]."""
        joined = decoder.joined(summary, self.width)
        finest = min(joined, key=_stride)
        x = joined[finest]
        x = decoder.enlarged(x, tuple(side * _stride(finest) // STRIDE for side in x.shape[1:3]))
        x = decoder.separable(x, self.width, "mask")
        return keras.layers.Conv2D(classes + 1, 1, dtype="float32", name="logits")(x)

    def loss(self):
        from tlkeras.losses import segmentation

        return segmentation.PixelLoss()

    def metrics(self, classes):
        from tlkeras.losses import segmentation

        return [segmentation.MeanIoU()]

    def served(self, outputs):
        size = [STRIDE * side for side in outputs.shape[1:3]]
        logits = keras.ops.image.resize(
            outputs, size, interpolation="bilinear", data_format="channels_last"
        )
        return {"mask": keras.ops.softmax(logits)}

    def named(self, served, classes):
        """Returns ``category`` too, uint8 [b, h, w]: 0 is of no class, 1 + c of class c."""
        return {**served, "category": tf.cast(tf.argmax(served["mask"], axis=-1), tf.uint8)}

    def placed(self, served, sizes):
        """Returns ``category`` at the size of the picture, uint8 [b, height, width].

        It is the class of the greatest probability after these are resized. In a batch of pictures
        of several sizes it is 255 beside the smaller ones.
        """
        whole = tf.reduce_max(sizes, axis=0)

        def categories(one: Any) -> Any:
            mask, size = one
            around = tf.pad((whole - size)[:, None], [[0, 0], [1, 0]])
            return tf.pad(_categories(mask, size), around, constant_values=IGNORE)

        kind = tf.TensorSpec([None, None], tf.uint8)
        return {"category": tf.map_fn(categories, (served["mask"], sizes), kind)}

    def record(self, answer):
        """Returns ``category`` alone; the probabilities of a photo are hundreds of megabytes."""
        return {"category": answer["category"]}

    def outputs(self):
        return (Output("mask", "mask", labelled=True, others=(BACKGROUND,)),)

    def explained(self, outputs):
        """Returns the sum of a class's logits over its pixels, as a mean of all, [b, classes].

        Its pixels are those where its logit is the largest (Vinogradova et al. 2020,
        https://arxiv.org/abs/2002.11434). A class without any is behind those with negative sums.
        """
        own = tf.one_hot(tf.argmax(outputs, axis=-1), outputs.shape[-1])[..., 1:]
        values = tf.reduce_mean(outputs[..., 1:] * own, axis=(1, 2))
        shares = tf.reduce_mean(own, axis=(1, 2))
        labels = tf.where(shares > 0, tf.range(tf.shape(values)[1])[None], -1)
        return tf.where(shares > 0, values, values.dtype.min), labels

    def tally(self, classes):
        return SegmentationTally(classes)

    def kept(self, served):
        """Returns the most probable classes, uint8 [b, h, w]."""
        return {"category": np.asarray(served["mask"]).argmax(-1).astype(np.uint8)}

    def agree(self, one, other):
        """Returns whether at least 99.5 % of the pixels are equal."""
        equal = np.asarray(one["category"]) == np.asarray(other["category"])
        return equal.mean(axis=(1, 2)) >= _EQUAL


def _categories(mask: Any, size: Any) -> Any:
    """Returns the most probable classes of a mask [h, w, classes] at another size, uint8.

    The probabilities of one class at a time are resized: all at once, those of a photo of 12
    megapixels and 20 classes would be a gigabyte.
    """

    def better(number: Any, best: Any, found: Any) -> Any:
        chances = tf.image.resize(mask[..., number, None], size)[..., 0]
        return (
            number + 1,
            tf.maximum(best, chances),
            tf.where(chances > best, tf.cast(number, tf.uint8), found),
        )

    begin = (0, tf.fill(size, -1.0), tf.zeros(size, tf.uint8))
    shapes = (tf.TensorShape([]), *[tf.TensorShape([None, None])] * 2)
    *_, found = tf.while_loop(
        lambda number, *_: number < mask.shape[-1], better, begin, shapes, maximum_iterations=VALUES
    )
    return found


def _stride(name: str) -> int:
    return int(name.removeprefix("stride"))
