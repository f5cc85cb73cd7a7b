"""FineTune: the two-phase schedule, or any number of phases."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tlkeras import features, hardware, replicas, training
from tlkeras.augment import Augment
from tlkeras.frameworks import keras, tf
from tlkeras.model import HEAD
from tlkeras.recipe import Recipe
from tlkeras.spec import Spec
from tlkeras.task import Task

if TYPE_CHECKING:
    from tlkeras.data import Data
    from tlkeras.model import TransferModel

_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop"}


class Phase(Spec, name="phase"):
    """A compile and a fit of the head and of the blocks it unfreezes.

    `unfreeze` names blocks as `TransferModel.chosen` reads them: ``'block_13'`` (from there to the
    end), ``('conv4', 'conv5')`` (just these), ``0.3`` (the last 30 %), ``'all'``; nothing is the
    head only. `warmup` is the part of the steps in which the rate rises from 0; `clip` bounds the
    norm of all gradients together, 0 does not; `patience` counts epochs, 0 never stops early.
    """

    epochs: int = 5
    learning_rate: float = 1e-3
    unfreeze: str | float | tuple[str, ...] = ()
    batch_norm: bool = False
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = 0.0
    clip: float = 0.0
    augment: tuple[Augment, ...] = ()
    patience: int = 0

    def validate(self):
        self.require(self.epochs >= 1, "epochs", "at least 1")
        self.require(self.learning_rate > 0, "learning_rate", "a rate above 0")
        self.require(0 <= self.warmup < 1, "warmup", "a part of the steps, at least 0 and below 1")
        self.require(self.weight_decay >= 0, "weight_decay", "at least 0")
        self.require(self.clip >= 0, "clip", "a norm above 0, or 0 for none")
        self.require(self.patience >= 0, "patience", "at least 0 epochs")
        if isinstance(self.unfreeze, float):
            self.require(0 < self.unfreeze <= 1, "unfreeze", "a part above 0 and at most 1")
        if self.weight_decay and self.optimizer == "adam":
            raise ValueError("phase.weight_decay with optimizer='adam': use optimizer='adamw'.")

    def compiled_optimizer(self, steps: int) -> keras.optimizers.Optimizer:
        """Returns a new optimizer for a phase of so many steps."""
        rate: Any = self.learning_rate
        warm = round(self.warmup * steps)
        if self.schedule == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(
                0.0 if warm else rate, max(steps - warm, 1), 0.0, "cosine", rate, warm
            )
        elif warm:
            rate = keras.optimizers.schedules.PolynomialDecay(0.0, warm, rate)
        return getattr(keras.optimizers, _OPTIMIZERS[self.optimizer])(
            learning_rate=rate,
            weight_decay=self.weight_decay,
            global_clipnorm=self.clip or None,
        )


class FineTune(Recipe, name="fine_tune"):
    """Phases one after the other; each starts with the best weights up to then.

    What no phase up to now has unfrozen is run once over the data and its activations are kept:
    at float16 they lose the digits past the third, at float32 nothing; ``cache='none'`` runs the
    frozen layers in every epoch. A phase that augments does that too: its pictures differ.
    Frozen batch norms are in inference mode, and so is all before the first block ever trained.
    """

    phases: tuple[Phase, ...] = (
        Phase(epochs=5, learning_rate=1e-3),
        Phase(epochs=5, learning_rate=1e-4, unfreeze=0.3, schedule="cosine", warmup=0.1),
    )
    class_weight: Literal["none", "balanced"] = "none"
    cache: Literal["float16", "float32", "none"] = "float16"

    def validate(self):
        self.require(len(self.phases) > 0, "phases", "at least one phase")

    def fit(self, model, data, folder, callbacks=()):
        starts = _starts(model, self.phases)
        kept = self._kept(model, data, starts, folder / "features")
        own = dataclasses.replace(data, part=hardware.part())
        balance = _class_weights(data) if self.class_weight == "balanced" else None
        held_out = data.count("validation")
        logs: list[dict[str, Any]] = []
        metric = next(iter(model.task.metrics()), None)
        first, state = 0, training.State()
        for number, (phase, start) in enumerate(zip(self.phases, starts, strict=True)):
            print(f"phase {number + 1} of {len(self.phases)}: {phase}")
            model.train_only(model.chosen(phase.unfreeze), batch_norm=phase.batch_norm)
            if number in kept:
                trained = replicas.trained(model.split_at(start)[1])
                train = functools.partial(_kept_batches, kept[number]["train"], own)
                validation = held_out and kept[number]["validation"].batches(
                    own.rows(np.arange(held_out)), own.size
                )
            else:
                trained = _behind_frozen(model, start)
                train = functools.partial(own.shuffled, "train", augments=phase.augment)
                validation = held_out and own.batches("validation")
            with hardware.scope():
                trained.compile(
                    optimizer=phase.compiled_optimizer(phase.epochs * data.steps("train")),
                    loss=model.task.loss(),
                    metrics=model.task.metrics(),
                )
            state = training.fit(
                trained,
                train if balance is None else _weighted(train, model.task, balance),
                validation or None,
                metric=metric.name if metric else None,
                start=state,
                first=first,
                epochs=phase.epochs,
                patience=phase.patience,
                seed=data.seed,
                folder=folder / f"phase{number}",
                callbacks=callbacks,
            )
            logs += [
                {"phase": number, "epoch": first + i, **log} for i, log in enumerate(state.history)
            ]
            first += phase.epochs
        return logs

    def _kept(
        self, model: TransferModel, data: Data, starts: Sequence[str], folder: Path
    ) -> dict[int, dict[str, features.Features]]:
        """Returns the features, by phase and split, of the phases that may start from them.

        One pass over each split makes them all: no phase trains what lies before its start.
        """
        blocks = {
            number: start
            for number, (phase, start) in enumerate(zip(self.phases, starts, strict=True))
            if self.cache != "none" and not phase.augment and start != next(iter(model.blocks))
        }
        made = {
            split: features.at(model, data, split, list(blocks.values()), folder, self.cache)
            for split in ("train", "validation")
            if blocks and data.count(split)
        }
        return {
            number: {split: made[split][start] for split in made}
            for number, start in blocks.items()
        }


def _starts(model: TransferModel, phases: Sequence[Phase]) -> list[str]:
    """Returns, for every phase, the first block that it or a phase before it trains."""
    order = [*model.blocks, HEAD]
    places = [order.index(next(iter(model.chosen(phase.unfreeze)), HEAD)) for phase in phases]
    return [order[min(places[: number + 1])] for number in range(len(places))]


def _kept_batches(kept: features.Features, data: Data, epoch: int) -> Any:
    return kept.batches(data.rows(data.order("train", epoch)), data.size)


def _behind_frozen(model: TransferModel, start: str) -> keras.Model:
    """Returns what trains the model from a block on, all before it in inference mode.

    A Functional model would hand ``training=True`` down to the frozen part whatever it was called
    with when it was built, and its dropout would drop.
    """
    if start == next(iter(model.blocks)):
        return replicas.trained(model.full)
    prefix, suffix = model.split_at(start)
    return replicas.trained(suffix, frozen=prefix)


def _class_weights(data: Data) -> Any:
    """Returns n / (classes * count) per class, scikit-learn's ``balanced``."""
    counts = np.asarray(data.info.class_counts["train"], np.float64)
    return tf.constant(counts.sum() / (len(counts) * np.maximum(counts, 1)), tf.float32)


def _weighted(train: Callable[[int], Any], task: Task, balance: Any) -> Callable[[int], Any]:
    def weighted(epoch: int) -> Any:
        return train(epoch).map(
            lambda inputs, target: (inputs, target, task.weights(target, balance))
        )

    return weighted
