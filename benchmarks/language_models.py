"""A language model before and after it has read reviews: perplexity and bits per byte.

stories260K, 0.26 million weights trained on children's stories, reads sentences of reviews of books
from fdu_mtl: 1,000 held-out ones before and after `fine_tune`.

    python benchmarks/language_models.py --data=TEXT --weights=WEIGHTS --results=FILE

TEXT holds ``fdu_mtl``, WEIGHTS ``stories260K_named.npz`` and ``tok512.bin``. Sentences for
training are of the unlabelled reviews, those for the test of the test reviews. Results, with
continuations of a few beginnings, are printed and appended to ``--results``.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import stories

from tlkeras.backbones.hub_text import Llama
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.sources.csv import CSV
from tlkeras.tasks.language_modeling import LanguageModeling
from tlkeras.texts import sampling
from tlkeras.training.phase import Phase

DOMAIN, LENGTH, BATCH = "books", 192, 16
TRAINING, TEST = 6000, 1000
PROMPTS = ("Once upon a time", "This book is", "The author")

RECIPE = FineTune(
    (
        Phase(
            epochs=3,
            learning_rate=2e-3,
            unfreeze="all",
            optimizer="adamw",
            weight_decay=0.01,
            schedule="cosine",
            warmup=0.1,
            clip=1.0,
        ),
    )
)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as name:
            rows = run(options.data, options.weights, Path(name), seed)
        with options.results.open("a", encoding="utf-8") as file:
            for row in rows:
                case = {"model": "stories260K", "domain": DOMAIN, "seed": seed}
                print(json.dumps(case | row), file=file)
                print(case | row, flush=True)


def run(data: Path, weights: Path, folder: Path, seed: int) -> list[dict[str, Any]]:
    """Returns the measures before and after the training, and the seconds that it took."""
    known = stories.pieces(weights / "tok512.bin")
    stories.write(dict(np.load(weights / "stories260K_named.npz")), known, folder)
    reviews = data / "fdu_mtl"
    (folder / "texts").mkdir()
    write(folder / "texts/train.csv", sentences(reviews / f"{DOMAIN}.task.unlabel")[:TRAINING])
    write(folder / "texts/test.csv", sentences(reviews / f"{DOMAIN}.task.test")[:TEST])
    source = CSV(folder / "texts", text="text", label=None)
    ingest.write_examples(source, Split(validation=5, test=0), folder / "examples")
    backbone = Llama(weights=str(folder), length=LENGTH)
    made = Data(folder / "examples", backbone, LanguageModeling(), BATCH, seed=seed)
    model = TransferModel(backbone, made.task, made.classes, seed=seed)
    before = measured(model, made)
    start = time.perf_counter()
    RECIPE.fit(model, made, folder / "fit")
    return [
        {"when": "before", **before},
        {"when": "after", **measured(model, made), "seconds": time.perf_counter() - start},
    ]


def sentences(file: Path) -> list[str]:
    """Returns the sentences of reviews that have 20 to 250 characters, in order."""
    texts = file.read_bytes().decode("utf-8", "replace").split("\n")
    # Labelled reviews have a label before a tab.
    reviews = (text.split("\t", 1)[-1] for text in texts)
    parts = (part.strip() for text in reviews for part in re.split(r"(?<=[.!?])\s+", text))
    return [part for part in parts if 20 <= len(part) <= 250]


def write(path: Path, texts: Sequence[str]) -> None:
    """Writes a table of texts."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])


def measured(model: TransferModel, data: Data) -> dict[str, Any]:
    """Returns the measures of the test texts and continuations."""
    tally, first = model.task.tally(()), 0
    for inputs, target in data.batches("test"):
        served = {name: np.asarray(value) for name, value in model.predicted(inputs).items()}
        tally.add(target.numpy(), served, first)
        first += len(target)
    scalars = tally.measures().scalars
    found: dict[str, Any] = {name: round(scalar.value, 4) for name, scalar in scalars.items()}
    sampler = sampling.Sampler(model)
    found["continued"] = {
        prompt: [
            sampler.continued(prompt, 40),
            sampler.continued(prompt, 40, nucleus=0.9),
        ]
        for prompt in PROMPTS
    }
    return found


if __name__ == "__main__":
    main()
