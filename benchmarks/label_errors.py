"""Wrong labels among right ones: how many of them the doctor suspects, and how rightly.

A share of the labels of the training split becomes any other class. `precision` and `recall` are of
the suspects that `tlkeras.doctor` names; `at_recall` is the precision at a recall of 0.7 in the
order of the least probable labels. Labels that were wrong before count as right, so that precisions
are lower bounds. `outliers` plants pictures of cats and dogs among the flowers instead.

    python benchmarks/label_errors.py --data=DATA --results=FILE

DATA holds ``images/flower_photos``, ``images/dogcat``, ``text/sst2``, ``text/trec`` and
``weights/imagenet``. Every result is appended to ``--results``; the same command resumes with the
missing runs. At the end it prints a Markdown table of means.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import metrics

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.data import ingest, records
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.doctor import (
    duplicates,
    examined,
    folds,
    gaussians,
    outliers,
    suspects,
    traits,
    vectors,
)
from tlkeras.model.transfer_model import TransferModel
from tlkeras.source import Source
from tlkeras.tasks.classification import Classification
from tlkeras.training.features import Cache

IMAGENET = "mobilenet_v2(size=160, weights='{data}/weights/imagenet/{file}')"
ALPHA_1 = "MobileNetV2_1.0_224_notop.weights.h5"
FLOWERS = "folder(path='{data}/images/flower_photos')"
TREC = "csv(path='{data}/text/trec', columns=('label', 'text'), encoding='latin-1')"
CASES = {
    ("flower_photos", "mobilenet_v2"): (FLOWERS, IMAGENET),
    ("flower_photos", "starter"): (FLOWERS, "starter"),
    ("sst2", "starter_text"): (
        "csv(path='{data}/text/sst2', columns=('label', 'text'))",
        "starter_text",
    ),
    ("trec", "starter_text"): (TREC, "starter_text"),
}
PLANTED = "folder(path='{data}/images/dogcat')"
RECALL = 0.7

Row = dict[str, Any]
Features = tuple[np.ndarray, np.ndarray, list[Any]]


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description="Wrong labels among right ones.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="a folder that keeps examples and features")
    parser.add_argument("--share", type=float, default=0.05, help="of wrong labels")
    parser.add_argument("--planted", type=int, default=37, help="pictures of another set")
    parser.add_argument("--runs", type=int, default=3, help="with seeds 0, 1, …")
    options = parser.parse_args()

    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    with tempfile.TemporaryDirectory() as work:

        def read(source: str, backbone: str) -> Features:
            return features(options.data, options.work or Path(work), source, backbone)

        for (data, network), (source, backbone) in CASES.items():
            for seed in range(options.runs):
                case = {"data": data, "network": network, "seed": seed}
                flipped = {**case, "wrong": options.share}
                if not _has(rows, flipped):
                    _keep(
                        rows,
                        options.results,
                        flipped | labelled(*read(source, backbone), options.share, seed),
                    )
                planted = {**case, "planted": options.planted}
                if data == "flower_photos" and not _has(rows, planted):
                    both = [read(each, backbone) for each in (source, PLANTED)]
                    _keep(rows, options.results, planted | strange(*both, options.planted, seed))
    print(table(rows))


def features(data: Path, work: Path, source: str, backbone: str) -> Features:
    """Returns the features of the training split, their labels, and the groups of copies."""
    given = source.format(data=data)
    examples = work / hashlib.sha256(given.encode()).hexdigest()[:16]
    if not (examples / "info.json").exists():
        ingest.write_examples(
            spec.parse(given, Source), Split(), examples, print, max_bad_fraction=1.0
        )
    network = spec.parse(backbone.format(data=data, file=ALPHA_1), Backbone)
    task = Classification()
    folder = Data(examples, network, task, exact=False)
    model = TransferModel(network, task, records.info(examples).classes)
    found = vectors.of(model, folder, ["train"], Cache(work / "features"))
    rows = examined.read(traits.read(examples))
    numbers: list[int] = rows.of("train").tolist()
    groups: dict[str, Any] = {
        name: place for place, each in enumerate(duplicates.read(examples)) for name in each.ids
    }
    return (
        np.concatenate([*found()]),
        np.array([rows.labels[number][0] for number in numbers]),
        [groups.get(rows.ids[number], rows.ids[number]) for number in numbers],
    )


def labelled(
    rows: np.ndarray, labels: np.ndarray, groups: list[Any], wrong: float, seed: int
) -> Row:
    """Returns what is found of labels that were changed by chance."""
    random = np.random.default_rng(seed)
    classes = int(labels.max()) + 1
    is_wrong = np.zeros(len(labels), bool)
    is_wrong[random.choice(len(labels), round(wrong * len(labels)), replace=False)] = True
    given = labels.copy()
    given[is_wrong] += random.integers(1, classes, is_wrong.sum())
    given %= classes
    began = time.perf_counter()
    held = gaussians.held_out(lambda: iter([rows]), given, folds.dealt(groups, given, seed))
    found = [each.number for each in suspects.found(given, held.probabilities)]
    seconds = time.perf_counter() - began
    own = held.probabilities[np.arange(len(given)), given]
    precisions, recalls, _ = metrics.precision_recall_curve(is_wrong, -own)
    return {
        "examples": len(labels),
        "changed": int(is_wrong.sum()),
        "accuracy": float((held.probabilities.argmax(axis=1) == labels).mean()),
        "suspects": len(found),
        "precision": float(is_wrong[found].mean()),
        "recall": float(is_wrong[found].sum() / is_wrong.sum()),
        "at_recall": float(precisions[recalls >= RECALL].max()),
        "seconds": round(seconds, 2),
    }


def strange(own: Features, other: Features, count: int, seed: int) -> Row:
    """Returns what is found of examples of another set, with labels by chance."""
    random = np.random.default_rng(seed)
    planted = other[0][random.choice(len(other[0]), count, replace=False)]
    rows = np.concatenate([own[0], planted])
    labels = np.concatenate([own[1], random.integers(0, own[1].max() + 1, count)])
    is_strange = np.arange(len(rows)) >= len(own[0])
    groups = [*own[2], *range(count)]
    held = gaussians.held_out(lambda: iter([rows]), labels, folds.dealt(groups, labels, seed))
    found = [each.number for each in outliers.found(held.distances)]
    return {
        "examples": len(rows),
        "outliers": len(found),
        "precision": float(is_strange[found].mean()) if found else 0.0,
        "recall": float(is_strange[found].sum() / count),
        "auroc": float(metrics.roc_auc_score(is_strange, held.distances)),
        "average_precision": float(metrics.average_precision_score(is_strange, held.distances)),
    }


def _has(rows: list[Row], case: Row) -> bool:
    return any(case.items() <= row.items() for row in rows)


def _keep(rows: list[Row], results: Path, row: Row) -> None:
    rows.append(row)
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)


def table(rows: list[Row]) -> str:
    """Returns the means over the seeds, as Markdown."""
    lines = []
    for kind, columns in (
        ("wrong", ("accuracy", "suspects", "precision", "recall", "at_recall", "seconds")),
        ("planted", ("outliers", "precision", "recall", "auroc", "average_precision")),
    ):
        of_kind = [row for row in rows if kind in row]
        lines += [f"| data | network | {kind} | " + " | ".join(columns) + " |"]
        lines += ["|" + "---|" * (len(columns) + 3)]
        cases = dict.fromkeys((row["data"], row["network"], row[kind]) for row in of_kind)
        for case in cases:
            alike = [row for row in of_kind if (row["data"], row["network"], row[kind]) == case]
            means = [statistics.fmean(row[name] for row in alike) for name in columns]
            cells = [*map(str, case), *(f"{mean:.3g}" for mean in means)]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
