"""Index: where the examples of text files begin, so that any part of them is read alone.

Of every example the id, the classes and the first byte are in memory, about 130 bytes; its text is
read when it is asked for.
"""

from __future__ import annotations

import array
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlkeras import spec
from tlkeras.kind import Kind

SPACES = "labels have spaces around them, which do not count"
"""A note of a `Row`."""


class Row(NamedTuple):
    """One example as it stands in a file.

    Attributes:
        identity: Its id.
        values: Every feature by key, with names of classes in place of their numbers.
        split: The split that its line tells.
        together: What it shares with those that it stays with in one split, if it shares anything.
        notes: What is odd in it, by a word of the source's, each time with what was found.
    """

    identity: str
    values: dict[str, Any]
    split: str | None = None
    together: str = ""
    notes: Sequence[tuple[str, str]] = ()


Cut = Callable[[Path, int], Iterator[tuple[int, int, Any]]]
"""From a file and a byte in it: the first byte, a line and the raw form of each example."""

Parse = Callable[[int, Any], Row]
"""From a line and the raw form of an example; raises with the line if it is wrong."""


def digest(*texts: str) -> str:
    """Returns the id of an example without a name: 16 hexadecimal digits of its texts."""
    joined = "\0".join(texts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:16]


class Index:
    """The examples of files, in order.

    Attributes:
        classes: The names of the classes, sorted as numbers if all are whole numbers.
        ids: Of the second of equal examples ``…-2``; in files of splits ``train/…``.
        labels: The numbers of the classes of each example, every number once.
        sides: The split of each id whose file or line tells it.
        together: A digest of what each id shares with those that it stays with, if it does.
        notes: How many times each note was taken, and the first of them.
    """

    def __init__(
        self,
        files: Sequence[tuple[Path, str | None]],
        kinds: Mapping[str, Kind],
        cut: Cut,
        parse: Parse,
        classes: Sequence[str] = (),
        unique: bool = False,
    ) -> None:
        """Reads all files once.

        Args:
            files: Each with its split.
            kinds: The features. The classes are those of the first that names any.
            cut: Finds the examples in a file.
            parse: Reads one of them.
            classes: The names of the classes where they are known before, in their order.
            unique: Whether ids are names, which stand alone and must not come again.

        Raises:
            ValueError: The lines that are wrong, and why.
        """
        self.ids: list[str] = []
        self.sides: dict[str, str] = {}
        self.together: dict[str, str] = {}
        self.notes: dict[str, tuple[int, str]] = {}
        self._cut, self._parse = cut, parse
        self._naming = [key for key, kind in kinds.items() if kind.least_classes]
        self._starts = array.array("Q")
        self._files: list[tuple[Path, str, int]] = []
        pool: dict[tuple[str, ...], tuple[str, ...]] = {}
        names: list[tuple[str, ...]] = []
        times: dict[str, int] = {}
        shared: dict[str, str] = {}
        for file, split in files:
            wrong: list[str] = []
            before, prefix = len(self.ids), f"{split}/" if split and not unique else ""
            for start, line, raw in cut(file, 0):
                try:
                    row = parse(line, raw)
                    identity = f"{prefix}{row.identity}"
                    times[identity] = times.get(identity, 0) + 1
                    if times[identity] > 1 and unique:
                        raise ValueError(f"line {line} names {identity} again")
                except ValueError as error:
                    wrong.append(f"{error}")
                    continue
                if times[identity] > 1:
                    identity = f"{identity}-{times[identity]}"
                self.ids.append(identity)
                self._starts.append(start)
                if side := row.split or split:
                    self.sides[identity] = side
                if row.together:
                    named = digest(row.together)
                    self.together[identity] = shared.setdefault(named, named)
                found = self._named(row)
                names.append(pool.setdefault(found, found))
                for word, what in row.notes:
                    count, first = self.notes.get(
                        word, (0, f"{what} in line {line} of {file.name}")
                    )
                    self.notes[word] = count + 1, first
            if wrong:
                raise ValueError(f"{file}:\n  " + spec.listed(wrong, separator="\n  "))
            self._files.append((file, prefix, len(self.ids) - before))
        self.classes = tuple(classes) or sorted_names({name for found in pool for name in found})
        self._numbers = {name: number for number, name in enumerate(self.classes)}
        labels = {found: tuple(self._numbers[name] for name in found) for found in pool}
        self.labels = [labels[found] for found in names]

    def between(self, start: int, stop: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields id and features of the examples from number `start` on and before `stop`."""
        first = 0
        for file, prefix, count in self._files:
            numbers = range(first, first + count)[max(start - first, 0) : max(stop - first, 0)]
            if numbers:
                rows = self._cut(file, self._starts[numbers.start])
                for number, (_, line, raw) in zip(numbers, rows, strict=False):
                    row, identity = self._parse(line, raw), self.ids[number]
                    if not identity.startswith(f"{prefix}{row.identity}"):
                        raise ValueError(f"{file} changed while it was read; run again.")
                    yield identity, {key: self._value(key, row) for key in row.values}
            first += count

    def told(self) -> list[str]:
        """Returns a message on each note, and on classes that differ in capital letters alone."""
        messages = [
            f"{count:,} {word}; the first is {first}."
            for word, (count, first) in self.notes.items()
        ]
        lower: dict[str, list[str]] = {}
        for name in self.classes:
            lower.setdefault(name.casefold(), []).append(name)
        if alike := [spec.listed(each) for each in lower.values() if len(each) > 1]:
            messages.append(f"Classes that differ in capital letters alone: {'; '.join(alike)}.")
        return messages

    def _named(self, row: Row) -> tuple[str, ...]:
        """Returns the names of the classes of an example, each once."""
        for key in self._naming:
            value = row.values[key]
            return (value,) if isinstance(value, str) else tuple(sorted({*value}))
        return ()

    def _value(self, key: str, row: Row) -> Any:
        value = row.values[key]
        if key not in self._naming:
            return value
        if isinstance(value, str):
            return self._numbers[value]
        return [self._numbers[name] for name in value]


def sorted_names(names: set[str]) -> tuple[str, ...]:
    """Returns the names of classes in order, as numbers if all are whole numbers."""
    whole = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if whole else 0, name)))
