"""Number: a measured quantity."""

from __future__ import annotations

from tlkeras import wire
from tlkeras.frameworks import tf
from tlkeras.kind import Kind, finite


class Number(Kind, name="number"):
    """A finite float. Decoded: float32 []."""

    def checked(self, value):
        return finite(value)

    def put(self, value):
        return wire.numbers_feature([value])

    def taken(self, held):
        (value,) = held
        return value

    def parsing(self):
        return tf.io.FixedLenFeature([], tf.float32)

    def summary(self, value, classes):
        return {"": value}, []

    def sample(self):
        return 0.0
