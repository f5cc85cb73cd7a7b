"""The loss of the pixels of a mask, and their mean intersection over union."""

from __future__ import annotations

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
        labels, weights, y_pred = _parts(y_true, y_pred)
        known = tf.cast(labels < y_pred.shape[-1], y_pred.dtype)
        true = tf.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype)
        logs = tf.nn.log_softmax(y_pred)
        entropy = tf.math.divide_no_nan(
            -tf.reduce_sum(weights[..., None] * true * logs, axis=[1, 2, 3]),
            tf.reduce_sum(known, axis=[1, 2]),
        )
        found = tf.exp(logs) * known[..., None]
        both, all_true, all_found = (
            tf.reduce_sum(each, axis=[1, 2]) for each in (found * true, true, found)
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
        labels, _, y_pred = _parts(y_true, y_pred)
        known = tf.cast(labels < classes, tf.float32)[..., None]
        if sample_weight is not None:
            known *= tf.cast(sample_weight > 0, tf.float32)[:, None, None, None]
        true = tf.one_hot(labels, classes) * known
        found = tf.one_hot(tf.argmax(y_pred, axis=-1), classes) * known
        both, either = (
            tf.reduce_sum(each, axis=[0, 1, 2]) for each in (true * found, tf.maximum(true, found))
        )
        new = tf.pad(tf.cast(tf.stack([both, either]), tf.float64), [[0, 0], [0, VALUES - classes]])
        self.pixels.assign(self.pixels + new)

    def result(self):
        """Returns 0 if there was no pixel."""
        both, either = tf.unstack(tf.convert_to_tensor(self.pixels))
        mean = tf.math.divide_no_nan(
            tf.reduce_sum(tf.math.divide_no_nan(both, either)),
            tf.cast(tf.math.count_nonzero(either), tf.float64),
        )
        return tf.cast(mean, tf.float32)


def _parts(targets: Any, outputs: Any) -> tuple[Any, Any, Any]:
    """Returns classes, int32, and weights, both [b, h, w], and logits [b, h, w, 1 + classes]."""
    logits = tf.image.resize(outputs, targets.shape[1:3])
    if len(targets.shape) == 3:
        return tf.cast(targets, tf.int32), tf.ones_like(targets, tf.float32), logits
    labels, weights = tf.unstack(targets, axis=-1)
    return tf.cast(labels, tf.int32), weights, logits
