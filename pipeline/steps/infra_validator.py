"""InfraValidator: loads every export in a fresh process and judges it on the test split.

It judges alone: the pusher pushes nothing where it found a reason.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline.step import NotBlessed, Step
from pipeline.steps import evaluator
from tlkeras import files, spec
from tlkeras.backbone import Backbone
from tlkeras.data import records
from tlkeras.data.batches import Data
from tlkeras.data.records import Records
from tlkeras.exporter import Exporter
from tlkeras.measures import measures
from tlkeras.measures.measures import Scalar
from tlkeras.task import Task

TIMED = 50  # Examples timed one at a time, after five to warm up.
CALLED = 32  # Test examples on which every endpoint is called.
THREADS = (1, 2)

# Elsewhere the libraries of the system forbid it.
_START = "forkserver" if sys.platform == "linux" else "spawn"

T = TypeVar("T")


@Step
def infra_blessing(
    out: Path,
    *,
    exports: Path,
    examples: Path,
    evaluation: Path,
    backbone: Backbone,
    task: Task,
    exporters: tuple[Exporter, ...],
    max_export_drop: float | None,
) -> None:
    """Compares the files of every export with what Keras served for the same examples.

    ``infra.json`` holds a row for each: its primary measure, the largest difference from Keras, the
    share of equal answers, bytes, the time of one example on one thread and on two, the facts of
    its format, and the ``reasons`` against a push, if there are any.
    """
    found = measures.read(evaluation)
    data = Data(examples, backbone, task)
    _require_labels(exports / "labels.txt", data.classes)
    rows = []
    for exporter in exporters:
        arguments = (exporter.full(), exports, examples, backbone.full(), task.full())
        row, inputs = _fresh(_judged, *arguments, found.split, evaluation / "served")
        for threads in THREADS:
            timed = _fresh(_timed, exporter.full(), exports, inputs, threads)
            suffix = "" if threads == 1 else f"_{threads}_threads"
            row |= {f"{name}_ms{suffix}": value for name, value in timed.items()}
        allowed = exporter.max_drop if max_export_drop is None else max_export_drop
        row["reasons"] = _reasons(exporter, row, found.score, allowed)
        rows.append(row)
    files.write_json(out / "infra.json", rows)
    bad = sum(bool(row["reasons"]) for row in rows)
    print(f"  {len(rows) - bad} of {len(rows)} exports are as good as Keras, or nearly")


def _require_labels(path: Path, classes: tuple[str, ...]) -> None:
    labels = path.read_text(encoding="utf-8").splitlines()
    if tuple(labels) != classes:
        raise ValueError(
            f"{path} names {len(labels)} classes, {', '.join(labels[:5])} …; the examples have "
            f"{len(classes)}, {', '.join(classes[:5])} …. Export the model that was fitted to them."
        )


def _fresh(function: Callable[..., T], exporter: str, *arguments: Any) -> T:
    """Returns what a function of an exporter returns in a new process, on the processor.

    So nothing of the process that wrote the export is left in memory, and a crash is a message. The
    libraries are imported once, by a server that runs nothing and from which the processes fork.
    """
    context = multiprocessing.get_context(_START)
    if _START == "forkserver":
        context.set_forkserver_preload(["tensorflow", __name__])
    with ProcessPoolExecutor(1, context, initializer=_without_gpus) as pool:
        try:
            return pool.submit(function, exporter, *arguments).result()
        except BrokenProcessPool:
            raise NotBlessed(f"The process that loaded {exporter} crashed.") from None


def _without_gpus() -> None:
    """Hides the GPUs: the parent process holds their memory, and times are of a processor."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def _reasons(
    exporter: Exporter, row: Mapping[str, Any], keras: Scalar, allowed: float
) -> list[str]:
    """Returns the reasons against a push; the comparisons are such that NaN is one, too."""
    reasons = []
    if not row["difference"] <= exporter.tolerance:
        reasons.append(
            f"differs from Keras by {row['difference']:.2e}, more than its tolerance of "
            f"{exporter.tolerance:.2e}"
        )
    lost = Scalar(row["value"], more_is_better=keras.more_is_better).lost(keras)
    if not lost <= allowed + evaluator.ROUNDING:
        reasons.append(
            f"has {row['primary']} {row['value']:.4f}, worse than the {keras.value:.4f} of Keras "
            f"by {lost:.4f}, more than the allowed {allowed:.4f} (--max_export_drop)"
        )
    return reasons


def _judged(
    exporter_text: str,
    exports: Path,
    examples: Path,
    backbone_text: str,
    task_text: str,
    split: str,
    kept: Path,
) -> tuple[dict[str, Any], Any]:
    """Returns the row of one export, and the inputs of one example to time it with."""
    exporter = spec.parse(exporter_text, Exporter)
    backbone = spec.parse(backbone_text, Backbone)
    task = spec.parse(task_text, Task)
    data = Data(examples, backbone, task)
    predict = exporter.load(exports)
    every = {path.stem: np.load(path, mmap_mode="r") for path in kept.glob("*.npy")}
    expected = {name: every[name] for name in exporter.serves or every}
    tally, first = task.tally(data.classes), 0
    differences, agreement = [0.0], []
    try:
        for inputs, target in data.batches(split).as_numpy_iterator():
            served = predict(inputs)
            count = evaluator.count(target)
            wanted = {name: array[first : first + count] for name, array in expected.items()}
            found = _kept(task, served, wanted)
            differences += _differences(wanted, found)
            agreement.extend(task.agree(wanted, found))
            # What a part of a network does not serve is as Keras served it.
            others = {name: every[name][first : first + count] for name in every.keys() - expected}
            tally.add(target, {**others, **served}, first)
            first += count
        value = tally.measures().score.value
    except ValueError as error:
        raise NotBlessed(f"{exporter} serves outputs that cannot be measured: {error}") from None
    differences += _endpoint_differences(exporter, exports, data, split, expected)
    files = [path for name in exporter.files() for path in _files(exports / name)]
    row = {
        "export": str(exporter),
        "files": list(exporter.files()),
        "bytes": sum(path.stat().st_size for path in files),
        "primary": task.primary,
        "value": value,
        "difference": float(np.max(differences)),
        "agreement": float(np.mean(agreement)),
        **exporter.facts(exports),
    }
    return row, next(data.singles(split).batch(1).take(1).as_numpy_iterator())


def _kept(
    task: Task, served: Mapping[str, Any], wanted: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the kept part of a served batch.

    Raises:
        ValueError: An array of it is missing or of another shape than the wanted one.
    """
    found = task.kept(served)
    for name, array in wanted.items():
        shape = np.shape(found[name]) if name in found else None
        if shape != array.shape:
            raise ValueError(f"{name!r} has shape {shape}, expected {array.shape}.")
    return found


def _differences(
    wanted: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]
) -> Iterator[float]:
    """Yields the largest difference of each array of numbers with a fraction.

    Where numbers are larger than 1, it is a part of the largest: float32 has seven digits.
    """
    for name, array in wanted.items():
        if array.dtype.kind == "f":
            largest = max(1.0, float(np.abs(array).max(initial=0.0)))
            yield float(np.abs(array - found[name]).max(initial=0.0)) / largest


def _endpoint_differences(
    exporter: Exporter,
    exports: Path,
    data: Data,
    split: str,
    expected: Mapping[str, np.ndarray],
) -> list[float]:
    """Returns the differences of what clients get for the first examples from Keras."""
    kinds = data.backbone.raw()
    rows = Records(data.folder, split)
    examples = [records.values(row, kinds)[1] for row in rows.between(0, CALLED)]
    differences = []
    for name, call in exporter.endpoints(exports, kinds).items():
        for i, values in enumerate(examples):
            wanted = {output: array[i : i + 1] for output, array in expected.items()}
            try:
                found = _kept(data.task, call(values), wanted)
            except ValueError as error:
                raise NotBlessed(f"{exporter} serves other outputs at {name}: {error}") from None
            differences += _differences(wanted, found)
    return differences


def _timed(exporter_text: str, exports: Path, inputs: Any, threads: int) -> dict[str, float]:
    """Returns the median and the 95th percentile, in milliseconds, of one example at a time."""
    predict = spec.parse(exporter_text, Exporter).load_on(exports, threads)
    seconds = []
    for _ in range(TIMED + 5):
        start = time.perf_counter()
        predict(inputs)
        seconds.append(time.perf_counter() - start)
    p50, p95 = np.percentile(seconds[5:], [50, 95])
    return {"p50": 1e3 * float(p50), "p95": 1e3 * float(p95)}


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]
