"""The frozen part of a network, run once over a split, its activations kept on disk.

What stays frozen is a function of the example alone, so training may start from its output. The
activations lie in memory-mapped arrays; a batch is in memory at a time. What does not fit into the
cache is computed in every epoch, in the same graph that trains on it.

Kept activations are those that training would compute, but for the rounding: the last bits of a row
depend on the processor, the number of threads and the batch it is in, and none of these is in the
key.
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
        folder: Nothing else should be in it.
        gigabytes: What it may hold. The least recently used activations make room for new ones.
        code: What stands for the code of backbone and task: another one finds nothing made before.
            Without it, who changes their own `preprocess` or `target` takes another folder.
    """

    folder: Path
    gigabytes: float = 20.0
    code: str = ""

    def __post_init__(self) -> None:
        """Checks the number."""
        if not 0 <= self.gigabytes < math.inf:
            raise ValueError(f"Cache.gigabytes is {self.gigabytes}, expected a number from 0 on.")


@dataclasses.dataclass(frozen=True)
class Cut:
    """Which activations of which examples: those at the entrance of a block, or of the head."""

    split: str
    block: str
    augments: tuple[Augment, ...] = ()
    view: int = 0


# What a batch of features holds. Keras takes its size from the tensor whose name sorts first, which
# has to be one with a row for every example.
KEPT = "features kept"
_AT = "features at"
_FRESH = "features of"

TARGETS = "targets"
"""Stands for a block in the cut that is the targets: they do not depend on the network."""


@dataclasses.dataclass(frozen=True)
class Features:
    """The activations and targets of every example at a cut, those of the first of them kept."""

    cut: Cut
    data: Data
    prefix: keras.Model
    dtype: str
    rows: feature_store.Rows
    targets: feature_store.Rows

    @property
    def kept(self) -> int:
        """How many examples are kept; the others are computed when asked for."""
        return min(len(self.rows), len(self.targets))

    def batches(self, order: np.ndarray) -> Any:
        """Returns batches ``(inputs, targets)`` of the examples in an order of their numbers.

        Of each batch it is the part that the data stand for. The inputs are for `entrance` to read.
        """
        order = self.data.rows(order)
        chosen = untuned(tf.data.Dataset.from_tensor_slices(order)).batch(self.data.size)
        if self.kept == self.data.count(self.cut.split):
            return chosen.map(as_written(self._whole), num_parallel_calls=2).prefetch(4)
        sizes, fresh = self._fresh(order)
        # Without its cardinality Keras takes a data set of unknown size for one that ended early.
        counted = tf.data.experimental.assert_cardinality(len(sizes))
        mixed = tf.data.Dataset.zip(chosen, fresh.rebatch(sizes)).map(as_written(self._mixed))
        return mixed.apply(counted).prefetch(2)

    def _whole(self, chosen: Any) -> tuple[Any, Any]:
        kept, targets = self._read(chosen)
        return {KEPT: kept}, targets

    def _read(self, chosen: Any) -> tuple[Any, Any]:
        specs = (self.prefix.output, self.data.targets)
        held: Any = weakref.ref(self)  # TensorFlow never forgets the function; the data sets do.
        columns = tf.numpy_function(
            lambda numbers: held().rows.read(numbers) + held().targets.read(numbers),
            [chosen],
            self.rows.dtypes + self.targets.dtypes,
            stateful=False,
        )
        for i, spec in enumerate(keras.tree.flatten(specs)):
            columns[i] = tf.cast(columns[i], spec.dtype)
            columns[i].set_shape([None, *spec.shape[1:]])
        return keras.tree.pack_sequence_as(specs, columns)

    def _fresh(self, order: np.ndarray) -> tuple[np.ndarray, Any]:
        """Returns how many examples of each batch are not kept, and these, one after another.

        Of a batch that is kept it is one, which nothing reads: networks do not run on none.
        """
        size, kept = self.data.size, self.kept
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        missing = [batch[batch >= kept] for batch in batches]
        missing = [batch if len(batch) else np.array([kept]) for batch in missing]
        pairs = self.data.pairs(
            self.cut.split, np.concatenate(missing), self.cut.augments, self.cut.view
        )
        return np.array([len(batch) for batch in missing]), pairs.batch(size)

    def _mixed(self, chosen: Any, fresh: tuple[Any, Any]) -> tuple[Any, Any]:
        is_kept = chosen < self.kept
        kept, kept_targets = self._read(tf.boolean_mask(chosen, is_kept))
        first = tf.cumsum(tf.cast(is_kept, tf.int32))
        second = first[-1] + tf.cumsum(tf.cast(~is_kept, tf.int32))
        at = tf.where(is_kept, first, second) - 1
        targets = keras.tree.map_structure(
            lambda *parts: tf.gather(tf.concat(parts, axis=0), at), kept_targets, fresh[1]
        )
        return {KEPT: kept, _AT: at, _FRESH: fresh[0]}, targets


def entrance(prefix: keras.Model, inputs: Any, dtype: str) -> Any:
    """Returns the activations behind a prefix, inside the graph that trains on them.

    Args:
        prefix: What is frozen.
        inputs: A batch of `Features.batches`, or one for the prefix.
        dtype: As which activations are kept: what is computed is rounded alike.
    """
    if not (isinstance(inputs, Mapping) and KEPT in inputs):
        return folding.run(prefix, inputs)
    if _FRESH not in inputs:
        return inputs[KEPT]

    def join(kept: Any, fresh: Any) -> Any:
        if fresh.dtype.is_floating:
            fresh = tf.cast(tf.cast(fresh, dtype), kept.dtype)
        return tf.gather(tf.concat([kept, fresh], axis=0), inputs[_AT])

    return keras.tree.map_structure(join, inputs[KEPT], folding.run(prefix, inputs[_FRESH]))


def at(
    model: TransferModel, data: Data, cuts: Collection[Cut], cache: Cache, dtype: str
) -> dict[Cut, Features]:
    """Returns the features at every cut, made in one pass over each view of a split if missing.

    Args:
        model: Its weights before the last of the blocks must be final: they are in the key.
        data: Where the splits come from.
        cuts: What is wanted; what the cache has no room for at all is left out, for several
            replicas what it has not room for all of.
        cache: Where they are kept, by content key: a folder that all workers see. Each makes its
            shards of what is missing.
        dtype: ``float16`` or ``float32``, as which floating activations are kept.

    Raises:
        ValueError: The disk is full, or an activation is too large for the type.
    """
    prefixes = {block: model.split_at(block)[0] for block in {cut.block: None for cut in cuts}}
    targets = {cut: dataclasses.replace(cut, block=TARGETS) for cut in cuts}
    names = _names(model, data, cuts, prefixes, cache.code, dtype)
    sizes = {cut: _row_bytes(prefixes[cut.block].output, dtype) for cut in cuts}
    sizes |= dict.fromkeys(targets.values(), _row_bytes(data.targets, "float32"))
    held = [*names.values()] if hardware.is_chief() else []
    try:
        with feature_store.locked(cache.folder, held):
            _fill(data, prefixes, names, sizes, cache, dtype)
            hardware.meet("features that all workers have made")
            rows = {cut: feature_store.Rows(cache.folder / name) for cut, name in names.items()}
            hardware.meet("features that all workers have opened")  # Now others may drop them.
    except OSError as error:
        raise ValueError(
            f"Cannot keep features in {cache.folder}: {error.strerror}. They need room there, and "
            "to be written; give the cache fewer gigabytes, or use cache='none' in the recipe."
        ) from error
    found = {
        cut: Features(cut, data, prefixes[cut.block], dtype, rows[cut], rows[targets[cut]])
        for cut in cuts
    }
    return {cut: each for cut, each in found.items() if _is_enough(each)}


def _is_enough(found: Features) -> bool:
    """Returns whether a fit may start from these features, the same on every worker.

    A batch that is computed in part has no rows that could be dealt to several replicas.
    """
    if hardware.replicas() == 1:
        return found.kept > 0
    return min(hardware.gathered(found.kept)) == found.data.count(found.cut.split)


def _fill(
    data: Data,
    prefixes: Mapping[str, keras.Model],
    names: Mapping[Cut, str],
    sizes: Mapping[Cut, int],
    cache: Cache,
    dtype: str,
) -> None:
    """Writes what is missing of the entries, as far as the cache has room, or a worker's part."""
    missing = _missing(data, names, sizes, cache)
    passes: dict[Cut, dict[Cut, feature_store.Writer]] = {}
    for cut, (start, stop) in missing.items():
        if start < stop or stop < data.count(cut.split):
            _tell(data, cut, sizes[cut], stop)
        begin, end = feature_store.part(start, stop, *hardware.part())
        if begin < end:
            view = dataclasses.replace(cut, block=TARGETS)
            writer = feature_store.Writer(cache.folder / names[cut], begin, end)
            passes.setdefault(view, {})[cut] = writer
    forward = functools.cache(functools.partial(_forward, prefixes))
    for writers in passes.values():
        _run(data, forward, writers, dtype)


def _missing(
    data: Data, names: Mapping[Cut, str], sizes: Mapping[Cut, int], cache: Cache
) -> dict[Cut, tuple[int, int]]:
    """Returns from which row to which one the entries are to be written; the chief tells all."""
    found: dict[Cut, tuple[int, int]] = dict.fromkeys(names, (0, 0))
    if hardware.is_chief():
        wanted = {names[cut]: (size, data.count(cut.split)) for cut, size in sizes.items()}
        granted = feature_store.granted(cache.folder, wanted, int(cache.gigabytes * 1e9))
        # Rows are of no use without their targets, nor these without any rows.
        stops: dict[Cut, int] = collections.Counter()
        for cut in (cut for cut in names if cut.block != TARGETS):
            targets = dataclasses.replace(cut, block=TARGETS)
            stops[cut] = min(granted[names[cut]], granted[names[targets]])
            if hardware.replicas() > 1 and stops[cut] < data.count(cut.split):
                stops[cut] = 0  # See `_is_enough`.
            stops[targets] = max(stops[targets], stops[cut])
        for cut, stop in stops.items():
            entry = cache.folder / names[cut]
            found[cut] = len(feature_store.Rows(entry)), stop
            if entry.is_dir():
                os.utime(entry)  # The least recently used go first.
    return {
        cut: (hardware.gathered(start)[0], hardware.gathered(stop)[0])
        for cut, (start, stop) in found.items()
    }


def _tell(data: Data, cut: Cut, size: int, kept: int) -> None:
    count = data.count(cut.split)
    if cut.block != TARGETS:
        view = f", view {cut.view}" if cut.augments else ""
        part = "" if kept == count else f" of {count:,}; the others are computed in every epoch"
        print(
            f"  features of {cut.split} at {cut.block}{view}: {size * kept / 1e6:,.1f} MB kept, "
            f"of {kept:,} examples{part}"
        )


def _run(
    data: Data,
    forward: Callable[[tuple[str, ...]], Any],
    writers: Mapping[Cut, feature_store.Writer],
    dtype: str,
) -> None:
    """Runs one view of a split through the cuts, from the first row that is missing."""
    cut = next(iter(writers))
    size = min(data.batch_size, 64)  # One for many replicas may be too large for a device.
    # Batches are those of an unbroken pass: in others a row may round otherwise.
    start = min(writer.next for writer in writers.values()) // size * size
    order = np.arange(start, max(writer.stop for writer in writers.values()))
    batches = data.pairs(cut.split, order, cut.augments, cut.view).batch(size)
    at_once = tf.data.Options()
    # The first pictures are read while the network is traced.
    at_once.experimental_warm_start = True
    read = iter(batches.prefetch(2).with_options(at_once))
    run = forward(tuple(each.block for each in writers if each.block != TARGETS))
    steps = -(-len(order) // size)
    for inputs, targets in terminal.shown(read, steps, f"features of {cut.split}"):
        columns = {
            block: [_narrowed(tensor.numpy(), dtype) for tensor in keras.tree.flatten(activations)]
            for block, activations in run(inputs).items()
        }
        columns[TARGETS] = [target.numpy() for target in keras.tree.flatten(targets)]
        for each, writer in writers.items():
            writer.add(start, columns[each.block])
        start += len(columns[TARGETS][0])


def _forward(prefixes: Mapping[str, keras.Model], blocks: tuple[str, ...]) -> Any:
    """Returns the function from a batch of inputs to the activations before each of the blocks.

    They are outputs of one graph, so layers that they share run once.
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
    cuts: Collection[Cut],
    prefixes: Mapping[str, keras.Model],
    code: str,
    dtype: str,
) -> dict[Cut, str]:
    """Returns names, targets' too, that change with anything that changes what is kept."""
    networks = {block: graph.digest(prefix) for block, prefix in prefixes.items()}
    # Its targets have the width of all classes, also of those that another split alone has.
    task = [model.task.full(), *map(str, keras.tree.flatten(data.targets))]
    always = [model.backbone.full(), code, tf.__version__, keras.__version__, feature_store.LENGTH]
    names = {}
    for cut in cuts:
        # What is drawn, and so the seed, matters where there is something to draw.
        drawn = (
            [[each.full() for each in cut.augments], cut.view, data.seed] if cut.augments else []
        )
        made = [*always, data.digest(cut.split), data.exact, *drawn]
        targets = dataclasses.replace(cut, block=TARGETS)
        for each, own in ((targets, task), (cut, [networks[cut.block], dtype])):
            digest = hashlib.sha256(json.dumps([*made, *own]).encode()).hexdigest()
            names[each] = f"{each.split}-{each.block}-{digest[:16]}"
    return names


def _row_bytes(tensors: Any, dtype: str) -> int:
    """Returns the bytes that an example takes on disk."""
    total = 0
    for tensor in keras.tree.flatten(tensors):
        kind, shape = tf.as_dtype(tensor.dtype), tensor.shape[1:]
        if None in shape:
            raise ValueError(
                f"Features of unknown size {tuple(shape)} cannot be kept; use cache='none'."
            )
        total += math.prod(shape) * (tf.as_dtype(dtype).size if kind.is_floating else kind.size)
    return total


def _narrowed(array: np.ndarray, dtype: str) -> np.ndarray:
    if not tf.as_dtype(array.dtype).is_floating:
        return array
    largest, limit = np.abs(array).max(initial=0), np.finfo(dtype).max
    if not np.isfinite(largest):
        raise ValueError(
            f"An activation is {largest}: look at the weights, and train in float32 or "
            "mixed_bfloat16, which hold what is too large for float16."
        )
    if largest > limit:
        raise ValueError(
            f"An activation is {largest:.3g}, and {dtype} ends at {limit:.3g}; "
            "use fine_tune(cache='float32')."
        )
    return array.astype(dtype)
