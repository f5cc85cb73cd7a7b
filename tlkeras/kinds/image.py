"""Image: the encoded bytes of a picture file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from tlkeras import spec
from tlkeras.doctor import hashes as perceptual
from tlkeras.doctor import pictures
from tlkeras.frameworks import tf
from tlkeras.images import decoding
from tlkeras.kind import SERVING, Encoded, Entrance

_THUMBNAIL = 144  # Pixels of the longer side.
_SAMPLE = 224  # Pixels of each side.


class Image(Encoded, name="image"):
    """A picture. Standard: a JPEG or PNG, RGB or grey, upright, without alpha and metadata.

    Decoded: uint8 [h, w, 3] in [0, 255].
    """

    suffixes = decoding.SUFFIXES
    span = (0.0, 255.0)
    meaning = "image"
    leaves_out = (
        "Of a picture only what changes its pixels is kept: places, dates, owners, serial numbers "
        "and comments that its file held are left out. What the pixels show stays."
    )

    def checked(self, value):
        return decoding.standard(value)

    def examined(self, value):
        found = decoding.examined(value)
        return found.standard, pictures.traits(value, found)

    def traits(self, value, standard):
        return self.examined(value)[1]

    def decoded(self, stored, least=None):
        return decoding.picture(stored, least)

    def oddities(self, traits):
        return pictures.oddities(traits)

    def copies(self, hashes):
        return perceptual.copies(hashes)

    def same(self, value):
        return value

    def size(self, value):
        return decoding.size(value)

    def sides(self, decoded):
        return tf.shape(decoded)[-3:-1]

    def summary(self, value, classes):
        height, width = decoding.size(value)
        return {".height": height, ".width": width, ".bytes": len(value)}, []

    def given(self, value):
        """Returns uint8 or float [h, w, 3], of a file's path, its bytes, or such an array."""
        if isinstance(value, (str, Path)):
            return self.decoded(decoding.normalized(spec.path(value).read_bytes(), str(value)))
        if isinstance(value, bytes):
            return self.decoded(decoding.normalized(value, "the picture"))
        if np.ndim(value) != 3 or np.shape(value)[-1] != 3:
            raise ValueError(f"A picture has shape {np.shape(value)}, expected [height, width, 3].")
        return tf.convert_to_tensor(value)

    def entrances(self):
        """Returns pixels as uint8 or float32 in [0, 255], or the bytes of a file."""
        pixels = (None, None, 3)
        return {
            SERVING: Entrance("uint8", pixels, lambda value: self.decoded(value).numpy()),
            "float": Entrance(
                "float32", pixels, lambda value: self.decoded(value).numpy().astype(np.float32)
            ),
            "encoded": Entrance("string", (), lambda value: value, self.decoded),
        }

    def sample(self):
        """Returns a grey picture."""
        buffer = io.BytesIO()
        Pillow.new("RGB", (_SAMPLE, _SAMPLE), (128, 128, 128)).save(buffer, "JPEG")
        return buffer.getvalue()

    def shown(self, value):
        with Pillow.open(io.BytesIO(value)) as picture:
            small = picture.convert("RGB")
        small.thumbnail((_THUMBNAIL, _THUMBNAIL))
        small.info.clear()  # A comment in the picture need not be for all who see the report.
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=85)
        return buffer.getvalue()

    def reading(self):
        return _READING


# The pixels that `decoding.standard` gives, for a reader without tlkeras.
_READING = """\
import numpy as np
from PIL import Image, ImageOps

picture = ImageOps.exif_transpose(Image.open("picture.jpg"))
if picture.mode.startswith("I"):  # 16 bits: the upper eight, and white for what is transparent.
    pixels = np.asarray(picture)
    upper = (pixels >> 8).astype(np.uint8)
    upper[pixels == picture.info.get("transparency", -1)] = 255
    picture = Image.fromarray(upper)
elif picture.has_transparency_data:
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture.convert("RGBA"))
value = np.asarray(picture.convert("RGB"))
"""
