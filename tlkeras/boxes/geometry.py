"""Geometry of boxes: overlaps, and their codes on a grid of cells.

A box is (top, left, bottom, right) in fractions of the picture. The functions take symbolic
tensors, too, and convert to built-in operations of TFLite.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tlkeras.frameworks import keras

SIZE = 4
"""The numbers of a box, of a code, and of a cell: its centre (y, x), its height and its width."""

DIFFICULT, CROWD = 1, 2
"""Why a true box is ignored: a person can hardly tell it, or it is around many objects."""

SIDE = 4.0
"""The sides of the box of the code 0, in cells."""

# exp of more is a box of many pictures.
_LARGEST_CODE = 4.0

_LEAST = 1e-9


def cells(rows: int, columns: int) -> np.ndarray:
    """Returns the cells of a grid over a picture, row by row, float32 [rows * columns, 4]."""
    y, x = np.meshgrid(
        (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij"
    )
    sides = np.full_like(y, 1 / rows), np.full_like(x, 1 / columns)
    return np.stack([y, x, *sides], axis=-1).reshape(-1, SIZE).astype(np.float32)


def encoded(boxes: Any, cells: Any) -> Any:
    """Returns the codes of boxes on cells, both [..., 4].

    A code is the way from the centre of the cell to that of the box, in cells, and the logarithms
    of the sides in units of `SIDE` cells.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    middle, cell = cells[..., :2], cells[..., 2:]
    away = ((low + high) / 2 - middle) / cell
    sides = keras.ops.log(keras.ops.maximum(high - low, _LEAST) / (SIDE * cell))
    return keras.ops.concatenate([away, sides], axis=-1)


def decoded(codes: Any, cells: Any) -> Any:
    """Returns the boxes of codes on cells, both [..., 4]; they may leave the picture."""
    middle, cell = cells[..., :2], cells[..., 2:]
    centre = middle + codes[..., :2] * cell
    # As many sides as e^4: more would overflow early in a training.
    sides = keras.ops.exp(keras.ops.clip(codes[..., 2:], -_LARGEST_CODE, _LARGEST_CODE))
    half = sides * cell * (SIDE / 2)
    return keras.ops.concatenate([centre - half, centre + half], axis=-1)


def clipped(boxes: Any) -> Any:
    """Returns the parts of boxes that are in the picture."""
    return keras.ops.clip(boxes, 0.0, 1.0)


def parts(outputs: Any) -> tuple[Any, Any, Any]:
    """Returns cells, codes and logits of the outputs."""
    return outputs[..., :SIZE], outputs[..., SIZE : 2 * SIZE], outputs[..., 2 * SIZE :]


def area(boxes: Any) -> Any:
    """Returns the areas of boxes [..., 4]; 0 where the corners are swapped."""
    ops: Any = keras.ops
    height = ops.maximum(boxes[..., 2] - boxes[..., 0], 0.0)
    return height * ops.maximum(boxes[..., 3] - boxes[..., 1], 0.0)


def intersection(one: Any, other: Any) -> Any:
    """Returns the areas that boxes share; the shapes broadcast."""
    ops: Any = keras.ops
    height = ops.minimum(one[..., 2], other[..., 2]) - ops.maximum(one[..., 0], other[..., 0])
    width = ops.minimum(one[..., 3], other[..., 3]) - ops.maximum(one[..., 1], other[..., 1])
    return ops.maximum(height, 0.0) * ops.maximum(width, 0.0)


def iou(one: Any, other: Any) -> Any:
    """Returns intersection over union; the shapes broadcast, and two empty boxes have 0."""
    both = intersection(one, other)
    either = area(one) + area(other) - both
    return both / keras.ops.maximum(either, _LEAST)


def pairs(one: Any, other: Any) -> Any:
    """Returns the IoU of all pairs of boxes [..., n, 4] and [..., m, 4], [..., n, m]."""
    return iou(keras.ops.expand_dims(one, -2), keras.ops.expand_dims(other, -3))


def generalized_iou(one: Any, other: Any) -> Any:
    """Returns the IoU minus the part of the common hull that neither covers.

    It is in [-1, 1] and tells boxes apart that do not overlap (Rezatofighi et al. 2019,
    https://arxiv.org/abs/1902.09630).
    """
    both = intersection(one, other)
    either = area(one) + area(other) - both
    hull = keras.ops.concatenate(
        [
            keras.ops.minimum(one[..., :2], other[..., :2]),
            keras.ops.maximum(one[..., 2:], other[..., 2:]),
        ],
        axis=-1,
    )
    whole = keras.ops.maximum(area(hull), _LEAST)
    return both / keras.ops.maximum(either, _LEAST) - (whole - either) / whole


def initial_bias(chance: float) -> float:
    """Returns the logit of a chance: so a new head finds little in most cells."""
    return math.log(chance / (1 - chance))
