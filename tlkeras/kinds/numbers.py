"""Numbers: several measured quantities."""

from __future__ import annotations

from tlkeras import wire
from tlkeras.frameworks import tf
from tlkeras.kind import Kind, finite


class Numbers(Kind, name="numbers"):
    """Finite floats, a list. Decoded: float32 [n]."""

    def checked(self, value):
        return [finite(each) for each in value]

    def put(self, value):
        return wire.numbers_feature(value)

    def taken(self, held):
        return list(held)

    def parsing(self):
        return tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)

    def summary(self, value, classes):
        return {f".{place}": each for place, each in enumerate(value)}, []

    def sample(self):
        return [0.0]
