"""Findings: what ingest learns of the examples while it reads them, kept beside the records."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from tlkeras import spec
from tlkeras.data import planning
from tlkeras.data.planning import Plan
from tlkeras.data.records import Info
from tlkeras.data.splits import TRAIN
from tlkeras.doctor import defects, duplicates, traits
from tlkeras.doctor.defects import Defect
from tlkeras.doctor.duplicates import Copies, Group
from tlkeras.doctor.traits import Row

FILES = (defects.QUARANTINE, defects.NOTES, traits.FILE, duplicates.FILE)

_ARTICLES = {"exact": "an", "near": "a"}

# Below this largest value 16 bits become at most 64 grey levels: data of 14 bits or fewer.
_DARK = 2**14


@dataclasses.dataclass(frozen=True)
class Ready:
    """One example after its check, without its record.

    Attributes:
        identity: Its id.
        digest: Of the picture or text, equal for copies.
        defect: The word for why it cannot be used, or an empty text.
        reason: The same in a sentence, as it follows the id.
        brightest: The largest value of its 16-bit picture, or -1.
        sha256: See `Row`.
        traits: See `Row`.
        numbers: See `Row`.
        words: See `Row`.
    """

    identity: str
    digest: str = ""
    defect: str = ""
    reason: str = ""
    brightest: int = -1
    sha256: str = ""
    traits: Mapping[str, traits.Traits] = dataclasses.field(default_factory=dict)
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    words: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)


class Findings:
    """All examples so far: traits, broken ones, copies, and 16-bit pictures."""

    def __init__(self, plan: Plan, out: Path) -> None:
        """Opens the file of traits."""
        self._plan, self._out = plan, out
        self._ids = iter(plan.sides)
        self._broken: list[Defect] = []
        self._deep, self._brightest = 0, 0
        self._copies = Copies(plan.info.features)
        self._lines = (out / traits.FILE).open("w", encoding="utf-8", errors="surrogateescape")

    def __enter__(self) -> Self:
        """Returns the findings, whose file of traits ends with the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the file of traits."""
        self._lines.close()

    def add(self, each: Ready, labels: Sequence[int]) -> None:
        """Takes the next example of the plan."""
        # Equal to its own id, which would be in memory twice.
        sides, identity = self._plan.sides, next(self._ids)
        if each.defect:
            self._broken.append(Defect(identity, sides[identity], each.defect, each.reason))
            return
        seen = (each.traits, each.numbers, each.words)
        row = Row(identity, sides[identity], [*labels], each.sha256, *seen)
        self._lines.write(f"{row.line()}\n")
        self._copies.add(identity, each.digest, each.traits)
        if each.brightest >= 0:
            self._deep += 1
            self._brightest = max(self._brightest, each.brightest)

    def require_enough(self, max_bad_fraction: float, report: Path) -> Iterator[str]:
        """Yields messages on the examples that are left out.

        Raises:
            ValueError: They are too many, or leave none for training; `report` lists them.
        """
        if not self._broken:
            return
        sides, info = self._plan.sides, self.info()
        bad, share = len(self._broken), len(self._broken) / len(sides)
        told = [f"{each.identity} {each.reason}" for each in self._broken]
        listed = spec.listed(told, separator="\n  ")
        if share > max_bad_fraction or TRAIN not in info.counts:
            report.parent.mkdir(parents=True, exist_ok=True)
            defects.write(report, self._broken)
            raise ValueError(
                f"{bad:,} of {len(sides):,} examples cannot be used:\n  {listed}\n"
                + _advice(share, max_bad_fraction, report.absolute())
            )
        yield (
            f"{bad:,} of {len(sides):,} examples cannot be used and are left out; "
            f"{defects.QUARANTINE} of the examples lists them:\n  {listed}"
        )
        before = planning.lacking(self._plan.info)
        for name, labels in planning.lacking(info).items():
            if lost := [label for label in labels if label not in before.get(name, ())]:
                yield f"Without them, the split {name} has no example of {spec.listed(lost)}."
        if gone := [name for name in self._plan.info.counts if name not in info.counts]:
            yield f"Without them, there is no split {spec.listed(gone)}."

    def info(self) -> Info:
        """Returns the description of the folder with what can be used."""
        return self._plan.without({each.identity for each in self._broken})

    def write(
        self, left_out: Iterable[tuple[str, str, str]], moves: Callable[[str], bool]
    ) -> Iterator[str]:
        """Writes the lists beside the traits, then yields messages on copies and dark pictures.

        Args:
            left_out: The files that are no examples, as `Source.left_out` yields them.
            moves: Tells of an id whether ``split(dedup=True)`` may put it into another split.
        """
        self._lines.close()
        sides = self._plan.sides
        others = [Defect(name, "", defect, reason) for name, defect, reason in left_out]
        defects.write(self._out / defects.QUARANTINE, self._broken)
        defects.write(self._out / defects.NOTES, [*self._notes(), *self._torn(), *others])
        groups = [
            Group(ids, [sides[each] for each in ids], not any(numbers), distance, numbers)
            for ids, numbers, distance in self._copies.groups()
        ]
        duplicates.write(self._out, groups)
        if exact := [
            " = ".join(f"{name} ({sides[name]})" for name in pair)
            for pair in self._copies.equal()
            if len({sides[name] for name in pair}) > 1
        ]:
            yield _leaking("exact", exact)
        if near := [pair for group in groups for pair in _apart(group)]:
            joins = any(_joins(group, moves) for group in groups)
            yield _leaking("near", near, ", or cut them with split(dedup=True)" if joins else "")
        # One file alone may be dark by nature; the largest value of all files is the scanner's.
        if self._deep and self._brightest < _DARK:
            yield (
                f"{self._deep:,} pictures have 16 bits and no value above {self._brightest}, so "
                f"they keep {self._brightest // 256 + 1} grey levels: the upper 8 of 16 bits "
                f"count. Multiply them by {2 ** (16 - self._brightest.bit_length())} first to "
                "keep more."
            )

    def _notes(self) -> list[Defect]:
        """Returns what is worth a look, in the order of the source."""
        sides = self._plan.sides
        found = [
            Defect(identity, sides[identity], defect, reason)
            for key, kind in self._plan.info.features.items()
            for identity, defect, reason in kind.oddities(_Column(self._out, key))
        ]
        places = {identity: place for place, identity in enumerate(sides)} if found else {}
        return sorted(found, key=lambda each: places[each.identity])

    def _torn(self) -> Iterator[Defect]:
        """Yields the examples beside the training split whose group has one in it.

        Their group has no name here, as that can be a person's.
        """
        if not self._plan.groups:
            return
        broken = {each.identity for each in self._broken}
        pairs = zip(self._plan.sides.items(), self._plan.groups, strict=True)
        rows = [(*pair, group) for pair, group in pairs if pair[0] not in broken]
        trained = {group for _, side, group in rows if side == TRAIN}
        for identity, side, group in rows:
            if side != TRAIN and group in trained:
                reason = "is of a group, such as a patient, that training has others of"
                yield Defect(identity, side, defects.TORN, reason)


@dataclasses.dataclass(frozen=True)
class _Column:
    """The id and the traits of one feature of every example, read from the disk each time."""

    examples: Path
    key: str

    def __iter__(self) -> Iterator[tuple[str, traits.Traits]]:
        with contextlib.closing(traits.read(self.examples)) as rows:
            for row in rows:
                if self.key in row.traits:
                    yield row.identity, row.traits[self.key]


def _advice(share: float, most: float, report: Path) -> str:
    """Returns the end of the message of a run that stops."""
    if share > most:
        enough = min(math.ceil(share * 1000) / 1000, 1.0)
        allowed = f"That is {share:.1%}, and max_bad_fraction={most:g} allows {most:.1%}. "
        way = f", or leave them out by max_bad_fraction={enough:g}"
    else:
        allowed, way = "They leave no example for training. ", ""
    return f"{allowed}{report} lists all of them. Repair or remove them{way}; then run again."


def _apart(group: Group) -> Iterator[str]:
    """Yields the near copies of the first member of a group in another split than its own."""
    first, side = group.ids[0], group.splits[0]
    for place, (identity, other) in enumerate(zip(group.ids, group.splits, strict=True)):
        if other != side and not group.are_equal(0, place):
            yield f"{first} ({side}) ~ {identity} ({other})"


def _joins(group: Group, moves: Callable[[str], bool]) -> bool:
    """Returns whether copies in several splits may be put into one."""
    sides = zip(group.ids, group.splits, strict=True)
    return len({side for identity, side in sides if moves(identity)}) > 1


def _leaking(kind: str, pairs: Sequence[str], hint: str = "") -> str:
    is_one = len(pairs) == 1
    found = f"is {_ARTICLES[kind]} {kind} copy" if is_one else f"are {kind} copies"
    return (
        f"{len(pairs):,} {'example' if is_one else 'examples'} {found} of one in another split, so "
        f"measures will flatter the model. {'It stays' if is_one else 'They stay'}; better remove "
        f"{'it' if is_one else 'them'}{hint}:\n  " + spec.listed(pairs, separator="\n  ")
    )
