"""Trainer: fits a model to the examples by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline import code
from pipeline.step import Place, Runtime, Step
from tlkeras import files, hardware
from tlkeras.augment import Augment
from tlkeras.backbone import Backbone
from tlkeras.data.batches import Data
from tlkeras.model.transfer_model import Precision, TransferModel, computing_in
from tlkeras.recipe import Recipe
from tlkeras.task import Task
from tlkeras.training import temperature
from tlkeras.training.features import Cache


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
    precision: Precision,
    exporters: Runtime[tuple[Any, ...]],
    feature_cache_gb: Runtime[float],
    features: Place,
    calibrate: bool = False,
    conformal: Runtime[Any] = None,
) -> None:
    """Fits the model by the recipe and writes the whole Keras model and its logs.

    `features` caches activations of frozen layers for all runs. The written model computes in
    float32, also after training in mixed precision: exporters and phones need it. Before the fit,
    every exporter checks that it supports the model, and `conformal` that its sets can be made and
    measured. Neither changes the model, so their code is not imported. If the recipe has remarks or
    views for the report, they are written, too, and the names of the classes in ``named.json`` if
    those suffice it. ``for_target.json`` says that the head is for the split ``target``. With
    `calibrate` the fitted logits are divided by their temperature, which is written as well.
    """
    hardware.meet("the model's folder")  # From here on the folder exists.
    print(f"  training on {hardware.devices()}")
    data = Data(examples, backbone, task, batch_size, seed, exact=False)
    if calibrate:
        temperature.require(recipe, task, data)
    if conformal:
        conformal.require_examples(data.info.counts)
    cut = _cut(data) if hardware.is_chief() else []
    for sentence in cut:
        print(f"  {sentence}")
    shared = cache(features, feature_cache_gb, data, recipe)
    with computing_in(precision):
        trained = TransferModel(backbone, task, data.classes, seed)
        for exporter in exporters:
            exporter.fits(trained)
        logs = recipe.fit(trained, data, out / "_scratch", shared=shared)
    written = trained
    if precision != "float32":
        written = TransferModel(backbone, task, data.classes, seed)
        written.full.set_weights(trained.full.get_weights())
    if hardware.is_chief():
        remarks = [*cut, *recipe.remarks()]
        if calibrate:
            found = temperature.calibrated(written, data)
            found.write(out)
            remarks.append(found.remark())
        written.save(out)
        files.write_json(out / "logs.json", logs)
        if remarks:
            files.write_json(out / "remarks.json", remarks)
        if views := [*recipe.views(out / "_scratch")]:
            files.write_json(out / "views.json", views)
        if recipe.names_suffice:
            files.write_json(out / "named.json", data.classes)
        if recipe.is_for_target:
            files.write_json(out / "for_target.json", recipe.member)


def _cut(data: Data) -> list[str]:
    """Returns how many texts of each split the backbone cuts, if any, in one sentence.

    Of a task that rates pieces, the measures tell it.
    """
    most = data.backbone.most_pieces
    if most is None or data.task.rates_pieces:
        return []
    counts = {split: data.count_exceeding(split) for split in data.info.counts}
    told = [f"{cut:,} of {data.count(split):,} {split}" for split, cut in counts.items() if cut]
    if not told:
        return []
    return [
        f"The texts of {', '.join(told)} examples are longer than the {most:,} pieces that "
        f"{data.backbone.name} reads, and were cut; a larger length of the backbone reads more of "
        "them, as far as its network has positions, and takes longer."
    ]


def cache(
    features: Path, feature_cache_gb: float, data: Data, recipe: Recipe | None = None
) -> Cache:
    """Returns the cache of features in a folder that all trainings share, of this code alone.

    Its code is that of backbone and task, of the specs inside them, and of the kinds of the data. A
    recipe whose augmentations change the pictures is needed for their features.
    """
    chosen = (data.backbone, data.task, *data.info.features.values())
    modules = {type(each).__module__ for part in chosen for each in part.specs()}
    specs = recipe.specs() if recipe else ()
    drawn = {type(each).__module__ for each in specs if isinstance(each, Augment)}
    return Cache(
        features,
        feature_cache_gb,
        code.digest({*modules, "tlkeras.training.features"}),
        {module: code.digest({module}) for module in drawn},
    )
