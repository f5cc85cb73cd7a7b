"""The loss of boxes and of their scores, and their average precision."""

from __future__ import annotations

from typing import Any

from tlkeras.boxes import assignment, geometry
from tlkeras.frameworks import keras, tf
from tlkeras.measures.detection import COLUMNS
from tlkeras.task import Task

# Weights of the varifocal loss, as published, and of the loss of boxes beside it.
_NEGATIVE, _FOCUS, _BOXES = 0.75, 2.0, 2.0


class DetectionLoss(keras.losses.Loss):
    """The varifocal loss of the scores and the generalized IoU loss of the boxes, of each picture.

    A cell that has a box learns as its score how well its box fits, weighted by that. Other cells
    learn 0, weighted by ``0.75 p ** 2`` (Zhang et al. 2020, https://arxiv.org/abs/2008.13367).
    Both losses are divided by the sum of the scores to learn. Cells in ignored boxes learn nothing.
    """

    def __init__(self) -> None:
        """Names it; the loss of a batch is the mean over its pictures."""
        super().__init__(name="detection_loss", dtype="float32")

    def call(self, y_true, y_pred):
        cells, codes, logits = geometry.parts(y_pred)
        boxes, labels, ignored, weights = _true(y_true)
        predicted, scores = geometry.decoded(codes, cells), tf.sigmoid(logits)
        is_counted = tf.cast((labels >= 0) & (ignored == 0), tf.float32)
        found = assignment.assigned(cells, predicted, scores, boxes, labels, weights * is_counted)
        is_ignored = tf.cast(ignored > 0, tf.float32)
        free = 1 - assignment.covered(cells, boxes * is_ignored[..., None])
        negative = _NEGATIVE * scores**_FOCUS * free[..., None]
        positive = found.scores * found.weights[..., None]
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(found.scores, logits)
        varifocal = tf.where(found.scores > 0, positive, tf.stop_gradient(negative)) * entropy
        learned = tf.reduce_sum(found.scores, axis=-1)
        fit = 1 - geometry.generalized_iou(predicted, found.boxes)
        whole = tf.maximum(tf.reduce_sum(learned, axis=1), 1.0)
        total = tf.reduce_sum(varifocal, axis=[1, 2])
        total += _BOXES * tf.reduce_sum(fit * learned * found.weights, axis=1)
        return total / whole


class AP50(keras.metrics.Metric):
    """The average precision at an IoU of 0.5, all classes in one list, from a histogram of scores.

    A box is right if it is the first one that overlaps its nearest true box of the class so much.
    """

    _BINS = 200

    def __init__(self, task: Task) -> None:
        """Begins with no box; `task` serves the boxes of outputs."""
        super().__init__(name="ap50", dtype="float32")
        self._task = task
        # Right and wrong boxes by score, and the number of true ones.
        self.right = self.add_variable((self._BINS,), "zeros", name="right")
        self.wrong = self.add_variable((self._BINS,), "zeros", name="wrong")
        self.boxes = self.add_variable((), "zeros", name="boxes")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the boxes of pictures, those of weight 0 left out."""
        served = self._task.served(y_pred)
        boxes, labels, ignored, _ = _true(y_true)
        is_box = labels >= 0
        same = tf.cast(labels, tf.float32)[:, None, :] == served["category"][..., None]
        overlaps = geometry.pairs(served["boxes"], boxes)
        overlaps = tf.where(same & is_box[:, None, :], overlaps, 0.0)
        nearest = tf.argmax(overlaps, axis=-1)
        meets = tf.reduce_max(overlaps, axis=-1) >= 0.5
        claims = tf.one_hot(nearest, tf.shape(overlaps)[-1]) * tf.cast(meets, tf.float32)[..., None]
        is_first = tf.gather(tf.cumsum(claims, axis=1), nearest, axis=2, batch_dims=2) <= 1
        passed = meets & tf.gather(ignored > 0, nearest, batch_dims=1)
        counts = (served["scores"] > 0) & ~passed
        is_counted = is_box & (ignored == 0)
        if sample_weight is not None:
            there = (sample_weight > 0)[:, None]
            counts, is_counted = counts & there, is_counted & there
        # Low scores are many and near each other.
        bins = tf.cast(tf.sqrt(served["scores"]) * (self._BINS - 1), tf.int32)
        for variable, which in (
            (self.right, counts & meets & is_first),
            (self.wrong, counts & ~(meets & is_first)),
        ):
            added = tf.one_hot(bins, self._BINS) * tf.cast(which, tf.float32)[..., None]
            variable.assign(variable + tf.reduce_sum(added, axis=[0, 1]))
        self.boxes.assign(self.boxes + tf.reduce_sum(tf.cast(is_counted, tf.float32)))

    def result(self):
        """Returns 0 if there was no true box."""
        right, wrong = (tf.cumsum(each[::-1]) for each in (self.right, self.wrong))
        precision = tf.math.divide_no_nan(right, right + wrong)
        later = tf.linalg.band_part(tf.ones([self._BINS, self._BINS]), 0, -1)
        precision = tf.reduce_max(later * precision[None], axis=1)
        new = right - tf.concat([[0.0], right[:-1]], axis=0)
        return tf.math.divide_no_nan(
            tf.reduce_sum(precision * new), tf.convert_to_tensor(self.boxes)
        )


def _true(targets: Any) -> tuple[Any, Any, Any, Any]:
    """Returns boxes [b, n, 4], and of each its class, whether it is ignored, and its weight.

    n is the most that a picture of the batch has, so that few boxes are little work.
    """
    last = 1 + tf.cast(tf.reduce_max(targets[:, 0, 2]), tf.int32)
    rows = targets[:, 1 : tf.maximum(last, 2)]
    labels, ignored = (tf.cast(rows[..., column], tf.int32) for column in (4, 5))
    has_weights = rows.shape[-1] > COLUMNS
    weights = rows[..., COLUMNS] if has_weights else tf.ones_like(rows[..., 0])
    return tf.maximum(rows[..., :4], 0.0), labels, ignored, weights
