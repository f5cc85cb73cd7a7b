"""The frozen part of a network, run once over a split, its activations kept on disk.

What stays frozen is a function of the example alone, so training may start from its output. The
activations lie in memory-mapped arrays, one file per tensor; a batch is in memory at a time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import hardware, progress
from tlkeras.data import Data
from tlkeras.frameworks import keras, tf
from tlkeras.model import TransferModel


@dataclasses.dataclass(frozen=True)
class Features:
    """The activations that cross one cut, and the targets, of every example of one split."""

    arrays: Sequence[np.ndarray]
    targets: Any
    structure: Any

    def batches(self, order: np.ndarray, batch_size: int) -> Any:
        """Returns batches ``(activations, targets)`` of the examples in an order of indices."""
        flat = [*self.arrays, *keras.tree.flatten(self.targets)]
        kinds = [tf.as_dtype(array.dtype) for array in flat]

        def rows(chosen: np.ndarray) -> list[np.ndarray]:
            # Sorted reads touch each page of the file once.
            places = np.argsort(chosen)
            ascending, back = chosen[places], np.argsort(places)
            return [array[ascending][back] for array in flat]

        def read(chosen: Any) -> tuple[Any, Any]:
            columns = tf.numpy_function(rows, [chosen], kinds, stateful=False)
            for column, array in zip(columns, flat, strict=True):
                column.set_shape([None, *array.shape[1:]])
            split = len(self.arrays)
            inputs = [
                tf.cast(column, tf.float32) if column.dtype == tf.float16 else column
                for column in columns[:split]
            ]
            return (
                keras.tree.pack_sequence_as(self.structure, inputs),
                keras.tree.pack_sequence_as(self.targets, columns[split:]),
            )

        chosen = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
        return chosen.map(read, num_parallel_calls=2).prefetch(4)


def at(
    model: TransferModel, data: Data, split: str, blocks: Sequence[str], folder: Path, dtype: str
) -> dict[str, Features]:
    """Returns the features of a split at the entrance of each block, made in one pass if missing.

    Args:
        model: Its weights before the last of the blocks must be final: they are in the key.
        data: Where the split comes from.
        split: ``train`` or ``validation``.
        blocks: Names of blocks, or ``head`` for the summaries.
        folder: Where the arrays are kept, by content key; it may be shared.
        dtype: ``float16`` or ``float32``, as which floating activations are kept.
    """
    cuts = {block: model.split_at(block)[0] for block in dict.fromkeys(blocks)}
    places = {
        block: folder / _key(model, data, split, block, prefix, dtype)
        for block, prefix in cuts.items()
    }
    # All workers have to find the same missing, so none may be writing while another looks.
    hardware.meet(f"the features of {split} at {', '.join(map(str, places.values()))}")
    missing = {block: cuts[block] for block, place in places.items() if not place.is_dir()}
    hardware.meet(f"missing features of {split}: {', '.join(missing)}")
    if missing:
        _make(missing, data, split, places, dtype)
    return {block: _opened(places[block], cuts[block]) for block in cuts}


def allocated(path: Path, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Returns a new memory-mapped array in a ``.npy`` file, its room on the disk reserved.

    Raises:
        OSError: The disk is full; without the reserve, writing would end the process by SIGBUS.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _key(
    model: TransferModel, data: Data, split: str, block: str, prefix: keras.Model, dtype: str
) -> str:
    """Returns a name that changes with anything that changes the activations."""
    digest = hashlib.sha256()
    described = [model.backbone.full(), model.task.full(), block, split, dtype]
    digest.update(json.dumps(described).encode())
    for path in sorted(data.folder.glob(f"{split}[.-]*")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    for variable in prefix.variables:
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return f"{split}-{block}-{digest.hexdigest()[:16]}"


def _make(
    prefixes: dict[str, keras.Model], data: Data, split: str, places: dict[str, Path], dtype: str
) -> None:
    """Writes the arrays of several cuts in one pass, each folder whole or not at all.

    Every worker writes its rows, one after another, into the same files.
    """
    partial = {
        block: places[block].with_name(f"{places[block].name}.partial") for block in prefixes
    }
    for place in partial.values() if hardware.is_chief() else ():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    tensors = {
        partial[block] / f"input{i}.npy": tensor
        for block, prefix in prefixes.items()
        for i, tensor in enumerate(keras.tree.flatten(prefix.output))
    }
    # One graph with every cut as an output: shared layers run once.
    inputs = next(iter(prefixes.values())).input
    network = keras.Model(inputs, list(tensors.values()))
    run = tf.function(lambda batch: network(batch, training=False), reduce_retracing=True)
    writers: dict[Path, Any] = {}
    worker, workers = hardware.part()
    start = worker * data.count(split) // workers
    end = max((worker + 1) * data.count(split) // workers, start + 1)
    batches = data.batches(split, np.arange(start, end))
    for batch, targets in progress.shown(batches, len(batches), f"features of {split}"):
        outputs = keras.tree.flatten(run(batch))
        columns = {
            path: _narrowed(output.numpy(), dtype)
            for path, output in zip(tensors, outputs, strict=True)
        }
        for i, target in enumerate(keras.tree.flatten(targets)):
            columns |= {place / f"target{i}.npy": target.numpy() for place in partial.values()}
        if not writers:
            for path, column in columns.items() if hardware.is_chief() else ():
                allocated(path, column.dtype, (data.count(split), *column.shape[1:]))
            hardware.meet(f"room for the features of {split}")
            writers = {path: np.load(path, mmap_mode="r+") for path in columns}
        for path, column in columns.items():
            writers[path][start : start + len(column)] = column
        start += len(next(iter(columns.values())))
    for writer in writers.values():
        writer.flush()
    hardware.meet(f"features of {split}")
    for block, place in partial.items() if hardware.is_chief() else ():
        place.replace(places[block])
    hardware.meet(f"features of {split} in place")


def _opened(place: Path, prefix: keras.Model) -> Features:
    outputs = keras.tree.flatten(prefix.output)
    arrays = [np.load(place / f"input{i}.npy", mmap_mode="r") for i in range(len(outputs))]
    found = len(list(place.glob("target*.npy")))
    targets = [np.load(place / f"target{i}.npy", mmap_mode="r") for i in range(found)]
    return Features(arrays, targets[0] if len(targets) == 1 else targets, prefix.output)


def _narrowed(array: np.ndarray, dtype: str) -> np.ndarray:
    if array.dtype != np.float32:
        return array
    largest = np.finfo(dtype).max
    if np.abs(array).max(initial=0) > largest:
        raise ValueError(
            f"An activation is {np.abs(array).max():.3g}, and {dtype} ends at {largest:.3g}; "
            "use fine_tune(cache='float32')."
        )
    return array.astype(dtype)
