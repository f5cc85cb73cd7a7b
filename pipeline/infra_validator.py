"""InfraValidator: every export is loaded in a fresh process and judged on the test split."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import flags
from pipeline.core import NotBlessed, Step
from tlkeras import examples as records
from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.data import Data
from tlkeras.exporter import Exporter
from tlkeras.task import Task

TIMED = 50  # Pictures timed one at a time, after five to warm up.
CALLED = 32  # Test examples on which every endpoint is called.


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
) -> None:
    """Measures every export, as it lies there, against what Keras served for the same examples.

    ``infra.json`` holds, per export: its primary measure, the largest difference from Keras, the
    share of equal best classes, bytes, and the time of one picture.
    """
    split = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))["split"]
    data = Data(examples, backbone, task)
    rows = []
    for exporter in exporters:
        arguments = (exporter.full(), exports, examples, backbone.full(), task.full(), split)
        # Spawned, so that nothing of the process that wrote the export is left in memory.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
            try:
                row = pool.submit(_judged, *arguments, evaluation / "served").result()
            except BrokenProcessPool:
                raise NotBlessed(f"The process that loaded {exporter} crashed.") from None
        rows.append(row)
        if not row["difference"] <= exporter.tolerance:  # Not a number is no agreement.
            raise NotBlessed(
                f"{exporter} differs from Keras by {row['difference']:.2e}, "
                f"more than the {exporter.tolerance:.2e} that it may."
            )
    (out / "infra.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
    print(f"  {len(rows)} exports agree with Keras on {data.count(split)} {split} examples")


def _judged(
    exporter_text: str,
    exports: Path,
    examples: Path,
    backbone_text: str,
    task_text: str,
    split: str,
    kept: Path,
) -> dict[str, Any]:
    """Returns the row of one export; runs in a process of its own."""
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
                    raise ValueError(
                        f"{exporter} serves {name!r} of shape {served[name].shape}, "
                        f"expected {wanted.shape}."
                    )
                differences.append(float(np.abs(wanted - served[name]).max()))
                equal.extend(wanted.argmax(-1) == served[name].argmax(-1))
            start += len(next(iter(served.values())))
            yield target, served

    measures = task.measure(batches(), data.classes)
    differences += _endpoint_differences(exporter, exports, data, split, expected)
    files = [path for name in exporter.files() for path in _files(exports / name)]
    return {
        "export": str(exporter),
        "files": list(exporter.files()),
        "bytes": sum(path.stat().st_size for path in files),
        "primary": task.primary,
        "value": measures[task.primary],
        "difference": float(np.max(differences)),
        "agreement": float(np.mean(equal)),
        **_latency(predict, data, split),
    }


def _endpoint_differences(
    exporter: Exporter, exports: Path, data: Data, split: str, expected: dict[str, Any]
) -> list[float]:
    """Returns how far what clients get for the first examples is from what Keras served."""
    rows = records.Records(data.folder, split)
    found = []
    for name, call in exporter.endpoints(exports).items():
        for i, row in enumerate(rows.read(range(min(CALLED, len(rows))))):
            (encoded,) = records.values(row)["image"]
            served = call(records.picture(encoded).numpy(), encoded)
            for output, array in expected.items():
                if not served[output].shape == (1, *array.shape[1:]):
                    raise ValueError(f"{exporter} serves {output!r} at {name} in another shape.")
                found.append(float(np.abs(array[i] - served[output][0]).max()))
    return found


def _latency(predict: Any, data: Data, split: str) -> dict[str, float]:
    """Returns the median and the 95th percentile, in milliseconds, of one picture at a time."""
    inputs = next(iter(data.singles(split).batch(1).take(1))).numpy()
    seconds = []
    for _ in range(TIMED + 5):
        start = time.perf_counter()
        predict(inputs)
        seconds.append(time.perf_counter() - start)
    p50, p95 = np.percentile(seconds[5:], [50, 95])
    return {"p50_ms": 1e3 * float(p50), "p95_ms": 1e3 * float(p95)}


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]


if __name__ == "__main__":
    flags.run_alone(infra_blessing)
