"""The doctor's price: the time of ingest with and without it, and the memory by the size of data.

    python benchmarks/doctor.py --data=FOLDER --base=CHECKOUT
    python benchmarks/doctor.py --counts=1000,10000,50000

CHECKOUT is one of this repository from before the doctor, ``git worktree add CHECKOUT da682f2``.
The first command reads FOLDER with both in turns, every run a process of its own, and prints the
medians. The second makes so many small pictures and prints the time and the most memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parents[1]

# A small ingest before the clock starts: both import TensorFlow, and ours its libraries.
_RUN = """
import json, resource, sys, tempfile, time
from pathlib import Path
from tlkeras.data import ingest
from tlkeras.data.splits import Split
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
with tempfile.TemporaryDirectory() as warm:
    ingest.write_examples(Embedded(data="shapes", count=20, size=64), Split(), warm, print)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
with tempfile.TemporaryDirectory() as out:
    wall, cpu = time.perf_counter(), time.process_time()
    info = ingest.write_examples(Folder(Path(sys.argv[1])), Split(), out, lambda text: None)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"wall": wall, "cpu": cpu, "before": before, "most": most}))
"""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="The doctor's price in time and memory.")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--counts", default="")
    options = parser.parse_args()
    if options.data:
        turns(options.data, {"without": options.base, "with": HERE}, options.runs)
    if options.counts:
        sizes([int(count) for count in options.counts.split(",")])


def turns(data: Path, checkouts: dict[str, Path], runs: int) -> None:
    """Prints the medians of both ways and how they compare."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for _ in range(runs):
        for name, checkout in checkouts.items():
            found[name].append(read(data, checkout))
    print(f"| {data.name} | wall, s | cpu, s | most memory, MB |")
    medians = {}
    for name, rows in found.items():
        medians[name] = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        row = medians[name]
        print(f"| {name} | {row['wall']:.2f} | {row['cpu']:.2f} | {row['most']:,.0f} |")
    first, second = medians.values()
    print(
        f"times: wall {second['wall'] / first['wall']:.2f}, cpu {second['cpu'] / first['cpu']:.2f}"
    )


def sizes(counts: list[int]) -> None:
    """Prints the time and the memory of so many made-up pictures each."""
    print("| pictures | wall, s | cpu, s | before, MB | most, MB |")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            draw(Path(folder), count)
            row = read(Path(folder), HERE)
        print(f"| {count:,} | " + " | ".join(f"{row[key]:,.1f}" for key in row) + " |")


def draw(folder: Path, count: int) -> None:
    """Writes soft random pictures of 64 x 64 pixels, half of them in each of two classes."""
    chosen = np.random.default_rng(0)
    for number in range(count):
        label = "ab"[number % 2]
        place = folder / label / f"{label}{number // 1_000}" / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        noise = chosen.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC).save(place)


def read(data: Path, checkout: Path) -> dict[str, float]:
    """Returns the seconds and the megabytes of an ingest by the code of a checkout."""
    checkout = checkout.resolve()  # Python looks there first: in the folder where it starts.
    environment = {**os.environ, "PYTHONPATH": str(checkout), "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", _RUN, str(data.resolve())]
    done = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
