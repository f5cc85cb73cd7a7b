"""The value of the text starter's weights: scores by labels per class, against three baselines.

Ways to a classifier of texts, all with logistic regression on rows of length 1:

* ``starter_text``: on the mean of the starter's tokens;
* ``minilm``: on the mean of its teacher's tokens, a network of twelve times as many weights;
* ``tfidf``: on words and pairs of words, weighted by TF-IDF;
* ``random``: on the starter's network with random weights.

    python benchmarks/starter_text.py --data=TEXT --minilm=FOLDER --results=FILE

TEXT holds the folders of `SETS`; FOLDER is all-MiniLM-L6-v2 as Hugging Face's libraries write it.
No test text was in the starter's training. Scores are accuracies, for SMS spam F1 of spam. Every
score is appended to `--results`; after a stop, the same command resumes. Prints a Markdown table,
means and deviations over seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from pipeline import gain
from tlkeras.backbone import Backbone
from tlkeras.backbones.hub_text import Bert
from tlkeras.backbones.starter_text import StarterText
from tlkeras.frameworks import tf

LENGTHS = (16, 32, 64, 128)
"""A text is padded to one of these; padding changes no feature, but takes time."""

Texts = tuple[list[str], np.ndarray]
Rows = Mapping[str, np.ndarray]


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
            rows = None
            for seed in range(options.seeds):
                missing = [n for n in options.labels if (name, n, way, seed) not in known]
                if missing and (rows is None or way == "random"):
                    rows = WAYS[way](texts, options.minilm, seed)
                for count in missing:
                    known[name, count, way, seed] = score = probe(name, texts, rows, count, seed)
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
            shown = (f"{np.mean(cell):.1f} ± {np.std(cell):.1f}" for cell in cells)
            print(f"| {name} | {count or 'all'} |", " | ".join(shown), "|")


def measured(results: Path) -> dict[tuple[str, int, str, int], float]:
    """Returns the scores so far by data, labels per class, way and seed."""
    lines = results.read_text().splitlines() if results.exists() else []
    scores = {}
    for line in lines:
        *cell, score = json.loads(line).values()
        scores[tuple(cell)] = score
    return scores


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


def vectors(backbone: Backbone, texts: Mapping[str, Texts], seed: int | None = None) -> Rows:
    """Returns the pooled features of texts, [n, channels]; with a seed, of random weights."""
    ids = {part: cut(backbone, of_part) for part, (of_part, _) in texts.items()}
    widths = {
        part: np.searchsorted(LENGTHS, np.count_nonzero(rows, axis=1)) for part, rows in ids.items()
    }
    found: dict[str, Any] = {part: [None] * len(rows) for part, rows in ids.items()}
    for width, length in enumerate(LENGTHS):
        network: Any = backbone.replace(length=length).build()
        network = network if seed is None else gain.fresh(network, seed)
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


def minilm(texts: Mapping[str, Texts], folder: Path, seed: int) -> Rows:
    """Returns the features of the teacher, the same for all seeds."""
    return vectors(Bert(weights=str(folder), length=LENGTHS[-1]), texts)


def starter_text(texts: Mapping[str, Texts], folder: Path, seed: int) -> Rows:
    """Returns the features of the starter, the same for all seeds."""
    return vectors(StarterText(length=LENGTHS[-1]), texts)


def random(texts: Mapping[str, Texts], folder: Path, seed: int) -> Rows:
    """Returns the features of the starter's network with random weights."""
    return vectors(StarterText(length=LENGTHS[-1]), texts, seed)


def tfidf(texts: Mapping[str, Texts], folder: Path, seed: int) -> None:
    """Returns nothing: words are weighted by what the chosen texts alone tell."""


WAYS = {"starter_text": starter_text, "minilm": minilm, "tfidf": tfidf, "random": random}


def probe(name: str, texts: Mapping[str, Texts], rows: Rows | None, count: int, seed: int) -> float:
    """Returns the test score of logistic regression on `count` examples of a class, all if 0.

    Features have length 1, as in Tian et al. 2020, https://arxiv.org/abs/2003.11539.
    """
    (train, labels), (test, expected) = texts["train"], texts["test"]
    places = chosen(labels, count, seed)
    model = LogisticRegression(C=10, max_iter=2000)
    if rows is None:
        model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), model)
        model.fit([train[place] for place in places], labels[places])
        found = model.predict(test)
    else:
        model = make_pipeline(Normalizer(), model)
        found = model.fit(rows["train"][places], labels[places]).predict(rows["test"])
    if name == "sms_spam":
        return float(f1_score(expected, found, pos_label="spam"))
    return float(accuracy_score(expected, found))


def chosen(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the numbers of `count` examples of every class, all if `count` is 0."""
    random = np.random.default_rng(seed)
    return np.concatenate(
        [
            random.permutation(np.flatnonzero(labels == label))[: count or None]
            for label in np.unique(labels)
        ]
    )


if __name__ == "__main__":
    main()
