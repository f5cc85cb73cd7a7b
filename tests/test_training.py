"""The epoch loop."""

import json
from typing import Any

import numpy as np
import pytest
from conftest import weights_of

from tlkeras.frameworks import keras, tf
from tlkeras.training import loop

pytestmark = pytest.mark.equality


def make(rate=0.05):
    keras.utils.set_random_seed(1)
    inputs = keras.Input([4])
    x = keras.layers.Dense(8, activation="relu", name="hidden")(inputs)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, name="out")(x))
    model.compile(keras.optimizers.Adam(rate), loss="mse")
    return model


def train(epoch):
    random = np.random.default_rng(epoch)
    x = random.normal(size=(32, 4)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(8)


def validation():
    return train(1000)


def fit(model, folder, epochs=6, patience=0, callbacks=(), feed=train, held_out=True, **options):
    return run(model, folder, epochs, patience, callbacks, feed, held_out, **options).history


def run(model, folder, epochs, patience, callbacks, feed, held_out, start=None, metric=None):
    start = start or loop.State()
    return loop.fit(
        model,
        feed,
        validation() if held_out else None,
        metric=metric,
        start=start,
        first=0,
        epochs=epochs,
        patience=patience,
        seed=0,
        folder=folder,
        callbacks=callbacks,
    )


class Killed(Exception):
    pass


def killer(epoch):
    def on_epoch_end(reached, logs):
        if reached == epoch:
            raise Killed

    return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)


@pytest.mark.parametrize("epoch", [0, 2, 5])
def test_a_killed_fit_ends_like_an_unbroken_one(tmp_path, epoch):
    unbroken = make()
    expected = fit(unbroken, tmp_path / "unbroken")
    broken = make()
    with pytest.raises(Killed):
        fit(broken, tmp_path / "broken", callbacks=[killer(epoch)])
    again = make()
    assert fit(again, tmp_path / "broken") == expected
    for path, value in weights_of(unbroken).items():
        np.testing.assert_array_equal(weights_of(again)[path], value)


def test_a_finished_fit_called_again_trains_nothing(tmp_path):
    expected = fit(make(), tmp_path)

    def feed(epoch):
        raise AssertionError("asked for data")

    assert fit(make(), tmp_path, feed=feed) == expected


@pytest.mark.filterwarnings("ignore:Limiting epochs")
def test_an_epoch_that_keras_is_set_to_leave_out_is_said_to_be_missing(tmp_path):
    keras.config.set_max_epochs(1)
    try:
        assert len(fit(make(), tmp_path / "one", epochs=1)) == 1
        for callbacks in ([], [keras.callbacks.History()]):
            with pytest.raises(ValueError, match=r"Keras ran no epoch 2; .*set_max_epochs"):
                fit(make(), tmp_path / f"two{len(callbacks)}", epochs=2, callbacks=callbacks)
    finally:
        keras.config.set_max_epochs(None)


def test_the_weights_of_the_smallest_validation_loss_are_kept(tmp_path):
    model = make(rate=1.0)  # A rate at which the loss goes up and down.
    losses = [log["val_loss"] for log in fit(model, tmp_path, epochs=8)]
    silent: Any = 0
    assert model.evaluate(validation(), verbose=silent) == min(losses)


def test_a_metric_goes_before_the_loss(tmp_path):
    def with_worse_losses(epoch):
        # From epoch 2 on the loss grows; the metric, the mean output, grows with every epoch.
        return train(0).map(lambda x, y: (x, y + 4.0 * epoch))

    model = make()
    model.compile(keras.optimizers.SGD(0.02), loss="mse", metrics=[_mean_output])
    options = {"feed": with_worse_losses, "metric": "_mean_output"}
    logs = fit(model, tmp_path, epochs=4, **options)
    best = max(range(4), key=lambda i: logs[i]["val__mean_output"])
    assert best != min(range(4), key=lambda i: logs[i]["val_loss"])
    assert json.loads((tmp_path / "state.json").read_text())["best_epoch"] == best + 1


def test_of_equal_metrics_the_smallest_loss_is_kept(tmp_path):
    model = make()
    model.compile(keras.optimizers.SGD(0.02), loss="mse", metrics=[_always_one])
    logs = fit(model, tmp_path, epochs=4, metric="_always_one")
    best = min(range(4), key=lambda i: logs[i]["val_loss"])
    assert best > 0  # Else it would prove nothing.
    assert json.loads((tmp_path / "state.json").read_text())["best_epoch"] == best + 1


def _always_one(target, output):
    return keras.ops.mean(keras.ops.ones_like(output))


def _mean_output(target, output):
    return keras.ops.mean(output)


def test_a_history_among_the_callbacks_changes_nothing(tmp_path):
    plain, watched = make(), make()
    history = keras.callbacks.History()
    assert fit(plain, tmp_path / "a") == fit(watched, tmp_path / "b", callbacks=[history])
    for one, two in zip(plain.weights, watched.weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_fit_that_beats_nothing_ends_with_the_weights_it_began_with(tmp_path):
    model = make()
    before = weights_of(model)
    logs = fit(model, tmp_path, epochs=2, start=loop.State(best=(0.0,)))
    assert len(logs) == 2
    for path, value in weights_of(model).items():
        np.testing.assert_array_equal(before[path], value)


def test_without_validation_data_the_last_weights_are_kept(tmp_path):
    seen = []
    model = make()
    spy = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(weights_of(model))
    )
    fit(model, tmp_path, epochs=3, held_out=False, callbacks=[spy])
    np.testing.assert_array_equal(weights_of(model)["out/kernel"], seen[-1]["out/kernel"])


def test_patience_counts_epochs_without_a_better_one(tmp_path):
    model = make(rate=1e-12)  # Too small to change a float32 weight, hence the loss.
    logs = fit(model, tmp_path, epochs=9, patience=2)
    assert len(logs) == 1 + 2  # The first beats having nothing.


def test_only_the_last_and_the_best_weights_stay_on_disk(tmp_path):
    fit(make(), tmp_path, epochs=6)
    state = json.loads((tmp_path / "state.json").read_text())
    names = {f"epoch{epoch:04d}.npz" for epoch in (6, state["best_epoch"])}
    assert {path.name for path in tmp_path.glob("*.npz")} == names


def test_a_loss_that_is_not_finite_ends_the_fit_with_advice(tmp_path):
    def feed(epoch):
        return train(epoch).map(lambda x, y: (x * np.inf, y))

    model = make()
    with pytest.raises(ValueError, match=r"The loss is .* in epoch 1; use a smaller learning_rate"):
        fit(model, tmp_path, feed=feed)
    for left, first in zip(model.get_weights(), make().get_weights(), strict=True):
        np.testing.assert_array_equal(left, first)


def test_dropout_differs_between_epochs_and_not_between_runs(tmp_path):
    def feed(epoch):
        return train(0)

    first = fit(make(rate=1e-12), tmp_path / "a", feed=feed)
    second = fit(make(rate=1e-12), tmp_path / "b", feed=feed)
    assert first == second
    assert len({log["loss"] for log in first}) == len(first)


def test_a_callback_may_end_the_fit_and_a_resumed_one_stays_ended(tmp_path):
    model = make()

    def stop(epoch, logs):
        model.stop_training = epoch == 1

    stopper = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    logs = fit(model, tmp_path, epochs=6, callbacks=[stopper])
    assert len(logs) == 2
    assert fit(make(), tmp_path, epochs=6) == logs


def test_no_dropout_repeats_at_a_later_step_what_another_drew():
    x = inputs = keras.Input([64])
    for _ in range(2):
        x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(inputs, x)
    loop.reseed(model, 0, 0)
    layers = [each for each in model.layers if isinstance(each, keras.layers.Dropout)]
    first, second = (each.seed_generator for each in layers)
    first.next()
    masks: list[Any] = [
        keras.random.dropout(tf.ones([64]), 0.5, seed=each) for each in (first, second)
    ]
    assert np.any(masks[0] != masks[1])
