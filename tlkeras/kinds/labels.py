"""Labels: any number of classes."""

from __future__ import annotations

from collections.abc import Sequence

from tlkeras import wire
from tlkeras.frameworks import tf
from tlkeras.kind import Kind, whole


class Labels(Kind, name="labels"):
    """The numbers of classes, a list of int. Decoded: int64 [n]."""

    least_classes = 1

    def checked(self, value):
        return [whole(each) for each in value]

    def put(self, value):
        return wire.integers_feature(value)

    def taken(self, held):
        return list(held)

    def parsing(self):
        return tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)

    def classes_in(self, value):
        return value

    def summary(self, value: Sequence[int], classes: Sequence[str]):
        return {".count": len(value)}, [classes[each] for each in value]

    def sample(self):
        return []
