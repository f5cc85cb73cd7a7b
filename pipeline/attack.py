"""Attack: whether a model tells who was in its training, ``tlkeras attack``.

It is not a step of the pipeline: it looks at the training examples themselves, so its figures are
not private, and no pushed folder has them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipeline import flags, store
from pipeline.config import Config
from pipeline.step import Place, Runtime, Step
from pipeline.steps import evaluator, example_gen, trainer
from tlkeras import files, hardware, terminal
from tlkeras.backbone import Backbone
from tlkeras.data.batches import Data
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.measures import measures, membership
from tlkeras.model.transfer_model import TransferModel
from tlkeras.report import report
from tlkeras.report.page import number
from tlkeras.task import Task
from tlkeras.training import shadows

PAGE = "report.html"


@Step
def attack(
    out: Path,
    *,
    examples: Path,
    model: Path,
    backbone: Backbone,
    task: Task,
    batch_size: int,
    seed: int,
    feature_cache_gb: Runtime[float],
    features: Place,
) -> None:
    """Attacks the model: which examples were in its training?

    Members are examples of the training split, the others are of the test split. The loss threshold
    and the likelihood ratio of 64 shadow heads attack this model, and beside it a head that is
    solved without privacy on the same features. A head of one dense layer is needed. Writes
    ``metrics.json`` and ``report.html``, with what the recipe says of its fit.
    """
    data = Data(examples, backbone, task, batch_size, seed, exact=False)
    fitted = evaluator.loaded(model, data)
    with hardware.in_float32():
        audit = shadows.attacked(fitted, data, trainer.cache(features, feature_cache_gb, data))
    told, shown = model / "remarks.json", model / "views.json"
    found = membership.measured(
        audit.attacks, audit.fits, files.read_json(told) if told.exists() else ()
    )
    if shown.exists():
        own = map(measures.parsed_view, files.read_json(shown))
        found = dataclasses.replace(found, views=[*found.views, *own])
    measures.write(found, out)
    title = "Membership: who was in the training?"
    report.write(out / PAGE, report.Report(title, found, data=data.info.plain()))


PIPELINE = (example_gen.examples, trainer.model, attack)

# What the trainer checks for steps that do not follow here.
UNUSED = ("exporters", "conformal")


def main(config: Config) -> int:
    """Prints what the attacks show, and where the page lies.

    Raises:
        ValueError: Before anything runs: the head is not one dense layer.
    """
    backbone: Any = config.backbone
    task: Any = config.task
    shadows.linear_head(TransferModel(backbone, task, config.source.classes()))
    config = config.replace(exporters=(SavedModel(),))  # It holds any model.
    products = store.run(PIPELINE, config, store.Store(config.root))
    if "attack" not in products:
        return 0  # Of several workers the chief alone attacks.
    product = products["attack"]
    found = measures.read(product)
    table = next(view for view in found.views if isinstance(view, measures.Table))
    rows = [[cell if isinstance(cell, str) else number(cell) for cell in row] for row in table.rows]
    print("\n" + terminal.table(rows, table.columns))
    for remark in found.remarks:
        print(remark)
    print(f"\nWritten: {product / PAGE}")
    return 0


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras attack``."""
    flags.run(argv, main, Config, steps=PIPELINE, without=UNUSED)
