"""Multilabel: any number of labels, also none."""

from __future__ import annotations

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.measures.calibration import sigmoid_rescaled
from tlkeras.measures.multilabel import THRESHOLD, MultilabelTally
from tlkeras.task import Output, Task


class Multilabel(Task, name="multilabel"):
    """Yes or no to each of `classes`: pooled features, dropout, one dense layer, sigmoid loss.

    An example has the labels of a probability of at least 0.5.
    """

    reads = ("labels",)
    primary = "macro_f1"
    explains = True

    dropout: float = 0.2

    def validate(self):
        self.require(0 <= self.dropout < 1, "dropout", "at least 0 and below 1")

    def target(self, example, inputs, classes):
        """Returns float32 [classes], 1 at the labels."""
        rows = tf.one_hot(example["labels"], classes)
        return tf.minimum(tf.reduce_sum(rows, axis=0), 1.0)  # A label may be given twice.

    def summarize(self, features):
        """Returns [b, channels]: the pooled features."""
        return features["pooled"]

    def head(self, summary, classes):
        """Returns logits [b, classes]."""
        x = keras.layers.Dropout(self.dropout, name="dropout")(summary)
        return keras.layers.Dense(classes, dtype="float32", name="logits")(x)

    def loss(self):
        return keras.losses.BinaryCrossentropy(from_logits=True)

    def metrics(self, classes):
        return [keras.metrics.MeanMetricWrapper(_accuracy, name="accuracy")]

    def decisions(self, classes):
        return classes

    def rated(self, target, outputs):
        """Returns two logits for each class of each example: 0 of no, and that of yes."""
        logits = outputs.reshape(-1)
        return np.stack([np.zeros_like(logits), logits], axis=-1), target.reshape(-1).astype(int)

    def rescaled(self, served, factor):
        return {"probabilities": sigmoid_rescaled(served["probabilities"], factor)}

    def served(self, outputs):
        return {"probabilities": keras.ops.sigmoid(outputs)}

    def named(self, served, classes):
        """Returns ``classes`` and their ``scores`` [b, classes], best first."""
        scores, order = tf.math.top_k(served["probabilities"], k=len(classes))
        return {**served, "classes": tf.gather(tf.constant(classes), order), "scores": scores}

    def outputs(self):
        return (Output("probabilities", "scores", labelled=True, threshold=THRESHOLD),)

    def explained(self, outputs):
        """Returns the logits, [b, classes]."""
        return outputs, tf.broadcast_to(tf.range(tf.shape(outputs)[1]), tf.shape(outputs))

    def tally(self, classes):
        return MultilabelTally(classes)

    def decided(self, target, served):
        return target == 1, served["probabilities"] >= THRESHOLD

    def agree(self, one, other):
        """Returns whether the labels are the same."""
        labels, others = (each["probabilities"] >= THRESHOLD for each in (one, other))
        return (labels == others).all(axis=-1)


def _accuracy(target, outputs):
    """Returns the share of the classes that are decided rightly, [b]."""
    right = keras.ops.equal(target > 0.5, outputs > 0)
    return keras.ops.mean(keras.ops.cast(right, "float32"), axis=-1)
