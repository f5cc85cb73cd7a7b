"""Chosen: which numbers of a prediction are explained, the largest of `Task.explained`."""

from __future__ import annotations

from typing import Any, NamedTuple

from tlkeras.frameworks import tf
from tlkeras.model.transfer_model import TransferModel


class Chosen(NamedTuple):
    """Numbers that are explained.

    Attributes:
        values: Float32 [b, k], the largest first.
        labels: Their classes, int32 [b, k]; see `Task.explained`.
        places: Where they stand among all numbers, int32 [b, k].
    """

    values: Any
    labels: Any
    places: Any


def of(model: TransferModel, outputs: Any, most: int) -> Chosen:
    """Returns the numbers of outputs that are explained, `most` of each example at most."""
    values, labels = model.task.explained(outputs)
    found = tf.math.top_k(values, min(most, values.shape[1]))
    return Chosen(found.values, tf.gather(labels, found.indices, batch_dims=1), found.indices)


def name(model: TransferModel, label: int) -> str:
    """Returns what a number is of, in words."""
    classes = model.task.named_classes(model.classes)
    return classes[label] if classes else "the number"
