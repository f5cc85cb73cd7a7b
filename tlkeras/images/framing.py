"""Framing: how a picture becomes the square that pretrained weights were trained on."""

from __future__ import annotations

from typing import Any, NamedTuple

from tlkeras.frameworks import tf


class Framing(NamedTuple):
    """The square of a picture: a resize, and a crop before it.

    Attributes:
        size: The height and width of the square.
        method: Of `tf.image.resize`.
        antialias: Whether every pixel counts where a picture shrinks.
        crop: Whether the square in the middle is taken; if not, the sides are scaled independently.
    """

    size: int
    method: str = "bicubic"
    antialias: bool = True
    crop: bool = True

    def __call__(self, image: Any) -> Any:
        """Returns float32 [size, size, 3] in [0, 255] of a picture [h, w, 3], or of a batch.

        Bytes stay whole numbers, as with Pillow and KerasHub. Cubic functions overshoot at edges,
        where values are clipped.
        """
        pixels = tf.cast(self._middle(image) if self.crop else image, tf.float32)
        square = tf.image.resize(
            pixels, [self.size, self.size], self.method, antialias=self.antialias
        )
        return tf.clip_by_value(tf.round(square) if image.dtype.is_integer else square, 0.0, 255.0)

    def _middle(self, image: Any) -> Any:
        height, width = tf.shape(image)[-3], tf.shape(image)[-2]
        side = tf.minimum(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return image[..., top : top + side, left : left + side, :]
