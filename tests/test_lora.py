"""Low-rank changes: those of the formula, merged, and nothing else moves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import weights_of
from toy_text import ToyText, written

from tlkeras import spec
from tlkeras.data.batches import Data
from tlkeras.frameworks import keras
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.recipes.lora import Lora
from tlkeras.tasks.classification import Classification
from tlkeras.training import layer_decay, schedule
from tlkeras.training.adapters import Adapters
from tlkeras.training.schedule import Phase
from tlkeras.training.trainable import trainable

pytestmark = pytest.mark.equality

RANK = 2


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("texts"))


@pytest.fixture
def data(recorded: Path) -> Data:
    return Data(recorded, ToyText(length=16, dropout=0.2), Classification(), batch_size=16)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(schedule, "_STEPS_ON_FEATURES", 1)  # More take long to trace.


def make(data: Data) -> TransferModel:
    return TransferModel(data.backbone, data.task, data.classes, seed=3)


def lora(*phases: Phase) -> Lora:
    return Lora(rank=RANK, alpha=4.0, phases=phases)


LAYERS = [
    (lambda: keras.layers.Dense(6), (5, 4), "bi,io->bo", (0,)),
    (lambda: keras.layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (5, 7, 4), None, (0,)),
    (lambda: keras.layers.EinsumDense("abde,dec->abc", (None, 3)), (5, 7, 2, 4), None, (0, 1)),
    (lambda: keras.layers.EinsumDense("btd,ndh->btnh", (None, 2, 3)), (5, 7, 4), None, (1,)),
]


@pytest.mark.parametrize(("make", "shape", "equation", "summed"), LAYERS)
def test_a_changed_layer_is_that_of_the_formula_before_and_after_the_merge(
    make, shape, equation, summed
):
    layer, random = make(), np.random.default_rng(0)
    x = random.normal(size=shape).astype(np.float32)
    plain = layer(x).numpy()
    kernel = layer.kernel.numpy()
    adapters = Adapters([layer], RANK, 4.0)
    with adapters.applied([]):
        np.testing.assert_array_equal(layer(x), plain)  # At first no change.
    (change,) = adapters.changes
    change.up.assign(random.normal(size=change.up.shape))
    down, up = change.down.numpy(), change.up.numpy()
    others = [axis for axis in range(kernel.ndim) if axis not in summed]
    order = [*summed, *others]
    delta = 4.0 / RANK * (down @ up).reshape([kernel.shape[axis] for axis in order])
    expected = np.einsum(equation or layer.equation, x, kernel + delta.transpose(np.argsort(order)))
    with adapters.applied([]):
        np.testing.assert_allclose(layer(x), expected, atol=1e-4)
    np.testing.assert_array_equal(layer.kernel, kernel)
    adapters.merge()
    np.testing.assert_allclose(layer(x), expected, atol=1e-4)


@pytest.mark.slow
def test_every_dense_layer_of_the_blocks_changes_by_its_rank_and_nothing_else(data, tmp_path):
    model, graph = make(data), make(data).full.count_params()
    start = weights_of(model.full)
    logs = lora(Phase(epochs=2, learning_rate=0.01, unfreeze="layer_2")).fit(model, data, tmp_path)
    assert logs[-1]["loss"] < logs[0]["loss"] and model.full.count_params() == graph
    end = weights_of(model.full)
    moved = {path for path in start if not np.array_equal(start[path], end[path])}
    kernels = {path for path in start if path.startswith("layer_2_") and "kernel" in path}
    assert len(kernels) == 6 and moved == kernels | {"logits/kernel", "logits/bias"}
    for path in kernels:
        delta = end[path] - start[path]
        joined = "attention_output" in path or delta.ndim == 2
        matrix = delta.reshape(-1, delta.shape[-1]) if joined else delta.reshape(len(delta), -1)
        assert np.linalg.matrix_rank(matrix, tol=1e-5) <= RANK


@pytest.mark.slow
def test_what_is_merged_gives_the_loss_of_what_was_trained(data, tmp_path):
    model = make(data)
    logs = lora(Phase(epochs=1, learning_rate=0.01, unfreeze="all")).fit(model, data, tmp_path)
    trained = trainable(model.full)
    trained.compile(loss=data.task.loss(), metrics=data.task.metrics(data.classes))
    found = trained.evaluate(data.batches("validation"), verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(logs[-1]["val_loss"], rel=1e-4)


@pytest.mark.slow
def test_dropout_goes_on_from_step_to_step(data, tmp_path):
    model = make(data)
    lora(Phase(epochs=1, unfreeze="all")).fit(model, data, tmp_path)
    states = [v.numpy() for v in model.full.variables if v.name == "seed_generator_state"]
    assert [int(state[1]) % (1 << 20) for state in states] == [data.steps("train")] * len(states)
    assert len(states) >= 3


@pytest.mark.slow
def test_a_killed_fit_ends_like_an_unbroken_one(data, tmp_path):
    class Killed(Exception):
        pass

    def kill(epoch, logs):
        if epoch == 1 and list((tmp_path / "broken" / "phase1").glob("*.npz")):
            raise Killed

    recipe = lora(Phase(epochs=1, unfreeze="layer_2"), Phase(epochs=2, unfreeze="all"))
    unbroken, again = make(data), make(data)
    expected = recipe.fit(unbroken, data, tmp_path / "unbroken")
    with pytest.raises(Killed):
        killer = keras.callbacks.LambdaCallback(on_epoch_end=kill)
        recipe.fit(make(data), data, tmp_path / "broken", [killer])
    assert recipe.fit(again, data, tmp_path / "broken") == expected
    ends: Any = [weights_of(each.full) for each in (unbroken, again)]
    for path in ends[0]:
        np.testing.assert_array_equal(ends[0][path], ends[1][path])


def test_a_change_has_the_rate_of_its_block(data):
    model = make(data)
    adapters = Adapters(model.blocks["layer_1"], RANK, 4.0)
    rates = layer_decay.factors(model, 0.5, adapters)
    assert {rates[id(each)] for each in adapters.variables} == {0.25}


def test_a_network_without_dense_layers_is_refused_before_the_training(recorded, tmp_path):
    from conftest import Tiny

    model = TransferModel(Tiny(), Classification(), ("bad", "good"))
    data = dataclasses.replace(Data(recorded, ToyText(), Classification()), backbone=Tiny())
    with pytest.raises(ValueError, match="tiny has none in the blocks of unfreeze='all'; use fine"):
        Lora().fit(model, data, tmp_path / "fit")
    assert not (tmp_path / "fit").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lora(rank=0)", "lora.rank is 0, expected at least 1"),
        ("lora(alpha=0)", "lora.alpha is 0.0, expected a factor above 0"),
        ("lora(phases=[phase()])", "a phase with unfreeze"),
        ("lora(phases=[phase(unfreeze=all, batch_norm=True)])", "none with batch_norm"),
    ],
)
def test_a_wrong_recipe_is_refused_when_written(text, message):
    with pytest.raises(ValueError, match=message):
        spec.parse(text, Recipe)


def test_a_fit_after_one_with_low_rank_changes_is_that_of_a_new_model(data, tmp_path):
    model, fresh = make(data), make(data)
    start = model.full.get_weights()
    phases = (Phase(epochs=1), Phase(epochs=1, unfreeze=0.5))
    whole = FineTune(phases)
    whole.fit(model, data, tmp_path / "first")
    lora(*phases).fit(model, data, tmp_path / "changed")
    model.full.set_weights(start)
    logs = whole.fit(model, data, tmp_path / "again")
    assert logs == whole.fit(fresh, data, tmp_path / "fresh")
    for one, other in zip(model.full.get_weights(), fresh.full.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
