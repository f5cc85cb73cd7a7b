"""Data: batches of preprocessed inputs and targets; seed and epoch decide their order."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import augment, files, spec
from tlkeras.augment import Augment
from tlkeras.backbone import Backbone, require_read
from tlkeras.data import reading, records
from tlkeras.data.records import Info
from tlkeras.frameworks import PARALLEL, as_written, tf
from tlkeras.task import Task

# A picture decoded at reduced size is at least this many times larger than the network's input.
# Measured with MobileNetV2 at 160 pixels: features differ by 1.3 % at 4 and by 3 % at 2.4.
_REDUCED = 4


# Measured with WordPiece: 1.3 ms a text one by one, 0.10 ms in batches of 32.
_TOGETHER = 32

# Batches whose rows are sorted by length. Measured on SST-2 with 32 rows in a batch: a text runs at
# 27.6 places on average; at 52.7 without windows, at 26.5 with a window of all batches.
_WINDOW = 32


@dataclasses.dataclass(frozen=True)
class Data:
    """The splits of one folder of examples, for one backbone and one task.

    Batches are ``(inputs, targets)``; of pictures and `Classification`, float32 [b, size, size, 3]
    in [0, 255] and float32 [b, classes], 1 at the label. At most a few batches are in memory at a
    time.

    Attributes:
        folder: A folder of `ingest.write_examples`.
        batch_size: Examples in a batch, over all replicas and workers.
        seed: Decides the order and the augmentation.
        exact: False decodes large JPEGs at reduced size, at least four times that of the input.
            Features then differ by one to three percent. ``python -m pipeline`` trains so.
        part: With ``(i, n)``, batches are the i-th of n equal shares of every batch, for worker i
            of n. The examples of other shares are not read.
    """

    folder: Path
    backbone: Backbone
    task: Task
    batch_size: int = 32
    seed: int = 0
    exact: bool = True
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        """Takes a str as folder, and checks the numbers."""
        object.__setattr__(self, "folder", spec.path(self.folder))
        if self.batch_size < 1:
            raise ValueError(f"Data.batch_size is {self.batch_size}, expected at least 1.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(
                f"Data.seed is {self.seed}, expected a whole number from 0 to {2**32 - 1}."
            )

    @functools.cached_property
    def info(self) -> Info:
        """Classes, feature kinds and counts."""
        return records.info(self.folder)

    @property
    def target_keys(self) -> tuple[str, ...]:
        """The features that the targets are made of; what the backbone reads can be among them."""
        there = [key for key in self.task.optional if key in self.info.features]
        return (*self.task.reads, *there)

    @property
    def target_kinds(self) -> list[str]:
        """The kinds of these features, as texts: they say what the values of a record stand for."""
        return [self.info.features[key].full() for key in self.target_keys]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.info.classes

    @functools.cached_property
    def targets(self) -> Any:
        """The specs of a batch of targets, equal for all splits."""
        return self.batches(next(iter(self.info.counts))).element_spec[1]

    def count(self, split: str) -> int:
        """Returns the number of examples in a split; 0 if there is no such split."""
        return self.info.counts.get(split, 0)

    def digest(self, split: str) -> str:
        """Returns the SHA-256 of a split's records, each file of which is read once a process."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob(f"{split}[.-]*")):
            digest.update(bytes.fromhex(files.known_sha256(path)))
        return digest.hexdigest()

    def steps(self, split: str) -> int:
        """Returns the number of batches of one epoch; the last batch may be short."""
        return -(-self.count(split) // self.batch_size)

    @property
    def size(self) -> int:
        """The number of examples in this worker's share of a batch."""
        _, workers = self.part
        if self.batch_size % workers:
            raise ValueError(
                f"Data.batch_size is {self.batch_size}, expected a multiple of {workers}: each of "
                f"{workers} workers gets an equal share."
            )
        return self.batch_size // workers

    def rows(self, order: np.ndarray) -> np.ndarray:
        """Returns the elements of an order that are in this worker's share of each batch.

        The shares of a short last batch are as equal as possible, and may be empty.
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

    def order(self, split: str, epoch: int, lengths: np.ndarray | None = None) -> np.ndarray:
        """Returns a permutation, int64 [count], of seed and epoch: an exact shuffle.

        With the `lengths` of all rows, a batch has rows of like lengths: each window of this
        shuffle, of some batches, is sorted, and then the batches are shuffled.
        """
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(self.count(split))
        if lengths is None:
            return order
        end = len(order) // self.batch_size * self.batch_size  # A short batch remains the last.
        window = _WINDOW * self.batch_size
        starts = range(0, end, window)
        windows = [order[start : min(start + window, end)] for start in starts]
        ordered = [each[np.argsort(lengths[each], kind="stable")] for each in windows]
        batches = np.concatenate([*ordered, order[:0]]).reshape(-1, self.batch_size)
        return np.concatenate([random.permutation(batches).ravel(), order[end:]])

    def lengths(self, split: str) -> np.ndarray:
        """Returns how many places each row of a split needs, read once; see `Backbone.lengths`."""
        if split not in self._lengths:
            batches = self.pairs(split).batch(self.batch_size)
            found = [self.backbone.lengths(inputs) for inputs, _ in batches]
            self._lengths[split] = np.concatenate(found)
        return self._lengths[split]

    def count_exceeding(self, split: str) -> int:
        """Returns how many examples of a split have more than `Backbone.most_pieces`, read once."""
        keys = [key for key, kind in self.backbone.raw().items() if kind.is_ready]
        decoded = reading.dataset(self.folder, split, keys=keys).ragged_batch(_TOGETHER)
        found = decoded.map(as_written(self.backbone.exceeds), num_parallel_calls=PARALLEL)
        return sum(int(rows.sum()) for rows in found.as_numpy_iterator())

    @functools.cached_property
    def _lengths(self) -> dict[str, np.ndarray]:
        return {}

    def singles(self, split: str) -> Any:
        """Returns the preprocessed inputs of a split, unbatched, in the order of epoch 0.

        So the first ones are a fair sample even if files are sorted by class. Examples are decoded
        on demand.
        """
        return self.pairs(split, self.order(split, 0)).map(
            as_written(lambda inputs, target: inputs)
        )

    def batches(self, split: str) -> Any:
        """Returns the batches of a split in file order, for evaluation; to train, use `shuffled`.

        Folders have their files sorted by class.
        """
        order = self.rows(np.arange(self.count(split)))
        return self.pairs(split, order).batch(self.size).prefetch(2)

    def shuffled(
        self,
        split: str,
        epoch: int,
        augments: Sequence[Augment] = (),
        view: int | None = None,
        lengths: np.ndarray | None = None,
    ) -> Any:
        """Returns the augmented batches of a split in the order of an epoch.

        Seed, epoch and the example's place in file order decide its augmentation; `view` replaces
        the epoch. For `lengths`, see `order`.
        """
        view = epoch if view is None else view
        order, mixes = self.order(split, epoch, lengths), any(each.mixes for each in augments)
        # An augmentation that mixes examples needs the whole batch; the share is sliced afterwards.
        order, size = (order, self.batch_size) if mixes else (self.rows(order), self.size)
        batches = self.pairs(split, order, augments, view).batch(size)
        if mixes:
            batches = tf.data.Dataset.zip(batches, tf.data.Dataset.counter(dtype=tf.int32)).map(
                as_written(
                    lambda pair, step: augment.batches(
                        augments, pair[0], pair[1], (self.seed, view, step)
                    )
                ),
                num_parallel_calls=PARALLEL,
            )
            batches = batches if self.part == (0, 1) else batches.map(as_written(self._share))
        return batches.prefetch(2)

    def pairs(
        self,
        split: str,
        order: np.ndarray | None = None,
        augments: Sequence[Augment] = (),
        view: int = 0,
    ) -> Any:
        """Returns unbatched ``(inputs, target)`` of a split.

        Args:
            split: One of the splits.
            order: The numbers of the examples, int64 [n]; file order if None.
            augments: Augmentations; only their changes of single examples apply here.
            view: Decides the augmentation, together with the seed and the example's number.
        """
        decoded = self._examples(split, order)
        if not augments:
            return self._together(decoded) if self.is_ready else self._alone(decoded)
        order = np.arange(self.count(split)) if order is None else order
        seeds = np.stack([np.full_like(order, self.seed * 65_537 + view), order], axis=1)
        seeds = tf.data.Dataset.from_tensor_slices(seeds.astype(np.int32))
        return tf.data.Dataset.zip(decoded, seeds).map(
            as_written(lambda example, seed: self._pair(augment.examples(augments, example, seed))),
            num_parallel_calls=PARALLEL,
        )

    def _alone(self, decoded: Any) -> Any:
        return decoded.map(as_written(self._pair), num_parallel_calls=PARALLEL)

    def _together(self, decoded: Any) -> Any:
        """Returns what `_alone` does; texts are preprocessed many at once, which is much faster."""

        def pair(inputs: Any, example: dict[str, Any]) -> tuple[Any, Any]:
            return inputs, self.task.target(example, inputs, len(self.classes))

        batches = decoded.ragged_batch(_TOGETHER)
        singles = batches.map(self._prepared, num_parallel_calls=PARALLEL).unbatch()
        count = tf.data.experimental.assert_cardinality(int(decoded.cardinality()))
        return singles.apply(count).map(as_written(pair), num_parallel_calls=PARALLEL)

    @functools.cached_property
    def _prepared(self) -> Any:
        """The preprocessing of a batch, traced once, not for every epoch.

        From decoded examples to inputs, and what the task reads.
        """

        def prepared(examples: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            read = {key: _filled(examples[key]) for key in self.backbone.reads}
            return self.backbone.preprocess(read), {key: examples[key] for key in self.target_keys}

        return tf.function(prepared, autograph=False)

    @property
    def is_ready(self) -> bool:
        """Whether all that the backbone reads needs no decoding, so that it can be batched."""
        return all(kind.is_ready for kind in self.backbone.raw().values())

    def targets_of(self, split: str) -> Iterator[Any]:
        """Yields the target of each example of a split in file order, at the example's own size.

        They are NumPy values, of all workers' shares. What the task does not read is not decoded.
        """
        decoded = reading.dataset(self.folder, split, keys=self.target_keys)
        count = len(self.classes)
        yield from decoded.map(
            as_written(lambda example: self.task.target(example, None, count))
        ).as_numpy_iterator()

    def _share(self, inputs: Any, targets: Any) -> tuple[Any, Any]:
        """Returns this worker's share of a whole batch."""
        place, parts = self.part
        rows = tf.shape(tf.nest.flatten(inputs)[0])[0]
        first, last = place * rows // parts, (place + 1) * rows // parts
        return tf.nest.map_structure(lambda tensor: tensor[first:last], (inputs, targets))

    def _examples(self, split: str, order: np.ndarray | None) -> Any:
        """Returns the decoded examples with only the features for backbone and task."""
        return reading.dataset(self.folder, split, order, self._keys, self._least)

    @functools.cached_property
    def _keys(self) -> tuple[str, ...]:
        """The features that backbone and task read.

        Raises:
            ValueError: The examples do not have one of them, or have more that the backbone could
                read.
        """
        kinds = self.info.features
        require_read(self.backbone, kinds)
        for key in self.task.reads:
            if key not in kinds:
                raise ValueError(
                    f"{self.task.name} reads {key!r}; the examples have {', '.join(kinds)}."
                )
        return (*self.backbone.reads, *self.target_keys)

    @property
    def is_whole(self) -> bool:
        """Whether pictures are decoded in full: exactly, or because a mask has their size."""
        return self.exact or any(self.info.features[key].pixelwise for key in self._keys)

    @functools.cached_property
    def _least(self) -> int | None:
        """The least pixels of a side of a reduced picture; None decodes in full."""
        if self.is_whole or self.is_ready:
            return None
        split = next(iter(self.info.counts))
        decoded = reading.dataset(self.folder, split, None, self._keys)
        sides = [
            max(spec.shape[:2])
            for spec in tf.nest.flatten(
                decoded.map(as_written(self.backbone.preprocess)).element_spec
            )
            if spec.shape.rank == 3 and None not in spec.shape
        ]
        return _REDUCED * max(sides) if sides else None

    def _pair(self, example: dict[str, Any]) -> tuple[Any, Any]:
        inputs = self.backbone.preprocess(example)
        return inputs, self.task.target(example, inputs, len(self.classes))


def _filled(values: Any) -> Any:
    """Returns a batch in the form in which clients send one: short rows are filled."""
    return values.to_tensor() if isinstance(values, tf.RaggedTensor) else values
