"""Suppression: of boxes of one class that overlap much, the one of the highest score stays.

Greedy suppression goes through the boxes by score: a box stays unless one that stays overlaps it.
Here it goes through blocks of boxes. What stays of a block is a fixed point, found by repeated
products with the matrix of its overlaps: after n rounds all boxes are right that are at the end of
a chain of at most n boxes, each of which overlaps the next. So whole batches are suppressed at a
time, by operations that every format has, and the work grows with the boxes and not their square.
"""

from __future__ import annotations

from typing import Any

from tlkeras.boxes import geometry
from tlkeras.frameworks import keras

CANDIDATES = 256
"""At least the boxes of the highest scores, so many, are looked at."""

# As many cells learn each box, see `assignment`: with fewer candidates for each box that can stay,
# the copies of sure boxes would push unsure ones out of a crowded picture.
_COPIES = 10

# Larger blocks have more overlaps to look at, smaller ones more operations.
_BLOCK = 128

# Chains in the predictions of trained networks have at most about six boxes.
_ROUNDS = 16

# Where a row of a candidate has its class and its score, behind the box.
_CATEGORY, _SCORE = 4, 5


def suppressed(
    boxes: Any, scores: Any, categories: Any, most: int, threshold: float, least: float
) -> dict[str, Any]:
    """Returns the boxes that stay, by falling score.

    Args:
        boxes: In [0, 1], [b, n, 4].
        scores: In [0, 1], [b, n].
        categories: The numbers of classes as float32, [b, n]; other classes suppress nothing.
        most: How many boxes are returned; behind the last one all is 0.
        threshold: A box of a larger IoU with one of a higher score is suppressed.
        least: Boxes of a lower score are left out.

    Returns:
        ``boxes`` [b, most, 4], ``scores`` and ``category`` [b, most], ``count`` [b]; all float32.
    """
    ops: Any = keras.ops
    rows = ops.concatenate([boxes, categories[..., None], scores[..., None]], axis=-1)
    # What is left out or suppressed is 0, also its box, which then overlaps nothing.
    rows = rows * ops.cast(scores >= least, "float32")[..., None]
    candidates = min(max(CANDIDATES, _COPIES * most), boxes.shape[1])
    rows = _best(rows, candidates)
    stay = ops.zeros_like(rows[:, :1]) + ops.zeros([1, most, 1])
    for start in range(0, candidates, _BLOCK):
        # Later boxes have lower scores, so what does not stay now is never missed.
        stay = _best(_joined(stay, rows[:, start : start + _BLOCK], threshold), most)
    return {
        "boxes": stay[..., : geometry.SIZE],
        "category": stay[..., _CATEGORY],
        "scores": stay[..., _SCORE],
        "count": ops.sum(ops.cast(stay[..., _SCORE] > 0, "float32"), axis=-1),
    }


def _joined(stay: Any, block: Any, threshold: float) -> Any:
    """Returns the rows of boxes that stay, and of a block behind them, 0 where suppressed."""
    ops: Any = keras.ops
    free = 1.0 - ops.max(_over(block, stay, threshold), axis=-1)
    order = ops.arange(block.shape[1])
    before = ops.cast(order[:, None] > order[None, :], "float32")
    over = _over(block, block, threshold) * before
    stays = free
    for _ in range(_ROUNDS):
        # How many boxes that stay overlap each.
        above = ops.sum(over * stays[:, None, :], axis=-1)
        stays = free * (1.0 - ops.minimum(above, 1.0))
    return ops.concatenate([stay, block * stays[..., None]], axis=1)


def _over(rows: Any, others: Any, threshold: float) -> Any:
    """Returns 1 where a box of the same class overlaps one, else 0, [b, rows, others]."""
    ops: Any = keras.ops
    size = geometry.SIZE
    much = geometry.pairs(rows[..., :size], others[..., :size]) > threshold
    same = ops.equal(rows[..., None, _CATEGORY], others[:, None, :, _CATEGORY])
    return ops.cast(ops.logical_and(much, same), "float32")


def _best(rows: Any, count: int) -> Any:
    """Returns so many rows of the highest scores, [b, count, 6] of [b, n, 6]."""
    ops: Any = keras.ops
    _, places = ops.top_k(rows[..., _SCORE], count)
    return ops.take_along_axis(rows, places[..., None], axis=1)
