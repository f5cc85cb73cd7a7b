"""Flip, crop, zoom and rotate: they move the pixels, the mask and the boxes of an example."""

from __future__ import annotations

from tlkeras.augment import Augment
from tlkeras.frameworks import tf
from tlkeras.images.geometry import moved, rectangle, rotated, size_of, windowed


class Flip(Augment, name="flip"):
    """Mirrors a picture left to right, top to bottom, or both, each with probability 1/2."""

    horizontal: bool = True
    vertical: bool = False

    def example(self, example, seed):
        axes = (tf.random.stateless_uniform([2], seed) < 0.5) & [self.vertical, self.horizontal]
        return moved(
            example,
            lambda pixels, *_: tf.raw_ops.Reverse(
                tensor=pixels, dims=tf.concat([axes, [False]], axis=0)
            ),
            lambda corners: tf.where(axes, 1 - tf.reverse(corners, [1]), corners),
        )


class Crop(Augment, name="crop"):
    """Crops a picture to a random rectangle of `scale` to 1 of its area; does not resize.

    The random crop of Inception (Szegedy et al. 2015, https://arxiv.org/abs/1409.4842), but for its
    aspect ratio. It is [3/4, 4/3] of the picture's own: the distortion that the network sees after
    the resize to its input. So wide pictures are cropped like square ones.
    """

    scale: float = 0.8

    def validate(self):
        self.require(0 < self.scale <= 1, "scale", "a fraction in (0, 1]")

    def example(self, example, seed):
        draw = tf.random.stateless_uniform([4], seed)
        area = self.scale + (1 - self.scale) * draw[0]
        corner, sides = rectangle(size_of(example), area, 4 / 3, draw[1:])
        return windowed(example, corner, sides)


class Zoom(Augment, name="zoom"):
    """Shows a window larger or smaller than the picture, at a random place; does not resize.

    The roots of its sides' product are 1 / `scale` to `scale` of the picture's, and its aspect
    ratio is 1 / `ratio` to `ratio` of the picture's own. Each is as often below 1 as above. Along a
    side a smaller window lies inside of the picture and a larger one around it, grey beside it.
    """

    scale: float = 1.5
    ratio: float = 1.25

    def validate(self):
        self.require(1 <= self.scale <= 4, "scale", "a factor from 1 to 4")
        self.require(1 <= self.ratio <= 4, "ratio", "a factor from 1 to 4")

    def example(self, example, seed):
        scale, ratio, *place = tf.unstack(tf.random.stateless_uniform([4], seed, -1.0, 1.0))
        stretch = self.ratio ** (ratio / 2)
        size = size_of(example)
        part = self.scale**scale * tf.stack([1 / stretch, stretch])
        sides = tf.maximum(tf.round(part * size), 1.0)
        # Where the window is larger, its corner is outside of the picture.
        corner = tf.round((tf.stack(place) + 1) / 2 * (size - sides))
        return windowed(example, corner, sides)


class Rotate(Augment, name="rotate"):
    """Rotates a picture about its centre by up to `degrees`, in either direction.

    A box becomes the smallest upright box around the rotated one.
    """

    degrees: float = 15.0

    def validate(self):
        self.require(0 <= self.degrees <= 180, "degrees", "an angle from 0 to 180")

    def example(self, example, seed):
        return rotated(example, self.degrees * tf.random.stateless_uniform([], seed, -1.0, 1.0))
