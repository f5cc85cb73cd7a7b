"""Whether explanations show what a prediction rests on: four checks, each against chance.

* ``pointing``: the share of drawn shapes whose greatest heat is in the box of the main object.
  Chance is the share of the picture that the boxes cover. ``planted``: the same of a square in the
  colour of the class, at a place drawn by lot into training and test pictures of which nothing else
  tells the class. ``boxes`` and ``masks``: the same of the surest box and of the largest mask of a
  network that was trained to find them; right is a box, or the mask, of an object of the class.
  ``told`` is the share of pictures in which the network finds anything.
* ``deletion`` and ``insertion``: the mean probability of the predicted class while the places (or
  the words) of the largest weights are taken away first, or come first, over all shares (Petsiuk
  et al. 2018, https://arxiv.org/abs/1806.07421); chance is a random order. Deletion should be
  lower, insertion higher. Places that are taken away become the picture's mean colour.
* ``correlation``: Spearman's rank correlation of the heat, or the weights, of one class before and
  after weights are shuffled: of the head, and of the last block too (Adebayo et al. 2018,
  https://arxiv.org/abs/1810.03292). What does not change says nothing of the model.

    python benchmarks/explain.py --results=FILE

Data, backbones and weights are tlkeras's own. A seed draws the pictures or texts and decides the
training; the size of the square and the recipe were found with seed 0, which is not measured. Every
result is appended to ``--results``; the same command resumes with the missing runs. At the end it
prints a Markdown table of means and deviations.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlkeras.backbone import Backbone
from tlkeras.backbones.starter import Starter
from tlkeras.backbones.starter_text import StarterText
from tlkeras.data import ingest, reading, records
from tlkeras.data.batches import Data
from tlkeras.data.records import Records
from tlkeras.data.splits import Split
from tlkeras.explaining import explanation
from tlkeras.explaining.explanation import Explanation
from tlkeras.frameworks import keras, tf
from tlkeras.images.drawing import COLOURS
from tlkeras.kinds.image import Image as ImageKind
from tlkeras.kinds.label import Label
from tlkeras.model import vector
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.recipes.probe import Probe
from tlkeras.source import Source
from tlkeras.sources.embedded import Embedded
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.detection import Detection
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.training.features import Cache
from tlkeras.training.phase import Phase
from tlkeras.training.solve import Solve

SHARES = np.linspace(0, 1, 9)
SIDE = 128

_PROBE = Probe()

# Frozen features tell little of the colour of a square; a network that learns finds it.
_TUNED = FineTune(
    phases=(
        Solve(),
        Phase(epochs=12, learning_rate=5e-4, unfreeze=0.5, schedule="cosine", warmup=0.1),
    )
)
_TASK = Classification()

FOLLOWED = "pointing, answered by the square"
"""Of the pictures whose answer is the class of the square: other answers do not rest on it."""

# So many blocks before the head are shuffled with it.
_SHUFFLED = {"correlation, head shuffled": 0, "correlation, last block as well": 1}

# The few pictures take more epochs than the default until a box is sure enough to be told of.
_FOUND = FineTune(
    phases=(
        Phase(epochs=20, learning_rate=1e-3),
        Phase(epochs=10, learning_rate=5e-4, unfreeze=0.5, schedule="cosine", warmup=0.1),
    )
)

SQUARE = SIDE // 4
"""Pixels of a planted square's side."""


class Planted(Source, name="planted"):
    """Drawn shapes with a square in the colour of their class."""

    count: int
    seed: int

    def features(self):
        return {"image": ImageKind(), "label": Label()}

    def classes(self):
        return "blue", "green", "red", "yellow"

    def examples(self):
        for identity, values in Embedded("shapes", self.count, SIDE, self.seed).examples():
            with Image.open(io.BytesIO(values["image"])) as opened:
                pixels = np.array(opened)
            label, top, left = planted(identity, self.seed)
            colour = COLOURS[self.classes()[label]]
            pixels[top : top + SQUARE, left : left + SQUARE] = colour
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            yield identity, {"image": file.getvalue(), "label": label}

    def fingerprint(self):
        return ""


def planted(identity: str, seed: int) -> tuple[int, int, int]:
    """Returns the class of an example, and the top left corner of its square; drawn by lot.

    The shapes say nothing of the class.
    """
    random = np.random.default_rng((seed, int(identity.rpartition("-")[2])))
    label, (top, left) = random.integers(4), random.integers(0, SIDE - SQUARE, 2)
    return int(label), int(top), int(left)


Row = dict[str, Any]


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description="Whether explanations show what counts.")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--runs", type=int, default=3, help="with seeds 1, 2, …")
    parser.add_argument("--count", type=int, default=600, help="examples of each set")
    parser.add_argument("--shown", type=int, default=60, help="test examples that are explained")
    options = parser.parse_args()
    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    seeds: Sequence[int] = range(1, options.runs + 1)
    cases: Sequence[str] = options.cases
    for seed, name in itertools.product(seeds, cases):
        case = {"data": name, "count": options.count, "shown": options.shown, "seed": seed}
        if not any(case.items() <= row.items() for row in rows):
            keras.utils.set_random_seed(seed)
            with tempfile.TemporaryDirectory() as work:
                rows.append(case | CASES[name](options, seed, Path(work)))
            with options.results.open("a", encoding="utf-8") as results:
                results.write(json.dumps(rows[-1]) + "\n")
            print(rows[-1], flush=True)
    show(rows)


def shapes(options: Any, seed: int, work: Path) -> Row:
    """Returns all checks of a network that tells the main shape of a picture."""
    case = Case(Starter(), Embedded("shapes", options.count, SIDE, seed), options, seed, work)
    boxes = np.stack([row["boxes"].numpy()[0] for row in case.rows("boxes")])
    return case.pointing([masked([box]) for box in boxes]) | case.checked(places_kept)


def shortcut(options: Any, seed: int, work: Path) -> Row:
    """Returns all checks of a network that can know the class by a planted square alone."""
    case = Case(Starter(), Planted(options.count, seed), options, seed, work, recipe=_TUNED)
    corners = np.array([planted(identity, seed)[1:] for identity in case.identities]) / SIDE
    boxes = np.concatenate([corners, corners + SQUARE / SIDE], axis=1)
    right = [masked([box]) for box in boxes]
    own = [case.model.classes[planted(identity, seed)[0]] for identity in case.identities]
    hits = [mask[peak(one)] for one, mask in zip(case.told, right, strict=True)]
    followed = [one.of == name for one, name in zip(case.told, own, strict=True)]
    rests = {FOLLOWED: float(np.mean(np.array(hits)[followed]))}
    return case.pointing(right) | rests | case.checked(places_kept)


def words(options: Any, seed: int, work: Path) -> Row:
    """Returns all checks of a network that tells the class of a text."""
    case = Case(StarterText(), Embedded("notes", options.count, seed=seed), options, seed, work)
    return case.checked(words_kept)


def found_boxes(options: Any, seed: int, work: Path) -> Row:
    """Returns where the heat of the surest box is, by the true boxes of the same class."""
    source = Embedded("shapes", options.count, SIDE, seed)
    case = Case(Starter(), source, options, seed, work, Detection(), _FOUND)
    right = []
    for row, told in zip(case.rows("boxes", "labels"), case.every, strict=True):
        of = [case.model.classes.index(one.of) for one in told]
        right += [masked(row["boxes"].numpy()[row["labels"].numpy() == label]) for label in of]
    return case.pointing(right)


def found_masks(options: Any, seed: int, work: Path) -> Row:
    """Returns where the heat of the largest mask is, by the true mask of the same class."""
    source = Embedded("shapes", options.count, SIDE, seed)
    case = Case(Starter(), source, options, seed, work, Segmentation(), _FOUND)
    right = []
    for row, told in zip(case.rows("mask"), case.every, strict=True):
        mask = row["mask"].numpy().reshape(SIDE, SIDE)
        right += [mask == 1 + case.model.classes.index(one.of) for one in told]
    return case.pointing(right)


CASES: Mapping[str, Callable[[Any, int, Path], Row]] = {
    "shapes": shapes,
    "planted": shortcut,
    "notes": words,
    "boxes": found_boxes,
    "masks": found_masks,
}


def show(rows: list[Row]) -> None:
    """Prints the mean of each check with the deviation of one run."""
    print("\n| data | check | heat | by chance | runs |\n|---|---|---|---|---|")
    for name in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == name]
        for check in (
            "accuracy",
            "told",
            "pointing",
            FOLLOWED,
            "deletion",
            "insertion",
            *_SHUFFLED,
        ):
            if any(check in row for row in own):
                cells = [spread(own, check), spread(own, f"{check} by chance")]
                print(f"| {name} | {check} | {' | '.join(cells)} | {len(own)} |")


def spread(rows: list[Row], key: str) -> str:
    """Returns mean and deviation of a figure, if there is one."""
    values = [row[key] for row in rows if key in row]
    if not values:
        return ""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


class Case:
    """A model that was fitted to data, with its explanations of test examples."""

    def __init__(
        self,
        backbone: Backbone,
        source: Source,
        options: Any,
        seed: int,
        work: Path,
        task: Task = _TASK,
        recipe: Recipe = _PROBE,
    ) -> None:
        """Makes the examples and fits the model."""
        ingest.write_examples(source, Split(validation=10, test=20), work / "examples")
        data = Data(work / "examples", backbone, task, seed=seed)
        self.folder, self.model = data.folder, TransferModel(backbone, task, data.classes, seed)
        with contextlib.redirect_stdout(io.StringIO()):
            recipe.fit(self.model, data, work / "fit", shared=Cache(work / "features"))
        count = min(options.shown, data.count("test"))
        kinds = backbone.raw()
        read = [records.values(x, kinds) for x in Records(data.folder, "test").between(0, count)]
        self.identities = [identity for identity, _ in read]
        self.values = [values for _, values in read]
        self.run = tf.function(vector.predicted(self.model), autograph=False)
        self.every = explanation.explainer(self.model)(self.values)
        """None or one of each example."""
        self.told = [one for told in self.every for one in told]

    def rows(self, *keys: str) -> list[Any]:
        """Returns other features of the examples."""
        return [*reading.dataset(self.folder, "test", np.arange(len(self.values)), keys)]

    def pointing(self, right: Sequence[np.ndarray]) -> Row:
        """Returns how often the heat is greatest at a right place, of masks [SIDE, SIDE]."""
        if not self.told:
            return {"told": 0.0}
        hits = [mask[peak(one)] for one, mask in zip(self.told, right, strict=True)]
        return {
            "told": len(self.told) / len(self.values),
            "pointing": float(np.mean(hits)),
            "pointing by chance": float(np.mean(right)),
        }

    def checked(self, kept: Callable[[Any, np.ndarray], Any]) -> Row:
        """Returns accuracy, deletion, insertion, and the correlation with shuffled weights."""
        labels = [int(row["label"].numpy()) for row in self.rows("label")]
        right = [self.model.classes[label] for label in labels]
        found: Row = {
            "accuracy": float(np.mean([a == b.of for a, b in zip(right, self.told, strict=True)]))
        }
        random = np.random.default_rng(0)
        own = [weights(one) for one in self.told]
        other = [random.random(len(each)) for each in own]
        for check, is_kept in (("deletion", False), ("insertion", True)):
            found[check] = self.curve(own, kept, is_kept)
            found[f"{check} by chance"] = self.curve(other, kept, is_kept)
        return found | {check: self.correlation(blocks) for check, blocks in _SHUFFLED.items()}

    def curve(
        self, every: Sequence[np.ndarray], kept: Callable[[Any, np.ndarray], Any], is_kept: bool
    ) -> float:
        """Returns the mean probability of the class while places are taken away or added."""
        found = []
        for values, each, one in zip(self.values, every, self.told, strict=True):
            order = np.argsort(-each, kind="stable")
            changed = []
            for share in SHARES:
                chosen = np.zeros(len(each), bool)
                chosen[order[: round(share * len(each))]] = True
                changed.append(kept(values, chosen == is_kept))
            label = self.model.classes.index(one.of)
            answers = self.run(self.model.backbone.preprocess(stacked(changed)))
            found.append(np.asarray(answers["probabilities"])[:, label].mean())
        return float(np.mean(found))

    def correlation(self, blocks: int) -> float:
        """Returns the mean rank correlation with the explanations after weights are shuffled."""
        random = np.random.default_rng(1)
        model, before = self.model, self.model.full.get_weights()
        names = [*model.blocks][len(model.blocks) - blocks :]
        for layer in [model.head, *(layer for name in names for layer in model.blocks[name])]:
            for variable in layer.trainable_variables + layer.non_trainable_variables:
                if variable.dtype.startswith("float") and len(variable.shape) > 1:
                    variable.assign(
                        random.permuted(variable.numpy().ravel()).reshape(variable.shape)
                    )
        # The same classes as before, whichever is likeliest now.
        again = explanation.explainer(model, len(model.classes))(self.values)
        model.full.set_weights(before)
        found = []
        for one, others in zip(self.told, again, strict=True):
            (same,) = (other for other in others if other.of == one.of)
            found.append(rank_correlation(weights(one), weights(same)))
        return float(np.mean(found))


def weights(one: Explanation) -> np.ndarray:
    """Returns the weights of places or words, flat."""
    if one.heat is not None:
        return one.heat.ravel()
    return np.array([weight for _, weight in one.words])


def peak(one: Explanation) -> tuple[int, int]:
    """Returns where the heat is greatest, row and column of a picture."""
    assert one.heat is not None
    finer = tf.image.resize(one.heat[..., None], [SIDE, SIDE], "bicubic")[..., 0].numpy()
    down, across = np.unravel_index(finer.argmax(), finer.shape)
    return int(down), int(across)


def masked(boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Returns where boxes (top, left, bottom, right) in [0, 1] are, bool [SIDE, SIDE]."""
    middles = (np.arange(SIDE) + 0.5) / SIDE
    mask = np.zeros([SIDE, SIDE], bool)
    for top, left, bottom, right in boxes:
        rows, columns = (
            (top <= middles) & (middles <= bottom),
            (left <= middles) & (middles <= right),
        )
        mask |= np.outer(rows, columns)
    return mask


def stacked(several: Sequence[Any]) -> dict[str, Any]:
    """Returns a batch of decoded examples."""
    return {key: tf.stack([each[key] for each in several]) for key in several[0]}


def places_kept(values: Any, kept: np.ndarray) -> dict[str, Any]:
    """Returns the decoded picture with its mean colour at the places that are not kept."""
    picture = tf.cast(ImageKind().given(values["image"]), tf.float32).numpy()
    side = round(len(kept) ** 0.5)
    rows, columns = (np.arange(each) * side // each for each in picture.shape[:2])
    share = kept.reshape(side, side)[np.ix_(rows, columns)][..., None]
    return {"image": picture * share + picture.mean((0, 1)) * (1 - share)}


def words_kept(values: Any, kept: np.ndarray) -> dict[str, Any]:
    """Returns the text of the words that are kept."""
    words = values["text"].split()
    return {"text": tf.constant(" ".join(np.array(words)[kept]))}


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Returns Spearman's correlation; 0 where one is the same everywhere."""
    if not (np.ptp(one) and np.ptp(other)):
        return 0.0
    ranks = np.array([np.argsort(np.argsort(each)) for each in (one, other)], float)
    return float(np.corrcoef(ranks)[0, 1])


if __name__ == "__main__":
    main()
