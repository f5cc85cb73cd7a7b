"""Progress with the time left, on anything that takes longer than two seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import tqdm

T = TypeVar("T")


def shown(things: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yields the things, telling on the error stream how far it is: a bar that moves on a terminal.

    Where the stream is no terminal, every ten seconds only.
    """
    interval = 0.1 if sys.stderr.isatty() else 10.0
    yield from tqdm.tqdm(things, what, total, mininterval=interval, delay=2)
