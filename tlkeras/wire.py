"""Wire: TensorFlow's examples and record files, as bytes that are made without TensorFlow.

Its import takes seconds and hundreds of megabytes, which no process needs that reads pictures. The
bytes are those of TensorFlow's own: `tf.train.Example` is written as Protocol Buffers say
(https://protobuf.dev/programming-guides/encoding/), with the keys in order, and a record as
https://www.tensorflow.org/tutorials/load_data/tfrecord says.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Mapping, Sequence

import google_crc32c
import numpy as np

# Field numbers and wire types of `Feature`'s three lists, and of the one field of all others.
_BYTES, _FLOATS, _INTEGERS, _FIRST, _SECOND = b"\x0a", b"\x12", b"\x1a", b"\x0a", b"\x12"

_MASK, _WORD = 0xA282EAD8, 2**32

BEFORE, AFTER = 12, 4
"""The bytes of a record before and after its data: the length with its sum, and the data's sum."""


def bytes_feature(values: Sequence[bytes]) -> bytes:
    """Returns a `tf.train.Feature` of strings of bytes, encoded."""
    return _field(_BYTES, b"".join(_field(_FIRST, value) for value in values))


def integers_feature(values: Sequence[int]) -> bytes:
    """Returns a `tf.train.Feature` of whole numbers, encoded.

    Raises:
        ValueError: One has more than 64 bits.
    """
    packed = b"".join(_varint(_of_64_bits(operator.index(value))) for value in values)
    return _field(_INTEGERS, _field(_FIRST, packed) if packed else b"")


def numbers_feature(values: Sequence[float]) -> bytes:
    """Returns a `tf.train.Feature` of numbers as float32, encoded."""
    with np.errstate(over="ignore"):  # Infinite, as Protocol Buffers make it.
        packed = np.asarray(values, np.float64).astype("<f4").tobytes()
    return _field(_FLOATS, _field(_FIRST, packed) if packed else b"")


def example(features: Mapping[str, bytes]) -> bytes:
    """Returns a `tf.train.Example` of encoded features; equal ones give equal bytes."""
    encoded = sorted((key.encode(), feature) for key, feature in features.items())
    entries = [_field(_FIRST, _field(_FIRST, key) + _field(_SECOND, each)) for key, each in encoded]
    return _field(_FIRST, b"".join(entries))


def record(data: bytes) -> bytes:
    """Returns the data as a record of a TFRecord file, whose sums are masked CRC-32C."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _sum(length), data, _sum(data)))


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Returns seven bits a byte, the lowest first; the eighth bit says that more follow."""
    if number < 0x80:
        return bytes((number,))
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _of_64_bits(number: int) -> int:
    """Returns a number as the 64 bits of its two's complement."""
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"has the number {number}, expected at most 64 bits")
    return number % 2**64


def _sum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) % _WORD)
