"""What a run tells: how far it is, with the time left; and texts as they can be printed."""

from __future__ import annotations

import re
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


def printable(text: str) -> str:
    """Returns a text in UTF-8 that commands no terminal, its lines and tabs left."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", shown)
