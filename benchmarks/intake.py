"""The data steps by the number of pictures: seconds an image and memory, in turns with a checkout.

    git worktree add CHECKOUT 20523fd
    python benchmarks/intake.py --base=CHECKOUT --work=FOLDER --results=FILE --counts 1000 100000

Draws JPEG pictures into FOLDER, 3 kB each at 160 pixels. Runs the pipeline up to ``schema`` with
both codes in turns, each run a process of its own on a store of its own. `seconds` are those of the
steps, as their manifests tell them; `cpu` and `megabytes` are of all processes of a run together,
the most at one moment. Without ``--base`` only this code runs; ``--data`` names pictures of yours.
Every result is appended to ``--results``; the same command resumes with the missing runs. At the
end it prints a Markdown table of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parents[1]
PRODUCTS = ("examples", "statistics", "schema")
CLASSES = 10
PAUSE = 0.1  # Seconds between two looks at the memory.
Row = dict[str, Any]


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description="The data steps by the number of pictures.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--counts", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ways = {"before": options.base, "now": HERE} if options.base else {"now": HERE}
    rows = read(options.results)
    done = [(row["pictures"], row["way"], row["round"]) for row in rows]
    sets = {options.data.name: options.data} if options.data else {}
    for count in [] if options.data else sorted(options.counts):
        sets[f"{count:,} of {options.side} px"] = options.work / f"{options.side}_{count}"
        draw(sets[f"{count:,} of {options.side} px"], count, options.side)
    for name, folder in sets.items():
        for turn in range(options.rounds):
            for way, checkout in ways.items():
                if (name, way, turn) not in done:
                    found = measured(folder, checkout.resolve(), options.work / "runs")
                    rows.append({"pictures": name, "way": way, "round": turn, **found})
                    print(rows[-1], flush=True)
                    with options.results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    show(rows)


def read(results: Path) -> list[Row]:
    """Returns the rows of a file; none if there is no file."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    return [json.loads(line) for line in lines]


def draw(folder: Path, count: int, side: int) -> None:
    """Writes soft random pictures, a tenth of them in each class, unless they are there."""
    if (folder / ".drawn").exists():
        return
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        noise = random.integers(0, 256, (side // 4, side // 4, 3), np.uint8)
        picture = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
        picture.save(folder / f"class{number % CLASSES}" / f"{number:07d}.jpg")
    (folder / ".drawn").touch()


def measured(pictures: Path, checkout: Path, root: Path) -> Row:
    """Returns what the data steps of a checkout take."""
    shutil.rmtree(root, ignore_errors=True)
    source = f"folder(path='{pictures.resolve()}')"
    command = [sys.executable, "-m", "pipeline", f"--source={source}", f"--root={root.resolve()}"]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "CUDA_VISIBLE_DEVICES": "-1"}
    before, start = spent(), time.perf_counter()
    process = subprocess.Popen(
        [*command, f"--to={PRODUCTS[-1]}"],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    most = own = 0
    while process.poll() is None:
        sizes = [held(each) for each in family(process.pid)]
        most, own = max(most, sum(sizes)), max(own, *sizes[:1], 0)
        time.sleep(PAUSE)
    wall = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}.")
    manifests = [json.loads(path.read_text()) for path in root.glob("*/*/_manifest.json")]
    seconds = {each["step"]: each["seconds"] for each in manifests}
    (info,) = root.glob("examples/*/info.json")
    count = sum(json.loads(info.read_text())["counts"].values())
    shutil.rmtree(root)
    return {
        "count": count,
        "seconds": sum(seconds.values()),
        "steps": seconds,
        "wall": wall,
        "cpu": spent() - before,
        "megabytes": most / 2**20,
        "own_megabytes": own / 2**20,
    }


def spent() -> float:
    """Returns the CPU seconds of all ended processes that this one has started."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def family(process: int) -> Iterator[int]:
    """Yields a process and all below it."""
    yield process
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        for child in text(file).split():
            yield from family(int(child))


def held(process: int) -> int:
    """Returns the bytes of memory that a process holds; 0 if it has ended."""
    fields = text(Path(f"/proc/{process}/statm")).split()
    return int(fields[1]) * resource.getpagesize() if fields else 0


def text(file: Path) -> str:
    """Returns the text of a file of the system, or an empty one if its process has ended."""
    try:
        return file.read_text()
    except OSError:
        return ""


def show(rows: Sequence[Row]) -> None:
    """Prints the medians; the times are those of the other code by ours."""
    columns = ("pictures", "code", "seconds", "ms an image", "CPU ms", "MB, all", "MB, main")
    print("\n| " + " | ".join((*columns, "runs")) + " |\n|" + "---|" * (len(columns) + 1))
    for name in dict.fromkeys(row["pictures"] for row in rows):
        for way in dict.fromkeys(row["way"] for row in rows):
            runs = [row for row in rows if (row["pictures"], row["way"]) == (name, way)]
            if runs:
                middle = {
                    key: statistics.median(row[key] for row in runs)
                    for key in ("seconds", "cpu", "megabytes", "own_megabytes", "count")
                }
                each = 1e3 / middle["count"]
                took = [row["seconds"] for row in runs]
                print(
                    f"| {name} | {way} | {middle['seconds']:.1f} ({min(took):.1f} to "
                    f"{max(took):.1f}) | {each * middle['seconds']:.2f} | "
                    f"{each * middle['cpu']:.2f} | {middle['megabytes']:,.0f} | "
                    f"{middle['own_megabytes']:,.0f} | {len(runs)} |"
                )


if __name__ == "__main__":
    main()
