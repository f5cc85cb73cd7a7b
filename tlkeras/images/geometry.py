"""Geometry: transforms of an example's picture, mask and boxes together.

Places and sizes are (y, x). Keras provides only the affine transform, which has no state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tlkeras.frameworks import keras, tf
from tlkeras.images.pixels import Example, converted, image_of

# The interpolation of pictures and masks, and their fill value beyond the edge: the grey of the
# published policies, and the class number that segmentation ignores.
_INTERPOLATION_AND_FILL = {"image": ("bilinear", 128), "mask": ("nearest", 255)}

OF_BOXES = ("labels", "ignored")
"""The keys with a value for each of the ``boxes``."""

# A box is dropped if less than this fraction of its area stays in the picture.
_LEAST_LEFT = 1e-3


def size_of(example: Example) -> Any:
    """Returns height and width of an example's picture, float32 [2]."""
    return tf.cast(tf.shape(image_of(example))[:2], tf.float32)


def rectangle(size: Any, area: Any, widest: float, draw: Any) -> tuple[Any, Any]:
    """Returns corner and sides, (y, x) in whole pixels, of a rectangle inside a picture.

    `area` is its fraction of the picture. Three draws from [0, 1) decide its aspect ratio, in
    [1 / widest, widest] of the picture's own, and its place.
    """
    ratio = tf.minimum(widest, 1 / area) ** (2 * draw[0] - 1)  # A side is at most the picture's.
    sides = tf.minimum(tf.math.ceil(tf.sqrt([area / ratio, area * ratio]) * size), size)
    return tf.minimum(tf.floor(draw[1:] * (size - sides + 1)), size - sides), sides


def rotated(example: Example, degrees: Any) -> dict[str, Any]:
    """Returns an example rotated about its centre, anticlockwise if `degrees` is above 0."""
    angle = degrees * (math.pi / 180)
    return warped(example, [[tf.cos(angle), -tf.sin(angle)], [tf.sin(angle), tf.cos(angle)]])


def shifted(example: Example, part: Any) -> dict[str, Any]:
    """Returns an example shifted down and to the right by fractions (y, x) of its sides."""
    return warped(example, [[1.0, 0.0], [0.0, 1.0]], size_of(example) * part)


def windowed(example: Example, corner: Any, sides: Any) -> dict[str, Any]:
    """Returns what is in a window, its corner and sides (y, x) in whole pixels of the picture.

    A window may reach outside of the picture, but not lie beside it.
    """
    size = size_of(example)
    start, stop = tf.maximum(corner, 0.0), tf.minimum(corner + sides, size)
    around = tf.stack([start - corner, corner + sides - stop], axis=1)
    around = tf.cast(tf.pad(around, [[0, 1], [0, 0]]), tf.int32)
    (top, left), (bottom, right) = (tf.unstack(tf.cast(end, tf.int32)) for end in (start, stop))

    def move(pixels: Any, _: str, fill: int) -> Any:
        framed = tf.pad(pixels[top:bottom, left:right], around, constant_values=fill)
        return tf.ensure_shape(framed, [None, None, pixels.shape[-1]])

    return moved(example, move, lambda corners: (corners * size - corner) / sides)


def warped(example: Example, rows: Any, shift: Any = (0.0, 0.0)) -> dict[str, Any]:
    """Returns an example with each point p, (y, x) in pixels from the centre, at rows p + shift.

    The determinant of `rows` is 1.
    """
    size = size_of(example)
    (a, b), (c, d) = rows
    forward, backward = tf.stack([[a, b], [c, d]]), tf.stack([[d, -b], [-c, a]])
    shift = tf.convert_to_tensor(shift)

    def move(pixels: Any, interpolation: str, fill: int) -> Any:
        centre = (size - 1) / 2  # Coordinates are those of pixel centres.
        start = centre - tf.linalg.matvec(backward, centre + shift)
        inverse = tf.concat([backward[::-1, ::-1], start[::-1, None]], axis=1)  # In (x, y).
        result = keras.ops.image.affine_transform(
            tf.cast(pixels, tf.float32),
            tf.concat([tf.reshape(inverse, [6]), [0.0, 0.0]], axis=0),
            interpolation,
            "constant",
            fill,
            data_format="channels_last",
        )
        return converted(pixels.dtype, result)

    def place(corners: Any) -> Any:
        low, high = tf.unstack(corners * size - size / 2, axis=1)
        middle = tf.matmul((low + high) / 2, forward, transpose_b=True) + size / 2 + shift
        half = tf.matmul((high - low) / 2, tf.abs(forward), transpose_b=True)
        return tf.stack([middle - half, middle + half], axis=1) / size

    return moved(example, move, place)


def moved(
    example: Example, move: Callable[[Any, str, int], Any], place: Callable[[Any], Any]
) -> dict[str, Any]:
    """Returns an example moved.

    Args:
        example: What to move.
        move: Maps pixels, an interpolation and a fill value to pixels.
        place: Maps corners, float [n, 2, 2], to corners: lower and upper, each (y, x) in [0, 1].
    """
    image_of(example)
    result = dict(example)
    for key, interpolation_and_fill in _INTERPOLATION_AND_FILL.items():
        if key in example:
            result[key] = move(example[key], *interpolation_and_fill)
    if "boxes" in example:
        corners = place(tf.reshape(example["boxes"], [-1, 2, 2]))
        clipped = tf.clip_by_value(corners, 0.0, 1.0)
        before, left = (
            tf.reduce_prod(both[:, 1] - both[:, 0], axis=-1) for both in (corners, clipped)
        )
        is_inside = left > _LEAST_LEFT * before
        result["boxes"] = tf.reshape(tf.boolean_mask(clipped, is_inside), [-1, 4])
        for key in OF_BOXES:
            if key in example:
                result[key] = tf.boolean_mask(example[key], is_inside)
    return result
