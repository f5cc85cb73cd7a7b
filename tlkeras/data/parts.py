"""Workers: a job in numbered parts, done by threads of this process or by Apache Beam.

A part is a function of its number alone and writes its result into a folder of its own, so the same
parts are made by whatever runner, in whatever order, once or again. What is made of them is put
together here, one after the other: the same bytes however many workers there were.
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

Part = Callable[[int, Path], None]
"""Does the part of a number and writes its result into an empty folder.

It is sent to other processes, so it is an instance of a class, or a function, of some module. What
it raises as ValueError is raised again where the parts are put together.
"""

_FAILED = "failed.txt"
_OVER = object()

# What Beam's workers tell of their coming and going is not news; the user's options come later.
_QUIETLY = "--default_sdk_harness_log_level=ERROR"

# With fewer parts than this, what Beam takes to start its processes is not won back: on two cores
# threads read 34 parts of small photos in half the time.
_WORTH_BEAM = 400


@dataclasses.dataclass(frozen=True)
class Workers:
    """Who does the parts.

    Attributes:
        runner: The name of a Beam runner; ``auto``: threads of this process, and for many parts
            Beam's DirectRunner with a process for each core.
        options: Options of the runner as its command line takes them, ``--parallelism=8``.
    """

    runner: str = "auto"
    options: str = ""

    def __post_init__(self) -> None:
        """Refuses options that nothing would read."""
        if self.options and self.runner == "auto":
            # They may hold a secret, so they are not repeated.
            raise ValueError("The options of Beam are for a runner: name it, too.")

    def done(self, part: Part, count: int, folder: Path, what: str) -> Generator[Path]:
        """Yields the folder of every part in order of their numbers, and removes it afterwards.

        Args:
            part: What to do.
            count: How many parts there are.
            folder: Where the results lie meanwhile, a path that all workers see. Parts that are
                there already, from a run that was killed, are not done again.
            what: What is told of it while it runs.

        Raises:
            ValueError: The first one that a part has raised.
        """
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.gone"):
            shutil.rmtree(left)
        for failed in folder.glob(f"*/{_FAILED}"):  # Why it failed may have been mended since.
            _drop(failed.parent)
        todo = [number for number in range(count) if not _place(folder, number).exists()]
        do = functools.partial(_do, part, folder)
        if self.runner == "auto" and len(todo) < _WORTH_BEAM:
            ready = _by_threads(do, todo)
        else:
            ready = self._by_beam(do, todo)
        with contextlib.closing(ready):
            for number in terminal.shown(range(count), count, what):
                out = _place(folder, number)
                while not out.exists():
                    if next(ready, _OVER) is _OVER and not out.exists():
                        raise ValueError(
                            f"{self.runner} has done all parts, but part {number} is not in "
                            f"{folder}: every worker has to see that folder under the same path."
                        )
                try:
                    if (failed := out / _FAILED).exists():
                        raise ValueError(failed.read_text(encoding="utf-8"))
                    yield out
                finally:
                    _drop(out)
        shutil.rmtree(folder)

    def _by_beam(self, do: Callable[[int], None], todo: list[int]) -> Generator[None]:
        """Yields once, when all parts are done."""
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # Beam warns of each client library that it finds missing.
        try:
            import apache_beam as beam
            from apache_beam.options.pipeline_options import PipelineOptions
        finally:
            logging.disable(before)
        runner, options = self.runner, [_QUIETLY, *shlex.split(self.options)]
        if runner == "auto":
            runner = "DirectRunner"
            options += ["--direct_running_mode=multi_processing", "--direct_num_workers=0"]
        with beam.Pipeline(runner, PipelineOptions(options)) as pipeline:
            _ = pipeline | beam.Create(todo) | beam.Reshuffle() | beam.Map(do)
        yield


def _by_threads(do: Callable[[int], None], todo: list[int]) -> Generator[None]:
    """Yields whenever the next part in order is done; the threads are at most a few parts ahead."""
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


def _drop(part: Path) -> None:
    """Removes a part; a kill meanwhile leaves none of it that would be taken for one."""
    shutil.rmtree(part.rename(part.with_name(f"{part.name}.gone")))


def _do(part: Part, folder: Path, number: int) -> None:
    """Does a part; its folder appears whole, and once, even if two workers do it."""
    out = _place(folder, number)
    partial = out.with_name(f"{out.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir()
    try:
        part(number, partial)
    except ValueError as error:
        # The name of a file can be any bytes.
        (partial / _FAILED).write_text(str(error), encoding="utf-8", errors="backslashreplace")
    try:
        partial.rename(out)
    except OSError:
        if not out.exists():
            raise
        shutil.rmtree(partial)


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}"
