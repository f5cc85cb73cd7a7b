"""Workers: processes of this machine that do the parts of a job.

Python's threads take turns, so a job whose parts are mostly Python gains little by them. A worker
is a fresh process: no fork of one that runs TensorFlow, and no second run of the user's script, as
in `multiprocessing`. It reads the numbers of its parts from a pipe and answers each. When this
process ends, in whatever way, so does the pipe, and with it the worker.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import IO, Any, Self, cast

Job = Callable[[int], None]
"""Does the part of a number."""


class Unsendable(Exception):
    """A job that other processes cannot get, such as one of a class in the user's own script."""


@contextlib.contextmanager
def started(job: Job, count: int) -> Iterator[Job]:
    """Starts workers; ends them with the block.

    Yields a function that lets a free worker do a part; as many threads as there are workers may
    call it at once. It raises what the job raised.

    Raises:
        Unsendable: The job cannot be pickled here or unpickled there.
    """
    try:
        # Warnings are told there as here; filters are global, so threads do not set them.
        sent = pickle.dumps((job, warnings.filters))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise Unsendable(str(error)) from error
    free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_Worker()) for _ in range(count)]
        for worker in workers:  # They start side by side.
            worker.tell(sent)
        for worker in workers:
            if (error := worker.answer()) is not None:
                raise Unsendable(str(error)) from error
            free.put(worker)

        def do(number: int) -> None:
            worker = free.get()
            try:
                worker.tell(pickle.dumps(number))
                error = worker.answer()
            finally:
                free.put(worker)
            if error is not None:
                raise error

        yield do


class _Worker:
    """A process that does what it is told, one thing after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._asked = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        with contextlib.suppress(BrokenPipeError):
            self._asked.close()
        self._answers.close()
        self._process.wait()

    def tell(self, pickled: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # `answer` tells how the process ended.
            self._asked.write(pickled)
            self._asked.flush()

    def answer(self) -> Exception | None:
        """Returns what the job raised, if anything, once it has ended."""
        try:
            return pickle.load(self._answers)
        except EOFError:
            raise RuntimeError(
                f"A worker process ended with status {self._process.wait()}. A negative one is a "
                "signal; -9 often means that the memory of the machine did not suffice."
            ) from None


def _main() -> None:
    """Does what comes in, until no more comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # It is for the process that waits.
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Whatever is printed is no answer.
    job = _received(asked, answers)
    while job:
        try:
            number = pickle.load(asked)
        except EOFError:
            return
        try:
            job(number)
        except Exception as error:
            _answer(answers, error)
        else:
            _answer(answers, None)


def _received(asked: IO[bytes], answers: IO[bytes]) -> Job | None:
    """Returns the job; None if it cannot be unpickled, which is the answer then."""
    try:
        job, filters = pickle.load(asked)
    except (AttributeError, ImportError) as error:
        _answer(answers, error)
        return None
    warnings.filters = filters
    _answer(answers, None)
    return job


def _answer(answers: IO[bytes], told: Any) -> None:
    try:
        pickled = pickle.dumps(told)
    except (pickle.PicklingError, TypeError, AttributeError):
        pickled = pickle.dumps(RuntimeError(f"{type(told).__name__}: {told}"))
    answers.write(pickled)
    answers.flush()


if __name__ == "__main__":
    _main()
