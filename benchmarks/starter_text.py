"""The value of the text starter's weights: scores by labels per class, against three baselines.

Ways to a classifier of texts, the first three with logistic regression on rows of length 1:

* ``starter_text``: on the mean of the starter's tokens;
* ``minilm``: on the mean of its teacher's tokens, a network of twelve times as many weights;
* ``tfidf``: on words and pairs of words, weighted by TF-IDF;
* ``starter_tuned``, ``minilm_tuned``: the head, then all three layers of the one, and the last two
  of the other, by `fine_tune`; the embeddings stay;
* ``random_tuned``: the same from random weights in the starter's network.

    python benchmarks/starter_text.py --data=TEXT --minilm=FOLDER --results=FILE

TEXT holds the folders of `SETS`; FOLDER is all-MiniLM-L6-v2 as Hugging Face's libraries write it.
No whole test text was in the starter's training, passages of nine reviews were. Scores are
accuracies, for SMS spam F1 of spam. Every score is appended to `--results`; after a stop, the same
command resumes. Prints a Markdown table, means and deviations over seeds.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from starter import chosen, figure, measured

from pipeline import gain
from tlkeras.backbone import Backbone
from tlkeras.backbones.hub_text import Bert
from tlkeras.backbones.starter_text import StarterText
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import tf
from tlkeras.model import folding
from tlkeras.model.transfer_model import HEAD, TransferModel
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.sources.csv import CSV
from tlkeras.tasks.classification import Classification
from tlkeras.training import features
from tlkeras.training.features import Cache, Tap
from tlkeras.training.schedule import Phase

LENGTHS = (16, 32, 64, 128)
"""A text is padded to one of these; padding changes no feature, but takes time."""

Texts = tuple[list[str], np.ndarray]
Measure = Callable[[int, int], float]
"""The test score of so many labels a class, 0 is all, and a seed."""

LEAST_STEPS = 60
"""With few labels there are more epochs, so that there are as many steps of each phase."""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minilm", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--labels", nargs="+", type=int, default=[5, 20, 100, 0], help="0 is all")
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    known = measured(options.results)
    for name in options.sets:
        texts = SETS[name](options.data / name.split("/")[0])
        for way in options.ways:
            measure = None
            for seed in range(options.seeds):
                missing = [n for n in options.labels if (name, n, way, seed) not in known]
                if missing and measure is None:
                    measure = WAYS[way](texts, options.minilm)
                for count in missing:
                    known[name, count, way, seed] = score = measure(count, seed)
                    with options.results.open("a") as file:
                        cell = {"data": name, "labels": count, "way": way, "seed": seed}
                        print(json.dumps(cell | {"score": score}), file=file)
    print("| data | labels per class |", " | ".join(options.ways), "|")
    print("|---|---|" + "---|" * len(options.ways))
    for name in options.sets:
        for count in options.labels:
            cells = [
                [100 * known[name, count, way, seed] for seed in range(options.seeds)]
                for way in options.ways
            ]
            print(f"| {name} | {count or 'all'} |", " | ".join(map(figure, cells)), "|")


def sst2(folder: Path) -> Mapping[str, Texts]:
    """Returns sentences of reviews, negative or positive."""
    return {
        part: columns(line.split(" ", 1)[::-1] for line in lines(folder / f"stsa.binary.{part}"))
        for part in ("train", "test")
    }


def trec(folder: Path) -> Mapping[str, Texts]:
    """Returns questions by the kind of their answer."""
    files = {part: folder / f"TREC.{part}.all" for part in ("train", "test")}
    return {
        part: columns(line.split(" ", 1)[::-1] for line in lines(file, "latin-1"))
        for part, file in files.items()
    }


def ag_news(folder: Path) -> Mapping[str, Texts]:
    """Returns news by topic; the development part is for training."""
    files = {"train": folder / "dev.tsv", "test": folder / "test.tsv"}
    return {
        part: columns(line.rsplit("\t", 1) for line in lines(file)) for part, file in files.items()
    }


def sms_spam(folder: Path) -> Mapping[str, Texts]:
    """Returns messages, ham or spam, cut as ``tools/pretrain_starter_text.py`` cuts them."""
    pairs: dict[str, list[Sequence[str]]] = {"train": [], "test": []}
    for line in lines(folder / "SMSSpamCollection"):
        label, text = line.split("\t")[:2]
        part = "test" if hashlib.sha256(text.encode()).digest()[0] < 77 else "train"
        pairs[part].append((text, label))
    return {part: columns(rows) for part, rows in pairs.items()}


def reviews(domain: str) -> Callable[[Path], Mapping[str, Texts]]:
    """Returns the function that reads a domain of fdu_mtl, negative or positive."""

    def read(folder: Path) -> Mapping[str, Texts]:
        return {
            part: columns(
                line.split("\t", 1)[::-1] for line in lines(folder / f"{domain}.task.{part}")
            )
            for part in ("train", "test")
        }

    return read


SETS = {
    "sst2": sst2,
    "trec": trec,
    "ag_news": ag_news,
    "sms_spam": sms_spam,
    "fdu_mtl/books": reviews("books"),
    "fdu_mtl/kitchen": reviews("kitchen_housewares"),
}


def lines(file: Path, encoding: str = "utf-8") -> list[str]:
    """Returns the lines of a file that hold something."""
    return [line for line in file.read_bytes().decode(encoding, "replace").split("\n") if line]


def columns(pairs: Any) -> Texts:
    """Returns texts and labels of pairs."""
    texts, labels = zip(*pairs, strict=True)
    return list(texts), np.array([label.strip() for label in labels])


def minilm(texts: Mapping[str, Texts], folder: Path) -> Measure:
    """Measures the features of the teacher."""
    return probed(texts, vectors(teacher(folder), texts))


def starter_text(texts: Mapping[str, Texts], folder: Path) -> Measure:
    """Measures the features of the starter."""
    return probed(texts, vectors(StarterText(length=LENGTHS[-1]), texts))


def tfidf(texts: Mapping[str, Texts], folder: Path) -> Measure:
    """Measures words, weighted by what the chosen texts alone tell."""
    return probed(texts, {part: of_part for part, (of_part, _) in texts.items()})


def minilm_tuned(texts: Mapping[str, Texts], folder: Path) -> Measure:
    """Measures the teacher, its last two layers tuned."""
    return tuned(texts, teacher(folder), "transformer_layer_4", rate=2e-4)


def starter_tuned(texts: Mapping[str, Texts], folder: Path) -> Measure:
    """Measures the starter, its three layers tuned."""
    return tuned(texts, StarterText(length=LENGTHS[-1]), "layer_1", rate=5e-4)


def random_tuned(texts: Mapping[str, Texts], folder: Path) -> Measure:
    """Measures the starter's network, trained from random weights."""
    return tuned(texts, StarterText(length=LENGTHS[-1]), None, rate=1e-3)


WAYS = {
    way.__name__: way
    for way in (starter_text, minilm, tfidf, starter_tuned, minilm_tuned, random_tuned)
}


def teacher(folder: Path) -> Bert:
    """Returns all-MiniLM-L6-v2."""
    return Bert(weights=str(folder), length=LENGTHS[-1])


def vectors(backbone: Backbone, texts: Mapping[str, Texts]) -> Mapping[str, np.ndarray]:
    """Returns the pooled features of texts, [n, channels]."""
    ids = {part: cut(backbone, of_part) for part, (of_part, _) in texts.items()}
    widths = {
        part: np.searchsorted(LENGTHS, np.count_nonzero(rows, axis=1)) for part, rows in ids.items()
    }
    found: dict[str, Any] = {part: [None] * len(rows) for part, rows in ids.items()}
    for width, length in enumerate(LENGTHS):
        network: Any = backbone.replace(length=length).build()
        pooled = tf.function(lambda ids, network=network: network(ids)["pooled"])
        for part, rows in ids.items():
            places = np.flatnonzero(widths[part] == width)
            for batch in np.array_split(places, len(places) // 64 + 1):
                for place, row in zip(batch, pooled(rows[batch, :length]).numpy(), strict=True):
                    found[part][place] = row
    return {part: np.stack(rows) for part, rows in found.items()}


def cut(backbone: Backbone, texts: Sequence[str]) -> np.ndarray:
    """Returns the ids of texts, int32 [n, length]; padding is 0."""
    parts = [texts[start : start + 512] for start in range(0, len(texts), 512)]
    return np.concatenate([backbone.preprocess({"text": tf.constant(part)}) for part in parts])


def probed(texts: Mapping[str, Texts], rows: Mapping[str, Any]) -> Measure:
    """Measures logistic regression, on features of length 1 or on words.

    As in Tian et al. 2020, https://arxiv.org/abs/2003.11539.
    """

    def measure(count: int, seed: int) -> float:
        (_, labels), (_, expected) = texts["train"], texts["test"]
        places = chosen(labels, count, seed)
        is_text = isinstance(rows["train"], list)
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        model = make_pipeline(
            words if is_text else Normalizer(), LogisticRegression(C=10, max_iter=2000)
        )
        model.fit([rows["train"][place] for place in places], labels[places])
        return score(expected, model.predict(rows["test"]))

    return measure


def tuned(
    texts: Mapping[str, Texts], backbone: Backbone, first: str | None, rate: float
) -> Measure:
    """Measures `fine_tune`: a head, then the blocks from `first` on at `rate`; the last weights.

    Without a first block all are trained at once, from random weights.
    """
    shared = tempfile.TemporaryDirectory()  # It lasts as long as the function.
    test = examples(Path(shared.name) / "test", backbone, *texts["test"])

    def measure(count: int, seed: int) -> float:
        train, labels = texts["train"]
        places = np.sort(chosen(labels, count, seed))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            some = [train[place] for place in places]
            data = dataclasses.replace(examples(folder, backbone, some, labels[places]), seed=seed)
            model = TransferModel(backbone, data.task, data.classes, seed=seed)
            if first is None:
                model.body.set_weights(gain.fresh(model.body, seed).get_weights())
            epochs = max(3, -(-LEAST_STEPS // max(data.steps("train"), 1)))
            whole = Phase(
                epochs=epochs if first else 2 * epochs,
                learning_rate=rate,
                unfreeze=first or "all",
                optimizer="adamw",
                weight_decay=0.01,
                layer_decay=0.85,
                schedule="cosine",
                warmup=0.1,
                clip=1.0,
            )
            phases = (Phase(epochs=epochs, learning_rate=2e-3), whole) if first else (whole,)
            cache = Cache(Path(shared.name))
            FineTune(phases).fit(model, data, folder / "fit", shared=cache)
            return score(*answers(model, test, first or HEAD, cache))

    return measure


def examples(folder: Path, backbone: Backbone, texts: Sequence[str], labels: Sequence[str]) -> Data:
    """Returns texts, written into a folder, as the training split of data."""
    folder.mkdir(exist_ok=True)
    write(folder / "texts.csv", texts, labels)
    split = Split(validation=0, test=0)
    ingest.write_examples(CSV(folder / "texts.csv"), split, folder / "examples")
    return Data(folder / "examples", backbone, Classification(), 16)


def answers(
    model: TransferModel, data: Data, block: str, cache: Cache
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the classes of the texts and those that the model gives them.

    The layers before the block run once for all models that have them in common.
    """
    tap = Tap("train", block)
    found = features.at(model, data, [tap], cache, "float16")[tap]
    prefix, suffix = model.split_at(block)
    run = tf.function(
        lambda rows: tf.argmax(
            folding.run(suffix, features.entrance(prefix, rows, "float16")), axis=-1
        ),
        reduce_retracing=True,
    )
    order = np.arange(data.count("train")) if found.lengths is None else np.argsort(found.lengths)
    pairs = [(tf.argmax(target, axis=-1), run(rows)) for rows, target in found.batches(order)]
    names = np.array(data.classes)
    expected, given = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return names[expected], names[given]


def write(path: Path, texts: Sequence[str], labels: Sequence[str]) -> None:
    """Writes a table of texts."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *zip(texts, labels, strict=True)])


def score(expected: np.ndarray, found: np.ndarray) -> float:
    """Returns the accuracy; of SMS spam, F1 of spam."""
    if set(expected) == {"ham", "spam"}:
        return float(f1_score(expected, found, pos_label="spam"))
    return float(accuracy_score(expected, found))


if __name__ == "__main__":
    main()
