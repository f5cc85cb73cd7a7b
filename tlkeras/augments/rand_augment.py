"""RandAugment: a few random operations of fourteen."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tlkeras.augment import Augment, seeds
from tlkeras.frameworks import tf
from tlkeras.images.geometry import rotated, shifted, warped
from tlkeras.images.pixels import (
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

Operation = Callable[[Example, Any], dict[str, Any]]
"""A function from an example and a level, a tensor in [-1, 1], to an example."""


class RandAugment(Augment, name="rand_augment"):
    """Applies a number of random operations, of RandAugment's fourteen, at one magnitude.

    Cubuk et al. 2020, https://arxiv.org/abs/1909.13719, with its ranges. Magnitude 1 rotates by 30
    degrees, shears by 0.3, shifts by 0.45 of a side and changes enhancements by 0.9. It posterizes
    to 4 bits and solarizes every pixel. The default is the paper's choice for ImageNet, 9 of 30.
    Three operations ignore the magnitude: identity, automatic contrast and equalization.
    """

    operations: int = 2
    magnitude: float = 0.3

    def validate(self):
        self.require(self.operations >= 0, "operations", "at least 0")
        self.require(0 < self.magnitude <= 1, "magnitude", "a fraction in (0, 1]")

    def example(self, example, seed):
        augmented = dict(example)
        for own in seeds(seed, self.operations):
            count = len(_OPERATIONS)
            drawn = tf.random.stateless_uniform([], own, 0, 2 * count, tf.int32)
            level = tf.where(drawn < count, self.magnitude, -self.magnitude)
            branches = [functools.partial(change, augmented, level) for change in _OPERATIONS]
            augmented = tf.switch_case(drawn % count, branches)
        return augmented


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
