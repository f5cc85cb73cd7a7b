"""What every recipe promises."""

import dataclasses

import numpy as np
import pytest
from conftest import Tiny, Wordy, weights_of
from toy_text import ToyText, written

from tlkeras import spec
from tlkeras.backbones.towers import Towers
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import keras
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.sources.domains import Domains
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.retrieval import Retrieval

ON_TEXTS = {"lora"}
"""Recipes that need dense layers, which the tiny network on pictures does not have."""

ON_DOMAINS = {"adapt"}
"""Recipes that need a second domain."""
ON_PAIRS = {"align"}
"""Recipes that need pictures with texts."""

CALLS = {name: name for name in spec.names(Recipe)}
CALLS["zero_shot"] = "zero_shot(text=starter_text(length=16))"  # The tiny network knows no words.


@pytest.mark.parametrize("name", spec.names(Recipe))
def test_a_recipe_is_its_text(name):
    recipe = spec.parse(name, Recipe)
    assert spec.parse(str(recipe), Recipe) == spec.parse(recipe.full(), Recipe) == recipe


@pytest.mark.equality
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ON_TEXTS else [])
        for name in spec.names(Recipe)
    ],
)
def test_a_recipe_learns_and_called_again_there_gives_the_same(name, data, pictures, tmp_path):
    if name in ON_TEXTS:
        data = Data(written(tmp_path / "texts"), ToyText(length=16), Classification(), 16)
    if name in ON_PAIRS:
        pairs = Embedded(data="shapes", target="caption", count=48, size=32)
        ingest.write_examples(pairs, Split(), tmp_path / "pairs")
        towers = Towers(Tiny(), Wordy(input="text"))
        data = Data(tmp_path / "pairs", towers, Retrieval(), 16)

    if name in ON_DOMAINS:
        both = Domains(Folder(pictures), Folder(pictures))
        ingest.write_examples(both, Split(validation=20, test=20), tmp_path / "domains")
        data = dataclasses.replace(data, folder=tmp_path / "domains")

    def fail(step, logs):
        raise AssertionError("trained again")

    recipe = spec.parse(CALLS[name], Recipe)
    ends = []
    for callbacks in ([], [keras.callbacks.LambdaCallback(on_train_batch_end=fail)]):
        model = TransferModel(data.backbone, data.task, data.classes, seed=0)
        graph, start = model.full, weights_of(model.full)
        logs = recipe.fit(model, data, tmp_path / "fit", callbacks)
        assert model.full is graph
        found = weights_of(model.full)
        assert any(not np.array_equal(start[path], found[path]) for path in start)
        ends.append((logs, found))
    (first, before), (second, after) = ends
    assert first == second
    for path in before:
        np.testing.assert_array_equal(before[path], after[path])
