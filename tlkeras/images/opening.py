"""Opening: picture files opened and decoded by Pillow, and in which words their faults are told."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator

from PIL import Image

from tlkeras.doctor.defects import Unusable
from tlkeras.images import png, signatures

_FORMATS = signatures.READ

# The turn that undoes each value of the EXIF tag; 1 and unknown values need none.
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

# Pixels of a picture and of a side. Most cameras write fewer; a file of some kilobytes could
# have more than the memory holds. No JPEG can be wider.
_MOST_PIXELS, _LONGEST = 2**26, 65_500


def whole(encoded: bytes) -> Image.Image:
    """Returns the picture with all its pixels decoded.

    Raises:
        Unusable: It cannot be decoded, or is too large.
    """
    return loaded(identified(encoded), encoded)


def identified(encoded: bytes) -> Image.Image:
    """Returns the picture with its header read, but no pixels.

    Raises:
        Unusable: It is of no known format, or too large.
    """
    if not encoded:
        raise Unusable("empty file", "is an empty file")
    with _telling(encoded):
        image = Image.open(io.BytesIO(encoded), formats=_FORMATS)
        _require_moderate(image)
    return image


def loaded(image: Image.Image, encoded: bytes) -> Image.Image:
    """Returns a picture with its pixels decoded; raises Unusable if they cannot be."""
    with _telling(encoded):
        if image.format == "PNG":  # Only this checks the sums that TensorFlow checks too.
            image.verify()
            image = Image.open(io.BytesIO(encoded), formats=_FORMATS)
        image.load()
        if image.format == "PNG" and not png.is_whole(encoded):
            raise Unusable("truncated", "is damaged: rows of the picture are missing")
    return image


@contextlib.contextmanager
def _telling(encoded: bytes) -> Iterator[None]:
    """Turns what Pillow raises into Unusable."""
    try:
        yield
    except Image.UnidentifiedImageError:
        raise _unknown(encoded) from None
    except Image.DecompressionBombError as error:
        raise Unusable("too large", f"is too large to be decoded safely: {error}") from None
    except Unusable:
        raise
    except Exception as error:  # A damaged file makes Pillow raise nearly anything.
        told = str(error).rstrip(".") or type(error).__name__
        is_short = "truncated" in told.lower() or _lacks_bytes(encoded)
        defect = "truncated" if is_short else "damaged"
        raise Unusable(defect, f"is damaged: {told}") from None


def _require_moderate(image: Image.Image) -> None:
    """Raises Unusable if a picture that is not decoded yet has too many pixels."""
    if image.width * image.height > _MOST_PIXELS or max(image.size) > _LONGEST:
        raise Unusable(
            "too large",
            f"is too large to be decoded safely: it has {image.height} x {image.width} pixels, "
            f"expected at most {_MOST_PIXELS:,} and {_LONGEST:,} a side; scale it down",
        )


def _lacks_bytes(encoded: bytes) -> bool:
    """Returns whether a WEBP file is shorter than it says; Pillow's own error does not tell."""
    said = int.from_bytes(encoded[4:8], "little") + 8
    return encoded[:4] == b"RIFF" and said > len(encoded)


def _unknown(encoded: bytes) -> Unusable:
    """Returns the error of a file that Pillow does not know, which may be a damaged one."""
    found = signatures.named(encoded)
    if found in _FORMATS:
        return Unusable("damaged", f"is damaged: it begins as {found} and is none that can be read")
    told = f"is none of {', '.join(_FORMATS)}" + (f"; it is {found}" if found else "")
    return Unusable("unsupported format", told)


def turn(image: Image.Image) -> Image.Transpose | None:
    """Returns the turn that brings a picture upright; None if it is."""
    return _TURNS.get(orientation(image))


def orientation(image: Image.Image) -> int:
    """Returns the value of the EXIF tag; 1 is upright, as are pictures without it."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, OSError, KeyError, TypeError, struct.error):
        return 1  # Damaged notes on a sound picture.
