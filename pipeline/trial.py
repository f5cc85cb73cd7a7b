"""Trial: one fit of a search, stopped early if it is behind earlier ones.

The rule is asynchronous successive halving (Li et al. 2018, https://arxiv.org/abs/1810.05934).
After 1, 3, 9, … epochs a trial goes on if it is among the best third of all trials that came so
far. The scores that it has to reach are in its key, so that a trial is a function of its key.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.step import Place, Runtime, Step
from pipeline.steps import trainer
from tlkeras import files
from tlkeras.backbone import Backbone
from tlkeras.data.batches import Data
from tlkeras.frameworks import keras
from tlkeras.model.transfer_model import Precision, TransferModel, computing_in
from tlkeras.recipe import Recipe
from tlkeras.task import Task
from tlkeras.training import loop

FILE = "trial.json"

# One of so many goes on; Li et al. use 4, Optuna and Ray Tune 3 or 4.
FACTOR = 3

# So many networks stay for further trials: a range in the task, such as dropout, needs a few.
_NETWORKS = 4

_SCORES, _START = "scores.json", "start.json"


@Step
def trial(
    out: Path,
    *,
    examples: Path,
    backbone: Backbone,
    task: Task,
    recipe: Recipe,
    batch_size: int,
    seed: int,
    precision: Precision,
    bars: str,
    feature_cache_gb: Runtime[float],
    features: Place,
) -> None:
    """Fits a model, writes its validation scores, and no weights.

    `bars` is a JSON object of scores by the number of epochs; a trial whose score is larger then
    stops. A score is the first of `loop.scored`: smaller is better. A trial whose loss is not
    finite has the score None.
    """
    data = _data(examples, backbone, task, batch_size, seed)
    shared = trainer.cache(features, feature_cache_gb, data, recipe)
    folder = out / "_scratch"
    metric = recipe.metric(task, data.classes)
    watch = _watch(folder, metric, json.loads(bars))
    with computing_in(precision):
        model, start = _network(backbone, task, data.classes, seed, precision)
        model.full.set_weights(start)
        logs: list[dict[str, Any]] = []
        try:
            logs = recipe.fit(model, data, folder, [watch], shared)
            scores = _scores(folder)
        except _Behind:
            scores = _scores(folder)
        except loop.Diverged:
            scores = {}  # What it had before is no bar for sound trials.
    finals = [[*loop.scored(log, metric, 0)] for log in logs if "val_loss" in log]
    if logs and not finals:
        raise ValueError(f"{recipe} measures nothing on the validation split to compare.")
    best = min(finals, default=None)
    found = {
        "measure": f"val_{metric}" if metric else "val_loss",
        "score": best,
        "scores": scores,
        "epochs": len(logs) or loop.finished(folder) + 1,
    }
    files.write_json(out / FILE, found)


@functools.lru_cache(_NETWORKS)
def _data(examples: Path, backbone: Backbone, task: Task, batch_size: int, seed: int) -> Data:
    return Data(examples, backbone, task, batch_size, seed, exact=False)


@functools.lru_cache(_NETWORKS)
def _network(
    backbone: Backbone, task: Task, classes: tuple[str, ...], seed: int, precision: Precision
) -> tuple[TransferModel, list[Any]]:
    """Returns a model, with what fits have traced of it, and the weights that a fit starts from."""
    model = TransferModel(backbone, task, classes, seed)
    return model, model.full.get_weights()


class _Behind(Exception):
    """The trial is not among the best; it stops."""


def _scores(folder: Path) -> dict[str, float]:
    path = folder / _SCORES
    return files.read_json(path) if path.exists() else {}


def _watch(folder: Path, metric: str | None, bars: Mapping[str, float]) -> keras.callbacks.Callback:
    """Returns a callback that notes the scores after 1, 3, 9, … epochs and compares them.

    The epochs of heads that are solved first do not count.
    """

    def compare(epoch: int, logs: Any = None) -> None:
        # The loop writes an epoch after its callbacks, so after a kill an epoch has its old number.
        before = loop.finished(folder)
        if not (folder / _START).exists():
            files.write_json(folder / _START, before)
        number = before + 1 - files.read_json(folder / _START)
        if number not in rungs(number) or not math.isfinite(logs["loss"]):
            return
        score = loop.scored(logs, metric, epoch)[0]
        files.write_json(folder / _SCORES, {**_scores(folder), str(number): score})
        if score > bars.get(str(number), math.inf):
            raise _Behind

    return keras.callbacks.LambdaCallback(on_epoch_end=compare)


def rungs(most: int) -> list[int]:
    """Returns 1, 3, 9, … up to a number of epochs."""
    return [FACTOR**power for power in range(most) if FACTOR**power <= most]


def bars(earlier: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Returns the scores to reach, by the number of epochs, from the scores of earlier trials."""
    by_rung: dict[str, list[float]] = {}
    for scores in earlier:
        for rung, score in scores.items():
            by_rung.setdefault(rung, []).append(score)
    return {rung: bar(scores) for rung, scores in by_rung.items()}


def bar(scores: Sequence[float]) -> float:
    """Returns the largest score with which one more trial is among the best third of all.

    At least one is: the best.
    """
    going_on = max((len(scores) + 1) // FACTOR, 1)
    return sorted(scores)[going_on - 1]
