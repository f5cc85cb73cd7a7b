"""Hashes: perceptual hashes of pictures, which near copies share but for a few bits.

A hash has a bit for each of the 16 x 16 lowest frequencies of the discrete cosine transform, as
`imagehash.phash` has, behind a byte that is 1 if the picture has a plain border. On a plain
background, as in radiographs and in pictures of products, different things have similar hashes:
such pictures have to agree in more bits, and small ones have no hash.
The thresholds are those of ``benchmarks/duplicates.py``.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tlkeras.doctor import bands

_SIDE = 16  # Frequencies of each direction.
_PIXELS = 4 * _SIDE  # The side that `imagehash.phash` scales to.

# Below this deviation of the outermost pixels, in [0, 255], a border is plain.
_PLAIN_BORDER = 24.0

# Below this side, in pixels, different things share their few details: digits do at 32.
_DETAILED = 48

# The most differing bits of 256 of two near copies, without and with a plain border.
_MOST, _MOST_PLAIN = 64, 40

# Decimals of a frequency; rounding errors are in the tenth.
_DIGITS = 6

# The places of the two middle numbers of all frequencies, whose mean is the median.
_MIDDLE = [_SIDE**2 // 2 - 1, _SIDE**2 // 2]

# 12 bits in 64 bands: 40 differing bits share a key in 99.99 % of the pairs, 64 in 87 %.
_BITS, _BANDS = 12, 64


def picture(grey: Image.Image) -> str:
    """Returns the hash of a grey picture in hexadecimal; an empty text if it would tell nothing."""
    if min(grey.size) < _DETAILED:
        return ""
    # Means of areas are a good part of the time faster than the filter of `imagehash.phash`.
    small = grey.resize((_PIXELS, _PIXELS), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float64)
    border = edge(pixels)
    # Whole numbers: both sums are exact.
    plain = border @ border / len(border) - (border.sum() / len(border)) ** 2 < _PLAIN_BORDER**2
    # Only these frequencies of all are made: a third of the time of `imagehash.phash`. Those that
    # a symmetric picture lacks are 0, not what rounding leaves of them.
    low = (_cosines() @ pixels @ _cosines().T).round(_DIGITS)
    below, above = np.partition(low, _MIDDLE, axis=None)[_MIDDLE[0] : _MIDDLE[1] + 1].tolist()
    middle = (below + above) / 2
    return f"{plain:02x}{np.packbits(low > middle).tobytes().hex()}"


@functools.cache
def _cosines() -> np.ndarray:
    """Returns the lowest cosines as rows, float64 [frequencies, pixels] (DCT-II)."""
    steps = np.outer(np.arange(_SIDE), 2 * np.arange(_PIXELS) + 1)
    return 2 * np.cos(np.pi * steps / (2 * _PIXELS))


def edge(pixels: np.ndarray) -> np.ndarray:
    """Returns the outermost of the pixels [h, w], each once."""
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def copies(hashes: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Yields pairs of near copies and the share of bits in which they differ; see `Kind.copies`."""
    rows = len(hashes)
    plain, words = hashes[:, :, 0], np.ascontiguousarray(hashes[:, :, 1:]).view("<u8")

    def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        differing = _ones(words[one] ^ words[other]).sum(axis=2)
        most = np.where(plain[one] | plain[other], _MOST_PLAIN, _MOST)
        near = (differing <= most).all(axis=1)
        return np.where(near, differing.max(axis=1) / _SIDE**2, -1.0)

    order = np.lexsort(words.reshape(rows, -1).T)
    chosen = random.Random(0)
    places = [chosen.sample(range(_SIDE**2), _BITS) for _ in range(_BANDS)]
    keys = (bands.joined(_key(hashes[:, :, 1:], each)) for each in places)
    yield from bands.near(keys, order, distances)


def _key(codes: np.ndarray, places: list[int]) -> np.ndarray:
    """Returns the number that the bits at some places make, uint64 [rows, hashes]."""
    key = np.zeros(codes.shape[:2], np.uint64)
    for weight, place in enumerate(places):
        bit = codes[:, :, place // 8] >> (7 - place % 8) & 1
        key |= bit.astype(np.uint64) << np.uint64(weight)
    return key


def _ones(words: np.ndarray) -> np.ndarray:
    """Returns how many bits of each number are 1; NumPy 1 has no such function."""
    return _IN_BYTE[words.view(np.uint8)].reshape(*words.shape, 8).sum(axis=-1)


_IN_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
