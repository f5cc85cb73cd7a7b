"""Classification: one label of several."""

from __future__ import annotations

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.measures.calibration import softmax_rescaled
from tlkeras.measures.classification import ClassificationTally
from tlkeras.task import Output, Task


class Classification(Task, name="classification"):
    """One label of `classes`: pooled features, dropout, one dense layer, softmax loss.

    Targets are one-hot, so that smoothed and mixed labels are targets like any other.
    """

    reads = ("label",)
    primary = "accuracy"

    dropout: float = 0.2
    label_smoothing: float = 0.0

    def validate(self):
        self.require(0 <= self.dropout < 1, "dropout", "at least 0 and below 1")
        self.require(0 <= self.label_smoothing < 1, "label_smoothing", "at least 0 and below 1")

    def target(self, example, inputs, classes):
        """Returns float32 [classes], 1 at the label."""
        return tf.one_hot(example["label"], classes)

    def weighted(self, target, class_weights):
        parts = target * class_weights
        weights = tf.reduce_sum(parts, axis=-1)
        return tf.math.divide_no_nan(parts, weights[:, None]), weights

    def summarize(self, features):
        """Returns [b, channels]: the pooled features."""
        return features["pooled"]

    def head(self, summary, classes):
        """Returns logits [b, classes]."""
        x = keras.layers.Dropout(self.dropout, name="dropout")(summary)
        return keras.layers.Dense(classes, dtype="float32", name="logits")(x)

    def loss(self):
        return keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=self.label_smoothing
        )

    def metrics(self):
        return [keras.metrics.CategoricalAccuracy(name="accuracy")]

    def rated(self, target, outputs):
        return outputs, target.argmax(axis=-1)

    def chances(self, served):
        return np.asarray(served["probabilities"])

    def rescaled(self, served, factor):
        return {"probabilities": softmax_rescaled(served["probabilities"], factor)}

    def served(self, outputs):
        return {"probabilities": keras.ops.softmax(outputs)}

    def named(self, served, classes):
        """Returns ``label`` [b], and ``classes`` and their ``scores`` [b, classes], best first."""
        scores, order = tf.math.top_k(served["probabilities"], k=len(classes))
        names = tf.gather(tf.constant(classes), order)
        return {**served, "label": names[:, 0], "classes": names, "scores": scores}

    def outputs(self):
        return (Output("probabilities", "scores", labelled=True),)

    def tally(self, classes):
        return ClassificationTally(classes)

    def agree(self, one, other):
        """Returns whether the most probable classes are equal."""
        return one["probabilities"].argmax(-1) == other["probabilities"].argmax(-1)
