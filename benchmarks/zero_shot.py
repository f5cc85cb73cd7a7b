"""Measures heads that know classes by their names alone, on classes hidden from the training.

    python benchmarks/zero_shot.py --images=FOLDER --backbone=mobilenet_v2 --text=starter_text

FOLDER holds a folder of JPEG files for each class, or files named after their class. For each seed,
half of the classes is hidden. Of the others a fifth of the examples is for measuring, if a class
has that many; the rest fits the map of `zero_shot`. All accuracies are means over classes.
Features are computed once and lie in the folder of ``--work``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import spec, terminal
from tlkeras.backbone import Backbone
from tlkeras.frameworks import tf
from tlkeras.recipes.zero_shot import ZeroShot, descriptions_of, hidden_classes, reader
from tlkeras.training import descriptions


def main() -> None:
    """Prints a line for each text network and seed, then means and their deviations."""
    parser = argparse.ArgumentParser(
        description="Measures heads that know classes by their names alone."
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--text", action="append", required=True)
    parser.add_argument("--prompt", action="append")
    parser.add_argument("--without", action="append", default=[], help="a class to leave out")
    parser.add_argument("--unseen", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path())
    options = parser.parse_args()
    features, labels, classes = summaries(
        options.images, spec.parse(options.backbone, Backbone), options.work, options.without
    )
    prompts = options.prompt or ZeroShot().prompts
    lines = []
    for text in options.text:
        described = descriptions_of(classes, prompts, reader(spec.parse(text, Backbone)))
        found = []
        for seed in range(options.seeds):
            found.append(measured(features, labels, described, options.unseen, seed))
            print(json.dumps({"text": text, "seed": seed, **found[-1]}), flush=True)
        lines += [
            (text, name, f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}")
            for name, *values in zip(found[0], *(each.values() for each in found), strict=True)
        ]
    print(terminal.table(lines, ("text network", "measure", f"{options.seeds} seeds")))


def summaries(
    images: Path, backbone: Backbone, work: Path, without: list[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns features float64 [n, channels], labels [n] and the names of the classes."""
    work.mkdir(parents=True, exist_ok=True)
    network_of = f"{backbone.full()} {backbone.fingerprint()} {images.resolve()}"
    kept = work / f"{images.name}-{hashlib.sha256(network_of.encode()).hexdigest()[:16]}.npz"
    if not kept.exists():
        files = sorted(images.rglob("*.jpg"))
        names = [file.stem if file.parent == images else file.parent.name for file in files]
        network = backbone.build()
        run = tf.function(lambda inputs: network(inputs, training=False)["pooled"])

        def prepared(file: Any) -> Any:
            picture = tf.io.decode_jpeg(tf.io.read_file(file), channels=3)
            return backbone.preprocess({"image": picture})

        data = tf.data.Dataset.from_tensor_slices([*map(str, files)])
        batches = data.map(prepared, num_parallel_calls=2).batch(32).prefetch(2)
        rows = np.concatenate([run(batch) for batch in batches])
        every, labels = np.unique(names, return_inverse=True)
        np.savez(kept, x=rows, y=labels, names=every)
    with np.load(kept) as found:
        features, labels, names = found["x"], found["y"], found["names"]
    rows = ~np.isin(names[labels], without)
    classes, labels = np.unique(names[labels[rows]], return_inverse=True)
    return features[rows].astype(float), labels, [*map(str, classes)]


def measured(
    features: np.ndarray, labels: np.ndarray, described: np.ndarray, share: float, seed: int
) -> dict[str, float]:
    """Returns the measures of one split of the classes; those of seen classes only if there are."""
    hidden = hidden_classes(share, [""] * len(described), seed)
    random = np.random.default_rng((seed, 1))
    chance = random.random(len(labels))
    held = np.zeros(len(labels), bool)
    for label in np.flatnonzero(~hidden):
        rows = np.flatnonzero(labels == label)
        held[rows[np.argsort(chance[rows])][: len(rows) // 5]] = True
    new = hidden[labels]
    learnt = ~new & ~held
    (kernel, bias), choice = descriptions.fitted(features[learnt], labels[learnt], described, seed)
    scores = features[new] @ kernel + bias
    among = scores[:, hidden].argsort(axis=1)[:, ::-1][:, :5]
    right = np.flatnonzero(hidden)[among] == labels[new][:, None]
    found = {
        "chance": 1 / hidden.sum(),
        "top 1 of unseen": by_class(right[:, 0], labels[new]),
        "top 5 of unseen": by_class(right.any(axis=1), labels[new]),
        "top 1 of unseen, mean over examples": float(right[:, 0].mean()),
    }
    if held.any():
        plain = np.where(hidden, 0, choice.constant)
        for name, offset in (("", 0), (", not calibrated", plain)):
            seen = (features[held] @ kernel + bias + offset).argmax(axis=1) == labels[held]
            unseen = (scores + offset).argmax(axis=1) == labels[new]
            one, other = by_class(seen, labels[held]), by_class(unseen, labels[new])
            found[f"seen among all{name}"] = one
            found[f"unseen among all{name}"] = other
            found[f"harmonic mean{name}"] = descriptions.harmonic(one, other)
    return found


def by_class(right: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean over the classes of the part that is right."""
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


if __name__ == "__main__":
    main()
