"""Adversary: features in which a network cannot tell two domains apart, as a linear head.

Domain-adversarial training (Ganin et al. 2016, https://arxiv.org/abs/1505.07818). The features are
a linear map of those of the backbone, so map and classifier fold into one dense layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tlkeras.frameworks import tf
from tlkeras.training.linear import Weights

_CHANNELS = 64  # Of the map, at most, and of the hidden layer of the adversary.
_BATCH = 64  # Rows of each domain in a step.
_STEPS = 500

# The schedules and the momentum of Ganin et al. (section 5.2.2) in all of their experiments.
_HASTE, _DECAY, _POWER, _MOMENTUM = 10.0, 10.0, 0.75, 0.9

# Theirs is 0.01 for whole networks. Here 500 steps have to do.
_RATE = 0.05

# The channels for which the rate was found. The steps of the map grow with the squared length of
# rows, which is the number of channels: rows of 300 and more diverged.
_LONGEST = 192


def reversal(progress: Any) -> Any:
    """Returns the factor of the reversed gradient at a share of the steps, from 0 to almost 1."""
    return 2 / (1 + np.exp(-_HASTE * progress)) - 1


def heads(
    source: np.ndarray,
    targets: np.ndarray,
    target: np.ndarray,
    strengths: Sequence[float],
    *,
    loss: Callable[[Any, Any], Any],
    weight: float,
    seed: int,
) -> Iterator[tuple[float, Weights]]:
    """Yields every strength with kernel [channels, classes] and bias after a number of steps.

    Args:
        source: Features of labelled rows, float64 [n, channels].
        targets: Their targets, [n, classes].
        target: Features of the other domain, float64 [m, channels].
        strengths: Of the penalty on the folded kernel, as those of `Solve`.
        loss: Of targets and logits, a value for every row.
        weight: The factor of the reversed gradient at the end.
        seed: Decides the initial weights and the batches.
    """
    random = np.random.default_rng((seed, 0xDA))
    mean, deviation = source.mean(axis=0), float(source.var(axis=0).mean()) ** 0.5 or 1.0
    shrunk = min(1.0, (_LONGEST / source.shape[1]) ** 0.5)
    unit = deviation / shrunk
    rows, others = ((each - mean) / unit for each in (source, target))
    width = min(_CHANNELS, source.shape[1])
    shapes = [(source.shape[1], width), (width, targets.shape[1]), (width, _CHANNELS)]
    drawn = [random.normal(0, shape[0] ** -0.5, shape) for shape in (*shapes, (_CHANNELS, 1))]
    biases = [np.zeros(targets.shape[1]), np.zeros(_CHANNELS)]
    start = [tf.constant(each, tf.float32) for each in (*drawn, *biases)]
    x, y, z = (tf.constant(each, tf.float32) for each in (rows, targets, others))
    places = (random.integers(0, len(each), (_STEPS, _BATCH)) for each in (rows, others))
    here, there = (tf.constant(each) for each in places)
    progress = np.arange(_STEPS) / _STEPS
    factors = tf.constant(weight * reversal(progress), tf.float32)
    rates = tf.constant(_RATE / (1 + _DECAY * progress) ** _POWER, tf.float32)
    domains = tf.constant([[0.0]] * _BATCH + [[1.0]] * _BATCH)

    def total(values: list[Any], number: Any, strength: Any) -> Any:
        mapping, kernel, hidden, last, bias, inner = values
        inputs = tf.concat([tf.gather(x, here[number]), tf.gather(z, there[number])], 0) @ mapping
        errors = loss(tf.gather(y, here[number]), inputs[:_BATCH] @ kernel + bias)
        seen = tf.nn.relu(_reversed(inputs, factors[number]) @ hidden + inner)
        told = tf.nn.sigmoid_cross_entropy_with_logits(domains, seen @ last)
        penalty = strength / 2 * tf.reduce_sum(tf.square(shrunk * mapping @ kernel))
        return tf.reduce_mean(errors) + tf.reduce_mean(told) + penalty

    @tf.function(autograph=False)
    def descended(strength: Any) -> Any:
        def step(number: Any, values: list[Any], speeds: list[Any]) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(values)
                found = total(values, number, strength)
            slopes = tape.gradient(found, values)
            pairs = zip(speeds, slopes, strict=True)
            speeds = [_MOMENTUM * speed - rates[number] * slope for speed, slope in pairs]
            moved = [value + speed for value, speed in zip(values, speeds, strict=True)]
            return number + 1, moved, speeds

        rest = [tf.zeros_like(each) for each in start]
        return tf.while_loop(lambda number, *_: number < _STEPS, step, (0, start, rest))[1]

    for strength in strengths:
        mapping, kernel, _, _, bias, _ = (
            each.numpy().astype(float) for each in descended(tf.constant(strength, tf.float32))
        )
        folded = mapping @ kernel / unit
        yield strength, (folded, bias - mean @ folded)


def _reversed(tensor: Any, factor: Any) -> Any:
    """Returns a tensor whose gradient comes back times minus the factor."""
    return (1 + factor) * tf.stop_gradient(tensor) - factor * tensor
