"""Decoding: picture files as people see them, written so that TensorFlow sees the same.

TensorFlow's decoder ignores the camera's orientation, drops alpha, reads few formats and ends a
training run at the first damaged file. So Pillow decodes every file once, and writes it anew unless
it is a plain picture already. Of a plain JPEG all coded data are read, so that any fault is found,
but no colours are made, and a large one is made small by libjpeg itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlkeras.doctor.defects import Unusable
from tlkeras.frameworks import tf
from tlkeras.images import metadata, opening, png, signatures

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
"""The endings of picture files, in lower case."""

# Pillow calls a JPEG that is followed by more of them an MPO.
_JPEG = ("JPEG", "MPO")

_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"

_QUARTERS = (5, 6, 7, 8)

# Pixels of the shorter side that a reduced picture keeps, so that its contrast is nearly that of
# the whole: at 128 it was a seventh of a deviation less on photos of streets.
_LEAST = 256

# Where a PNG file has the bits per channel, and the tags of a TIFF for its sides, them and black.
_PNG_DEPTH = 24
_WIDTH, _HEIGHT, _BITS, _MEANING = 256, 257, 258, 262


def picture(encoded: Any, least: int | None = None) -> Any:
    """Returns uint8 [h, w, 3] of the bytes of a standard picture, a string tensor in any graph.

    With `least`, a JPEG is decoded at a half, a quarter or an eighth of its size, as long as its
    shorter side has so many pixels: a large photo takes a third of the time or less.
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
        ValueError: The name of the file and its fault.
    """
    with quiet():
        try:
            return standard(encoded)
        except ValueError as error:
            raise ValueError(f"{name} {error}.") from None


def standard(encoded: bytes) -> bytes:
    """Returns the same as `normalized`, for threads inside `quiet`; errors have no name.

    A plain file keeps its coded pixels; `metadata.stripped` tells what else of it stays. Another
    JPEG becomes a JPEG of quality 95, any other file a PNG.
    Alpha goes onto white; an animation is its first frame; 16 bits become their upper 8.
    """
    return examined(encoded).standard


@dataclasses.dataclass(frozen=True)
class Examined:
    """What one decoding of a picture file gives.

    Attributes:
        standard: The bytes that `standard` returns.
        format: Pillow's name of the format.
        mode: Pillow's name of the mode.
        height: Of the upright picture.
        width: Of the upright picture.
        grey: The upright picture in grey with 8 bits, without alpha. A large plain JPEG is reduced
            to a half, a quarter or an eighth, but no side to fewer than `_LEAST` pixels.
    """

    standard: bytes
    format: str
    mode: str
    height: int
    width: int
    grey: Image.Image


def examined(encoded: bytes) -> Examined:
    """Returns what `standard` does, and what else a single decoding tells."""
    image = opening.identified(encoded)
    format, mode = image.format or "", image.mode
    if format in _JPEG and _is_plain(image, encoded):
        kept = metadata.stripped(encoded)
        if kept is not None and opening.turn(image) is None:
            height, width = image.height, image.width
            image.draft("L", (_LEAST, _LEAST))
            return Examined(kept, format, mode, height, width, opening.loaded(image, encoded))
    image = opening.loaded(image, encoded)
    turn = opening.turn(image)
    if turn is None and _is_plain(image, encoded):
        plain, kept = image, metadata.stripped(encoded) or _saved(image, lossy=False)
    else:
        plain = _without_alpha(_eight_bits(image))
        plain = plain if turn is None else plain.transpose(turn)
        kept = _saved(plain, format in _JPEG)
    return Examined(kept, format, mode, plain.height, plain.width, plain.convert("L"))


def standard_mask(encoded: bytes) -> bytes:
    """Returns a grey 8-bit PNG whose values are class numbers: of a palette its indices."""
    image = opening.whole(encoded)
    if image.format == "PNG" and image.mode == "L" and encoded[_PNG_DEPTH] == 8:
        return metadata.stripped(encoded) or _saved(image, lossy=False)
    if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
        raise ValueError(f"is a mask in colour ({image.mode}), expected one channel")
    numbers = _numbers(image, encoded)
    if numbers.min() < 0 or numbers.max() > 255:
        raise ValueError(f"is a mask with the value {numbers.max()}, expected 0 to 255")
    return mask_file(numbers)


def mask_file(numbers: np.ndarray) -> bytes:
    """Returns the grey 8-bit PNG of whole numbers from 0 to 255, [h, w]."""
    return _saved(Image.fromarray(numbers.astype(np.uint8)), lossy=False)


def mask_numbers(encoded: bytes) -> np.ndarray:
    """Returns the values of a mask, int64 [h, w]; of a palette its indices.

    Raises:
        ValueError: It cannot be read, or is in colour.
    """
    image = opening.whole(encoded)
    if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
        raise ValueError(f"is a mask in colour ({image.mode}), expected one channel")
    return _numbers(image, encoded)


def mask_colours(encoded: bytes) -> np.ndarray:
    """Returns the colours of a mask, uint8 [h, w, 3].

    Raises:
        ValueError: It cannot be read, or a colour may have changed when it was written.
    """
    image = opening.whole(encoded)
    if image.format in (*_JPEG, "WEBP"):
        raise ValueError(f"is a mask as {image.format}, which changes colours; expected a PNG")
    return np.asarray(image.convert("RGB"))


def turned(encoded: bytes, mask: np.ndarray) -> np.ndarray:
    """Returns the mask of a picture upright, as the picture will be.

    Some tools draw masks on the picture as its camera stored it. Only the size tells, so a mask of
    another size than the upright picture is turned if it has the size of the stored one.
    """
    image = Image.open(io.BytesIO(encoded), formats=signatures.READ)
    turn, (stored, upright) = opening.turn(image), _stored_and_upright(image)
    if turn is None or not mask.shape == stored != upright:
        return mask
    return np.asarray(Image.fromarray(mask).transpose(turn))


def upright_size(encoded: bytes) -> tuple[int, int]:
    """Returns the height and width of a picture file as `standard` gives them, from its header.

    Raises:
        ValueError: It is no picture.
    """
    try:
        image = Image.open(io.BytesIO(encoded), formats=signatures.READ)
    except Exception as error:  # A damaged file makes Pillow raise nearly anything.
        raise ValueError(f"is damaged: {error}") from None
    _, upright = _stored_and_upright(image)
    return upright


def _stored_and_upright(image: Image.Image) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns (height, width) of a picture that is not decoded yet, as stored and upright.

    Of a TIFF its tags tell, as Pillow states the upright size.
    """
    tags = _tags(image)
    height, width = tags.get(_HEIGHT, image.height), tags.get(_WIDTH, image.width)
    is_turned = opening.orientation(image) in _QUARTERS
    return (height, width), (width, height) if is_turned else (height, width)


def _numbers(image: Image.Image, encoded: bytes) -> np.ndarray:
    numbers = np.asarray(image).astype(np.int64)
    if image.format == "PNG" and image.mode == "L":  # Pillow spreads 2 and 4 bits over 0 to 255.
        numbers //= 255 // (2 ** min(encoded[_PNG_DEPTH], 8) - 1)
    return numbers


def brightest(encoded: bytes) -> int:
    """Returns the largest value of a readable picture of one channel with 16 bits, else -1.

    Scanners write 12 bits into 16: of one file nobody knows, of a whole data set one does.
    """
    is_deep_png = encoded[:4] == b"\x89PNG" and encoded[_PNG_DEPTH] == 16
    if not is_deep_png and encoded[:2] not in (b"II", b"MM"):
        return -1
    image = opening.whole(encoded)
    return (
        int(np.asarray(image).max()) if image.mode.startswith("I") and _depth(image) == 16 else -1
    )


def size(encoded: bytes) -> tuple[int, int]:
    """Returns the height and width of a standard picture, from its header."""
    return metadata.size(encoded)


def sizes(file: Path) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Returns (height, width) of a picture file as it is stored and upright, and its EXIF turn.

    Raises:
        ValueError: The file is no picture, or cannot be read.
    """
    try:
        with quiet(), Image.open(file, formats=signatures.READ) as image:
            return *_stored_and_upright(image), opening.orientation(image)
    except Exception as error:  # A damaged file makes Pillow raise nearly anything.
        raise ValueError(f"{file} cannot be read: {error}.") from None


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


def _is_plain(image: Image.Image, encoded: bytes) -> bool:
    """Returns whether TensorFlow decodes a file to what Pillow does."""
    if image.mode not in ("RGB", "L") or image.has_transparency_data:
        return False
    if image.format == "PNG":
        return encoded[_PNG_DEPTH] == 8 and png.has_end(encoded)
    # Pillow does without the marker of the end, which stands behind that of the last scan.
    return image.format in _JPEG and encoded.rfind(_JPEG_END) > encoded.rfind(_JPEG_SCAN)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Returns the picture with the upper 8 of 16 bits a channel; Pillow itself would clip."""
    if image.mode == "F":
        raise Unusable(
            "unsupported format",
            "has floating-point pixels of unknown range, expected 8 or 16 bits",
        )
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() >= 2**16:
        raise Unusable(
            "unsupported format", "has 32-bit pixels of unknown range, expected 8 or 16 bits"
        )
    values8 = values >> (min(_depth(image), 16) - 8)
    values8 = 255 - values8 if _tags(image).get(_MEANING) == 0 else values8
    if "transparency" in image.info:
        values8[values == image.info["transparency"]] = 255  # As on white, see `_without_alpha`.
    return Image.fromarray(values8.astype(np.uint8))


def _depth(image: Image.Image) -> int:
    """Returns the bits per channel of a picture of a mode with more than 8."""
    depth, *_ = _tags(image).get(_BITS, (16,))
    return depth


def _tags(image: Image.Image) -> Mapping[int, Any]:
    return getattr(image, "tag_v2", {})


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
