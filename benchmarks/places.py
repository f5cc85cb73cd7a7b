"""Boxes and masks from a folder to pushed exports: accuracy, seconds, and two comparisons.

* ``ours``: ``tlkeras`` with the recipe of the case, from the folder to exports that were checked;
* ``random``: the same network from random weights, all of it trained for the seconds that the
  model of ``ours`` took, its features and views counted;
* ``plain``: the same network, head and phases trained on pictures in every epoch with Keras's own
  `fit`, until its validation metric is that of ``ours``;
* ``mediapipe``: the boxes that `ObjectDetector` of MediaPipe finds with both files.

    python benchmarks/places.py --data=IMAGES --weights=NOTOP --work=FOLDER --results=FILE

IMAGES holds ``pennfudan`` and ``bccd``, NOTOP is the file of MobileNetV2 1.0 on ImageNet; the drawn
shapes use the starter. `--work` keeps examples and models. Every result is appended to `--results`;
the same command resumes with the missing runs. At the end it prints a Markdown table of means.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.data import reading
from tlkeras.data.batches import Data
from tlkeras.frameworks import keras
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.task import Task
from tlkeras.training.phase import Phase

ROOT = Path(__file__).parents[1]
SEEDS = 3
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """What ``tlkeras`` is told; ``{data}`` and ``{weights}`` stand for the two paths."""

    source: str
    task: str
    phases: Sequence[str]
    backbone: str = "mobilenet_v2(size=256, weights='{weights}')"
    batch_size: int = 8

    @property
    def recipe(self) -> str:
        """The call of the recipe."""
        return f"fine_tune(phases=[{', '.join(self.phases)}])"


def phase(epochs: int, rate: float, augment: str, more: str) -> str:
    """Returns a phase with warm-up and a cosine."""
    return (
        f"phase(epochs={epochs}, learning_rate={rate:g}, schedule='cosine', warmup=0.1, "
        f"augment=[{augment}], {more})"
    )


def kept(epochs: int, rate: float, augment: str, more: str = "") -> str:
    """Returns a phase on six kept views of every picture."""
    return phase(epochs, rate, augment, f"views=6{more}")


PENNFUDAN = "images='{data}/pennfudan/images', masks='{data}/pennfudan/masks'"
BLOCKS = ", unfreeze='block_6'"


def drawn(epochs: int) -> str:
    """Returns a phase of all layers and their norms: shapes are unlike photos."""
    more = "unfreeze='all', batch_norm=True, optimizer='adamw', clip=1.0"
    return phase(epochs, 4e-3, "flip(vertical=True)", more)


CASES = {
    "pennfudan boxes": Case(
        f"instances({PENNFUDAN}, label='person')",
        "detection",
        [kept(36, 2e-3, "flip, zoom"), kept(24, 1e-3, "flip, zoom", BLOCKS)],
    ),
    "pennfudan masks": Case(
        f"masks({PENNFUDAN}, names=['background', 'person'], instances=True)",
        "segmentation",
        [kept(36, 2e-3, "flip, zoom"), kept(16, 5e-4, "flip, zoom", BLOCKS)],
    ),
    "bccd boxes": Case(
        "voc(path='{data}/bccd')",
        "detection(stride=4)",
        [kept(12, 2e-3, "flip(vertical=True), zoom")],
        "mobilenet_v2(size=320, weights='{weights}')",
    ),
    "shapes boxes": Case(
        "embedded(data='shapes')", "detection", [drawn(6)], "starter", batch_size=16
    ),
    "shapes masks": Case("embedded(data='shapes')", "segmentation", [drawn(7)], "starter"),
}


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description="Boxes and masks: accuracy and seconds.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()

    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    places = {"data": options.data.resolve(), "weights": options.weights.resolve()}
    for name, seed, way in itertools.product(options.cases, range(options.seeds), options.ways):
        case = {"case": name, "seed": seed, "way": way}
        if any(case.items() <= row.items() for row in rows):
            continue
        parts = ("source", "backbone")
        texts = {part: getattr(CASES[name], part).format(**places) for part in parts}
        filled = dataclasses.replace(CASES[name], **texts)
        ours = next((row for row in rows if row["way"] == "ours" and same(row, case)), None)
        rows.append(case | WAYS[way](filled, seed, options.work / name.replace(" ", "_"), ours))
        with options.results.open("a", encoding="utf-8") as results:
            print(json.dumps(rows[-1]), file=results)
        print(rows[-1], flush=True)
    show(rows)


def same(one: Row, other: Row) -> bool:
    """Returns whether two rows are of the same case and seed."""
    return (one["case"], one["seed"]) == (other["case"], other["seed"])


def ours(case: Case, seed: int, work: Path, _: Row | None) -> Row:
    """Runs the command; returns the measures, and the seconds of all and of the model."""
    flags = {
        "source": case.source,
        "task": case.task,
        "backbone": case.backbone,
        "recipe": case.recipe,
        "batch_size": case.batch_size,
        "exporters": "saved_model|tflite|tflite(quantize='int8')",
        "name": f"seed{seed}",
        "root": work / f"runs{seed}",
        "saved_models": work / "saved_models",
        "seed": seed,
    }
    start = time.perf_counter()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pipeline",
            *(f"--{flag}={value}" for flag, value in flags.items()),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    seconds = time.perf_counter() - start
    model, evaluation = (product(work / f"runs{seed}", step) for step in ("model", "evaluation"))
    logs = json.loads((model / "logs.json").read_text())
    manifest = json.loads((model / "_manifest.json").read_text())
    metrics = json.loads((evaluation / "metrics.json").read_text())
    infra = product(work / f"runs{seed}", "infra_blessing") / "infra.json"
    return {
        "seconds": round(seconds, 1),
        "fit": manifest["seconds"],
        "validation": max(log[f"val_{metric(case)}"] for log in logs),
        **{name: round(each, 4) for name, each in metrics.items() if isinstance(each, float)},
        "exports": {row["export"]: round(row["value"], 4) for row in json.loads(infra.read_text())},
    }


def random(case: Case, seed: int, work: Path, known: Row | None) -> Row:
    """Trains from random weights for as long; returns the measures."""
    assert known, "ours comes first"
    model, data = made(case, seed, work)
    fresh = keras.models.clone_model(model.body)
    model.body.set_weights(fresh.get_weights())
    recipe: Any = spec.parse(case.recipe, Recipe)
    first = recipe.phases[0]
    phase = Phase(
        epochs=10_000,
        learning_rate=1e-3,
        unfreeze="all",
        batch_norm=True,
        augment=first.augment,
        optimizer="adamw",
        clip=1.0,
    )
    folder = work / f"random{seed}"
    stop = Stop(known["fit"])
    logs = FineTune((phase,)).fit(model, data, folder, callbacks=[stop])
    found = measured(model, data)
    return {"fit": known["fit"], "epochs": len(logs), **found}


def plain(case: Case, seed: int, work: Path, known: Row | None) -> Row:
    """Trains on pictures until it validates as well; returns the seconds, None if it never does."""
    assert known, "ours comes first"
    model, data = made(case, seed, work)
    recipe: Any = spec.parse(case.recipe, Recipe)
    best, epochs, start = 0.0, 0, time.perf_counter()
    for phase in recipe.phases:
        model.train_only(model.chosen(phase.unfreeze), batch_norm=False)
        steps = phase.epochs * data.steps("train")
        optimizer = unfused(phase.compiled_optimizer(steps))
        model.full.compile(optimizer, model.task.loss(), metrics=model.task.metrics(model.classes))
        for _ in range(phase.epochs):
            batches: Any = data.shuffled("train", epochs, phase.augment)
            log = model.full.fit(batches, validation_data=data.batches("validation"))
            best, epochs = max(best, log.history[f"val_{metric(case)}"][0]), epochs + 1
            if best >= known["validation"]:
                break
        else:
            continue
        break
    return {
        "fit": round(time.perf_counter() - start, 1),
        "epochs": epochs,
        "validation": best,
        "reached": best >= known["validation"],
    }


def mediapipe(case: Case, seed: int, work: Path, _: Row | None) -> Row:
    """Returns the measures of the test pictures as MediaPipe finds boxes in them."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    model, data = made(case, seed, work)
    task: Any = model.task
    if "labels" not in task.reads:
        return {}
    exports, found = product(work / f"runs{seed}", "exports"), {}
    rows = np.arange(data.count("test"))
    for file in ("model.tflite", "model_int8.tflite"):
        tally, most = task.tally(data.classes), task.most
        options = vision.ObjectDetectorOptions(
            BaseOptions(model_asset_path=str(exports / file)),
            max_results=most,
            score_threshold=0.01,
        )
        pictures = reading.dataset(data.folder, "test", rows, ("image",)).as_numpy_iterator()
        with vision.ObjectDetector.create_from_options(options) as detector:
            for first, (example, target) in enumerate(
                zip(pictures, data.targets_of("test"), strict=True)
            ):
                pixels = np.ascontiguousarray(example["image"])
                picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
                served = boxes(
                    detector.detect(picture).detections,
                    pixels.shape,
                    data.classes,
                    most,
                )
                tally.add(np.asarray(target)[None], served, first)
        found[file] = round(tally.measures().scalars["ap50"].value, 4)
    return found


def boxes(detections: Any, shape: Sequence[int], classes: Sequence[str], most: int) -> Row:
    """Returns what MediaPipe found in a picture as a detection serves it, a batch of one."""
    height, width, _ = shape
    served = {
        "boxes": np.zeros((1, most, 4), np.float32),
        "scores": np.zeros((1, most), np.float32),
        "category": np.zeros((1, most), np.float32),
    }
    ranked = sorted(detections, key=lambda each: -each.categories[0].score)
    for place, each in enumerate(ranked):
        box, category = each.bounding_box, each.categories[0]
        low, high = (box.origin_y, box.origin_x), (box.height, box.width)
        corners = np.array([*low, low[0] + high[0], low[1] + high[1]]) / [
            height,
            width,
            height,
            width,
        ]
        served["boxes"][0, place] = corners.clip(0, 1)
        served["scores"][0, place] = category.score
        served["category"][0, place] = classes.index(category.category_name)
    return {**served, "count": np.array([len(ranked)], np.float32)}


WAYS = {way.__name__: way for way in (ours, random, plain, mediapipe)}


class Stop(keras.callbacks.Callback):
    """Ends a fit at the end of the epoch in which its time is over."""

    def __init__(self, seconds: float) -> None:
        """Starts to count."""
        super().__init__()
        self._end = time.perf_counter() + seconds

    def on_epoch_end(self, epoch, logs=None):
        """Stops if the time is over."""
        model: Any = self.model
        if time.perf_counter() >= self._end:
            model.stop_training = True


def made(case: Case, seed: int, work: Path) -> tuple[TransferModel, Data]:
    """Returns the model before its training, and the data that ``ours`` has written."""
    backbone = spec.parse(case.backbone, Backbone)
    task = spec.parse(case.task, Task)
    examples = product(work / f"runs{seed}", "examples")
    data = Data(examples, backbone, task, case.batch_size, seed=seed)
    return TransferModel(backbone, task, data.classes, seed), data


def unfused(optimizer: Any) -> Any:
    """Returns Keras's own Adam or AdamW with the settings of ours; every case has one of them."""
    config = optimizer.get_config()
    if isinstance(config["learning_rate"], dict):  # A plan is none of Keras's own schedules.
        config["learning_rate"] = optimizer._learning_rate
    return type(optimizer).__base__.from_config(config)


def metric(case: Case) -> str:
    """Returns the name of the metric that chooses an epoch."""
    return next(iter(spec.parse(case.task, Task).metrics(()))).name


def product(root: Path, step: str) -> Path:
    """Returns the only product of a step."""
    (found,) = (path.parent for path in (root / step).glob("*/_manifest.json"))
    return found


def measured(model: TransferModel, data: Data) -> Row:
    """Returns the measures of the test pictures."""
    tally, first = model.task.tally(data.classes), 0
    for inputs, target in data.batches("test").as_numpy_iterator():
        served = {name: np.asarray(each) for name, each in model.predicted(inputs).items()}
        tally.add(target, served, first)
        first += len(target)
    scalars = tally.measures().scalars
    return {name: round(scalar.value, 4) for name, scalar in scalars.items()}


def show(rows: list[Row]) -> None:
    """Prints the means over the seeds, with the deviation of one run."""
    names = ("ap50", "ap", "mean_iou", "model.tflite", "model_int8.tflite", "fit", "seconds")
    print("\n| case | way |", " | ".join(names), "| runs |")
    print("|" + "---|" * (len(names) + 3))
    for case, way in dict.fromkeys((row["case"], row["way"]) for row in rows):
        alike = [row for row in rows if (row["case"], row["way"]) == (case, way)]
        cells = [spread([row[name] for row in alike if name in row]) for name in names]
        print(f"| {case} | {way} | {' | '.join(cells)} | {len(alike)} |")


def spread(values: list[float]) -> str:
    """Returns mean and standard deviation."""
    if not values:
        return ""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


if __name__ == "__main__":
    main()
