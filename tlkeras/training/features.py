"""The feature cache: activations of the frozen layers over a split, on disk.

The frozen layers are a function of the example alone, so training may start from their output. The
activations are memory-mapped arrays; one batch is in memory at a time. Activations that do not fit
into the cache are computed in every epoch, inside the training graph.

Cached activations equal those of training up to rounding. The last bits of a row depend on the
processor, the number of threads and its batch; none of these is in the key.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import json
import math
import os
import weakref
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import hardware, terminal
from tlkeras.augment import Augment
from tlkeras.data.batches import Data
from tlkeras.frameworks import as_written, keras, tf, untuned
from tlkeras.model import folding, graph
from tlkeras.model.transfer_model import TransferModel
from tlkeras.training import feature_store


@dataclasses.dataclass(frozen=True)
class Cache:
    """A folder of activations, which any number of fits and processes may share.

    Attributes:
        folder: A folder for the cache alone.
        gigabytes: The maximal size. New activations replace the least recently used ones.
        code: The digest of the code of backbone and task; a change invalidates the cache. Without
            it, a change of a user's `preprocess` or `target` needs another folder.
    """

    folder: Path
    gigabytes: float = 20.0
    code: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a size that is negative or not finite."""
        object.__setattr__(self, "folder", Path(self.folder))
        if not 0 <= self.gigabytes < math.inf:
            raise ValueError(f"Cache.gigabytes is {self.gigabytes}, expected a number from 0 on.")


@dataclasses.dataclass(frozen=True)
class Tap:
    """The activations of a split at the entrance of a block, or of the head."""

    split: str
    block: str
    augments: tuple[Augment, ...] = ()
    view: int = 0


# The keys of a batch of features. Keras takes the batch size from the tensor whose name sorts
# first, so that one needs a row for every example.
CACHED = "features kept"
_PLACES = "features at"
_FRESH = "features of"

TARGETS = "targets"
"""Replaces the block in the tap of the targets, which do not depend on the network."""


@dataclasses.dataclass(frozen=True)
class Features:
    """The activations and targets of every example at a tap; the cache holds the first of them."""

    tap: Tap
    data: Data
    prefix: keras.Model
    dtype: str
    rows: feature_store.Rows
    targets: feature_store.Rows

    @property
    def kept(self) -> int:
        """The number of cached examples; the others are computed on demand."""
        return min(len(self.rows), len(self.targets))

    def batches(self, order: np.ndarray) -> Any:
        """Returns batches ``(inputs, targets)`` of the examples in an order of their numbers.

        Each is this worker's share of a batch. `entrance` reads the inputs.
        """
        order = self.data.rows(order)
        numbers = untuned(tf.data.Dataset.from_tensor_slices(order)).batch(self.data.size)
        if self.kept == self.data.count(self.tap.split):
            return numbers.map(as_written(self._cached), num_parallel_calls=2).prefetch(4)
        sizes, fresh = self._fresh(order)
        # Without a cardinality Keras takes the data set for one that ended early.
        cardinality = tf.data.experimental.assert_cardinality(len(sizes))
        mixed = tf.data.Dataset.zip(numbers, fresh.rebatch(sizes)).map(as_written(self._mixed))
        return mixed.apply(cardinality).prefetch(2)

    def _cached(self, numbers: Any) -> tuple[Any, Any]:
        cached, targets = self._read(numbers)
        return {CACHED: cached}, targets

    def _read(self, numbers: Any) -> tuple[Any, Any]:
        specs = (self.prefix.output, self.data.targets)
        # TensorFlow never frees the function; the data sets hold these features.
        features: Any = weakref.ref(self)
        columns = tf.numpy_function(
            lambda rows: features().rows.read(rows) + features().targets.read(rows),
            [numbers],
            self.rows.dtypes + self.targets.dtypes,
            stateful=False,
        )
        for i, spec in enumerate(keras.tree.flatten(specs)):
            columns[i] = tf.cast(columns[i], spec.dtype)
            columns[i].set_shape([None, *spec.shape[1:]])
        return keras.tree.pack_sequence_as(specs, columns)

    def _fresh(self, order: np.ndarray) -> tuple[np.ndarray, Any]:
        """Returns the number of uncached examples per batch, and all of these in batches.

        A batch without any has one that nothing reads, because networks cannot run on zero rows.
        """
        size, count = self.data.size, self.kept
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        missing = [batch[batch >= count] for batch in batches]
        missing = [batch if len(batch) else np.array([count]) for batch in missing]
        pairs = self.data.pairs(
            self.tap.split, np.concatenate(missing), self.tap.augments, self.tap.view
        )
        return np.array([len(batch) for batch in missing]), pairs.batch(size)

    def _mixed(self, numbers: Any, fresh: tuple[Any, Any]) -> tuple[Any, Any]:
        is_cached = numbers < self.kept
        cached, cached_targets = self._read(tf.boolean_mask(numbers, is_cached))
        first = tf.cumsum(tf.cast(is_cached, tf.int32))
        second = first[-1] + tf.cumsum(tf.cast(~is_cached, tf.int32))
        places = tf.where(is_cached, first, second) - 1
        targets = keras.tree.map_structure(
            lambda *parts: tf.gather(tf.concat(parts, axis=0), places), cached_targets, fresh[1]
        )
        return {CACHED: cached, _PLACES: places, _FRESH: fresh[0]}, targets


def entrance(prefix: keras.Model, inputs: Any, dtype: str) -> Any:
    """Returns the output of a prefix, inside the training graph.

    Args:
        prefix: The frozen layers.
        inputs: A batch from `Features.batches`, or inputs of the prefix.
        dtype: The type of cached activations; fresh ones are rounded to it, too.
    """
    if not (isinstance(inputs, Mapping) and CACHED in inputs):
        return folding.run(prefix, inputs)
    if _FRESH not in inputs:
        return inputs[CACHED]

    def join(cached: Any, fresh: Any) -> Any:
        if fresh.dtype.is_floating:
            fresh = tf.cast(tf.cast(fresh, dtype), cached.dtype)
        return tf.gather(tf.concat([cached, fresh], axis=0), inputs[_PLACES])

    return keras.tree.map_structure(join, inputs[CACHED], folding.run(prefix, inputs[_FRESH]))


def at(
    model: TransferModel, data: Data, taps: Collection[Tap], cache: Cache, dtype: str
) -> dict[Tap, Features]:
    """Returns the features at every tap; one pass over each view of a split computes missing ones.

    Args:
        model: The model; its weights before the last block must be final, they are in the key.
        data: The data with the splits.
        taps: The taps. The result omits a tap without any room in the cache; for several replicas,
            also one without room for all examples.
        cache: The cache by content key, a folder that all workers see. Each worker computes its
            share of the missing shards.
        dtype: The type of floating activations on disk, ``float16`` or ``float32``.

    Raises:
        ValueError: The disk is full, or an activation is too large for the type.
    """
    prefixes = {block: model.split_at(block)[0] for block in {tap.block: None for tap in taps}}
    targets = {tap: dataclasses.replace(tap, block=TARGETS) for tap in taps}
    names = _names(model, data, taps, prefixes, cache.code, dtype)
    sizes = {tap: _row_bytes(prefixes[tap.block].output, dtype) for tap in taps}
    sizes |= dict.fromkeys(targets.values(), _row_bytes(data.targets, "float32"))
    entries = [*names.values()] if hardware.is_chief() else []
    try:
        with feature_store.locked(cache.folder, entries):
            _fill(data, prefixes, names, sizes, cache, dtype)
            hardware.meet("features that all workers have written")
            rows = {tap: feature_store.Rows(cache.folder / name) for tap, name in names.items()}
            hardware.meet("features that all workers have opened")  # Now others may evict them.
    except OSError as error:
        raise ValueError(
            f"Cannot cache features in {cache.folder}: {error.strerror}. The cache needs room and "
            "write permission there; set fewer gigabytes, or use cache='none' in the recipe."
        ) from error
    features = {
        tap: Features(tap, data, prefixes[tap.block], dtype, rows[tap], rows[targets[tap]])
        for tap in taps
    }
    return {tap: each for tap, each in features.items() if _is_enough(each)}


def _is_enough(features: Features) -> bool:
    """Returns whether a fit may start from these features, equally on every worker.

    Several replicas need complete features: fresh rows of a batch cannot be dealt to them.
    """
    if hardware.replicas() == 1:
        return features.kept > 0
    return min(hardware.gathered(features.kept)) == features.data.count(features.tap.split)


def _fill(
    data: Data,
    prefixes: Mapping[str, keras.Model],
    names: Mapping[Tap, str],
    sizes: Mapping[Tap, int],
    cache: Cache,
    dtype: str,
) -> None:
    """Writes this worker's share of the missing rows, as far as the cache has room."""
    missing = _missing(data, names, sizes, cache)
    passes: dict[Tap, dict[Tap, feature_store.Writer]] = {}
    for tap, (start, stop) in missing.items():
        if start < stop or stop < data.count(tap.split):
            _print_size(data, tap, sizes[tap], stop)
        begin, end = feature_store.part(start, stop, *hardware.part())
        if begin < end:
            view = dataclasses.replace(tap, block=TARGETS)
            writer = feature_store.Writer(cache.folder / names[tap], begin, end)
            passes.setdefault(view, {})[tap] = writer
    forward = functools.cache(functools.partial(_forward, prefixes))
    for writers in passes.values():
        _run(data, forward, writers, dtype)


def _missing(
    data: Data, names: Mapping[Tap, str], sizes: Mapping[Tap, int], cache: Cache
) -> dict[Tap, tuple[int, int]]:
    """Returns the range of missing rows of every entry, as the chief decides."""
    ranges: dict[Tap, tuple[int, int]] = dict.fromkeys(names, (0, 0))
    if hardware.is_chief():
        wanted = {names[tap]: (size, data.count(tap.split)) for tap, size in sizes.items()}
        granted = feature_store.granted(cache.folder, wanted, int(cache.gigabytes * 1e9))
        # Activations are useless without their targets, and targets without any activations.
        stops: dict[Tap, int] = collections.Counter()
        for tap in (tap for tap in names if tap.block != TARGETS):
            targets = dataclasses.replace(tap, block=TARGETS)
            stops[tap] = min(granted[names[tap]], granted[names[targets]])
            if hardware.replicas() > 1 and stops[tap] < data.count(tap.split):
                stops[tap] = 0  # See `_is_enough`.
            stops[targets] = max(stops[targets], stops[tap])
        for tap, stop in stops.items():
            entry = cache.folder / names[tap]
            ranges[tap] = len(feature_store.Rows(entry)), stop
            if entry.is_dir():
                os.utime(entry)  # The cache evicts the least recently used entry first.
    return {
        tap: (hardware.gathered(start)[0], hardware.gathered(stop)[0])
        for tap, (start, stop) in ranges.items()
    }


def _print_size(data: Data, tap: Tap, size: int, cached: int) -> None:
    count = data.count(tap.split)
    if tap.block != TARGETS:
        view = f", view {tap.view}" if tap.augments else ""
        rest = "" if cached == count else f" of {count:,}; every epoch computes the others"
        print(
            f"  features of {tap.split} at {tap.block}{view}: {size * cached / 1e6:,.1f} MB in "
            f"the cache, {cached:,} examples{rest}"
        )


def _run(
    data: Data,
    forward: Callable[[tuple[str, ...]], Any],
    writers: Mapping[Tap, feature_store.Writer],
    dtype: str,
) -> None:
    """Runs one view of a split through the network up to the taps, from the first missing row."""
    tap = next(iter(writers))
    size = min(data.batch_size, 64)  # A batch for many replicas may be too large for one device.
    # The batches are those of an unbroken pass: in another batch a row may round differently.
    start = min(writer.next for writer in writers.values()) // size * size
    order = np.arange(start, max(writer.stop for writer in writers.values()))
    batches = data.pairs(tap.split, order, tap.augments, tap.view).batch(size)
    options = tf.data.Options()
    # The first pictures are read during the trace of the network.
    options.experimental_warm_start = True
    read = iter(batches.prefetch(2).with_options(options))
    run = forward(tuple(each.block for each in writers if each.block != TARGETS))
    steps = -(-len(order) // size)
    for inputs, targets in terminal.shown(read, steps, f"features of {tap.split}"):
        columns = {
            block: [_narrowed(tensor.numpy(), dtype) for tensor in keras.tree.flatten(activations)]
            for block, activations in run(inputs).items()
        }
        columns[TARGETS] = [target.numpy() for target in keras.tree.flatten(targets)]
        for each, writer in writers.items():
            writer.add(start, columns[each.block])
        start += len(columns[TARGETS][0])


def _forward(prefixes: Mapping[str, keras.Model], blocks: tuple[str, ...]) -> Any:
    """Returns a function from a batch of inputs to the activations before each of the blocks.

    One graph has all of them as outputs, so shared layers run once.
    """
    if not blocks:
        return lambda inputs: {}
    inputs = prefixes[blocks[0]].input
    network = keras.Model(inputs, {block: prefixes[block].output for block in blocks})
    signature = keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), inputs)
    run = tf.function(
        lambda batch: folding.run(network, batch), input_signature=[signature], autograph=False
    )
    return run.get_concrete_function()


def _names(
    model: TransferModel,
    data: Data,
    taps: Collection[Tap],
    prefixes: Mapping[str, keras.Model],
    code: str,
    dtype: str,
) -> dict[Tap, str]:
    """Returns the content keys of activations and targets, by tap."""
    networks = {block: graph.digest(prefix) for block, prefix in prefixes.items()}
    # Targets have the width of all classes, also of classes that occur only in another split.
    task = [model.task.full(), *map(str, keras.tree.flatten(data.targets))]
    always = [model.backbone.full(), code, tf.__version__, keras.__version__, feature_store.LENGTH]
    names = {}
    for tap in taps:
        # The seed matters only for augmentations.
        draws = (
            [[each.full() for each in tap.augments], tap.view, data.seed] if tap.augments else []
        )
        common = [*always, data.digest(tap.split), data.exact, *draws]
        targets = dataclasses.replace(tap, block=TARGETS)
        for each, own in ((targets, task), (tap, [networks[tap.block], dtype])):
            digest = hashlib.sha256(json.dumps([*common, *own]).encode()).hexdigest()
            names[each] = f"{each.split}-{each.block}-{digest[:16]}"
    return names


def _row_bytes(tensors: Any, dtype: str) -> int:
    """Returns the bytes of one example on disk."""
    total = 0
    for tensor in keras.tree.flatten(tensors):
        kind, shape = tf.as_dtype(tensor.dtype), tensor.shape[1:]
        if None in shape:
            raise ValueError(
                f"Features of unknown size {tuple(shape)} cannot be cached; use cache='none'."
            )
        total += math.prod(shape) * (tf.as_dtype(dtype).size if kind.is_floating else kind.size)
    return total


def _narrowed(array: np.ndarray, dtype: str) -> np.ndarray:
    if not tf.as_dtype(array.dtype).is_floating:
        return array
    largest, limit = np.abs(array).max(initial=0), np.finfo(dtype).max
    if not np.isfinite(largest):
        raise ValueError(
            f"An activation is {largest}: check the weights, and train in float32 or "
            "mixed_bfloat16, which have a larger range than float16."
        )
    if largest > limit:
        raise ValueError(
            f"An activation is {largest:.3g}, and {dtype} ends at {limit:.3g}; "
            "use fine_tune(cache='float32')."
        )
    return array.astype(dtype)
