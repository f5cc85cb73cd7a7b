"""Picture files as people see them and as TensorFlow is to see them.

TensorFlow's decoder ignores the orientation a camera noted, drops alpha, reads few formats and ends
a training run at the first damaged file. So every file is fully decoded by Pillow once, and what is
not a plain picture already is written anew.
"""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from tlkeras.frameworks import tf

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
"""The endings of picture files, in lower case."""

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")

# Pillow calls a JPEG that is followed by more of them an MPO.
_JPEG = ("JPEG", "MPO")

# What undoes each value of the EXIF tag; 1, as it stands, and unknown values are not here.
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Where a PNG file tells the bits per channel.
_PNG_DEPTH = 24


def picture(encoded: Any, least: int | None = None) -> Any:
    """Returns uint8 [h, w, 3] of a string tensor that `normalized` gave, inside any graph.

    With `least`, a JPEG is decoded at a half, a quarter or an eighth of its size, as far as its
    shorter side keeps so many pixels: a large photo takes a third of the time or less.
    """

    def whole() -> Any:
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)

    if least is None:
        decoded = whole()
    else:
        decoded = tf.cond(tf.io.is_jpeg(encoded), lambda: _reduced(encoded, least), whole)
    decoded.set_shape([None, None, 3])
    return decoded


def normalized(encoded: bytes, name: str) -> bytes:
    """Returns a JPEG or PNG, RGB or grey, upright, without alpha, of any picture file.

    Raises:
        ValueError: The name and what is wrong with the file.
    """
    with quiet():
        try:
            return standard(encoded)
        except ValueError as error:
            raise ValueError(f"{name} {error}.") from None


def standard(encoded: bytes) -> bytes:
    """Does what `normalized` does, for threads that run inside `quiet`; errors have no name.

    A plain file keeps its bytes. One that was a JPEG becomes a JPEG of quality 95, any other a PNG.
    Alpha is laid on white, of an animation the first frame is taken.
    """
    image = _opened(encoded)
    turn = _TURNS.get(_orientation(image))
    if turn is None and _is_plain(image, encoded):
        return encoded
    lossy = image.format in _JPEG
    image = _without_alpha(_eight_bits(image))
    return _saved(image if turn is None else image.transpose(turn), lossy)


def standard_mask(encoded: bytes) -> bytes:
    """Returns a grey 8-bit PNG whose values are class numbers, palette indices as they are."""
    image = _opened(encoded)
    png = image.format == "PNG"
    if png and image.mode == "L" and encoded[_PNG_DEPTH] == 8:
        return encoded
    if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
        raise ValueError(f"is a mask in colour ({image.mode}), expected one channel")
    numbers = np.asarray(image).astype(np.int64)
    if png and image.mode == "L":  # Pillow spreads 2 and 4 bits over 0 to 255.
        numbers //= 255 // (2 ** encoded[_PNG_DEPTH] - 1)
    if numbers.min() < 0 or numbers.max() > 255:
        raise ValueError(f"is a mask with the value {numbers.max()}, expected 0 to 255")
    return _saved(Image.fromarray(numbers.astype(np.uint8)), lossy=False)


def size(encoded: bytes) -> tuple[int, int]:
    """Returns the height and width of a standard picture, read off its header."""
    with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
        return image.height, image.width


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences Pillow's warnings; entered by one thread for all, as Python's filters are global."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _reduced(encoded: Any, least: int) -> Any:
    shorter = tf.reduce_min(tf.io.extract_jpeg_shape(encoded)[:2])
    fitting = tf.reduce_sum(tf.cast(shorter >= [2 * least, 4 * least, 8 * least], tf.int32))
    ratios = [
        lambda ratio=ratio: tf.io.decode_jpeg(encoded, channels=3, ratio=ratio)
        for ratio in (1, 2, 4, 8)
    ]
    return tf.switch_case(fitting, ratios)


def _opened(encoded: bytes) -> Image.Image:
    """Returns the picture with all its pixels decoded."""
    if not encoded:
        raise ValueError("is an empty file")
    try:
        image = Image.open(io.BytesIO(encoded), formats=_FORMATS)
        if image.format == "PNG":  # Only this checks the sums that TensorFlow checks too.
            image.verify()
            image = Image.open(io.BytesIO(encoded), formats=_FORMATS)
        image.load()
    except Image.UnidentifiedImageError:
        raise ValueError("is none of " + ", ".join(_FORMATS)) from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"is too large to be decoded safely: {error}") from None
    except Exception as error:  # A damaged file makes Pillow raise nearly anything.
        raise ValueError(f"is damaged: {str(error).rstrip('.') or type(error).__name__}") from None
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, OSError, KeyError, TypeError, struct.error):
        return 1  # Damaged notes on a sound picture.


def _is_plain(image: Image.Image, encoded: bytes) -> bool:
    if image.mode not in ("RGB", "L") or image.has_transparency_data:
        return False
    return image.format in _JPEG or (image.format == "PNG" and encoded[_PNG_DEPTH] == 8)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Returns the picture with 16 bits a channel cut down to 8; Pillow itself would clip."""
    if image.mode == "F":
        raise ValueError("has floating-point pixels of unknown range, expected 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() >= 2**16:
        raise ValueError("has 32-bit pixels of unknown range, expected 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})  # Of a TIFF.
    (depth, *_), is_white_zero = tags.get(258, (16,)), tags.get(262) == 0
    values8 = values >> (min(depth, 16) - 8)
    values8 = 255 - values8 if is_white_zero else values8
    if "transparency" in image.info:
        values8[values == image.info["transparency"]] = 255  # As on white, see `_without_alpha`.
    return Image.fromarray(values8.astype(np.uint8))


def _without_alpha(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def _saved(image: Image.Image, lossy: bool) -> bytes:
    image.info.clear()  # A colour profile of the old file need not fit the new.
    buffer = io.BytesIO()
    if lossy:
        image.save(buffer, "JPEG", quality=95)
    else:
        image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
