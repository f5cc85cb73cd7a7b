"""Mask: a class for every pixel of a picture."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pillow

from tlkeras.frameworks import tf
from tlkeras.images import decoding
from tlkeras.images.masks import IGNORE
from tlkeras.kind import Encoded


class Mask(Encoded, name="mask"):
    """Class numbers of pixels. Standard: a grey 8-bit PNG.

    Decoded: uint8 [h, w, 1], whatever the fields: 0 is of no class, 1 + c of class c, and of 255
    nothing is said.
    """

    pixelwise = True
    least_classes = 1

    ignore: int = 255
    """The value of pixels that nothing is said about."""
    background: bool = False
    """Whether 0 is the value of pixels of no class; that of class 0 is then 1, and so on."""

    def validate(self):
        self.require(0 <= self.ignore <= 255, "ignore", "a value from 0 to 255")

    def checked(self, value):
        return decoding.standard_mask(value)

    def decoded(self, stored, least=None):
        table = np.arange(256) + (not self.background)
        table[self.ignore] = IGNORE
        numbers = tf.io.decode_png(stored, channels=1)
        return tf.gather(tf.constant(table.clip(max=IGNORE), tf.uint8), tf.cast(numbers, tf.int32))

    def classes_in(self, value):
        with Pillow.open(io.BytesIO(value)) as picture:
            numbers = np.unique(np.asarray(picture))
        first = int(self.background)
        return [int(each) - first for each in numbers if first <= each != self.ignore]

    def size(self, value):
        return decoding.size(value)

    def summary(self, value, classes):
        height, width = decoding.size(value)
        return {".height": height, ".width": width, ".bytes": len(value)}, [
            classes[each] for each in self.classes_in(value)
        ]

    def sample(self):
        buffer = io.BytesIO()
        Pillow.new("L", (8, 8)).save(buffer, "PNG")
        return buffer.getvalue()

    def shown(self, value):
        return value
