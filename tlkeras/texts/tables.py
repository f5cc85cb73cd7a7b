"""Tables: maps from whole numbers, which a graph holds as constants.

A hash table of TensorFlow is a resource: whoever exports a graph has to find and keep it. A
constant goes along unseen, and a vocabulary takes a megabyte or two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tlkeras.frameworks import tf

POINTS = 0x110000
"""How many code points Unicode has."""

_BITS = 8  # Of a code point; those that differ in them alone share a page.


class PointTable:
    """A map from code points; pages that are alike, such as those of no letter, are kept once."""

    def __init__(self, values: Any) -> None:
        """Takes a value of any fixed shape for every code point, integers [POINTS, …]."""
        shape = np.shape(values)[1:]
        pages = np.reshape(values, [POINTS >> _BITS, -1])
        numbers: dict[bytes, int] = {}
        where = [numbers.setdefault(page.tobytes(), len(numbers)) for page in pages]
        _, first = np.unique(where, return_index=True)
        self._start = np.array(where, np.int32) << _BITS
        self._values = pages[first].reshape(-1, *shape)

    def __call__(self, points: Any) -> Any:
        """Returns the values [n, …] of code points, int32 [n]."""
        low = tf.bitwise.bitwise_and(points, (1 << _BITS) - 1)
        start = tf.gather(self._start, tf.bitwise.right_shift(points, _BITS))
        return tf.gather(self._values, start + low)


class PairTable:
    """A map from pairs of whole numbers below 2**31 to such numbers, int32."""

    def __init__(self, pairs: Any, values: Any) -> None:
        """Takes different pairs, [n, 2], and a value for each, [n]."""
        pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
        keys = (pairs[:, 0] << 32) + pairs[:, 1]
        order = np.argsort(keys)
        # The last is above all that is looked up, so every search ends inside.
        self._keys = np.append(keys[order], np.iinfo(np.int64).max)
        self._values = np.append(np.asarray(values, np.int32)[order], np.int32(-1))

    def __call__(self, first: Any, second: Any) -> Any:
        """Returns the values [n] of pairs, int32 [n] each; -1 where there is none."""
        keys = tf.cast(first, tf.int64) * 2**32 + tf.cast(second, tf.int64)
        places = tf.searchsorted(self._keys, keys)
        return tf.where(tf.gather(self._keys, places) == keys, tf.gather(self._values, places), -1)
