"""Whether explanations show what a prediction rests on: four checks, each against chance.

* ``pointing``: the share of drawn shapes whose greatest heat is in the box of the main object. The
  share of the picture that the boxes cover is what chance would reach.
  ``shortcut``: the same of a square in the colour of the class, planted at a place drawn by lot
  into training and test pictures of which nothing else tells the class.
* ``deletion`` and ``insertion``: the mean probability of the predicted class while the places (or
  the words) of the largest weights are taken away first, or come first, over all shares (Petsiuk
  et al. 2018, https://arxiv.org/abs/1806.07421); ``random`` is a random order. Deletion should be
  lower, insertion higher. Places that are taken away become the picture's mean colour.
* ``correlation``: Spearman's rank correlation of the heat, or the weights, of one class before and
  after weights are shuffled: of the head, and of the last block too (Adebayo et al. 2018,
  https://arxiv.org/abs/1810.03292). What does not change says nothing of the model.

    python benchmarks/explain.py --work=FOLDER

Data, backbones and weights are tlkeras's own. `--work` keeps examples and fitted models.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
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
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.recipes.probe import Probe
from tlkeras.source import Source
from tlkeras.sources.embedded import Embedded
from tlkeras.tasks.classification import Classification
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
SQUARE = SIDE // 4
"""Pixels of a planted square's side."""


class Planted(Source, name="planted"):
    """Drawn shapes with a square in the colour of their class."""

    count: int = 600

    def features(self):
        return {"image": ImageKind(), "label": Label()}

    def classes(self):
        return "blue", "green", "red", "yellow"

    def examples(self):
        for identity, values in Embedded("shapes", self.count, SIDE).examples():
            with Image.open(io.BytesIO(values["image"])) as opened:
                pixels = np.array(opened)
            label, top, left = planted(identity)
            colour = COLOURS[self.classes()[label]]
            pixels[top : top + SQUARE, left : left + SQUARE] = colour
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            yield identity, {"image": file.getvalue(), "label": label}

    def fingerprint(self):
        return ""


def planted(identity: str) -> tuple[int, int, int]:
    """Returns the class of an example, and the top left corner of its square; drawn by lot.

    The shapes say nothing of the class.
    """
    random = np.random.default_rng(int(identity.rpartition("-")[2]))
    label, (top, left) = random.integers(4), random.integers(0, SIDE - SQUARE, 2)
    return int(label), int(top), int(left)


def main() -> None:
    """Runs all checks and prints a table."""
    parser = argparse.ArgumentParser(description="Whether explanations show what counts.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=600, help="Examples of each set.")
    parser.add_argument("--shown", type=int, default=60, help="Test examples that are explained.")
    options = parser.parse_args()
    print("| data | check | ours | by chance |\n|---|---|---|---|")
    shapes = Case(Starter(), Embedded("shapes", options.count, SIDE), options)
    boxes = np.stack([row["boxes"].numpy()[0] for row in shapes.rows("boxes")])
    hits = float(
        np.mean([inside(*peak(one), box) for one, box in zip(shapes.told, boxes, strict=True)])
    )
    row("shapes", "pointing", hits, float(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).mean()))
    shapes.show("shapes", places_kept)
    shortcut = Case(Starter(), Planted(options.count), options, _TUNED)
    corners = np.array([planted(identity)[1:] for identity in shortcut.identities]) / SIDE
    squares = np.concatenate([corners, corners + SQUARE / SIDE], axis=1)
    hits = float(
        np.mean([inside(*peak(x), box) for x, box in zip(shortcut.told, squares, strict=True)])
    )
    row("shortcut", "pointing", hits, (SQUARE / SIDE) ** 2)
    shortcut.show("shortcut", places_kept)
    Case(StarterText(), Embedded("notes", options.count), options).show("notes", words_kept)


def row(*cells: Any) -> None:
    """Prints a row of the table."""
    shown = (f"{cell:.3f}" if isinstance(cell, float) else cell for cell in cells)
    print(f"| {' | '.join(shown)} |", flush=True)


class Case:
    """A model that was fitted to data, with its explanations of test examples."""

    def __init__(
        self, backbone: Backbone, source: Source, options: Any, recipe: Recipe = _PROBE
    ) -> None:
        """Makes what is not yet in the folder of the work."""
        place = options.work / source.title()
        if not (place / "examples").exists():
            ingest.write_examples(source, Split(validation=10, test=20), place / "examples")
        data = Data(place / "examples", backbone, Classification())
        if not (place / "model").exists():
            model = TransferModel(backbone, data.task, data.classes)
            recipe.fit(model, data, place / "fit")
            model.save(place / "model")
        self.folder, self.model = data.folder, TransferModel.load(place / "model")
        count = min(options.shown, data.count("test"))
        kinds = backbone.raw()
        read = [records.values(x, kinds) for x in Records(data.folder, "test").between(0, count)]
        self.identities = [identity for identity, _ in read]
        self.values = [values for _, values in read]
        self.told = [one for (one,) in explanation.explainer(self.model)(self.values)]

    def rows(self, *keys: str) -> list[Any]:
        """Returns other features of the examples."""
        every = reading.dataset(self.folder, "test", np.arange(len(self.told)), keys)
        return [*every]

    def show(self, name: str, kept: Callable[[Any, np.ndarray], Any]) -> None:
        """Prints deletion, insertion and what random weights leave."""
        random = np.random.default_rng(0)
        own = [weights(one) for one in self.told]
        other = [random.random(len(each)) for each in own]
        for check, is_kept in (("deletion", False), ("insertion", True)):
            found, chance = (self.curve(each, kept, is_kept) for each in (own, other))
            row(name, check, found, chance)
        for check, redrawn in (("head", 0), ("head and last block", 1)):
            row(name, f"correlation, {check} shuffled", self.correlation(redrawn), "1.000")

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
            answers = self.model.predicted(self.model.backbone.preprocess(stacked(changed)))
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


def peak(one: Explanation) -> tuple[float, float]:
    """Returns where the heat is greatest, row and column in [0, 1]."""
    assert one.heat is not None
    finer = tf.image.resize(one.heat[..., None], [SIDE, SIDE], "bicubic")[..., 0].numpy()
    down, across = np.unravel_index(finer.argmax(), finer.shape)
    return (float(down) + 0.5) / SIDE, (float(across) + 0.5) / SIDE


def inside(down: float, across: float, box: np.ndarray) -> bool:
    """Returns whether a point is in a box (top, left, bottom, right)."""
    return bool(box[0] <= down <= box[2] and box[1] <= across <= box[3])


def stacked(several: Sequence[Any]) -> dict[str, Any]:
    """Returns a batch of decoded examples."""
    return {key: tf.stack([each[key] for each in several]) for key in several[0]}


def places_kept(values: Any, kept: np.ndarray) -> dict[str, Any]:
    """Returns the decoded picture with its mean colour at the places that are not kept."""
    picture = tf.cast(ImageKind().given(values["image"]), tf.float32).numpy()
    side = round(len(kept) ** 0.5)
    mask = kept.reshape(side, side)[..., None].astype(np.float32)
    share = tf.image.resize(mask, picture.shape[:2], "nearest").numpy()
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
    keras.utils.set_random_seed(0)
    main()
