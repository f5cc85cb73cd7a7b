"""Signatures: the format of a file by its first bytes, also of those that nothing here reads."""

from __future__ import annotations

from collections.abc import Callable

HEAD = 512
"""How many bytes of a file are enough."""

READ = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
"""The formats that `decoding` reads."""

# What stands behind "ftyp" in a file of the ISO base media format.
_BRANDS = {
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"hevc": "HEIC",
    b"mif1": "HEIC",
    b"msf1": "HEIC",
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"crx ": "CR3",
}

_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"8BPS": "PSD",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"\0\0\x01\0": "ICO",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"qoif": "QOI",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "HDR",
    b"SIMPLE  =": "FITS",
    b"\x93NUMPY": "NumPy",
    b"PK\x03\x04": "ZIP",
    b"\x1f\x8b": "gzip",
    b"{\\rtf": "RTF",
}


def _riff(head: bytes) -> str:
    return "WEBP" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else ""


def _media(head: bytes) -> str:
    return _BRANDS.get(head[8:12], "MP4") if head[4:8] == b"ftyp" else ""


def _dicom(head: bytes) -> str:
    return "DICOM" if head[128:132] == b"DICM" else ""


def _start(head: bytes) -> str:
    return next((name for start, name in _STARTS.items() if head.startswith(start)), "")


def _written(head: bytes) -> str:
    """Returns the format of a text, such as SVG or the page of a failed download."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The last character may be cut through.
        if error.start < HEAD - 4:
            return ""
        text = head[: error.start].decode("utf-8-sig")
    begin = text.lstrip().lower()
    if any(sign < " " and sign not in "\t\n\f\r" for sign in text) or not begin:
        return ""
    if "<svg" in begin:
        return "SVG"
    return "HTML" if begin.startswith(("<!doctype html", "<html")) else "text"


_RULES: tuple[Callable[[bytes], str], ...] = (_riff, _media, _dicom, _start, _written)


def named(head: bytes) -> str:
    """Returns the name of the format that a file of these first `HEAD` bytes has, or ""."""
    return next((name for rule in _RULES if (name := rule(head[:HEAD]))), "")
