"""FewShot: how well few labels of a class do on frozen features, ``tlkeras few_shot``.

It is not a step of the pipeline.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np

from pipeline import flags, store
from pipeline.config import Config
from pipeline.step import Place, Runtime, Step
from pipeline.steps import example_gen, trainer
from tlkeras import spec, terminal
from tlkeras.backbone import Backbone
from tlkeras.data import splits
from tlkeras.data.batches import Data
from tlkeras.frameworks import tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.prototypes import weights_of_means
from tlkeras.source import require_label
from tlkeras.spec import Spec
from tlkeras.tasks.classification import Classification
from tlkeras.training import features as cached
from tlkeras.training import summaries
from tlkeras.training.features import Cache
from tlkeras.training.linear import LinearHead, Rows
from tlkeras.training.solve import ROUGH, Problem

FILE = "episodes.jsonl"

# One for all episodes: a class of few examples has none to spare for a choice.
STRENGTH = 0.1


class Episodes(Spec, name="episodes"):
    """The settings of the episodes."""

    ways: Annotated[int, "Classes in an episode."] = 5
    shots: Annotated[str, "Labels of each class, a number or several joined by commas."] = "1,5"
    queries: Annotated[int, "Examples of each class to measure on in an episode."] = 15
    episodes: Annotated[int, "Episodes for each number of shots."] = 600

    def validate(self):
        self.require(self.ways >= 2, "ways", "at least 2 classes")
        self.require(
            all(each.strip().isdecimal() and int(each) > 0 for each in self.shots.split(",")),
            "shots",
            "numbers of at least 1, joined by commas",
        )
        self.require(len({*self.counts}) == len(self.counts), "shots", "each number once")
        self.require(self.queries >= 1, "queries", "at least 1")
        self.require(self.episodes >= 2, "episodes", "at least 2, for an interval")

    @property
    def counts(self) -> list[int]:
        """The numbers of shots."""
        return [int(each) for each in self.shots.split(",")]


@Step
def few_shot(
    out: Path,
    *,
    examples: Path,
    backbone: Backbone,
    ways: int,
    shots: str,
    queries: int,
    episodes: int,
    seed: int,
    feature_cache_gb: Runtime[float],
    features: Place,
) -> None:
    """Measures classifiers of few labels: episodes of random classes on frozen features.

    An episode draws --ways classes of the source, of each --shots examples to learn from and
    --queries others to measure on, from all labelled splits together. Each way to a linear head
    gets the same episodes: `prototypes` with both distances, and `probe` with one strength. The
    figures say how well the features do on classes that the backbone has not seen only if its
    pretraining did not see them: that is for you to know. tlkeras's own starter has seen
    caltech101, pictures of ImageNet's classes, and those of ``embedded(data='shapes')``.
    """
    data = Data(examples, backbone, Classification(), seed=seed, exact=False)
    settings = Episodes(ways, shots, queries, episodes)
    labels = _labels(data)
    require_enough(settings, data.classes, labels)
    cache = trainer.cache(features, feature_cache_gb, data)
    model = TransferModel(backbone, data.task, [f"class {way}" for way in range(ways)], seed)
    summaries = _summaries(model, data, cache)
    learners = Learners(model)
    with (out / FILE).open("w", encoding="utf-8") as file:
        for count in settings.counts:
            numbers = range(episodes)
            for number in terminal.shown(numbers, episodes, f"episodes of {count} shots"):
                found = learners.episode(
                    summaries, *drawn(labels, ways, count, queries, (seed, count, number)), ways
                )
                file.write(json.dumps({"shots": count, "episode": number, **found}) + "\n")


PIPELINE = (example_gen.examples, few_shot)


def require_enough(settings: Episodes, classes: Sequence[str], labels: np.ndarray) -> None:
    """Raises ValueError unless every class has enough examples for an episode."""
    settings.require(settings.ways <= len(classes), "ways", f"at most the {len(classes)} classes")
    counts = np.bincount(labels, minlength=len(classes))
    needed = max(settings.counts) + settings.queries
    if counts.min() < needed:
        smallest = classes[int(counts.argmin())]
        raise ValueError(
            f"Class {smallest!r} has {counts.min()} examples, expected at least "
            f"{needed}: {max(settings.counts)} shots and {settings.queries} queries. Use fewer."
        )


def drawn(
    labels: np.ndarray, ways: int, shots: int, queries: int, seed: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows to learn from and those to measure on, each class after class."""
    random = np.random.default_rng(seed)
    chosen = random.choice(len(np.unique(labels)), ways, replace=False)
    rows = [
        random.choice(np.flatnonzero(labels == label), shots + queries, replace=False)
        for label in chosen
    ]
    return np.concatenate([each[:shots] for each in rows]), np.concatenate(
        [each[shots:] for each in rows]
    )


class Learners:
    """Ways from a few labels to a linear head; the traced functions serve all episodes."""

    def __init__(self, model: TransferModel) -> None:
        """Takes a model with as many classes as an episode has."""
        self._head = LinearHead(model, "few_shot")

    def episode(
        self, summaries: np.ndarray, learnt: np.ndarray, asked: np.ndarray, ways: int
    ) -> dict[str, float]:
        """Returns the accuracy of every way on the rows asked."""
        labels = np.repeat(np.arange(ways), len(learnt) // ways)
        features = summaries[learnt]
        batch = (tf.constant(features), tf.one_hot(labels, ways))
        rows = Rows(lambda: [batch], lambda inputs: inputs, self._head)
        solved = Problem(self._head, rows).minimum(STRENGTH, rows.ones(), self._head.zeros(), ROUGH)
        whole = [(features.astype(float), labels)]
        weights = {
            f"prototypes_{distance}": weights_of_means(whole, ways, distance)
            for distance in ("euclidean", "cosine")
        }
        truth = np.repeat(np.arange(ways), len(asked) // ways)
        return {
            name: float(np.mean((summaries[asked] @ kernel + bias).argmax(-1) == truth))
            for name, (kernel, bias) in {**weights, "probe": solved}.items()
        }


def interval(values: np.ndarray) -> tuple[float, float]:
    """Returns the mean, and half of the width of its 95 % interval."""
    return float(values.mean()), 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5


def _labelled(data: Data) -> list[str]:
    """Returns the splits of labelled examples."""
    return [split for split in splits.labelled(data.info.class_counts) if data.count(split)]


def _labels(data: Data) -> np.ndarray:
    """Returns the label of every example, split after split."""
    return np.array(
        [int(np.argmax(t)) for split in _labelled(data) for t in data.targets_of(split)]
    )


def _summaries(model: TransferModel, data: Data, cache: Cache) -> np.ndarray:
    """Returns the features of every example, float32 [n, channels], in the same order."""
    found, dtype = summaries.of(model, data, _labelled(data), cache)
    parts: list[Any] = []
    for split in _labelled(data):
        order = np.arange(data.count(split))
        batches = found[split].batches(order) if split in found else data.batches(split)
        parts += [cached.entrance(model.body, inputs, dtype) for inputs, _ in batches]
    return np.concatenate([np.asarray(part, np.float32) for part in parts])


def main(config: Config, settings: Episodes) -> int:
    """Prints a table of the accuracies and names the file of all episodes.

    Raises:
        ValueError: Before anything runs: the examples have no label.
    """
    require_label(config.source, few_shot.name)
    place = store.Store(config.root)
    products = store.run(PIPELINE[:1], config, place)
    given = {name: getattr(config, name) for name in few_shot.read if hasattr(config, name)}
    given |= {name: getattr(settings, name) for name in spec.fields(Episodes)}
    made = place.make(few_shot, given, products, lambda text: print(f"{few_shot.name}   {text}"))
    rows = [json.loads(line) for line in (made / FILE).read_text(encoding="utf-8").splitlines()]
    print("\n" + table(rows, settings))
    print(f"\nEvery episode: {made / FILE}")
    return 0


def table(rows: Sequence[dict[str, Any]], settings: Episodes) -> str:
    """Returns the mean accuracies with their 95 % intervals, and the gain of the probe."""
    lines = []
    for count in dict.fromkeys(row["shots"] for row in rows):
        alike = [row for row in rows if row["shots"] == count]
        names = [name for name in alike[0] if name not in ("shots", "episode")]
        values = {name: np.array([row[name] for row in alike]) for name in names}
        for name in names:
            mean, half = interval(values[name])
            gain, error = interval(values[name] - values["prototypes_euclidean"])
            lines.append(
                (
                    f"{settings.ways}",
                    f"{count}",
                    f"{len(alike)}",
                    name.replace("_", " "),
                    f"{100 * mean:.2f} ± {100 * half:.2f}",
                    f"{100 * gain:+.2f} ± {100 * error:.2f}",
                )
            )
    columns = ("ways", "shots", "episodes", "head", "accuracy, %", "to euclidean")
    return terminal.table(lines, columns)


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras few_shot``."""
    flags.run(argv, main, Config, Episodes, steps=PIPELINE)
