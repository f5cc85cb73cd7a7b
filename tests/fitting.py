"""A program for the tests: fits the tiny network under a strategy and keeps all that came of it.

``python tests/fitting.py STRATEGY EXAMPLES SCRATCH OUT [FAULT [TASK]]``; FAULT is ``stop``, what
becomes of the last worker in the middle of an epoch, or ``differ``, the seed of the last one, or
empty.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from conftest import Tiny, weights_of

from tlkeras import hardware, spec
from tlkeras.data.batches import Data
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.task import Task
from tlkeras.training import feature_store
from tlkeras.training.features import Cache
from tlkeras.training.trainable import trainable

# Both phases: on kept features, recompiled, with batch norms that train; SGD, since Adam makes a
# step of the rounding error that is the gradient of a bias before a batch norm.
RECIPE = (
    "fine_tune(class_weight='balanced', phases=["
    "phase(epochs=4, patience=1, learning_rate=4.0, optimizer='sgd', clip=0.5),"
    "phase(epochs=2, unfreeze='block3', learning_rate=1e-3, schedule='cosine', warmup=0.3),"
    "phase(epochs=1, unfreeze='block3', learning_rate=0.02, optimizer='sgd', batch_norm=True),"
    "phase(epochs=1, unfreeze=('block4',), optimizer='sgd', augment=[flip, mix_up])])"
)
CLASSES = "classification"

# Boxes and masks: on kept views of the features, then with a block of the network.
OF_PLACES = (
    "fine_tune(class_weight='balanced', phases=["
    "phase(epochs=3, learning_rate=0.05, optimizer='sgd', augment=[flip, zoom], views=2),"
    "phase(epochs=2, unfreeze='block3', learning_rate=0.02, optimizer='sgd', clip=0.5)])"
)
TIMEOUT = 300.0


def main(examples: Path, scratch: Path, out: Path, fault: str, task: str) -> None:
    worker, workers = hardware.part()
    is_last = worker == workers - 1
    recipe = spec.parse(RECIPE if task == CLASSES else OF_PLACES, Recipe)
    seed = 1 if fault == "differ" and is_last else 0
    data = Data(examples, Tiny(), spec.parse(task, Task), batch_size=8, seed=seed)
    model = TransferModel(data.backbone, data.task, data.classes, seed=3)
    callbacks = [breaker(scratch)] if fault == "stop" and is_last else []
    made = shards_made()
    logs = recipe.fit(model, data, scratch, callbacks, Cache(out / "features"))
    predicted, evaluated = measured(model, data)
    (out / f"shards{worker}.json").write_text(json.dumps(made), encoding="utf-8")
    weights: dict[str, Any] = weights_of(model.full)
    np.savez(out / f"weights{worker}.npz", **weights)
    np.savez(out / f"outputs{worker}.npz", predicted=predicted, evaluated=evaluated)
    (out / f"logs{worker}.json").write_text(json.dumps(logs), encoding="utf-8")
    if hardware.is_chief():
        model.save(out)


def shards_made() -> list[str]:
    """Returns a list that every shard is added to as soon as this process has made it."""
    made: list[str] = []
    end = feature_store.Writer._end

    def noted(self: feature_store.Writer, number: int) -> None:
        end(self, number)
        made.append(f"{self._entry.name}/{number:05d}")

    feature_store.Writer._end = noted
    return made


def measured(model: TransferModel, data: Data) -> tuple[Any, Any]:
    """Returns what `predict` and `evaluate` give for the test split."""
    own = dataclasses.replace(data, part=hardware.part()).batches("test")
    trained = trainable(model.full)
    with hardware.scope():
        trained.compile(
            optimizer=keras.optimizers.SGD(),
            loss=data.task.loss(),
            metrics=data.task.metrics(data.classes),
        )
    told = trained.evaluate(own, verbose=0, return_dict=True)
    return trained.predict(own, verbose=0), np.array([*told.values()])


def breaker(scratch: Path) -> keras.callbacks.Callback:
    """Returns what stops this process in the second epoch of the second phase."""

    def in_the_middle(step: int, logs: Any) -> None:
        begun = scratch / "phase1" / "state.json"
        if step == 2 and begun.exists() and json.loads(begun.read_text())["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGSTOP)

    return keras.callbacks.LambdaCallback(on_train_batch_end=in_the_middle)


if __name__ == "__main__":
    name, *paths = sys.argv[1:5]
    feature_store.LENGTH = 16  # So that there are several.
    if name == "mirrored":
        (processor,) = tf.config.list_physical_devices("CPU")
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(processor, halves)
    try:
        with hardware.used(name, TIMEOUT):
            assert hardware.replicas() == (1 if name == "one_device" else 2)
            fault, task = [*sys.argv[5:], *["", CLASSES][len(sys.argv) - 5 :]]
            main(*map(Path, paths), fault=fault, task=task)
    except ValueError as error:
        sys.exit(str(error))
