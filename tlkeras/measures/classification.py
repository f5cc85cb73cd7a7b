"""Measures of probabilities against labels, in one pass and with memory of classes squared.

Numpy alone, so that what Keras, a TFLite file and a server answer are measured alike. Where two
classes are equally probable the first one counts as predicted, as in `argmax`. A share of nothing,
such as the precision of a class that is never predicted, is 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

BINS = 15
"""Of the calibration error, as Guo et al. have it."""

_NORMAL = 1.959963984540054  # Between minus and plus this lie 95 % of a normal distribution.


def classification(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], names: Sequence[str]
) -> dict[str, Any]:
    """Returns the measures of a classifier, JSON-ready.

    ``count``. ``accuracy`` and its 95 % ``accuracy_interval``. ``top5_accuracy`` with more than
    five classes. ``balanced_accuracy``, the mean recall of the classes that have examples.
    ``macro_f1``, the mean F1 of the classes that have examples or are predicted. ``log_loss`` in
    nats; a probability of 0 counts as the resolution of its number format. ``brier``, the squared
    error summed over the classes, in [0, 2]. ``calibration_error``, the mean distance of confidence
    and accuracy in `BINS` bins of equal width (Guo et al. 2017, https://arxiv.org/abs/1706.04599),
    and the bins, ``reliability``. ``per_class``: precision, recall, F1 and support.
    ``confusion_matrix``: rows are labels, columns predictions.

    Args:
        batches: Labels, integers [b], and probabilities [b, classes] of the same examples.
        names: The classes.

    Raises:
        ValueError: What is not a label or not a probability, and the number of the example.
    """
    tally = _Tally(names)
    for labels, probabilities in batches:
        tally.add(labels, probabilities)
    return tally.measures()


def slices(
    batches: Iterable[tuple[np.ndarray, np.ndarray, Sequence[str]]], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Returns what `classification` does for every group, sorted by name.

    Args:
        batches: Labels, probabilities, and the group that each example belongs to.
        names: The classes.

    Raises:
        ValueError: As `classification` does.
    """
    tallies: dict[str, _Tally] = {}
    start = 0
    for labels, probabilities, groups in batches:
        found, rows = np.asarray(groups), np.asarray(probabilities, np.float64)
        if found.shape != np.shape(labels):
            raise ValueError(f"There are {found.shape} groups of {np.shape(labels)} labels.")
        _check_labels(np.asarray(labels), len(rows), len(names), "label", start)
        _check_probabilities(rows, len(names), start)
        start += len(found)
        for group in np.unique(found):
            chosen = found == group
            tally = tallies.setdefault(str(group), _Tally(names))
            tally.add(np.asarray(labels)[chosen], np.asarray(probabilities)[chosen])
    return {group: tallies[group].measures() for group in sorted(tallies)}


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Returns int64 [classes, classes]: how often a label (row) was predicted as what (column)."""
    matrix = np.zeros([classes, classes], np.int64)
    for name, values in (("label", labels), ("prediction", predicted)):
        _check_labels(np.asarray(values), np.size(labels), classes, name, 0)
    np.add.at(matrix, (np.asarray(labels), np.asarray(predicted)), 1)
    return matrix


def interval(right: int, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share, by Wilson's score; right at 0 and 1 too."""
    share, z2 = right / count, _NORMAL**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    reach = math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    reach *= _NORMAL / (1 + z2 / count)
    low = 0.0 if right == 0 else middle - reach
    return low, 1.0 if right == count else middle + reach


def confusions(measures: Mapping[str, Any]) -> list[tuple[str, str, int, float]]:
    """Returns (label, prediction, count, share of the label) of all confusions, most first."""
    names = [row["class"] for row in measures.get("per_class", ())]
    found = [
        (names[label], names[predicted], count, count / sum(row))
        for label, row in enumerate(measures.get("confusion_matrix", ()))
        for predicted, count in enumerate(row)
        if count and label != predicted
    ]
    return sorted(found, key=lambda pair: (-pair[2], -pair[3]))


def single(measured: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the names of the measures that are one number, in the order met."""
    found = (name for each in measured for name in each if isinstance(each[name], (int, float)))
    return [*dict.fromkeys(found)]


def calibration(bins: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Returns the mean confidence and the accuracy of all examples in ``reliability``."""
    total = sum(row["count"] for row in bins)
    confidence, accuracy = (
        sum(row["count"] * row[name] for row in bins) / total for name in ("confidence", "accuracy")
    )
    return confidence, accuracy


class _Tally:
    """Sums over the examples seen so far; all measures are functions of them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._matrix = np.zeros([len(names), len(names)], np.int64)
        self._count = self._top5 = 0
        self._log_loss = self._brier = 0.0
        # Per bin of confidence: examples, right ones, sum of confidences.
        self._bins = np.zeros([3, BINS], np.float64)

    def add(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Adds a batch; nothing of it if it is refused."""
        labels, given = np.asarray(labels), np.asarray(probabilities)
        found = given.astype(np.float64)
        classes, rows = len(self._names), np.arange(len(found))
        _check_labels(labels, len(found), classes, "label", self._count)
        _check_probabilities(found, classes, self._count)
        true = found[rows, labels]
        before = np.arange(classes) < labels[:, None]
        ahead = (found > true[:, None]) | ((found == true[:, None]) & before)
        predicted = found.argmax(axis=-1)
        confidence = found[rows, predicted]

        self._count += len(found)
        np.add.at(self._matrix, (labels, predicted), 1)
        self._top5 += int((ahead.sum(axis=-1) < 5).sum())
        least = np.finfo(given.dtype).eps if given.dtype.kind == "f" else np.finfo(np.float64).eps
        self._log_loss -= float(np.log(np.clip(true, least, 1.0)).sum())
        self._brier += float(np.square(found).sum() + (1 - 2 * true).sum())
        place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        for row, values in enumerate((np.ones_like(confidence), predicted == labels, confidence)):
            self._bins[row] += np.bincount(place, values, BINS)

    def measures(self) -> dict[str, Any]:
        """Returns the measures of all examples added."""
        matrix = self._matrix
        count, right = self._count, int(matrix.trace())
        if not count:
            raise ValueError("There is no example to measure.")
        support, predicted, hits = matrix.sum(axis=1), matrix.sum(axis=0), matrix.diagonal()
        recall, precision = _shares(hits, support), _shares(hits, predicted)
        f1 = _shares(2 * hits, support + predicted)
        examples, bin_right, confidence = self._bins
        gaps = np.abs(bin_right - confidence)
        columns = zip(self._names, precision, recall, f1, support, strict=True)
        return {
            "count": count,
            "accuracy": right / count,
            "accuracy_interval": list(interval(right, count)),
            **({"top5_accuracy": self._top5 / count} if len(matrix) > 5 else {}),
            "balanced_accuracy": float(recall[support > 0].mean()),
            "macro_f1": float(f1[support + predicted > 0].mean()),
            "log_loss": self._log_loss / count,
            "brier": self._brier / count,
            "calibration_error": float(gaps.sum() / count),
            "reliability": [
                {
                    "low": place / BINS,
                    "high": (place + 1) / BINS,
                    "count": int(examples[place]),
                    "confidence": float(mean_confidence),
                    "accuracy": float(mean_right),
                }
                for place, (mean_confidence, mean_right) in enumerate(
                    zip(_shares(confidence, examples), _shares(bin_right, examples), strict=True)
                )
            ],
            "per_class": [
                {
                    "class": name,
                    "precision": float(of_predicted),
                    "recall": float(of_support),
                    "f1": float(both),
                    "support": int(examples_of_class),
                }
                for name, of_predicted, of_support, both, examples_of_class in columns
            ],
            "confusion_matrix": matrix.tolist(),
        }


def _shares(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """Returns parts / wholes, 0 where the whole is 0."""
    return np.divide(parts, wholes, out=np.zeros(len(parts)), where=wholes > 0)


def _check_labels(labels: np.ndarray, count: int, classes: int, name: str, start: int) -> None:
    if labels.shape != (count,) or (count and labels.dtype.kind not in "iu"):
        raise ValueError(
            f"{name.capitalize()}s are {labels.dtype} of shape {labels.shape}, "
            f"expected integers of shape {(count,)}."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise ValueError(
            f"Example {start + wrong[0]} has the {name} {labels[wrong[0]]}, "
            f"expected 0 to {classes - 1}."
        )


def _check_probabilities(found: np.ndarray, classes: int, start: int) -> None:
    if found.ndim != 2 or found.shape[1] != classes:
        raise ValueError(f"Probabilities have shape {found.shape}, expected [examples, {classes}].")
    for is_wrong, problem in [
        (lambda: ~np.isfinite(found).all(axis=-1), "are not finite"),
        (lambda: ((found < -1e-3) | (found > 1 + 1e-3)).any(axis=-1), "are not in [0, 1]"),
        (lambda: np.abs(found.sum(axis=-1) - 1) > 1e-3 + _rounding(found), "do not add up to 1"),
    ]:
        wrong = np.flatnonzero(is_wrong())
        if len(wrong):
            row = np.array2string(found[wrong[0]], precision=4, threshold=10, edgeitems=3)
            raise ValueError(f"The probabilities of example {start + wrong[0]} {problem}: {row}.")


def _rounding(found: np.ndarray) -> np.ndarray:
    """Returns how far a row may be from 1 by rounding alone, [b].

    A quantized softmax gives multiples of 1/256, each half a step off at most, and their errors
    add up.
    """
    on_grid = (found * 256 == np.round(found * 256)).all(axis=-1)
    return on_grid * found.shape[-1] / 512


class ClassificationTally:
    """The tally of a classifier."""

    def __init__(self, classes: Sequence[str]) -> None:
        """Begins with no example."""
        raise NotImplementedError
