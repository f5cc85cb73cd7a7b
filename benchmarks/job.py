"""The whole job, from a folder to pushed files: this checkout against an earlier one.

    python benchmarks/job.py --before=CHECKOUT --data=IMAGES --weights=WEIGHTS --results=FILE

CHECKOUT is a work tree of the earlier commit, IMAGES holds the folders of pictures, WEIGHTS the
files ``MobileNetV2_*_notop``. Every run is `python -m pipeline` in an empty store, a process of its
own; the two checkouts take turns, so that what else the machine does falls on both. `seconds` is
from the start of the process to its end, that of a step what its manifest says, `mb` the peak
memory of that process, without the processes in which exports are checked. Every result is appended
to ``--results``; the same command resumes with the missing runs. At the end it prints a Markdown
table of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

KINDS = "|".join(["tflite", *(f"tflite(quantize='{kind}')" for kind in ("dynamic", "float16"))])
ALL_KINDS = f"--exporters=saved_model|{KINDS}|tflite(quantize='int8')"
CASES = {
    "digits": [],
    "digits, four kinds": [ALL_KINDS],
    "hymenoptera, 0.35": ["--source={data}/hymenoptera", "--backbone={network}"],
    "flower_photos, 1.0": ["--source={data}/flower_photos", "--backbone={network}"],
    "flower_photos, 1.0, four kinds": [
        "--source={data}/flower_photos",
        "--backbone={network}",
        ALL_KINDS,
    ],
}
"""The flags of each case; the alpha of the network stands in its name."""

Row = dict[str, Any]


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description="The whole job, before and now.")
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()

    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    checkouts = {"before": options.before, "now": Path(__file__).parents[1]}
    for case in options.cases:
        for run in range(options.runs):
            for way, checkout in checkouts.items():
                key = {"case": case, "run": run, "way": way}
                if any(key.items() <= row.items() for row in rows):
                    continue
                flags = [flag.format(**places(case, options)) for flag in CASES[case]]
                rows.append(key | job(checkout.resolve(), flags))
                with options.results.open("a", encoding="utf-8") as results:
                    results.write(json.dumps(rows[-1]) + "\n")
                print(rows[-1], flush=True)
    show(rows)


def places(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """Returns what stands in the flags of a case."""
    alpha = "0.35" if "0.35" in case else "1.0"
    file = options.weights.resolve() / f"MobileNetV2_{alpha}_224_notop.weights.h5"
    network = f"mobilenet_v2(alpha={alpha}, size=160, weights='{file}')"
    return {"data": options.data.resolve(), "network": network}


def job(checkout: Path, flags: list[str]) -> Row:
    """Returns the figures of one run of the whole pipeline."""
    with tempfile.TemporaryDirectory() as work:
        stores = [f"--root={work}/runs", f"--saved_models={work}/saved_models", "--name=job"]
        command = [sys.executable, "-m", "pipeline", *flags, *stores]
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=work,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}.")
        steps = {}
        for path in Path(work, "runs").glob("*/*/_manifest.json"):
            manifest = json.loads(path.read_text(encoding="utf-8"))
            steps[manifest["step"]] = manifest["seconds"]
        (exports,) = Path(work, "runs").glob("infra_blessing/*/infra.json")
        judged = json.loads(exports.read_text(encoding="utf-8"))
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "mb": usage.ru_maxrss // 1024,
        "steps": steps,
        "values": {row["export"]: row["value"] for row in judged},
    }


def show(rows: list[Row]) -> None:
    """Prints the medians over the runs, with the least and the largest."""
    names = ("model", "evaluation", "exports", "infra_blessing")
    print(f"\n| case | checkout | seconds | {' | '.join(names)} | MB | runs |")
    print(f"|---|---|---|{'---|' * len(names)}---|---|")
    for case, way in dict.fromkeys((row["case"], row["way"]) for row in rows):
        alike = [row for row in rows if (row["case"], row["way"]) == (case, way)]
        cells = [spread([row["seconds"] for row in alike])]
        cells += [f"{statistics.median(row['steps'][name] for row in alike):.1f}" for name in names]
        cells += [f"{statistics.median(row['mb'] for row in alike):,.0f}", f"{len(alike)}"]
        print(f"| {case} | {way} | {' | '.join(cells)} |")
    for case in dict.fromkeys(row["case"] for row in rows):
        medians = [
            statistics.median(
                row["seconds"] for row in rows if (row["case"], row["way"]) == (case, way)
            )
            for way in ("now", "before")
        ]
        print(f"\n{case}: {medians[0] / medians[1]:.2f} of the time before.")


def spread(values: list[float]) -> str:
    """Returns the median, and the least and the largest."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
