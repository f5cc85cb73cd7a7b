"""A seeded folder of pictures and one of texts with every kind of defect, and clean ones."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

SIDE = 96
WORDS = [
    "river",
    "stone",
    "garden",
    "winter",
    "letter",
    "market",
    "window",
    "silver",
    "doctor",
    "number",
    "forest",
    "engine",
    "mother",
    "teacher",
    "station",
    "bridge",
    "morning",
    "question",
    "kitchen",
    "harbour",
    "promise",
    "village",
    "weather",
    "journey",
    "shadow",
    "captain",
    "library",
    "mountain",
    "history",
    "picture",
    "orange",
    "coffee",
    "ticket",
    "summer",
    "dinner",
    "office",
]


def scene(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Returns a soft random picture that looks like no other."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    coarse = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    grain = np.random.default_rng(seed + 10**6).normal(0, 6, (size[1], size[0], 3))
    pixels = np.clip(np.asarray(coarse, np.float64) + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(0.5))


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _cut(kind: str) -> bytes:
    whole = encoded(scene(1_001), kind)
    return whole[: len(whole) * 2 // 3]


def _wrong_sum() -> bytes:
    data = bytearray(encoded(scene(1_002), "PNG"))
    data[data.index(b"IDAT") + 8] ^= 1
    return bytes(data)


def _bomb() -> bytes:
    """A PNG of 900 million pixels in less than a megabyte."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(3_751) * 64)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _near(change: Callable[[Image.Image], bytes], seed: int) -> tuple[bytes, bytes]:
    whole = scene(seed, (192, 144))
    return encoded(whole, quality=95), change(whole)


def _deep() -> Image.Image:
    grey = np.asarray(scene(1_003).convert("L"), np.uint16)
    return Image.fromarray(grey * 257)


QUARANTINED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.jpg": (lambda: b"", "empty file"),
    "cut.jpg": (lambda: _cut("JPEG"), "truncated"),
    "cut.png": (lambda: _cut("PNG"), "truncated"),
    "cut.bmp": (lambda: _cut("BMP"), "truncated"),
    "cut.gif": (lambda: _cut("GIF"), "truncated"),
    "cut.tif": (lambda: _cut("TIFF"), "truncated"),
    "cut.webp": (lambda: _cut("WEBP"), "truncated"),
    "sum.png": (_wrong_sum, "damaged"),
    "header.jpg": (lambda: b"\xff\xd8\xff\xe0" + bytes(400), "damaged"),
    "bomb.png": (_bomb, "too large"),
    "words.jpg": (lambda: b"Moved to the other folder.\n", "unsupported format"),
    "page.jpg": (lambda: b"<!DOCTYPE html><html>404</html>", "unsupported format"),
    "phone.jpg": (lambda: b"\0\0\0\x18ftypheic" + bytes(200), "unsupported format"),
    "drawing.png": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported format"),
    "layers.jpg": (lambda: b"8BPS\0\x01" + bytes(200), "unsupported format"),
    "scan.png": (lambda: b"%PDF-1.7\n" + bytes(200), "unsupported format"),
    "float.tif": (lambda: encoded(Image.new("F", (64, 64)), "TIFF"), "unsupported format"),
    "wide.tif": (
        lambda: encoded(Image.fromarray(np.full((64, 64), 2**20, np.int32)), "TIFF"),
        "unsupported format",
    ),
}
"""By name the bytes of a picture that cannot be used, and its defect."""

NOTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "ending.jpg": (lambda: encoded(scene(1_010), "PNG"), "wrong ending"),
    "print.jpg": (lambda: encoded(scene(1_011).convert("CMYK")), "CMYK"),
    "palette.png": (lambda: encoded(scene(1_012).quantize(64), "PNG"), "palette"),
    "deep.png": (lambda: encoded(_deep(), "PNG"), "16 bits"),
    "clear.png": (lambda: encoded(scene(1_013).convert("RGBA"), "PNG"), "alpha"),
    "grey.jpg": (lambda: encoded(scene(1_014).convert("L")), "greyscale"),
    "bits.png": (lambda: encoded(scene(1_015).convert("1"), "PNG"), "black and white"),
    "dot.png": (lambda: encoded(scene(1_016, (5, 5)), "PNG"), "very small"),
    "poster.jpg": (lambda: encoded(scene(1_017, (1_000, 900))), "very large"),
    "strip.png": (lambda: encoded(scene(1_018, (400, 24)), "PNG"), "extreme aspect"),
    "white.jpg": (lambda: encoded(Image.new("RGB", (SIDE, SIDE), "white")), "blank"),
    "faint.png": (
        lambda: encoded(Image.fromarray(np.asarray(scene(1_019)) // 64 + 100), "PNG"),
        "blank",
    ),
    "photo.heic": (lambda: b"\0\0\0\x18ftypheic" + bytes(64), "unsupported format"),
    "logo.svg": (lambda: b"<svg/>", "unsupported format"),
    "notes.md": (lambda: b"# Notes\n", "unsupported format"),
    "nothing.dat": (lambda: b"", "empty file"),
    "photo": (lambda: encoded(scene(1_020)), "wrong ending"),
}
"""By name the bytes of a picture that is only worth a look, or left out, and its defect."""

COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "again": lambda image: encoded(image, quality=95),
    "low": lambda image: encoded(image, quality=30),
    "half": lambda image: encoded(image.resize((96, 72))),
    "png": lambda image: encoded(image, "PNG"),
    "crop": lambda image: encoded(image.crop((2, 2, 190, 143))),
    "light": lambda image: encoded(image.point([min(255, round(i * 1.2)) for i in range(256)] * 3)),
}
"""By name a way to copy a picture."""


def clean_pictures(folder: Path, count: int = 60) -> Path:
    """Writes pictures of two classes without a defect."""
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(scene(number)))
    return folder


def dirty_pictures(folder: Path) -> Path:
    """Writes the clean pictures and all of the others, into the class ``a``."""
    clean_pictures(folder)
    for name, (make, _) in (QUARANTINED | NOTED).items():
        (folder / "a" / name).write_bytes(make())
    for number, (name, change) in enumerate(COPIES.items()):
        one, other = _near(change, 2_000 + number)
        (folder / "a" / f"{name}-1.jpg").write_bytes(one)
        ending = "png" if name == "png" else "jpg"
        (folder / "b" / f"{name}-2.{ending}").write_bytes(other)
    return folder


def sentence(seed: int, words: int = 24) -> str:
    """Returns words in a random order."""
    chosen = random.Random(seed)
    return " ".join(chosen.choice(WORDS) for _ in range(words))


TEXTS_QUARANTINED: dict[str, tuple[bytes, str]] = {
    "empty.txt": (b"", "empty text"),
    "space.txt": (b" \n\t \n", "white space"),
    "latin.txt": ("caf\xe9 ".encode("latin-1") * 9, "not UTF-8"),
    "picture.txt": (encoded(scene(3_000)), "not UTF-8"),
}

TEXTS_NOTED: dict[str, tuple[bytes, str]] = {
    "long.txt": (sentence(3_001, 4_000).encode(), "over-long"),
    "page.txt": (
        f"<html><body><p class='x'>{sentence(3_002)}</p>&nbsp;<br></body></html>".encode(),
        "markup",
    ),
    "bell.txt": (f"{sentence(3_003)} \x07\x00".encode(), "control characters"),
    "lost.txt": (f"caf\ufffd {sentence(3_004)}".encode(), "control characters"),
    "german.txt": (
        b"Das Essen war leider kalt und der Kellner sehr unfreundlich.",
        "another language",
    ),
    "list.csv": (b"a,b\n", "unsupported format"),
}


def clean_texts(folder: Path, count: int = 60) -> Path:
    """Writes texts of two classes without a defect."""
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number:03d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sentence(number, 16 + number % 12), encoding="utf-8")
    return folder


def dirty_texts(folder: Path) -> Path:
    """Writes the clean texts and all of the others; copies have two classes."""
    clean_texts(folder)
    for name, (content, _) in (TEXTS_QUARANTINED | TEXTS_NOTED).items():
        (folder / "a" / name).write_bytes(content)
    whole = sentence(4_000, 40)
    for name, text in {
        "a/same-1": whole,
        "b/same-2": whole,
        "a/near-1": sentence(4_001, 40),
        "b/near-2": sentence(4_001, 40).replace("river", "lake", 1).upper() + " Really.",
    }.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder
