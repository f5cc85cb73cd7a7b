"""The frozen pass: one view of a split through the frozen layers, into the feature store.

Rows of several lengths run in windows of a shard, sorted by length: each batch is as long as its
longest row. So the numbers of a shard do not depend on the process that computes it, nor on a kill.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras import terminal
from tlkeras.augment import Augment
from tlkeras.data.batches import Data
from tlkeras.frameworks import keras, tf
from tlkeras.model import folding, lengths
from tlkeras.training import feature_store

if TYPE_CHECKING:
    from tlkeras.model.transfer_model import TransferModel


class TooLarge(ValueError):
    """An activation is larger than its type in the cache can tell."""


@dataclasses.dataclass(frozen=True)
class Tap:
    """The activations of a split at the entrance of a block, or of the head."""

    split: str
    block: str
    augments: tuple[Augment, ...] = ()
    view: int = 0


TARGETS = "targets"
"""Replaces the block in the tap of the targets, which do not depend on the network."""

LENGTHS = "lengths"
"""Replaces the block in the tap of the lengths of the rows, see `Backbone.lengths`."""

Axes = Mapping[str, list[tuple[int, ...]]]
"""By block, for each of its activations, the axes that are as long as the inputs."""


def run(
    data: Data,
    forward: Callable[[tuple[str, ...]], Any],
    writers: Mapping[Tap, feature_store.Writer],
    dtype: str,
    axes: Axes,
    known: np.ndarray | None,
) -> None:
    """Runs one view of a split through the network up to the taps, from the first missing row.

    `known` are the lengths of all rows; None if the network needs its inputs whole.
    """
    tap = next(iter(writers))
    size = min(data.batch_size, 64)  # A batch for many replicas may be too large for one device.
    window = size if known is None else feature_store.LENGTH
    # The batches are those of an unbroken pass: in another batch a row may round differently.
    start = min(writer.next for writer in writers.values()) // window * window
    order = np.arange(start, max(writer.stop for writer in writers.values()))
    batches = data.pairs(tap.split, order, tap.augments, tap.view).batch(window)
    options = tf.data.Options()
    # The first pictures are read during the trace of the network.
    options.experimental_warm_start = True
    read = iter(batches.prefetch(2).with_options(options))
    network = forward(tuple(each.block for each in writers if each.block not in (TARGETS, LENGTHS)))
    steps = -(-len(order) // window)
    for inputs, targets in terminal.shown(read, steps, f"features of {tap.split}"):
        if known is None:
            columns = _whole(network(inputs), dtype)
        else:
            own = known[start : start + window]
            columns = _sorted(network, inputs, own, size, dtype, axes)
        columns[TARGETS] = [target.numpy() for target in keras.tree.flatten(targets)]
        if any(each.block == LENGTHS for each in writers):
            columns[LENGTHS] = [data.backbone.lengths(inputs).numpy()]
        for each, writer in writers.items():
            writer.add(start, columns[each.block])
        start += len(columns[TARGETS][0])


def forward(
    model: TransferModel,
    prefixes: Mapping[str, keras.Model],
    varies: bool,
    blocks: tuple[str, ...],
) -> Any:
    """Returns a function from a batch of inputs to the activations before each of the blocks.

    The model keeps it. One graph has all of them as outputs, so shared layers run once. If the
    length `varies`, the function takes inputs of any.
    """
    if not blocks:
        return lambda inputs: {}
    key = ("frozen", varies, *blocks)
    if key not in model.traced:
        model.traced[key] = _traced(prefixes, varies, blocks)
    return model.traced[key]


def _traced(prefixes: Mapping[str, keras.Model], varies: bool, blocks: tuple[str, ...]) -> Any:
    inputs = prefixes[blocks[0]].input
    network = keras.Model(inputs, {block: prefixes[block].output for block in blocks})
    signature = keras.tree.map_structure(
        lambda x: tf.TensorSpec([None, None] if varies else x.shape, x.dtype), inputs
    )
    run = tf.function(
        lambda batch: folding.run(network, batch), input_signature=[signature], autograph=False
    )
    return run.get_concrete_function()


def sizes(
    data: Data, tap: Tap, tensors: Any, dtype: str, axes: Axes, known: np.ndarray | None
) -> np.ndarray:
    """Returns the bytes of every example of a split on disk."""
    long = axes.get(tap.block, [()] * len(keras.tree.flatten(tensors)))
    return np.broadcast_to(row_bytes(tensors, dtype, long, known), [data.count(tap.split)])


def row_bytes(tensors: Any, dtype: str, axes: list[tuple[int, ...]], known: Any) -> Any:
    """Returns the bytes of an example on disk; of every one, int64 [n], if lengths are `known`."""
    total: Any = 0
    for tensor, long in zip(keras.tree.flatten(tensors), axes, strict=True):
        kind, shape = tf.as_dtype(tensor.dtype), tensor.shape[1:]
        if None in shape:
            raise ValueError(
                f"Features of unknown size {tuple(shape)} cannot be cached; use cache='none'."
            )
        numbers = lengths.sizes(shape, long, known) if long else math.prod(shape)
        total += numbers * (tf.as_dtype(dtype).size if kind.is_floating else kind.size)
    return total


def print_size(data: Data, tap: Tap, size: int, cached: int) -> None:
    """Prints how much of the activations at a tap the cache holds."""
    count = data.count(tap.split)
    if tap.block not in (TARGETS, LENGTHS):
        view = f", view {tap.view}" if tap.augments else ""
        rest = "" if cached == count else f" of {count:,}; every epoch computes the others"
        print(
            f"  features of {tap.split} at {tap.block}{view}: {size / 1e6:,.1f} MB in "
            f"the cache, {cached:,} examples{rest}"
        )


def narrowed(array: np.ndarray, dtype: str) -> np.ndarray:
    """Returns activations in the type of the cache.

    Raises:
        ValueError: One is too large for it, or not finite.
    """
    if not tf.as_dtype(array.dtype).is_floating:
        return array
    largest, limit = np.abs(array).max(initial=0), np.finfo(dtype).max
    if not np.isfinite(largest):
        raise ValueError(
            f"An activation is {largest}: check the weights, and train in float32 or "
            "mixed_bfloat16, which have a larger range than float16."
        )
    if largest > limit:
        raise TooLarge(
            f"An activation is {largest:.3g}, and {dtype} ends at {limit:.3g}; use cache='float32' "
            "in the recipe."
        )
    return array.astype(dtype)


def _whole(activations: Mapping[str, Any], dtype: str) -> dict[str, list[Any]]:
    return {
        block: [narrowed(np.asarray(tensor), dtype) for tensor in keras.tree.flatten(tensors)]
        for block, tensors in activations.items()
    }


def _sorted(
    network: Any, inputs: Any, known: np.ndarray, size: int, dtype: str, axes: Axes
) -> dict[str, list[Any]]:
    """Returns the columns of a window, whose rows run in batches sorted by length."""
    order = np.argsort(known, kind="stable")
    columns: dict[str, list[list[Any]]] = {}
    for places in np.split(order, range(size, len(order), size)):
        end = known[places].max()
        batch = keras.tree.map_structure(lambda x: tf.gather(x, places), lengths.cut(inputs, end))  # noqa: B023
        for block, arrays in _whole(network(batch), dtype).items():
            rows = columns.setdefault(block, [[None] * len(order) for _ in arrays])
            for column, array, long in zip(rows, arrays, axes[block], strict=True):
                for place, row in zip(places, array, strict=True):
                    column[place] = lengths.flat(row, long, int(known[place])) if long else row
    return {
        block: [
            column if long else np.stack(column)
            for column, long in zip(rows, axes[block], strict=True)
        ]
        for block, rows in columns.items()
    }
