"""Trainer: a recipe is fitted to the examples."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline import code, flags
from pipeline.core import Place, Runtime, Step
from tlkeras.backbone import Backbone
from tlkeras.data import Data
from tlkeras.features import Cache
from tlkeras.model import Precision, TransferModel, computing_in
from tlkeras.recipe import Recipe
from tlkeras.task import Task


@Step
def model(
    out: Path,
    *,
    examples: Path,
    backbone: Backbone,
    task: Task,
    recipe: Recipe,
    batch_size: int,
    seed: int,
    precision: Precision,
    feature_cache_gb: Runtime[float],
    features: Place,
) -> None:
    """Fits the recipe and keeps the whole Keras model and its logs.

    What the frozen layers give is kept in `features`, where other runs find it. The model that is
    kept computes in float32, whatever the training did: exporters and phones want nothing else.
    """
    data = Data(examples, backbone, task, batch_size, seed, exact=False)
    modules = {type(backbone).__module__, type(task).__module__, "tlkeras.features"}
    shared = Cache(features, feature_cache_gb, code.digest(modules))
    with computing_in(precision):
        trained = TransferModel(backbone, task, data.classes, seed)
        logs = recipe.fit(trained, data, out / "_scratch", shared=shared)
    fitted = trained
    if precision != "float32":
        fitted = TransferModel(backbone, task, data.classes, seed)
        fitted.full.set_weights(trained.full.get_weights())
    fitted.save(out)
    (out / "logs.json").write_text(json.dumps(logs, indent=2), encoding="utf-8")


if __name__ == "__main__":
    flags.run_alone(model)
