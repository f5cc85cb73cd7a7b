"""The feature cache: activations of the frozen layers over a split, on disk.

The frozen layers are a function of the example alone, so training may start from their output. The
activations are memory-mapped arrays; one batch is in memory at a time. Activations that do not fit
into the cache are computed in every epoch, inside the training graph. Texts have no padding on
disk, and in a batch no more than the longest of them needs.

Cached activations equal those of training up to rounding. `engine` says what computes them. The
last bits of a row depend on the processor, in TensorFlow also on the number of threads and on its
batch; none of these is in the key.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import json
import os
import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from tlkeras import hardware
from tlkeras.data.batches import Data
from tlkeras.frameworks import as_written, keras, tf, untuned
from tlkeras.model import folding, graph, lengths
from tlkeras.model.transfer_model import TransferModel
from tlkeras.training import engine, feature_store, frozen
from tlkeras.training.engine import Engine
from tlkeras.training.feature_store import Cache
from tlkeras.training.frozen import LENGTHS, TARGETS, Axes, Tap

# The keys of a batch of features. Keras takes the batch size from the tensor whose name sorts
# first, so that one needs a row for every example.
CACHED = "features kept"
_PLACES = "features at"
_FRESH = "features of"


@dataclasses.dataclass(frozen=True)
class Features:
    """The activations and targets of every example at a tap; the cache holds the first of them.

    `lengths` are those of all rows, int32 [count]; None if the network needs its inputs whole.
    `axes` are those of each activation that are as long as the inputs.
    """

    tap: Tap
    data: Data
    prefix: keras.Model
    dtype: str
    rows: feature_store.Rows
    targets: feature_store.Rows
    axes: list[tuple[int, ...]]
    lengths: np.ndarray | None

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
        cached, targets = self._read(numbers, self._end(numbers))
        return {CACHED: cached}, targets

    def _end(self, numbers: Any) -> Any:
        """Returns the length of a batch of these examples; 0 if the lengths do not vary."""
        if self.lengths is None:
            return 0
        if hardware.replicas() > 1:  # As `lengths.shortened`.
            return keras.tree.flatten(self.prefix.input)[0].shape[1]
        return tf.reduce_max(tf.gather(self.lengths, numbers))

    def _read(self, numbers: Any, end: Any) -> tuple[Any, Any]:
        specs = (self.prefix.output, self.data.targets)
        # TensorFlow never frees the function; the data sets hold these features.
        features: Any = weakref.ref(self)
        columns = tf.numpy_function(
            lambda rows, end: features()._joined(rows, end) + features().targets.read(rows),
            [numbers, end],
            self.rows.dtypes + self.targets.dtypes,
            stateful=False,
        )
        axes = [*self.axes, *(() for _ in keras.tree.flatten(self.data.targets))]
        for i, (spec, long) in enumerate(zip(keras.tree.flatten(specs), axes, strict=True)):
            columns[i] = tf.cast(columns[i], spec.dtype)
            shape = [None if axis in long else each for axis, each in enumerate(spec.shape)]
            columns[i].set_shape([None, *shape[1:]])
        cached, targets = keras.tree.pack_sequence_as(specs, columns)
        return _packed(cached), targets

    def _joined(self, numbers: np.ndarray, end: int) -> list[np.ndarray]:
        """Returns the cached rows of every activation, those of several lengths up to an end."""
        columns = self.rows.read(numbers)
        specs = keras.tree.flatten(self.prefix.output)
        for i, (spec, kind, long) in enumerate(
            zip(specs, self.rows.dtypes, self.axes, strict=True)
        ):
            if long and self.lengths is not None:
                own = self.lengths[numbers]
                columns[i] = lengths.batch(columns[i], kind, own, spec.shape[1:], long, end)
        return columns

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
        is_cached, end = numbers < self.kept, self._end(numbers)
        cached, cached_targets = self._read(tf.boolean_mask(numbers, is_cached), end)
        inputs = fresh[0] if self.lengths is None else lengths.cut(fresh[0], end)
        first = tf.cumsum(tf.cast(is_cached, tf.int32))
        second = first[-1] + tf.cumsum(tf.cast(~is_cached, tf.int32))
        places = tf.where(is_cached, first, second) - 1
        targets = keras.tree.map_structure(
            lambda *parts: tf.gather(tf.concat(parts, axis=0), places), cached_targets, fresh[1]
        )
        return {CACHED: cached, _PLACES: places, _FRESH: inputs}, targets


def entrance(prefix: keras.Model, inputs: Any, dtype: str) -> Any:
    """Returns the output of a prefix, inside the training graph.

    Args:
        prefix: The frozen layers.
        inputs: A batch from `Features.batches`, or inputs of the prefix.
        dtype: The type of cached activations; fresh ones in its range are rounded to it, too.
    """
    if not is_cached(inputs):
        return folding.run(prefix, inputs)
    if _FRESH not in inputs:
        return inputs[CACHED]

    def join(cached: Any, fresh: Any) -> Any:
        if fresh.dtype.is_floating:
            rounded = tf.cast(tf.cast(fresh, dtype), cached.dtype)
            # Beyond its range it would be infinite. `frozen.narrowed` refuses cached ones.
            fresh = tf.where(tf.math.is_finite(rounded), rounded, fresh)
        return tf.gather(tf.concat([cached, fresh], axis=0), inputs[_PLACES])

    fresh = _packed(folding.run(prefix, inputs[_FRESH]))
    return keras.tree.map_structure(join, inputs[CACHED], fresh)


def _packed(activations: Any) -> Any:
    """Returns activations in a structure of `tf.data`, which knows no lists."""
    return tuple(activations) if isinstance(activations, list) else activations


def is_cached(inputs: Any) -> bool:
    """Returns whether a batch of inputs is from `Features.batches`."""
    return isinstance(inputs, Mapping) and CACHED in inputs


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
    with_engine = functools.partial(_at, model, data, taps, cache, dtype)
    try:
        return with_engine(engine.chosen(model, data, cache))
    except engine.Refused as error:
        return with_engine(engine.refuse(model, cache, str(error)))


def _at(
    model: TransferModel,
    data: Data,
    taps: Collection[Tap],
    cache: Cache,
    dtype: str,
    runs: Engine,
) -> dict[Tap, Features]:
    prefixes = {block: model.split_at(block)[0] for block in {tap.block: None for tap in taps}}
    varies = lengths.vary(model.backbone, model.body)
    axes = {
        block: lengths.axes(prefix) if varies else [()] * len(prefix.outputs)
        for block, prefix in prefixes.items()
    }
    names = _names(model, data, taps, prefixes, cache, dtype, runs.key)
    if not varies:
        names = {tap: name for tap, name in names.items() if tap.block != LENGTHS}
    entries = [*names.values()] if hardware.is_chief() else []
    try:
        with feature_store.locked(cache.folder, entries):
            known = _lengths(data, names, cache)
            taps = [tap for tap in taps if not varies or _of(tap, LENGTHS) in known]
            sizes = {}
            for tap in taps:
                own = known.get(_of(tap, LENGTHS))
                sizes[tap] = frozen.sizes(data, tap, prefixes[tap.block].output, dtype, axes, own)
                targets = _of(tap, TARGETS)
                sizes[targets] = frozen.sizes(data, targets, data.targets, "float32", {}, None)
            make: Any = functools.partial(frozen.forward, model, prefixes, bool(known))
            if runs.key:
                make = functools.cache(functools.partial(engine.litert, prefixes, cache))
            _fill(data, make, names, sizes, cache, dtype, axes, known, runs.reason)
            hardware.meet("features that all workers have written")
            rows = {tap: feature_store.Rows(cache.folder / names[tap]) for tap in sizes}
            hardware.meet("features that all workers have opened")  # Now others may evict them.
    except OSError as error:
        raise ValueError(
            f"Cannot cache features in {cache.folder}: {error.strerror}. The cache needs room and "
            "write permission there; set fewer gigabytes, or use cache='none' in the recipe."
        ) from error
    features = {
        tap: Features(
            tap,
            data,
            prefixes[tap.block],
            dtype,
            rows[tap],
            rows[_of(tap, TARGETS)],
            axes[tap.block],
            known.get(_of(tap, LENGTHS)),
        )
        for tap in taps
    }
    return {tap: each for tap, each in features.items() if _is_enough(each)}


def _of(tap: Tap, block: str) -> Tap:
    """Returns the tap of `TARGETS` or `LENGTHS` in the same view of a split."""
    return dataclasses.replace(tap, block=block)


def _is_enough(features: Features) -> bool:
    """Returns whether a fit may start from these features, equally on every worker.

    Several replicas need complete features: fresh rows of a batch cannot be dealt to them.
    """
    if hardware.replicas() == 1:
        return features.kept > 0
    return min(hardware.gathered(features.kept)) == features.data.count(features.tap.split)


def _lengths(data: Data, names: Mapping[Tap, str], cache: Cache) -> dict[Tap, np.ndarray]:
    """Returns the lengths of all rows by their tap, where the cache has room for them."""
    sizes = {tap: np.full(data.count(tap.split), 4) for tap in names if tap.block == LENGTHS}
    if not sizes:
        return {}
    _fill(data, lambda blocks: lambda inputs: {}, names, sizes, cache, "float32", {}, {}, "")
    hardware.meet("lengths that all workers have written")
    rows = {tap: feature_store.Rows(cache.folder / names[tap]) for tap in sizes}
    return {
        tap: each.read(np.arange(len(each)))[0]
        for tap, each in rows.items()
        if len(each) == data.count(tap.split)
    }


def _fill(
    data: Data,
    forward: Callable[[tuple[str, ...]], Any],
    names: Mapping[Tap, str],
    sizes: Mapping[Tap, np.ndarray],
    cache: Cache,
    dtype: str,
    axes: Axes,
    known: Mapping[Tap, np.ndarray],
    reason: str,
) -> None:
    """Writes this worker's share of the missing rows, as far as the cache has room.

    `forward` is that of `frozen.run`, and `reason` why TensorFlow runs it.
    """
    missing = _missing(data, names, sizes, cache)
    passes: dict[Tap, dict[Tap, feature_store.Writer]] = {}
    for tap, (start, stop) in missing.items():
        if start < stop or stop < data.count(tap.split):
            frozen.print_size(data, tap, int(sizes[tap][:stop].sum()), stop)
        begin, end = feature_store.part(start, stop, *hardware.part())
        if begin < end:
            writer = feature_store.Writer(cache.folder / names[tap], begin, end)
            passes.setdefault(_of(tap, TARGETS), {})[tap] = writer
    if passes and reason:
        print(f"  TensorFlow runs the frozen layers: {reason}")
    for view, writers in passes.items():
        frozen.run(data, forward, writers, dtype, axes, known.get(_of(view, LENGTHS)))


def _missing(
    data: Data, names: Mapping[Tap, str], sizes: Mapping[Tap, np.ndarray], cache: Cache
) -> dict[Tap, tuple[int, int]]:
    """Returns the range of missing rows of every entry with sizes, as the chief decides."""
    ranges: dict[Tap, tuple[int, int]] = dict.fromkeys(sizes, (0, 0))
    if hardware.is_chief():
        wanted = {names[tap]: each for tap, each in sizes.items()}
        granted = feature_store.granted(cache.folder, wanted, cache.limit)
        # Activations are useless without their targets, and targets without any activations.
        stops: dict[Tap, int] = collections.Counter()
        for tap in (tap for tap in sizes if tap.block != TARGETS):
            targets = _of(tap, TARGETS)
            with_targets = [each for each in (tap, targets) if each in sizes]
            stops[tap] = min(granted[names[each]] for each in with_targets)
            if hardware.replicas() > 1 and stops[tap] < data.count(tap.split):
                stops[tap] = 0  # See `_is_enough`.
            if targets in sizes:
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


def _names(
    model: TransferModel,
    data: Data,
    taps: Collection[Tap],
    prefixes: Mapping[str, keras.Model],
    cache: Cache,
    dtype: str,
    engine: str = "",
) -> dict[Tap, str]:
    """Returns the content keys of activations, targets and lengths, by tap."""
    networks = {block: graph.digest(prefix) for block, prefix in prefixes.items()}
    # Targets have the width of all classes, also of classes that occur only in another split. What
    # the same bytes of a record stand for is told by their kinds, in info.json alone.
    task = [model.task.full(), *map(str, keras.tree.flatten(data.targets)), *data.target_kinds]
    always = [
        model.backbone.full(),
        model.backbone.preparation(),
        cache.code,
        tf.__version__,
        keras.__version__,
        feature_store.LENGTH,
    ]
    names, made = {}, [engine] if engine else []
    for tap in taps:
        # The seed matters only for augmentations.
        drawn = [type(each).__module__ for part in tap.augments for each in part.specs()]
        code = [cache.augments.get(module, "") for module in drawn]
        draws = [code, [each.full() for each in tap.augments], tap.view, data.seed]
        records = data.digest(tap.split)
        common = [*always, records, data.is_whole, *(draws if tap.augments else [])]
        keys = {
            _of(tap, TARGETS): task,
            _of(tap, LENGTHS): [],
            tap: [networks[tap.block], dtype, *made],
        }
        for each, own in keys.items():
            digest = hashlib.sha256(json.dumps([*common, *own]).encode()).hexdigest()
            names[each] = entry(each.split, each.block, records, digest)
    return names


def entry(split: str, block: str, records: str, digest: str) -> str:
    """Returns the name of an entry: by the digest of its records it goes with an example."""
    return f"{split}-{block}-{records[:16]}-{digest[:16]}"
