"""Draws the accuracies of ``tlkeras few_shot``, one group of bars for each number of labels.

    tlkeras few_shot --source=photos/ --backbone=mobilenet_v2
    python benchmarks/few_shot.py --episodes=FILE --picture=few_shot.svg

FILE is the ``episodes.jsonl`` that the program names at its end.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from tlkeras.report import charts, page


def main() -> None:
    """Reads the episodes and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--episodes", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.episodes.read_text().splitlines()]
    groups = {}
    for shots in sorted({row["shots"] for row in rows}):
        alike = [row for row in rows if row["shots"] == shots]
        names = [name for name in alike[0] if name not in ("shots", "episode")]
        label = f"{shots} label{'s' if shots > 1 else ''} a class"
        groups[label] = {
            name.replace("_", " "): round(100 * float(np.mean([row[name] for row in alike])), 1)
            for name in names
        }
    title = "accuracy on classes of few labels, percent"
    options.picture.write_text(page.picture(charts.bars(title, groups)), encoding="utf-8")


if __name__ == "__main__":
    main()
