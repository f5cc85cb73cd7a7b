"""Classification: one label of several."""

from __future__ import annotations

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.measures.abstention import UNKNOWN
from tlkeras.measures.calibration import softmax_rescaled
from tlkeras.measures.classification import ClassificationTally
from tlkeras.task import Output, Task


class Classification(Task, name="classification"):
    """One label of `classes`: pooled features, dropout, one dense layer, softmax loss.

    Targets are one-hot, so that smoothed and mixed labels are targets like any other.
    With `abstain_below`, a served ``label`` is ``unknown`` where the best probability is lower;
    ``classes``, ``scores`` and ``probabilities`` stay what they are. The report then shows the
    accuracy by the share of the examples that get an answer; 0 shows it and answers always.
    """

    reads = ("label",)
    primary = "accuracy"
    explains = True

    dropout: float = 0.2
    label_smoothing: float = 0.0
    abstain_below: float | None = None

    def validate(self):
        self.require(0 <= self.dropout < 1, "dropout", "at least 0 and below 1")
        self.require(0 <= self.label_smoothing < 1, "label_smoothing", "at least 0 and below 1")
        self.require(
            self.abstain_below is None or 0 <= self.abstain_below < 1,
            "abstain_below",
            "a probability of at least 0 and below 1, or None",
        )

    def require_classes(self, classes):
        """Raises ValueError if a class has the name of what gets no answer."""
        if self.abstain_below and UNKNOWN in classes:
            raise ValueError(
                f"classification.abstain_below is {self.abstain_below:g}, and the data have a "
                f"class {UNKNOWN!r}, the label of what gets no answer; rename that class, or leave "
                "abstain_below out."
            )

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

    def metrics(self, classes):
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
        """Returns ``label`` [b], and ``classes`` and their ``scores`` [b, classes], best first.

        The label is ``unknown`` where the best score is lower than `abstain_below`.
        """
        scores, order = tf.math.top_k(served["probabilities"], k=len(classes))
        names = tf.gather(tf.constant(classes), order)
        label = names[:, 0]
        if self.abstain_below:
            label = tf.where(scores[:, 0] >= self.abstain_below, label, UNKNOWN)
        return {**served, "label": label, "classes": names, "scores": scores}

    def outputs(self):
        abstains = self.abstain_below or None
        return (Output("probabilities", "scores", labelled=True, abstains_below=abstains),)

    def explained(self, outputs):
        """Returns the logits, [b, classes]."""
        return outputs, tf.broadcast_to(tf.range(tf.shape(outputs)[1]), tf.shape(outputs))

    def tally(self, classes):
        return ClassificationTally(classes, self.abstain_below)

    def decided(self, target, served):
        found = served["probabilities"].argmax(-1)
        return target == 1, found[:, None] == np.arange(target.shape[-1])

    def agree(self, one, other):
        """Returns whether the most probable classes are equal."""
        return one["probabilities"].argmax(-1) == other["probabilities"].argmax(-1)
