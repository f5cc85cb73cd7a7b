"""Samples: examples as drift compares them, columns of numbers and words, and rows of features.

A pushed version holds a sample of the examples on which its model was measured, the *reference*:
``reference.json`` and, of models with features, ``reference.npy``. It has at most `ROWS` examples
and `CHANNELS` channels, so at most 0.6 MB. It holds no id, no text and no picture. It does reveal
how sizes, brightness, labels and predictions are distributed. Whoever has a picture and the model
can tell from the features whether the picture is likely among the examples.
"""

from __future__ import annotations

import array
import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras import files

if TYPE_CHECKING:
    from tlkeras.kind import Kind

COLUMNS, FEATURES = "reference.json", "reference.npy"
"""The files of a sample: its columns, and its rows of features."""

ROWS, CHANNELS = 1000, 256

# Of a number of a sample, before it is written, too: values compared with those of a file would
# otherwise all lie beside them.
_DIGITS = 6

# Two near copies share it, so it tells one picture from all others.
_HASH = "hash"

Seen = tuple[Mapping[str, float], Mapping[str, Sequence[str]]]
"""What is seen of one example: a number by column, and words by column."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """Examples of one distribution.

    Attributes:
        count: How many examples.
        numbers: By column, finite numbers of six digits; examples without one have none.
        words: By column, how many examples have each word. Of an example with several words one
            counts, so that examples stay independent; of one without any, the empty word.
        features: Of at most `ROWS` of the examples, float16 [rows, channels]; [0, 0] without.
    """

    count: int
    numbers: Mapping[str, np.ndarray]
    words: Mapping[str, Mapping[str, int]]
    features: np.ndarray

    def write(self, folder: Path) -> None:
        """Writes both files; equal samples give equal bytes."""
        columns = {
            "count": self.count,
            "numbers": {name: values.tolist() for name, values in self.numbers.items()},
            "words": {name: dict(counts) for name, counts in self.words.items()},
        }
        files.write_json(folder / COLUMNS, columns)
        if len(self.features):
            np.save(folder / FEATURES, self.features)


def read(folder: Path) -> Sample:
    """Returns the sample in a folder.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    try:
        columns = files.read_json(folder / COLUMNS)
        has_features = (folder / FEATURES).exists()
        return Sample(
            columns["count"],
            {name: np.array(values) for name, values in columns["numbers"].items()},
            columns["words"],
            np.load(folder / FEATURES) if has_features else np.zeros([0, 0], np.float16),
        )
    except FileNotFoundError:
        raise ValueError(
            f"{folder} has no {COLUMNS}: it was pushed by an earlier version of tlkeras. Run the "
            "pipeline again; it pushes a version that new data can be compared with."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise ValueError(
            f"The reference of {folder} is damaged ({error!r}); push the model again."
        ) from None


class Gathering:
    """What has been seen of examples so far; of features, only the rows of a sample."""

    def __init__(self) -> None:
        """Begins without any."""
        self.count = 0
        self._numbers: dict[str, array.array[float]] = {}
        self.words: dict[str, Counter[str]] = {}
        self._drawn: dict[str, Counter[str]] = {}
        self._keys, self._rows = np.zeros([0], np.uint64), np.zeros([0, 0], np.float16)

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """By column, the numbers of all examples, float64."""
        return {name: np.array(values) for name, values in sorted(self._numbers.items())}

    def add(
        self, ids: Sequence[str], seen: Sequence[Seen], features: np.ndarray | None = None
    ) -> None:
        """Adds examples; `features` are of all of them, [n, channels]."""
        keys = np.array([_key(identity) for identity in ids], np.uint64)
        self.count += len(ids)
        for key, each in zip(keys.tolist(), seen, strict=True):
            self._see(key, each)
        if features is not None:
            self._take(keys, projected(features))

    def complete(self, identity: str, seen: Seen) -> None:
        """Adds columns of an example that has been added without them."""
        self._see(_key(identity), seen)

    def _see(self, key: int, seen: Seen) -> None:
        numbers, words = seen
        for name, value in numbers.items():
            if math.isfinite(value):
                self._numbers.setdefault(name, array.array("d")).append(value)
        for name, each in words.items():
            self.words.setdefault(name, Counter()).update(each)
            drawn = each[key % len(each)] if each else ""
            self._drawn.setdefault(name, Counter())[drawn] += 1

    def _take(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Takes over rows of features; of all so far, those of the least keys remain."""
        if not len(keys):
            return
        held = self._rows if len(self._rows) else rows[:0]
        keys, rows = np.concatenate([self._keys, keys]), np.concatenate([held, rows])
        # The order of the rows then depends on the examples alone.
        order = np.argsort(keys, kind="stable")[:ROWS]
        self._keys, self._rows = keys[order], rows[order]

    def write(self, folder: Path) -> None:
        """Writes all into a folder, for `join` to read."""
        arrays: dict[str, Any] = {f"numbers/{name}": each for name, each in self.numbers.items()}
        np.savez(folder / _SEEN, keys=self._keys, rows=self._rows, **arrays)
        files.write_json(folder / _COUNTS, [self.count, self.words, self._drawn])

    def join(self, folder: Path) -> None:
        """Adds what `write` wrote of other examples."""
        count, words, drawn = files.read_json(folder / _COUNTS)
        self.count += count
        for mine, theirs in ((self.words, words), (self._drawn, drawn)):
            for name, counts in theirs.items():
                mine.setdefault(name, Counter()).update(counts)
        with np.load(folder / _SEEN) as arrays:
            for name in arrays.files:
                if name.startswith("numbers/"):
                    column = name.removeprefix("numbers/")
                    own = self._numbers.setdefault(column, array.array("d"))
                    own.frombytes(arrays[name].tobytes())
            self._take(arrays["keys"], arrays["rows"])

    def sample(self) -> Sample:
        """Returns the sample of all examples."""
        words = {name: dict(sorted(each.items())) for name, each in sorted(self._drawn.items())}
        numbers = {name: _rounded(values) for name, values in self.numbers.items()}
        return Sample(self.count, numbers, words, self._rows)


_SEEN, _COUNTS = "seen.npz", "seen.json"


def of_traits(feature: str, traits: Mapping[str, float | str]) -> Seen:
    """Returns the columns of what `Kind.traits` returned; all but the hash."""
    numbers: dict[str, float] = {}
    words: dict[str, Sequence[str]] = {}
    for name, value in traits.items():
        column = f"{feature}.{name}"
        if isinstance(value, str):
            if name != _HASH:
                words[column] = [value]
        else:
            numbers[column] = value
    return numbers, words


def of_values(values: Mapping[str, Any], kinds: Mapping[str, Kind], classes: Sequence[str]) -> Seen:
    """Returns what is seen of the standard values of an example by `Kind.summary`."""
    numbers: dict[str, float] = {}
    words: dict[str, Sequence[str]] = {}
    for name, kind in kinds.items():
        columns, found = kind.summary(values[name], classes)
        numbers |= {f"{name}{column}": value for column, value in columns.items()}
        if kind.least_classes:
            words[name] = found
    return numbers, words


def merged(*seen: Seen) -> Seen:
    """Returns all columns of what is seen of one example; of equal names, the last one counts."""
    numbers: dict[str, Any] = {}
    words: dict[str, Any] = {}
    for each in seen:
        numbers |= each[0]
        words |= each[1]
    return numbers, words


def projected(features: np.ndarray) -> np.ndarray:
    """Returns rows of at most `CHANNELS` numbers, float16, whose distances are nearly the same.

    Wider rows are multiplied by a fixed matrix of random signs (Achlioptas 2003,
    https://doi.org/10.1016/S0022-0000(03)00025-4).
    """
    channels = features.shape[-1]
    if channels > CHANNELS:
        # This generator alone gives the same numbers in all versions of NumPy.
        signs = np.random.RandomState(0).randint(0, 2, [channels, CHANNELS]) * 2 - 1
        features = features @ (signs / np.sqrt(CHANNELS)).astype(np.float32)
    return np.clip(features, -6e4, 6e4).astype(np.float16)


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values.tolist()])


def _key(identity: str) -> int:
    digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big")
