"""Scaling in the number of images: time and peak memory per image from 1,000 to 100,000.

    python benchmarks/scale.py --work=FOLDER --results=FILE

Draws JPEG pictures of 160 pixels into FOLDER, which needs 3 GB. Runs ``example_gen``,
``statistics_gen`` and ``trainer`` with one frozen phase on growing numbers of them, each in its own
process. Every result is appended to ``--results``; the same command resumes with the missing ones.
At the end it prints a Markdown table and draws it beside the results.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from speed import read, timed

from tlkeras.report import charts, page

SIZE, CLASSES = 160, 10
STEPS = {"examples": "example_gen", "statistics": "statistics_gen", "model": "trainer"}
RECIPE = "fine_tune(phases=[phase(epochs=1)])"


def main() -> None:
    """Measures the missing counts, then shows all."""
    parser = argparse.ArgumentParser(description="Time and memory per image by their number.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument(
        "--counts", nargs="+", type=int, default=[100, 1_000, 3_000, 10_000, 30_000, 100_000]
    )
    parser.add_argument("--backbone", default=f"starter(size={SIZE})")
    options = parser.parse_args()
    rows = read(options.results)
    for count in sorted(options.counts):
        if count not in [row["images"] for row in rows]:
            rows.append(measured(count, options.work, options.backbone))
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    show(sorted(rows, key=lambda row: row["images"]), options.results.with_suffix(".svg"))


def measured(count: int, work: Path, backbone: str) -> dict[str, Any]:
    """Returns seconds and peak megabytes of every step on `count` pictures."""
    draw(work / "pictures", count)
    root = work / "runs"
    shutil.rmtree(root, ignore_errors=True)
    flags = {"source": f"folder(path='{work / 'pictures'}')", "backbone": backbone}
    flags |= {"recipe": RECIPE, "root": root}
    row: dict[str, Any] = {"images": count, "seconds": {}, "megabytes": {}}
    for product, step in STEPS.items():
        # Earlier products are reused, so the peak is that of this step.
        _, megabytes, _ = timed(["-m", "pipeline"], flags | {"to": product})
        (manifest,) = root.glob(f"{product}/*/_manifest.json")
        row["seconds"][step] = json.loads(manifest.read_text())["seconds"]
        row["megabytes"][step] = round(megabytes)
    shutil.rmtree(root)
    print(row, flush=True)
    return row


def draw(folder: Path, count: int) -> None:
    """Draws pictures until there are `count`; earlier runs do not change them."""
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
    drawn = sum(1 for _ in folder.glob("*/*.jpg"))
    if drawn > count:
        raise ValueError(f"{folder} holds {drawn:,} pictures, more than {count:,}; remove it.")
    with concurrent.futures.ProcessPoolExecutor() as pool:
        for _ in pool.map(draw_one, [folder] * count, range(count), chunksize=500):
            pass


def draw_one(folder: Path, number: int) -> None:
    """Draws one picture: a soft pattern, a tint by its class, and noise."""
    path = folder / f"class{number % CLASSES}" / f"{number:06d}.jpg"
    if path.exists():
        return
    random = np.random.default_rng(number)
    coarse = random.integers(0, 200, (5, 5, 3)).astype(np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    tint = 5 * (number % CLASSES)
    pixels = soft + random.normal(tint, 8, soft.shape)
    partial = path.with_suffix(".partial")
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(partial, "JPEG", quality=85)
    partial.replace(path)


def show(rows: Sequence[dict[str, Any]], picture: Path) -> None:
    """Prints the table and draws the time per image without the start of a step.

    The time of the smallest number of images stands for the start, above all TensorFlow's import.
    """
    names, least = [*STEPS.values()], rows[0]
    columns = ("images", *(f"{name}: s, ms an image, peak MB" for name in names))
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    drawn = {}
    for row in rows:
        more = row["images"] - least["images"]
        each = {
            name: 1e3 * (row["seconds"][name] - least["seconds"][name]) / more if more else 0.0
            for name in names
        }
        cells = [
            f"{row['seconds'][name]:.1f}, {each[name]:.2f}, {row['megabytes'][name]:,}"
            for name in names
        ]
        print(f"| {row['images']:,} | " + " | ".join(cells) + " |")
        if more:
            drawn[f"{row['images']:,} images"] = {name: max(each[name], 0.0) for name in names}
    if drawn:
        title = "milliseconds an image"
        picture.write_text(page.picture(charts.bars(title, drawn)), encoding="utf-8")


if __name__ == "__main__":
    main()
