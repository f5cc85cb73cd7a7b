"""PNG: whether a file has all rows of its picture, and its end.

Pillow leaves the rows that are missing black, and does without the end; libpng, and so TensorFlow,
refuses the file. The format is that of https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_SIGNATURE = 8  # Bytes before the first chunk.
_HEADER = 16  # Where width, height, depth, colour type and interlace stand.

# Channels by colour type.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

# The first column and row and the steps of each pass of an interlaced picture.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
_LAST_PASS = (0, 1, 1, 2)

_END = b"\0\0\0\0IEND\xaeB`\x82"

_AT_ONCE = 2**20  # Bytes, so that a long stream takes no memory.


def is_whole(encoded: bytes) -> bool:
    """Returns whether a PNG file, sound but for that, holds the data of all its rows."""
    missing = _size(encoded)
    inflating = zlib.decompressobj()
    for data in _data(encoded):
        while missing > 0 and data:
            missing -= len(inflating.decompress(data, _AT_ONCE))
            data = inflating.unconsumed_tail
    return missing <= 0


def has_end(encoded: bytes) -> bool:
    """Returns whether the last chunk of a PNG file is sound."""
    return any(encoded.startswith(_END, at) for at, name, _ in _chunks(encoded) if name == b"IEND")


def _size(encoded: bytes) -> int:
    """Returns how many bytes the rows of a picture have, each with its filter."""
    width, height = (int.from_bytes(encoded[at : at + 4], "big") for at in (_HEADER, _HEADER + 4))
    depth, colour, interlaced = encoded[_HEADER + 8], encoded[_HEADER + 9], encoded[_HEADER + 12]
    bits = depth * _CHANNELS[colour]
    passes = (*_PASSES, _LAST_PASS) if interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes)
    return sum(
        rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 < rows
    )


def _data(encoded: bytes) -> Iterator[bytes]:
    """Yields the compressed data of a PNG file, chunk by chunk."""
    for at, name, length in _chunks(encoded):
        if name == b"IDAT":
            yield encoded[at + 8 : at + 8 + length]


def _chunks(encoded: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yields where each chunk begins, its name and how many bytes of data it says it has."""
    at = _SIGNATURE
    while at + 12 <= len(encoded):
        length = int.from_bytes(encoded[at : at + 4], "big")
        yield at, encoded[at + 4 : at + 8], length
        at += 12 + length
