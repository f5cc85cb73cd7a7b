"""Measures of any number of labels for each example.

NumPy alone. The scores are kept, see `Scores`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tlkeras.measures.calibration import Calibration
from tlkeras.measures.checks import FINITE, SHARES, require, row
from tlkeras.measures.confusions import shares
from tlkeras.measures.estimates import Ratio, effective, mean_loss, spread, sums
from tlkeras.measures.measures import (
    Example,
    Gallery,
    Measures,
    Scalar,
    Table,
    bounds,
    listed,
    share,
)
from tlkeras.measures.ranking import Ranking, Scores, curve, mean_average

THRESHOLD = 0.5
"""An example has the labels of at least this probability."""

MISTAKES = 12
"""The examples with the most confident mistakes, so many, are shown."""

_FEW = 10  # Of fewer examples of a class there is a remark.


class MultilabelTally:
    """Sums over the examples; the measures are functions of them and of the kept scores.

    ``macro_f1``, the mean F1 of the classes that have examples or are predicted. ``micro_f1`` of
    all labels together. ``mean_average_precision`` over the classes that have examples; it needs no
    threshold, see `Ranking`. ``subset_accuracy``, the share of the examples of which every label is
    right. ``hamming_loss``, the share of wrong decisions. ``log_loss``, the mean over classes and
    examples, in nats. ``calibration_error``, see `Calibration`; a decision is as sure as its
    probability or the rest.

    Intervals take each example as one unit. That of ``mean_average_precision`` takes the classes as
    independent.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """Begins with no example."""
        self._classes = tuple(classes)
        self._count = self._whole = 0
        self._scores = Scores(len(classes))
        self._micro, self._hamming = Ratio(), Ratio()
        self._log_loss = np.zeros(2)  # The sum, and that of the squares.
        self._calibration = Calibration()
        # Confidence, number, labels that were missed and labels that were wrong.
        self._mistakes: list[tuple[float, int, list[str], list[str]]] = []

    def add(self, target: np.ndarray, served: Mapping[str, Any], first: int) -> None:
        """Adds targets [b, classes], 1 at the labels, and the probabilities, [b, classes]."""
        given = np.asarray(served["probabilities"])
        found = given.astype(np.float64)
        labels = _labels(np.asarray(target), len(self._classes), first)
        require("probabilities", found, labels.shape, first, [FINITE, SHARES])
        named = found >= THRESHOLD
        wrong = named != labels

        self._count += len(labels)
        self._whole += int((~wrong).all(axis=-1).sum())
        self._micro.add((named & labels).sum(axis=-1), (named.sum(-1) + labels.sum(-1)) / 2)
        self._hamming.add(wrong.mean(axis=-1), np.ones(len(wrong)))
        least = np.finfo(given.dtype if given.dtype.kind == "f" else np.float64).eps
        right = np.clip(np.where(labels, found, 1 - found), least, 1)
        self._log_loss += sums(-np.log(right).mean(axis=-1))
        sure = np.maximum(found, 1 - found)
        self._calibration.add(sure, ~wrong)
        self._scores.add(found, labels)
        surest = (sure * wrong).max(axis=-1, initial=0)
        self._mistakes += [
            (
                float(surest[i]),
                first + int(i),
                self._named(labels[i] & wrong[i]),
                self._named(named[i] & wrong[i]),
            )
            for i in np.flatnonzero(wrong.any(axis=-1))
        ]
        self._mistakes.sort(key=lambda mistake: -mistake[0])
        del self._mistakes[MISTAKES:]

    def measures(self) -> Measures:
        """Returns the measures of all examples added."""
        if not self._count:
            raise ValueError("There is no example to measure.")
        rankings = self._scores.rankings
        found = _Found(self._classes, rankings)
        average = found.mean_average_precision
        return Measures(
            primary="macro_f1",
            count=self._count,
            scalars={
                "macro_f1": found.macro_f1,
                "micro_f1": self._micro.scalar,
                **({"mean_average_precision": average} if average else {}),
                "subset_accuracy": share(self._whole, self._count),
                "hamming_loss": dataclasses.replace(self._hamming.scalar, more_is_better=False),
                "log_loss": mean_loss(self._log_loss, self._count),
                "calibration_error": self._calibration.error,
            },
            views=[
                found.table(),
                curve(self._classes, rankings),
                self._calibration.view(),
                self._gallery(),
            ],
            remarks=[*found.remarks(), *self._calibration.remarks()],
        )

    def _named(self, chosen: np.ndarray) -> list[str]:
        return [self._classes[place] for place in np.flatnonzero(chosen)]

    def _gallery(self) -> Gallery:
        examples = []
        for confidence, number, missed, wrong in self._mistakes:
            parts = [
                f"{word} {listed(names)}"
                for word, names in (("missed", missed), ("wrongly", wrong))
                if names
            ]
            examples.append(Example(number, f"{'; '.join(parts)}, {confidence:.1%} sure"))
        return Gallery("Mistakes", examples, "The wrong decisions of the highest confidence.")


class _Found:
    """The counts of each class, and what follows from them."""

    def __init__(self, classes: Sequence[str], rankings: Sequence[Ranking]) -> None:
        self._classes, self._rankings = classes, rankings
        counts = [
            (int((named & labels).sum()), int(named.sum()), int(labels.sum()), len(labels))
            for named, labels in map(_decisions, rankings)
        ]
        right, self._predicted, self._support, count = np.array(counts).T
        self._count = int(count[0])
        self._f1 = shares(2 * right, self._support + self._predicted)
        self._precision = shares(right, self._predicted)
        self._recall = shares(right, self._support)
        self._average = [ranking.average_precision for ranking in rankings]

    @functools.cached_property
    def macro_f1(self) -> Scalar:
        """The mean F1 of the classes that have examples or are predicted."""
        known = np.flatnonzero(self._support + self._predicted).tolist()
        return self._mean_f1(known) if known else Scalar(0.0, is_defined=False)

    def _mean_f1(self, known: Sequence[int]) -> Scalar:
        """Returns the mean F1 of classes; its variance is of how much each example moves it."""
        sizes = self._support + self._predicted
        moved = np.zeros(self._count)
        for place in known:
            named, labels = _decisions(self._rankings[place])
            both = named.astype(np.float64) + labels
            moved += (2 * (named & labels) - self._f1[place] * both) / sizes[place]
        value, variance = float(self._f1[known].mean()), float(np.square(moved / len(known)).sum())
        count = effective(np.maximum(self._support[known], 1))
        return Scalar(value, spread(value, variance, count))

    @property
    def mean_average_precision(self) -> Scalar | None:
        """The mean over the classes that have examples; None if none has."""
        return mean_average(self._average, self._support.tolist())

    def table(self) -> Table:
        """Returns a row of every class; a share of nothing is an empty cell."""
        columns = ["class", "precision", "recall", "f1", "95 % interval of f1"]
        columns += ["average precision", "support"]
        rows = [
            [
                name,
                float(self._precision[place]) if self._predicted[place] else None,
                float(self._recall[place]) if self._support[place] else None,
                float(self._f1[place]) if self._support[place] else None,
                bounds(self._mean_f1([place])) if self._support[place] else None,
                average.value if average else None,
                int(self._support[place]),
            ]
            for place, (name, average) in enumerate(zip(self._classes, self._average, strict=True))
        ]
        note = (
            f"An example has the labels of a probability of at least {THRESHOLD}. Always naming "
            f"every class would reach a macro F1 of {self._naming_all():.4f}."
        )
        if not (self._support.all() and self._predicted.all()):
            note += (
                " An empty cell is undefined: "
                "the class has no example, or the model never predicts it."
            )
        return Table("Classes", columns, rows, note, weakest="f1")

    def remarks(self) -> Iterator[str]:
        """Yields what the counts say against the model, the gravest first."""
        names, support = np.array(self._classes, object), self._support
        macro = self.macro_f1
        if macro.is_defined and macro.value <= self._naming_all():
            yield "The model is no better than one that always names every class."
        if len(untested := names[support == 0]):
            yield (
                "These classes have no example, so nothing is known of them: "
                f"{listed([*untested])}."
            )
        if len(few := names[(support > 0) & (support < _FEW)]):
            yield (
                f"These classes have fewer than {_FEW} examples, so little is known of them: "
                f"{listed([*few])}."
            )
        if len(missing := names[(support > 0) & (self._predicted == 0)]):
            yield f"The model never predicts these classes: {listed([*missing])}."

    def _naming_all(self) -> float:
        """Returns the macro F1 of always naming every class."""
        return float((2 * self._support / (self._support + self._count)).mean())


def _decisions(ranking: Ranking) -> tuple[np.ndarray, np.ndarray]:
    """Returns which examples get a label and which have it, bool [n]."""
    return ranking.scores >= np.float32(THRESHOLD), ranking.positive


def _labels(target: np.ndarray, classes: int, first: int) -> np.ndarray:
    """Returns which labels the examples have, bool [b, classes]."""
    if target.ndim != 2 or target.shape[1] != classes:
        raise ValueError(f"Targets have shape {target.shape}, expected [examples, {classes}].")
    wrong = np.flatnonzero(((target != 0) & (target != 1)).any(axis=-1))
    if len(wrong):
        raise ValueError(
            f"The target of example {first + wrong[0]} is {row(target[wrong[0]])}, "
            "expected 1 at its labels and 0 at the other classes."
        )
    return target == 1
