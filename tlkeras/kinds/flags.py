"""Flags: of each of several things, whether and in which way it is special."""

from __future__ import annotations

from tlkeras import wire
from tlkeras.frameworks import tf
from tlkeras.kind import Kind, whole


class Flags(Kind, name="flags"):
    """Small whole numbers, a list of int, 0 for a thing like any other. Decoded: int64 [n]."""

    def checked(self, value):
        flags = [whole(each) for each in value]
        if wrong := [each for each in flags if not 0 <= each < 256]:
            raise ValueError(f"has the flag {wrong[0]}, expected 0 to 255")
        return flags

    def put(self, value):
        return wire.integers_feature(value)

    def taken(self, held):
        return list(held)

    def parsing(self):
        return tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)

    def summary(self, value, classes):
        return {".count": sum(each != 0 for each in value)}, []

    def sample(self):
        return []
