"""The solved head against epochs of gradient descent: seconds and accuracy.

Four recipes from the same examples and cached features:

* ``epochs``: the first phase of the default recipe, five epochs of the head;
* ``probe``: the recipe of that name, the head as a convex problem;
* ``default``: the default recipe;
* ``solved``: the same with ``solve()`` in place of its first phase.

    python benchmarks/probe.py --data=IMAGES --weights=WEIGHTS --results=FILE

IMAGES holds the folders of pictures, WEIGHTS the files ``MobileNetV2_*_notop``. The recipes take
turns, set by set and seed by seed, all in one process. `seconds` is the time of `Recipe.fit` alone,
with the features of the head in the cache; those of the blocks of a second phase count for the fit
that is first. Every result is appended to ``--results``; the same command resumes with the missing
runs. At the end it prints a Markdown table of means.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.recipes.probe import Probe
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification
from tlkeras.training.features import Cache
from tlkeras.training.solve import Solve

FIRST, SECOND = FineTune().phases
WAYS: dict[str, Recipe] = {
    "epochs": FineTune((FIRST,)),
    "probe": Probe(),
    "default": FineTune(),
    "solved": FineTune((Solve(), SECOND)),
}
SETS = ("hymenoptera", "dogcat", "brain_tumor_mri", "flower_photos")
Row = dict[str, Any]


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description="The solved head against epochs.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="a folder that keeps examples and features")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--alphas", nargs="+", default=["0.35", "1.0"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--runs", type=int, default=3, help="with seeds 0, 1, …")
    options = parser.parse_args()

    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    with tempfile.TemporaryDirectory() as work:
        for name, alpha in itertools.product(options.sets, options.alphas):
            seeds = itertools.product(range(options.runs), options.ways)
            cases = [
                {"data": name, "alpha": alpha, "way": way, "seed": seed} for seed, way in seeds
            ]
            missing = [
                case for case in cases if not any(case.items() <= row.items() for row in rows)
            ]
            if not missing:
                continue
            file = options.weights / f"MobileNetV2_{alpha}_224_notop.weights.h5"
            text = f"mobilenet_v2(alpha={alpha}, size=160, weights='{file}')"
            place = (options.work or Path(work)) / name
            data = examples(options.data / name, spec.parse(text, Backbone), place / "examples")
            cache = Cache(place / "features")
            fit(WAYS["epochs"], data, cache)  # Now the features of the head are there.
            for case in missing:
                rows.append(case | fit(WAYS[case["way"]], data, cache, case["seed"]))
                with options.results.open("a", encoding="utf-8") as results:
                    results.write(json.dumps(rows[-1]) + "\n")
                print(rows[-1], flush=True)
    show(rows)


def examples(source: Path, backbone: Backbone, out: Path) -> Data:
    """Returns the data of a folder; where it has no test split, a fifth of the rest is one."""
    if not out.exists():
        ingest.write_examples(Folder(source), Split(validation=15, test=20), out)
    return Data(out, backbone, Classification(), exact=False)


def fit(recipe: Recipe, data: Data, cache: Cache, seed: int = 0) -> Row:
    """Returns the figures of one fit."""
    seeded = Data(data.folder, data.backbone, data.task, seed=seed, exact=False)
    model = TransferModel(data.backbone, data.task, data.classes, seed)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        logs = recipe.fit(model, seeded, Path(folder) / "fit", shared=cache)
        seconds = time.perf_counter() - start
    hits = 0
    for inputs, targets in seeded.batches("test"):
        hits += int(
            (np.argmax(model.full(inputs, training=False), -1) == np.argmax(targets, -1)).sum()
        )
    return {
        "seconds": round(seconds, 2),
        "validation": max(log["val_accuracy"] for log in logs),
        "test": hits / seeded.count("test"),
    }


def show(rows: list[Row]) -> None:
    """Prints the means over the seeds, with the deviation of one run."""
    print("\n| data, alpha | recipe | seconds | validation | test | runs |")
    print("|---|---|---|---|---|---|")
    for name, alpha, way in dict.fromkeys((row["data"], row["alpha"], row["way"]) for row in rows):
        case = {"data": name, "alpha": alpha, "way": way}
        alike = [row for row in rows if case.items() <= row.items()]
        seconds = statistics.median(row["seconds"] for row in alike)
        shown = [spread([row[split] for row in alike]) for split in ("validation", "test")]
        print(f"| {name}, {alpha} | {way} | {seconds:.1f} | {' | '.join(shown)} | {len(alike)} |")


def spread(values: list[float]) -> str:
    """Returns mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {deviation:.4f}"


if __name__ == "__main__":
    main()
