"""The package ``adapt`` of PyPI on the same features and parts as ``benchmarks/domains.py``.

    python benchmarks/domains.py --data=TEXT/fdu_mtl --results=FILE --features=FEATURES
    python benchmarks/domains_peer.py --features=FEATURES --results=PEER

It needs an environment of its own with ``adapt``, nothing of tlkeras. All values are the package's
defaults but these: logistic regression behind CORAL, and for DANN and MDD an encoder of 64 units, a
discriminator of 64, Adam with a rate of 0.001 and 20 epochs of batches of 64. Its DANN and MDD take
no validation data, so the part for validation trains, too. Prints the means over pairs and seeds.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

DOMAINS = ("books", "dvd", "electronics", "kitchen_housewares")
MEASURED = 1000


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    found = np.load(options.features)
    rows = []
    for seed, (source, target) in itertools.product(
        range(options.seeds), itertools.permutations(DOMAINS, 2)
    ):
        random = np.random.default_rng(seed)
        random.permutation(len(found[f"{source}_x"]))  # As the other program draws them.
        places = random.permutation(len(found[f"{target}_x"]))
        given = found[f"{source}_x"], found[f"{source}_y"]
        unlabelled = found[f"{target}_x"][places[MEASURED:]]
        asked, labels = (found[f"{target}_{kind}"][places[:MEASURED]] for kind in "xy")
        for name, fit in METHODS.items():
            began = time.perf_counter()
            scores = np.asarray(fit(*given, unlabelled, seed).predict(asked)).ravel()
            accuracy = float(np.mean((scores > 0.5) == labels))
            seconds = round(time.perf_counter() - began, 2)
            row = {"source": source, "target": target, "method": name, "seed": seed}
            rows.append(row | {"accuracy": accuracy, "seconds": seconds})
            with options.results.open("a") as file:
                print(json.dumps(rows[-1]), file=file)
    for name in METHODS:
        own = [row for row in rows if row["method"] == name]
        means = (np.mean([row[key] for row in own]) for key in ("accuracy", "seconds"))
        print("{}: {:.3f}, {:.1f} s".format(name, *means))


def coral(x: np.ndarray, y: np.ndarray, unlabelled: np.ndarray, seed: int) -> Any:
    """Returns a fitted classifier."""
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(max_iter=2000)
    return _methods().CORAL(classifier, Xt=unlabelled, verbose=0, random_state=seed).fit(x, y)


def dann(x: np.ndarray, y: np.ndarray, unlabelled: np.ndarray, seed: int) -> Any:
    """Returns a fitted classifier."""
    discriminator = _layers((64, "relu"), (1, "sigmoid"))
    return _trained(_methods().DANN, x, y, unlabelled, seed, discriminator=discriminator)


def mdd(x: np.ndarray, y: np.ndarray, unlabelled: np.ndarray, seed: int) -> Any:
    """Returns a fitted classifier."""
    return _trained(_methods().MDD, x, y, unlabelled, seed)


METHODS = {"coral": coral, "dann": dann, "mdd": mdd}


def _methods() -> Any:
    return importlib.import_module("adapt.feature_based")


def _layers(*layers: tuple[int, str]) -> Any:
    import tensorflow as tf

    return tf.keras.Sequential([tf.keras.layers.Dense(n, activation=kind) for n, kind in layers])


def _trained(
    kind: Any, x: np.ndarray, y: np.ndarray, unlabelled: np.ndarray, seed: int, **options: Any
) -> Any:
    import tensorflow as tf

    model = kind(
        encoder=_layers((64, "relu")),
        task=_layers((1, "sigmoid")),
        Xt=unlabelled,
        loss="bce",
        optimizer=tf.keras.optimizers.Adam(1e-3),
        verbose=0,
        random_state=seed,
        **options,
    )
    return model.fit(x, y.astype("float32"), epochs=20, batch_size=64, verbose=0)


if __name__ == "__main__":
    main()
