"""Sweeps of the learning rate as a command."""

import json

import pytest
from absl import flags as absl_flags
from conftest import Tiny

from pipeline import flags, lr_find
from pipeline.config import Config
from tlkeras import spec
from tlkeras.data.splits import Split
from tlkeras.recipe import Recipe
from tlkeras.sources.folder import Folder
from tlkeras.training import rate_finder

RECIPE = "fine_tune(phases=[solve, phase(epochs=1), phase(epochs=9, unfreeze='block4')])"


def test_each_phase_is_swept_told_and_drawn_and_the_last_is_not_fitted(pictures, tmp_path, capsys):
    config = Config(
        source=Folder(pictures),
        split=Split(validation=20, test=20),
        backbone=Tiny(),
        recipe=spec.parse(RECIPE, Recipe),
        batch_size=16,
        root=tmp_path,
        name="pictures",
    )
    assert lr_find.main(config) == 0
    told = capsys.readouterr().out
    assert "epoch 1/1" in told and "epoch 1/9" not in told
    (folder,) = (path.parent for path in tmp_path.glob("lr_find/*/_manifest.json"))
    rows = json.loads((folder / rate_finder.FILE).read_text())
    assert [row["phase"] for row in rows] == [1, 2]
    for row in rows:
        sweep = rate_finder.Sweep(row["rates"], row["losses"], row["smoothed"])
        assert row["learning_rate"] == sweep.suggestion
        assert f"{row['learning_rate']:g}" in told.rpartition("learning rate")[2]
        assert f"learning_rate={row['learning_rate']:g}." in (folder / lr_find.REPORT).read_text()
    assert (folder / lr_find.REPORT).read_text().count("<svg") == 2
    assert lr_find.main(config) == 0
    assert "lr_find    reused" in capsys.readouterr().out


def test_a_recipe_without_a_learning_rate_is_refused():
    for text in ("probe", "fine_tune(phases=[solve])"):
        with pytest.raises(ValueError, match="has no phase with a learning rate"):
            lr_find.automatic(spec.parse(text, Recipe))


def test_its_flags_are_those_of_the_training():
    values = absl_flags.FlagValues()
    parse = flags.parser(Config, steps=lr_find.PIPELINE, values=values)
    (config,) = parse(["lr_find", "--recipe=fine_tune", "--seed=2", "--batch_size=8"])
    assert config == Config(seed=2, batch_size=8)
