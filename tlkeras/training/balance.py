"""Balance: how the loss of a training step weighs cells, the examples of one class and group.

The third part of a batch is then the number of each example's cell, int32 [b]; see `Cells.beside`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras import hardware, spec
from tlkeras.data import groups
from tlkeras.frameworks import as_written, keras, tf
from tlkeras.kinds.label import Label

if TYPE_CHECKING:
    from tlkeras.augment import Augment
    from tlkeras.data.batches import Data
    from tlkeras.task import Task

NO_CELL = -1
"""The cell of an example whose class and group training never has together."""


@dataclasses.dataclass(frozen=True)
class Cells:
    """The cells of the examples: of one label and one group by every feature that tells groups.

    Of tasks without one label of each example a cell is the group alone.

    Attributes:
        names: Of the cells with training examples.
        numbers: The place of each example's cell in `names`, int32 [count], by split; -1 if none.
    """

    names: tuple[str, ...]
    numbers: Mapping[str, np.ndarray]

    @property
    def weights(self) -> np.ndarray:
        """Of every cell n / (cells * its count), float32 [cells]; their mean over examples is 1."""
        counts = np.bincount(self.numbers["train"], minlength=len(self.names))
        return (counts.sum() / (len(counts) * counts)).astype(np.float32)

    def beside(self, batches: Any, data: Data, split: str, order: np.ndarray) -> Any:
        """Returns batches of examples in an order with the numbers of their cells."""
        numbers = self.numbers[split][data.rows(order)]
        columns = tf.data.Dataset.from_tensor_slices(numbers).batch(data.size)
        zipped = tf.data.Dataset.zip(batches, columns)
        return zipped.map(as_written(lambda batch, numbers: (*batch, numbers)))


def cells(data: Data, asker: str, augments: Sequence[Augment] = ()) -> Cells:
    """Returns the cells of the training and the validation split, and prints how many there are.

    Args:
        data: The data.
        asker: The field that needs them, for messages.
        augments: What changes the training examples.

    Raises:
        ValueError: The examples have no groups, or too many, or what is asked cannot be done.
    """
    if hardware.replicas() > 1:
        raise ValueError(f"{asker} works on one device alone; use --strategy=one_device.")
    if mixing := [str(each) for each in augments if each.mixes]:
        raise ValueError(
            f"{asker} with {mixing[0]}, which makes one picture of those of several groups; leave "
            "it out."
        )
    info = data.info
    if not groups.keys(info):
        raise ValueError(
            f"{asker} needs groups, and the examples have none; name the columns that tell them "
            "in the source, such as csv(…, group='device')."
        )
    key = groups.class_key(info, data.task.reads)
    named = key if key and info.features[key] == Label() else ""
    found: dict[str, list[tuple[str, ...]]] = {}
    for split in ("train", "validation"):
        members = groups.members(data.folder, split, named)
        for feature, each in members.groups.items():
            if len(each.names) > groups.MOST:
                raise ValueError(
                    f"{asker} needs groups of many examples, and {feature!r} has "
                    f"{len(each.names):,}, more than {groups.MOST}: it seems to name single "
                    "things. Leave it out of the groups of the source."
                )
        columns = [[each.names[i] for i in each.numbers] for each in members.groups.values()]
        labels = [[data.classes[own[0]] for own in members.classes]] if named else []
        found[split] = [*zip(*labels, *columns, strict=True)]
    names = sorted({*found["train"]})
    places = {name: place for place, name in enumerate(names)}
    numbers = {
        split: np.array([places.get(each, NO_CELL) for each in rows], np.int32)
        for split, rows in found.items()
    }
    if len(numbers["validation"]) and (numbers["validation"] == NO_CELL).all():
        raise ValueError(
            f"{asker} chooses by the worst cell of the validation split, and none of its "
            f"{len(numbers['validation']):,} examples is of {'a class and ' if named else 'a '}"
            "group of training. Let both splits have examples of the same groups, or have no "
            'validation split: --split="split(validation=0)", where the source names none.'
        )
    made = Cells(tuple(map(", ".join, names)), numbers)
    counts = np.bincount(numbers["train"])
    print(f"  {len(counts)} cells of {counts.min():,} to {counts.max():,} training examples")
    unseen = {*range(len(names))}.difference(numbers["validation"].tolist())
    if data.count("validation") and unseen:
        missing = spec.listed([made.names[place] for place in sorted(unseen)])
        print(f"  the epoch is chosen without {missing}, of which there is no validation example")
    return made


class Balance:
    """The weights of the cells in the loss.

    Without a `step_size` they are those of `Cells.weights`. With one it is group DRO (Sagawa et al.
    2020, https://arxiv.org/abs/1911.08731, algorithm 1): every cell also has a factor `q`; in each
    step it is multiplied by ``exp(step_size * loss of the cell)``, and all are divided by their
    mean. The loss of a cell is estimated without bias from the batch: the sum of its examples'
    losses times the cell's weight, by the size of the batch. So small cells need not be in every
    batch, and with factors of 1 both ways are one.
    """

    def __init__(self, cells: Cells, step_size: float, task: Task, classes: Sequence[str]) -> None:
        """Begins with factors of 1."""
        self._fixed = tf.constant(cells.weights)
        self._step_size, self._loss = step_size, task.loss()
        self._task, self._classes = task, classes
        with hardware.scope():
            ones = np.ones(len(cells.names), np.float32)
            self.variables: list[keras.Variable] = (
                [keras.Variable(ones, trainable=False, name="cell_factors")] if step_size else []
            )

    @property
    def metric(self) -> str:
        """The name of the metric of the worst cell."""
        return worst(self._task, self._classes)

    def metrics(self) -> Sequence[keras.metrics.Metric]:
        """Returns new metrics whose sample weights are the numbers of cells."""
        from tlkeras.training.worst_cell import WorstCell

        own = [_measured(self._task, self._classes) for _ in range(len(self._fixed))]
        return [WorstCell(self.metric, own)]

    def fixed(self, numbers: Any) -> Any:
        """Returns the weights of examples by the numbers of their cells, float32 [b]."""
        return tf.gather(self._fixed, numbers)

    def weights(self, numbers: Any, targets: Any, outputs: Any) -> Any:
        """Returns the weights of the examples of a step, float32 [b], and updates the factors."""
        weights = self.fixed(numbers)
        for factors in self.variables:
            losses = tf.cast(self._loss.call(targets, outputs), tf.float32)
            own = tf.one_hot(numbers, len(self._fixed))
            size = tf.cast(tf.shape(numbers)[0], tf.float32)
            means = tf.linalg.matvec(own, losses * weights, transpose_a=True) / size
            means = tf.stop_gradient(means) * len(self._fixed)
            # Without the largest no exponential overflows, and the quotients are the same.
            grown = factors.value * tf.exp(self._step_size * (means - tf.reduce_max(means)))
            factors.assign(grown / tf.reduce_mean(grown))
            weights *= tf.gather(factors.value, numbers)
        return weights


def worst(task: Task, classes: Sequence[str]) -> str:
    """Returns the name of the metric of the worst cell."""
    return f"worst_{_measured(task, classes).name}"


def _measured(task: Task, classes: Sequence[str]) -> keras.metrics.Metric:
    """Returns the task's first metric if it is a mean over examples, else the negative loss."""
    metrics, loss = [*task.metrics(classes)], task.loss()
    if metrics and isinstance(metrics[0], keras.metrics.MeanMetricWrapper):
        return metrics[0]
    return keras.metrics.MeanMetricWrapper(
        lambda targets, outputs: -loss.call(targets, outputs), name="negative_loss"
    )
