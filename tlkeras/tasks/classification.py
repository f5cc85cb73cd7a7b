"""Classification: one label of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tlkeras.frameworks import keras, tf
from tlkeras.measures import classification
from tlkeras.task import Task


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
        """Returns [b, channels]: the mean over the map of the largest stride."""
        return keras.layers.GlobalAveragePooling2D(name="pooled")(_last(features))

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

    def served(self, outputs):
        return {"probabilities": keras.ops.softmax(outputs)}

    def named(self, served, classes):
        """Returns ``label`` [b], and ``classes`` and their ``scores`` [b, classes], best first."""
        scores, order = tf.math.top_k(served["probabilities"], k=len(classes))
        names = tf.gather(tf.constant(classes), order)
        return {**served, "label": names[:, 0], "classes": names, "scores": scores}

    def measure(self, batches, classes):
        pairs = ((target.argmax(axis=-1), served["probabilities"]) for target, served in batches)
        return classification.classification(pairs, classes)

    def mistakes(self, target, served):
        labels, predicted = target.argmax(axis=-1), served["probabilities"].argmax(axis=-1)
        return [
            (int(i), int(labels[i]), int(predicted[i]), float(served["probabilities"][i].max()))
            for i in (labels != predicted).nonzero()[0]
        ]


def _last(features: Mapping[str, Any]) -> Any:
    """Returns the map of the largest stride."""
    return features[max(features, key=lambda name: int(name.removeprefix("stride")))]
