"""Heat: small transparent pictures of numbers by place, to be laid over their picture.

The colours run from dark blue over grey to yellow, as those of cividis do: people who see colours
otherwise see the same order (Nuñez et al. 2018, https://doi.org/10.1371/journal.pone.0199239).
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_SIDE = 96  # Pixels of an overlay; a page stretches it over the picture.
_LEVELS = 32

# Red, green, blue and opacity at the lowest, the middle and the highest value.
_COLOURS = np.array([(0, 34, 78, 165), (124, 123, 120, 100), (254, 232, 56, 140)], np.float64)


def overlay(heat: np.ndarray) -> bytes:
    """Returns a PNG file of places [rows, columns]: 0 and below is lowest, the largest highest."""
    levels = _levels(heat)
    picture = Image.fromarray(np.rint(levels * (_LEVELS - 1)).astype(np.uint8), "L")
    colours = np.rint(_coloured(np.linspace(0, 1, _LEVELS))).astype(np.uint8)
    indexed = Image.new("P", picture.size)
    indexed.putdata(picture.get_flattened_data())
    indexed.putpalette(colours[:, :3].tobytes())
    buffer = io.BytesIO()
    indexed.save(buffer, "PNG", transparency=colours[:, 3].tobytes(), optimize=True)
    return buffer.getvalue()


def over(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Returns a picture, uint8 [h, w, 3], with heat laid over it."""
    size = picture.shape[1], picture.shape[0]
    levels = Image.fromarray(_levels(heat)).resize(size, Image.Resampling.BILINEAR)
    colours = _coloured(np.asarray(levels).clip(0, 1))
    share = colours[..., 3:] / 255
    return np.rint(picture * (1 - share) + colours[..., :3] * share).astype(np.uint8)


def place(heat: np.ndarray) -> str:
    """Returns where heat is greatest, in words; an empty text if it is nowhere above 0."""
    if heat.max() <= 0:
        return ""
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    down, across = (
        min(int(3 * (at + 0.5) / count), 2)
        for at, count in zip((row, column), heat.shape, strict=True)
    )
    if down == across == 1:
        return "in the middle"
    words = [["at the top", "", "at the bottom"][down], ["left", "", "right"][across]]
    return " ".join(filter(None, words)) if down != 1 else f"at the {words[1]}"


def _levels(heat: np.ndarray) -> np.ndarray:
    """Returns float32 [_SIDE, _SIDE] in [0, 1]."""
    positive = np.maximum(heat, 0).astype(np.float32)
    highest = positive.max()
    scaled = positive / highest if highest > 0 else positive
    found = Image.fromarray(scaled).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return np.asarray(found).clip(0, 1)


def _coloured(levels: np.ndarray) -> np.ndarray:
    """Returns red, green, blue and opacity in [0, 255] of levels in [0, 1]."""
    ends = np.linspace(0, 1, len(_COLOURS))
    return np.stack([np.interp(levels, ends, channel) for channel in _COLOURS.T], axis=-1)
