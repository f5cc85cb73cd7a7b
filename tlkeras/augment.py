"""Augment: random changes of training examples and batches, pure functions of a seed.

`examples` and `batches` apply several in order, each with a seed of its own. All of it runs inside
``tf.data.Dataset.map`` on pictures of any size. Randomness comes from TensorFlow's stateless
generators only: the layers of Keras and keras-cv count their calls, and parallel calls have no
order. What moves an example is in `tlkeras.geometry`, what colours it in `tlkeras.pixels`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tlkeras.frameworks import tf
from tlkeras.geometry import moved, rectangle, rotated, shifted, size_of, warped
from tlkeras.pixels import (
    ENHANCEMENTS,
    Example,
    enhanced,
    equalized,
    painted,
    pixels_of,
    posterized,
    solarized,
    stretched,
)
from tlkeras.spec import Spec

Operation = Callable[[Example, Any], dict[str, Any]]
"""From an example and a level, a tensor in [-1, 1], to an example."""


class Augment(Spec, plugins="tlkeras.augment"):
    """A random change; a member overrides `example` or `batch`, the other changes nothing.

    The seed is an integer tensor [2]: the same gives the same result, bit for bit. Both are traced
    as they stand, so what a tensor's value decides is written with `tf.cond`, not with ``if``.
    """

    @property
    def mixes(self) -> bool:
        """Whether an example depends on the others of its batch: whether `batch` is overridden."""
        return type(self).batch is not Augment.batch

    def example(self, example: Example, seed: Any) -> dict[str, Any]:
        """Returns a decoded example changed, with the same keys and types.

        ``image`` is uint8 or float [h, w, 3] in [0, 255]. Whatever moves pixels moves ``mask``
        [h, w, 1] and ``boxes`` [n, 4] (top, left, bottom, right in [0, 1]) with them: a mask is 255
        where there was no picture, boxes are clipped, and one that is left outside is dropped
        together with its entry of ``box_labels`` [n].
        """
        return dict(example)

    def batch(self, inputs: Any, targets: Any, seed: Any) -> tuple[Any, Any]:
        """Returns a batch of float inputs [b, h, w, 3] and targets [b, classes] changed."""
        return inputs, targets


def examples(augments: Sequence[Augment], example: Example, seed: Any) -> dict[str, Any]:
    """Returns an example after all augmentations; the seed is any number of integers."""
    changed = dict(example)
    for augment, own in zip(augments, _seeds(seed, len(augments)), strict=True):
        changed = augment.example(changed, own)
    return changed


def batches(augments: Sequence[Augment], inputs: Any, targets: Any, seed: Any) -> tuple[Any, Any]:
    """Returns a batch after all augmentations; the seed is any number of integers."""
    for augment, own in zip(augments, _seeds(seed, len(augments)), strict=True):
        inputs, targets = augment.batch(inputs, targets, own)
    return inputs, targets


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


class Color(Augment, name="color"):
    """Scales brightness, contrast and saturation, each by a factor in [1 - x, 1 + x]."""

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def validate(self):
        for kind, strength in self._strengths().items():
            self.require(0 <= strength <= 1, kind, "a part from 0 to 1")

    def example(self, example, seed):
        pixels = pixels_of(example)
        draws = tf.unstack(tf.random.stateless_uniform([3], seed, -1.0, 1.0))
        for (kind, strength), draw in zip(self._strengths().items(), draws, strict=True):
            pixels = enhanced(pixels, kind, strength * draw)
        return painted(example, pixels)

    def _strengths(self) -> dict[str, float]:
        return {kind: getattr(self, kind) for kind in ("brightness", "contrast", "saturation")}


class RandAugment(Augment, name="rand_augment"):
    """Applies so many operations, drawn from the fourteen of RandAugment, at one magnitude.

    Cubuk et al. 2020, https://arxiv.org/abs/1909.13719, with its ranges: magnitude 1 turns by 30
    degrees, shears by 0.3, shifts by 0.45 of a side, changes enhancements by 0.9, keeps 4 bits of a
    posterized and inverts all of a solarized picture. The default is its choice for ImageNet, 9 of
    30. Three operations know no magnitude: none, automatic contrast and equalization.
    """

    operations: int = 2
    magnitude: float = 0.3

    def validate(self):
        self.require(self.operations >= 0, "operations", "at least 0")
        self.require(0 < self.magnitude <= 1, "magnitude", "a part above 0 and at most 1")

    def example(self, example, seed):
        changed = dict(example)
        for own in _seeds(seed, self.operations):
            count = len(_OPERATIONS)
            drawn = tf.random.stateless_uniform([], own, 0, 2 * count, tf.int32)
            level = tf.where(drawn < count, self.magnitude, -self.magnitude)
            branches = [functools.partial(change, changed, level) for change in _OPERATIONS]
            changed = tf.switch_case(drawn % count, branches)
        return changed


class Erase(Augment, name="erase"):
    """Puts noise over a rectangle of up to `scale` of the picture's area.

    Random erasing (Zhong et al. 2020, https://arxiv.org/abs/1708.04896). The ratio of its sides is
    3/10 to 10/3 of the picture's own. What is behind it stays in mask and boxes.
    """

    scale: float = 0.1

    def validate(self):
        self.require(0 <= self.scale < 1, "scale", "a part of the area, at least 0 and below 1")

    def example(self, example, seed):
        place, noise = _seeds(seed, 2)
        draw = tf.random.stateless_uniform([4], place)
        size = size_of(example)
        corner, sides = rectangle(size, self.scale * draw[0], 10 / 3, draw[1:])
        around = tf.pad(tf.stack([corner, size - corner - sides], axis=1), [[0, 1], [0, 0]])
        around = tf.cast(around, tf.int32)
        shape = tf.concat([tf.cast(sides, tf.int32), [3]], axis=0)
        patch = tf.pad(tf.random.stateless_uniform(shape, noise, 0.0, 255.0), around)
        hidden = tf.pad(tf.ones(shape, tf.bool), around)
        return painted(example, tf.where(hidden, patch, pixels_of(example)))


class MixUp(Augment, name="mix_up"):
    """Blends every example of a batch with the next: a part of Beta(alpha, alpha) is its own.

    Zhang et al. 2018, https://arxiv.org/abs/1710.09412. Targets are blended alike. 0 is off.
    """

    alpha: float = 0.2

    def validate(self):
        self.require(self.alpha >= 0, "alpha", "at least 0")

    def batch(self, inputs, targets, seed):
        _check_mixable(self.name, inputs, targets)
        own = _beta(self.alpha, tf.shape(inputs)[0], seed)
        return _blend(inputs, own[:, None, None, None]), _blend(targets, own[:, None])


class CutMix(Augment, name="cut_mix"):
    """Puts a rectangle of the next picture of the batch over each, in the same place.

    Yun et al. 2019, https://arxiv.org/abs/1905.04899: the part that is not covered is of
    Beta(alpha, alpha), the centre of the rectangle uniform, what sticks out is cut off, and targets
    are blended by the pixels that are left. 0 is off.
    """

    alpha: float = 1.0

    def validate(self):
        self.require(self.alpha >= 0, "alpha", "at least 0")

    def batch(self, inputs, targets, seed):
        _check_mixable(self.name, inputs, targets)
        count, height, width = tf.unstack(tf.shape(inputs)[:3])
        first, second = _seeds(seed, 2)
        part = tf.sqrt(1 - _beta(self.alpha, count, first))
        centre = tf.random.stateless_uniform([2, count], second)

        def covered(axis: int, length: Any) -> Any:
            """Returns where the rectangles lie on one axis, bool [b, length]."""
            edges = tf.round((centre[axis] + part * [[-0.5], [0.5]]) * tf.cast(length, tf.float32))
            places = tf.range(length, dtype=tf.float32)
            return (edges[0][:, None] <= places) & (places < edges[1][:, None])

        patch = covered(0, height)[:, :, None, None] & covered(1, width)[:, None, :, None]
        own = 1 - tf.cast(patch, inputs.dtype)
        left = tf.reduce_mean(own, axis=[1, 2, 3])
        return tf.where(patch, tf.roll(inputs, -1, axis=0), inputs), _blend(targets, left[:, None])


def _check_mixable(name: str, inputs: Any, targets: Any) -> None:
    for what, value, rank, expected in (
        ("inputs", inputs, 4, "float pictures [b, h, w, 3]"),
        ("targets", targets, 2, "a float row of classes for each example, [b, classes]"),
    ):
        if not (tf.is_tensor(value) and value.dtype.is_floating and value.shape.rank == rank):
            came = (
                f"{value.dtype.name} {value.shape}" if tf.is_tensor(value) else type(value).__name__
            )
            raise ValueError(f"The {what} of {name} are {came}, expected {expected}.")


def _beta(alpha: float, count: Any, seed: Any) -> Any:
    """Returns draws of Beta(alpha, alpha), float32 [count]; 1 if alpha is 0."""
    if not alpha:
        return tf.ones([count])
    # A gamma variate of a small shape underflows, its logarithm does not.
    first, second = _seeds(seed, 2)
    log_gammas = tf.math.log(tf.random.stateless_gamma([2, count], first, alpha + 1))
    log_gammas += tf.math.log(1 - tf.random.stateless_uniform([2, count], second)) / alpha
    return tf.sigmoid(log_gammas[0] - log_gammas[1])


def _blend(values: Any, own: Any) -> Any:
    """Returns a part of each value and the rest of the next in the batch."""
    own = tf.cast(own, values.dtype)
    return own * values + (1 - own) * tf.roll(values, -1, axis=0)


def _seeds(seed: Any, count: int) -> list[Any]:
    """Returns independent seeds, int32 [2], decided by any number of integers."""
    numbers = tf.unstack(seed) if tf.is_tensor(seed) else seed
    folded = tf.zeros([2], tf.int32)
    for number in numbers:
        folded = tf.random.fold_in(folded, tf.cast(number, tf.int32))
    return [tf.random.fold_in(folded, place) for place in range(count)]


def _painting(change: Callable[[Any, Any], Any]) -> Operation:
    return lambda example, level: painted(example, change(pixels_of(example), level))


def _enhancing(kind: str) -> Operation:
    return _painting(lambda pixels, level: enhanced(pixels, kind, 0.9 * level))


_OPERATIONS: tuple[Operation, ...] = (
    lambda example, level: dict(example),
    *map(_painting, (stretched, equalized, solarized, posterized)),
    *map(_enhancing, ENHANCEMENTS),
    lambda example, level: rotated(example, 30 * level),
    lambda example, level: warped(example, [[1.0, 0.3 * level], [0.0, 1.0]]),
    lambda example, level: warped(example, [[1.0, 0.0], [0.3 * level, 1.0]]),
    lambda example, level: shifted(example, [0.45 * level, 0.0]),
    lambda example, level: shifted(example, [0.0, 0.45 * level]),
)
