"""A program for the tests: what one device and two of the same machine compute.

``python tests/halves.py OUT`` writes JSON: by case, what is found on each of both strategies.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from conftest import weights_of

from tlkeras import hardware
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import computing_in
from tlkeras.training import rate_finder
from tlkeras.training.phase import Phase
from tlkeras.training.trainable import trainable

STRATEGIES = ("one_device", "mirrored")


def texts() -> keras.Model:
    """Returns a network of an embedding, with a layer that no loss depends on."""
    keras.utils.set_random_seed(0)
    with hardware.scope():
        ids = keras.Input([6], dtype="int32")
        x = keras.layers.Embedding(5, 4, "normal")(ids)
        aside: Any = keras.ops.stop_gradient(keras.layers.Dense(4)(x))
        logits = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(x + aside))
        return keras.Model(ids, keras.layers.Activation("linear", dtype="float32")(logits))


def rows(count: int = 17) -> Any:
    """Returns batches of 8 texts, and a short one."""
    random = np.random.default_rng(0)
    ids, classes = random.integers(0, 5, (count, 6), np.int32), random.integers(0, 3, count)
    return tf.data.Dataset.from_tensor_slices((ids, np.eye(3, dtype="float32")[classes])).batch(8)


def started(phase: Phase) -> Any:
    trained = trainable(texts())
    with hardware.scope():
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        metrics = [keras.metrics.CategoricalAccuracy(name="accuracy")]
        trained.start(phase.compiled_optimizer(9), loss, metrics, steps_per_execution=1)
    return trained


def clipped(optimizer: Any, precision: Any = "float32") -> dict[str, Any]:
    """Returns the weights after steps with `clip`."""
    with computing_in(precision):
        trained = started(Phase(optimizer=optimizer, learning_rate=0.05, clip=0.1))
        with hardware.scope():
            trained.optimizer.build(trained.trainable_variables)
        trained.fit(rows().repeat(3), shuffle=False, verbose=0)
    return {str(place): each.tolist() for place, each in enumerate(weights_of(trained).values())}


def swept() -> list[float]:
    """Returns the losses of a sweep, whose short batches have one row."""
    trained = started(Phase(learning_rate=1.0))
    batches = rows().repeat().take(rate_finder.STEPS)
    return [*rate_finder.swept(trained, batches, first=0, seed=0).losses]


def logged() -> list[float]:
    """Returns what callbacks see after each batch."""
    trained, seen = started(Phase(optimizer="sgd", learning_rate=0.1)), []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: seen.extend([logs["loss"], logs["accuracy"]])
    )
    trained.fit(rows(), shuffle=False, verbose=0, callbacks=[watch])
    return [float(each) for each in seen]


CASES: Mapping[str, Callable[[], Any]] = {
    "clipped sgd": lambda: clipped("sgd"),
    "clipped adam": lambda: clipped("adam"),
    "clipped sgd in float16": lambda: clipped("sgd", "mixed_float16"),
    "swept": swept,
    "logged": logged,
}


def main(out: Path) -> None:
    (processor,) = tf.config.list_physical_devices("CPU")
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, halves)
    found: dict[str, list[Any]] = {name: [] for name in CASES}
    for strategy in STRATEGIES:
        with hardware.used(strategy):
            for name, case in CASES.items():
                found[name].append(case())
    out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
