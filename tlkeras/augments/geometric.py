"""Flip, crop and rotate: what moves the pixels of an example, its mask and its boxes."""

from __future__ import annotations

from tlkeras.augment import Augment
from tlkeras.frameworks import tf
from tlkeras.images.geometry import moved, rectangle, rotated, size_of


class Flip(Augment, name="flip"):
    """Mirrors one picture in two left to right, and independently of that top to bottom."""

    horizontal: bool = True
    vertical: bool = False

    def example(self, example, seed):
        turned = (tf.random.stateless_uniform([2], seed) < 0.5) & [self.vertical, self.horizontal]
        return moved(
            example,
            lambda pixels, *_: tf.raw_ops.Reverse(
                tensor=pixels, dims=tf.concat([turned, [False]], axis=0)
            ),
            lambda corners: tf.where(turned, 1 - tf.reverse(corners, [1]), corners),
        )


class Crop(Augment, name="crop"):
    """Cuts out a part of the picture, `scale` to 1 of its area; nothing is resized.

    The random crop of Inception (Szegedy et al. 2015, https://arxiv.org/abs/1409.4842), but for its
    sides: their ratio lies in [3/4, 4/3] of the picture's own, which is the distortion a network
    sees once the crop is resized to its input. So wide pictures are cropped like square ones.
    """

    scale: float = 0.8

    def validate(self):
        self.require(0 < self.scale <= 1, "scale", "a part above 0 and at most 1")

    def example(self, example, seed):
        draw = tf.random.stateless_uniform([4], seed)
        area = self.scale + (1 - self.scale) * draw[0]
        corner, sides = rectangle(size_of(example), area, 4 / 3, draw[1:])
        (top, left), (bottom, right) = (
            tf.unstack(tf.cast(end, tf.int32)) for end in (corner, corner + sides)
        )
        return moved(
            example,
            lambda pixels, *_: pixels[top:bottom, left:right],
            lambda corners: (corners * size_of(example) - corner) / sides,
        )


class Rotate(Augment, name="rotate"):
    """Turns the picture about its centre by up to so many degrees, either way.

    A box becomes the smallest upright one around the turned box.
    """

    degrees: float = 15.0

    def validate(self):
        self.require(0 <= self.degrees <= 180, "degrees", "an angle from 0 to 180")

    def example(self, example, seed):
        return rotated(example, self.degrees * tf.random.stateless_uniform([], seed, -1.0, 1.0))
