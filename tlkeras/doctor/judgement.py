"""Judgement: suspected labels and outliers among examples that have one class each.

A model of the other examples judges each example of the training and the validation split, on the
features of the frozen backbone. Copies are in one fold, so that none speaks for its twin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from tlkeras.doctor import folds, gaussians, outliers, suspects
from tlkeras.doctor.gaussians import Chunks
from tlkeras.doctor.outliers import Outlier
from tlkeras.doctor.suspects import Suspect
from tlkeras.doctor.vectors import Missing
from tlkeras.task import Task

# A class of fewer examples says too little of what it looks like.
_FEW = 2 * folds.COUNT

# Probabilities of examples times classes: 8 bytes each, some of them at a time.
_MOST = 50_000_000

# Models that may be right by chance, with this probability, accuse nobody.
_CHANCE = 0.01


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What was found, and what was not examined.

    Attributes:
        suspects: Examples whose label may be wrong, the surest first.
        outliers: Examples that are like no class, the furthest first.
        remarks: What was not examined, and why, in full sentences.
    """

    suspects: Sequence[Suspect] = ()
    outliers: Sequence[Outlier] = ()
    remarks: Sequence[str] = ()


def has_one_class(task: Task) -> bool:
    """Returns whether a task gives each example exactly one of the classes."""
    return any(
        output.meaning == "scores" and output.labelled and output.threshold is None
        for output in task.outputs()
    )


def judged(
    labels: np.ndarray,
    groups: Sequence[Hashable],
    classes: Sequence[str],
    seed: int,
    features: Callable[[np.ndarray], Chunks],
) -> Judgement:
    """Returns the judgement of the examples, whose numbers are their places.

    Args:
        labels: The class of each, int [n].
        groups: The group of copies of each, equal for copies.
        classes: The names of the classes.
        seed: Decides the folds.
        features: Returns the features of the examples of a choice, bool [n]; raises `Missing` if
            there are none.
    """
    sizes = _units(labels, groups, len(classes))
    judged = [label for label, size in enumerate(sizes) if size >= _FEW]
    few = [classes[label] for label, size in enumerate(sizes) if 0 < size < _FEW]
    if len(judged) < 2:
        return Judgement(
            remarks=[
                "Labels and outliers are not examined: that takes two classes of at least "
                f"{_FEW} different examples in train and validation."
            ]
        )
    remarks = []
    if few:
        remarks = [
            f"Labels and outliers of {_listed(few)} are not examined: that takes at least {_FEW} "
            "different examples of a class."
        ]
    chosen = np.isin(labels, judged)
    if (count := int(chosen.sum())) * len(judged) > _MOST:
        return Judgement(
            remarks=[
                f"Labels and outliers are not examined: {count:,} examples of {len(judged):,} "
                f"classes are too many, at most {_MOST:,} pairs of both."
            ]
        )
    numbers: list[int] = np.flatnonzero(chosen).tolist()
    renumbered = np.searchsorted(judged, labels[chosen])
    dealt = folds.dealt([groups[number] for number in numbers], renumbered, seed)
    try:
        chunks = features(chosen)
    except Missing as error:
        return Judgement(remarks=[f"Labels and outliers are not examined: {error}."])
    held = gaussians.held_out(chunks, renumbered, dealt)

    accused, doubt = _accused(renumbered, held.probabilities)

    def own(each: Suspect) -> Suspect:
        return dataclasses.replace(
            each,
            number=numbers[each.number],
            given=judged[each.given],
            better=judged[each.better],
        )

    return Judgement(
        [own(each) for each in accused],
        [
            dataclasses.replace(each, number=numbers[each.number])
            for each in outliers.found(held.distances)
        ],
        [*remarks, *doubt],
    )


def _accused(labels: np.ndarray, probabilities: np.ndarray) -> tuple[list[Suspect], list[str]]:
    """Returns the suspects, or none and a remark if the models know too little to accuse."""
    from scipy import special

    right = int((probabilities.argmax(axis=1) == labels).sum())
    most = np.bincount(labels).max() / len(labels)
    if special.bdtrc(right - 1, len(labels), most) < _CHANCE:
        return suspects.found(labels, probabilities), []
    return [], [
        f"Labels are not examined: on the features of the backbone, a model of other examples is "
        f"right in {right / len(labels):.0%}, and the largest class is {most:.0%}."
    ]


def _units(labels: np.ndarray, groups: Sequence[Hashable], classes: int) -> list[int]:
    """Returns how many different examples each class has."""
    pairs = {*zip(labels.tolist(), groups, strict=True)}
    return np.bincount([label for label, _ in pairs], minlength=classes).tolist()


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
