"""Encodings: how a DICOM file writes down its header and its pixels, its transfer syntax."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from tlkeras.doctor.defects import Unusable

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_INFLATED = b"1.2.840.10008.1.2.1\0\0\0"
_MOST_INFLATED = 2**28

# Where the file meta information begins, and where the length in its first element ends.
_META, _META_BODY = 132, 144

NATIVE = {
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}
"""The transfer syntax of a file that names none, by whether VRs are implicit and the byte order."""

_PACKAGES = {
    "JPEG 2000": "pylibjpeg pylibjpeg-openjpeg",
    "JPEG-LS": "pyjpegls",
    "High-Throughput": "pylibjpeg pylibjpeg-openjpeg",
    "JPEG Extended": "pylibjpeg pylibjpeg-libjpeg, the latter under GPL-3.0",
    "JPEG": "python-gdcm",
    "RLE": "pylibjpeg pylibjpeg-rle",
}
"""What to install for a transfer syntax, by the first of these that its name begins with."""

# Markers of frame headers: SOF0 to SOF15 without DHT, JPG and DAC, and that of JPEG-LS.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}


def is_deflated(whole: Any) -> bool:
    """Returns whether a file, as bytes or a map of them, is of the deflated transfer syntax."""
    return _DEFLATED in whole[_META : 4 * _META_BODY]


def inflated(whole: Any) -> bytes:
    """Returns a file of the deflated transfer syntax as one that is not.

    Raises:
        ValueError: It is damaged, or much larger than it looks.
    """
    with damage("is damaged: it cannot be inflated"):
        start = _META_BODY + int.from_bytes(whole[_META_BODY - 4 : _META_BODY], "little")
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        content = inflating.decompress(whole[start:], _MOST_INFLATED)
    if inflating.unconsumed_tail:
        raise Unusable(
            "too large", f"is too large: it inflates to more than {_MOST_INFLATED:,} bytes"
        )
    return whole[:start].replace(_DEFLATED, _INFLATED) + content


def coded_size(coded: bytes) -> tuple[int, int] | None:
    """Returns the height and width that a JPEG, JPEG-LS or JPEG 2000 stream claims; None if none.

    Sources: ITU T.81, B.2.2 (frame header); ITU T.87, C.2.2; ITU T.800, A.5.1 (SIZ).
    """
    begin = coded.find(b"\xff\x4f\xff\x51")
    if begin >= 0:
        width, height, left, top = struct.unpack(">IIII", coded[begin + 8 : begin + 24])
        return height - top, width - left
    place = 2
    while coded.startswith(b"\xff\xd8") and place + 9 <= len(coded):
        if coded[place] != 0xFF or coded[place + 1] == 0xFF:
            place += 1
        elif coded[place + 1] in _FRAMES:
            return struct.unpack(">HH", coded[place + 5 : place + 9])
        else:
            place += 2 + int.from_bytes(coded[place + 2 : place + 4], "big")
    return None


def named(syntax: Any) -> str:
    """Returns the name and the UID of a transfer syntax; a text that is none is not told."""
    return f"{syntax.name} ({syntax})" if syntax.name != str(syntax) else "of no known name"


def undecodable(syntax: Any, why: str) -> str:
    """Returns the message on a transfer syntax that cannot be decoded, with what to install."""
    names = (package for begin, package in _PACKAGES.items() if syntax.name.startswith(begin))
    packages = next(names, "")
    advice = f"pip install {packages}" if packages else "install one that pydicom names for it"
    return f"has the transfer syntax {named(syntax)}, {why}: {advice}"


@contextlib.contextmanager
def damage(told: str) -> Iterator[None]:
    """Makes whatever a damaged header makes pydicom raise a ValueError without its values."""
    try:
        yield
    except Exception as error:
        raise Unusable("damaged", f"{told} ({type(error).__name__})") from None
