"""Hashes: perceptual hashes of pictures, which near copies share but for a few bits."""

from __future__ import annotations

from PIL import Image

_SIDE = 16  # The hash has as many bits as its square.


def picture(grey: Image.Image) -> str:
    """Returns the hash of a grey picture, in hexadecimal."""
    import imagehash

    return str(imagehash.phash(grey, hash_size=_SIDE))
