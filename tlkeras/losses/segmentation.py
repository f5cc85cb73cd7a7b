"""The loss of the pixels of a mask, and their mean intersection over union."""

from __future__ import annotations

import math
from typing import Any

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
        labels, weights, logits = _parts(y_true, y_pred)
        # Classes before pixels: sums over two or three last channels are slow on a processor.
        pixels = math.prod(logits.shape[1:3])
        logits, labels, weights = (
            tf.reshape(each, [-1, math.prod(each.shape[1:]) // pixels, pixels])
            for each in (tf.transpose(logits, [0, 3, 1, 2]), labels, weights)
        )
        known = tf.cast(labels < logits.shape[1], logits.dtype)
        true = tf.cast(labels == tf.range(logits.shape[1])[:, None], logits.dtype)
        logits -= tf.stop_gradient(tf.reduce_max(logits, axis=1, keepdims=True))
        powers = tf.exp(logits)
        whole = tf.reduce_sum(powers, axis=1, keepdims=True)
        entropy = tf.math.divide_no_nan(
            tf.reduce_sum(weights * true * (tf.math.log(whole) - logits), axis=[1, 2]),
            tf.reduce_sum(known, axis=[1, 2]),
        )
        found = powers * (known / whole)
        both, all_true, all_found = (
            tf.reduce_sum(each, axis=2) for each in (found * true, true, found)
        )
        dice = (2 * both + 1) / (all_true + all_found + 1)
        present = tf.cast(all_true > 0, dice.dtype)
        return entropy + tf.math.divide_no_nan(
            tf.reduce_sum(present * (1 - dice), axis=-1), tf.reduce_sum(present, axis=-1)
        )


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
        classes = y_pred.shape[-1]
        labels, _, logits = _parts(y_true, y_pred)
        is_counted = labels < classes
        if sample_weight is not None:
            is_counted &= (sample_weight > 0)[:, None, None]
        found = tf.argmax(logits, axis=-1, output_type=tf.int32)
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
    """Returns classes, int32, and weights, both [b, h, w], and logits [b, h, w, 1 + classes]."""
    logits = tf.image.resize(outputs, targets.shape[1:3])
    if len(targets.shape) == 3:
        return tf.cast(targets, tf.int32), tf.ones_like(targets, tf.float32), logits
    labels, weights = tf.unstack(targets, axis=-1)
    return tf.cast(labels, tf.int32), weights, logits
