"""Records: the folder format of examples, written one after another and read in any order.

``info.json`` tells what is in the folder and is written last. A split lies in shards,
``train-00000.tfrecord`` …, which any TensorFlow reader reads; ``train.index.npy`` has a row
``(shard, offset, length)`` for the data of every record. The same examples give the same bytes.
"""

from __future__ import annotations

import array
import dataclasses
import functools
import json
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.frameworks import tf
from tlkeras.images import decoding
from tlkeras.source import Kind

_SHARD_BYTES = 128 * 2**20

# A TFRecord is the data's length and its sum, the data, and the data's sum.
_BEFORE, _AFTER = 12, 4


@dataclasses.dataclass(frozen=True)
class Info:
    """What a folder of examples holds.

    Attributes:
        classes: Class names; a label is an index into them.
        features: The kind of every key.
        counts: Examples by split: train, validation, test, then others.
        class_counts: Examples of each class by split; empty if the data has no ``label``.
        split: The text of the `Split` that cut it.
    """

    classes: tuple[str, ...]
    features: Mapping[str, Kind]
    counts: Mapping[str, int]
    class_counts: Mapping[str, tuple[int, ...]]
    split: str


def info(folder: Path) -> Info:
    """Returns what `write` told about a folder."""
    try:
        told = json.loads((folder / "info.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no examples: there is no info.json in it.") from None
    except ValueError as error:
        raise ValueError(f"{folder / 'info.json'} is not that of examples: {error}.") from None
    fields = [field.name for field in dataclasses.fields(Info)]
    is_told = isinstance(told, dict) and sorted(told) == sorted(fields)
    # A split is the beginning of the names of files in the folder.
    if not is_told or not all(re.fullmatch(r"\w+", name) for name in told["counts"]):
        raise ValueError(
            f"{folder / 'info.json'} is not that of examples, which holds {', '.join(fields)}."
        )
    told["classes"] = tuple(told["classes"])
    told["class_counts"] = {name: tuple(row) for name, row in told["class_counts"].items()}
    return Info(**told)


def encode(identity: str, features: Mapping[str, Any], kinds: Mapping[str, Kind]) -> bytes:
    """Returns the record of one example, the same bytes for the same example.

    Raises:
        ValueError: A value that is not of its kind.
    """
    feature = {"id": _texts(identity)}
    for key, kind in kinds.items():
        try:
            feature[key] = _FORMS[kind].put(features[key])
        except (TypeError, ValueError) as error:
            raise ValueError(f"has a {key!r} that is not of kind {kind!r}: {error}") from None
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)


def decode(record: Any, kinds: Mapping[str, Kind], least: int | None = None) -> dict[str, Any]:
    """Returns the tensors of one record, inside any graph: its ``id`` and the given keys.

    `least` is how many pixels `pictures.picture` has to leave a side of a large picture.

    ``image``: uint8 [h, w, 3]. ``mask``: uint8 [h, w, 1]. ``text``: string []. ``integer``: int64
    []. ``integers``: int64 [n]. ``number``: float32 []. ``boxes``: float32 [n, 4].
    """
    parsing = {key: _FORMS[kind].parsing() for key, kind in kinds.items()}
    parsed = tf.io.parse_single_example(record, {"id": _FORMS["text"].parsing(), **parsing})
    getters = {kind: form.get for kind, form in _FORMS.items()}
    getters["image"] = lambda encoded: decoding.picture(encoded, least)
    got = {key: getters[kind](parsed[key]) for key, kind in kinds.items()}
    return {"id": parsed["id"], **got}


def values(record: bytes) -> dict[str, Any]:
    """Returns what a record holds under every key, each a list, pictures as encoded bytes."""
    held = tf.train.Example.FromString(record).features.feature
    return {key: getattr(held[key], held[key].WhichOneof("kind")).value for key in held}


class Writer:
    """The shards of one split and their index, being written; `close` ends both."""

    def __init__(self, folder: Path, split: str) -> None:
        """Begins the first shard."""
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
        self._file.write(record)
        self._rows.extend((self._shard, self._offset + _BEFORE, len(record)))
        self._offset += _BEFORE + len(record) + _AFTER

    def close(self) -> None:
        """Ends the last shard and writes the index."""
        self._file.close()
        rows = np.array(self._rows, np.int64).reshape(-1, 3)
        np.save(_index(self._folder, self._split), rows)

    def _opened(self) -> Any:
        return tf.io.TFRecordWriter(str(_shard(self._folder, self._split, self._shard)))


def remove(folder: Path, split: str) -> None:
    """Removes what a `Writer` has left of a split, the index and all shards."""
    _index(folder, split).unlink(missing_ok=True)
    for path in folder.glob(f"{split}-[0-9]*.tfrecord"):
        path.unlink()


class Records:
    """The records of one split by their number in file order; holds its index, nothing else."""

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
        """Yields the records from `start` on and before `stop`, one in memory at a time."""
        rows = self._rows[start:stop]
        for shard in np.unique(rows[:, 0]):
            with _shard(self._folder, self._split, shard).open("rb") as file:
                for _, offset, length in rows[rows[:, 0] == shard]:
                    file.seek(offset)
                    yield file.read(length)

    def read(self, indices: Sequence[int] | np.ndarray) -> list[bytes]:
        """Returns records in the order asked for; the disk is read in its own."""
        rows = self._rows[np.asarray(indices, np.int64)]
        found = [b""] * len(rows)
        places = np.lexsort((rows[:, 1], rows[:, 0]))
        for shard in np.unique(rows[:, 0]):
            with _shard(self._folder, self._split, shard).open("rb", buffering=0) as file:
                for place in places[rows[places, 0] == shard]:
                    file.seek(rows[place, 1])
                    found[place] = file.read(rows[place, 2])
        return found


@dataclasses.dataclass(frozen=True)
class _Form:
    """How values of one kind are put into a record, parsed, and, pictures apart, made a tensor."""

    put: Callable[[Any], Any]
    parsing: Callable[[], Any]
    get: Callable[[Any], Any] = lambda tensor: tensor


def _bytes(value: bytes) -> Any:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _texts(value: str) -> Any:
    return _bytes(value.encode("utf-8", "surrogateescape"))


def _integers(values: Sequence[int]) -> Any:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=map(operator.index, values)))


def _numbers(values: Sequence[float]) -> Any:
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{list(values)} is not finite")
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _boxes(boxes: Sequence[Sequence[float]]) -> Any:
    for top, left, bottom, right in boxes:
        if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
            raise ValueError(
                f"the box {(top, left, bottom, right)} is not (top, left, bottom, right) in [0, 1]"
            )
    return _numbers([side for box in boxes for side in box])


def _one(kind: str) -> Callable[[], Any]:
    return lambda: tf.io.FixedLenFeature([], kind)


def _many(shape: Sequence[int], kind: str) -> Callable[[], Any]:
    return lambda: tf.io.FixedLenSequenceFeature(shape, kind, allow_missing=True)


_FORMS: dict[Kind, _Form] = {
    "image": _Form(_bytes, _one("string")),
    "mask": _Form(_bytes, _one("string"), lambda encoded: tf.io.decode_png(encoded, channels=1)),
    "text": _Form(_texts, _one("string")),
    "integer": _Form(lambda value: _integers([value]), _one("int64")),
    "integers": _Form(_integers, _many([], "int64")),
    "number": _Form(lambda value: _numbers([value]), _one("float32")),
    "boxes": _Form(_boxes, _many([4], "float32")),
}


@functools.lru_cache(maxsize=16)
def _mapped(index: Path, *version: int) -> np.ndarray:
    """Returns an index, mapped once: TensorFlow never forgets what a data set reads by."""
    return np.load(index, mmap_mode="r")


def _shard(folder: Path, split: str, number: int) -> Path:
    return folder / f"{split}-{number:05d}.tfrecord"


def _index(folder: Path, split: str) -> Path:
    return folder / f"{split}.index.npy"
