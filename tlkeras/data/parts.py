"""Runner: runs a job in numbered parts, in threads or processes of this machine or on Apache Beam.

A part is a function of its number alone and writes its result into a folder of its own. So every
runner gives the same parts, in any order and after any retry. This process joins them in order of
their numbers: the bytes do not depend on the number of threads or machines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import shlex
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tlkeras import terminal
from tlkeras.data import workers

Part = Callable[[int, Path], None]
"""Writes the result of the part of a number into an empty folder.

Other processes unpickle it, so it is a function of a module or an instance of its class. `Runner`
raises its ValueError again where the parts are joined.
"""

_FAILED = "failed.txt"
_END = object()

# Beam logs the start and the end of its processes as errors; the user's options override this.
_QUIET = "--default_sdk_harness_log_level=ERROR"

MANY = 400
"""From so many parts on processes pay for their start whatever the job is."""


@dataclasses.dataclass(frozen=True)
class Runner:
    """Runs the parts of a job.

    Attributes:
        name: The name of a Beam runner; ``auto``: threads of this process, one a core, and for many
            parts as many processes.
        options: The command-line options of the Beam runner, ``--parallelism=8``.
    """

    name: str = "auto"
    options: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for options without a Beam runner."""
        if self.options and self.name == "auto":
            # The options may hold a secret, so the message does not repeat them.
            raise ValueError("The options of Beam are for a runner: name it, too.")

    def run(
        self, part: Part, count: int, folder: Path, label: str, many: int = MANY
    ) -> Generator[Path]:
        """Yields the folder of every part in order of the numbers; removes it afterwards.

        Args:
            part: The job.
            count: The number of parts.
            folder: The temporary folder of the results, a path on all machines. Results of a
                killed run are reused.
            label: The label of the progress bar.
            many: From how many parts on ``auto`` starts processes.

        Raises:
            ValueError: A part raised it; of several the first by number.
        """
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.gone"):
            shutil.rmtree(left, ignore_errors=True)
        for failed in folder.glob(f"*/{_FAILED}"):  # The user may have fixed the cause since.
            _drop(failed.parent)
        todo = [number for number in range(count) if not _place(folder, number).exists()]
        do = functools.partial(_do, part, folder)
        if self.name != "auto":
            progress = self._by_beam(do, todo)
        else:
            progress = _by_threads(do, todo) if len(todo) < many else _by_processes(do, todo)
        with contextlib.closing(progress):
            for number in terminal.shown(range(count), count, label):
                out = _place(folder, number)
                while not out.exists():
                    if next(progress, _END) is _END and not out.exists():
                        raise ValueError(
                            f"{self.name} has run all parts, but part {number} is not in "
                            f"{folder}: every machine needs that folder under the same path."
                        )
                try:
                    if (failed := out / _FAILED).exists():
                        raise ValueError(failed.read_text(encoding="utf-8"))
                    yield out
                finally:
                    _drop(out)
        shutil.rmtree(folder, ignore_errors=True)

    def _by_beam(self, do: Callable[[int], None], todo: list[int]) -> Generator[None]:
        """Yields once, after all parts."""
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # Beam warns about every missing client library.
        try:
            import apache_beam as beam
            from apache_beam.options.pipeline_options import PipelineOptions
        finally:
            logging.disable(before)
        options = PipelineOptions([_QUIET, *shlex.split(self.options)])
        with beam.Pipeline(self.name, options) as pipeline:
            _ = pipeline | beam.Create(todo) | beam.Reshuffle() | beam.Map(do)
        yield


def _by_threads(do: Callable[[int], None], todo: list[int]) -> Generator[None]:
    """Yields after each part, in order; the threads are at most a few parts ahead."""
    threads = os.cpu_count() or 1
    waiting = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for number in todo:
                waiting.append(pool.submit(do, number))
                if len(waiting) > 2 * threads:
                    waiting.popleft().result()
                    yield
            while waiting:
                waiting.popleft().result()
                yield
        finally:
            pool.shutdown(cancel_futures=True)


def _by_processes(do: Callable[[int], None], todo: list[int]) -> Generator[None]:
    """Yields as `_by_threads`, each of whose threads waits for a process; without, if none can."""
    try:
        with workers.started(do, os.cpu_count() or 1) as sent:
            yield from _by_threads(sent, todo)
    except workers.Unsendable:
        yield from _by_threads(do, todo)


def _drop(part: Path) -> None:
    """Removes the folder of a part; after a kill, the rest of it does not count as a part.

    On NFS a file stays that is open elsewhere, so no two removed folders have one name.
    """
    gone = part.with_name(f"{part.name}.{uuid.uuid4().hex}.gone")
    shutil.rmtree(part.rename(gone), ignore_errors=True)


def _do(part: Part, folder: Path, number: int) -> None:
    """Runs a part; its folder appears whole and once, even if two threads or machines run it."""
    out = _place(folder, number)
    partial = out.with_name(f"{out.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir()
    try:
        part(number, partial)
    except ValueError as error:
        # A file name in the message can be any bytes.
        (partial / _FAILED).write_text(str(error), encoding="utf-8", errors="backslashreplace")
    try:
        partial.rename(out)
    except OSError:
        if not out.exists():
            raise
        shutil.rmtree(partial)


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}"
