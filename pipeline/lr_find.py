"""LrFind: sweeps of the learning rate before each phase of a recipe, ``tlkeras lr_find``.

It is not a step of the pipeline.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipeline import flags, store
from pipeline.config import Config
from pipeline.step import Place, Runtime, Step
from pipeline.steps import example_gen, trainer
from tlkeras import files, spec, terminal
from tlkeras.backbone import Backbone
from tlkeras.data.batches import Data
from tlkeras.frameworks import keras
from tlkeras.measures.measures import Curve
from tlkeras.model.transfer_model import Precision, TransferModel, computing_in
from tlkeras.recipe import Recipe
from tlkeras.report import charts, page
from tlkeras.spec import Spec
from tlkeras.task import Task
from tlkeras.training import rate_finder
from tlkeras.training.rate_finder import Sweep

REPORT = "lr_find.html"


@Step
def lr_find(
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
    """Sweeps the learning rate before each phase of --recipe and suggests a value.

    The rate grows from 1e-6 to 10 in 100 steps. The suggestion is a tenth of the largest rate at
    which the smoothed loss is, but for noise, the least. Each phase before the last is fitted with
    its suggestion, because the next one starts from its weights. The rates in --recipe do not
    count; learning_rate='auto' makes the same sweep within a training.
    """
    swept = automatic(recipe)
    numbers = [number for number, part in enumerate(swept.phases) if _is_swept(part)]
    data = Data(examples, backbone, task, batch_size, seed, exact=False)
    folder = out / "_scratch"
    files_of = {number: folder / f"phase{number}" / rate_finder.FILE for number in numbers}

    def end(_: Any = None) -> None:
        if files_of[numbers[-1]].exists():
            raise _Enough

    enough = keras.callbacks.LambdaCallback(on_train_begin=end)
    with computing_in(precision):
        model = TransferModel(backbone, task, data.classes, seed)
        shared = trainer.cache(features, feature_cache_gb, data, swept)
        with contextlib.suppress(_Enough):
            swept.fit(model, data, folder, [enough], shared)
    sweeps = {number: rate_finder.read(path) for number, path in files_of.items()}
    rows = [
        {
            "phase": number,
            "learning_rate": sweep.suggestion,
            "rates": sweep.rates,
            "losses": sweep.losses,
            "smoothed": sweep.smoothed,
        }
        for number, sweep in sweeps.items()
    ]
    files.write_json(out / rate_finder.FILE, rows)
    (out / REPORT).write_text(report(sweeps), encoding="utf-8")


PIPELINE = (example_gen.examples, lr_find)


class _Enough(Exception):
    """The last sweep is there; its phase is not fitted."""


def automatic(recipe: Recipe) -> Any:
    """Returns the recipe with ``learning_rate='auto'`` in every phase that has a rate.

    Raises:
        ValueError: There is no such phase.
    """
    phases: Sequence[Any] = getattr(recipe, "phases", ())
    if not any(_is_swept(part) for part in phases):
        raise ValueError(f"{recipe} has no phase with a learning rate; use one such as fine_tune.")
    return recipe.replace(
        phases=tuple(
            part.replace(learning_rate="auto") if _is_swept(part) else part for part in phases
        )
    )


def _is_swept(part: Spec) -> bool:
    return "learning_rate" in spec.fields(type(part))


def report(sweeps: dict[int, Sweep]) -> str:
    """Returns a page with a picture of every sweep."""
    return page.page(
        "Learning rates",
        {f"Phase {number + 1}": _section(sweep) for number, sweep in sweeps.items()},
    )


def _section(sweep: Sweep) -> page.Markup:
    logs = [math.log10(rate) for rate in sweep.rates]
    at = math.log10(sweep.suggestion)
    low, high = min(sweep.smoothed), max(sweep.smoothed)
    series = {
        "smoothed": [*zip(logs, sweep.smoothed, strict=True)],
        "suggestion": [(at, low), (at, high)],
    }
    curve = Curve("Sweep", "log10 of the learning rate", "loss", series)
    told = f"Suggestion: learning_rate={sweep.suggestion:g}."
    return page.joined(
        [
            page.element("p", told),
            page.side_by_side(charts.lines(curve)),
        ]
    )


def main(config: Config) -> int:
    """Prints a table of the suggestions and names the file with the pictures."""
    recipe: Any = config.recipe
    automatic(recipe)
    products = store.run(PIPELINE, config, store.Store(config.root))
    rows = files.read_json(products["lr_find"] / rate_finder.FILE)
    cells = [(f"{row['phase'] + 1}", f"{row['learning_rate']:g}") for row in rows]
    print("\n" + terminal.table(cells, ("phase", "learning rate")))
    print(f"\nPictures: {products['lr_find'] / REPORT}")
    return 0


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras lr_find``."""
    flags.run(argv, main, Config, steps=PIPELINE)
