"""Records: the folder format of examples, for sequential writes and random reads.

``info.json`` describes the folder and is written last. A split is a set of shards,
``train-00000.tfrecord`` …, for any TensorFlow reader. ``train.index.npy`` has a row
``(shard, offset, length)`` for the data of every record. The same examples give the same bytes.
"""

from __future__ import annotations

import array
import dataclasses
import functools
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tlkeras import files, spec, wire
from tlkeras.frameworks import tf
from tlkeras.kind import Kind

_SHARD_BYTES = 128 * 2**20

_BUFFER = 2**18  # Bytes that are written at once.


@dataclasses.dataclass(frozen=True)
class Info:
    """The description of a folder of examples.

    Attributes:
        classes: Class names; a label is an index into them.
        features: The kind of every key.
        counts: Examples by split: train, validation, test, then others.
        class_counts: Examples of each class, by split; empty without classes.
        split: The text of the `Split`, which cuts what the source does not.
        groups: How many groups the examples of each split are of, such as patients; one that is
            in no group is one itself. Empty if neither source nor split names any.
        given: The splits that the source has itself.
    """

    classes: tuple[str, ...]
    features: Mapping[str, Kind]
    counts: Mapping[str, int]
    class_counts: Mapping[str, tuple[int, ...]]
    split: str
    groups: Mapping[str, int] = dataclasses.field(default_factory=dict)
    given: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Returns the fields as JSON values, every kind as its text."""
        kinds = {key: kind.full() for key, kind in self.features.items()}
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**values, "features": kinds}


def info(folder: Path) -> Info:
    """Returns the content of ``info.json`` in a folder of examples."""
    try:
        content = files.read_json(folder / "info.json")
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no examples: there is no info.json in it.") from None
    except ValueError as error:
        raise ValueError(f"{folder / 'info.json'} is not that of examples: {error}.") from None
    fields = [field.name for field in dataclasses.fields(Info)]
    if isinstance(content, dict):
        content = {"groups": {}, "given": (), **content}  # An earlier version wrote none.
    is_complete = isinstance(content, dict) and sorted(content) == sorted(fields)
    # A split is a prefix of file names in the folder.
    if not is_complete or not all(re.fullmatch(r"\w+", name) for name in content["counts"]):
        raise ValueError(
            f"{folder / 'info.json'} is not that of examples, which holds {', '.join(fields)}."
        )
    content["classes"], content["given"] = tuple(content["classes"]), tuple(content["given"])
    content["features"] = {key: spec.parse(text, Kind) for key, text in content["features"].items()}
    content["class_counts"] = {name: tuple(row) for name, row in content["class_counts"].items()}
    return Info(**content)


def encode(identity: str, features: Mapping[str, Any], kinds: Mapping[str, Kind]) -> bytes:
    """Returns the record of one example of standard values; equal examples have equal bytes."""
    put = {"id": wire.bytes_feature([identity.encode("utf-8", "surrogateescape")])}
    return wire.example(put | {key: kind.put(features[key]) for key, kind in kinds.items()})


def decode(record: Any, kinds: Mapping[str, Kind], least: int | None = None) -> dict[str, Any]:
    """Returns the tensors of one record, inside any graph: its ``id`` and the keys of `kinds`.

    `Kind.decoded` decodes them; `least` is the least pixels of a side of a reduced picture.
    """
    parsing = {key: kind.parsing() for key, kind in kinds.items()}
    names = {"id": tf.io.FixedLenFeature([], tf.string)}
    parsed = tf.io.parse_single_example(record, {**names, **parsing})
    decoded = {key: kind.decoded(parsed[key], least) for key, kind in kinds.items()}
    return {"id": parsed["id"], **decoded}


def values(record: bytes, kinds: Mapping[str, Kind]) -> tuple[str, dict[str, Any]]:
    """Returns the id and the standard values of a record."""
    features = tf.train.Example.FromString(record).features.feature
    lists = {key: getattr(each, each.WhichOneof("kind")).value for key, each in features.items()}
    (identity,) = lists["id"]
    name = identity.decode("utf-8", "surrogateescape")
    # The record has no type for an empty list.
    return name, {key: kind.taken(lists.get(key, ())) for key, kind in kinds.items()}


class Writer:
    """Writes the shards and the index of one split; `close` ends both."""

    def __init__(self, folder: Path, split: str) -> None:
        """Opens the first shard."""
        self._folder, self._split = folder, split
        self._rows = array.array("q")
        self._shard, self._offset = 0, 0
        self._file = self._opened()

    def add(self, record: bytes) -> None:
        """Appends a record, to a new shard if the last one is full."""
        if self._offset >= _SHARD_BYTES:
            self._file.close()
            self._shard, self._offset = self._shard + 1, 0
            self._file = self._opened()
        self._file.write(wire.record(record))
        self._rows.extend((self._shard, self._offset + wire.BEFORE, len(record)))
        self._offset += wire.BEFORE + len(record) + wire.AFTER

    def close(self) -> None:
        """Ends the last shard and writes the index."""
        self._file.close()
        rows = np.array(self._rows, np.int64).reshape(-1, 3)
        np.save(_index(self._folder, self._split), rows)

    def _opened(self) -> BinaryIO:
        return _shard(self._folder, self._split, self._shard).open("wb", _BUFFER)


def remove(folder: Path, split: str) -> None:
    """Removes the index and all shards of a split."""
    _index(folder, split).unlink(missing_ok=True)
    for path in folder.glob(f"{split}-[0-9]*.tfrecord"):
        path.unlink()


class Records:
    """The records of one split by number in file order; only the index is in memory."""

    def __init__(self, folder: Path, split: str) -> None:
        """Reads the index."""
        self._folder, self._split = folder, split
        path = _index(folder, split)
        about = path.stat()
        self._rows = _mapped(path.absolute(), about.st_ino, about.st_size, about.st_mtime_ns)

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self._rows)

    def between(self, start: int, stop: int) -> Iterator[bytes]:
        """Yields the records from `start` to before `stop`, one in memory at a time."""
        return _in_order(self._folder, self._split, self._rows[start:stop])

    def read(self, indices: Sequence[int] | np.ndarray) -> list[bytes]:
        """Returns records in the order of `indices`; reads the disk in file order."""
        rows = self._rows[np.asarray(indices, np.int64)]
        contents = [b""] * len(rows)
        places = np.lexsort((rows[:, 1], rows[:, 0]))
        for shard in np.unique(rows[:, 0]):
            with _shard(self._folder, self._split, shard).open("rb", buffering=0) as file:
                for place in places[rows[places, 0] == shard]:
                    file.seek(rows[place, 1])
                    contents[place] = file.read(rows[place, 2])
        return contents


def every(folder: Path, split: str) -> Generator[bytes]:
    """Yields all records of a split in file order, one in memory at a time.

    Unlike `Records` it leaves no file open: NFS renames one that is removed while it is open, so
    its folder cannot be removed.
    """
    return _in_order(folder, split, np.load(_index(folder, split)))


def _in_order(folder: Path, split: str, rows: np.ndarray) -> Generator[bytes]:
    for shard in np.unique(rows[:, 0]):
        with _shard(folder, split, shard).open("rb") as file:
            for _, offset, length in rows[rows[:, 0] == shard]:
                file.seek(offset)
                yield file.read(length)


@functools.lru_cache(maxsize=16)
def _mapped(index: Path, *version: int) -> np.ndarray:
    """Returns an index as one memory map; TensorFlow never frees a data set's function."""
    return np.load(index, mmap_mode="r")


def _shard(folder: Path, split: str, number: int) -> Path:
    return folder / f"{split}-{number:05d}.tfrecord"


def _index(folder: Path, split: str) -> Path:
    return folder / f"{split}.index.npy"
