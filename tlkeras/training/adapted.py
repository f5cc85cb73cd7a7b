"""Adapted: a part of a schedule that finds a linear head for a domain without labels."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from tlkeras.frameworks import tf
from tlkeras.training import adversary, alignment, discrepancy, loop
from tlkeras.training.alignment import Move
from tlkeras.training.head_alone import HeadAlone
from tlkeras.training.linear import LinearHead, Rows, Weights
from tlkeras.training.solve import ROUGH, Problem

# `kernel_mean` compares every pair of rows: with 1,000 of a domain a fit took minutes, not seconds.
_PAIRED = 300


class Candidate(NamedTuple):
    """What is known of a head: its score, larger is better, and the values that made it."""

    score: float
    strength: float
    weight: float


@dataclasses.dataclass(frozen=True)
class Aligned:
    """What the dense layer gets of two domains, the source moved to where the target lies.

    Attributes:
        head: The head.
        rows: The rows of the source, moved.
        source: The same, float64 [n, channels], in an order of the seed.
        target: Float64 [m, channels], in an order of the seed.
        seed: Decides what is left to chance.
    """

    head: LinearHead
    rows: Rows
    source: np.ndarray
    target: np.ndarray
    seed: int

    @functools.cached_property
    def problem(self) -> Problem:
        """The loss of the source."""
        return Problem(self.head, self.rows)


class Adapted(HeadAlone, name="adapted"):
    """A head of one dense layer for the split beside the training; the fields are of `Adapt`."""

    method: Literal["coral", "mmd", "dann", "mcc"]
    strengths: tuple[float, ...]
    weights: tuple[float, ...]
    oracle: bool

    def solution(self, head, rows, checked, metric, seed, *beside):
        """Returns kernel and bias of the best of all candidates."""
        return self.solved(head, rows, checked, metric, seed, *beside)[0]

    def solved(self, head, rows, checked, metric, seed, *beside):
        """Returns the best of all candidates, and rows of the source moved as it learnt them.

        Raises:
            Diverged: No candidate is finite.
        """
        (others,) = beside
        order = np.random.default_rng(seed).permutation(others.count)
        source, target = head.features(rows), head.features(others)[order]
        rated, count = self._rating(head, checked, others, order, target)
        found: list[tuple[Candidate, Weights, Move]] = []
        for weight in self.weights:
            move = _MOVES[self.method](source, target, weight)
            moved = move(source)
            labelled = _rows(head, moved, rows.targets)
            aligned = Aligned(head, labelled, moved, target, seed)
            for strength, weights in _FITS[self.method](aligned, self.strengths, weight):
                sound = all(np.isfinite(each).all() for each in weights)
                score = rated(weights, move) if sound else -math.inf
                print(f"  strength {strength:g}, weight {weight:g}  score {score:.4f}")
                found.append((Candidate(score, strength, weight), weights, move))
        candidates = [candidate for candidate, *_ in found]
        if all(each.score == -math.inf for each in candidates):
            raise loop.Diverged(
                f"No head of adapt.method={self.method!r} is finite; use other strengths and "
                "weights, or another method."
            )
        best, weights, move = found[_chosen(candidates, count)]
        print(f"  strength {best.strength:g}, weight {best.weight:g} is the best")
        learnt = _rows(head, move(source), rows.targets)
        if checked:
            checked = _rows(head, move(head.features(checked)), checked.targets)
        return weights, learnt, checked

    def _rating(
        self,
        head: LinearHead,
        checked: Rows | None,
        others: Rows,
        order: np.ndarray,
        target: np.ndarray,
    ) -> tuple[Callable[[Weights, Move], float], int]:
        """Returns the score of a candidate, and of how many examples it is an estimate.

        The latter is 0 if the score is all that counts. Only an oracle reads the target's labels.
        """
        if self.oracle:
            named = others.targets[order].argmax(axis=-1)
            return lambda weights, move: _accuracy(weights, target, named), 0
        if checked is None:  # Of one candidate alone; `Adapt` refuses more.
            return lambda weights, move: 1.0, 0
        inputs, labels = head.features(checked), checked.targets.argmax(axis=-1)
        return lambda weights, move: _accuracy(weights, move(inputs), labels), len(labels)


def _chosen(candidates: Sequence[Candidate], count: int) -> int:
    """Returns the place of the best candidate.

    All within one standard error of the best accuracy of `count` examples are equally good (Breiman
    et al. 1984); without a `count` only the best are. Of these the greatest strength is taken, then
    the smallest weight.
    """
    top = max(each.score for each in candidates)
    least = top - (math.sqrt(top * (1 - top) / count) if count else 0)
    good = [place for place, each in enumerate(candidates) if each.score >= least]
    return max(good, key=lambda place: (candidates[place].strength, -candidates[place].weight))


def _solved(
    aligned: Aligned,
    strengths: Sequence[float],
    weight: float,
    loss: Callable[[Any, Any], Any] | None = None,
    most: int | None = None,
) -> Iterator[tuple[float, Weights]]:
    """Yields the minimum for every strength, with `weight` times a discrepancy of `most` rows."""
    every, end = aligned.rows.ones(), aligned.head.zeros()
    beside = _term(loss, weight, aligned.source[:most], aligned.target[:most]) if loss else None
    for strength in strengths:
        end = aligned.problem.minimum(strength, every, end, ROUGH, beside)
        yield strength, end


def _opposed(
    aligned: Aligned, strengths: Sequence[float], weight: float
) -> Iterator[tuple[float, Weights]]:
    yield from adversary.heads(
        aligned.source,
        aligned.rows.targets,
        aligned.target,
        strengths,
        loss=aligned.head.model.task.loss().call,
        weight=weight,
        seed=aligned.seed,
    )


_MOVES: dict[str, Callable[[np.ndarray, np.ndarray, float], Move]] = {
    "coral": alignment.covariances,
    "mmd": lambda source, target, weight: alignment.means(source, target),
    "dann": lambda source, target, weight: alignment.means(source, target),
    "mcc": lambda source, target, weight: alignment.means(source, target),
}
"""By method, how rows of the source are moved."""

_FITS: dict[str, Callable[[Aligned, Sequence[float], float], Iterator[tuple[float, Weights]]]] = {
    "coral": _solved,
    "mmd": functools.partial(_solved, loss=discrepancy.kernel_mean, most=_PAIRED),
    "dann": _opposed,
    "mcc": functools.partial(_solved, loss=discrepancy.confusion),
}
"""By method, how heads of every strength are found."""


def _term(
    loss: Callable[[Any, Any], Any], weight: float, source: np.ndarray, target: np.ndarray
) -> Callable[[Weights], tuple[float, Weights]]:
    """Returns `weight` times a discrepancy of the logits, with its gradient, by the weights."""
    rows = [tf.constant(each) for each in (source, target)]

    def slope(kernel: Any, bias: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([kernel, bias])
            found = weight * loss(*(each @ kernel + bias for each in rows))
        # A loss of differences alone does not depend on the bias.
        return found, *tape.gradient(found, [kernel, bias], unconnected_gradients="zero")

    traced = tf.function(slope, autograph=False)

    def term(weights: Weights) -> tuple[float, Weights]:
        found, kernel, bias = traced(*(tf.constant(each, tf.float64) for each in weights))
        return float(found), (kernel.numpy(), bias.numpy())

    return term


def _rows(head: LinearHead, inputs: np.ndarray, targets: np.ndarray) -> Rows:
    """Returns rows of which the dense layer gets these inputs."""
    batch = tf.constant(inputs, tf.float32), tf.constant(targets, tf.float32)
    return Rows(lambda: [batch], lambda given: given, head)


def _logits(weights: Weights, inputs: np.ndarray) -> np.ndarray:
    kernel, bias = weights
    return inputs @ kernel + bias


def _accuracy(weights: Weights, inputs: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(_logits(weights, inputs).argmax(axis=-1) == labels))
