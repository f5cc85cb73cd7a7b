"""Data: batches of preprocessed inputs and targets, their order a function of seed and epoch."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import augment, examples
from tlkeras.augment import Augment
from tlkeras.backbone import Backbone
from tlkeras.frameworks import tf
from tlkeras.task import Task


@dataclasses.dataclass(frozen=True)
class Data:
    """The splits of one folder of examples, as one backbone and one task want them.

    Batches are ``(inputs, targets)``. At most a few batches are in memory at a time.

    With ``part=(i, n)`` they hold the i-th of n equal parts of every batch, what one of n workers
    feeds; the examples of the other parts are not even read.
    """

    folder: Path
    backbone: Backbone
    task: Task
    batch_size: int = 32
    seed: int = 0
    part: tuple[int, int] = (0, 1)

    @functools.cached_property
    def info(self) -> examples.Info:
        """Classes, feature kinds and counts."""
        return examples.info(self.folder)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.info.classes

    def count(self, split: str) -> int:
        """Returns the number of examples in a split; 0 if there is no such split."""
        return self.info.counts.get(split, 0)

    def steps(self, split: str) -> int:
        """Returns the number of batches of one epoch, the last one short if need be."""
        return -(-self.count(split) // self.batch_size)

    @property
    def size(self) -> int:
        """The number of examples in this part of a batch."""
        _, parts = self.part
        if self.batch_size % parts:
            raise ValueError(
                f"--batch_size={self.batch_size} cannot be shared by {parts} workers evenly; "
                f"use a multiple of {parts}."
            )
        return self.batch_size // parts

    def rows(self, order: np.ndarray) -> np.ndarray:
        """Returns what is in this part of the batches of an order.

        Of a last batch that is short, the parts are as equal as can be, and may be empty.
        """
        place, parts = self.part
        end = len(order) // self.batch_size * self.batch_size
        rest = len(order) - end
        return np.concatenate(
            [
                order[:end].reshape(-1, parts, self.size)[:, place].ravel(),
                order[end:][place * rest // parts : (place + 1) * rest // parts],
            ]
        )

    def order(self, split: str, epoch: int) -> np.ndarray:
        """Returns the permutation, int64 [count], that seed and epoch decide: an exact shuffle."""
        return np.random.default_rng((self.seed, epoch)).permutation(self.count(split))

    def singles(self, split: str) -> Any:
        """Returns the preprocessed inputs of a split, unbatched, in file order."""
        return self._pairs(split).map(lambda inputs, target: inputs)

    def batches(self, split: str, order: np.ndarray | None = None) -> Any:
        """Returns the batches of a split in an order of indices, file order if None."""
        order = np.arange(self.count(split)) if order is None else order
        return self._pairs(split, self.rows(order)).batch(self.size).prefetch(2)

    def shuffled(self, split: str, epoch: int, augments: Sequence[Augment] = ()) -> Any:
        """Returns the augmented batches of a split in the order of an epoch.

        Each example's augmentation is decided by seed, epoch and its place in the file order.
        """
        order = self.order(split, epoch)
        if not augments:
            return self.batches(split, order)
        # What mixes examples needs the whole batch; a part is cut out of it afterwards.
        mixes = any(type(each).batch is not Augment.batch for each in augments)
        order, size = (order, self.batch_size) if mixes else (self.rows(order), self.size)
        seeds = np.stack([np.full_like(order, self.seed * 65_537 + epoch), order], axis=1)
        pairs = tf.data.Dataset.zip(
            self._examples(split, order),
            tf.data.Dataset.from_tensor_slices(seeds.astype(np.int32)),
        ).map(
            lambda example, seed: self._pair(augment.examples(augments, example, seed)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        batches = tf.data.Dataset.zip(
            pairs.batch(size), tf.data.Dataset.counter(dtype=tf.int32)
        ).map(
            lambda pair, step: augment.batches(
                augments, pair[0], pair[1], (self.seed, epoch, step)
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        if mixes and self.part != (0, 1):
            batches = batches.map(self._cut)
        return batches.prefetch(2)

    def _cut(self, inputs: Any, targets: Any) -> tuple[Any, Any]:
        """Returns this part of a whole batch."""
        place, parts = self.part
        rows = tf.shape(tf.nest.flatten(inputs)[0])[0]
        first, last = place * rows // parts, (place + 1) * rows // parts
        return tf.nest.map_structure(lambda tensor: tensor[first:last], (inputs, targets))

    def _pairs(self, split: str, order: np.ndarray | None = None) -> Any:
        return self._examples(split, order).map(self._pair, num_parallel_calls=tf.data.AUTOTUNE)

    def _examples(self, split: str, order: np.ndarray | None) -> Any:
        """Returns the decoded examples, with what backbone and task read and nothing else."""
        keys = (*self.backbone.reads, *self.task.reads)
        return examples.dataset(self.folder, split, order, keys)

    def _pair(self, example: dict[str, Any]) -> tuple[Any, Any]:
        inputs = self.backbone.preprocess(example)
        return inputs, self.task.target(example, inputs, len(self.classes))
