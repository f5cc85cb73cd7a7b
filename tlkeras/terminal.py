"""The terminal: progress bars, and texts that are safe to print."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import tqdm

T = TypeVar("T")


def shown(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yields the items and shows a progress bar on the error stream.

    If the stream is no terminal, the bar is printed every ten seconds.
    """
    interval = 0.1 if sys.stderr.isatty() else 10.0
    yield from tqdm.tqdm(items, label, total, mininterval=interval, delay=2)


def printable(text: str) -> str:
    """Returns a text in UTF-8 with control characters escaped, but for newlines and tabs."""
    valid = text.encode("utf-8", "backslashreplace").decode()
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", valid)
