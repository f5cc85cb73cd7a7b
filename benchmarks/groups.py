"""Worst-group accuracy where colour is a shortcut to the shape: plain training, weights, group DRO.

Drawn pictures of two shapes, of which each has its colour in 95 % of the training and validation
examples, and in half of the test examples. A *cell* is a shape in a colour; worst is the accuracy
of the worst of the four cells, average that of all test examples. The starter, the default phases:

* ``plain``: the default recipe;
* ``weights``: the same with ``balance='group'``;
* ``dro``: the same with `group_dro`;
* ``probe`` and ``balanced probe``: the head alone as a convex problem.

    python benchmarks/groups.py --results=FILE

The seed draws the pictures, their colours and the order of training. Every result is appended to
``--results``; the same command resumes with the missing runs. Prints a Markdown table of means.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.backbones.starter import Starter
from tlkeras.data import groups, ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.images import drawing
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.recipes.probe import Probe
from tlkeras.sources.csv import CSV
from tlkeras.tasks.classification import Classification
from tlkeras.training.features import Cache

WAYS: dict[str, Recipe] = {
    "plain": FineTune(),
    "weights": FineTune(balance="group"),
    "dro": FineTune(group_dro=0.1),
    "probe": Probe(),
    "balanced probe": Probe(balance="group"),
}
COLOURS = ("red", "blue")
TOLD = {"train": 0.95, "val": 0.95, "test": 0.5}
"""The share of examples in which colour tells the shape."""

COUNTS = {"train": 400, "val": 400, "test": 800}
Row = dict[str, Any]


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--shapes", nargs=2, default=["circle", "hexagon"], choices=drawing.SHAPES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--runs", type=int, default=3, help="with seeds 0, 1, …")
    options = parser.parse_args()
    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    for seed in range(options.runs):
        cases = [{"shapes": options.shapes, "way": way, "seed": seed} for way in options.ways]
        missing = [case for case in cases if not any(case.items() <= row.items() for row in rows)]
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as work:
            place = Path(work)
            examples = place / "examples"
            ingest.write_examples(drawn(place, options.shapes, seed), Split(0, 0), examples)
            data = Data(examples, Starter(), Classification(), seed=seed)
            for case in missing:
                rows.append(case | fitted(WAYS[case["way"]], data, place))
                with options.results.open("a", encoding="utf-8") as results:
                    results.write(json.dumps(rows[-1]) + "\n")
                print(rows[-1], flush=True)
    show(rows, options.shapes)


def drawn(folder: Path, shapes: list[str], seed: int) -> CSV:
    """Returns a table of pictures of two shapes, with their colour as the group."""
    random = np.random.default_rng(seed)
    places = [[*drawing.SHAPES].index(shape) for shape in shapes]
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "colour", "part"])
        number = 0
        for part, count in COUNTS.items():
            told = random.permutation(count) < TOLD[part] * count
            for is_told in told:
                shape = number % 2
                colour = COLOURS[shape if is_told else 1 - shape]
                index = number * len(drawing.SHAPES) + places[shape]
                main = colour, str(random.choice([*drawing.TEXTURES]))
                name = f"{number}.jpg"
                (folder / name).write_bytes(drawing.draw(seed, index, 128, main).image)
                table.writerow([name, shapes[shape], colour, part])
                number += 1
    return CSV(folder / "table.csv", group="colour", split_column="part")


def fitted(recipe: Recipe, data: Data, place: Path) -> Row:
    """Returns the accuracies of one fit, in each cell, in the worst and on average."""
    model = TransferModel(data.backbone, data.task, data.classes, data.seed)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        recipe.fit(model, data, Path(folder) / "fit", shared=Cache(place / "features"))
    seconds = time.perf_counter() - start
    right = np.concatenate(
        [
            np.argmax(model.full(inputs, training=False), -1) == np.argmax(targets, -1)
            for inputs, targets in data.batches("test")
        ]
    )
    members = groups.members(data.folder, "test", "label")
    labels = np.array([own[0] for own in members.classes])
    colours = members.groups["colour"]
    cells = {
        f"{name}, {colour}": round(
            float(right[(labels == label) & (colours.numbers == number)].mean()), 4
        )
        for label, name in enumerate(data.classes)
        for number, colour in enumerate(colours.names)
    }
    return {
        "average": float(right.mean()),
        "worst": min(cells.values()),
        "cells": cells,
        "seconds": round(seconds, 1),
    }


def show(rows: list[Row], shapes: list[str]) -> None:
    """Prints the means over the seeds, with the deviation of one run."""
    print("\n| recipe | worst cell | average | seconds | runs |\n|---|---|---|---|---|")
    for way in WAYS:
        alike = [row for row in rows if row["way"] == way and row["shapes"] == shapes]
        if alike:
            told = [spread([100 * row[key] for row in alike]) for key in ("worst", "average")]
            seconds = statistics.mean(row["seconds"] for row in alike)
            print(f"| {way} | {' | '.join(told)} | {seconds:.0f} | {len(alike)} |")


def spread(values: list[float]) -> str:
    """Returns mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


if __name__ == "__main__":
    main()
