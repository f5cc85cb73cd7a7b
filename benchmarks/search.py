"""Twenty trials of ``tlkeras search`` against one default run: seconds and accuracy.

Three commands for each seed, the first two with an empty store each:

* ``default``: ``tlkeras --to=evaluation``, the default recipe;
* ``search``: ``tlkeras search``, 20 trials of the ranges below;
* ``best``: ``tlkeras --to=evaluation`` with the flags that the search has printed, in its store.

    python benchmarks/search.py --source=PHOTOS --weights=FILE --results=FILE

FILE is ``MobileNetV2_1.0_224_notop``, at 160 pixels. Seconds are those of whole commands, start and
features included; those of all processors matter less to what else runs on the machine. Every
result is appended to ``--results``; the same command resumes with the missing seeds. At the end it
prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RECIPE = (
    "fine_tune(phases=[solve, phase(epochs=5, learning_rate=log(3e-5, 3e-3), "
    "unfreeze='block_14', schedule='cosine')])"
)
TASK = "classification(dropout=choice(0.0, 0.2))"


def main() -> None:
    """Measures the missing seeds, then shows all."""
    parser = argparse.ArgumentParser(description="A search against a default run.")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--task", default=TASK)
    options = parser.parse_args()
    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    for seed in range(options.seeds):
        if any(row["seed"] == seed for row in rows):
            continue
        with tempfile.TemporaryDirectory() as work:
            rows.append(measured(options, seed, Path(work)))
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    print("\n| seed | way | seconds | of processors | validation | test |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        for way in ("default", "search", "best"):
            names = ("seconds", "processor", "validation", "test")
            cells = [row[way].get(name, "") for name in names]
            print(f"| {row['seed']} | {way} | {' | '.join(map(str, cells))} |")


def measured(options: argparse.Namespace, seed: int, work: Path) -> dict[str, Any]:
    """Returns the figures of a seed."""
    source = [
        f"--source={options.source}",
        f"--backbone=mobilenet_v2(alpha=1.0, size=160, weights='{options.weights}')",
        f"--seed={seed}",
    ]
    evaluated = [*source, "--to=evaluation", "--baseline=none"]
    seconds = run([*evaluated, f"--root={work / 'default'}"])
    row = {"seed": seed, "default": {**seconds, **figures(work / "default")}}
    ranges = [f"--recipe={options.recipe}", f"--task={options.task}"]
    searched = [*source, *ranges, f"--trials={options.trials}", f"--root={work / 'search'}"]
    seconds = run(["search", *searched])
    (file,) = work.glob("search/search/*/search.json")
    found = json.loads(file.read_text(encoding="utf-8"))
    row["search"] = {**seconds, "validation": round(found["value"], 4)}
    best = [f"--{name}={text}" for name, text in found["best"].items()]
    seconds = run([*evaluated, *best, f"--root={work / 'search'}"])
    row["best"] = {**seconds, "flags": best, **figures(work / "search")}
    return row


def run(arguments: list[str]) -> dict[str, float]:
    """Returns the seconds of a command, and those of all processors that it used."""
    command = [sys.executable, "-m", "pipeline", *arguments]
    print(shlex.join(command), flush=True)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 1), "processor": round(used, 1)}


def figures(root: Path) -> dict[str, float]:
    """Returns the accuracies of the one model in a store."""
    (logs,) = root.glob("model/*/logs.json")
    (metrics,) = root.glob("evaluation/*/metrics.json")
    validation = max(log["val_accuracy"] for log in json.loads(logs.read_text()))
    test = json.loads(metrics.read_text())["accuracy"]
    return {"validation": round(validation, 4), "test": round(test, 4)}


if __name__ == "__main__":
    main()
