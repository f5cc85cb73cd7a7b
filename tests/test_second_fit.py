"""A second fit of the same model, as in a notebook, finds what the first one has traced."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from conftest import Tiny

from tlkeras import spec
from tlkeras.frameworks import tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.training import schedule

pytestmark = pytest.mark.equality

SECOND = "fine_tune(phases=[phase(epochs=2), phase(epochs=2, unfreeze='block3', {})])"
DECAYED = "optimizer='adamw', layer_decay=0.5, learning_rate=0.1"
RECIPES = {
    "head": ("fine_tune(phases=[phase(epochs=2)])", "fine_tune(phases=[phase(epochs=2)])"),
    "another rate": (
        SECOND.format("learning_rate=1e-4, clip=1.0"),
        SECOND.format("learning_rate=1e-2, clip=1.0"),
    ),
    "schedule": (
        SECOND.format("schedule='cosine', warmup=0.3, optimizer='sgd'"),
        SECOND.format("schedule='cosine', warmup=0.3, optimizer='sgd', learning_rate=1e-2"),
    ),
    "another length": (
        SECOND.format("schedule='cosine'"),
        SECOND.format("schedule='cosine', learning_rate=0.1").replace("epochs=2", "epochs=3"),
    ),
    "probe": ("probe(strengths=[0.1, 0.01])", "probe(strengths=[0.1, 0.01])"),
}


@pytest.fixture
def traced(monkeypatch) -> list[str]:
    """The names of all functions that are traced, but for those of data sets."""
    names: list[str] = []
    made = tf.__internal__.FuncGraph.__init__

    def noted(self: Any, name: str, *arguments: Any, **options: Any) -> None:
        if not name.startswith("Dataset_"):
            names.append(name)
        made(self, name, *arguments, **options)

    monkeypatch.setattr(tf.__internal__.FuncGraph, "__init__", noted)
    return names


@pytest.mark.parametrize("name", RECIPES)
def test_a_second_fit_traces_nothing_anew_and_equals_that_of_a_new_model(
    name, data, tmp_path, traced
):
    first, second = (spec.parse(text, Recipe) for text in RECIPES[name])
    model, fresh = (TransferModel(Tiny(), data.task, data.classes, seed=3) for _ in range(2))
    start = model.full.get_weights()
    first.fit(model, data, tmp_path / "first")
    assert traced
    traced.clear()
    model.full.set_weights(start)
    logs = second.fit(model, data, tmp_path / "second")
    assert traced == []
    assert logs == second.fit(fresh, data, tmp_path / "fresh")
    for one, other in zip(model.full.get_weights(), fresh.full.get_weights(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("clip=1.0", "clip=0.01, layer_decay=0.5"),
        (f"{DECAYED}, weight_decay=0.5", f"{DECAYED}, weight_decay=0.01"),
    ],
)
def test_a_fit_with_other_constants_in_its_graph_is_traced_anew(
    given, wanted, data, tmp_path, traced
):
    model, fresh = (TransferModel(Tiny(), data.task, data.classes, seed=3) for _ in range(2))
    start = model.full.get_weights()
    spec.parse(SECOND.format(given), Recipe).fit(model, data, tmp_path / "first")
    model.full.set_weights(start)
    other = spec.parse(SECOND.format(wanted), Recipe)
    traced.clear()
    logs = other.fit(model, data, tmp_path / "other")
    assert traced
    assert logs == other.fit(fresh, data, tmp_path / "fresh")


def test_of_fits_with_several_decays_the_last_network_of_a_phase_is_kept(
    data, tmp_path, monkeypatch
):
    model, made = TransferModel(Tiny(), data.task, data.classes, seed=3), []
    behind = schedule._behind_frozen

    def noted(*given: Any) -> Any:
        made.append(weakref.ref(trained := behind(*given)))
        return trained

    monkeypatch.setattr(schedule, "_behind_frozen", noted)
    for decay in (0.9, 0.7, 0.5):
        recipe = spec.parse(SECOND.format(f"layer_decay={decay}"), Recipe)
        recipe.fit(model, data, tmp_path / str(decay))
    gc.collect()
    assert [each() is not None for each in made] == [True, False, False, True]
