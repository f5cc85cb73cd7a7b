"""MixUp and CutMix: they mix every example of a batch with the next."""

from __future__ import annotations

from typing import Any

from tlkeras.augment import Augment, seeds
from tlkeras.frameworks import tf


class MixUp(Augment, name="mix_up"):
    """Blends every example of a batch with the next; its own weight is Beta(alpha, alpha).

    Zhang et al. 2018, https://arxiv.org/abs/1710.09412. The targets have the same weights. 0 is
    off.
    """

    alpha: float = 0.2

    def validate(self):
        self.require(self.alpha >= 0, "alpha", "at least 0")

    def batch(self, inputs, targets, seed):
        _check_mixable(self.name, inputs, targets)
        own = _beta(self.alpha, tf.shape(inputs)[0], seed)
        return _blend(inputs, own[:, None, None, None]), _blend(targets, own[:, None])


class CutMix(Augment, name="cut_mix"):
    """Pastes a rectangle of the next picture of the batch over each picture, in the same place.

    Yun et al. 2019, https://arxiv.org/abs/1905.04899. The uncovered fraction is
    Beta(alpha, alpha); the centre of the rectangle is uniform, and the picture clips it. Targets
    are blended by the number of uncovered pixels. 0 is off.
    """

    alpha: float = 1.0

    def validate(self):
        self.require(self.alpha >= 0, "alpha", "at least 0")

    def batch(self, inputs, targets, seed):
        _check_mixable(self.name, inputs, targets)
        count, height, width = tf.unstack(tf.shape(inputs)[:3])
        first, second = seeds(seed, 2)
        side = tf.sqrt(1 - _beta(self.alpha, count, first))
        centre = tf.random.stateless_uniform([2, count], second)

        def covered(axis: int, length: Any) -> Any:
            """Returns the places of the rectangles on one axis, bool [b, length]."""
            edges = tf.round((centre[axis] + side * [[-0.5], [0.5]]) * tf.cast(length, tf.float32))
            places = tf.range(length, dtype=tf.float32)
            return (edges[0][:, None] <= places) & (places < edges[1][:, None])

        patch = covered(0, height)[:, :, None, None] & covered(1, width)[:, None, :, None]
        own = 1 - tf.cast(patch, inputs.dtype)
        weight = tf.reduce_mean(own, axis=[1, 2, 3])
        pasted = tf.where(patch, tf.roll(inputs, -1, axis=0), inputs)
        return pasted, _blend(targets, weight[:, None])


def _check_mixable(name: str, inputs: Any, targets: Any) -> None:
    for what, value, rank, expected in (
        ("inputs", inputs, 4, "float pictures [b, h, w, 3]"),
        ("targets", targets, 2, "a float row of classes for each example, [b, classes]"),
    ):
        if not (tf.is_tensor(value) and value.dtype.is_floating and value.shape.rank == rank):
            actual = (
                f"{value.dtype.name} {value.shape}" if tf.is_tensor(value) else type(value).__name__
            )
            raise ValueError(f"The {what} of {name} are {actual}, expected {expected}.")


def _beta(alpha: float, count: Any, seed: Any) -> Any:
    """Returns draws of Beta(alpha, alpha), float32 [count]; 1 if alpha is 0."""
    if not alpha:
        return tf.ones([count])
    # A gamma variate of a small shape underflows, its logarithm does not.
    first, second = seeds(seed, 2)
    log_gammas = tf.math.log(tf.random.stateless_gamma([2, count], first, alpha + 1))
    log_gammas += tf.math.log(1 - tf.random.stateless_uniform([2, count], second)) / alpha
    return tf.sigmoid(log_gammas[0] - log_gammas[1])


def _blend(values: Any, own: Any) -> Any:
    """Returns ``own * value + (1 - own) * next`` for each value of the batch."""
    own = tf.cast(own, values.dtype)
    return own * values + (1 - own) * tf.roll(values, -1, axis=0)
