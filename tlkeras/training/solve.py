"""Solve: a part of a schedule that finds the head as the minimum of a convex function."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tlkeras.spec import Spec
from tlkeras.training import loop
from tlkeras.training.head_alone import HeadAlone
from tlkeras.training.linear import LinearHead, Rows, Weights

# A validation split of fewer examples a class is too small to choose by.
_ENOUGH = 20

# Losses are sums of float32, so no gain below the first is certain. The second is enough to compare
# strengths: on flower_photos a third of the steps, and accuracies within 0.3 points.
_FINE = {"ftol": 1e-8, "gtol": 1e-5, "maxiter": 1000}
ROUGH = {"ftol": 1e-5, "gtol": 1e-4, "maxiter": 200}
"""The precision of L-BFGS to compare solutions."""


class Solve(HeadAlone, name="solve"):
    """The head that minimises its loss in training plus a penalty, by L-BFGS.

    It needs a head of one dense layer and stands before all phases that unfreeze blocks. There is
    no dropout. The penalty is ``strength / 2 * v * |kernel|^2``, where ``v`` is the mean variance
    of the channels that the dense layer gets. So a strength has the same effect on features of any
    scale. As scikit-learn's ``LogisticRegression(C=…)`` on n examples, of features divided by the
    root of ``v``, it is ``1 / (C * n)``. A task of several labels has the sum of the losses of all,
    so that a label is solved alike beside few others and many.

    Every strength, from strong to weak, starts at the solution of the one before. The validation
    split chooses the best by the first metric, then by the loss. If it has fewer than 20 examples a
    class, or none, the training split chooses instead: in `folds` parts of like classes, each is
    measured by a head of the others; then all of it is solved with the best strength.
    """

    strengths: tuple[float, ...] = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
    folds: int = 5

    def validate(self):
        require_strengths(self, self.strengths)
        self.require(self.folds >= 2, "folds", "at least 2")

    def solution(
        self,
        head: LinearHead,
        rows: Rows,
        checked: Rows | None,
        metric: str | None,
        seed: int,
        *beside: Rows,
    ) -> Weights:
        """Returns the minimum of the best strength."""
        problem, every = Problem(head, rows), rows.ones()
        if len(self.strengths) == 1:
            return problem.minimum(self.strengths[0], every, head.zeros())
        if checked and checked.count >= _ENOUGH * max(len(head.model.classes), 1):
            held, ways = checked, [(every, checked.ones())]
        else:
            folds = _folds(rows.targets, self.folds, seed)
            masks = [(folds == fold).astype(np.float32) for fold in range(folds.max() + 1)]
            held, ways = rows, [(1 - mask, mask) for mask in masks]
            print(f"  {len(ways)} parts of the training split choose the strength")
        ends = [head.zeros()] * len(ways)
        best, best_strength, solution = (math.inf,), self.strengths[0], head.zeros()
        for strength in self.strengths:
            began = time.perf_counter()
            ends = [
                problem.minimum(strength, counted, end, ROUGH)
                for (counted, _), end in zip(ways, ends, strict=True)
            ]
            measured = [(end, mask) for (_, mask), end in zip(ways, ends, strict=True)]
            logs = head.measured(held, measured)
            score = loop.scored({f"val_{name}": each for name, each in logs.items()}, metric, 0)
            seconds = time.perf_counter() - began
            print(f"  strength {strength:g}  {loop.as_text(logs)}  {seconds:.1f} s")
            if score < best:
                kernels, biases = zip(*ends, strict=True)
                solution = (np.mean(kernels, axis=0), np.mean(biases, axis=0))
                best, best_strength = score, strength
        print(f"  strength {best_strength:g} is the best")
        return problem.minimum(best_strength, every, solution)


def require_strengths(asker: Spec, strengths: Sequence[float]) -> None:
    """Raises ValueError unless the field ``strengths`` of a spec can be one of `Solve`."""
    asker.require(len(strengths) > 0, "strengths", "at least one strength")
    asker.require(min(strengths) > 0, "strengths", "strengths above 0")
    falling = sorted(set(strengths), reverse=True)
    asker.require([*strengths] == falling, "strengths", "falling strengths, each once")


class Problem:
    """The loss of some rows with a penalty, in coordinates in which it is well conditioned.

    There the features have mean 0, and their mean variance is 1. The minimum is the same, as the
    bias has no penalty. The loss is the sum of `Task.decisions`.
    """

    def __init__(self, head: LinearHead, rows: Rows) -> None:
        """Takes the head and the rows."""
        self._head, self._rows = head, rows
        self._mean, self._deviation = head.moments(rows)
        self._decisions = head.decisions

    def minimum(
        self,
        strength: float,
        counted: np.ndarray,
        start: Weights,
        precision: Mapping[str, float] = _FINE,
        beside: Callable[[Weights], tuple[float, Weights]] | None = None,
    ) -> Weights:
        """Returns the weights of the minimum over the counted rows.

        `beside` is one more term of the loss: a function of the weights, with its gradient.
        """
        import threadpoolctl  # No help text or plan of a run has to wait for these two.
        from scipy import optimize

        kernel, bias = start
        shape = kernel.shape

        def split(point: np.ndarray) -> Weights:
            kernel = point[:kernel_size].reshape(shape) / self._deviation
            return kernel, point[kernel_size:] - self._mean @ kernel

        def value(point: np.ndarray) -> tuple[float, np.ndarray]:
            scaled = point[:kernel_size]
            weights = split(point)
            loss, (slope, bias_slope) = self._head.loss(weights, self._rows, counted)
            loss = self._decisions * loss
            slope, bias_slope = self._decisions * slope, self._decisions * bias_slope
            if beside:
                more, (kernel_slope, more_bias) = beside(weights)
                loss += more
                slope, bias_slope = slope + kernel_slope, bias_slope + more_bias
            slope = (slope - np.outer(self._mean, bias_slope)) / self._deviation
            total = loss + strength / 2 * float(scaled @ scaled)
            return total, np.concatenate([slope.ravel() + strength * scaled, bias_slope])

        kernel_size = kernel.size
        first = np.concatenate([kernel.ravel() * self._deviation, bias + self._mean @ kernel])
        # With threads of BLAS of its own seven strengths took 17.9 s, without 6.5 (SciPy 1.17.1).
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            found = optimize.minimize(
                value, first, jac=True, method="L-BFGS-B", options={**precision}
            )
        return split(found.x)


def _folds(targets: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the part of every row, int64 [n]; equal targets are dealt equally.

    Raises:
        ValueError: There are not two rows.
    """
    if len(targets) < 2:
        raise ValueError("solve needs two training examples to choose a strength by; there is one.")
    _, kinds = np.unique(targets, axis=0, return_inverse=True)
    chance = np.random.default_rng(seed).permutation(len(targets))
    order = np.lexsort((chance, kinds.ravel()))
    folds = np.empty(len(targets), np.int64)
    folds[order] = np.arange(len(targets)) % min(count, len(targets))
    return folds
