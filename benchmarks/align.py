"""Measures how well `align` finds combinations of shape, texture and colour that it never saw.

    python benchmarks/align.py --results=align.jsonl

The pictures and their captions are drawn anew for every seed, and the test split has combinations
that are in no other split. A line of the file is one fit; a table of means is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from pipeline.config import Config
from tlkeras import spec
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.sources.embedded import Embedded
from tlkeras.task import Task

PHASE = "phase(epochs=20, learning_rate=3e-3, schedule='cosine', warmup=0.1)"
RECIPES = (f"align(locked='both', phases=[{PHASE}])", "align")
TASKS = ("retrieval", "retrieval(objective='siglip')")


def main() -> None:
    """Reads the options, fits all and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1_200, help="pictures, of all splits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for row in fits(seed, options, Path(folder)):
                rows.append(row)
                with options.results.open("a") as file:
                    print(json.dumps(row), file=file)
    print(table(rows))


def fits(seed, options, folder):
    """Yields the row of every recipe and task on the pictures of a seed."""
    source = Embedded(data="shapes", target="caption", count=options.count, size=96, seed=seed)
    ingest.write_examples(source, Config(source=source).split, folder / "examples")
    for recipe in options.recipes:
        for task in options.tasks:
            yield {
                "recipe": recipe,
                "task": task,
                "seed": seed,
                **fit(source, recipe, task, folder),
            }


def fit(source, recipe, task, folder):
    """Returns the measures and the seconds of one fit, which computes its own features."""
    config = Config(source=source, recipe=spec.parse(recipe, Recipe), task=spec.parse(task, Task))
    assert config.backbone and config.task
    data = Data(folder / "examples", config.backbone, config.task, 32, source.seed, exact=False)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        start = time.perf_counter()
        model = TransferModel(config.backbone, config.task, (), source.seed)
        config.recipe.fit(model, data, Path(scratch))
        seconds = time.perf_counter() - start
    tally, first, texts = config.task.tally(()), 0, set()
    for inputs, target in data.batches("test"):
        served = {name: rows.numpy() for name, rows in model.predicted(inputs).items()}
        tally.add(target.numpy(), served, first)
        first += len(target)
        texts.update(keys[:2].tobytes() for keys in target.numpy())  # Then come the picture's.
    found = {name: each.value for name, each in tally.measures().scalars.items()}
    counts = {"pairs": data.count("train"), "pictures": first, "texts": len(texts)}
    return {**found, **counts, "chance": 1 / len(texts), "seconds": seconds}


def table(rows):
    """Returns the means over seeds as a table in Markdown."""
    columns = {
        "texts of a picture": "text_recall_at_1",
        "pictures of a text": "picture_recall_at_1",
        "of a guess": "chance",
        "median ranks": ("text_median_rank", "picture_median_rank"),
        "seconds": "seconds",
    }
    groups = defaultdict(list)
    for row in rows:
        groups[row["recipe"], row["task"]].append(row)
    lines = [["recipe", "task", *columns], ["---"] * (2 + len(columns))]
    for names, group in groups.items():
        lines.append([*(f"`{name}`" for name in names)])
        for keys in columns.values():
            keys = (keys,) if isinstance(keys, str) else keys
            told = []
            for key in keys:
                values = [row[key] for row in group]
                told.append(f"{np.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})")
            lines[-1].append(", ".join(told))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
