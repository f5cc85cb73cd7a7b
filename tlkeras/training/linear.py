"""Linear heads: one dense layer with weights, fitted as a convex problem.

The rest of a head has no weights, such as dropout or the logarithm of the softmax. All here runs in
inference mode, so the loss is a function of kernel and bias alone, without chance.

What comes before the dense layer is computed once for all evaluations, and its own products are
those of NumPy: with few units TensorFlow's take longer. Seven strengths of `solve` on 2,320 rows of
1,280 channels and five classes took 1.1 s in place of 1.9 (two cores of an AMD EPYC with AVX2).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.model import graph
from tlkeras.model.transfer_model import TransferModel
from tlkeras.training.balance import NO_CELL, Balance

# Rows run together; more are hardly faster.
_CHUNK = 1 << 25

# Rows of at most this many bytes stay in memory; more are read again for every evaluation.
_MEMORY = 1 << 29

# The factor of logits where no validation split chooses one: those of unit size differ by tenths.
_SHARPNESS = 10.0

# The factors to choose from, in logarithms.
_FACTORS = np.linspace(np.log(0.1), np.log(1000), 41)

Weights = tuple[np.ndarray, np.ndarray]
"""Kernel, float64 [channels, units], and bias, float64 [units]."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some rows of a split: what the dense layer gets, targets, and weights in the loss.

    `inputs` are float32 [n, …, channels], and `weights` float32 [n]. `others` are the values beside
    the dense layer that come after it, too, such as a mask. `cells` are the numbers of their cells,
    int32 [n], where a `Balance` weighs them.
    """

    first: int
    inputs: np.ndarray
    others: list[Any]
    targets: Any
    weights: np.ndarray
    cells: Any = None

    @property
    def rows(self) -> slice:
        """The places of the rows in the split's order."""
        return slice(self.first, self.first + int(self.weights.shape[0]))

    @property
    def bytes(self) -> int:
        """The memory of the inputs and the targets."""
        arrays = [self.inputs, *keras.tree.flatten(self.targets)]
        return sum(np.asarray(each).nbytes for each in arrays)


class Rows:
    """The rows of a split in large chunks, in memory if they are small enough.

    Args:
        batches: Returns the batches, every time the same: inputs, targets, perhaps weights.
        summarized: Returns the summaries of the inputs of a batch.
        head: The head that takes them.
        weigh: From the numbers of cells to weights, where batches have those in place of weights.
    """

    def __init__(
        self,
        batches: Callable[[], Any],
        summarized: Callable[[Any], Any],
        head: LinearHead,
        weigh: Callable[[Any], Any] | None = None,
    ) -> None:
        """Reads all rows once."""
        self._batches, self._summarized, self._weigh = batches, summarized, weigh
        self._head = head
        self._size = max(1, _CHUNK // head.bytes)
        self._held: list[Chunk] | None = []
        self.count = size = 0
        for chunk in self._read():
            self.count, size = chunk.rows.stop, size + chunk.bytes
            if self._held is not None:
                self._held = [*self._held, chunk] if size <= _MEMORY else None

    @functools.cached_property
    def targets(self) -> np.ndarray:
        """All targets, flat, [count, n], in memory together."""
        found = []
        for chunk in self:
            columns = [np.asarray(each) for each in keras.tree.flatten(chunk.targets)]
            found.append(np.concatenate([each.reshape(len(each), -1) for each in columns], 1))
        return np.concatenate(found)

    def ones(self) -> np.ndarray:
        """Returns float32 [count] of ones: every row counts."""
        return np.ones(self.count, np.float32)

    def __iter__(self) -> Iterator[Chunk]:
        """Yields the chunks in order."""
        return iter(self._held) if self._held is not None else self._read()

    def _read(self) -> Iterator[Chunk]:
        first = 0
        waiting: list[Any] = []
        for inputs, targets, *weights in self._batches():
            rows: Any = tf.shape(keras.tree.flatten(targets)[0])
            if self._weigh:
                weights = [self._weigh(*weights), *weights]
            weights = weights or [tf.ones(rows[:1])]
            waiting.append((self._summarized(inputs), targets, *weights))
            if sum(len(each[-1]) for each in waiting) >= self._size:
                yield (chunk := self._joined(first, waiting))
                first, waiting = chunk.rows.stop, []
        if waiting:
            yield self._joined(first, waiting)

    def _joined(self, first: int, parts: list[Any]) -> Chunk:
        columns: Any = keras.tree.map_structure(lambda *each: tf.concat(each, 0), *parts)
        summaries, targets, weights, *cells = columns
        entered = self._head.entered(summaries)
        return Chunk(first, *entered, targets, np.asarray(weights, np.float32), *cells)


class LinearHead:
    """The head of a model as a function of kernel and bias.

    Raises:
        ValueError: The head is no linear one.
    """

    def __init__(
        self,
        model: TransferModel,
        asker: str,
        balance: Balance | None = None,
        advice: str = "Use fine_tune with phases alone.",
    ) -> None:
        """Takes the model, who asks and the advice for the message, and what weighs cells."""
        self.model = model
        self.layer = _dense(model, asker, advice)
        self._loss = model.task.loss()
        self._metrics = list(model.task.metrics(model.classes))
        self._worst = [*balance.metrics()] if balance else []

    @property
    def decisions(self) -> int:
        """`Task.decisions` of the model's classes."""
        return self.model.task.decisions(len(self.model.classes))

    @property
    def bytes(self) -> int:
        """The size of the summary of one row, or of its logits if that is larger."""
        sizes = [int(np.prod(each.shape[1:])) for each in keras.tree.flatten(self.model.head.input)]
        logits: Any = self.layer.output
        return 4 * max(sum(sizes), int(np.prod(logits.shape[1:])))

    def entered(self, summaries: Any) -> tuple[np.ndarray, list[Any]]:
        """Returns `Chunk.inputs` and `Chunk.others` of summaries."""
        inputs = self._inner(summaries, training=False)
        flat = keras.tree.flatten(summaries)
        return np.asarray(inputs, np.float32), [flat[place] for place in self._others]

    def inputs(self, rows: Rows) -> Iterator[tuple[Chunk, np.ndarray]]:
        """Yields every chunk with what the dense layer gets of it, float64 [n, …, channels]."""
        for chunk in rows:
            yield chunk, chunk.inputs.astype(np.float64)

    def features(self, rows: Rows) -> np.ndarray:
        """Returns what the dense layer gets of all rows, float64 [count, …, channels]."""
        return np.concatenate([values for _, values in self.inputs(rows)])

    def moments(self, rows: Rows) -> tuple[np.ndarray, float]:
        """Returns the mean of each channel that the dense layer gets, and one deviation of all.

        The deviation is the root of the mean variance of the channels; 1 if none varies.
        """
        count, total, squares = 0, 0.0, 0.0
        for _, values in self.inputs(rows):
            values = values.reshape(-1, values.shape[-1])
            count += len(values)
            total += values.sum(axis=0)
            squares += np.square(values).sum(axis=0)
        mean = np.asarray(total) / count
        variance = float(np.mean(np.maximum(squares / count - mean**2, 0)))
        return mean, variance**0.5 or 1.0

    def picked(self, chunk: Chunk, places: np.ndarray) -> tuple[np.ndarray, Any]:
        """Returns what the dense layer gets of some rows of a chunk, float64, and their targets."""
        targets: Any = keras.tree.map_structure(lambda each: tf.gather(each, places), chunk.targets)
        return chunk.inputs[places].astype(np.float64), targets

    def weights(self) -> Weights:
        """Returns kernel and bias of the model."""
        kernel, bias = (np.asarray(each, np.float64) for each in self.layer.weights)
        return kernel, bias

    def losses(self, weights: Weights, rows: Rows) -> np.ndarray:
        """Returns the loss of each row, float64 [count], those next to 0 as exactly."""
        kernel, bias = weights
        found = [
            self._exact(tf.constant(inputs @ kernel + bias), chunk.others, chunk.targets).numpy()
            for chunk, inputs in self.inputs(rows)
        ]
        return np.concatenate([each.reshape(len(each), -1).mean(axis=1) for each in found])

    def slopes(self, logits: np.ndarray, targets: Any) -> np.ndarray:
        """Returns the slope of each row's own loss by what the dense layer gives, float64."""
        ones = np.ones(len(logits), np.float32)
        slopes = self._slope(logits.astype(np.float32), [], targets, ones)[1]
        return np.asarray(slopes, np.float64)

    def zeros(self) -> Weights:
        """Returns kernel and bias of zeros."""
        kernel, bias = (np.zeros(each.shape) for each in self.layer.weights)
        return kernel, bias

    def assign(self, weights: Weights) -> None:
        """Sets kernel and bias of the model."""
        for variable, value in zip(self.layer.weights, weights, strict=True):
            variable.assign(value)

    def loss(self, weights: Weights, rows: Rows, counted: np.ndarray) -> tuple[float, Weights]:
        """Returns the mean loss of rows, each times its place in `counted`, and its gradient."""
        loss, kernel_slope, bias_slope = 0.0, *self.zeros()
        for chunk in rows:
            if (part := counted[chunk.rows]).any():
                found, slope = self._slope(
                    self._logits(weights, chunk),
                    chunk.others,
                    chunk.targets,
                    chunk.weights * part,
                )
                loss += float(found)
                inputs, slope = _flat(chunk.inputs), _flat(np.asarray(slope))
                kernel_slope += (slope.T @ inputs).T  # Faster than ``inputs.T @ slope``.
                bias_slope += slope.sum(axis=0, dtype=np.float64)
        total = counted.sum()
        if not np.isfinite(loss):
            raise ValueError(f"The loss of the head is {loss}: features or targets are not finite.")
        return loss / total, (kernel_slope / total, bias_slope / total)

    def sharpened(self, weights: Weights, rows: Rows | None, counted: np.ndarray | None) -> Weights:
        """Returns weights with all logits times one factor, which orders the classes as before.

        Of the counted rows, it has the least loss; without any, it is fixed.
        """
        if rows is None or counted is None or not counted.any():
            return _scaled(weights, _SHARPNESS)

        def loss(logarithm: float) -> float:
            return self.loss(_scaled(weights, np.exp(logarithm)), rows, counted)[0]

        return _scaled(weights, np.exp(min(_FACTORS, key=loss)))

    def measured(self, rows: Rows, ways: Sequence[tuple[Weights, np.ndarray]]) -> dict[str, float]:
        """Returns the mean loss and the metrics of rows, all together.

        Each of the ways has weights and which rows these measure, float32 [count] of 0 and 1.
        """
        metrics = [*self._metrics, *self._worst]
        for metric in metrics:
            metric.reset_state()
        loss = 0.0
        for weights, counted in ways:
            for chunk in rows:
                if (part := counted[chunk.rows]).any():
                    given = (self._logits(weights, chunk), chunk.others, chunk.targets)
                    loss += float(self._measured(*given, chunk.weights, part, chunk.cells))
        total = sum(float(counted.sum()) for _, counted in ways)
        return {"loss": loss / total} | {metric.name: float(metric.result()) for metric in metrics}

    def _logits(self, weights: Weights, chunk: Chunk) -> np.ndarray:
        """Returns what the dense layer gives, float32 [n, …, units]."""
        kernel, bias = (each.astype(np.float32) for each in weights)
        flat = _flat(chunk.inputs) @ kernel + bias
        return flat.reshape(*chunk.inputs.shape[:-1], -1)

    @functools.cached_property
    def _inner(self) -> Any:
        return keras.Model(self.model.head.input, self.layer.input)

    @functools.cached_property
    def _others(self) -> list[int]:
        """The places of the inputs of the head that come after the dense layer, too."""
        return graph.inputs_beside(self.model.head, self.layer)

    def _tail(self, logits: Any, others: Sequence[Any]) -> Any:
        """Returns the outputs of the head in inference mode, of the type that the logits have."""
        if self.model.head.output is self.layer.output:  # Keras makes no network of nothing.
            return logits
        return tf.cast(self._after([logits, *others], training=False), logits.dtype)

    @functools.cached_property
    def _after(self) -> Any:
        head = self.model.head
        others = [head.inputs[place] for place in self._others]
        return graph.segment(head, [self.layer.output, *others], head.output)

    @functools.cached_property
    def _slope(self) -> Any:
        def slope(logits: Any, others: Any, targets: Any, weights: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(logits)
                losses = self._loss.call(targets, self._tail(logits, others))
                loss = tf.reduce_sum(tf.cast(losses * weights, tf.float64))
            return loss, tape.gradient(loss, logits)

        return self._traced(slope)

    @functools.cached_property
    def _exact(self) -> Any:
        def losses(logits: Any, others: Any, targets: Any) -> Any:
            return self._loss.call(tf.cast(targets, tf.float64), self._tail(logits, others))

        return self._traced(losses)

    @functools.cached_property
    def _measured(self) -> Any:
        def measured(
            logits: Any, others: Any, targets: Any, weights: Any, counted: Any, cells: Any
        ) -> Any:
            outputs = self._tail(logits, others)
            losses = self._loss.call(targets, outputs)
            for metric in self._metrics:
                metric.update_state(targets, outputs, sample_weight=counted)
            for metric in self._worst:
                own = tf.where(tf.convert_to_tensor(counted) > 0, cells, NO_CELL)
                metric.update_state(targets, outputs, sample_weight=own)
            return tf.reduce_sum(tf.cast(losses * weights * counted, tf.float64))

        return self._traced(measured)

    def _traced(self, function: Callable[..., Any]) -> Any:
        return tf.function(function, autograph=False, reduce_retracing=True)


def _flat(values: np.ndarray) -> np.ndarray:
    """Returns an array of all rows, [n, channels]; a product of more axes is many small ones."""
    return values.reshape(-1, values.shape[-1])


def _scaled(weights: Weights, factor: float) -> Weights:
    kernel, bias = weights
    return kernel * factor, bias * factor


def _dense(model: TransferModel, asker: str, advice: str) -> keras.layers.Dense:
    """Returns the only layer with weights of a head, which is linear."""
    layers = [each for each in model.head._flatten_layers() if each is not model.head]
    trained = [each for each in layers if each.trainable_variables or each.trainable_weights]
    if len(trained) == 1 and _is_linear(trained[0]):
        return trained[0]
    found = ", ".join(each.name for each in trained)
    raise ValueError(
        f"{asker} needs a head of one dense layer with a bias and no activation, as "
        f"classification, multilabel, regression and tagging have; that of {model.task.name} has "
        f"{found}. {advice}"
    )


def _is_linear(layer: Any) -> bool:
    """Returns whether a layer is a dense one with a bias and no activation."""
    is_dense = isinstance(layer, keras.layers.Dense)
    return is_dense and layer.use_bias and layer.activation is keras.activations.linear
