"""The schedule on tasks of places: boxes and masks are trained as classes are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiny, weights_of

from tlkeras import spec
from tlkeras.data.batches import Data
from tlkeras.exporters.tflite import TFLite
from tlkeras.frameworks import keras
from tlkeras.model.transfer_model import TransferModel, computing_in
from tlkeras.recipe import Recipe
from tlkeras.task import Task

pytestmark = pytest.mark.slow

TASKS = {"detection(most=6, width=16)": "ap50", "segmentation(width=16)": "mean_iou"}
"""The metric that says which epoch is the best."""

RECIPE = (
    "fine_tune(phases=[phase(epochs=3, learning_rate=3e-3, augment=[flip, zoom], views=2),"
    "phase(epochs=3, learning_rate=1e-3, unfreeze='block3')])"
)


@pytest.fixture(params=TASKS)
def data(request, shapes):
    return Data(shapes, Tiny(), spec.parse(request.param, Task), batch_size=8)


def made(data):
    return TransferModel(data.backbone, data.task, data.classes, seed=1)


def fitted(data, folder, recipe=RECIPE, callbacks=()):
    model = made(data)
    return model, spec.parse(recipe, Recipe).fit(model, data, folder, callbacks)


class Killed(Exception):
    pass


@pytest.mark.equality
def test_a_killed_fit_of_places_ends_like_an_unbroken_one(data, tmp_path):
    unbroken, expected = fitted(data, tmp_path / "unbroken")

    def kill(epoch, logs):
        if list((tmp_path / "broken" / "phase1").glob("*.npz")):
            raise Killed

    with pytest.raises(Killed):
        killer = keras.callbacks.LambdaCallback(on_epoch_end=kill)
        fitted(data, tmp_path / "broken", callbacks=[killer])
    again, logs = fitted(data, tmp_path / "broken")
    assert logs == expected
    for path, weights in weights_of(unbroken.full).items():
        np.testing.assert_array_equal(weights_of(again.full)[path], weights, err_msg=path)


def test_only_the_chosen_blocks_and_the_head_move(data, tmp_path):
    phase = "fine_tune(phases=[phase(epochs=1, learning_rate=0.01, unfreeze=('block2',))])"
    start = weights_of(made(data).full)
    model, _ = fitted(data, tmp_path, phase)
    found = weights_of(model.full)
    moved = {path.split("/")[0] for path in start if not np.array_equal(start[path], found[path])}
    body = {layer.name for layer in model.body.layers}
    assert moved & body == {"block2_conv"} and moved - body


def test_the_best_epoch_is_that_of_the_metric_and_not_of_the_loss(data, tmp_path):
    """Each rate is a chance that the two differ; which one does is left to the processor."""
    name = f"val_{TASKS[str(data.task)]}"
    for rate in (0.01, 0.003, 0.1, 0.03):
        folder = tmp_path / str(rate)
        recipe = f"fine_tune(phases=[phase(epochs=8, learning_rate={rate}, unfreeze='all')])"
        model, logs = fitted(data, folder, recipe)
        scores = [(-log[name], log["val_loss"]) for log in logs]
        if scores.index(min(scores)) != min(range(8), key=lambda i: logs[i]["val_loss"]):
            break
    else:
        pytest.fail("At every rate the best epoch of the metric is that of the loss.")
    (state,) = [json.loads(path.read_text()) for path in folder.rglob("state.json")]
    assert state["best_epoch"] == 1 + scores.index(min(scores))
    metric, loss = data.task.metrics(data.classes)[0], data.task.loss()
    model.full.compile(loss=loss, metrics=[metric])
    silent: Any = 0
    told = model.full.evaluate(data.batches("validation"), verbose=silent, return_dict=True)
    assert told[TASKS[str(data.task)]] == pytest.approx(-min(scores)[0], abs=1e-5)


def test_mixed_precision_trains_alike_and_exports_in_float32(data, tmp_path):
    recipe = "fine_tune(phases=[phase(epochs=2, learning_rate=3e-3, unfreeze='block3')])"
    _, expected = fitted(data, tmp_path / "plain", recipe)
    with computing_in("mixed_bfloat16"):
        model, logs = fitted(data, tmp_path / "mixed", recipe)
    losses = [[log["loss"] for log in each] for each in (logs, expected)]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=0.1)
    TFLite().write(model, None, tmp_path)
    inputs, _ = next(data.batches("test").as_numpy_iterator())
    found = TFLite().load(tmp_path)(inputs)
    served = {name: np.asarray(value) for name, value in model.served(inputs).items()}
    agreement = data.task.agree(data.task.kept(served), data.task.kept(found))
    assert all(array.dtype == np.float32 for array in found.values())
    assert agreement.mean() > 0.8


def test_two_devices_make_of_places_what_one_makes(data, shapes, tmp_path):
    ends = []
    for strategy in ("one_device", "mirrored"):
        out = tmp_path / strategy
        out.mkdir()
        script = Path(__file__).with_name("fitting.py")
        arguments = [strategy, str(shapes), str(out / "scratch"), str(out), "", str(data.task)]
        ended = subprocess.run(
            [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=900
        )
        assert ended.returncode == 0, ended.stderr[-2000:]
        with np.load(out / "weights0.npz") as held:
            ends.append((json.loads((out / "logs0.json").read_text()), dict(held)))
    (logs, weights), (others, found) = ends
    for log, same in zip(logs, others, strict=True):
        assert same == pytest.approx(log, rel=1e-4, abs=1e-4)
    for path, expected in weights.items():
        np.testing.assert_allclose(found[path], expected, 1e-4, 1e-4, err_msg=path)
