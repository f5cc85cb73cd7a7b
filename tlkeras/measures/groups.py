"""Groups: every measure of a task by group, one tally a group, and how far groups are apart."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tlkeras.data import groups as membership
from tlkeras.data.batches import Data
from tlkeras.data.groups import MOST, Groups
from tlkeras.frameworks import tf
from tlkeras.measures.estimates import difference
from tlkeras.measures.measures import (
    COMPARED,
    ROUNDING,
    Measures,
    Scalar,
    Table,
    decimals,
    listed,
)
from tlkeras.measures.parity import LEAST, Parity, tied
from tlkeras.task import Tally, Task


def tallies(data: Data, split: str, max_gap: float | None = None) -> list[GroupTally]:
    """Returns a new tally for every feature of the kind ``group``.

    Raises:
        ValueError: `max_gap` is no share, or asks for a judgement that is not possible.
    """
    if max_gap is not None and not 0 <= max_gap <= 1:
        raise ValueError(f"--max_gap is {max_gap:g}, expected a share from 0 to 1.")
    keys = membership.keys(data.info)
    if max_gap is not None and not keys:
        raise ValueError(
            f"--max_gap={max_gap:g} compares groups, and the examples have none; name the columns "
            "that tell them in the source, such as csv(…, group='device')."
        )
    if not keys:
        return []
    named = membership.class_key(data.info, data.task.reads)
    train, held = (membership.members(data.folder, each, named) for each in ("train", split))
    found = [
        GroupTally(
            key,
            held.groups[key],
            _trained(train.groups[key], train.classes, len(data.classes)),
            data.task,
            data.classes,
        )
        for key in keys
    ]
    if max_gap is not None and (unknown := [each for one in found for each in one.unknown()]):
        raise ValueError(
            f"--max_gap={max_gap:g} cannot judge groups of the split {split}. {' '.join(unknown)} "
            "Give more examples, name other columns as groups, or leave out --max_gap."
        )
    return found


@dataclasses.dataclass(frozen=True)
class Trained:
    """The training examples by group.

    Attributes:
        totals: The number of examples of each group.
        classes: How many of them have each class, int [classes].
    """

    totals: Mapping[str, int]
    classes: Mapping[str, np.ndarray]


class GroupTally:
    """The tallies of the groups by one feature, over a split.

    Groups of fewer than `LEAST` examples are measured, but not compared. A feature of more than
    `MOST` groups is not measured: it names single things.
    """

    def __init__(
        self, key: str, groups: Groups, known: Trained, task: Task, classes: Sequence[str]
    ) -> None:
        """Begins with no example; `known` are the training examples."""
        self._key, self._groups, self._known = key, groups, known
        self._task, self._classes = task, classes
        self._tallies: dict[int, Tally] = {}
        self._parity: Parity | None = None

    def unknown(self) -> Iterator[str]:
        """Yields what cannot be judged, each as a sentence."""
        key, counts = self._key, self._groups.counts
        if not self._is_measured:
            yield (
                f"{key!r} has {len(counts):,} groups, more than the {MOST} that are compared: it "
                "seems to name single things."
            )
            return
        totals = self._known.totals
        if missing := [name for name in totals if not counts.get(name)]:
            told = [f"{name} ({totals[name]:,} in training)" for name in missing]
            yield (
                f"These groups of {key!r} have no example in the measured split, so nothing is "
                f"known of them: {listed(told)}."
            )
        if self._task.compares:
            yield (
                f"The groups of {key!r} are not compared: {self._task.name} measures each example "
                "among the others of its group, which is easier in a small one."
            )
        elif not self._compared:
            told = [f"{name} ({count:,})" for name, count in counts.items()]
            yield (
                f"The groups of {key!r} are not compared, for which two of at least {LEAST} "
                f"examples are needed: {listed(told)}."
            )

    def add(self, target: Any, served: Mapping[str, Any], first: int) -> None:
        """Adds a batch as `Tally.add` does."""
        if not self._is_measured:
            return
        numbers = self._groups.numbers[first : first + len(tf.nest.flatten(target)[0])]
        for number in np.unique(numbers).tolist():
            rows = np.flatnonzero(numbers == number)
            part = tf.nest.map_structure(lambda each: np.asarray(each)[rows], (target, served))  # noqa: B023
            if number not in self._tallies:
                self._tallies[number] = self._task.tally(self._classes)
            self._tallies[number].add(part[0], part[1], first)
        if decided := self._task.decided(target, served):
            if self._parity is None:
                signs = _signs(self._groups.names, self._known, len(self._classes))
                self._parity = Parity(self._groups.names, self._classes, signs)
            self._parity.add(numbers, *decided)

    def joined(self, found: Measures) -> Measures:
        """Returns the measures of all examples with those by group."""
        own = self.found
        return dataclasses.replace(
            found,
            scalars={**found.scalars, **own.scalars()},
            views=[*found.views, *own.views()],
            remarks=[*found.remarks, *own.remarks()],
        )

    @functools.cached_property
    def found(self) -> Found:
        """What was measured, once all examples were added."""
        return Found(
            self._key,
            {
                (number, self._groups.names[number]): dataclasses.replace(
                    tally.measures(), views=()
                )
                for number, tally in sorted(self._tallies.items())
            },
            self._compared,
            self._parity,
            [*self.unknown()],
        )

    @property
    def _is_measured(self) -> bool:
        return len(self._groups.names) <= MOST

    @property
    def _compared(self) -> list[int]:
        """The numbers of the groups that are compared; none if there are not two."""
        counts = self._groups.counts.values()
        large = [number for number, count in enumerate(counts) if count >= LEAST]
        is_comparable = self._is_measured and not self._task.compares
        return large if is_comparable and len(large) > 1 else []


@dataclasses.dataclass(frozen=True)
class Found:
    """The measures by one feature.

    Attributes:
        key: The feature.
        measured: Of every group with an example, by number and name; without views.
        compared: The numbers of the groups that are compared, two at least or none.
        parity: What classes the groups are given, of a task that decides on classes.
        unknown: What cannot be judged, each as a sentence.
    """

    key: str
    measured: Mapping[tuple[int, str], Measures]
    compared: Sequence[int]
    parity: Parity | None
    unknown: Sequence[str]

    @property
    def extremes(self) -> list[tuple[str, Measures]]:
        """The group of the best primary measure and that of the worst; none of fewer than two."""
        found = [
            (name, each)
            for (number, name), each in self.measured.items()
            if number in self.compared and each.score.is_defined
        ]
        found.sort(key=lambda each: _rank(each[1].score))
        return [found[0], found[-1]] if len(found) > 1 else []

    @property
    def _undefined(self) -> list[str]:
        """The groups that would be compared, and have no primary measure."""
        return [
            name
            for (number, name), each in self.measured.items()
            if number in self.compared and not each.score.is_defined
        ]

    def scalars(self) -> dict[str, Scalar]:
        """Returns the worst group's primary measure, and how far the groups are apart.

        ``gap`` is between the best and the worst group, in the unit of the measure. Its interval is
        that of two groups chosen before; of many groups the best and the worst differ by chance.
        """
        found: dict[str, Scalar] = {}
        if self.extremes:
            (_, best), (_, worst) = self.extremes
            found[f"worst_{worst.primary}_{self.key}"] = worst.score
            found[f"gap_{self.key}"] = difference(best.score, worst.score)
        if self.compared and self.parity:
            found |= self.parity.scalars(self.key, self.compared)
        return found

    def views(self) -> list[Table]:
        """Returns the primary measure by group, then every measure, then rates of classes."""
        if not self.measured:
            return []
        title, (first, *_) = f"Groups by {self.key}", self.measured.values()
        primary = _words(first.primary)
        rows = [
            (
                name,
                each.count,
                each.score.value if each.score.is_defined else None,
                _range(each.score) or None,
                number in self.compared and each.score.is_defined,
            )
            for (number, name), each in self.measured.items()
        ]
        measures = [
            *dict.fromkeys(name for each in self.measured.values() for name in each.scalars)
        ]
        every = [
            (_words(name), *(_cell(each.scalars.get(name)) for each in self.measured.values()))
            for name in measures
        ]
        views = [
            Table(
                title,
                [self.key, "examples", primary, "95 % interval", COMPARED],
                rows,
                f"Groups of fewer than {LEAST} examples are not compared.",
                weakest=primary,
                more_is_better=first.score.more_is_better,
            ),
            Table(
                title,
                ["measure", *(name for _, name in self.measured)],
                every,
                "Every measure of each group, with its 95 % interval.",
            ),
        ]
        if self.parity:
            numbers = [number for number, _ in self.measured]
            views.append(self.parity.table(self.key, numbers, title))
        return views

    def remarks(self) -> Iterator[str]:
        """Yields what is not known, and a gap whose interval is above 0."""
        yield from self.unknown
        if self._undefined:
            yield (
                f"In these groups of {self.key!r} there is nothing to find and nothing was found, "
                f"so they are not compared: {listed(self._undefined)}."
            )
        if self.extremes:
            (best, high), (worst, low) = self.extremes
            gap = difference(high.score, low.score)
            if gap.interval and gap.interval[0] > 0:
                yield (
                    f"By {self.key!r}, the {_words(low.primary)} of {worst} is {_told(low)}, that "
                    f"of {best} {_told(high)}."
                )

    def too_far(self, most: float) -> Iterator[str]:
        """Yields a reason not to bless a model whose worst group loses more than `most`.

        The loss is that of `Scalar.lost`: a difference of shares, or a part of the better value.
        """
        if self.extremes:
            (best, high), (worst, low) = self.extremes
            lost = low.score.lost(high.score)
            if not lost <= most + ROUNDING:
                yield (
                    f"by {self.key!r}, the {_words(low.primary)} of {worst} is {_told(low)}, worse "
                    f"by {lost:.4f} than that of {best}, {_told(high)}; more than the {most:.4f} "
                    "of --max_gap"
                )
        elif self._undefined:
            yield (
                f"by {self.key!r}, --max_gap compares no two groups: there is nothing to find in "
                f"{listed(self._undefined)}"
            )


def _trained(groups: Groups, classes: Sequence[tuple[int, ...]], count: int) -> Trained:
    """Returns the training examples by group; `count` is the number of classes."""
    # The classes of single things have no use, and would take their number times the classes.
    names = groups.names if len(groups.names) <= MOST else ()
    found = np.zeros([len(names), count], np.int64)
    if names:
        for group, own in zip(groups.numbers, classes, strict=False):
            found[group, [*own]] += 1
    return Trained(groups.counts, dict(zip(names, found, strict=True)))


def _signs(names: Sequence[str], known: Trained, classes: int) -> np.ndarray:
    """Returns `parity.tied` of the training examples, with the groups in the order of `names`.

    Training may have more groups; of all, classes have their shares.
    """
    every = [*dict.fromkeys([*names, *known.totals])]
    none = np.zeros(classes, np.int64)
    counts = np.array([known.classes.get(name, none) for name in every])
    return tied(counts, np.array([known.totals.get(name, 0) for name in every]))[: len(names)]


def _rank(scalar: Scalar) -> float:
    """Returns a number that is smaller the better a measure is."""
    return -scalar.value if scalar.more_is_better else scalar.value


def _words(name: str) -> str:
    return name.replace("_", " ")


def _told(measures: Measures) -> str:
    score = measures.score
    interval = f"{_range(score)}, " if score.interval else ""
    return f"{decimals(score.value)} ({interval}{measures.count:,} examples)"


def _cell(scalar: Scalar | None) -> str | None:
    if scalar is None or not scalar.is_defined:
        return None
    if not scalar.interval:
        return decimals(scalar.value)
    return f"{decimals(scalar.value)} ({_range(scalar)})"


def _range(scalar: Scalar) -> str:
    """Returns the text of an interval, empty if there is none."""
    return " to ".join(map(decimals, scalar.interval or ()))
