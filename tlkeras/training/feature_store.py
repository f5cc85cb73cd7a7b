"""The feature store: entries of array rows on disk, by name, with a limit on their total size.

An entry is a folder ``<name>/`` with one folder per shard, ``00000/``, and in it one ``.npy`` file
per array. Rows of one size are the rows of the array. Rows of several sizes are flat, one after the
other, and a second file has the places where they end. A shard has a temporary name until it is
full. So no process reads the rest of a killed process or a full disk, and the next writer continues
after the last whole shard.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import math
import os
import re
import resource
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import files, spec

_SHARD = re.compile(r"\d{5}(\..*)?")
_GONE = re.compile(r"\.[0-9a-f]{32}\.gone$")

LENGTH = 512
"""Rows of a shard: few, so that a kill loses little, and a multiple of the usual batch sizes."""


@dataclasses.dataclass(frozen=True)
class Cache:
    """A folder of activations, which any number of fits and processes may share.

    Attributes:
        folder: A folder for the cache alone.
        gigabytes: The maximal size. New activations replace the least recently used ones.
        code: The digest of the code of backbone, task and kinds; a change invalidates the cache.
            Without it, a change of a user's `preprocess` or `target` needs another folder.
        augments: The digest of the code of augmentations by their module, for the views that they
            made.
    """

    folder: Path
    gigabytes: float = 20.0
    code: str = ""
    augments: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError for a size that is negative or not finite."""
        object.__setattr__(self, "folder", spec.path(self.folder))
        if not 0 <= self.gigabytes < math.inf:
            raise ValueError(f"Cache.gigabytes is {self.gigabytes}, expected a number from 0 on.")

    @property
    def limit(self) -> int:
        """The maximal bytes."""
        return int(self.gigabytes * 1e9)


class Rows:
    """The rows of an entry, memory-mapped: only the rows of a read are in memory."""

    def __init__(self, entry: Path) -> None:
        """Opens the whole shards before the first gap."""
        _allow_open_files()
        self._shards: list[list[_Column]] = []
        while (shard := _shard(entry, len(self._shards))).is_dir():
            count = len(list(shard.glob("[0-9]*.npy")))
            self._shards.append([_Column(shard, i) for i in range(count)])

    def __len__(self) -> int:
        """Returns the number of rows."""
        return sum(len(columns[0]) for columns in self._shards)

    @property
    def dtypes(self) -> list[np.dtype]:
        """The type of every array."""
        return [column.dtype for column in self._shards[0]]

    def read(self, numbers: np.ndarray) -> list[Any]:
        """Returns the rows of these numbers of every array, in the order of the numbers.

        Rows of one size are an array, rows of several sizes a list of flat ones.
        """
        # Sorted reads touch each page of a file once.
        places = np.argsort(numbers)
        back = np.argsort(places)
        ends = np.arange(1, len(self._shards)) * LENGTH
        parts = np.split(numbers[places], np.searchsorted(numbers[places], ends))
        read: list[list[Any]] = [[] for _ in self._shards[0]]
        for number, (columns, part) in enumerate(zip(self._shards, parts, strict=True)):
            if len(part):
                for found, column in zip(read, columns, strict=True):
                    found.append(column.rows(part - number * LENGTH))
        return [
            column.joined(found, back) for found, column in zip(read, self._shards[0], strict=True)
        ]


class _Column:
    """The rows of one array in a shard."""

    def __init__(self, shard: Path, place: int) -> None:
        self._array = np.load(_file(shard, place), mmap_mode="r")
        self._ends = np.load(ends) if (ends := _ends(shard, place)).exists() else None
        self.dtype = self._array.dtype

    def __len__(self) -> int:
        return len(self._array if self._ends is None else self._ends)

    def rows(self, places: np.ndarray) -> Any:
        if self._ends is None:
            return self._array[places]
        starts = np.concatenate([[0], self._ends])
        return [self._array[starts[place] : starts[place + 1]] for place in places]

    def joined(self, parts: list[Any], order: np.ndarray) -> Any:
        """Returns the rows of all shards in an order."""
        if self._ends is None:
            return np.concatenate([self._array[:0], *parts])[order]
        rows = [row for part in parts for row in part]
        return [rows[place] for place in order]


class Writer:
    """Writes whole shards of an entry.

    Attributes:
        next: The next row.
        stop: The row after the last one.
    """

    def __init__(self, entry: Path, start: int, stop: int) -> None:
        """Begins at a row; `add` ignores rows before it and from `stop` on."""
        self._entry, self.next, self.stop = entry, start, stop
        self._arrays: list[Any] = []

    def add(self, first: int, columns: Sequence[Any]) -> None:
        """Appends consecutive rows of every array; `first` is the number of the first row.

        A column is an array, or a list of flat rows of several sizes.

        Raises:
            OSError: The disk is full.
        """
        end = min(first + len(columns[0]), self.stop)
        while self.next < end:
            number, row = divmod(self.next, LENGTH)
            if not self._arrays:
                self._begin(number, columns)
            count = min(end - self.next, len(self._arrays[0]) - row)
            begin = self.next - first
            for array, column in zip(self._arrays, columns, strict=True):
                array[row : row + count] = column[begin : begin + count]
            self.next += count
            if row + count == len(self._arrays[0]):
                self._end(number)

    def _begin(self, number: int, columns: Sequence[Any]) -> None:
        partial = _partial(self._entry, number)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        rows = min(LENGTH, self.stop - number * LENGTH)
        try:
            # The size of a list of rows is known when it is full; until then it is in memory.
            self._arrays = [
                [None] * rows
                if isinstance(column, list)
                else allocated(_file(partial, i), column.dtype, (rows, *column.shape[1:]))
                for i, column in enumerate(columns)
            ]
        except BaseException:
            shutil.rmtree(partial)
            raise

    def _end(self, number: int) -> None:
        partial = _partial(self._entry, number)
        for i, array in enumerate(self._arrays):
            if isinstance(array, list):
                ends = np.cumsum([len(row) for row in array])
                written = allocated(_ends(partial, i), ends.dtype, ends.shape)
                written[:] = ends
                written.flush()
                rows, array = array, allocated(_file(partial, i), array[0].dtype, (int(ends[-1]),))
                np.concatenate(rows, out=array)
            array.flush()
        self._arrays = []
        # Nothing reads a shard after a gap that a killed worker left.
        with contextlib.suppress(FileNotFoundError):
            _remove(_shard(self._entry, number))
        partial.replace(_shard(self._entry, number))


def part(start: int, stop: int, worker: int, workers: int) -> tuple[int, int]:
    """Returns a worker's rows to write, from the first to before the last.

    They are whole shards, about as many for each worker; `start` begins a shard.
    """
    first, last = start // LENGTH, -(-stop // LENGTH)
    begin, end = (first + (last - first) * i // workers for i in (worker, worker + 1))
    return max(begin * LENGTH, start), min(end * LENGTH, stop)


def allocated(path: Path, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Returns a new memory-mapped array in a ``.npy`` file with reserved disk space.

    Raises:
        OSError: The disk is full; without the reserve, a write would kill the process by SIGBUS.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    files.reserve(path, path.stat().st_size)
    return array


@contextlib.contextmanager
def locked(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Locks these entries for one process at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    _allow_open_files()
    with contextlib.ExitStack() as stack:
        for name in sorted(names):  # A fixed order prevents a deadlock.
            say = functools.partial(_say_who, folder / name)
            stack.enter_context(files.locked(_lock(folder, name), say))
        yield


def granted(
    folder: Path, wanted: Mapping[str, Sequence[int] | np.ndarray], limit: int
) -> dict[str, int]:
    """Returns the number of rows that each entry may store; call it under `locked`.

    It evicts other entries, the least recently used first, but none that is locked. If the wanted
    rows still do not fit, entries end after a whole shard, those with the largest rows first.

    Args:
        folder: The folder of the entries.
        wanted: By name, the bytes of every row.
        limit: The maximal bytes of all entries in the folder.

    Raises:
        OSError: The disk has no room for these rows.
    """
    entries = [entry for entry in _entries(folder) if not _is_swept(entry)]
    ends = {name: np.cumsum([0, *sizes], dtype=np.int64) for name, sizes in wanted.items()}
    total = sum(int(each[-1]) for each in ends.values())
    others = {entry: _bytes(entry) for entry in entries if entry.name not in wanted}
    for entry in sorted(others, key=_last_used):
        if total + sum(others.values()) <= limit:
            break
        with files.free(_lock(folder, entry.name)) as is_idle:
            if is_idle:
                # Readers have the files open and can read on. Another process may have been faster.
                with contextlib.suppress(FileNotFoundError):
                    _remove(entry)
                del others[entry]
    left = limit - sum(others.values())
    rows: dict[str, int] = {}
    missing = 0
    for name, each in sorted(ends.items(), key=lambda item: _mean(item[1])):
        count = len(each) - 1
        whole = max(int(np.searchsorted(each, left, "right")) - 1, 0) // LENGTH * LENGTH
        stored = len(Rows(folder / name))
        rows[name] = max(count if each[-1] <= left else whole, stored)
        left -= int(each[rows[name]])
        missing += int(each[rows[name]] - each[stored])
    # Removed files that others still have open are not free yet.
    if missing > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    return rows


def _mean(ends: np.ndarray) -> tuple[float, int]:
    """Returns the mean bytes of a row and the number of rows."""
    count = len(ends) - 1
    return float(ends[-1]) / max(count, 1), count


def _remove(folder: Path) -> None:
    """Removes an entry or a shard; after a kill, nothing reads the rest."""
    gone = folder.rename(folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.gone"))
    # On NFS, files that others still have open stay until a later sweep.
    shutil.rmtree(gone, ignore_errors=True)


def _is_swept(entry: Path) -> bool:
    """Sweeps the rest of `_remove` in an entry; returns whether the entry itself was a rest."""
    if _GONE.search(entry.name):
        shutil.rmtree(entry, ignore_errors=True)
        return not entry.exists()
    with contextlib.suppress(FileNotFoundError):  # Another process may sweep, too.
        for left in [*entry.glob("*.gone")]:
            shutil.rmtree(left, ignore_errors=True)
    return False


def _entries(folder: Path) -> list[Path]:
    """Returns the folders with nothing but shards; only these may be removed."""
    return [
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.is_symlink() and _holds_shards(path)
    ]


def _holds_shards(folder: Path) -> bool:
    """Returns whether a folder has shards, whole or not, and no other file."""
    top, *below = [*os.walk(folder)] or [("", [], [])]
    inner = [name for _, _, names in below for name in names]
    return (
        bool(top[1])
        and not top[2]
        and all(_SHARD.fullmatch(name) for name in top[1])
        and all(name.endswith(".npy") for name in inner)
    )


def _bytes(entry: Path) -> int:
    """Returns the bytes of an entry, perhaps without files that others just rename or remove."""
    total = 0
    for folder, _, names in os.walk(entry):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(folder) / name).stat().st_size
    return total


def _last_used(entry: Path) -> float:
    """Returns the time of an entry's last use; 0 if another process has removed it."""
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _allow_open_files() -> None:
    """Raises the soft limit of open files to the hard one: a memory map keeps its file open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _say_who(entry: Path, text: str) -> None:
    print(f"  {text}, which works at {entry}")


def _lock(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"


def _shard(entry: Path, number: int) -> Path:
    return entry / f"{number:05d}"


def _partial(entry: Path, number: int) -> Path:
    return entry / f"{number:05d}.partial"


def _file(shard: Path, number: int) -> Path:
    return shard / f"{number}.npy"


def _ends(shard: Path, number: int) -> Path:
    return shard / f"ends{number}.npy"
