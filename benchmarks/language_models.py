"""A language model before and after it has read reviews: perplexity and bits per byte.

stories260K, 0.26 million weights trained on children's stories, or SmolLM2-135M-Instruct reads
sentences of reviews of books from fdu_mtl: 1,000 held-out ones before and after `fine_tune`.

    python benchmarks/language_models.py --data=TEXT --weights=WEIGHTS --results=FILE
    python benchmarks/language_models.py --data=TEXT --smollm2=FOLDER --results=FILE

TEXT holds ``fdu_mtl``, WEIGHTS ``stories260K_named.npz`` and ``tok512.bin``, FOLDER what
``gguf_folder.py`` makes of a file of SmolLM2. Sentences for training are of the unlabelled reviews,
those for the test of the test reviews. Results, with continuations of a few beginnings, are printed
and appended to ``--results``.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
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

DOMAIN, LENGTH, TEST = "books", 192, 1000
PROMPTS = ("Once upon a time", "This book is", "The author")


def phase(epochs: int, learning_rate: float, unfreeze: Any) -> Phase:
    """Returns a phase that trains the layers from `unfreeze` on."""
    return Phase(
        epochs=epochs,
        learning_rate=learning_rate,
        unfreeze=unfreeze,
        optimizer="adamw",
        weight_decay=0.01,
        schedule="cosine",
        warmup=0.1,
        clip=1.0,
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, from how many sentences it learns, how many at once, and how."""

    model: str
    training: int
    batch: int
    phase: Phase


STORIES = Case("stories260K", 6000, 16, phase(3, 2e-3, "all"))
SMOLLM2 = Case("SmolLM2-135M-Instruct", 1500, 8, phase(1, 1e-4, 1 / 3))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    models = parser.add_mutually_exclusive_group(required=True)
    models.add_argument("--weights", type=Path, help="of stories260K")
    models.add_argument("--smollm2", type=Path, help="a folder from gguf_folder.py")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    chosen = SMOLLM2 if options.smollm2 else STORIES
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as name:
            folder = options.smollm2 or of_stories(options.weights, Path(name))
            rows = run(chosen, options.data, folder, Path(name), seed)
        with options.results.open("a", encoding="utf-8") as file:
            for row in rows:
                case = {"model": chosen.model, "domain": DOMAIN, "seed": seed}
                print(json.dumps(case | row), file=file)
                print(case | row, flush=True)


def of_stories(weights: Path, folder: Path) -> Path:
    """Returns a folder with what `llama` reads of stories260K."""
    known = stories.pieces(weights / "tok512.bin")
    stories.write(dict(np.load(weights / "stories260K_named.npz")), known, folder)
    return folder


def run(case: Case, data: Path, weights: Path, folder: Path, seed: int) -> list[dict[str, Any]]:
    """Returns the measures before and after the training, and the seconds that it took."""
    reviews = data / "fdu_mtl"
    (folder / "texts").mkdir()
    write(
        folder / "texts/train.csv", sentences(reviews / f"{DOMAIN}.task.unlabel")[: case.training]
    )
    write(folder / "texts/test.csv", sentences(reviews / f"{DOMAIN}.task.test")[:TEST])
    source = CSV(folder / "texts", text="text", label=None)
    ingest.write_examples(source, Split(validation=5, test=0), folder / "examples")
    backbone = Llama(weights=str(weights), length=LENGTH)
    made = Data(folder / "examples", backbone, LanguageModeling(), case.batch, seed=seed)
    model = TransferModel(backbone, made.task, made.classes, seed=seed)
    before = measured(model, made)
    start = time.perf_counter()
    FineTune((case.phase,)).fit(model, made, folder / "fit")
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
