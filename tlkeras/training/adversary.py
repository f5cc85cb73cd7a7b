"""Adversary: features in which a network cannot tell two domains apart, as a linear head.

Domain-adversarial training (Ganin et al. 2016, https://arxiv.org/abs/1505.07818). The features are
a linear map of those of the backbone, so map and classifier fold into one dense layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.training.linear import Weights

_CHANNELS = 64  # Of the map, at most, and of the hidden layer of the adversary.
_BATCH = 64  # Rows of each domain in a step.
_STEPS = 600
_RATE = 2e-3

# How soon the gradient is reversed in full: Ganin et al. use this in all of their experiments.
_HASTE = 10.0


def reversal(progress: float) -> float:
    """Returns the factor of the reversed gradient at a share of the steps, from 0 to almost 1."""
    return 2 / (1 + math.exp(-_HASTE * progress)) - 1


def weights(
    source: np.ndarray,
    targets: np.ndarray,
    target: np.ndarray,
    *,
    loss: Callable[[Any, Any], Any],
    weight: float,
    strength: float,
    seed: int,
) -> Weights:
    """Returns kernel [channels, classes] and bias after a fixed number of steps.

    Args:
        source: Features of labelled rows, float64 [n, channels].
        targets: Their targets, [n, classes].
        target: Features of the other domain, float64 [m, channels].
        loss: Of targets and logits, a value for every row.
        weight: The factor of the reversed gradient at the end.
        strength: Of the penalty on the folded kernel, as that of `Solve`.
        seed: Decides the initial weights and the batches.
    """
    random = np.random.default_rng((seed, 0xDA))
    mean, deviation = source.mean(axis=0), float(source.var(axis=0).mean()) ** 0.5 or 1.0
    rows, others = ((each - mean) / deviation for each in (source, target))
    channels, classes = source.shape[1], targets.shape[1]
    width = min(_CHANNELS, channels)

    def drawn(*shape: int) -> Any:
        values = random.normal(0, shape[0] ** -0.5, shape)
        return tf.Variable(values, dtype=tf.float32)

    mapping, kernel, bias = (
        drawn(channels, width),
        drawn(width, classes),
        tf.Variable([0.0] * classes),
    )
    adversary = [drawn(width, _CHANNELS), tf.Variable([0.0] * _CHANNELS), drawn(_CHANNELS, 1)]
    variables = [mapping, kernel, bias, *adversary]
    optimizer = keras.optimizers.Adam(_RATE)
    optimizer.build(variables)
    domains = tf.constant([[0.0]] * _BATCH + [[1.0]] * _BATCH)

    x, y, z = (tf.constant(each, tf.float32) for each in (rows, targets, others))
    here, there = (
        tf.constant(random.integers(0, len(each), (_STEPS, _BATCH))) for each in (rows, others)
    )
    factors = tf.constant([weight * reversal(i / _STEPS) for i in range(_STEPS)], tf.float32)

    def step(number: Any) -> Any:
        labels, factor = tf.gather(y, here[number]), factors[number]
        with tf.GradientTape() as tape:
            inputs = tf.concat([tf.gather(x, here[number]), tf.gather(z, there[number])], 0)
            both = inputs @ mapping
            errors = loss(labels, both[:_BATCH] @ kernel + bias)
            hidden = tf.nn.relu(_reversed(both, factor) @ adversary[0] + adversary[1])
            told = tf.nn.sigmoid_cross_entropy_with_logits(domains, hidden @ adversary[2])
            penalty = strength / 2 * tf.reduce_sum(tf.square(mapping @ kernel))
            total = tf.reduce_mean(errors) + tf.reduce_mean(told) + penalty
        optimizer.apply(tape.gradient(total, variables), variables)
        return [number + 1]

    # One graph of all steps: called one by one, each took several times as long.
    tf.function(lambda: tf.while_loop(lambda number: number < _STEPS, step, [0]), autograph=False)()
    folded = (mapping.numpy().astype(float) @ kernel.numpy()) / deviation
    return folded, bias.numpy() - mean @ folded


def _reversed(tensor: Any, factor: Any) -> Any:
    """Returns a tensor whose gradient comes back times minus the factor."""
    return (1 + factor) * tf.stop_gradient(tensor) - factor * tensor
