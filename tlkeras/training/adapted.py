"""Adapted: a part of a schedule that finds a linear head for a domain without labels."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from tlkeras.frameworks import tf
from tlkeras.training import adversary, alignment, discrepancy
from tlkeras.training.alignment import Move
from tlkeras.training.head_alone import HeadAlone
from tlkeras.training.linear import LinearHead, Rows, Weights
from tlkeras.training.solve import ROUGH, Problem

# `kernel_mean` compares every pair of rows, so it takes no more of a domain.
_PAIRED = 300


@dataclasses.dataclass(frozen=True)
class Domains:
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

    def solution(
        self,
        head: LinearHead,
        rows: Rows,
        checked: Rows | None,
        metric: str | None,
        seed: int,
        *beside: Rows,
    ) -> Weights:
        """Returns kernel and bias of the best of all candidates."""
        (others,) = beside
        source, target = _inputs(head, rows), _inputs(head, others)
        order = np.random.default_rng(seed).permutation(len(target))
        labels = others.targets.argmax(axis=-1) if self.oracle else None
        held = None if checked is None else (_inputs(head, checked), checked.targets)
        best, chosen = [], []
        for weight in self.weights:
            move = _MOVES[self.method](source, target, weight)
            moved = _rows(head, move(source), rows.targets)
            domains = Domains(head, moved, move(source), target[order], seed)
            for strength, found in _FITS[self.method](domains, self.strengths, weight):
                if labels is not None:
                    score = _accuracy(found, target, labels)
                elif held is None:
                    score = 1.0
                else:
                    named = np.eye(rows.targets.shape[1])[_logits(found, target).argmax(axis=-1)]
                    back = Problem(head, _rows(head, target, named))
                    reverse = back.minimum(strength, np.ones(len(named), np.float32), found, ROUGH)
                    score = _accuracy(reverse, move(held[0]), held[1].argmax(axis=-1))
                print(f"  strength {strength:g}, weight {weight:g}  score {score:.4f}")
                best.append((score, strength, -weight))
                chosen.append(found)
        place = _chosen(best, 0 if held is None or self.oracle else len(held[1]))
        _, strength, weight = best[place]
        print(f"  strength {strength:g}, weight {-weight:g} is the best")
        return chosen[place]


def _chosen(candidates: Sequence[tuple[float, float, float]], count: int) -> int:
    """Returns the place of the best of candidates ``(score, strength, -weight)``.

    All within one standard error of the best accuracy of `count` examples are equally good (Breiman
    et al. 1984); without a `count` only the best are. The greatest strength decides between them.
    """
    top = max(score for score, _, _ in candidates)
    least = top - (math.sqrt(top * (1 - top) / count) if count else 0)
    good = [place for place, (score, _, _) in enumerate(candidates) if score >= least]
    return max(good, key=lambda place: candidates[place][1:])


def _solved(
    domains: Domains,
    strengths: Sequence[float],
    weight: float,
    loss: Callable[[Any, Any], Any] | None = None,
    most: int | None = None,
) -> Iterator[tuple[float, Weights]]:
    """Yields the minimum for every strength, with `weight` times a discrepancy of `most` rows."""
    every, end = domains.rows.ones(), domains.head.zeros()
    beside = _term(loss, weight, domains.source[:most], domains.target[:most]) if loss else None
    for strength in strengths:
        end = domains.problem.minimum(strength, every, end, ROUGH, beside)
        yield strength, end


def _opposed(
    domains: Domains, strengths: Sequence[float], weight: float
) -> Iterator[tuple[float, Weights]]:
    yield from adversary.heads(
        domains.source,
        domains.rows.targets,
        domains.target,
        strengths,
        loss=domains.head.model.task.loss().call,
        weight=weight,
        seed=domains.seed,
    )


_MOVES: dict[str, Callable[[np.ndarray, np.ndarray, float], Move]] = {
    "coral": alignment.covariances,
    "mmd": lambda source, target, weight: alignment.means(source, target),
    "dann": lambda source, target, weight: alignment.means(source, target),
    "mcc": lambda source, target, weight: alignment.means(source, target),
}
"""By method, how rows of the source are moved."""

_FITS: dict[str, Callable[[Domains, Sequence[float], float], Iterator[tuple[float, Weights]]]] = {
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


def _inputs(head: LinearHead, rows: Rows) -> np.ndarray:
    return np.concatenate([values for _, values in head.inputs(rows)])


def _rows(head: LinearHead, inputs: np.ndarray, targets: np.ndarray) -> Rows:
    """Returns rows of which the dense layer gets these inputs."""
    batch = tf.constant(inputs, tf.float32), tf.constant(targets, tf.float32)
    return Rows(lambda: [batch], lambda given: given, head)


def _logits(weights: Weights, inputs: np.ndarray) -> np.ndarray:
    kernel, bias = weights
    return inputs @ kernel + bias


def _accuracy(weights: Weights, inputs: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(_logits(weights, inputs).argmax(axis=-1) == labels))
