"""Masks as decoded: 0 is of no class, 1 + c of class c, and of 255 nothing is said."""

from __future__ import annotations

import colorsys
import io

import numpy as np
from PIL import Image

IGNORE = 255

VALUES = 256
"""The numbers that a mask can hold."""

_SIDE = 144  # Of what a report shows, in pixels.


def nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a mask [h, w] at another size, of each new pixel the old one at its middle."""
    if mask.shape == tuple(size):
        return mask
    rows, columns = (
        np.floor((np.arange(new) + 0.5) * (old / new)).astype(np.intp)
        for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[rows[:, None], columns]


def colour(number: int) -> tuple[int, int, int]:
    """Returns red, green and blue of a number; hues of following numbers are far apart."""
    if number == IGNORE:
        return 128, 128, 128
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def overlay(mask: np.ndarray) -> bytes:
    """Returns a small PNG file of a mask: classes in colours, the background transparent."""
    height, width = mask.shape
    scale = min(1.0, _SIDE / max(height, width))
    small = nearest(mask, (max(1, round(height * scale)), max(1, round(width * scale))))
    picture = Image.fromarray(small, "P")
    picture.putpalette([part for number in range(256) for part in colour(number)])
    buffer = io.BytesIO()
    # More than half opaque: the class and the picture below it are both seen.
    alphas = bytes([0, *[150] * 255])
    picture.save(buffer, "PNG", transparency=alphas, optimize=True)
    return buffer.getvalue()
