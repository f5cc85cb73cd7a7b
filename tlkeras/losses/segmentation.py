"""The loss of the pixels of a mask, and their mean intersection over union."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.images.masks import VALUES


class PixelLoss(keras.losses.Loss):
    """The mean cross entropy of the pixels of a mask plus the soft Dice loss, of each picture.

    The logits are enlarged to the size of the mask, as they are where they are served: compared at
    their own stride of 4, edges lie half a pixel off, and drawn shapes lose 2 points of mean IoU.

    The soft Dice of a class is ``(2 sum(p t) + 1) / (sum(p) + sum(t) + 1)`` (Milletari et al. 2016,
    https://arxiv.org/abs/1606.04797), the loss its mean distance from 1 over the classes in the
    mask. A class that is neither in the mask nor predicted is right; where it is predicted, the
    cross entropy says so. With many classes the Dice of absent ones would outweigh all others.
    """

    def __init__(self) -> None:
        """Names it; the loss of a batch is the mean over its pictures."""
        super().__init__(name="pixel_loss", dtype="float32")

    def call(self, y_true, y_pred):
        return _loss(*_parts(y_true, y_pred))


@tf.custom_gradient
def _loss(logits: Any, labels: Any, weights: Any) -> Any:
    """Returns the loss of each picture [b], and the function of its gradient.

    TensorFlow's own gradient would go over all classes and pixels three times as often.

    Args:
        logits: [b, classes, pixels].
        labels: int32 [b, pixels], any other number where nothing is known.
        weights: [b, pixels].
    """
    classes = logits.shape[1]
    known = tf.cast(labels < classes, logits.dtype)
    true = tf.cast(labels[:, None] == tf.range(classes)[:, None], logits.dtype)
    logits -= tf.reduce_max(logits, axis=1, keepdims=True)
    powers = tf.exp(logits)
    whole = tf.reduce_sum(powers, axis=1)
    found = powers * (known / whole)[:, None]
    own = tf.reduce_sum(found * true, axis=1)  # Of the true class.
    count = tf.reduce_sum(known, axis=1, keepdims=True)
    weights = tf.math.divide_no_nan(weights * known, count)
    entropy = tf.math.log(whole) - tf.reduce_sum(logits * true, axis=1)
    both, all_true = _over(true, own), tf.reduce_sum(true, axis=2)
    size = all_true + tf.reduce_sum(found, axis=2) + 1
    dice = (2 * both + 1) / size
    present = tf.cast(all_true > 0, dice.dtype)
    shares = tf.math.divide_no_nan(present, tf.reduce_sum(present, axis=1, keepdims=True))

    def gradient(upstream: Any) -> tuple[Any, None, None]:
        # The Dice of a class falls by `lost` for all that is found of it and rises by `won` for
        # what is true of that.
        lost = upstream[:, None] * shares * dice / size
        won = _of_pixels(upstream[:, None] * shares * 2 / size, true) * own
        entropies = upstream[:, None] * weights
        around = entropies + won - _of_pixels(lost, found)
        slopes = found * (lost[:, :, None] + around[:, None]) - true * (entropies + won)[:, None]
        return slopes, None, None

    of_entropy = tf.reduce_sum(weights * entropy, axis=1)
    return of_entropy + tf.reduce_sum(shares * (1 - dice), axis=1), gradient


def _over(parts: Any, values: Any) -> Any:
    """Returns the sums over pixels of values [b, pixels] for each class, [b, classes]."""
    return tf.matmul(parts, values[..., None])[..., 0]


def _of_pixels(values: Any, parts: Any) -> Any:
    """Returns the sums over classes of values [b, classes] for each pixel, [b, pixels]."""
    return tf.matmul(values[:, None], parts)[:, 0]


class MeanIoU(keras.metrics.Metric):
    """The mean intersection over union of the classes that occur, over all pixels of the masks."""

    def __init__(self) -> None:
        """Begins with no pixel."""
        super().__init__(name="mean_iou", dtype="float32")
        # Intersections and unions; the number of classes is known at the first update only.
        # float32 would no longer count from 16 million pixels on.
        self.pixels = self.add_variable((2, VALUES), "zeros", dtype="float64", name="pixels")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the pixels of pictures, those of weight 0 left out."""
        logits, labels, _ = _parts(y_true, y_pred)
        classes = logits.shape[1]
        is_counted = labels < classes
        if sample_weight is not None:
            is_counted &= (sample_weight > 0)[:, None]
        found = tf.argmax(logits, axis=1, output_type=tf.int32)
        both, true, found = (
            _counts(tf.where(which, each, classes), classes)
            for which, each in (
                (is_counted & (labels == found), labels),
                (is_counted, labels),
                (is_counted, found),
            )
        )
        new = tf.cast(tf.stack([both, true + found - both]), tf.float64)
        self.pixels.assign(self.pixels + tf.pad(new, [[0, 0], [0, VALUES - classes]]))

    def result(self):
        """Returns 0 if there was no pixel."""
        both, either = tf.unstack(tf.convert_to_tensor(self.pixels))
        mean = tf.math.divide_no_nan(
            tf.reduce_sum(tf.math.divide_no_nan(both, either)),
            tf.cast(tf.math.count_nonzero(either), tf.float64),
        )
        return tf.cast(mean, tf.float32)


def _counts(numbers: Any, classes: int) -> Any:
    """Returns how many pixels have each number below `classes`, int32 [classes]."""
    flat = tf.reshape(numbers, [-1])
    return tf.math.bincount(flat, minlength=classes + 1, maxlength=classes + 1)[:classes]


def _parts(targets: Any, outputs: Any) -> tuple[Any, Any, Any]:
    """Returns logits [b, 1 + classes, pixels], and classes, int32, and weights, [b, pixels].

    Classes stand before pixels: sums over two or three last channels are slow on a processor.
    """
    labels, *rest = tf.unstack(targets, axis=-1) if len(targets.shape) == 4 else [targets]
    (weights,) = rest or [tf.ones_like(labels, tf.float32)]
    logits = _enlarged(tf.transpose(outputs, [0, 3, 1, 2]), labels.shape[1:])
    pixels = math.prod(labels.shape[1:])
    flat = (tf.reshape(each, [-1, pixels]) for each in (tf.cast(labels, tf.int32), weights))
    return tf.reshape(logits, [-1, logits.shape[1], pixels]), *flat


def _enlarged(maps: Any, size: Sequence[int]) -> Any:
    """Returns maps [b, classes, h, w] at another size, bilinear as `tf.image.resize`.

    They are products of matrices, whose gradients are, too.
    """
    rows, columns = map(_bilinear, maps.shape[2:], size)
    return tf.matmul(tf.matmul(rows, maps), columns, transpose_b=True)


def _bilinear(given: int, wanted: int) -> np.ndarray:
    """Returns the share that each of `given` places has in each of `wanted`, [wanted, given]."""
    places = (np.arange(wanted) + 0.5) * given / wanted - 0.5
    below = np.floor(places)
    shares = np.zeros([wanted, given], np.float32)
    for step, share in ((0, 1 - (places - below)), (1, places - below)):
        near = np.clip(below + step, 0, given - 1).astype(int)
        np.add.at(shares, (np.arange(wanted), near), share)
    return shares
