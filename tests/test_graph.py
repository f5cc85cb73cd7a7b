"""Cutting a model: what crosses, what is shared, and what is refused."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from conftest import assert_near

from tlkeras.frameworks import keras, tf
from tlkeras.model import folding, graph
from tlkeras.model.transfer_model import computing_in

pytestmark = pytest.mark.equality


def dense(name: str, units: int = 3):
    return keras.layers.Dense(units, name=name)


@pytest.fixture
def forked() -> keras.Model:
    """Two branches of `first`, joined, and two named outputs, one of them early."""
    inputs = keras.Input([4], name="inputs")
    first = dense("first")(inputs)
    left, right = dense("left")(first), dense("right")(first)
    joined = keras.layers.Concatenate(name="joined")([left, right])
    return keras.Model(inputs, {"early": left, "late": dense("last")(joined)})


def layers(model: keras.Model, *names: str) -> list[keras.Layer]:
    return [model.get_layer(name) for name in names]


X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.mark.parametrize(
    ("names", "crossing"),
    [
        ((), ["inputs"]),
        (("first",), ["first"]),
        (("first", "left"), ["first", "left"]),
        (("first", "left", "right"), ["left", "right"]),
        (("first", "left", "right", "joined"), ["left", "joined"]),
        (("first", "left", "right", "joined", "last"), ["left", "last"]),
    ],
)
def test_suffix_after_prefix_is_the_model(forked: keras.Model, names, crossing):
    chosen = layers(forked, *names)
    tensors = keras.tree.flatten(graph.boundary(forked, chosen))
    assert [tensor._keras_history.operation.name for tensor in tensors] == crossing
    prefix, suffix = graph.cut(forked, chosen)
    found, expected = suffix(prefix(X)), forked(X)
    assert list(found) == list(expected) == ["early", "late"]
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_one_crossing_tensor_is_passed_plain(forked: keras.Model):
    prefix, _ = graph.cut(forked, layers(forked, "first"))
    assert isinstance(prefix.output, keras.KerasTensor)


def test_prefix_and_suffix_share_the_variables_of_the_model(forked: keras.Model):
    prefix, suffix = graph.cut(forked, layers(forked, "first"))
    assert prefix.get_layer("first").kernel is forked.get_layer("first").kernel
    assert suffix.get_layer("last").kernel is forked.get_layer("last").kernel
    before = forked(X)["late"].numpy()
    suffix.get_layer("last").kernel.assign_add(tf.ones([6, 3]))
    assert np.all(forked(X)["late"] != before)


def test_a_cut_leaves_the_model_as_it_was(forked: keras.Model):
    config = forked.get_config()
    graph.cut(forked, layers(forked, "first", "left"))
    assert forked.get_config() == config


def test_a_cut_can_be_cut_again(forked: keras.Model):
    _, suffix = graph.cut(forked, layers(forked, "first"))
    middle, end = graph.cut(suffix, layers(suffix, "left", "right"))
    first = keras.Model(forked.input, forked.get_layer("first").output)
    np.testing.assert_array_equal(end(middle(first(X)))["late"], forked(X)["late"])


def test_a_sum_that_is_no_layer_crosses_as_one_tensor():
    inputs = keras.Input([4])
    x = dense("first", 4)(inputs)
    x = x + dense("second", 4)(x)
    x = x + dense("third", 4)(x)
    model = keras.Model(inputs, x)
    crossing = graph.boundary(model, layers(model, "first", "second"))
    assert not isinstance(crossing, list)
    prefix, suffix = graph.cut(model, layers(model, "first", "second"))
    np.testing.assert_array_equal(suffix(prefix(X)), model(X))


def test_an_operation_that_would_widen_the_cut_stays_behind_it():
    inputs = keras.Input([4])
    x = dense("first", 4)(inputs)
    gate = keras.layers.ReLU(6.0, name="gate")(x + 3.0) * (1 / 6)
    model = keras.Model(inputs, keras.layers.Multiply(name="product")([x, gate]))
    crossing = graph.boundary(model, layers(model, "first"))
    assert crossing is model.get_layer("first").output
    prefix, suffix = graph.cut(model, layers(model, "first"))
    np.testing.assert_array_equal(suffix(prefix(X)), model(X))


def test_a_layer_without_what_it_depends_on_is_refused(forked: keras.Model):
    with pytest.raises(ValueError, match="depends on 'first', which is not among them"):
        graph.cut(forked, layers(forked, "left"))


def convolutions(*order: str) -> keras.Model:
    """A chain of layers by name, their norms with statistics and factors of their own."""
    made = {
        "conv": lambda: keras.layers.Conv2D(6, 3, strides=2, padding="same"),
        "unbiased": lambda: keras.layers.Conv2D(6, 3, use_bias=False, dilation_rate=2),
        "grouped": lambda: keras.layers.Conv2D(6, 3, groups=3),
        "depthwise": lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
        "separable": lambda: keras.layers.SeparableConv2D(6, 3),
        "active": lambda: keras.layers.Conv2D(6, 3, activation="relu"),
        "norm": lambda: keras.layers.BatchNormalization(),
        "plain_norm": lambda: keras.layers.BatchNormalization(scale=False, center=False),
        "relu": lambda: keras.layers.ReLU(),
        "dropout": lambda: keras.layers.Dropout(0.5),
    }
    inputs = x = keras.Input([20, 20, 3])
    random = np.random.default_rng(0)
    for name in order:
        layer = made[name]()
        x = layer(x)
        layer.set_weights([random.uniform(0.2, 1, w.shape) for w in layer.get_weights()])
    return keras.Model(inputs, x)


PIXELS = np.random.default_rng(1).normal(size=(2, 20, 20, 3)).astype("float32")


@pytest.mark.parametrize(
    ("order", "folded"),
    [
        (("conv", "norm", "relu", "unbiased", "norm"), 2),
        (("unbiased", "plain_norm", "dropout"), 1),
        (("depthwise", "norm", "relu"), 1),
        (("grouped", "norm"), 1),
        (("conv", "norm", "norm"), 1),
        (("separable", "norm"), 0),
        (("active", "norm"), 0),
        (("norm", "relu", "conv"), 0),
    ],
)
def test_folding_norms_changes_nothing_but_the_rounding(order, folded):
    model = convolutions(*order)
    assert len(folding._foldable(model, training=False)) == folded
    expected = model(PIXELS, training=False)
    np.testing.assert_allclose(folding.run(model, PIXELS), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "with_norm"),
    [
        ({"filters": 3, "padding": "same"}, True),
        ({"filters": 6, "activation": "gelu"}, False),
        ({"filters": 6, "strides": 2, "use_bias": False}, True),
        ({"filters": 3, "dilation_rate": 2, "activation": "relu"}, True),
    ],
)
def test_a_convolution_with_a_group_for_each_channel_runs_as_a_depthwise_one(options, with_norm):
    inputs = keras.Input([20, 20, 3])
    layer: Any = keras.layers.Conv2D(kernel_size=5, groups=3, **options)
    norm = keras.layers.BatchNormalization(gamma_initializer="random_normal")
    x = layer(inputs)
    model = keras.Model(inputs, norm(x) if with_norm else x)
    if layer.use_bias:
        layer.bias.assign(np.arange(1.0, 1.0 + options["filters"]))

    def values(run):
        with tf.GradientTape() as tape:
            outputs = run(tf.constant(PIXELS))
            loss = tf.reduce_sum(tf.sin(outputs))
        return outputs, tape.gradient(loss, layer.kernel.value)

    graph_of = tf.function(lambda x: folding.run(model, x)).get_concrete_function(PIXELS)
    operations = {each.type for each in graph_of.graph.get_operations()}
    assert "DepthwiseConv2dNative" in operations and not operations & {"Conv2D", "PartitionedCall"}
    for found, expected in zip(
        values(lambda x: folding.run(model, x)),
        values(lambda x: model(x, training=False)),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_tensor_passes_through_a_part_as_it_is_whatever_the_policy_of_keras():
    inputs = keras.Input([3])
    x = keras.layers.Dense(3)(inputs)
    model = keras.Model(inputs, {"x": x, "y": keras.layers.Dense(2)(x)})
    with computing_in("mixed_float16"):
        part = graph.segment(model, x, model.output)
    rows = tf.constant([[1e5, 1 / 3, 1e-9]])
    np.testing.assert_array_equal(folding.run(part, rows)["x"], rows)


def test_a_run_inside_a_layer_rounds_as_one_outside():
    with computing_in("mixed_bfloat16"):
        inputs = keras.Input([8, 8, 3])
        x = keras.layers.Conv2D(4, 3, use_bias=True, bias_initializer="ones")(inputs)
        x = keras.layers.BatchNormalization(gamma_initializer="random_normal")(x)
        network = keras.Model(inputs, x)

        class Inside(keras.layers.Layer):
            def call(self, x):
                return folding.run(network, x)

        pixels = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
        np.testing.assert_array_equal(Inside()(pixels), folding.run(network, tf.constant(pixels)))


def test_a_norm_of_a_class_of_its_own_is_not_folded():
    class Absolute(keras.layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return keras.ops.abs(super().call(inputs, training=training, mask=mask))

    inputs = keras.Input([20, 20, 3])
    model = keras.Model(inputs, Absolute()(keras.layers.Conv2D(3, 3)(inputs)))
    np.testing.assert_array_equal(folding.run(model, PIXELS), model(PIXELS))


def test_a_convolution_that_others_read_too_is_not_folded():
    inputs = keras.Input([20, 20, 3])
    x = keras.layers.Conv2D(3, 3, padding="same")(inputs)
    norm = keras.layers.BatchNormalization()
    model = keras.Model(inputs, {"early": x, "late": norm(x)})
    norm.set_weights([np.full(3, value) for value in (2.0, 1.0, 0.5, 3.0)])
    found, expected = folding.run(model, PIXELS), model(PIXELS)
    for name in ("early", "late"):
        assert_near(found[name], expected[name], summands=27 + 3)  # And bias, scale and shift.


def test_a_norm_called_twice_is_folded_where_it_follows_a_convolution_and_called_elsewhere():
    inputs = keras.Input([20, 20, 3])
    norm = keras.layers.BatchNormalization()
    x = keras.layers.ReLU()(norm(keras.layers.Conv2D(3, 3)(inputs)))
    model = keras.Model(inputs, norm(x))
    norm.set_weights([np.full(3, value) for value in (2.0, 1.0, 0.5, 3.0)])
    assert len(folding._foldable(model, training=False)) == 1
    # Those of the convolution, bias, scale and shift, and the second norm.
    assert_near(folding.run(model, PIXELS), model(PIXELS), summands=27 + 3 + 2)


def test_a_run_takes_a_branched_model_and_reads_its_weights_anew(forked: keras.Model):
    for _ in range(2):
        found, expected = folding.run(forked, X), forked(X)
        for name in ("early", "late"):
            np.testing.assert_array_equal(found[name], expected[name])
        forked.get_layer("first").kernel.assign_add(tf.ones([4, 3]))


def test_gradients_reach_the_kernels_as_without_folding_and_norms_that_learn_are_not_folded():
    model = convolutions("conv", "norm", "relu", "depthwise", "norm")
    first, second = (x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
    first.trainable = False
    assert [node.operation for node in folding._foldable(model, training=True).values()] == [first]
    second.trainable = False
    assert len(folding._foldable(model, training=True)) == 2

    def gradients(call):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(call(model, PIXELS, training=True)))
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    plain = gradients(lambda called, pixels, training: called(pixels, training=training))
    for found, expected in zip(gradients(folding.run), plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("options", [{}, {"scale": False, "center": False, "momentum": 0.5}])
def test_a_norm_that_learns_gives_and_keeps_what_keras_does(options, precision):
    with computing_in(precision):
        inputs = keras.Input([20, 20, 3])
        norm = keras.layers.BatchNormalization(**options)
        model = keras.Model(inputs, norm(keras.layers.Conv2D(6, 3, name="conv")(inputs)))
    weights = [np.random.default_rng(2).uniform(0.5, 2, each.shape) for each in model.weights]

    def run(call):
        model.set_weights(weights)
        with tf.GradientTape() as tape:
            outputs = call(model, PIXELS, training=True)
            loss = tf.reduce_mean(tf.sin(tf.cast(outputs, tf.float32)))
        variables = [variable.value for variable in model.trainable_variables]
        return outputs, [*tape.gradient(loss, variables), norm.moving_mean, norm.moving_variance]

    outputs, found = run(folding.run)
    like_keras, expected = run(lambda called, pixels, training: called(pixels, training=training))
    assert outputs.dtype == like_keras.dtype
    rtol, atol = (1e-4, 1e-5) if precision == "float32" else (0.05, 0.02)
    for one, other in zip([outputs, *found], [like_keras, *expected], strict=True):
        one, other = (np.asarray(each).astype(np.float32) for each in (one, other))
        np.testing.assert_allclose(one, other, rtol, atol)


def test_a_norm_in_training_is_one_operation():
    model = convolutions("conv", "norm", "relu")
    graph_of = tf.function(lambda x: folding.run(model, x, training=True))
    operations = [
        each.type for each in graph_of.get_concrete_function(PIXELS).graph.get_operations()
    ]
    assert operations.count("FusedBatchNormV3") == 1
    assert not {"Mean", "Rsqrt", "SquaredDifference"} & set(operations)


def test_a_model_one_of_whose_inputs_crosses_a_cut_can_still_be_written():
    one, other = keras.Input([4], name="one"), keras.Input([4], name="other")
    first = keras.layers.Dense(4, name="first")
    model = keras.Model({"one": one, "other": other}, keras.ops.multiply(first(one), other))
    before = model.get_config()
    prefix, suffix = graph.cut(model, [first])
    assert model.get_config() == before and prefix.get_config()
    x = {name: np.random.default_rng(i).normal(size=(2, 4)) for i, name in enumerate(model.input)}
    np.testing.assert_array_equal(suffix(prefix(x)), model(x))


def test_the_digest_of_a_network_does_not_tell_how_its_norms_have_learnt():
    norm, inputs = keras.layers.BatchNormalization(), keras.Input([4])
    network = keras.Model(inputs, norm(inputs))
    fresh = graph.digest(network)
    norm.momentum = 0.9
    network.trainable = False
    assert graph.digest(network) == fresh


def test_the_digest_copies_no_whole_table(monkeypatch):
    inputs = keras.Input([], dtype="int32")
    network = keras.Model(inputs, keras.layers.Embedding(20_000, 64)(inputs))
    whole = graph.digest(network)
    monkeypatch.setattr(graph, "_PIECE", 1000)
    tracemalloc.start()
    pieces = graph.digest(network)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pieces == whole
    assert most < 1_000_000  # The table has 5,120,000 bytes.
