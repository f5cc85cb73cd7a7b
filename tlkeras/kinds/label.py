"""Label: one class of several."""

from __future__ import annotations

from collections.abc import Sequence

from tlkeras import wire
from tlkeras.frameworks import tf
from tlkeras.kind import Kind, whole


class Label(Kind, name="label"):
    """The number of a class, an int. Decoded: int64 []."""

    least_classes = 2

    def checked(self, value):
        return whole(value)

    def put(self, value):
        return wire.integers_feature([value])

    def taken(self, held):
        (value,) = held
        return value

    def parsing(self):
        return tf.io.FixedLenFeature([], tf.int64)

    def classes_in(self, value):
        return [value]

    def summary(self, value: int, classes: Sequence[str]):
        return {}, [classes[value]]

    def sample(self):
        return 0
