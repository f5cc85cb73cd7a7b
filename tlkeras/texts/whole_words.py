"""Whole words: pieces that no merges lead to, which Llama 3 takes for words all the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlkeras.frameworks import tf
from tlkeras.texts.tables import PairTable


class WholeWords:
    """From the pieces that words were merged into to one piece, for words that have one."""

    def __init__(self, wholes: Mapping[Sequence[int], int]) -> None:
        """Takes a piece for each row of pieces."""
        self._most = max(map(len, wholes), default=0)
        # A row is a way through states, which begins at 0.
        steps: dict[tuple[int, int], int] = {}
        ends = {0: -1}
        for row, whole in wholes.items():
            state = 0
            for piece in row:
                state = steps.setdefault((state, piece), len(steps) + 1)
                ends.setdefault(state, -1)
            ends[state] = whole
        self._steps = PairTable([*steps], [*steps.values()])
        self._ends = np.array([ends[state] for state in range(len(ends))], np.int32)

    def __call__(self, merged: Any, words: Any) -> Any:
        """Returns the piece that begins at each symbol, int32 [n], -1 if none does.

        Args:
            merged: The same before.
            words: The word of each symbol, int32 [n], in order.
        """
        if not self._most:
            return merged
        places = tf.where(merged >= 0)[:, 0]
        pieces, of = tf.gather(merged, places), tf.gather(words, places)
        begins = tf.concat([tf.fill(tf.minimum(tf.shape(of), 1), True), of[1:] != of[:-1]], axis=0)
        number = tf.cumsum(tf.cast(begins, tf.int32)) - 1
        rows = tf.RaggedTensor.from_value_rowids(pieces, number, validate=False)
        padded = rows.to_tensor(-1, shape=[None, self._most])
        state = tf.where(rows.row_lengths() <= self._most, 0, -1)
        for place in range(self._most):
            piece = padded[:, place]
            state = tf.where(piece < 0, state, self._steps(state, piece))
        wholes = tf.gather(tf.gather(self._ends, tf.maximum(state, 0)), number)
        wholes = tf.where(tf.gather(state, number) >= 0, wholes, -1)
        found = tf.where(wholes < 0, pieces, tf.where(begins, wholes, -1))
        return tf.tensor_scatter_nd_update(merged, places[:, None], found)
