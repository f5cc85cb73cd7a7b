"""The metric of the worst cell; imported late, because its class needs Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tlkeras.frameworks import keras, tf


class WorstCell(keras.metrics.Metric):
    """The least of the metrics of all cells that have an example; see `balance`.

    Its sample weights are the numbers of the cells, int32 [b]; of the number -1 is no cell.
    """

    def __init__(self, name: str, metrics: Sequence[keras.metrics.Metric]) -> None:
        """Takes a metric for each cell, a mean over examples."""
        super().__init__(name=name)
        self._of_cells = [*metrics]
        self._counts = self.add_variable((len(metrics),), "zeros", name="counts")

    def update_state(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, y_true: Any, y_pred: Any, sample_weight: Any
    ) -> None:
        own = tf.one_hot(tf.cast(sample_weight, tf.int32), len(self._of_cells))
        self._counts.assign_add(tf.reduce_sum(own, axis=0))
        for place, metric in enumerate(self._of_cells):
            metric.update_state(y_true, y_pred, sample_weight=own[:, place])

    def reset_state(self) -> None:
        self._counts.assign(tf.zeros([len(self._of_cells)]))
        for metric in self._of_cells:
            metric.reset_state()

    def result(self) -> Any:
        values = tf.stack([tf.cast(each.result(), tf.float32) for each in self._of_cells])
        return tf.reduce_min(tf.where(self._counts.value > 0, values, tf.float32.max))
