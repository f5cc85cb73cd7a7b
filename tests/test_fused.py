"""Fused steps are the steps of Keras."""

from __future__ import annotations

import numpy as np
import pytest

from tlkeras.frameworks import keras, tf
from tlkeras.training import layer_decay
from tlkeras.training.fused import fused


def moved(optimizer, steps=5):
    """Returns the values and the state of an optimizer after steps along random gradients."""
    random = np.random.default_rng(0)
    shapes = [(4, 3), (3,), ()]
    variables = [keras.Variable(random.normal(size=shape)) for shape in shapes]
    optimizer.build(variables)

    @tf.function
    def step(gradients):
        optimizer.apply(gradients, variables)

    for _ in range(steps):
        step([tf.constant(random.normal(size=shape), tf.float32) for shape in shapes])
    return [np.asarray(each) for each in (*variables, *optimizer.variables)]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Adam", {"learning_rate": 0.1}),
        ("Adam", {"learning_rate": 0.1, "global_clipnorm": 0.5}),
        ("Adam", {"learning_rate": 0.1, "clipnorm": 0.1}),
        ("AdamW", {"learning_rate": 0.1, "weight_decay": 0.2}),
        ("AdamW", {"learning_rate": 0.1, "weight_decay": 0.0}),
        ("Adam", {"learning_rate": keras.optimizers.schedules.CosineDecay(0.1, 6)}),
    ],
)
def test_fused_steps_are_those_of_keras(kind, options):
    kind = getattr(keras.optimizers, kind)
    for found, expected in zip(moved(fused(kind)(**options)), moved(kind(**options)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_layer_decay_scales_fused_steps():
    random = np.random.default_rng(0)
    variables = [keras.Variable(random.normal(size=(4,))) for _ in range(2)]
    before = [np.asarray(each) for each in variables]
    factors = {id(variables[0]): 1.0, id(variables[1]): 0.25}
    kind = fused(keras.optimizers.Adam)
    optimizer = layer_decay.scaled(kind, factors, 0.0, learning_rate=0.1)
    optimizer.build(variables)
    optimizer.apply([tf.ones([4]), tf.ones([4])], variables)
    near, far = (np.asarray(each) - old for each, old in zip(variables, before, strict=True))
    np.testing.assert_allclose(near, -0.1, rtol=1e-3)
    np.testing.assert_allclose(far, -0.025, rtol=1e-3)


def test_rows_of_a_table_move_as_by_keras():
    table = np.random.default_rng(0).normal(size=(6, 2))
    found = []
    for kind in (keras.optimizers.Adam, fused(keras.optimizers.Adam)):
        variable, optimizer = keras.Variable(table), kind(0.1)
        optimizer.build([variable])
        rows = tf.IndexedSlices(tf.ones([2, 2]), tf.constant([1, 4]), tf.constant([6, 2]))
        optimizer.apply([rows], [variable])
        found.append(np.asarray(variable))
    np.testing.assert_array_equal(*found)


def test_a_fused_step_is_one_operation_for_each_variable():
    variables = [keras.Variable(np.ones(3)) for _ in range(3)]
    optimizer = fused(keras.optimizers.AdamW)(0.1, weight_decay=0.0)
    optimizer.build(variables)
    graph_of = tf.function(lambda: optimizer.apply([tf.ones(3)] * 3, variables))
    operations = [each.type for each in graph_of.get_concrete_function().graph.get_operations()]
    assert operations.count("ResourceApplyAdam") == 3
    assert "AssignSubVariableOp" not in operations
