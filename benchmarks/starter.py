"""What the starter's weights are worth: accuracy by labels per class, against two others.

Three ways to a classifier of 96-pixel pictures, on data that no weights were trained on:

* ``starter``: logistic regression on the starter's pooled features;
* ``imagenet``: the same on those of the published MobileNetV2 0.35, the nearest in size;
* ``scratch``: the starter's network from random weights, all of it trained, with flips and shifts.

    python benchmarks/starter.py --data=IMAGES --weights=MobileNetV2_0.35_224_notop.weights.h5

IMAGES holds the folders named in `SETS`; prints a Markdown table, means and deviations over seeds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import examples
from tlkeras.backbone import Backbone
from tlkeras.backbones.applications import MobileNetV2, MobileNetV3Small
from tlkeras.backbones.starter import Starter
from tlkeras.data import Data
from tlkeras.frameworks import keras
from tlkeras.model import TransferModel
from tlkeras.source import Source
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.splits import Split
from tlkeras.tasks.classification import Classification

SIZE = 96
SETS = {  # And the split that is the test.
    "flower_photos": "validation",
    "hymenoptera": "validation",
    "dogcat": "test",
    "brain_tumor_mri": "test",
    "digits": "test",
}
SCRATCH_STEPS = 600  # Of 32 pictures; more did not help on 20 labels per class.


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--labels", nargs="+", type=int, default=[5, 20, 100, 0], help="0 is all")
    parser.add_argument("--ways", nargs="+", default=["starter", "imagenet", "scratch"])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    backbones: dict[str, Backbone] = {
        "starter": Starter(size=SIZE),
        "imagenet": MobileNetV2(size=SIZE, alpha=0.35, weights=str(options.weights)),
    }
    print("| data | labels per class |", " | ".join(options.ways), "|", flush=True)
    print("|---|---|" + "---|" * len(options.ways))
    for name in options.sets:
        with tempfile.TemporaryDirectory() as folder:
            source, split = source_of(name, options.data)
            examples.write(source, split, Path(folder), say=lambda text: None)
            pictures = {
                part: arrays(Data(Path(folder), Starter(size=SIZE), Classification()), part)
                for part in ("train", SETS[name])
            }
            pictures["test"] = pictures.pop(SETS[name])
        features = {
            way: {part: features_of(backbone, *pair) for part, pair in pictures.items()}
            for way, backbone in backbones.items()
            if way in options.ways
        }
        for count in options.labels:
            cells = []
            for way in options.ways:
                found = [
                    scratch(pictures, chosen(pictures["train"][1], count, seed), seed)
                    if way == "scratch"
                    else probe(features[way], chosen(pictures["train"][1], count, seed))
                    for seed in range(options.seeds)
                ]
                cells.append(f"{100 * np.mean(found):.1f} ± {100 * np.std(found):.1f}")
            print(f"| {name} | {count or 'all'} |", " | ".join(cells), "|", flush=True)


def source_of(name: str, data: Path) -> tuple[Source, Split]:
    """Returns a data set and its cut; where there is no split of its own, 30 % are the test."""
    source = Embedded() if name == "digits" else Folder(data / name)
    return source, Split(validation=0, test=30 if SETS[name] == "test" else 0)


def arrays(data: Data, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns pictures, uint8 [n, SIZE, SIZE, 3], and labels [n] of a split."""
    pairs = list(data.batches(part).as_numpy_iterator())
    pixels = np.concatenate([np.rint(inputs).astype(np.uint8) for inputs, _ in pairs])
    return pixels, np.concatenate([targets.argmax(-1) for _, targets in pairs])


def chosen(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the places of so many examples of every class, all if `count` is 0."""
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
    return body.predict(pixels.astype(np.float32), batch_size=64, verbose=silent), labels


def probe(features: dict[str, tuple[np.ndarray, np.ndarray]], places: np.ndarray) -> float:
    """Returns the test accuracy of logistic regression on the features at these places."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, labels = features["train"]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    return float(model.fit(x[places], labels[places]).score(*features["test"]))


def scratch(
    pictures: dict[str, tuple[np.ndarray, np.ndarray]], places: np.ndarray, seed: int
) -> float:
    """Returns the test accuracy of the starter's network, trained on these places only."""
    pixels, labels = pictures["train"]
    classes = int(labels.max()) + 1
    backbone = MobileNetV3Small(size=SIZE, weights=None)
    full = TransferModel(backbone, Classification(), range(classes), seed).full
    for layer in full.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # At 0.999 the statistics would not be ready after so few steps.
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, SCRATCH_STEPS - 60, warmup_target=2e-3, warmup_steps=60
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    full.compile(keras.optimizers.AdamW(rate, weight_decay=0.05), loss, metrics=["accuracy"])
    random = np.random.default_rng(seed)

    def batches() -> Any:
        for _ in range(SCRATCH_STEPS):
            batch = random.choice(places, 32)
            shift = random.integers(-8, 9, size=2)
            x = np.roll(pixels[batch], shift, axis=(1, 2)).astype(np.float32)
            yield x[:, :, :: random.choice([-1, 1])], labels[batch]

    silent: Any = 0
    full.fit(batches(), steps_per_epoch=SCRATCH_STEPS, epochs=1, verbose=silent)
    x, y = pictures["test"]
    return full.evaluate(x.astype(np.float32), y, batch_size=64, verbose=silent)[1]


if __name__ == "__main__":
    main()
