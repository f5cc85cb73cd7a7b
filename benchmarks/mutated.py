"""Damaged pictures: thousands of files made from a seed, each read as ingest reads it.

    python benchmarks/mutated.py --count=10000

Prints how many of each format are still read and why the others are not, the longest time of a
file, and the most memory. Every picture that is accepted must be one that TensorFlow decodes, to
the size that its traits tell; else the program ends with an error.
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from tlkeras.doctor import defects
from tlkeras.images import decoding
from tlkeras.kinds.image import Image as ImageKind

SIDES = (57, 41)  # Width and height of a picture before it is damaged.


def main() -> None:
    """Reads the files and prints the table."""
    parser = argparse.ArgumentParser(description="Damaged pictures, read as ingest reads them.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kind, found = ImageKind(), defaultdict[str, Counter[str]](Counter)
    _decoded(pictures()["PNG RGB"])  # TensorFlow's own memory is no part of a picture's.
    before, slowest, slow = _peak(), 0.0, ""
    with decoding.quiet():
        for name, change, data in mutated(options.seed, options.count):
            began = time.perf_counter()
            word = read(kind, data)
            if (took := time.perf_counter() - began) > slowest:
                slowest, slow = took, f"{name}, {change}"
            found[name][word] += 1
    print("| file | read | " + " | ".join(words := sorted({w for c in found.values() for w in c})))
    for name, counts in found.items():
        print(f"| {name} | " + " | ".join(str(counts[word]) for word in words))
    total = sum(found.values(), Counter())
    print({word: total[word] for word in words})
    print(
        f"longest: {slowest:.2f} s ({slow}); memory: {before:,.0f} MB before, {_peak():,.0f} most"
    )


def read(kind: ImageKind, data: bytes) -> str:
    """Returns ``read``, or the word of the defect; raises if what is read is none."""
    try:
        standard, traits = kind.examined(data)
    except ValueError as error:
        return defects.word(error)
    height, width, _ = _decoded(standard).shape
    if (height, width) != (traits["height"], traits["width"]):
        raise AssertionError(f"{height} x {width} decoded, {traits} told")
    return "read"


def _decoded(standard: bytes) -> Any:
    return decoding.picture(standard).numpy()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def mutated(seed: int, count: int) -> Iterator[tuple[str, str, bytes]]:
    """Yields so many damaged files: the name of the whole one, that of the damage, and the bytes.

    The same seed gives the same files.
    """
    whole, chosen = pictures(), random.Random(seed)
    names, changes = [*whole], [*CHANGES]
    for number in range(count):
        name, change = names[number % len(names)], chosen.choice(changes)
        data = CHANGES[change](bytearray(whole[name]), chosen)
        for _ in range(chosen.choice((0, 0, 0, 1, 3))):
            data = CHANGES[chosen.choice(changes)](bytearray(data), chosen)
        yield name, change, bytes(data)


def pictures() -> dict[str, bytes]:
    """Returns whole files of every format and mode that is read, by a name."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    image = Image.fromarray(noise).resize(SIDES, Image.Resampling.BICUBIC)
    grey = image.convert("L")
    deep = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    notes = Image.Exif()
    notes[0x0112] = 6
    frames = {"save_all": True, "append_images": [image.rotate(90)]}
    made: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "JPEG": (image, "JPEG", {}),
        "JPEG progressive": (image, "JPEG", {"progressive": True}),
        "JPEG turned": (image, "JPEG", {"exif": notes}),
        "JPEG CMYK": (image.convert("CMYK"), "JPEG", {}),
        "JPEG grey": (grey, "JPEG", {}),
        "PNG RGB": (image, "PNG", {}),
        "PNG alpha": (image.convert("RGBA"), "PNG", {}),
        "PNG palette": (image.quantize(16), "PNG", {"transparency": 3}),
        "PNG 16": (deep, "PNG", {}),
        "PNG 1": (image.convert("1"), "PNG", {}),
        "GIF": (image.quantize(32), "GIF", {}),
        "GIF moving": (image.quantize(32), "GIF", {"save_all": True, "append_images": [grey]}),
        "BMP": (image, "BMP", {}),
        "WEBP": (image, "WEBP", {}),
        "WEBP lossless": (image.convert("RGBA"), "WEBP", {"lossless": True}),
        "WEBP moving": (image, "WEBP", frames),
        "TIFF": (image, "TIFF", {}),
        "TIFF LZW": (image, "TIFF", {"compression": "tiff_lzw"}),
        "TIFF deflate": (image, "TIFF", {"compression": "tiff_deflate"}),
        "TIFF JPEG": (image, "TIFF", {"compression": "jpeg"}),
        "TIFF 16": (deep, "TIFF", {}),
        "TIFF 1": (image.convert("1"), "TIFF", {"compression": "group4"}),
    }
    return {name: _encoded(*each) for name, each in made.items()}


def _encoded(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _place(data: bytearray, chosen: random.Random) -> int:
    """Returns a place in a file, every other time in its head."""
    end = min(len(data), 64) if chosen.random() < 0.5 else len(data)
    return chosen.randrange(max(end, 1))


def _bits(data: bytearray, chosen: random.Random) -> bytearray:
    for _ in range(chosen.choice((1, 1, 2, 8, 64))):
        if data:
            data[_place(data, chosen)] ^= 1 << chosen.randrange(8)
    return data


def _bytes(data: bytearray, chosen: random.Random) -> bytearray:
    start, length = _place(data, chosen), chosen.choice((1, 2, 4, 16, 200))
    value = chosen.choice((b"\0", b"\xff", b"\x7f", None))
    new = value * length if value else chosen.randbytes(length)
    data[start : start + length] = new
    return data


def _cut(data: bytearray, chosen: random.Random) -> bytearray:
    return data[: chosen.randrange(len(data) + 1)]


def _lost(data: bytearray, chosen: random.Random) -> bytearray:
    start = _place(data, chosen)
    del data[start : start + chosen.choice((1, 3, 20, 300))]
    return data


def _twice(data: bytearray, chosen: random.Random) -> bytearray:
    start = _place(data, chosen)
    piece = data[start : start + chosen.choice((1, 8, 100, 1_000))]
    data[start:start] = piece * chosen.choice((1, 1, 3))
    return data


def _number(data: bytearray, chosen: random.Random) -> bytearray:
    """Writes a large or an odd number over another, as the sizes in heads are such."""
    start = _place(data, chosen)
    size = chosen.choice((2, 4))
    value = chosen.choice((0, 1, 2, 255, 256, 9_000, 20_000, 32_767, 65_535, 2**31 - 1, 2**32 - 1))
    order = "big" if chosen.random() < 0.5 else "little"
    data[start : start + size] = (value % 256**size).to_bytes(size, order)
    return data


def _sums(data: bytearray, chosen: random.Random) -> bytearray:
    """Damages a piece of a PNG and makes its sum right again; of others a few bits."""
    if data[:4] != b"\x89PNG":
        return _bits(data, chosen)
    starts, at = [], 8
    while at + 12 <= len(data):
        starts.append(at)
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    if not starts:
        return data
    at = chosen.choice(starts)
    length = int.from_bytes(data[at : at + 4], "big")
    end = at + 8 + length
    if end + 4 > len(data) or not length:
        return data
    inner = _number(data[at + 8 : end], chosen)[:length]
    data[at + 8 : end] = inner
    data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
    return data


CHANGES: dict[str, Callable[[bytearray, random.Random], bytearray]] = {
    "bits": _bits,
    "bytes": _bytes,
    "cut": _cut,
    "lost": _lost,
    "twice": _twice,
    "number": _number,
    "sums": _sums,
}
"""By name a way to damage a file."""


if __name__ == "__main__":
    main()
