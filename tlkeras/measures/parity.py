"""Parity: how evenly classes are given to the examples of groups, from counts by class and group.

Of each class, every other class is its opposite: an example has it or not, and is given it or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tlkeras.measures.estimates import difference
from tlkeras.measures.measures import Scalar, Table, share

LEAST = 20
"""Groups of fewer examples are not compared, nor rates of fewer."""

CLASSES = 20
"""So many classes are shown, those in which groups differ most."""

_SELECTED, _TRUE, _FALSE = "selected", "true positive", "false positive"
_SIDES: Mapping[str, list[int]] = {_SELECTED: [0, 1], _TRUE: [1], _FALSE: [0]}
"""By rate, whether it is of examples without the class, 0, or with it, 1."""

_DRAWS, _TAILS = 2000, (2.5, 97.5)
_SAME = 1e-12  # Products of shares are equal but for the rounding.


class Parity:
    """The decisions on the examples of some groups.

    Attributes:
        counts: Examples by group, class, whether they are given it and whether they have it:
            int64 [groups, classes, 2, 2].
    """

    def __init__(self, names: Sequence[str], classes: Sequence[str], signs: np.ndarray) -> None:
        """Begins with no example; `signs` are those of `tied`, of the training examples."""
        self._names, self._classes, self._signs = names, classes, signs
        self.counts = np.zeros([len(names), len(classes), 2, 2], np.int64)
        # Of every group, how many examples have each value of what `amplified` is the mean of.
        self._values: list[dict[int, int]] = [{} for _ in names]

    def add(self, groups: np.ndarray, had: np.ndarray, given: np.ndarray) -> None:
        """Adds examples: their groups, int [b], and classes, both bool [b, classes]."""
        places = np.arange(had.shape[1])
        np.add.at(self.counts, (groups[:, None], places, given.astype(int), had.astype(int)), 1)
        values = (self._signs[groups] * (given.astype(int) - had)).sum(axis=1)
        for group, value in zip(groups.tolist(), values.tolist(), strict=True):
            self._values[group][value] = self._values[group].get(value, 0) + 1

    def scalars(self, key: str, groups: Sequence[int]) -> dict[str, Scalar]:
        """Returns the gaps between groups, by their numbers, of the class in which each is largest.

        ``demographic_parity``: the difference of selection rates, the shares that are given a
        class. ``equalised_odds``: of true or of false positive rates, the larger difference (Hardt
        et al. 2016, https://arxiv.org/abs/1610.02413). ``worst_recall``: the least true positive
        rate of any class in any group. ``bias_amplification``: see `amplified`. What is not known
        is left out.
        """
        known = {name: self._known(groups, name) for name in _SIDES}
        recalls = sorted((rate for row in known[_TRUE] for rate in row), key=_value)
        found = {
            f"demographic_parity_{key}": _largest(known[_SELECTED]),
            f"equalised_odds_{key}": _largest([*known[_TRUE], *known[_FALSE]]),
            f"worst_recall_{key}": recalls[0] if recalls else None,
            f"bias_amplification_{key}": self.amplified(groups),
        }
        return {name: scalar for name, scalar in found.items() if scalar}

    def amplified(self, groups: Sequence[int]) -> Scalar | None:
        """Returns the directional bias amplification from group to class, in [-1, 1]; 0 is ideal.

        The mean, over groups and classes, of by how much more of the group is given the class than
        has it; negative where training examples of the group have the class less often than all.
        So it is above 0 where predictions tie classes to groups more than the labels do (Wang and
        Russakovsky 2021, https://arxiv.org/abs/2102.12594; as in their program, a pair that is not
        tied in training counts 0). The interval is of a bootstrap within the groups. None if
        training ties no class to a group.
        """
        if not self._signs[[*groups]].any():
            return None
        random, mean, drawn = np.random.RandomState(0), 0.0, np.zeros(_DRAWS)
        for group in groups:
            held = self._values[group]
            values, times = np.array([*held]), np.array([*held.values()])
            count, size = times.sum(), len(groups) * len(self._classes)
            mean += float(values @ times) / count / size
            drawn += random.multinomial(count, times / count, _DRAWS) @ values / count / size
        low, high = np.percentile(drawn, _TAILS).tolist()
        return Scalar(mean, (low, high), more_is_better=False)

    def table(self, key: str, groups: Sequence[int], title: str) -> Table:
        """Returns the rates by class and group, each with its 95 % interval."""
        rates = [self._rates(groups, name) for name in _SIDES]
        gaps = np.max([_gaps(given, count, 1) for given, count in rates], axis=0)
        order = sorted(np.argsort(-gaps, kind="stable")[:CLASSES].tolist())
        rows = [
            (
                self._classes[place],
                self._names[group],
                *(
                    cell
                    for given, count in rates
                    for cell in _cells(int(given[at, place]), int(count[at, place]))
                ),
            )
            for place in order
            for at, group in enumerate(groups)
        ]
        note = (
            "Selected is the share of a group that is given the class; true positive, of those "
            "that have it; false positive, of those that do not. Behind each are its 95 % interval "
            "and the number of examples."
        )
        if len(self._classes) > CLASSES:
            note += (
                f" Of {len(self._classes)} classes, the {CLASSES} are shown in which groups "
                "differ most."
            )
        columns = [cell for name in _SIDES for cell in (name, "interval, examples")]
        return Table(title, ["class", key, *columns], rows, note)

    def _rates(self, groups: Sequence[int], name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns how many examples are given the class, and of how many: int [groups, classes]."""
        found = self.counts[[*groups]][..., _SIDES[name]].sum(axis=-1)
        return found[..., 1], found.sum(axis=-1)

    def _known(self, groups: Sequence[int], name: str) -> list[list[Scalar]]:
        """Returns a rate of each class in all groups where it is of enough examples."""
        given, count = self._rates(groups, name)
        return [
            [
                share(int(given[at, place]), int(count[at, place]))
                for at in np.flatnonzero(count[:, place] >= LEAST)
            ]
            for place in range(len(self._classes))
        ]


def tied(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Returns whether groups have classes more often than all examples do: 1, or -1 for less.

    Args:
        counts: Training examples by group and class, [groups, classes].
        totals: Of each group, [groups].

    Returns:
        Int64 [groups, classes]; 0 where both are as often.
    """
    count = max(int(totals.sum()), 1)
    apart = counts / count - np.outer(totals / count, counts.sum(axis=0) / count)
    return np.where(np.abs(apart) < _SAME, 0, np.sign(apart)).astype(np.int64)


def _gaps(given: np.ndarray, count: np.ndarray, least: int) -> np.ndarray:
    """Returns the largest difference of each class between groups of `least` examples, or 0."""
    rates = given / np.maximum(count, 1)
    is_known = count >= least
    most, fewest = np.where(is_known, rates, -1).max(0), np.where(is_known, rates, 2).min(0)
    return np.maximum(most - fewest, 0)


def _cells(given: int, count: int) -> tuple[float | None, str | None]:
    if not count:
        return None, None
    rate = share(given, count)
    low, high = rate.interval or (0.0, 1.0)
    return rate.value, f"{low:.2f} to {high:.2f}, {count:,}"


def _value(scalar: Scalar) -> float:
    return scalar.value


def _largest(rates: Sequence[Sequence[Scalar]]) -> Scalar | None:
    """Returns the largest difference within a row of rates; None if no row has two."""
    pairs = [(max(row, key=_value), min(row, key=_value)) for row in rates if len(row) > 1]
    return max((difference(*pair) for pair in pairs), key=_value, default=None)
