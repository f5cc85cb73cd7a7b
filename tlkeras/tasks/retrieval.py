"""Retrieval: pictures and texts in one space, so that each finds the other."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.measures.retrieval import RetrievalTally
from tlkeras.model.towers import PICTURE, TEXT, named
from tlkeras.task import Output, Task

# Exact in float32, as which Keras sees targets; two of them tell 2**48 texts or pictures apart.
_PART = 2**24


_ALIKE = 0.99
"""The cosine from which on two rows are one answer."""


class Retrieval(Task, name="retrieval"):
    """Rows of length 1 for pictures and for their texts; those of a pair are near each other.

    Each tower has a projection without a bias. The loss compares every picture of a batch with
    every text of it. ``infonce`` is the cross entropy of the right text among all, and of the right
    picture (Radford et al. 2021, https://arxiv.org/abs/2103.00020); where several texts of a batch
    are equal, or several pictures, all their pairs are right and share the probability. ``siglip``
    decides each pair for itself, by the logistic loss (Zhai et al. 2023,
    https://arxiv.org/abs/2303.15343). What cosines are multiplied by is learnt, and so is what
    ``siglip`` adds to them; both begin as published. It needs a backbone of two towers, such as
    ``towers``.
    """

    reads = ("image", "caption")
    primary = "recall_at_1"
    recipe = "align"
    compares = True
    needs_float = True  # LiteRT has no squares in integers, which the length of a row takes.

    objective: Literal["infonce", "siglip"] = "infonce"
    channels: int = 128
    """Numbers in a row."""
    alone: Literal["", "picture", "text"] = ""
    """The tower whose rows are served, in an export of one tower; both train together."""

    def validate(self):
        self.require(self.channels >= 2, "channels", "at least 2")

    def target(self, example, inputs, classes):
        """Returns float32 [4]: two numbers that equal texts have equal, and two of pictures.

        Copies of a picture that augmentation changed are not equal.
        """
        contents = example["caption"], tf.io.serialize_tensor(example["image"])
        digests = [tf.strings.to_hash_bucket_fast(each, _PART**2) for each in contents]
        numbers = [number for each in digests for number in (each // _PART, each % _PART)]
        return tf.cast(tf.stack(numbers, axis=-1), tf.float32)

    def summarize(self, features):
        """Returns the features of both towers by name."""
        if self.alone or not {PICTURE, TEXT} <= {*features}:
            raise ValueError(
                f"{self} learns of the features of two towers, and there are "
                f"{', '.join(features)}; use --task=retrieval and a --backbone such as "
                '"towers(picture=starter, text=starter_text)".'
            )
        return {tower: features[tower] for tower in (PICTURE, TEXT)}

    def head(self, summary, classes):
        """Returns [b, 2 channels + 2]: both rows, the logarithm of the factor, and the summand."""
        rows = [self._row(tower, summary[tower]) for tower in (PICTURE, TEXT)]
        none: Any = keras.ops.zeros_like(summary[PICTURE][:, 0], dtype="int32")
        learnt = [
            _learnt(name, value, most)(none)
            for (name, most), value in zip(
                _LEARNT.items(), _BEGINNINGS[self.objective], strict=True
            )
        ]
        return keras.layers.Concatenate(dtype="float32", name="logits")([*rows, *learnt])

    def _row(self, tower: str, features: Any) -> Any:
        projection = keras.layers.Dense(
            self.channels, use_bias=False, dtype="float32", name=named(tower, "projection")
        )
        return keras.layers.UnitNormalization(dtype="float32", name=named(tower, "row"))(
            projection(features)
        )

    def loss(self):
        from tlkeras.losses import retrieval

        return retrieval.OBJECTIVES[self.objective](name=self.objective)

    def metrics(self, classes):
        from tlkeras.losses import retrieval

        return [retrieval.BatchRecall(name="batch_recall")]

    def served(self, outputs):
        """Returns ``picture`` and ``text``, rows [b, channels] of length 1, or one of them."""
        if self.alone:
            return {self.alone: outputs}
        return {
            PICTURE: outputs[..., : self.channels],
            TEXT: outputs[..., self.channels : 2 * self.channels],
        }

    def outputs(self):
        return tuple(Output(name, "vector") for name in ([self.alone] if self.alone else _ROWS))

    def of_tower(self, tower):
        return self.replace(alone=tower)

    def tally(self, classes):
        return RetrievalTally()

    def agree(self, one, other):
        """Returns whether the rows of each example are alike."""
        return np.min([(one[name] * other[name]).sum(axis=-1) for name in one], axis=0) >= _ALIKE


_ROWS = (PICTURE, TEXT)


def _learnt(name: str, value: float, most: float | None) -> keras.layers.Layer:
    """Returns a layer that gives one number, learnt from a value on, to each row of zeros.

    Where there is a `most`, its absolute value stays within that after every step.
    """
    begun: Any = keras.initializers.Constant(value)  # Keras annotates it as a text only.
    limit: Any = most  # And this as a whole number.
    bound: Any = keras.constraints.MaxNorm(limit) if most else None
    return keras.layers.Embedding(
        1, 1, begun, embeddings_constraint=bound, dtype="float32", name=name
    )


_LEARNT = {"factor": math.log(100), "summand": None}
"""What is learnt beside the projections, and the largest value: Radford et al. 2021 let the logits
grow to 100 times the cosines."""

_BEGINNINGS = {"infonce": (math.log(1 / 0.07), 0.0), "siglip": (math.log(10), -10.0)}
"""The logarithm of the factor of cosines, and what is added, by the objective."""
