"""Duplicates: groups of exact and near copies among the examples of a folder.

``duplicates.json`` has a list of groups, each with the fields of `Group`, named ``ids``,
``splits``, ``exact``, ``distance`` and ``numbers``.
"""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tlkeras import files
from tlkeras.doctor.sets import Sets
from tlkeras.kind import Kind

FILE = "duplicates.json"


@dataclasses.dataclass(frozen=True)
class Group:
    """Examples that copies connect.

    Attributes:
        ids: Their ids, in the order of the source.
        splits: The split of each.
        exact: Whether all are equal.
        distance: The largest distance of two near copies that connect them, 0 for equal ones: of
            pictures the share of differing bits, of texts of differing values in their sketches.
        numbers: Of each, a number that those equal to it have, too; without any, see `exact`.
    """

    ids: Sequence[str]
    splits: Sequence[str]
    exact: bool
    distance: float
    numbers: Sequence[int] = ()  # An earlier version wrote none.

    def are_equal(self, one: int, other: int) -> bool:
        """Returns whether two are equal, by their places in the group."""
        return self.exact or (bool(self.numbers) and self.numbers[one] == self.numbers[other])


class Copies:
    """The digests and hashes of examples so far, from which groups are made; no values."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        """Takes the kinds of the features; copies are of the inputs of the first kind."""
        self._kind = next(iter(kinds.values()))
        self._keys = [key for key, kind in kinds.items() if kind == self._kind]
        self._ids: list[str] = []
        self._digests, self._hashes = bytearray(), bytearray()
        self._hashed = array.array("q")

    def add(
        self, identity: str, digest: str, traits: Mapping[str, Mapping[str, float | str]]
    ) -> None:
        """Takes an example: the digest that exact copies share, and its traits by feature."""
        found = [str(traits[key]["hash"]) for key in self._keys if traits.get(key, {}).get("hash")]
        if len(found) == len(self._keys):
            self._hashed.append(len(self._ids))
            self._hashes += bytes.fromhex("".join(found))
        self._ids.append(identity)
        self._digests += bytes.fromhex(digest)

    def groups(self) -> list[tuple[list[str], list[int], float]]:
        """Returns of every group the ids, numbers that equal ones share, and the largest distance.

        The numbers are 0 and up.
        """
        sets, copied = Sets(), set[int]()
        pairs = list(self._pairs())
        for one, other in (*self._equal(), *((one, other) for one, other, _ in pairs)):
            sets.join(min(one, other), max(one, other))
            copied |= {one, other}
        members: dict[int, list[int]] = {}
        for number in sorted(copied):
            members.setdefault(sets.root(number), []).append(number)
        digests = self._words()
        furthest: dict[int, float] = {}
        for one, _, distance in pairs:
            root = sets.root(one)
            furthest[root] = max(furthest.get(root, 0.0), distance)
        found = sorted((each, root) for root, each in members.items())
        return [
            (
                [self._ids[number] for number in each],
                np.unique(digests[each], axis=0, return_inverse=True)[1].ravel().tolist(),
                furthest.get(root, 0.0),
            )
            for each, root in found
        ]

    def equal(self) -> Iterator[tuple[str, str]]:
        """Yields the ids of every exact copy, behind the first that it is equal to."""
        for one, other in self._equal():
            yield self._ids[one], self._ids[other]

    def _words(self) -> np.ndarray:
        """Returns the digests as numbers, uint64 [examples, 4]."""
        return np.frombuffer(self._digests, np.uint64).reshape(len(self._ids), -1)

    def _equal(self) -> Iterator[tuple[int, int]]:
        """Yields the first of every set of equal examples with each of its copies, in order."""
        if not self._ids:
            return
        digests = self._words()
        order = np.lexsort(digests.T)  # It is stable.
        same = (digests[order[1:]] == digests[order[:-1]]).all(axis=1)
        starts = np.flatnonzero(np.concatenate([[True], ~same]))
        firsts = np.repeat(order[starts], np.diff(starts, append=len(order)))
        copied = np.flatnonzero(firsts != order)
        for place in copied[np.argsort(order[copied])]:
            yield int(firsts[place]), int(order[place])

    def _pairs(self) -> Iterable[tuple[int, int, float]]:
        """Yields the near copies that are not equal, by the numbers of the examples."""
        if not self._hashed:
            return
        shape = (len(self._hashed), len(self._keys), -1)
        hashes = np.frombuffer(self._hashes, np.uint8).reshape(shape)
        digests = self._words()
        for one, other, distance in self._kind.copies(hashes):
            first, second = self._hashed[one], self._hashed[other]
            if (digests[first] != digests[second]).any():
                yield first, second, distance


def write(examples: Path, groups: Iterable[Group]) -> None:
    """Writes the groups of a folder of examples; the file appears whole."""
    files.write_json(examples / FILE, [dataclasses.asdict(each) for each in groups])


def read(examples: Path) -> list[Group]:
    """Returns the groups of a folder of examples, in the order of their first ids."""
    return [Group(**row) for row in files.read_json(examples / FILE)]
