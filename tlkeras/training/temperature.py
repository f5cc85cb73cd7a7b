"""Temperature: one number that divides the logits, so that a model is right as often as it claims.

It changes no order of the classes (Guo et al. 2017, https://arxiv.org/abs/1706.04599). Kernel and
bias of the layer ``logits`` are divided by it, so every export has it and no graph changes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras import files
from tlkeras.task import Task

if TYPE_CHECKING:
    from tlkeras.data.batches import Data
    from tlkeras.model.transfer_model import TransferModel
    from tlkeras.recipe import Recipe

FILE = "temperature.json"
"""Beside a calibrated model: its temperature, and the number of examples that gave it."""

ENOUGH = 50
"""Of fewer validation examples the temperature is refused."""

# One number needs no more logits: 32 MB.
_LOGITS = 1 << 22

# Newton's method doubles the right digits in every step; halving needs a step for each bit.
_STEPS = 100


@dataclasses.dataclass(frozen=True)
class Temperature:
    """What divided the logits; None if no such number exists.

    `examples` is the number of those that were read for it.
    """

    value: float | None
    examples: int

    def remark(self) -> str:
        """Returns what a reader of the report has to know of it."""
        if self.value is None:
            return (
                f"There is no temperature: the logits of all {self.examples:,} validation examples "
                "set the right class first, or they tell nothing of it. The probabilities are as "
                "they were trained."
            )
        return (
            f"The logits are divided by the temperature {self.value:.3f}, which has the least "
            f"log loss on {self.examples:,} validation examples."
        )

    def write(self, folder: Path) -> None:
        """Writes the file `FILE`."""
        files.write_json(folder / FILE, dataclasses.asdict(self))


def read(folder: Path) -> Temperature | None:
    """Returns the temperature of a model in a folder; None without the file."""
    path = folder / FILE
    return Temperature(**files.read_json(path)) if path.exists() else None


def require(recipe: Recipe, task: Task, data: Data) -> None:
    """Checks, before a training, that a temperature can be fitted after it.

    Raises:
        ValueError: The head is for examples without labels, the task has no logits, or the
            validation split is too small.
    """
    if recipe.is_for_target:
        raise ValueError(
            f"--calibrate with --recipe={recipe.member}: a temperature is fitted on labelled "
            "validation examples, which are of the source, and the head is for the target; leave "
            "--calibrate out, or choose another --recipe."
        )
    if type(task).rated is Task.rated:
        raise ValueError(
            f"--calibrate: {task.name} has no logits that a temperature could divide; leave "
            "--calibrate out, or choose classification, multilabel or tagging."
        )
    if (count := data.count("validation")) < ENOUGH:
        raise ValueError(
            f"--calibrate needs at least {ENOUGH} validation examples to fit a temperature; there "
            f"are {count}. Give more examples or a larger share, such as "
            '--split="split(validation=20)", or leave --calibrate out.'
        )


def calibrated(model: TransferModel, data: Data) -> Temperature:
    """Divides the logits of a fitted model by their temperature, in place, and returns it.

    The validation split runs through the model once; of many examples, batches in even steps.
    """
    every = -(-data.count("validation") * len(data.classes) // _LOGITS) or 1
    logits, places, count = [], [], 0
    for inputs, target in data.batches("validation").shard(every, 0):
        outputs = model.full(inputs, training=False)
        found: tuple[Any, Any] = model.task.rated(np.asarray(target), np.asarray(outputs))
        logits.append(found[0])
        places.append(found[1])
        count += len(target)
    factor = best_factor(np.concatenate(logits), np.concatenate(places))
    if factor is None:
        return Temperature(None, count)
    layer = model.head.get_layer("logits")
    layer.set_weights([each * np.float32(factor) for each in layer.get_weights()])
    return Temperature(1 / factor, count)


def best_factor(logits: np.ndarray, places: np.ndarray) -> float | None:
    """Returns the factor above 0 of logits whose softmax has the least log loss.

    The loss is convex in the factor; Newton's method finds its minimum, and halves an interval that
    holds it where a step would leave that. None if there is no minimum: all logits of the right
    places are the largest, so more is always better, or a factor of 0 is as good as any.

    Args:
        logits: Of each row, [n, k].
        places: Of the right one, int [n].
    """
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(logits)), places]

    def slopes(factor: float) -> tuple[float, float]:
        """Returns the first and the second derivative of the mean loss."""
        powers = np.exp(factor * logits)
        shares = powers / powers.sum(axis=1, keepdims=True)
        means = (shares * logits).sum(axis=1)
        squares = (shares * np.square(logits)).sum(axis=1)
        return float((means - own).mean()), float((squares - np.square(means)).mean())

    if not own.any() or slopes(0.0)[0] >= 0:
        return None
    low, high, factor = 0.0, np.inf, 1.0
    for _ in range(_STEPS):
        slope, curve = slopes(factor)
        low, high = (factor, high) if slope < 0 else (low, factor)
        step = factor - slope / curve if curve else np.inf
        if not low < step < high:
            step = (low + high) / 2 if np.isfinite(high) else 2 * factor
        if abs(step - factor) <= 1e-9 * factor:
            return step
        factor = step
    return factor
