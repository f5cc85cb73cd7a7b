"""What every recipe promises."""

import numpy as np
import pytest
from conftest import Tiny, weights_of

from tlkeras import spec
from tlkeras.model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.tasks.classification import Classification


@pytest.mark.parametrize("name", spec.names(Recipe))
def test_a_recipe_is_its_text(name):
    recipe = spec.parse(name, Recipe)
    assert spec.parse(str(recipe), Recipe) == spec.parse(recipe.full(), Recipe) == recipe


@pytest.mark.parametrize("name", spec.names(Recipe))
def test_a_recipe_learns_and_called_again_there_gives_the_same(name, data, tmp_path):
    recipe = spec.parse(name, Recipe)
    ends = []
    for _ in range(2):
        model = TransferModel(Tiny(), Classification(), data.classes, seed=0)
        graph = model.full
        logs = recipe.fit(model, data, tmp_path)
        assert model.full is graph
        ends.append((logs, weights_of(model.full)))
    (first, before), (second, after) = ends
    assert first == second
    for path in before:
        np.testing.assert_array_equal(before[path], after[path])
