"""The pipeline against the recipe of TensorFlow's tutorial: seconds, accuracy and memory.

Five ways from the same folder and weights to a trained model; every run is a process of its own:

* ``ours``: ``python -m pipeline --to=model`` in an empty store, so its time includes reads, checks
  and statistics. Its second phase trains the last two blocks, enough for the tutorial's accuracy;
* ``equal``: the same with the blocks that the tutorial trains, those from its layer 100 on;
* ``default``: the same with the default recipe, which trains the last 30 % of the blocks;
* ``cached``: ``tutorial.py --cache``, decoded pictures in memory: the best of a careful user;
* ``uncached``: ``tutorial.py``, which reads the files in every epoch.

    python benchmarks/speed.py --data=IMAGES --weights=WEIGHTS --results=FILE

IMAGES holds ``flower_photos`` and ``hymenoptera``, WEIGHTS the files ``MobileNetV2_*_notop``. The
ways take turns, case by case and seed by seed. Every result is appended to ``--results``; the same
command resumes with the missing runs. At the end it prints a Markdown table of medians and draws
all but ``equal`` and ``default`` beside the results.
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
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlkeras.recipes.fine_tune import FineTune
from tlkeras.report import charts, page

HERE = Path(__file__).parent
# The changes to the second phase of the default recipe.
OURS: dict[str, dict[str, Any]] = {
    "ours": {"learning_rate": 3e-4, "unfreeze": "block_16"},
    "equal": {"unfreeze": "block_11"},
    "default": {},
}
WAYS = (*OURS, "cached", "uncached")
DRAWN = ("ours", "cached", "uncached")
Row = dict[str, Any]


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description="The pipeline against the tutorial's recipe.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["hymenoptera", "flower_photos"])
    parser.add_argument("--alphas", nargs="+", default=["0.35", "1.0"])
    parser.add_argument("--epochs", nargs="+", type=int, default=[5, 10], help="of each phase")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--runs", type=int, default=3, help="with seeds 0, 1, …")
    options = parser.parse_args()

    rows = read(options.results)
    done = [described(row) for row in rows]
    for name in options.sets:
        for path in (options.data / name).rglob("*.*"):
            path.read_bytes()  # Every run, also the first, finds the files in the disk's cache.
    order = itertools.product(
        range(options.runs), options.epochs, options.sets, options.alphas, options.ways
    )
    for seed, epochs, name, alpha, way in order:
        case = {"data": name, "alpha": alpha, "epochs": epochs, "way": way, "seed": seed}
        if case in done:
            continue
        print(case, end=" ", flush=True)
        row = case | measured(case, options.data / name, options.weights)
        rows.append(row)
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{row['seconds']:.0f} s, {row['accuracies'][-1]:.3f}", flush=True)
    if rows:
        show(rows, options.results.with_suffix(".svg"))


def read(results: Path) -> list[Row]:
    """Returns the rows of a file of JSON lines, none if there is no file."""
    text = results.read_text(encoding="utf-8") if results.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def described(row: Row) -> Row:
    """Returns the fields that identify a run."""
    return {name: row[name] for name in ("data", "alpha", "epochs", "way", "seed")}


def measured(case: Row, data: Path, weights: Path) -> Row:
    """Returns the figures of one run: the process's whole time, accuracies and peak memory."""
    file = weights / f"MobileNetV2_{case['alpha']}_224_notop.weights.h5"
    with tempfile.TemporaryDirectory() as folder:
        if case["way"] in OURS:
            backbone = f"mobilenet_v2(alpha={case['alpha']}, size=160, weights='{file}')"
            flags = {"backbone": backbone, "source": f"folder(path='{data}')"}
            flags |= {"recipe": recipe(case["epochs"], OURS[case["way"]])}
            flags |= {"split": "split(test=0)", "to": "model", "root": folder}
            seconds, megabytes, _ = timed(["-m", "pipeline"], flags | {"seed": case["seed"]})
            parts, accuracies = own_parts(Path(folder))
        else:
            flags = {"data": data, "weights": file, "alpha": case["alpha"]}
            flags |= {"epochs": case["epochs"], "seed": case["seed"]}
            script = [str(HERE / "tutorial.py")]
            cache = ["--cache"] if case["way"] == "cached" else []
            seconds, megabytes, output = timed(script + cache, flags)
            result = json.loads(output.splitlines()[-1])
            parts, accuracies = result["seconds"], result["accuracies"]
    return {
        "seconds": round(seconds, 2),
        "megabytes": round(megabytes),
        "parts": parts,
        "accuracies": accuracies,
    }


def recipe(epochs: int, changes: Mapping[str, Any]) -> FineTune:
    """Returns the default recipe with `epochs` per phase and changes to its second phase."""
    first, second = FineTune().phases
    second = dataclasses.replace(second, **changes)
    return FineTune(tuple(dataclasses.replace(each, epochs=epochs) for each in (first, second)))


def timed(words: Sequence[str], flags: Row) -> tuple[float, float, str]:
    """Returns the seconds, the peak memory in MB and the output of a Python process."""
    command = [sys.executable, *words, *(f"--{name}={value}" for name, value in flags.items())]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        for stream in (output, errors):
            stream.seek(0)
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}: {errors.read()}")
        return seconds, usage.ru_maxrss / 1024, output.read()


def own_parts(root: Path) -> tuple[dict[str, float], list[float]]:
    """Returns the seconds of each step in a store, and the validation accuracy of each epoch."""
    manifests = [json.loads(path.read_text()) for path in root.glob("*/*/_manifest.json")]
    (logs,) = root.glob("model/*/logs.json")
    accuracies = [log["val_accuracy"] for log in json.loads(logs.read_text())]
    return {each["step"]: each["seconds"] for each in manifests}, accuracies


def show(rows: Sequence[Row], picture: Path) -> None:
    """Prints the medians as a table and draws the seconds."""
    lines, drawn = [], {}
    cases = {(row["data"], row["alpha"], row["epochs"]): None for row in rows}
    for group in sorted(cases):
        name = f"{group[0]}, {group[1]}, {group[2]}+{group[2]}"
        alike = [row for row in rows if (row["data"], row["alpha"], row["epochs"]) == group]
        seconds = {
            way: statistics.median(times)
            for way in WAYS
            if (times := [row["seconds"] for row in alike if row["way"] == way])
        }
        drawn[name] = {way: took for way, took in seconds.items() if way in DRAWN}
        for way in seconds:
            runs = [row for row in alike if row["way"] == way]
            took = [row["seconds"] for row in runs]
            faster = f"{seconds[way] / seconds['ours']:.1f}" if "ours" in seconds else ""
            lines.append(
                (
                    name,
                    way,
                    f"{seconds[way]:.1f} ({min(took):.1f} to {max(took):.1f})",
                    faster,
                    median(row["accuracies"][-1] for row in runs),
                    median(max(row["accuracies"]) for row in runs),
                    f"{statistics.median(row['megabytes'] for row in runs):,.0f}",
                    f"{len(runs)}",
                )
            )
    columns = ("data, alpha, epochs", "way", "seconds", "times ours", "last", "best", "MB", "runs")
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    title = "seconds to a trained model"
    picture.write_text(page.picture(charts.bars(title, drawn)), encoding="utf-8")


def median(values: Any) -> str:
    """Returns a median as text for the tables."""
    return f"{statistics.median(values):.4f}"


if __name__ == "__main__":
    main()
