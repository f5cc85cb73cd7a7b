"""Overlays: small transparent pictures of boxes, to be drawn over their picture."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageDraw

from tlkeras.images import masks

_SIDE = 288  # Of what a report shows, in pixels.

# Of the picture below it, at most; a browser leaves out pixels of the overlay to fit it.
_SHOWN = 144


def overlay(boxes: np.ndarray, labels: np.ndarray, size: tuple[float, float]) -> bytes:
    """Returns a PNG file of boxes, each in the colour of its class.

    Args:
        boxes: In pixels of the picture, [n, 4].
        labels: Their classes, [n].
        size: Height and width of the picture.
    """
    scale = _SIDE / max(size)
    line = math.ceil(_SIDE / min(max(size), _SHOWN))
    height, width = (max(1, round(side * scale)) for side in size)
    picture = Image.new("P", (width, height))
    picture.putpalette([0, 0, 0, *(part for number in range(255) for part in masks.colour(number))])
    draw = ImageDraw.Draw(picture)
    for (top, left, bottom, right), label in zip(boxes * scale, labels, strict=True):
        last = (max(left, right - 1), max(top, bottom - 1))
        draw.rectangle([(left, top), last], outline=1 + int(label) % 255, width=line)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=0, optimize=True)
    return buffer.getvalue()
