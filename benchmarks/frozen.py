"""The frozen pass: seconds of TensorFlow and of LiteRT, the conversion counted and apart.

One pass over training pictures up to the head, from records to kept features; every run is a
process of its own, and the engines take turns. The seconds count from the first use of the
network to the last row: the trace of TensorFlow and the conversion for LiteRT are in them, the
imports are not. The features of both are compared in the first run.

    python benchmarks/frozen.py --data=IMAGES/flower_photos --weights=WEIGHTS --results=FILE

WEIGHTS holds the files ``MobileNetV2_*_notop``. Every result is appended to ``--results``; the same
command resumes with the missing runs. At the end it prints a Markdown table of medians.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ENGINES = ("tensorflow", "litert")
Row = dict[str, Any]


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--alphas", nargs="+", default=["0.35", "1.0"])
    parser.add_argument("--counts", nargs="+", type=int, default=[1000, 2000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options, json.loads(options.one))))
        return

    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    cases = [
        {"alpha": alpha, "count": count, "run": run, "engine": engine}
        for run in range(options.runs)
        for alpha in options.alphas
        for count in options.counts
        for engine in ENGINES
    ]
    for case in cases:
        if any(case.items() <= row.items() for row in rows):
            continue
        command = [sys.executable, __file__, *sys.argv[1:], f"--one={json.dumps(case)}"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append(case | json.loads(output.splitlines()[-1]))
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(rows[-1], flush=True)
    show(rows)


def measured(options: argparse.Namespace, case: Row) -> Row:
    """Returns seconds, peak memory in MB, and for LiteRT the difference in the first run."""
    from tlkeras import spec
    from tlkeras.backbone import Backbone
    from tlkeras.data import ingest
    from tlkeras.data.batches import Data
    from tlkeras.data.splits import Split
    from tlkeras.frameworks import tf
    from tlkeras.model.transfer_model import HEAD, TransferModel
    from tlkeras.sources.folder import Folder
    from tlkeras.tasks.classification import Classification
    from tlkeras.training import engine, features
    from tlkeras.training.features import Cache, Tap

    file = options.weights / f"MobileNetV2_{case['alpha']}_224_notop.weights.h5"
    text = f"mobilenet_v2(alpha={case['alpha']}, size=160, weights='{file}')"
    own, tap = case["engine"], Tap("train", HEAD)
    found: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        few(options.data / "train", case["count"], place / "pictures")
        split = Split(validation=0, test=0)
        ingest.write_examples(Folder(place / "pictures"), split, place / "examples")
        data = Data(place / "examples", spec.parse(text, Backbone), Classification())
        model = TransferModel(data.backbone, data.task, data.classes)
        tf.zeros([1])  # It starts TensorFlow.

        def run(name: str) -> float:
            engine._LEAST = 0 if name == "litert" else math.inf
            start = time.perf_counter()
            made = features.at(model, data, [tap], Cache(place / name), "float32")[tap]
            seconds = time.perf_counter() - start
            found[name] = made.rows.read(np.arange(made.kept))[0]
            return seconds

        row: Row = {"seconds": round(run(own), 2), "rows": len(found[own])}
        row["megabytes"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        if own == "litert":
            start = time.perf_counter()
            engine._converted(model.body)
            row["converting"] = round(time.perf_counter() - start, 2)
            if not case["run"]:
                run("tensorflow")
                one, other = found["litert"], found["tensorflow"]
                row["difference"] = float(np.abs(one - other).max() / np.abs(other).max())
    return row


def few(data: Path, count: int, folder: Path) -> None:
    """Links so many of the pictures of a folder of classes, evenly."""
    paths = sorted(path for path in data.rglob("*.*") if path.is_file())
    for place in np.linspace(0, len(paths) - 1, count).astype(int):
        link = folder / paths[place].parent.name / f"{place}{paths[place].suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(paths[place].absolute())


def show(rows: list[Row]) -> None:
    """Prints the medians as a Markdown table."""
    print(
        "\n| alpha | pictures | TensorFlow | LiteRT | of it converting | times | MB | difference |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for alpha, count in dict.fromkeys((row["alpha"], row["count"]) for row in rows):
        alike = [row for row in rows if (row["alpha"], row["count"]) == (alpha, count)]
        by = {name: [row for row in alike if row["engine"] == name] for name in ENGINES}
        one, other = (statistics.median(x["seconds"] for x in by[name]) for name in ENGINES)
        converting = statistics.median(row["converting"] for row in by["litert"])
        megabytes = [statistics.median(x["megabytes"] for x in by[name]) for name in ENGINES]
        off = max(row.get("difference", 0) for row in by["litert"])
        print(
            f"| {alpha} | {count:,} | {one:.1f} | {other:.1f} | {converting:.1f} | "
            f"{one / other:.2f} | {megabytes[0]:,.0f}, {megabytes[1]:,.0f} | {off:.0e} |"
        )


if __name__ == "__main__":
    main()
