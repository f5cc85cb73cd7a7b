"""A profile: the time for reading pictures, for the frozen layers and for waits on input.

    python benchmarks/parts.py --data=IMAGES/flower_photos --weights=WEIGHTS

WEIGHTS holds the files ``MobileNetV2_*_notop``. Prints three tables. Times are the least of several
interleaved rounds, since other processes can only slow a round down.
"""

from __future__ import annotations

import argparse
import functools
import io
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlkeras.backbones.applications import MobileNetV2
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import tf, untuned
from tlkeras.images import decoding
from tlkeras.images.pixels import squash
from tlkeras.model import folding
from tlkeras.model.transfer_model import TransferModel, computing_in
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification
from tlkeras.training import features, schedule
from tlkeras.training.phase import Phase

SIZE = 160
BATCHES = (8, 16, 32, 64)
SIDES = (192, 640, 1920)  # Longer sides of the decoded pictures; smaller ones are enlarged.


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description="The time for reading, for frozen layers and for waits."
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    file = options.weights / f"MobileNetV2_{options.alpha}_224_notop.weights.h5"
    backbone = MobileNetV2(size=SIZE, alpha=options.alpha, weights=str(file))
    model = TransferModel(backbone, Classification(), ("a", "b"))
    forward(backbone, model, options.rounds)
    reduction(options.data, model, options.rounds)
    waiting(options.data, backbone, options.rounds)


def forward(backbone: MobileNetV2, model: TransferModel, rounds: int) -> None:
    """Prints the time of an image in the body, by form and batch size."""
    with computing_in("mixed_bfloat16"):
        narrow = TransferModel(backbone, Classification(), ("a", "b"))
    forms = {
        "as Keras runs it": lambda x: model.body(x, training=False),
        "norms folded": lambda x: folding.run(model.body, x),
        "norms folded, bfloat16": lambda x: folding.run(narrow.body, x),
    }
    pixels = tf.random.stateless_uniform([max(BATCHES), SIZE, SIZE, 3], [0, 0], 0.0, 255.0)
    calls: dict[Any, Callable[[], Any]] = {}
    for name, form in forms.items():
        run = tf.function(form, autograph=False)
        for size in BATCHES:
            calls[name, size] = lambda run=run, size=size: [
                run(pixels[i : i + size]).numpy() for i in range(0, max(BATCHES), size)
            ]
    took = least(calls, rounds)
    table(["ms an image", *(f"batch of {size}" for size in BATCHES), "features differ by"])
    expected = np.concatenate(calls["as Keras runs it", 32]())
    for name in forms:
        times = [f"{1e3 * took[name, size] / max(BATCHES):.2f}" for size in BATCHES]
        outputs = np.concatenate(calls[name, 32]()).astype(np.float32)
        row(name, *times, f"{np.linalg.norm(outputs - expected) / np.linalg.norm(expected):.1e}")


def reduction(folder: Path, model: TransferModel, rounds: int) -> None:
    """Prints the time to read and shrink a JPEG on a core, and the error of reduced decoding."""
    table(["longer side", "whole, ms", "reduced, ms", "pixels differ by", "features differ by"])
    paths = sorted(folder.rglob("*.jpg"))
    body = tf.function(lambda x: folding.run(model.body, x), autograph=False)
    for side in SIDES:
        encoded = [tf.constant(enlarged(path, side)) for path in paths[:: len(paths) // 24]]
        forms = {
            "whole": lambda jpeg: squash(decoding.picture(jpeg), SIZE),
            "reduced": lambda jpeg: squash(decoding.picture(jpeg, 4 * SIZE), SIZE),
        }
        runs = {name: tf.function(form, autograph=False) for name, form in forms.items()}
        calls = {
            name: lambda run=run, encoded=encoded: [run(jpeg) for jpeg in encoded]
            for name, run in runs.items()
        }
        took = least(calls, rounds)
        pixels = {name: tf.stack(call()) for name, call in calls.items()}
        outputs = {name: body(x).numpy() for name, x in pixels.items()}
        apart = np.abs(pixels["whole"] - pixels["reduced"]).mean()
        relative = np.linalg.norm(outputs["whole"] - outputs["reduced"])
        relative /= np.linalg.norm(outputs["whole"])
        times = [f"{1e3 * took[name] / len(encoded):.2f}" for name in forms]
        row(f"{side}", *times, f"{apart:.2f} of 255", f"{100 * relative:.1f} %")


def waiting(folder: Path, backbone: MobileNetV2, rounds: int) -> None:
    """Prints the fraction of an epoch that its steps wait, and the time of batches from memory.

    The wait for one batch, repeated, is the overhead of the iterator alone. On a processor, an
    epoch from memory saves more than the wait: reading and training share the cores.
    """
    columns = ["epoch, s", "steps wait", "for one batch again and again", "from memory, s", "more"]
    table(["trained from, input", *columns])
    with tempfile.TemporaryDirectory() as place:
        ingest.write_examples(
            Folder(folder), Split(test=0), Path(place) / "examples", say=lambda _: None
        )
        data = Data(Path(place) / "examples", backbone, Classification(), exact=False)
        model = TransferModel(backbone, Classification(), data.classes)
        taps = [features.Tap("train", block) for block in ("head", "block_12")]
        cached = features.at(model, data, taps, features.Cache(Path(place) / "features"), "float16")
        order, at_once = data.order("train", 0), schedule._STEPS_ON_FEATURES
        head, block = (functools.partial(cached[tap].batches, order) for tap in taps)
        decoded = functools.partial(data.shuffled, "train", 0)
        row("head, cached features", *shares(model, "head", head, at_once, rounds))
        row("block_12 on, cached features", *shares(model, "block_12", block, at_once, rounds))
        row("block_12 on, pictures", *shares(model, "block_12", decoded, 1, rounds))


def shares(
    model: TransferModel, start: str, batches: Callable[[], Any], at_once: int, rounds: int
) -> list[str]:
    """Returns the figures of `waiting` for training from a block on, `at_once` steps a call."""
    phase = Phase(epochs=1, unfreeze=() if start == "head" else start)
    model.train_only(model.chosen(phase.unfreeze))
    trained = schedule._behind_frozen(model, phase, start, "float16")
    optimizer = phase.compiled_optimizer(1)
    trained.compile(optimizer, model.task.loss(), steps_per_execution=at_once)
    fit = functools.partial(trained.fit, shuffle=False, verbose=0)
    memory = functools.partial(fit, batches().cache())
    took = least({"epoch": lambda: fit(batches()), "memory": memory}, rounds)
    fed = batches()
    same = untuned(tf.data.Dataset.from_tensors(next(iter(fed)))).repeat(len(fed))
    waits = [
        f"{100 * min(waited(trained, feed) for _ in range(rounds)):.1f} %"
        for feed in (batches, lambda: same)
    ]
    more = took["epoch"] / took["memory"] - 1
    times = [f"{took[name]:.2f}" for name in ("epoch", "memory")]
    return [times[0], *waits, times[1], f"{100 * more:.1f} %"]


def waited(trained: Any, batches: Callable[[], Any]) -> float:
    """Returns the fraction of an epoch that its steps, one a call, wait for their batches."""
    step = tf.function(trained.train_step, autograph=False)
    step(next(iter(batches())))  # Traced.
    waits, begin = 0.0, time.perf_counter()
    last = begin
    for batch in batches():  # The setup of the data set counts as a wait.
        waits += time.perf_counter() - last
        step(batch)
        last = time.perf_counter()
    end = time.perf_counter()
    return (waits + end - last) / (end - begin)


def enlarged(path: Path, side: int) -> bytes:
    """Returns a picture as a JPEG with at least this longer side."""
    image = Image.open(path).convert("RGB")
    factor = max(side / max(image.size), 1.0)
    shape = [round(length * factor) for length in image.size]
    buffer = io.BytesIO()
    image.resize(shape, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def least(calls: Mapping[Any, Callable[[], Any]], rounds: int) -> dict[Any, float]:
    """Returns the least seconds of every call."""
    took: dict[Any, float] = {}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            took[name] = min(took.get(name, np.inf), time.perf_counter() - start)
    return took


def table(columns: Iterable[str]) -> None:
    """Prints the head of a Markdown table."""
    columns = list(columns)
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)


def row(*cells: str) -> None:
    """Prints a row of the table."""
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
