"""The learning rate from a sweep."""

import numpy as np
import pytest
from conftest import Tiny, weights_of

from tlkeras import spec
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.tasks.classification import Classification
from tlkeras.training import rate_finder
from tlkeras.training.phase import Phase
from tlkeras.training.trainable import trainable


def parabola(curvature):
    """Returns a compiled model whose loss is curvature / 2 * (w - 3)^2, and its batches."""
    inputs = keras.Input([1])
    outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="w")(inputs)
    model = trainable(keras.Model(inputs, outputs))
    rows = tf.data.Dataset.from_tensors((np.ones([1, 1], "float32"), np.full([1, 1], 3.0)))
    model.compile(
        keras.optimizers.SGD(1.0),
        loss=lambda target, found: curvature / 2 * keras.ops.square(target - found),
    )
    return model, rows.repeat(rate_finder.STEPS)


@pytest.mark.parametrize("curvature", [0.5, 10.0, 1000.0])
def test_the_suggestion_is_near_the_best_rate_of_a_parabola(curvature):
    # One step of 1 / curvature ends in the minimum; from 2 / curvature on, steps diverge.
    sweep = rate_finder.swept(*parabola(curvature), first=0, seed=0)
    assert 0.1 / curvature <= sweep.suggestion <= 1.5 / curvature
    assert sweep.rates[0] == pytest.approx(rate_finder.LOW)
    np.testing.assert_allclose(sweep.losses[0], curvature / 2 * 9, rtol=1e-6)


def test_the_losses_are_those_of_single_steps_by_hand():
    sweep = rate_finder.swept(*parabola(10.0), first=0, seed=0)
    weight, losses = 0.0, []
    for rate in sweep.rates:
        losses.append(5.0 * (weight - 3) ** 2)
        weight -= rate * 10.0 * (weight - 3)
    # Behind the best rate every rounding grows.
    np.testing.assert_allclose(sweep.losses[:80], losses[:80], rtol=1e-3, atol=1e-6)
    weights = 0.9 ** np.arange(len(losses))[::-1]
    assert sweep.smoothed[-1] == pytest.approx(weights @ sweep.losses / weights.sum())


@pytest.mark.parametrize("seed", range(5))
def test_the_suggestion_for_a_fitted_network_is_below_where_the_loss_rises(seed):
    rates = np.geomspace(rate_finder.LOW, rate_finder.HIGH, rate_finder.STEPS)
    noise = np.random.default_rng(seed).gamma(4.0, 0.1, rate_finder.STEPS)
    losses = noise + 100 * rates  # From 1e-2 on it rises.
    sweep = rate_finder.Sweep((*rates,), (*losses,), (*rate_finder.smoothed([*losses]),))
    assert 1e-5 < sweep.suggestion < 1e-3


def test_a_sweep_ends_where_the_loss_diverges_or_is_not_finite():
    model, rows = parabola(1000.0)
    sweep = rate_finder.swept(model, rows, first=0, seed=0)
    assert len(sweep.rates) < rate_finder.STEPS and np.isfinite(sweep.losses).all()
    assert model.get_weights()[0] == 0
    broken = rows.map(lambda x, y: (x, y * np.nan))
    with pytest.raises(ValueError, match=r"loss is not finite at a learning rate of 1e-06"):
        rate_finder.swept(model, broken, first=0, seed=0)


def test_a_sweep_that_breaks_off_leaves_the_weights_as_they_were():
    model, rows = parabola(10.0)
    broken = rows.map(lambda x, y: (tf.debugging.check_numerics(x / 0, "broken"), y))
    with pytest.raises(tf.errors.InvalidArgumentError, match="broken"):
        rate_finder.swept(model, rows.take(50).concatenate(broken), first=0, seed=0)
    assert model.get_weights()[0] == 0


def fit(data, folder, recipe, callbacks=()):
    model = TransferModel(Tiny(), Classification(), ("blue", "green", "red"), seed=3)
    logs = recipe.fit(model, data, folder, callbacks)
    return weights_of(model.full), logs


AUTO = FineTune(
    (
        Phase(epochs=2, learning_rate="auto"),
        Phase(epochs=2, learning_rate="auto", unfreeze="block4", schedule="cosine", warmup=0.2),
    )
)


def found(folder, number):
    return rate_finder.read(folder / f"phase{number}" / rate_finder.FILE)


@pytest.mark.slow
@pytest.mark.equality
def test_a_fit_after_sweeps_is_the_fit_with_the_rates_that_they_suggest(data, tmp_path):
    weights, logs = fit(data, tmp_path / "auto", AUTO)
    rates = [found(tmp_path / "auto", number).suggestion for number in (0, 1)]
    assert [log["learning_rate"] for log in logs] == [rates[0]] * 2 + [rates[1]] * 2
    named = FineTune(
        tuple(
            phase.replace(learning_rate=rate)
            for phase, rate in zip(AUTO.phases, rates, strict=True)
        )
    )
    expected, others = fit(data, tmp_path / "named", named)
    for path, value in expected.items():
        np.testing.assert_array_equal(weights[path], value)
    for log, other in zip(logs, others, strict=True):
        assert log == {**other, "learning_rate": log["learning_rate"]}


class Killed(Exception):
    pass


@pytest.mark.slow
@pytest.mark.equality
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_killed_fit_with_sweeps_ends_like_an_unbroken_one(data, tmp_path, epoch):
    expected, logs = fit(data, tmp_path / "whole", AUTO)
    seen: list[int] = []

    def stop(number, _):
        seen.append(number)
        if len(seen) == epoch + 1:
            raise Killed

    broken = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    with pytest.raises(Killed):
        fit(data, tmp_path / "killed", AUTO, [broken])
    weights, again = fit(data, tmp_path / "killed", AUTO)
    assert again == logs
    for path, value in expected.items():
        np.testing.assert_array_equal(weights[path], value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("phase(learning_rate='best')", r"phase.learning_rate is 'best', expected"),
        (
            "phase(learning_rate=0)",
            r"phase.learning_rate is 0.0, expected a rate above 0, or 'auto'",
        ),
    ],
)
def test_a_rate_that_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        spec.parse(call, Phase)
    assert spec.parse("phase(learning_rate='auto')", Phase).learning_rate == "auto"
