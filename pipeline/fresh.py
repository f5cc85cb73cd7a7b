"""Exports, each loaded in a fresh process: nothing of the process that wrote them is in memory.

A server that runs nothing imports the libraries once, and the processes fork from it. So a process
more costs hundredths of a second, and no export finds what another one has loaded or registered.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.step import NotBlessed
from tlkeras import spec
from tlkeras.exporter import Exporter, Predict
from tlkeras.kind import Kind

WARM_UP, TIMED = 5, 50
"""Calls with one example at a time: the first ones are not timed."""

LEAST, LONGEST = 5, 20.0
"""After so many seconds no further call is made, but for so many and one before them."""

# Elsewhere the libraries of the system forbid it.
_START = "forkserver" if sys.platform == "linux" else "spawn"


def start() -> None:
    """Starts the server, which imports the libraries while this process goes on."""
    _context()
    if _START == "forkserver":
        importlib.import_module("multiprocessing.forkserver").ensure_running()


class Loaded:
    """An export in a process of its own, on so many threads; it ends with the context."""

    def __init__(self, exporter: Exporter, exports: Path, threads: int) -> None:
        """Begins to load the export; errors come with the first result."""
        self._exporter = exporter
        self._key = (exporter.full(), exports, threads)
        self._process = process()
        self._opened = self._process.submit(_open, *self._key)

    def __enter__(self) -> Loaded:
        """Returns itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the process, after the call that it is at."""
        self._process.shutdown(cancel_futures=True)

    def serve(self, inputs: Any) -> Future[dict[str, Any]]:
        """Begins to run a batch; see `Exporter.load`."""
        return self._process.submit(_served, *self._key, inputs)

    def result(self, future: Future[Any]) -> Any:
        """Returns what the process has found.

        Raises:
            NotBlessed: The process crashed.
            ValueError: The export cannot be loaded.
        """
        try:
            self._opened.result()
            return future.result()
        except BrokenProcessPool:
            raise NotBlessed(f"The process that loaded {self._exporter} crashed.") from None

    def facts(self) -> dict[str, Any]:
        """Returns `Exporter.facts`."""
        return self.result(self._process.submit(_facts, *self._key))

    def called(
        self, kinds: Mapping[str, Kind], examples: Sequence[Mapping[str, Any]]
    ) -> Future[dict[str, list[dict[str, Any] | None]]]:
        """Begins to call every one of `Exporter.endpoints` with each of these raw examples."""
        return self._process.submit(_called, *self._key, kinds, examples)

    def timed(self, inputs: Any) -> dict[str, float]:
        """Returns ``p50_ms`` and ``p95_ms``, the times of one example at a time.

        Where `LONGEST` left no time for `TIMED` calls, ``timed_calls`` is their number.
        """
        return self.result(self._process.submit(_timed, *self._key, inputs))


def process() -> Executor:
    """Returns a fresh process without GPUs that runs one call after another."""
    return ProcessPoolExecutor(1, _context(), initializer=_prepare)


def _context() -> Any:
    context = multiprocessing.get_context(_START)
    if _START == "forkserver":
        context.set_forkserver_preload(["pipeline.libraries", "pipeline.__main__"])
    return context


def _prepare() -> None:
    """Hides the GPUs, where no server has done so, and ties the process to its parent."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent has ended, in whatever way.

    The pool does not see that: the process itself holds the writing end of its queue.
    """
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


@functools.cache
def _loaded(exporter: str, exports: Path, threads: int) -> tuple[Exporter, Predict]:
    """Returns what this process has loaded, once."""
    found = spec.parse(exporter, Exporter)
    return found, found.load_on(exports, threads)


def _open(exporter: str, exports: Path, threads: int) -> None:
    _loaded(exporter, exports, threads)


def _served(exporter: str, exports: Path, threads: int, inputs: Any) -> dict[str, Any]:
    _, predict = _loaded(exporter, exports, threads)
    return predict(inputs)


def _facts(exporter: str, exports: Path, threads: int) -> dict[str, Any]:
    found, _ = _loaded(exporter, exports, threads)
    return found.facts(exports)


def _called(
    exporter: str,
    exports: Path,
    threads: int,
    kinds: Mapping[str, Kind],
    examples: Sequence[Mapping[str, Any]],
) -> dict[str, list[dict[str, Any] | None]]:
    found, _ = _loaded(exporter, exports, threads)
    endpoints = found.endpoints(exports, kinds)
    return {name: [call(values) for values in examples] for name, call in endpoints.items()}


def _timed(exporter: str, exports: Path, threads: int, inputs: Any) -> dict[str, float]:
    _, predict = _loaded(exporter, exports, threads)
    seconds: list[float] = []
    while len(seconds) < WARM_UP + TIMED and (len(seconds) <= LEAST or sum(seconds) < LONGEST):
        start = time.perf_counter()
        predict(inputs)
        seconds.append(time.perf_counter() - start)
    timed = seconds[min(WARM_UP, len(seconds) - LEAST) :]
    p50, p95 = np.percentile(timed, [50, 95])
    found = {"p50_ms": 1e3 * float(p50), "p95_ms": 1e3 * float(p95)}
    return found if len(timed) == TIMED else {**found, "timed_calls": len(timed)}
