"""Color: brightness, contrast and saturation."""

from __future__ import annotations

from tlkeras.augment import Augment
from tlkeras.frameworks import tf
from tlkeras.images.pixels import enhanced, painted, pixels_of


class Color(Augment, name="color"):
    """Scales brightness, contrast and saturation, each by a factor in [1 - x, 1 + x]."""

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def validate(self):
        for kind, strength in self._strengths().items():
            self.require(0 <= strength <= 1, kind, "a fraction from 0 to 1")

    def example(self, example, seed):
        pixels = pixels_of(example)
        draws = tf.unstack(tf.random.stateless_uniform([3], seed, -1.0, 1.0))
        for (kind, strength), draw in zip(self._strengths().items(), draws, strict=True):
            pixels = enhanced(pixels, kind, strength * draw)
        return painted(example, pixels)

    def _strengths(self) -> dict[str, float]:
        return {kind: getattr(self, kind) for kind in ("brightness", "contrast", "saturation")}
