"""NoisyDescent: a part of a schedule that finds a linear head by private gradient descent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tlkeras import terminal
from tlkeras.frameworks import keras
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Task
from tlkeras.training import entropy
from tlkeras.training.head_alone import HeadAlone
from tlkeras.training.linear import LinearHead, Rows, Weights


class NoisyDescent(HeadAlone, name="private"):
    """DP-SGD (Abadi et al. 2016, https://arxiv.org/abs/1607.00133) of one dense layer.

    Every step takes each example with the probability `sampling_rate`, clips the norm of its
    gradient to `clip`, and adds normal noise of deviation ``noise * clip`` to the sum, which is
    divided by the expected number of examples. The result is the mean of the points of the second
    half. Sampling and noise come from `entropy`. The loss is the sum of `Task.decisions`.

    Features have a large mean in common, which tells no class from another and takes most of the
    bounded length. So their sum, with noise of deviation `sum_noise`, tells its direction, and the
    steps see what lies `across` it.

    The points are weights of `units` of the features, which differ from the features by a linear
    map and a factor for each example. So the largest logit of the head is that of the points.
    """

    noise: float
    sum_noise: float
    sampling_rate: float
    clip: float
    steps: int
    rate: float

    def learned(self, head, rows, solution):
        """Returns nothing: loss and metrics of the training split would tell of its examples."""
        return {}

    def solution(
        self,
        head: LinearHead,
        rows: Rows,
        checked: Rows | None,
        metric: str | None,
        seed: int,
        *beside: Rows,
    ) -> Weights:
        """Returns the weights; one factor of all logits has the least loss of the validation."""
        import threadpoolctl  # No help text or plan of a run has to wait for it.

        # The products of a step are too small for threads, which wait for each other.
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            found = of_features(self._descended(head, rows))
        return head.sharpened(found, checked, checked.ones()) if checked else found

    def _descended(self, head: LinearHead, rows: Rows) -> np.ndarray:
        """Returns the mean of the points of the second half."""
        kernel, _ = head.zeros()
        shape = len(kernel) + 1, kernel.shape[1]
        point, ends = np.zeros(shape), np.zeros(shape)
        direction = self._direction(head, rows, len(kernel))
        expected = self.sampling_rate * rows.count
        last = range(self.steps // 2, self.steps)
        for step in terminal.shown(range(self.steps), self.steps, "private steps"):
            total = self.noise * self.clip * entropy.normal(shape)
            for inputs, targets in self._drawn(head, rows):
                inputs = across(inputs, direction)
                slopes = head.decisions * head.slopes(inputs @ point, targets)
                total += clipped_sum(inputs, slopes, self.clip)
            point = point - self.rate * total / expected
            if step in last:
                ends += point / len(last)
        return ends - np.outer(direction, direction @ ends)

    def _direction(self, head: LinearHead, rows: Rows, channels: int) -> np.ndarray:
        """Returns that of the sum of features with noise, of length 1; 0 for the bias."""
        total = self.sum_noise * entropy.normal([channels])
        for _, inputs in head.inputs(rows):
            total += units(inputs)[:, :-1].sum(axis=0)
        total -= total.mean()
        return np.append(total / np.linalg.norm(total), 0.0)

    def _drawn(self, head: LinearHead, rows: Rows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields units and targets of the examples of one step, some at a time."""
        for chunk in rows:
            count = chunk.rows.stop - chunk.rows.start
            places = np.flatnonzero(entropy.uniform(count) < self.sampling_rate)
            if len(places):
                inputs, targets = head.picked(chunk, places)
                yield units(inputs), targets


def require_form(model: TransferModel) -> None:
    """Raises ValueError unless the head has gradients to clip, and holds nothing exact."""
    task = model.task
    layer: Any = LinearHead(model, "private").layer
    if len(layer.input.shape) != 2:
        raise ValueError(
            f"private needs one row of features for each example; {task.name} gives the dense "
            "layer several, whose gradients have no norm in closed form. Use probe."
        )
    if type(task).initialize is not Task.initialize:
        raise ValueError(
            f"private cannot fit {task.name}: its head holds numbers that are known exactly from "
            "the training targets, which no noise protects. Use classification or multilabel."
        )
    if layer.activation is not keras.activations.linear:
        raise ValueError(
            f"private needs a dense layer without activation; that of {task.name} has "
            f"{layer.activation.__name__}. Put it behind the layer."
        )


def clipped_sum(inputs: np.ndarray, slopes: np.ndarray, clip: float) -> np.ndarray:
    """Returns the sum of the gradients of examples, each clipped to a norm, [channels, units].

    The gradient of a dense layer is the outer product of its input [n, channels] and the slope of
    the loss by its output [n, units], whose norm is the product of both norms (Goodfellow 2015,
    https://arxiv.org/abs/1510.01799).

    Raises:
        ValueError: A gradient is not finite, so that it has no bound.
    """
    norms = np.linalg.norm(inputs, axis=1) * np.linalg.norm(slopes, axis=1)
    if not np.isfinite(norms).all():
        raise ValueError("A gradient is not finite: features or targets are not.")
    kept = np.minimum(1.0, clip / np.maximum(norms, np.finfo(np.float64).tiny))
    return inputs.T @ (slopes * kept[:, None])


def units(inputs: np.ndarray) -> np.ndarray:
    """Returns rows of length 1, float64 [n, channels + 1], from those of features [n, channels].

    Each is less its own mean, has a 1 for the bias behind it, and is divided by its length. That
    needs no other example, so it tells nothing of any.
    """
    centred = inputs - inputs.mean(axis=1, keepdims=True)
    whole = np.concatenate([centred, np.ones([len(inputs), 1])], axis=1)
    return whole / np.linalg.norm(whole, axis=1, keepdims=True)


def across(rows: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Returns rows without their part along a direction, of length 1 again, [n, channels + 1]."""
    rest = rows - np.outer(rows @ direction, direction)
    return rest / np.linalg.norm(rest, axis=1, keepdims=True)


def of_features(point: np.ndarray) -> Weights:
    """Returns the weights of features from those of `units`.

    What all have in common of length cannot be known without looking at them; features whose
    deviation is 1 have that of the root of their number.
    """
    kernel = point[:-1] - point[:-1].mean(axis=0)
    length = np.sqrt(len(kernel))
    return kernel / length, point[-1] / length
