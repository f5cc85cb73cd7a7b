"""Suppression: of boxes of one class that overlap much, the one of the highest score stays.

Greedy suppression goes through the boxes by score: a box stays unless one that stays overlaps it.
Here this is a fixed point, found by repeated products with the matrix of overlaps. After n rounds
all boxes are right that are at the end of a chain of at most n boxes, each of which overlaps the
next. So whole batches are suppressed at a time, by operations that every format has.
"""

from __future__ import annotations

from typing import Any

from tlkeras.boxes import geometry
from tlkeras.frameworks import keras

CANDIDATES = 256
"""The boxes of the highest scores, so many, are looked at."""

# Chains in the predictions of trained networks have at most about six boxes.
_ROUNDS = 16


def suppressed(
    boxes: Any, scores: Any, categories: Any, most: int, threshold: float, least: float
) -> dict[str, Any]:
    """Returns the boxes that stay, by falling score.

    Args:
        boxes: In [0, 1], [b, n, 4].
        scores: In [0, 1], [b, n].
        categories: The numbers of classes as float32, [b, n]; other classes suppress nothing.
        most: How many boxes are returned; behind the last one all is 0.
        threshold: The IoU from which on a box is suppressed.
        least: Boxes of a lower score are left out.

    Returns:
        ``boxes`` [b, most, 4], ``scores`` and ``category`` [b, most], ``count`` [b]; all float32.
    """
    ops: Any = keras.ops
    candidates = min(CANDIDATES, boxes.shape[1])
    scores, places = ops.top_k(scores, candidates)
    boxes, categories = _taken(boxes, places), _taken(categories[..., None], places)[..., 0]
    overlap = geometry.pairs(boxes, boxes) > threshold
    same = ops.equal(categories[:, :, None], categories[:, None, :])
    order = ops.arange(candidates)
    before = order[:, None] > order[None, :]
    over = ops.cast(ops.logical_and(ops.logical_and(overlap, same), before[None]), "float32")
    stays = ops.ones_like(scores)
    for _ in range(_ROUNDS):
        # How many boxes that stay overlap each.
        above = ops.sum(over * stays[:, None, :], axis=-1)
        stays = 1.0 - ops.minimum(above, 1.0)
    scores = scores * stays
    scores = scores * ops.cast(scores >= least, "float32")
    kept = min(most, candidates)
    scores, places = ops.top_k(scores, kept)
    found = ops.cast(scores > 0, "float32")
    padding = [[0, 0], [0, most - kept]]
    boxes = _taken(boxes, places) * found[..., None]
    categories = _taken(categories[..., None], places)[..., 0] * found
    return {
        "boxes": ops.pad(boxes, [*padding, [0, 0]]),
        "category": ops.pad(categories, padding),
        "scores": ops.pad(scores, padding),
        "count": ops.sum(found, axis=-1),
    }


def _taken(values: Any, places: Any) -> Any:
    """Returns the rows [b, k, c] of values [b, n, c] at places [b, k]."""
    return keras.ops.take_along_axis(values, places[..., None], axis=1)
