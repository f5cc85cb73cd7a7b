"""Metadata: what picture files hold beside their pixels, read or taken out without a new encoding.

A camera writes the place, the owner and serial numbers into its files; an editor writes comments
and a second, small picture. No decoder needs them. So only what changes the decoded pixels stays,
and the coded pixels stay as they are.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

import numpy as np

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"

# Chunks of a PNG without which its first picture is another one, or none.
_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}

# Markers of a JPEG (ITU T.81, table B.1). Those of frames have the size; some of their row do not.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SCAN, _END, _COMMENT = 0xDA, 0xD9, 0xFE
_APPLICATIONS = range(0xE0, 0xF0)
_ALONE = 0x01  # A marker without a length, for the use of encoders.

# What follows 0xFF where no segment begins: in coded pixels 0 or a restart, else more of it.
_NO_SEGMENT = np.zeros(256, bool)
_NO_SEGMENT[[0x00, *range(0xD0, 0xD8), 0xFF]] = True

# The application segments that tell the colours: how they begin, what decoders need of them, and
# how they end without what may follow, such as a thumbnail of JFIF.
_COLOURS = {0xE0: (b"JFIF\0", 14, b"\0\0"), 0xEE: (b"Adobe", 12, b"")}


def stripped(encoded: bytes) -> bytes | None:
    """Returns the file of a JPEG or PNG with what its first picture needs, and nothing else.

    Left out are EXIF with places, names and serial numbers, XMP, IPTC, comments, texts, times,
    thumbnails, colour profiles, further pictures, and what follows the end. TensorFlow and Pillow
    decode the same pixels from both. A profile changes neither, and its texts may name a device.
    The same bytes come back if nothing is left out. None if the file has another form.

    Sources: JPEG, ITU T.81, annex B, with JFIF 1.02 and Adobe's technical note 5116; PNG,
    https://www.w3.org/TR/png-3/#5Chunk-layout.
    """
    try:
        if encoded.startswith(_PNG):
            parts = [_PNG, *_chunks(encoded)]
        elif encoded.startswith(_JPEG):
            parts = [_JPEG, *_segments(encoded)]
        else:
            return None
    except IndexError:
        return None
    made = b"".join(parts)
    return encoded if made == encoded else made


def size(encoded: bytes) -> tuple[int, int]:
    """Returns the height and width of a sound PNG or JPEG, from its header alone."""
    if encoded.startswith(_PNG):
        return int.from_bytes(encoded[20:24], "big"), int.from_bytes(encoded[16:20], "big")
    place = len(_JPEG)
    while (kind := encoded[place + 1]) not in _FRAMES:
        # A marker may be preceded by more of its first byte.
        is_filled = kind == 0xFF
        place += 1 if is_filled else 2 + (encoded[place + 2] << 8 | encoded[place + 3])
    height, width = encoded[place + 5 : place + 7], encoded[place + 7 : place + 9]
    return int.from_bytes(height, "big"), int.from_bytes(width, "big")


def _chunks(encoded: bytes) -> Iterator[bytes]:
    """Yields the chunks of a PNG that stay; raises IndexError if one is cut short."""
    start, name = len(_PNG), b""
    while name != b"IEND":
        stop = start + 12 + int.from_bytes(encoded[start : start + 4], "big")
        if stop > len(encoded):
            raise IndexError(stop)
        name = encoded[start + 4 : start + 8]
        if name in _CHUNKS:
            yield encoded[start:stop]
        start = stop


def _segments(encoded: bytes) -> Iterator[bytes]:
    """Yields the segments of a JPEG that stay, up to the end of its first picture.

    Raises:
        IndexError: One is cut short.
    """
    codes = np.frombuffer(encoded, np.uint8)
    begins = np.flatnonzero(codes[:-1] == 0xFF)
    begins = begins[~_NO_SEGMENT[codes[begins + 1]]].tolist()
    place, kind = len(_JPEG), 0
    while kind != _END:
        # Decoders skip what stands between two segments.
        start = begins[bisect.bisect_left(begins, place)]
        kind, place = encoded[start + 1], start + 2
        if kind in (_ALONE, _END):
            continue
        place += encoded[place] << 8 | encoded[place + 1]
        if place > len(encoded):
            raise IndexError(place)
        if kind in _COLOURS:
            yield _colours(kind, encoded[start + 4 : place])
        elif kind not in _APPLICATIONS and kind != _COMMENT:
            yield encoded[start:place]
        if kind == _SCAN:
            stop = begins[bisect.bisect_left(begins, place)]
            yield encoded[place:stop].rstrip(b"\xff")
            place = stop
    yield b"\xff\xd9"


def _colours(kind: int, content: bytes) -> bytes:
    """Returns what decoders read of a segment that tells the colours; empty if it tells none."""
    begin, length, end = _COLOURS[kind]
    if not content.startswith(begin) or len(content) < length:
        return b""
    kept = content[: length - len(end)] + end
    return b"\xff" + bytes([kind]) + (2 + len(kept)).to_bytes(2, "big") + kept
