"""Lengths: networks whose rows have padding run at the length that a batch needs.

See `Backbone.lengths`. A cut network runs inside a `tf.function`, with an unknown length: Keras
checks the inputs of a network inside a network against the length that it was built with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras import hardware
from tlkeras.backbone import Backbone
from tlkeras.frameworks import keras, tf
from tlkeras.model import folding

# Places of the inputs by which `axes` finds out which axes of the outputs follow them.
_FEW = 2


def shortened(backbone: Backbone, inputs: Any) -> Any:
    """Returns a batch of inputs without the places that none of its rows needs.

    Several replicas run whole inputs: their dropout draws one mask for all rows of a batch.
    """
    lengths = backbone.lengths(inputs)
    if lengths is None or hardware.replicas() > 1:
        return inputs
    return cut(inputs, tf.reduce_max(lengths))


def cut(inputs: Any, end: Any) -> Any:
    """Returns the first places of all inputs."""
    return keras.tree.map_structure(lambda each: each[:, :end], inputs)


def restored(outputs: Any, like: Any) -> Any:
    """Returns outputs of a cut network with the shapes of the whole one's; last places repeat.

    Args:
        outputs: The outputs.
        like: The symbolic outputs of the network.
    """

    def restore(output: Any, spec: Any) -> Any:
        for axis in range(1, len(spec.shape)):
            if spec.shape[axis] not in (None, output.shape[axis]):
                last = tf.shape(output)[axis] - 1
                places = tf.minimum(tf.range(spec.shape[axis]), last)
                output = tf.gather(output, places, axis=axis)
        return output

    return keras.tree.map_structure(restore, outputs, like)


def vary(backbone: Backbone, network: keras.Model) -> bool:
    """Returns whether the rows of a backbone's inputs have several lengths."""
    one = keras.tree.map_structure(lambda x: tf.zeros([1, *x.shape[1:]], x.dtype), network.input)
    return backbone.lengths(one) is not None


def axes(network: keras.Model) -> list[tuple[int, ...]]:
    """Returns which axes of each output, in flat order, are as long as the inputs."""
    few = keras.tree.map_structure(lambda x: tf.zeros([1, _FEW], x.dtype), network.input)
    return [
        tuple(axis for axis in range(1, len(spec.shape)) if found.shape[axis] != spec.shape[axis])
        for found, spec in zip(
            keras.tree.flatten(folding.run(network, few)),
            keras.tree.flatten(network.output),
            strict=True,
        )
    ]


def sizes(shape: Sequence[int], long: Sequence[int], lengths: Any) -> np.ndarray:
    """Returns how many numbers rows of these lengths have, int64 [n].

    Args:
        shape: The shape of a whole row.
        long: The axes of a batch, from `axes`.
        lengths: The lengths of the rows, [n].
    """
    fixed = np.prod([each for axis, each in enumerate(shape, 1) if axis not in long], dtype=int)
    return fixed * np.asarray(lengths, np.int64) ** len(long)


def flat(row: np.ndarray, long: Sequence[int], length: int) -> np.ndarray:
    """Returns the first places of a row along its long axes, flat."""
    chosen = tuple(
        slice(length) if axis in long else slice(None) for axis in range(1, row.ndim + 1)
    )
    return row[chosen].ravel()


def batch(
    rows: Sequence[np.ndarray],
    dtype: np.dtype,
    lengths: np.ndarray,
    shape: Sequence[int],
    long: Sequence[int],
    end: int,
) -> np.ndarray:
    """Returns a batch of flat rows, as long as `end`; the last places of shorter rows repeat."""
    sides = [end if axis in long else each for axis, each in enumerate(shape, 1)]
    found = np.empty([len(rows), *sides], dtype)
    for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        sides = [length if axis in long else each for axis, each in enumerate(shape, 1)]
        whole = row.reshape(sides)
        for axis in long:
            whole = whole.take(np.minimum(np.arange(end), length - 1), axis=axis - 1)
        found[place] = whole
    return found
