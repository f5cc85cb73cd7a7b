"""Pictures as the doctor sees them: their traits, and which are odd."""

from __future__ import annotations

import array
import math
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from tlkeras.doctor import hashes
from tlkeras.doctor.traits import Traits

if TYPE_CHECKING:
    from tlkeras.images.decoding import Examined

ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
}
"""The endings of files by Pillow's name of their format, in lower case."""

_ANY_ENDING = {ending for endings in ENDINGS.values() for ending in endings}

# What people call a mode of Pillow's.
_CALLED = {
    "1": "black and white",
    "L": "greyscale",
    "P": "palette",
    "RGB": "RGB",
    "RGBA": "alpha",
    "LA": "alpha",
    "PA": "alpha",
    "CMYK": "CMYK",
    "I": "16 bits",
    "I;16": "16 bits",
    "I;16B": "16 bits",
    "I;16L": "16 bits",
}

_SMALL, _LARGE = 16, 40e6  # Pixels of the shorter side, and of the area.
_TIMES = 64.0  # A picture's area is so many times the usual one, or a part of it.
_LONG = 5.0  # Times the shorter side.
_BLANK = 2.0  # The deviation of a picture that shows nothing but noise.

# The powers 0, 1 and 2 of every level of grey.
_POWERS = np.arange(256.0) ** np.arange(3)[:, None]

_DIGITS = 3  # Of means and deviations, more than a report shows.


def traits(encoded: bytes, found: Examined) -> dict[str, float | str]:
    """Returns the traits of a picture.

    ``format`` and ``mode`` are Pillow's; ``height`` and ``width`` are upright, in pixels;
    ``bytes`` is the size of the file; ``brightness``, ``contrast`` (a standard deviation) and
    ``border`` (of the outermost pixels) are of its grey in [0, 255], of a plain JPEG the luma that
    is coded in it; ``hash`` is hexadecimal, empty for a blank picture and for a small one.

    Args:
        encoded: The file.
        found: What its decoding gave.
    """
    grey = found.grey
    count, total, squares = (_POWERS @ grey.histogram()).tolist()
    mean = total / count
    deviation = math.sqrt(max(squares / count - mean**2, 0.0))
    return {
        "format": found.format,
        "mode": found.mode,
        "height": found.height,
        "width": found.width,
        "bytes": len(encoded),
        "brightness": round(mean, _DIGITS),
        "contrast": round(deviation, _DIGITS),
        "border": round(float(hashes.edge(np.asarray(grey)).mean()), _DIGITS),
        "hash": hashes.picture(grey) if deviation >= _BLANK else "",
    }


def oddities(traits: Iterable[tuple[str, Traits]]) -> Iterator[tuple[str, str, str]]:
    """Yields ``(id, defect, reason)`` of the pictures that are worth a look; see `Kind.oddities`.

    The commonest mode of the data is no defect, whatever it is.
    """
    modes: Counter[str] = Counter()
    areas, ratios = array.array("d"), array.array("d")
    for _, each in traits:
        modes[_mode(each)] += 1
        height, width = _sides(each)
        areas.append(height * width)
        ratios.append(max(height, width) / min(height, width))
    if not areas:
        return
    usual = max(modes, key=modes.__getitem__)
    area, ratio = float(np.median(areas)), float(np.median(ratios))
    for identity, each in traits:
        found = (
            *_ending(identity, each),
            *_shape(*_sides(each), area, ratio),
            *_content(each),
            *_unlike(_mode(each), usual, modes[usual]),
        )
        for defect, reason in found:
            yield identity, defect, reason


def _mode(each: Traits) -> str:
    return _CALLED.get(str(each["mode"]), str(each["mode"]))


def _sides(each: Traits) -> tuple[int, int]:
    return int(each["height"]), int(each["width"])


def _ending(identity: str, each: Traits) -> Iterator[tuple[str, str]]:
    ending, format = posixpath.splitext(identity)[1].lower(), str(each["format"])
    if ending in _ANY_ENDING and ending not in ENDINGS.get(format, _ANY_ENDING):
        yield "wrong ending", f"is a {format} file called {ending}; it is read all the same"


def _shape(height: int, width: int, area: float, ratio: float) -> Iterator[tuple[str, str]]:
    size = f"has {width} x {height} pixels"
    if min(height, width) < _SMALL or height * width * _TIMES < area:
        yield "very small", size
    if height * width > min(_LARGE, _TIMES * area):
        yield "very large", size
    if (own := max(height, width) / min(height, width)) > max(_LONG, 2 * ratio):
        yield "extreme aspect", f"{size}, one side {own:.1f} times the other"


def _content(each: Traits) -> Iterator[tuple[str, str]]:
    if (contrast := float(each["contrast"])) < _BLANK:
        told = "one grey alone" if contrast == 0 else f"greys that deviate by {contrast:.2g} of 255"
        yield "blank", f"has {told}, {each['brightness']:.0f} in the mean"


def _unlike(mode: str, usual: str, count: int) -> Iterator[tuple[str, str]]:
    if mode != usual:
        yield mode, f"is {mode}, where {count:,} others are {usual}; it is read all the same"
