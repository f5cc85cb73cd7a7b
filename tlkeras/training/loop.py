"""The epoch loop: best weights, patience, and a resume that equals an unbroken run.

Every epoch is one `fit`. Keras's `EarlyStopping`, `ModelCheckpoint` and `BackupAndRestore` do not
know each other's state, so patience and best weights would start anew after a kill.

Every worker runs the loop with its share of the batches; the chief writes the checkpoints, and all
read them.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import files, hardware
from tlkeras.frameworks import keras

Logs = dict[str, float]


class Diverged(ValueError):
    """The loss of an epoch, or every head of a solution, is not finite."""


@dataclasses.dataclass(frozen=True)
class State:
    """The progress of a fit; on disk, ``state.json``.

    `best` is the score of the best weights, smaller is better: the negative first metric, then the
    loss, both of the validation data. `best_epoch` is 0 while the initial weights are the best.
    """

    epoch: int = 0
    best: tuple[float, ...] = (math.inf,)
    best_epoch: int = 0
    stopped: bool = False
    history: tuple[Logs, ...] = ()


def fit(
    model: keras.Model,
    train: Callable[[int], Any],
    validation: Any,
    *,
    metric: str | None,
    start: State,
    first: int,
    epochs: int,
    patience: int,
    seed: int,
    folder: Path,
    callbacks: Sequence[Any] = (),
) -> State:
    """Fits a compiled model and leaves it with its best weights, perhaps the initial ones.

    The best weights have the largest validation metric, then the smallest validation loss; without
    validation data, the last weights are the best.

    Args:
        model: A compiled model; for several replicas, one from `trainable`. A resume needs the same
            initial weights.
        train: Returns the batches of an epoch; epochs count from `first`.
        validation: Batches, or None.
        metric: The name of a metric, larger is better; None uses the loss alone.
        start: The state of an earlier fit of these weights, with the score to beat.
        first: The number of epochs of earlier fits.
        epochs: The maximal number of epochs.
        patience: The number of epochs without improvement before a stop; 0 never stops early.
        seed: Decides dropout, together with the epoch.
        folder: The folder of checkpoints and state. A call after a kill resumes from it.
        callbacks: Keras callbacks; every epoch is a `fit` of its own to them, and one that sets
            ``stop_training`` ends this fit.

    Raises:
        Diverged: The loss is not finite; the model is as after the last finished epoch.
        ValueError: Keras ran no epoch.
    """
    state = resumed(model, folder)
    hardware.meet(f"{folder.name} with seed {seed} from epoch {state.epoch if state else 0} on")
    if state is None:
        state = State(best=start.best)
        _save(model, state, folder)
    while state.epoch < epochs and not _is_over(state, patience):
        reseed(model, seed, first + state.epoch)
        began = time.perf_counter()
        verbose: Any = 1 if sys.stderr.isatty() else 0
        fitted = model.fit(
            train(first + state.epoch),
            validation_data=validation,
            initial_epoch=state.epoch,
            epochs=state.epoch + 1,
            shuffle=False,  # The order is the data's.
            verbose=verbose,
            callbacks=list(callbacks),
        )
        if not fitted.epoch:
            raise ValueError(
                f"Keras ran no epoch {state.epoch + 1}; raise its limit, by "
                "keras.config.set_max_epochs or the variable KERAS_MAX_EPOCHS."
            )
        # A History among the callbacks replaces the model's own and also has older epochs.
        logs = {name: float(values[-1]) for name, values in fitted.history.items()}
        if not math.isfinite(logs["loss"]):
            _load(model, _weights(folder, state.epoch))
            raise Diverged(
                f"The loss is {logs['loss']} in epoch {state.epoch + 1}; "
                "use a smaller learning_rate, or clip=1.0."
            )
        score = scored(logs, metric, first + state.epoch)
        is_better = score < state.best
        state = State(
            epoch=state.epoch + 1,
            best=score if is_better else state.best,
            best_epoch=state.epoch + 1 if is_better else state.best_epoch,
            stopped=model.stop_training,
            history=(*state.history, logs),
        )
        _save(model, state, folder)
        _say(state, epochs, time.perf_counter() - began)
    if state.best_epoch != state.epoch:
        _load(model, _weights(folder, state.best_epoch))
    hardware.meet(f"{folder.name} with its best weights")  # Now the chief may remove the folder.
    return state


def require(callbacks: Sequence[Any]) -> None:
    """Raises ValueError if a callback restores weights and epochs of its own."""
    if any(isinstance(each, keras.callbacks.BackupAndRestore) for each in callbacks):
        # It also leaves its epoch in the model, and all later fits begin there (Keras 3.15.1).
        raise ValueError(
            "BackupAndRestore would restore other weights and epochs than those in the folder of "
            "the fit. Leave it out: called again with the same folder, a fit resumes by itself."
        )


def is_finished(folder: Path, epochs: int, patience: int) -> bool:
    """Returns whether the fit in this folder is complete."""
    state = _read(folder)
    return state is not None and (state.epoch >= epochs or _is_over(state, patience))


def finished(folder: Path) -> int:
    """Returns the number of finished epochs of all phases in the folder of a recipe's progress."""
    return sum(files.read_json(path)["epoch"] for path in folder.glob("phase*/state.json"))


def _is_over(state: State, patience: int) -> bool:
    """Returns whether a callback has stopped the training, or patience has run out."""
    return state.stopped or 0 < patience <= state.epoch - state.best_epoch


def scored(logs: Logs, metric: str | None, epoch: int) -> tuple[float, ...]:
    """Returns the score of an epoch, smaller is better; without validation the last is the best."""
    if "val_loss" not in logs:
        return (-float(epoch),)
    return (*([-logs[f"val_{metric}"]] if metric else []), logs["val_loss"])


def reseed(model: keras.Model, seed: int, epoch: int) -> None:
    """Sets the seed state of every dropout from seed and epoch; checkpoints do not include it."""
    states = [each for each in model.variables if each.name == "seed_generator_state"]
    for place, state in enumerate(states):
        # Every step adds 1 to the second number; no two states ever coincide.
        state.assign([seed * 65_537 + epoch, place << 20])


def as_text(logs: Logs) -> str:
    """Returns logs as they are printed."""
    return "  ".join(f"{name} {value:.4f}" for name, value in logs.items())


def _say(state: State, epochs: int, seconds: float) -> None:
    shown = as_text(state.history[-1])
    left = (epochs - state.epoch) * seconds
    print(f"  epoch {state.epoch}/{epochs}  {shown}  {seconds:.1f} s, {left:.0f} s left")


def _weights(folder: Path, epoch: int) -> Path:
    return folder / f"epoch{epoch:04d}.npz"


def _save(model: keras.Model, state: State, folder: Path) -> None:
    if hardware.is_chief():
        write(model, state, folder)
    # No worker continues before the write, or after an epoch with other results.
    hardware.meet(f"{folder.name} with {state}")


def write(model: keras.Model, state: State, folder: Path) -> None:
    """Writes the weights, then the state as the commit point, then removes stale checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    # A third to a seventh of the time of `save_weights`: HDF5 is slow with many small arrays. NumPy
    # copies one variable at a time.
    np.savez(_weights(folder, state.epoch), **_variables(model))
    files.write_json(folder / "state.json", dataclasses.asdict(state))
    current = {_weights(folder, state.epoch), _weights(folder, state.best_epoch)}
    for path in folder.glob("epoch*.npz"):
        if path not in current:
            path.unlink()


def _load(model: keras.Model, path: Path) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        for name, variable in _variables(model).items():
            variable.assign(arrays[name])


def _variables(model: keras.Model) -> dict[str, Any]:
    """Returns what a checkpoint holds, weights and the optimizer's state, by place.

    Names differ in a resumed fit: Keras numbers the layers of a process.
    """
    variables = [*model.weights, *model.optimizer.variables]
    return {str(place): variable for place, variable in enumerate(variables)}


def resumed(model: keras.Model, folder: Path) -> State | None:
    """Loads the weights of the last finished epoch, and returns the state, if there is one."""
    # A checkpoint saves and restores only slots that exist already.
    with hardware.scope():
        model.optimizer.build(model.trainable_variables)
    if state := _read(folder):
        _load(model, _weights(folder, state.epoch))
    return state


def _read(folder: Path) -> State | None:
    path = folder / "state.json"
    if not path.exists():
        return None
    saved = files.read_json(path)
    return State(**{**saved, "best": tuple(saved["best"]), "history": tuple(saved["history"])})
