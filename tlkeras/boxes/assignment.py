"""Assignment: which cells learn which box, from what the network predicts so far.

Task-aligned (Feng et al. 2021, https://arxiv.org/abs/2108.07755): a cell inside a box is worth
``score ** 0.5 * IoU ** 6``, and each box gets the best ten. Cells that a box does not get learn
that nothing is there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tlkeras.boxes import geometry
from tlkeras.frameworks import tf

_CELLS = 10
_POWER_OF_SCORE, _POWER_OF_IOU = 0.5, 6.0

# The least score that the best cell of a box learns: a small box that no cell meets well has to be
# found, too.
_LEAST = 0.1

# What the nearest cell is worth at least; it is less than any cell that overlaps.
_NEAREST = 1e-12


class Assigned(NamedTuple):
    """What the cells learn.

    Attributes:
        boxes: [b, n, 4], where there is one.
        scores: How well the cell should find it, [b, n, classes]; 0 where there is none.
        weights: How much the boxes count, [b, n]; 0 where there is none.
    """

    boxes: Any
    scores: Any
    weights: Any


def assigned(
    cells: Any, predicted: Any, scores: Any, boxes: Any, labels: Any, weights: Any
) -> Assigned:
    """Returns what every cell learns; gradients do not flow through it.

    A box without the centre of a cell inside gets the nearest cell.

    Args:
        cells: See `geometry.cells`, [b, n, 4].
        predicted: The boxes of the cells, [b, n, 4].
        scores: The scores of their classes, [b, n, classes].
        boxes: The true boxes, [b, m, 4].
        labels: Their classes, int32 [b, m].
        weights: How much they count, [b, m]; 0 is no box.
    """
    is_box = weights > 0
    overlaps = geometry.pairs(boxes, predicted)  # [b, m, n]
    of_class = tf.gather(
        tf.transpose(scores, [0, 2, 1]), tf.maximum(labels, 0), batch_dims=1
    )  # [b, m, n]
    worth = of_class**_POWER_OF_SCORE * overlaps**_POWER_OF_IOU * _inside(cells, boxes)
    worth = (worth + _nearest(cells, boxes)) * tf.cast(is_box, tf.float32)[..., None]
    best, _ = tf.math.top_k(worth, min(_CELLS, worth.shape[-1]))
    # Where fewer cells are worth anything, the least of the best is 0 and would select all.
    selected = (worth >= best[..., -1:]) & (worth > 0)
    # A cell in several boxes learns the one that it overlaps most.
    claims = tf.where(selected, overlaps, -1.0)
    owner = tf.argmax(claims, axis=1, output_type=tf.int32)  # [b, n]
    owned = tf.one_hot(owner, tf.shape(worth)[1], axis=1) * tf.cast(selected, tf.float32)
    worth = worth * owned
    most = tf.reduce_max(worth, axis=-1, keepdims=True)
    reach = tf.maximum(tf.reduce_max(overlaps * owned, axis=-1, keepdims=True), _LEAST)
    learned = tf.reduce_sum(tf.math.divide_no_nan(worth, most) * reach, axis=1)  # [b, n]
    counted = tf.gather(weights, owner, batch_dims=1) * tf.reduce_sum(owned, axis=1)
    classes = tf.one_hot(tf.gather(labels, owner, batch_dims=1), scores.shape[-1])
    found = Assigned(
        tf.gather(boxes, owner, batch_dims=1),
        classes * learned[..., None],
        counted,
    )
    return Assigned(*map(tf.stop_gradient, found))


def covered(cells: Any, boxes: Any) -> Any:
    """Returns whether the centre of each cell is in one of the boxes, float32 [b, n]."""
    return tf.reduce_max(_inside(cells, boxes), axis=1)


def _inside(cells: Any, boxes: Any) -> Any:
    """Returns whether the centres of cells are in boxes, float32 [b, m, n]."""
    centres = cells[:, None, :, :2]
    low, high = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    return tf.cast(tf.reduce_all((centres > low) & (centres < high), axis=-1), tf.float32)


def _nearest(cells: Any, boxes: Any) -> Any:
    """Returns what the cell with the nearest centre is worth at least, [b, m, n]."""
    middle = (boxes[:, :, None, :2] + boxes[:, :, None, 2:]) / 2
    away = tf.reduce_sum(tf.square(cells[:, None, :, :2] - middle), axis=-1)
    return _NEAREST * tf.one_hot(tf.argmin(away, axis=-1), away.shape[-1])
