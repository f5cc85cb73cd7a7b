"""Files: JSON, writes that appear whole, locks, and room on the disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_ADVICE = {
    errno.ENOSPC: "free some space there, or choose another folder, and run again",
    errno.EDQUOT: "free some space there, or choose another folder, and run again",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "choose a folder that you may write to, or change its permissions",
    errno.EPERM: "choose a folder that you may write to, or change its permissions",
    errno.ENOTDIR: "a file is in the way; choose another folder",
    errno.EEXIST: "a file is in the way; choose another folder",
    errno.ELOOP: "a link is in the way; remove it, or choose another folder",
}


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal; little of it is in memory at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """Returns what `sha256` does; a process reads a file of weights or records again if it changed.

    A file whose digest is compared with that of before may be damaged unseen: `sha256` reads it.
    """
    about = path.stat()
    version = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    return _known_sha256(path.absolute(), *version)


@functools.lru_cache(maxsize=2**16)
def _known_sha256(path: Path, *version: int) -> str:
    return sha256(path)


def read_json(path: Path) -> Any:
    """Returns what a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, which appears whole: another process never reads a half of it."""
    partial = path.with_name(f"{path.name}.partial")
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # The name of a file may hold bytes that are no UTF-8.
    partial.write_text(f"{text}\n", encoding="utf-8", errors="surrogateescape")
    partial.replace(path)


def reserve(path: Path, size: int) -> None:
    """Takes room for an existing file of so many bytes.

    Raises:
        OSError: The disk is full; later, writing a memory map would end the process by SIGBUS.
    """
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            error.filename = str(path)
            raise


@contextlib.contextmanager
def locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Lets one process at a time pass a lock file, which holds the PID of the last one.

    `say` gets the text ``waits for PID 123`` if another process holds it.
    """
    with _opened(path) as lock:
        if not _is_taken(lock):
            lock.seek(0)
            say(f"waits for PID {lock.read()}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextlib.contextmanager
def free(path: Path) -> Iterator[bool]:
    """Yields whether no other process holds a lock file; if so, none can before the end."""
    with _opened(path) as lock:
        yield _is_taken(lock)


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turns what the disk refuses in or around a folder into a ValueError; other errors pass."""
    try:
        yield
    except OSError as error:
        named = error.filename if isinstance(error.filename, str) else str(folder)
        place, whole = Path(named).absolute(), folder.absolute()
        near = place.is_relative_to(whole) or whole.is_relative_to(place)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if error.errno not in _ADVICE or not (near or full):
            raise
        advice = _ADVICE[error.errno]
        raise ValueError(f"Cannot write to {named}: {error.strerror}; {advice}.") from error


def _opened(path: Path) -> Any:
    # Never what a link leads to: that would be written to.
    access = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    return os.fdopen(os.open(path, access, 0o666), "a+", encoding="utf-8")


def _is_taken(lock: Any) -> bool:
    """Takes a lock if no other process holds it, and returns whether it did."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
