"""Pixels: the picture of an example as floats, and the colour arithmetic of Pillow on it.

The published policies were tuned with Pillow. Pixels are float32 [h, w, 3] in [0, 255], unless a
function names another type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tlkeras.frameworks import tf

Example = Mapping[str, Any]

# For sharpness, the middle of 3 x 3 pixels counts five times.
ENHANCEMENTS: dict[str, Callable[[Any], Any]] = {
    "brightness": lambda pixels: tf.zeros_like(pixels),
    "contrast": lambda pixels: tf.reduce_mean(tf.image.rgb_to_grayscale(pixels)),
    "saturation": lambda pixels: tf.image.rgb_to_grayscale(pixels),
    "sharpness": lambda pixels: (
        (9 * tf.nn.avg_pool2d(pixels[None], 3, 1, "SAME")[0] + 4 * pixels) / 13
    ),
}
"""The opposite extreme of each enhancement: maps pixels to pixels or to a broadcastable tensor."""


def pixels_of(example: Example) -> Any:
    """Returns the picture of an example, float32."""
    return tf.cast(image_of(example), tf.float32)


def painted(example: Example, pixels: Any) -> dict[str, Any]:
    """Returns an example with other pixels, clipped to [0, 255]."""
    dtype = image_of(example).dtype
    return {**example, "image": converted(dtype, tf.clip_by_value(pixels, 0.0, 255.0))}


def image_of(example: Example) -> Any:
    """Returns the picture of an example, of any type."""
    if "image" not in example:
        raise ValueError(f"No 'image' to augment; this example has {', '.join(sorted(example))}.")
    return example["image"]


def converted(dtype: Any, pixels: Any) -> Any:
    """Returns float pixels of any shape as another type, rounded for an integer type."""
    return tf.cast(pixels if dtype.is_floating else tf.round(pixels), dtype)


def enhanced(pixels: Any, kind: str, strength: Any) -> Any:
    """Returns pixels at a strength: -1 is the opposite extreme, 0 changes nothing."""
    other = ENHANCEMENTS[kind](pixels)
    return tf.clip_by_value(pixels + strength * (pixels - other), 0.0, 255.0)


def solarized(pixels: Any, level: Any) -> Any:
    """Returns pixels with all values from 256 (1 - abs(level)) on inverted."""
    return tf.where(pixels < 256 * (1 - tf.abs(level)), pixels, 255 - pixels)


def posterized(pixels: Any, level: Any) -> Any:
    """Returns pixels without their lowest bits: without four at level 1 or -1, with all at 0."""
    step = 2 ** tf.round(4 * tf.abs(level))
    return tf.floor(pixels / step) * step


def stretched(pixels: Any, level: Any) -> Any:
    """Returns every channel stretched to [0, 255]; a channel of one value does not change.

    The level has no effect.
    """
    low, high = (reduce(pixels, [0, 1]) for reduce in (tf.reduce_min, tf.reduce_max))
    return tf.where(high > low, tf.math.divide_no_nan(255 * (pixels - low), high - low), pixels)


def equalized(pixels: Any, level: Any) -> Any:
    """Returns every channel with a flat histogram.

    It uses integers, as Pillow does; Keras's own layer overflows above 8.4 million pixels. The
    level has no effect.
    """
    values = tf.cast(pixels, tf.int32)
    places = values + tf.constant([0, 256, 512])
    counts = tf.reshape(tf.math.bincount(places, minlength=768, maxlength=768), [3, 256])
    brightest = tf.gather(counts, tf.reduce_max(values, [0, 1]), batch_dims=1)
    step = (tf.reduce_sum(counts, axis=1) - brightest) // 255
    table = tf.cumsum(counts, axis=1, exclusive=True) + step[:, None] // 2
    table = tf.minimum(table // tf.maximum(step, 1)[:, None], 255)
    flat = tf.gather(tf.reshape(table, [-1]), places)
    return tf.where(step > 0, tf.cast(flat, tf.float32), pixels)


def squash(image: Any, size: int) -> Any:
    """Returns float32 [size, size, 3] in [0, 255] of a picture [h, w, 3], or the same of a batch.

    It scales the sides of the whole picture independently. Antialiasing makes every pixel count, so
    the input hardly depends on the picture's resolution.
    """
    # A resize of bytes is faster and equal to the bit; it leaves a picture of this size unchanged.
    return tf.cast(tf.image.resize(image, [size, size], antialias=True), tf.float32)
