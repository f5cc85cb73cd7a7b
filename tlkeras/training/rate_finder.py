"""RateFinder: the learning rate of a phase from one sweep over growing rates.

The sweep of Smith 2017, "Cyclical learning rates for training neural networks"
(https://arxiv.org/abs/1506.01186): every step has a larger rate than the step before, and the loss
of its batch is noted. The rule is nearly that of Gugger 2018
(https://sgugger.github.io/how-do-you-find-a-good-learning-rate.html), a tenth of the rate at which
the smoothed loss is least: of the rates whose loss is the least but for noise, the largest counts.
The loss of a network that is nearly fitted would else be least anywhere.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tlkeras import files, hardware
from tlkeras.frameworks import keras, tf
from tlkeras.training import loop

FILE = "lr_find.json"

LOW, HIGH = 1e-6, 10.0
STEPS = 100

# The weight of the past in the smoothed loss. Gugger's 0.98 is for thousands of steps.
_PAST = 0.9

# A smoothed loss so many times the least one has diverged.
_DIVERGED = 4.0

# From the median distance of a loss to its smoothed one to four deviations of the smoothed losses
# of normal noise, as the least of many is two below their mean, and another may be two above.
# 1.4826 is for single losses, and the mean of a geometric past has less.
_NOISE = 4 * 1.4826 * math.sqrt((1 - _PAST) / (1 + _PAST))


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The steps of a sweep: rates, losses of single batches, and the same smoothed."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]

    @property
    def suggestion(self) -> float:
        """A tenth of the largest rate with the least smoothed loss but for noise; three digits."""
        pairs = zip(self.losses, self.smoothed, strict=True)
        noise = _NOISE * statistics.median(abs(loss - mean) for loss, mean in pairs)
        place = min(range(len(self.rates)), key=self.smoothed.__getitem__)
        bound = self.smoothed[place] + noise
        behind = zip(self.rates[place:], self.smoothed[place:], strict=True)
        *_, (largest, _) = itertools.takewhile(lambda pair: pair[1] <= bound, behind)
        return float(f"{largest / 10:.2e}")


def found(
    trained: Any,
    compiled: Callable[[Any, int], None],
    train: Callable[[int], Any],
    constant: Any,
    *,
    first: int,
    seed: int,
    folder: Path,
) -> Sweep:
    """Returns the sweep of a phase, read from its folder if it is there.

    Weights, data order and everything random are afterwards as before.

    Args:
        trained: A model from `trainable`.
        compiled: Compiles the model with a new optimizer of a phase, for a number of steps at once.
        train: Returns the batches of an epoch.
        constant: The phase, of a constant rate.
        first: The epoch whose batches are used, over and over if they are few.
        seed: Decides dropout, together with the epoch.
        folder: The folder of the phase's progress.

    Raises:
        ValueError: Not even the loss of the first batch is finite.
    """
    path = folder / FILE
    if not path.exists():
        compiled(constant, 1)
        sweep = swept(trained, _repeated(train(first)), first=first, seed=seed)
        hardware.meet(f"a sweep that suggests {sweep.suggestion}")
        if hardware.is_chief():
            folder.mkdir(parents=True, exist_ok=True)
            files.write_json(path, dataclasses.asdict(sweep))
        hardware.meet(f"{folder.name} with {FILE}")
    sweep = read(path)
    print(f"  a sweep suggests the learning rate {sweep.suggestion:g}")
    return sweep


def read(path: Path) -> Sweep:
    """Returns a sweep from its file."""
    return Sweep(**{name: tuple(values) for name, values in files.read_json(path).items()})


def swept(trained: Any, batches: Any, *, first: int, seed: int) -> Sweep:
    """Returns the sweep of a compiled model over `STEPS` batches.

    Its weights stay as they are, also where the sweep breaks off.
    """
    # Made in the first step, they fail on several replicas with the gradients of embeddings.
    with hardware.scope():
        trained.optimizer.build(trained.trainable_variables)
    before = [(each, keras.ops.convert_to_numpy(each)) for each in trained.variables]
    rates: list[float] = []
    losses: list[float] = []

    def begin(step: int, logs: Any = None) -> None:
        trained.reset_metrics()  # Else the loss would be the mean of all steps so far.
        trained.optimizer.learning_rate = rate(step)

    def end(step: int, logs: Any = None) -> None:
        loss = float(logs["loss"])
        if math.isfinite(loss):
            rates.append(rate(step))
            losses.append(loss)
        means = smoothed(losses)
        trained.stop_training = not math.isfinite(loss) or means[-1] > _DIVERGED * abs(min(means))

    loop.reseed(trained, seed, first)
    watch = keras.callbacks.LambdaCallback(on_train_batch_begin=begin, on_train_batch_end=end)
    try:
        trained.fit(batches, epochs=1, verbose=0, shuffle=False, callbacks=[watch])
    finally:
        for variable, value in before:
            variable.assign(value)
    if not losses:
        raise ValueError(
            f"The loss is not finite at a learning rate of {LOW}, so no sweep can find a better "
            "one; look at the data, or set learning_rate."
        )
    return Sweep(tuple(rates), tuple(losses), tuple(smoothed(losses)))


def _repeated(batches: Any) -> Any:
    """Returns the batches of epochs one after the other, `STEPS` in all.

    A worker without rows of the last batch has an empty one: all begin an epoch at the same step.
    """
    own = int(batches.cardinality())
    if own < max(hardware.gathered(own)):
        empty = keras.tree.map_structure(_empty, batches.element_spec)
        batches = batches.concatenate(tf.data.Dataset.from_tensors(empty))
    return batches.repeat().take(STEPS)


def _empty(spec: Any) -> Any:
    """Returns a tensor of no rows, with size 1 for unknown dimensions."""
    return tf.zeros([0, *(size or 1 for size in spec.shape[1:])], spec.dtype)


def rate(step: int) -> float:
    """Returns the rate of a step; each is the same factor above the one before."""
    return LOW * (HIGH / LOW) ** (step / (STEPS - 1))


def smoothed(losses: Sequence[float]) -> list[float]:
    """Returns exponential means of the losses so far, free of the bias towards 0."""
    mean, means = 0.0, []
    for place, loss in enumerate(losses, start=1):
        mean = _PAST * mean + (1 - _PAST) * loss
        means.append(mean / (1 - _PAST**place))
    return means
