"""Erase: noise over a rectangle of the picture."""

from __future__ import annotations

from tlkeras.augment import Augment, seeds
from tlkeras.frameworks import tf
from tlkeras.images.geometry import rectangle, size_of
from tlkeras.images.pixels import painted, pixels_of


class Erase(Augment, name="erase"):
    """Puts noise over a rectangle of up to `scale` of the picture's area.

    Random erasing (Zhong et al. 2020, https://arxiv.org/abs/1708.04896). Its aspect ratio is 3/10
    to 10/3 of the picture's own. Mask and boxes do not change.
    """

    scale: float = 0.1

    def validate(self):
        self.require(0 <= self.scale < 1, "scale", "a fraction of the area in [0, 1)")

    def example(self, example, seed):
        place, noise = seeds(seed, 2)
        draw = tf.random.stateless_uniform([4], place)
        size = size_of(example)
        corner, sides = rectangle(size, self.scale * draw[0], 10 / 3, draw[1:])
        around = tf.pad(tf.stack([corner, size - corner - sides], axis=1), [[0, 1], [0, 0]])
        around = tf.cast(around, tf.int32)
        shape = tf.concat([tf.cast(sides, tf.int32), [3]], axis=0)
        patch = tf.pad(tf.random.stateless_uniform(shape, noise, 0.0, 255.0), around)
        hidden = tf.pad(tf.ones(shape, tf.bool), around)
        return painted(example, tf.where(hidden, patch, pixels_of(example)))
