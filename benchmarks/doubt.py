"""What a model does not know, measured: calibration, conformal sets, abstention, other data.

    python benchmarks/doubt.py --data=IMAGES --results=FILE

IMAGES holds folders of pictures; the embedded digits are one more set. The starter is fitted to
each set by the default recipe, by its first phase alone and by ``probe``, with several seeds. Per
fit, on the test split:

* calibration error, log loss and accuracy of the surest 80 %, as fitted and with one temperature,
  fitted on the validation split;
* coverage and mean size of the LAC and APS sets at 0.9. `over` are the mean coverages over 200
  random cuts of validation and test together, where no chance of one cut is left;
* AUROC of scores that tell the test examples of the set from examples of the other sets: the
  largest probability (Hendrycks and Gimpel 2017), the energy of the logits (Liu et al. 2020), the
  distance of Mahalanobis to the nearest class of the training features (Lee et al. 2018, with a
  covariance shrunk by 0.3), and that of `tlkeras.doctor.novelty` to the nearest rows of the
  reference, which is all that a pushed version knows; here that is the validation split.

Every result is appended to ``--results``; the same command resumes with the missing runs. At the
end it prints Markdown tables of means and deviations over the seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.backbones.starter import Starter
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.doctor import novelty, samples
from tlkeras.measures import conformal
from tlkeras.measures.classification import ClassificationTally
from tlkeras.measures.conformal import APS, LAC, SetTally
from tlkeras.measures.ranking import Scores
from tlkeras.model import graph
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.recipes.probe import Probe
from tlkeras.source import Source
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification
from tlkeras.training import temperature
from tlkeras.training.features import Cache

SETS = ("flower_photos", "hymenoptera", "digits")
OTHERS = ("flower_photos", "hymenoptera", "dogcat", "brain_tumor_mri", "digits")
RECIPES: dict[str, Recipe] = {
    "fine_tune": FineTune(),
    "head": FineTune(FineTune().phases[:1]),
    "probe": Probe(),
}
SIZE = 96
MOST = 300
"""Examples of another set."""

Row = dict[str, Any]


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description="What a model does not know.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="a folder that keeps examples and features")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--runs", type=int, default=3, help="with seeds 0, 1, …")
    options = parser.parse_args()
    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    with tempfile.TemporaryDirectory() as work:
        place = options.work or Path(work)
        for name, recipe, seed in itertools.product(
            options.sets, options.recipes, range(options.runs)
        ):
            case = {"data": name, "recipe": recipe, "seed": seed}
            if any(case.items() <= row.items() for row in rows):
                continue
            rows.append(case | measured(options.data, place, name, RECIPES[recipe], seed))
            with options.results.open("a", encoding="utf-8") as results:
                results.write(json.dumps(rows[-1]) + "\n")
            print(rows[-1], flush=True)
    show(rows)


def recorded(images: Path, place: Path, name: str) -> Data:
    """Returns the data of a set."""
    out = place / name / "examples"
    if not out.exists():
        source: Source = Embedded() if name == "digits" else Folder(images / name)
        ingest.write_examples(source, Split(validation=20, test=20), out)
    return Data(out, Starter(size=SIZE), Classification(), exact=False)


def measured(images: Path, place: Path, name: str, recipe: Recipe, seed: int) -> Row:
    """Returns the figures of one fit."""
    data = recorded(images, place, name)
    data = Data(data.folder, data.backbone, data.task, seed=seed, exact=False)
    model = TransferModel(data.backbone, data.task, data.classes, seed)
    with tempfile.TemporaryDirectory() as folder:
        recipe.fit(model, data, Path(folder) / "fit", shared=Cache(place / name / "features"))
    splits = {split: ran(model, data, split) for split in ("train", "validation", "test")}
    logits, _, labels = splits["validation"]
    factor = temperature.best_factor(logits, labels) or 1.0
    found: Row = {"accuracy": float((splits["test"][0].argmax(1) == splits["test"][2]).mean())}
    found["temperature"] = 1 / factor
    for when, by in (("before", 1.0), ("after", factor)):
        scaled = {split: (by * x, features, y) for split, (x, features, y) in splits.items()}
        found |= {f"{key} {when}": value for key, value in _calibrated(data, scaled).items()}
    found |= _sets(data, {split: (factor * x, f, y) for split, (x, f, y) in splits.items()})
    for other in OTHERS:
        if other != name:
            theirs = recorded(images, place, other)
            split = "train" if theirs.count("test") < MOST else "test"
            strange = ran(model, theirs, split, MOST)
            found |= {
                f"{score} {other}": value for score, value in _aurocs(splits, strange).items()
            }
    return found


_KNOWN: dict[tuple[str, Path, str, int | None], Any] = {}  # Heads of one body share its features.


def ran(model: TransferModel, data: Data, split: str, most: int | None = None) -> Any:
    """Returns logits, features and labels of a split, or of its first examples."""
    key = (graph.digest(model.body), data.folder, split, most)
    if key not in _KNOWN:
        parts, count = [], 0
        for inputs, target in data.batches(split):
            parts.append((np.asarray(model.body(inputs, training=False)), np.argmax(target, -1)))
            count += len(target)
            if most and count >= most:
                break
        _KNOWN[key] = [np.concatenate(column)[:most] for column in zip(*parts, strict=True)]
    features, labels = _KNOWN[key]
    return [np.asarray(model.head(features, training=False)), features, labels]


def _probabilities(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def _calibrated(data: Data, splits: Mapping[str, Any]) -> dict[str, float]:
    """Returns calibration error, log loss and what abstention gives on the test split."""
    logits, _, labels = splits["test"]
    tally = ClassificationTally(data.classes, 0.0)
    tally.add(np.eye(len(data.classes))[labels], {"probabilities": _probabilities(logits)}, 0)
    scalars = tally.measures().scalars
    names = ("calibration_error", "log_loss", "accuracy_at_80_coverage", "risk_coverage_area")
    return {name: scalars[name].value for name in names}


def _sets(data: Data, splits: Mapping[str, Any]) -> dict[str, float]:
    """Returns coverage and size of the sets of each score."""
    found = {}
    served = {split: _probabilities(splits[split][0]) for split in ("validation", "test")}
    labels = {split: splits[split][2] for split in served}
    for score in (LAC(), APS()):
        own = {
            split: score.scores(served[split])[np.arange(len(labels[split])), labels[split]]
            for split in served
        }
        rule = conformal.of_scores(score, own["validation"])
        tally = SetTally(rule, data.task, data.classes)
        one_hot = np.eye(len(data.classes))[labels["test"]]
        tally.add(one_hot, {"probabilities": served["test"]}, 0)
        counts = tally._counts
        coverage, size = conformal._measured(counts)
        by_class = counts[1].sum(axis=1) / np.maximum(counts[0].sum(axis=1), 1)
        both, count = np.concatenate([*own.values()]), len(own["validation"])
        random, over = np.random.default_rng(0), []
        for _ in range(200):
            mixed = random.permutation(both)
            threshold = conformal.of_scores(score, mixed[:count]).threshold
            over.append(float((mixed[count:] <= threshold).mean()))
        found |= {
            f"{score.member} coverage": coverage.value,
            f"{score.member} least class": float(by_class.min()),
            f"{score.member} size": size.value,
            f"{score.member} over": statistics.mean(over),
        }
    return found


def _aurocs(splits: Mapping[str, Any], strange: Sequence[np.ndarray]) -> dict[str, float]:
    """Returns how well each score, larger for strange examples, tells these from the test split."""
    judged = splits["test"]
    known = novelty.Novelty(samples.projected(splits["validation"][1]))
    nearest = _mahalanobis(*splits["train"][1:])
    scores: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {
        "probability": lambda rows: 1 - _probabilities(rows[0]).max(axis=1),
        "energy": lambda rows: -np.logaddexp.reduce(rows[0].astype(np.float64), axis=1),
        "mahalanobis": lambda rows: nearest(rows[1]),
        "novelty": lambda rows: known.distances(samples.projected(rows[1])),
    }
    return {name: _auroc(score(judged), score(strange)) for name, score in scores.items()}


def _auroc(usual: np.ndarray, strange: np.ndarray) -> float:
    both = np.concatenate([usual, strange])
    scores = Scores(1)
    scores.add((both - both.min())[:, None], (np.arange(len(both)) >= len(usual))[:, None])
    (ranking,) = scores.rankings
    assert ranking.roc_auc
    return ranking.roc_auc.value


def _mahalanobis(features: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the distance to the nearest class mean, by the covariance that all classes share."""
    means = np.stack([features[labels == each].mean(axis=0) for each in np.unique(labels)])
    centred = features - means[np.searchsorted(np.unique(labels), labels)]
    covariance = centred.T @ centred / len(centred)
    mean_variance = np.trace(covariance) / len(covariance)
    covariance = 0.7 * covariance + 0.3 * mean_variance * np.eye(len(covariance))
    root = np.linalg.inv(np.linalg.cholesky(covariance)).T
    white = means @ root

    def distances(rows: np.ndarray) -> np.ndarray:
        places = rows @ root
        return np.min([np.linalg.norm(places - mean, axis=1) for mean in white], axis=0)

    return distances


def show(rows: list[Row]) -> None:
    """Prints the tables: means over the seeds, with the deviation of one run."""
    cases = [*dict.fromkeys((row["data"], row["recipe"]) for row in rows)]
    for columns in _tables(rows):
        print(f"\n| data | recipe | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 2)}")
        for name, recipe in cases:
            alike = [row for row in rows if (row["data"], row["recipe"]) == (name, recipe)]
            cells = [spread([row[each] for row in alike if each in row]) for each in columns]
            print(f"| {name} | {recipe} | {' | '.join(cells)} |")


def _tables(rows: list[Row]) -> Iterator[list[str]]:
    figures = ("calibration_error", "log_loss", "accuracy_at_80_coverage", "risk_coverage_area")
    pairs = [f"{name} {when}" for name in figures for when in ("before", "after")]
    yield ["accuracy", "temperature", *pairs]
    yield [f"{m} {each}" for m in ("lac", "aps") for each in ("coverage", "over", "least class")]
    yield ["lac size", "aps size"]
    for score in ("probability", "energy", "mahalanobis", "novelty"):
        yield [f"{score} {other}" for other in OTHERS]


def spread(values: list[float]) -> str:
    """Returns mean and standard deviation."""
    if not values:
        return ""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


if __name__ == "__main__":
    main()
