"""Boxes: where things are in a picture."""

from __future__ import annotations

from tlkeras import wire
from tlkeras.frameworks import tf
from tlkeras.kind import Kind, finite


class Boxes(Kind, name="boxes"):
    """A list of ``(top, left, bottom, right)`` in [0, 1] of the picture's height and width.

    Decoded: float32 [n, 4].
    """

    def checked(self, value):
        boxes = [tuple(finite(side) for side in box) for box in value]
        for box in boxes:
            if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
                raise ValueError(
                    f"has the box {box}, expected (top, left, bottom, right) in [0, 1]"
                )
        return boxes

    def put(self, value):
        return wire.numbers_feature([side for box in value for side in box])

    def taken(self, held):
        return [tuple(held[start : start + 4]) for start in range(0, len(held), 4)]

    def parsing(self):
        return tf.io.FixedLenSequenceFeature([4], tf.float32, allow_missing=True)

    def given(self, value):
        return tf.reshape(super().given(value), [-1, 4])  # An empty list, too.

    def summary(self, value, classes):
        return {".count": len(value)}, []

    def sample(self):
        return []
