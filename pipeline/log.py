"""Log: what runs made and removed in a store, ``log.jsonl``, append-only and hash-chained.

A line is a JSON object. Its last entry, ``sha256``, is the digest of all before it in the line, and
``before`` is the ``sha256`` of the line before. So whoever changes, moves or removes a line breaks
the chain, unless all later lines are written anew. A digest that is kept elsewhere shows that, too,
and lines missing at the end: the chain alone cannot. This is the hash chain of Schneier and Kelsey
1999, "Secure audit logs to support computer forensics", https://doi.org/10.1145/317087.317089,
without their keys.

``store.lock`` is shared by all that work in a store; who removes products has it alone. By
``chief.lock`` workers see that a chief is at work without them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlkeras import files, frameworks

FILE = "log.jsonl"

_ALL, _CHIEF = "store.lock", "chief.lock"

_START = b'{"number": 1, "before": "'
_LINE = re.compile(rb'(\{.*), "sha256": "([0-9a-f]{64})"\}')
_BLOCK = 2**16

# The options of a Beam runner may hold any secret, other words only under such names.
_SECRET = re.compile(r"--?beam_options=|\b(\w+_key|secret|token|password|connection_string)\s*=")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a log says as far as it is sound.

    Attributes:
        entries: The lines before the first unsound one.
        head: The ``sha256`` of the last of them.
        fault: What is wrong with the next line; empty if all lines are sound.
    """

    entries: Sequence[Mapping[str, Any]]
    head: str
    fault: str


def append(root: Path, **entry: Any) -> None:
    """Appends a line to the log of a store; processes take turns.

    The rest of a process that was killed in the middle of a line is removed.
    """
    with _locked(root / FILE) as file:
        number, before = _end(file)
        body = json.dumps(
            {
                "number": number + 1,
                "before": before,
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": words(sys.argv) if frameworks.is_command else [],
                **entry,
            }
        ).encode()
        digest = hashlib.sha256(body[:-1]).hexdigest()
        file.write(body[:-1] + f', "sha256": "{digest}"}}\n'.encode())
        file.flush()
        os.fsync(file.fileno())


def head(path: Path) -> str:
    """Returns the digest of the last whole line of a log; empty if there is none."""
    try:
        with path.open("rb") as file:
            return _end(file, repair=False)[1]
    except FileNotFoundError:
        return ""


def above(*folders: Path) -> Path | None:
    """Returns the store that one of these folders lies in: the nearest folder above with a log."""
    for folder in folders:
        for each in folder.absolute().parents:
            if _is_log(each / FILE):
                return each
    return None


def require(root: Path) -> None:
    """Raises ValueError if the place of the log is taken by another file."""
    path = root / FILE
    if path.exists() and path.stat().st_size and not _is_log(path):
        raise ValueError(
            f"{path} is no log of runs, or its first line was changed: tlkeras audit "
            f"--root={root} says more. Move it elsewhere to begin a new one."
        )


def read(root: Path) -> Verdict:
    """Returns what the log of a store says; one line at a time is compared with the one before.

    Raises:
        ValueError: There is no log.
    """
    path = root / FILE
    if not path.exists():
        raise ValueError(f"There is no {FILE} in {root}: no run has made a product there.")
    entries: list[Mapping[str, Any]] = []
    last = ""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            entry = _entry(line)
            if entry is None:
                return Verdict(entries, last, _unsound(number, line))
            if entry["number"] != number or entry["before"] != last:
                return Verdict(entries, last, _out_of_order(number, entry, file))
            entries.append(entry)
            last = entry["sha256"]
    return Verdict(entries, last, "")


def words(command: Sequence[str]) -> list[str]:
    """Returns the words of a command line; an ellipsis stands for what may be a secret."""
    _, *rest = command
    shown = ["tlkeras"]
    for before, word in zip(command, rest, strict=False):
        if before in ("--beam_options", "-beam_options"):
            word = "…"
        elif _SECRET.search(word):
            word = f"{word.partition('=')[0]}=…"
        shown.append(word)
    return shown


@contextlib.contextmanager
def shared(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds a store together with others, while nobody has it alone."""
    with _store_lock(root / _ALL, fcntl.LOCK_SH, say, "waits until tlkeras forget has ended"):
        yield


@contextlib.contextmanager
def alone(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds a store alone, after the steps at work in it have ended."""
    waits = "waits until the steps at work there have ended"
    with _store_lock(root / _ALL, fcntl.LOCK_EX, say, waits):
        yield


@contextlib.contextmanager
def led(root: Path) -> Iterator[None]:
    """Holds a store as the chief of several workers, together with the chiefs of other runs."""
    with _store_lock(root / _CHIEF, fcntl.LOCK_SH, lambda _: None):
        yield


def is_led(root: Path) -> bool:
    """Returns whether a chief holds a store."""
    root.mkdir(parents=True, exist_ok=True)
    with files.free(root / _CHIEF) as is_free:
        return not is_free


@contextlib.contextmanager
def _store_lock(
    path: Path, kind: int, say: Callable[[str], None], waits: str = ""
) -> Iterator[None]:
    with files.explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            say(waits)
            fcntl.flock(lock, kind)
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[Any]:
    with files.explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        access = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with os.fdopen(os.open(path, access, 0o666), "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


def _end(file: Any, repair: bool = True) -> tuple[int, str]:
    """Returns the number and the digest of the last line, (0, "") if there is none.

    With `repair`, what follows it is removed, or ended if only the end of the line is missing.
    """
    size = file.seek(0, os.SEEK_END)
    tail, start = b"", size
    while start and tail.count(b"\n") < 2:
        step = min(_BLOCK, start)
        start -= step
        file.seek(start)
        tail = file.read(step) + tail
    *lines, rest = tail.split(b"\n")
    if rest and _entry(rest) is not None:
        lines.append(rest)
        if repair:
            file.write(b"\n")
    elif rest and repair:
        file.truncate(size - len(rest))
    if not lines:
        return 0, ""
    entry = _entry(lines[-1])
    if entry is None:  # It was changed; `read` says so, and the chain goes on from what it is.
        file.seek(0)
        return file.read().count(b"\n"), hashlib.sha256(lines[-1]).hexdigest()
    return entry["number"], entry["sha256"]


def _entry(line: bytes) -> dict[str, Any] | None:
    """Returns what a line says; None if it is not as it was written."""
    match = _LINE.fullmatch(line.removesuffix(b"\n"))
    if not match or hashlib.sha256(match[1]).hexdigest() != match[2].decode():
        return None
    return json.loads(line)


def _is_log(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_START)) == _START
    except OSError:
        return False


def _unsound(number: int, line: bytes) -> str:
    if line.endswith(b"\n"):
        return f"Line {number} was changed."
    return f"Line {number} has no end: a run was killed while it wrote the line, or it was changed."


def _out_of_order(number: int, entry: Mapping[str, Any], rest: Iterable[bytes]) -> str:
    if entry["number"] == number:
        return f"Line {number} does not follow line {number - 1}, which was replaced."
    for place, line in enumerate(rest, start=number + 1):
        found = _entry(line)
        if found and found["number"] == number:
            return f"Line {number} is out of order: it stands at place {place}."
    return f"Line {number} is missing: line {entry['number']} stands at its place."
