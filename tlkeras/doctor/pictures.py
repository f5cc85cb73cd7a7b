"""Pictures as the doctor sees them: their traits, and which are odd."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tlkeras.doctor import hashes

_DIGITS = 3  # Of means and deviations, more than a report shows.


def traits(encoded: bytes, opened: Image.Image, plain: Image.Image) -> dict[str, float | str]:
    """Returns the traits of a picture.

    ``format`` and ``mode`` are Pillow's; ``height`` and ``width`` are upright, in pixels;
    ``bytes`` is the size of the file; ``brightness``, ``contrast`` (a standard deviation) and
    ``border`` (of the outermost pixels) are of its grey in [0, 255]; ``hash`` is hexadecimal.

    Args:
        encoded: The file.
        opened: The picture as Pillow opened it.
        plain: The same with 8 bits a channel, upright, RGB or grey.
    """
    grey = plain.convert("L")
    counts = np.array(grey.histogram(), np.float64)
    levels = np.arange(256)
    mean = counts @ levels / counts.sum()
    deviation = np.sqrt(max(counts @ levels**2 / counts.sum() - mean**2, 0.0))
    return {
        "format": opened.format or "",
        "mode": opened.mode,
        "height": plain.height,
        "width": plain.width,
        "bytes": len(encoded),
        "brightness": round(float(mean), _DIGITS),
        "contrast": round(float(deviation), _DIGITS),
        "border": round(_border(grey), _DIGITS),
        "hash": hashes.picture(grey),
    }


def _border(grey: Image.Image) -> float:
    """Returns the mean of the outermost pixels."""
    pixels = np.asarray(grey)
    sides = [pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]]
    return float(np.concatenate(sides).mean())
