"""Gain: the gain in accuracy from pretrained weights with few labels, ``tlkeras gain``.

It is not a step of the pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np

from pipeline import flags, store
from pipeline.config import Config
from pipeline.step import Step
from pipeline.steps import example_gen
from tlkeras import files, hardware
from tlkeras.backbone import Backbone
from tlkeras.data.batches import Data
from tlkeras.frameworks import keras
from tlkeras.kinds.image import Image
from tlkeras.model import block_flags
from tlkeras.model.transfer_model import TransferModel
from tlkeras.source import Source, require_label
from tlkeras.spec import Spec
from tlkeras.tasks.classification import Classification
from tlkeras.terminal import shown
from tlkeras.training.phase import Phase
from tlkeras.training.trainable import trainable

LABELS = 20  # Of every class, or all if there are fewer.
STEPS = 300
BATCH = 16  # Small, so that few pictures give many steps.


@Step
def gain(out: Path, *, examples: Path, backbone: Backbone, seed: int) -> None:
    """Trains the same classifier twice on 20 labels per class: from pretrained and random weights.

    Both fits train the whole network for 300 steps, on one device.
    """
    with hardware.alone():
        _gain(out, examples, backbone, seed)


def _gain(out: Path, examples: Path, backbone: Backbone, seed: int) -> None:
    data = Data(examples, backbone, Classification(), seed=seed)
    split = next((name for name in ("test", "validation") if data.count(name)), None)
    if split is None:
        raise ValueError(f"{examples} has neither a test nor a validation split to measure on.")
    pictures, labels = few(data)
    model = TransferModel(backbone, data.task, data.classes, seed).full
    trained = trainable(model)
    networks = {"transfer": model, "scratch": fresh(model, seed)}
    starts = {
        name: [variable.numpy() for variable in network.variables]
        for name, network in networks.items()
    }
    result: dict[str, Any] = {"split": split, "labels": len(labels)}
    # Both are trained in one network, one after the other: its graph is made once.
    for name, start in starts.items():
        for variable, value in zip(model.variables, start, strict=True):
            variable.assign(value)
        train(trained, pictures, labels, seed, STEPS)
        hits = 0
        for inputs, targets in data.batches(split).as_numpy_iterator():
            logits = trained.predict_on_batch(inputs)
            hits += (logits.argmax(-1) == targets.argmax(-1)).sum()
        result[name] = float(hits / data.count(split))
    files.write_json(out / "gain.json", result)


PIPELINE = (example_gen.examples, gain)


def few(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs, float32 [n, ...], and labels [n] of `LABELS` training examples per class.

    Only these and a few batches are in memory.
    """
    inputs: list[np.ndarray] = []
    labels: list[int] = []
    for one, target in data.shuffled("train", epoch=0).unbatch().as_numpy_iterator():
        if labels.count(label := int(target.argmax())) < LABELS:
            inputs.append(one)
            labels.append(label)
        if len(labels) == LABELS * len(data.classes):
            break
    return np.stack(inputs), np.array(labels)


def fresh(model: keras.Model, seed: int) -> keras.Model:
    """Returns the same network with random weights."""
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(model)


def train(trained: Any, pictures: np.ndarray, labels: np.ndarray, seed: int, steps: int) -> None:
    """Trains a network in full.

    AdamW at 2e-3 with warm-up and cosine decay, batches of 16, on pictures [n, h, w, 3] with random
    flips and shifts by up to a twelfth.

    Args:
        trained: The `trainable` network.
        pictures: float32 [n, h, w, 3].
        labels: int [n].
        seed: Of the batches and their changes.
        steps: The number of steps.
    """
    block_flags.set_trainable([*trained.network._flatten_layers()], True, batch_norm=True)
    phase = Phase(optimizer="adamw", learning_rate=1.0, weight_decay=0.05)  # Steps set the rate.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained.start(phase.compiled_optimizer(steps), loss, [], steps_per_execution=1)
    trained.optimizer.build(trained.trainable_variables)  # Or the first step is traced twice.
    warm = steps // 10
    rate: Any = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm, warmup_target=2e-3, warmup_steps=warm
    )
    random = np.random.default_rng(seed)
    reach = pictures.shape[1] // 12
    for step in shown(range(steps), steps, "training in full"):
        trained.optimizer.learning_rate = float(rate(step))
        places = random.choice(len(labels), BATCH)
        shift = tuple(random.integers(-reach, reach + 1, size=2))
        batch = np.roll(pictures[places], shift, axis=(1, 2))[:, :, :: random.choice([-1, 1])]
        trained.train_on_batch(batch.astype(np.float32), labels[places])


class Others(Spec, name="others"):
    """What else the gain is told of."""

    more_sources: Annotated[
        tuple[Source, ...], "More data, joined by |; the gain is told of each in the same process."
    ] = ()


def main(config: Config, others: Others) -> int:
    """Prints the gain in one line for each source.

    Raises:
        ValueError: Before anything runs: a network reads something else than one picture, or the
            examples have no label.
    """
    configs = [config.replace(source=each) for each in (config.source, *others.more_sources)]
    for own in configs:
        _require_pictures(own)
        require_label(own.source, gain.name)
    for own in configs:
        products = store.run(PIPELINE, own, store.Store(config.root))
        result = files.read_json(products["gain"] / "gain.json")
        transfer, scratch = result["transfer"], result["scratch"]
        print(
            f"\nGain of transfer on {own.source}, {result['labels']} labels and {STEPS} steps: "
            f"{result['split']} accuracy {transfer:.3f} against {scratch:.3f} from random weights, "
            f"{100 * (transfer - scratch):+.1f} points."
        )
    return 0


def _require_pictures(config: Config) -> None:
    backbone: Any = config.backbone
    kinds = backbone.raw()
    if [*kinds.values()] != [Image()]:
        read = ", ".join(f"{key!r} ({kind})" for key, kind in kinds.items())
        raise ValueError(
            f"gain trains on shifted pictures, and of {config.source} {backbone} reads {read}; "
            "give a source of pictures, or compare few labels with few_shot, of any data with one "
            "label of each example."
        )


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras gain``."""
    flags.run(argv, main, Config, Others, steps=PIPELINE)
