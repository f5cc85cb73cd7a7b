"""InfraValidator: loads every export in fresh processes and judges it on the test split.

It judges alone: the pusher pushes nothing where it found a reason.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import fresh
from pipeline.step import NotBlessed, Step
from pipeline.steps import evaluator
from tlkeras import files
from tlkeras.backbone import Backbone
from tlkeras.data import records
from tlkeras.data.batches import Data
from tlkeras.data.records import Records
from tlkeras.exporter import Exporter
from tlkeras.measures import measures
from tlkeras.measures.measures import ROUNDING, Scalar, decimals
from tlkeras.task import Task

CALLED = 16  # Test examples on which every endpoint is called.
AHEAD = 4  # Batches in memory, so that no export waits for a slower one.
THREADS = (1, 2)


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
    batch_size: int,
) -> None:
    """Compares the files of every export with what Keras served for the same examples.

    ``infra.json`` holds a row for each: its primary measure, the largest difference from Keras, the
    share of equal answers, bytes, the time of one example on one thread and on two (see
    `fresh.Loaded.timed`), the facts of its format, and the ``reasons`` against a push, if there are
    any.

    Every export is loaded in a fresh process for each number of threads. This process prepares the
    examples, once for all of them.
    """
    fresh.start()
    found = measures.read(evaluation)
    data = evaluator.measured_on(examples, backbone, task, batch_size)
    _require_labels(exports / "labels.txt", data.classes)
    with contextlib.ExitStack() as stack:
        loaded = {
            exporter: [stack.enter_context(fresh.Loaded(exporter, exports, n)) for n in THREADS]
            for exporter in exporters
        }
        judged = [
            _Judged(exporter, exports, processes, data, evaluation / "served")
            for exporter, processes in loaded.items()
        ]
        _judge(judged, data, found.split)
        rows = [one.row() for one in judged]
        # Only now, so that no other process takes part of the time.
        inputs = next(data.singles(found.split).batch(1).take(1).as_numpy_iterator())
        for row, processes in zip(rows, loaded.values(), strict=True):
            for threads, process in zip(THREADS, processes, strict=True):
                suffix = "" if threads == 1 else f"_{threads}_threads"
                timed = process.timed(inputs)
                row |= {f"{name}{suffix}": value for name, value in timed.items()}
    for exporter, row in zip(exporters, rows, strict=True):
        allowed = exporter.max_drop if max_export_drop is None else max_export_drop
        row["reasons"] = _reasons(exporter, row, found.score, allowed)
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
    if not lost <= allowed + ROUNDING:
        reasons.append(
            f"has {row['primary']} {decimals(row['value'])}, worse than the "
            f"{decimals(keras.value)} of Keras by {lost:.4f}, more than the allowed {allowed:.4f} "
            "(--max_export_drop)"
        )
    return reasons


class _Judged:
    """One export, judged batch by batch."""

    def __init__(
        self,
        exporter: Exporter,
        exports: Path,
        processes: Sequence[fresh.Loaded],
        data: Data,
        kept: Path,
    ) -> None:
        """Begins with no example; `kept` holds what Keras served for all of them."""
        self._exporter, self._exports, self._data = exporter, exports, data
        # Calls of the endpoints, one example at a time, run beside the batches.
        self.endpoints, self.process = processes[0], processes[-1]
        self._every = {path.stem: np.load(path, mmap_mode="r") for path in kept.glob("*.npy")}
        names = exporter.serves or self._every
        self._expected = {name: self._every[name] for name in names}
        vectors = {output.name for output in data.task.outputs() if output.meaning == "vector"}
        self._scales = {name: _scale(self._every[name], name in vectors) for name in names}
        self._tally = data.task.tally(data.classes)
        self._differences, self._agreement = [0.0], []

    def add(self, target: Any, served: Mapping[str, Any], first: int) -> None:
        """Adds what the export served for a batch."""
        task, last = self._data.task, first + evaluator.count(target)
        wanted = {name: array[first:last] for name, array in self._expected.items()}
        # What a part of a network does not serve is as Keras served it.
        others = {
            name: array[first:last]
            for name, array in self._every.items()
            if name not in self._expected
        }
        try:
            found = _kept(task, served, wanted)
            self._differences += _differences(wanted, found, self._scales)
            self._agreement.extend(task.agree(wanted, found))
            self._tally.add(target, {**others, **served}, first)
        except ValueError as error:
            raise self._unmeasured(error) from None

    def add_calls(self, endpoint: str, answers: Sequence[Mapping[str, Any] | None]) -> None:
        """Adds what clients get at an endpoint for the first examples, one at a time.

        There is no answer to an example that the endpoint does not carry.
        """
        for i, answer in enumerate(answers):
            if answer is None:
                continue
            wanted = {name: array[i : i + 1] for name, array in self._expected.items()}
            try:
                found = _kept(self._data.task, answer, wanted)
            except ValueError as error:
                raise NotBlessed(
                    f"{self._exporter} serves other outputs at {endpoint}: {error}"
                ) from None
            self._differences += _differences(wanted, found, self._scales)

    def row(self) -> dict[str, Any]:
        """Returns what is known of the export, but for its times and the reasons against it."""
        try:
            value = self._tally.measures().score.value
        except ValueError as error:
            raise self._unmeasured(error) from None
        paths = [path for name in self._exporter.files() for path in _files(self._exports / name)]
        return {
            "export": str(self._exporter),
            "files": list(self._exporter.files()),
            "bytes": sum(path.stat().st_size for path in paths),
            "primary": self._data.task.primary,
            "value": value,
            "difference": float(np.max(self._differences)),
            "agreement": float(np.mean(self._agreement)),
            **self.process.facts(),
        }

    def _unmeasured(self, error: ValueError) -> NotBlessed:
        return NotBlessed(f"{self._exporter} serves outputs that cannot be measured: {error}")


def _judge(judged: Sequence[_Judged], data: Data, split: str) -> None:
    """Adds every example to all of them; the processes run beside each other."""
    kinds = data.backbone.raw()
    rows = Records(data.folder, split).between(0, CALLED)
    examples = [records.values(row, kinds)[1] for row in rows]
    calls = [one.endpoints.called(kinds, examples) for one in judged]
    for target, first, served in _in_flight(judged, data.batches(split)):
        for one, future in zip(judged, served, strict=True):
            one.add(target, one.process.result(future), first)
    for one, future in zip(judged, calls, strict=True):
        for endpoint, answers in one.endpoints.result(future).items():
            one.add_calls(endpoint, answers)


def _in_flight(
    judged: Sequence[_Judged], batches: Any
) -> Iterator[tuple[Any, int, list[Future[dict[str, Any]]]]]:
    """Yields each batch's target, the number of its first example, and what exports serve for it.

    The next batches are under way then.
    """
    waiting: collections.deque[Any] = collections.deque()
    first = 0
    for inputs, target in batches.as_numpy_iterator():
        waiting.append((target, first, [one.process.serve(inputs) for one in judged]))
        first += evaluator.count(target)
        if len(waiting) == AHEAD:
            yield waiting.popleft()
    yield from waiting


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


def _scale(array: np.ndarray, has_unit: bool) -> float:
    """Returns what the differences of an output are a part of: float32 has seven digits.

    It is the largest number of all examples. Only those of a unit of their own, which may be a
    small one, have a scale below 1.
    """
    largest = 0.0
    if array.dtype.kind == "f":  # Without a copy: the array is a file, of all examples.
        largest = max(float(array.max(initial=0.0)), -float(array.min(initial=0.0)))
    return largest if has_unit and largest else max(1.0, largest)


def _differences(
    wanted: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], scales: Mapping[str, float]
) -> Iterator[float]:
    """Yields the largest difference of each array of numbers with a fraction, by its scale."""
    for name, array in wanted.items():
        if array.dtype.kind == "f":
            yield float(np.abs(array - found[name]).max(initial=0.0)) / scales[name]


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]
