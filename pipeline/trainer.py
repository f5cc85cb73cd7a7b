"""Trainer: a recipe is fitted to the examples."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline import core, flags
from pipeline.core import Step
from tlkeras import hardware
from tlkeras.backbone import Backbone
from tlkeras.data import Data
from tlkeras.model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.task import Task


@Step(together=True)
def model(
    out: Path,
    *,
    examples: Path,
    backbone: Backbone,
    task: Task,
    recipe: Recipe,
    batch_size: int,
    seed: int,
) -> None:
    """Fits the recipe and keeps the whole Keras model and its logs."""
    # From here on the folder is there; and no worker fits something else.
    hardware.meet(f"{backbone} {task} {recipe} {batch_size} {seed} {core.contents(examples)}")
    data = Data(examples, backbone, task, batch_size, seed)
    fitted = TransferModel(backbone, task, data.classes, seed)
    logs = recipe.fit(fitted, data, out / "_scratch")
    if hardware.is_chief():
        fitted.save(out)
        (out / "logs.json").write_text(json.dumps(logs, indent=2), encoding="utf-8")


if __name__ == "__main__":
    flags.run_alone(model)
