"""InfraValidator: every export is loaded in a fresh process and judged on the test split.

It judges; that nothing is pushed where it found a reason is the pusher's.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline.step import NotBlessed, Step
from pipeline.steps import evaluator
from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.data import records
from tlkeras.data.batches import Data
from tlkeras.data.records import Records
from tlkeras.exporter import Exporter
from tlkeras.images import decoding
from tlkeras.task import Task

TIMED = 50  # Pictures timed one at a time, after five to warm up.
CALLED = 32  # Test examples on which every endpoint is called.
THREADS = (1, 2)

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
    max_accuracy_drop: float | None,
) -> None:
    """Measures every export, as it lies there, against what Keras served for the same examples.

    ``infra.json`` holds, per export: its primary measure, the largest difference from Keras, the
    share of equal best classes, bytes, the time of one picture on one thread and on two, what the
    format tells of itself, and the ``reasons`` for which it must not be pushed, if there are any.
    """
    measures = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
    data = Data(examples, backbone, task)
    _require_labels(exports / "labels.txt", data.classes)
    rows = []
    for exporter in exporters:
        arguments = (exporter.full(), exports, examples, backbone.full(), task.full())
        row, picture = _fresh(_judged, *arguments, measures["split"], evaluation / "served")
        for threads in THREADS:
            timed = _fresh(_timed, exporter.full(), exports, picture, threads)
            suffix = "" if threads == 1 else f"_{threads}_threads"
            row |= {f"{name}_ms{suffix}": value for name, value in timed.items()}
        may = exporter.max_drop if max_accuracy_drop is None else max_accuracy_drop
        row["reasons"] = _reasons(exporter, row, measures[task.primary], may)
        rows.append(row)
    (out / "infra.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
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
    """Returns what a function of an exporter gives in a new process, on the processor.

    So nothing of the process that wrote the export is left in memory, and a crash is told.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_without_gpus) as pool:
        try:
            return pool.submit(function, exporter, *arguments).result()
        except BrokenProcessPool:
            raise NotBlessed(f"The process that loaded {exporter} crashed.") from None


def _without_gpus() -> None:
    """Keeps TensorFlow from the GPUs: the parent holds their memory; times are of a processor."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def _reasons(exporter: Exporter, row: dict[str, Any], keras: float, may: float) -> list[str]:
    """Returns why an export must not be pushed; written so that not a number is a reason, too."""
    found = []
    if not row["difference"] <= exporter.tolerance:
        found.append(
            f"differs from Keras by {row['difference']:.2e}, more than the "
            f"{exporter.tolerance:.2e} that it may"
        )
    lost = 100 * (keras - row["value"])
    if not lost <= may + 100 * evaluator.ROUNDING:
        found.append(
            f"has {row['primary']} {row['value']:.4f}, {lost:.1f} points below the {keras:.4f} of "
            f"Keras, more than the {may:g} that it may lose (--max_accuracy_drop)"
        )
    return found


def _judged(
    exporter_text: str,
    exports: Path,
    examples: Path,
    backbone_text: str,
    task_text: str,
    split: str,
    kept: Path,
) -> tuple[dict[str, Any], Any]:
    """Returns the row of one export, and one picture to time it with."""
    exporter = spec.parse(exporter_text, Exporter)
    backbone = spec.parse(backbone_text, Backbone)
    task = spec.parse(task_text, Task)
    data = Data(examples, backbone, task)
    predict = exporter.load(exports)
    expected = {path.stem: np.load(path, mmap_mode="r") for path in kept.glob("*.npy")}
    differences, equal = [0.0], []

    def batches() -> Iterator[tuple[Any, Any]]:
        start = 0
        for inputs, target in data.batches(split).as_numpy_iterator():
            served = predict(inputs)
            for name, array in expected.items():
                wanted = array[start : start + len(inputs)]
                if wanted.shape != served[name].shape:
                    raise ValueError(f"{name!r} of {served[name].shape}, not {wanted.shape}.")
                differences.append(float(np.abs(wanted - served[name]).max()))
                equal.extend(wanted.argmax(-1) == served[name].argmax(-1))
            start += len(next(iter(served.values())))
            yield target, served

    try:
        measures = task.measure(batches(), data.classes)
    except ValueError as error:
        raise NotBlessed(f"{exporter} serves what cannot be measured: {error}") from None
    differences += _endpoint_differences(exporter, exports, data, split, expected)
    files = [path for name in exporter.files() for path in _files(exports / name)]
    row = {
        "export": str(exporter),
        "files": list(exporter.files()),
        "bytes": sum(path.stat().st_size for path in files),
        "primary": task.primary,
        "value": measures[task.primary],
        "difference": float(np.max(differences)),
        "agreement": float(np.mean(equal)),
        **exporter.facts(exports),
    }
    return row, next(iter(data.singles(split).batch(1).take(1))).numpy()


def _endpoint_differences(
    exporter: Exporter, exports: Path, data: Data, split: str, expected: dict[str, Any]
) -> list[float]:
    """Returns how far what clients get for the first examples is from what Keras served."""
    rows = Records(data.folder, split)
    found = []
    for name, call in exporter.endpoints(exports).items():
        for i, row in enumerate(rows.read(range(min(CALLED, len(rows))))):
            (encoded,) = records.values(row)["image"]
            served = call(decoding.picture(encoded).numpy(), encoded)
            for output, array in expected.items():
                if not served[output].shape == (1, *array.shape[1:]):
                    raise ValueError(f"{exporter} serves {output!r} at {name} in another shape.")
                found.append(float(np.abs(array[i] - served[output][0]).max()))
    return found


def _timed(exporter_text: str, exports: Path, inputs: Any, threads: int) -> dict[str, float]:
    """Returns the median and the 95th percentile, in milliseconds, of one picture at a time."""
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
