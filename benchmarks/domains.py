"""The value of adaptation: accuracy on a domain whose labels nothing has read.

Every ordered pair of four domains of product reviews; the features of a domain are computed once.
For each pair and seed: ``source_only``, the head of `probe` on the labels of the source alone, and
every head-only method of `adapt`, with the defaults of both. Of the 2,000 reviews of the source 300
are for validation; of the 2,000 of the target half is for adaptation, without labels, and half
measures. The seed draws these parts.

    python benchmarks/domains.py --data=TEXT/fdu_mtl --results=FILE
    python benchmarks/domains.py --data=TEXT/fdu_mtl --results=FILE --minilm=FOLDER

FOLDER is all-MiniLM-L6-v2 as Hugging Face's libraries write it; without it the features are of
``starter_text``. Every accuracy is appended to `--results`; after a stop, the same command resumes.
Prints a Markdown table. ``--features=FILE`` writes the features, for other programs.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.backbone import Backbone
from tlkeras.backbones.hub_text import Bert
from tlkeras.backbones.starter_text import StarterText
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import tf
from tlkeras.model.transfer_model import HEAD, TransferModel
from tlkeras.recipes.adapt import Adapt
from tlkeras.recipes.probe import Probe
from tlkeras.sources.csv import CSV
from tlkeras.tasks.classification import Classification
from tlkeras.training import features
from tlkeras.training.adapted import Adapted
from tlkeras.training.features import Cache, Tap
from tlkeras.training.linear import LinearHead, Rows
from tlkeras.training.solve import Solve

DOMAINS = ("books", "dvd", "electronics", "kitchen_housewares")
METHODS = ("source_only", "coral", "mmd", "dann", "mcc")
COLUMNS = ("backbone", "source", "target", "method", "seed")
CLASSES = ("0", "1")
VALIDATION, MEASURED = 300, 1000

Features = tuple[np.ndarray, np.ndarray]
"""Of a domain, float32 [n, channels], and its labels, int64 [n]."""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--minilm", type=Path)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--features", type=Path)
    options = parser.parse_args()
    backbone: Backbone = StarterText()
    if options.minilm:
        backbone = Bert(weights=str(options.minilm), length=128)
    model = TransferModel(backbone, Classification(), CLASSES)
    found = {name: of_domain(model, options.data, name) for name in DOMAINS}
    if options.features:
        arrays: dict[str, Any] = {}
        for name, (inputs, labels) in found.items():
            arrays |= {f"{name}_x": inputs, f"{name}_y": labels}
        np.savez(options.features, **arrays)
    known = measured(options.results)
    runs = [
        (backbone.name, *pair, method, seed)
        for seed in range(options.seeds)
        for pair in itertools.permutations(DOMAINS, 2)
        for method in options.methods
    ]
    for run in runs:
        if run not in known:
            _, source, target, method, seed = run
            began = time.perf_counter()
            accuracy = adapted(model, found[source], found[target], method, seed)
            known[run] = dict(zip(COLUMNS, run, strict=True)) | {
                "accuracy": accuracy,
                "seconds": round(time.perf_counter() - began, 2),
            }
            with options.results.open("a") as file:
                print(json.dumps(known[run]), file=file)
    print(table(known, backbone.name, options.methods, options.seeds))


def measured(results: Path) -> dict[tuple, dict]:
    """Returns the rows so far by backbone, source, target, method and seed."""
    lines = results.read_text().splitlines() if results.exists() else []
    rows = [json.loads(line) for line in lines]
    return {tuple(row[key] for key in COLUMNS): row for row in rows}


def of_domain(model: TransferModel, data: Path, name: str) -> Features:
    """Returns the features and labels of all reviews of a domain, in an order of their texts."""
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(place)
        with (folder / "texts.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["label", "text"])
            for part in ("train", "test"):
                text = (data / f"{name}.task.{part}").read_text(encoding="utf-8", errors="replace")
                rows.writerows(line.split("\t", 1) for line in text.split("\n") if line)
        ingest.write_examples(CSV(folder / "texts.csv"), Split(0, 0), folder / "examples")
        examples = Data(folder / "examples", model.backbone, model.task)
        tap = Tap("train", HEAD)
        cached = features.at(model, examples, [tap], Cache(folder / "features"), "float16")[tap]
        batches = cached.batches(np.arange(examples.count("train")))
        pairs = [(features.entrance(model.body, x, "float16"), y) for x, y in batches]
    inputs, targets = (
        np.concatenate([np.asarray(x) for x in each]) for each in zip(*pairs, strict=True)
    )
    return inputs.astype(np.float32), targets.argmax(axis=-1)


def adapted(
    model: TransferModel, source: Features, target: Features, method: Any, seed: int
) -> float:
    """Returns the accuracy on the part of the target that measures."""
    head, random = LinearHead(model, "benchmark"), np.random.default_rng(seed)

    def rows(domain: Features, places: np.ndarray) -> Rows:
        inputs, labels = domain
        batch = tf.constant(inputs[places]), tf.one_hot(labels[places], len(CLASSES))
        return Rows(lambda: [batch], lambda given: given, head)

    ours, theirs = (random.permutation(len(domain[0])) for domain in (source, target))
    train, checked = rows(source, ours[VALIDATION:]), rows(source, ours[:VALIDATION])
    part, beside = Solve(Probe().strengths), []
    if method != "source_only":
        recipe = Adapt()
        part = Adapted(method, recipe.strengths, recipe.weights, False)
        beside = [rows(target, theirs[MEASURED:])]
    with contextlib.redirect_stdout(io.StringIO()):
        kernel, bias = part.solution(head, train, checked, "accuracy", seed, *beside)
    inputs, labels = (each[theirs[:MEASURED]] for each in target)
    return float(np.mean((inputs @ kernel + bias).argmax(axis=-1) == labels))


def table(known: dict[tuple, dict], backbone: str, methods: list[str], seeds: int) -> str:
    """Returns the mean accuracies over the seeds, in percent, of every pair and of all."""

    def mean(pair: tuple[str, str], method: str, key: str = "accuracy") -> float:
        return float(np.mean([known[backbone, *pair, method, seed][key] for seed in range(seeds)]))

    pairs = [*itertools.permutations(DOMAINS, 2)]
    lines = [["source", "target", *methods], ["---"] * (2 + len(methods))]
    for pair in pairs:
        lines.append([*pair, *(f"{100 * mean(pair, method):.1f}" for method in methods)])
    of_all = {method: [100 * mean(pair, method) for pair in pairs] for method in methods}
    lines.append(["all", "", *(f"{np.mean(each):.1f}" for each in of_all.values())])
    if "source_only" in of_all:
        gains = [np.subtract(each, of_all["source_only"]) for each in of_all.values()]
        lines.append(["gain", "", *(f"{np.mean(gain):+.2f}" for gain in gains)])
        lines.append(["least gain", "", *(f"{np.min(gain):+.1f}" for gain in gains)])
    seconds = [np.mean([mean(pair, method, "seconds") for pair in pairs]) for method in methods]
    lines.append(["seconds", "", *(f"{each:.1f}" for each in seconds)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
