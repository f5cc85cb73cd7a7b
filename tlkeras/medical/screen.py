"""The screen: from a scanner's values to a picture in 8 bits with square pixels.

A window is the part of the range of values that is shown. Its functions are those of DICOM PS3.3,
C.11.2.1.2 and C.11.2.1.3, with the output range [0, 255].
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from tlkeras.doctor.defects import Unusable

Function = Callable[[np.ndarray, float, float], np.ndarray]
"""From values, the center and the width of a window to numbers of which [0, 1] is shown."""


def told(ranged: int) -> list[str]:
    """Returns a message on files that are shown by the range of the data, if there are any."""
    if not ranged:
        return []
    return [
        f"{ranged:,} files name no window, so the range of the values of all of them is shown. The "
        "pictures of other data would be shown by another range: window=(center, width) shows all "
        "alike."
    ]


def linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Returns ``(x - (c - 0.5)) / (w - 1) + 0.5``, a step if the width is 1."""
    if width <= 1:
        return (values > center - 0.5).astype(np.float32)
    return (values - (center - 0.5)) / (width - 1) + 0.5


def linear_exact(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Returns ``(x - c) / w + 0.5``."""
    return (values - center) / width + 0.5


def sigmoid(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Returns ``1 / (1 + exp(-4 (x - c) / w))``."""
    with np.errstate(over="ignore"):  # The exponential of much is infinite, and its inverse 0.
        return 1 / (1 + np.exp(-4 * (values - center) / width))


FUNCTIONS: dict[str, Function] = {
    "LINEAR": linear,
    "LINEAR_EXACT": linear_exact,
    "SIGMOID": sigmoid,
}
"""The functions by their names in the attribute VOILUTFunction."""

# Where sides of pixels differ less, no one sees it; where they differ more, the header is wrong.
_SQUARE, _FLAT = 0.01, 16.0


def eight_bits(shares: np.ndarray) -> np.ndarray:
    """Returns numbers in [0, 1] as uint8 in [0, 255], rounded; what is beyond is clipped."""
    return np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)


def stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns values as uint8, of which `low` is 0 and `high` 255; all 0 if they are equal."""
    return eight_bits((values - low) / (high - low) if high > low else np.zeros_like(values))


def squared(shown: np.ndarray, aspect: float) -> np.ndarray:
    """Returns pixels resampled so that they are as high as wide; the shorter side grows.

    Args:
        shown: uint8 [h, w] or [h, w, 3].
        aspect: How many times as high as wide a pixel is.

    Raises:
        ValueError: That cannot be true.
    """
    if abs(aspect - 1) <= _SQUARE:
        return shown
    if not 1 / _FLAT <= aspect <= _FLAT:
        raise Unusable("damaged", f"has pixels that are {aspect:.3g} times as high as wide")
    height, width = shown.shape[:2]
    size = (width, round(height * aspect)) if aspect > 1 else (round(width / aspect), height)
    return np.asarray(Image.fromarray(shown).resize(size, Image.Resampling.BILINEAR))


def png(shown: np.ndarray) -> bytes:
    """Returns a picture as a PNG, which has nothing but them."""
    buffer = io.BytesIO()
    Image.fromarray(shown).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
