"""Private training: accuracy by epsilon, and what attacks find of who was in the training.

Ways to a head on the same kept features: ``probe``; ``epochs``, the first phase of the default
recipe, five epochs of the head; ``private 3``, ``private`` with an epsilon of 3, and so on.

    python benchmarks/private.py --data=IMAGES --weights=WEIGHTS --results=FILE

IMAGES holds the folders of pictures, WEIGHTS the files ``MobileNetV2_*_notop``. Chance of a private
fit is the operating system's, so that each seed gives other results in another run. Both attacks
are on the fits of seed 0; others than members are the test and the validation split. Every result
is appended to ``--results``; the same command resumes with the missing runs. At the end it prints
Markdown tables.
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
from probe import examples

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.data.batches import Data
from tlkeras.measures.membership import RATES
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.recipes.private import Private
from tlkeras.recipes.probe import Probe
from tlkeras.training import shadows
from tlkeras.training.features import Cache

NETWORK = "mobilenet_v2(alpha=1.0, size=160, weights='{}')"

Row = dict[str, Any]


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description="Private heads against plain ones.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="a folder that keeps examples and features")
    parser.add_argument("--set", default="flower_photos")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 3.0, 8.0])
    parser.add_argument("--runs", type=int, default=3, help="with seeds 0, 1, …")
    options = parser.parse_args()

    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    ways: dict[str, Recipe] = {"probe": Probe(), "epochs": FineTune(FineTune().phases[:1])}
    ways |= {f"private {epsilon:g}": Private(epsilon) for epsilon in options.epsilons}
    file = options.weights / "MobileNetV2_1.0_224_notop.weights.h5"
    network = spec.parse(NETWORK.format(file), Backbone)
    with tempfile.TemporaryDirectory() as work:
        place = (options.work or Path(work)) / options.set
        data = examples(options.data / options.set, network, place / "examples")
        cache = Cache(place / "features")
        for seed, way in itertools.product(range(options.runs), ways):
            case = {"data": options.set, "way": way, "seed": seed}
            if not any(case.items() <= row.items() for row in rows):
                rows.append(case | measured(ways[way], data, cache, seed))
                with options.results.open("a", encoding="utf-8") as results:
                    results.write(json.dumps(rows[-1]) + "\n")
                print(rows[-1], flush=True)
    show([row for row in rows if row["data"] == options.set])


def measured(recipe: Recipe, data: Data, cache: Cache, seed: int) -> Row:
    """Returns the figures of one fit, and for seed 0 those of the attacks on it."""
    seeded = Data(data.folder, data.backbone, data.task, seed=seed, exact=False)
    model = TransferModel(data.backbone, data.task, data.classes, seed)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        recipe.fit(model, seeded, Path(folder) / "fit", shared=cache)
        seconds = time.perf_counter() - start
    pool = shadows.pooled(model, seeded, cache, ["test", "validation"])
    kernel, bias = pool.head.weights()
    outputs = [(chunk.inputs @ kernel + bias, np.asarray(chunk.targets)) for chunk in pool.rows]
    right = np.concatenate([found.argmax(-1) == target.argmax(-1) for found, target in outputs])
    test = right[pool.members :][: data.count("test")]
    row: Row = {"seconds": round(seconds, 2), "train": float(right[: pool.members].mean())}
    row |= {
        "test": float(test.mean()),
        "members": pool.members,
        "others": len(right) - pool.members,
    }
    if not seed:
        attacks = pool.attacks(pool.head.weights(), shadows.HEADS, seed)
        row["attacks"] = {
            name: {
                "auc": [attack.auc.value, *(attack.auc.interval or ())],
                "caught": {
                    f"{rate:g}": [scalar.value, *(scalar.interval or ())]
                    for rate in RATES
                    if (scalar := attack.caught(rate))
                },
            }
            for name, attack in attacks.items()
        }
    return row


def show(rows: list[Row]) -> None:
    """Prints the means over the seeds with the deviation of one run, and the attacks."""
    ways = dict.fromkeys(row["way"] for row in rows)
    print(
        "\n| head | test accuracy | below probe | below epochs | train accuracy | seconds | runs |"
    )
    print("|---|---|---|---|---|---|---|")
    plain = [
        statistics.mean(row["test"] for row in rows if row["way"] == way)
        for way in ("probe", "epochs")
    ]
    for way in ways:
        own = [row for row in rows if row["way"] == way]
        tests = [row["test"] for row in own]
        deviation = statistics.stdev(tests) if len(own) > 1 else 0.0
        mean, train = statistics.mean(tests), statistics.mean(row["train"] for row in own)
        seconds = statistics.median(row["seconds"] for row in own)
        lost = " | ".join(f"{100 * (other - mean):.1f}" for other in plain)
        print(
            f"| {way} | {mean:.4f} ± {deviation:.4f} | {lost} | {train:.4f} | {seconds:.1f} "
            f"| {len(own)} |"
        )
    print("\n| head | attack | AUC | caught at 0.1 % false alarms | at 1 % |")
    print("|---|---|---|---|---|")
    for row in (row for row in rows if "attacks" in row):
        for name, found in row["attacks"].items():
            cells = [found["auc"], found["caught"]["0.001"], found["caught"]["0.01"]]
            shown = (f"{value:.4f} ({low:.4f} to {high:.4f})" for value, low, high in cells)
            print(f"| {row['way']} | {name} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
