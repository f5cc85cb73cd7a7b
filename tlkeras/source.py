"""Source: where examples come from.

A source yields every example once, in a fixed order, as ``(id, features)``. Pictures stay the
encoded bytes of their files; `tlkeras.data` checks them, cuts the splits and writes records.
"""

from __future__ import annotations

import abc
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlkeras.kind import Kind
from tlkeras.spec import Spec


class Source(Spec, plugins="tlkeras.sources"):
    """Labelled data. The same data gives the same ids, order and fingerprint on every machine."""

    @abc.abstractmethod
    def features(self) -> Mapping[str, Kind]:
        """Returns the kind of every key that `examples` yields, what a network reads first."""

    @abc.abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Returns the names of the classes, whose numbers features hold; none if there are none."""

    @abc.abstractmethod
    def examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields ``(id, features)`` of every example; ids are unique and outlive a re-ordering."""

    def between(self, start: int, stop: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields what `examples` yields from number `start` on and before `stop`.

        Workers read a data set so, in parts: overridden to leave out what comes before.
        """
        return itertools.islice(self.examples(), start, stop)

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Returns a text that changes when the data does, without reading all of it."""

    def title(self) -> str:
        """Returns what the data, and models made of them if nobody says otherwise, are called."""
        return self.member

    def labels(self) -> Iterator[tuple[str, Sequence[int]]]:
        """Yields ``(id, numbers of its classes)`` of every example, in order.

        The classes are those of the first feature that names any. Overridden where they can be had
        without reading the pictures.
        """
        naming = [(key, kind) for key, kind in self.features().items() if kind.least_classes][:1]
        for identity, features in self.examples():
            yield identity, [x for key, kind in naming for x in kind.classes_in(features[key])]

    def split(self, identity: str) -> str | None:
        """Returns the split the user has put an example in; None where it is to be cut by hash."""
        return None

    def remarks(self) -> list[str]:
        """Returns what to tell the user when the data is read: what was left out, and why."""
        return []

    @classmethod
    def expand(cls, text: str) -> str:
        """Returns the call for a bare path of an existing directory, ``photos/``."""
        try:
            return f"folder(path={text!r})" if Path(text).is_dir() else text
        except OSError:  # A long call is too long for the name of a file.
            return text


def content(file: Path) -> bytes:
    """Returns what is in a file; one that cannot be read is a ValueError, as other bad input is."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}.") from None


def stamp(files: Iterable[tuple[str, Path]]) -> str:
    """Returns a digest of files' names, sizes and times of change, none of them read."""
    digest = hashlib.sha256()
    for name, path in files:
        status = path.stat()
        line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
