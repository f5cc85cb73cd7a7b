"""Measures of a classifier, in one pass and with memory of classes squared.

NumPy alone, so that Keras, a TFLite file and a server are measured alike. Of equally probable
classes the first one is the prediction, as in `argmax`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlkeras.measures.calibration import Calibration
from tlkeras.measures.confusions import Confusions
from tlkeras.measures.measures import Example, Gallery, Measures, Scalar

MISTAKES = 12
"""The most confident mistakes, so many, are shown."""


class ClassificationTally:
    """Sums over the examples; the measures are functions of them.

    ``accuracy``. ``top5_accuracy`` with more than five classes. ``balanced_accuracy``, the mean
    recall of the classes that have examples. ``macro_f1``, the mean F1 of the classes that have
    examples or are predicted. ``log_loss`` in nats; a probability of 0 counts as the resolution of
    its number format. ``brier``, the squared error summed over the classes, in [0, 2].
    ``calibration_error``, see `Calibration`.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """Begins with no example."""
        self._classes = tuple(classes)
        self._counts = np.zeros([len(classes), len(classes)], np.int64)
        self._top5 = 0
        self._log_loss = self._brier = 0.0
        self._calibration = Calibration()
        # Confidence, number, label and prediction.
        self._mistakes: list[tuple[float, int, int, int]] = []

    def add(self, target: np.ndarray, served: Mapping[str, Any], first: int) -> None:
        """Adds one-hot targets [b, classes] and the probabilities, [b, classes], of a batch."""
        given = np.asarray(served["probabilities"])
        found = given.astype(np.float64)
        labels = _labels(np.asarray(target), len(self._classes), first)
        _check(found, (len(labels), len(self._classes)), first)
        rows = np.arange(len(found))
        true = found[rows, labels]
        before = np.arange(len(self._classes)) < labels[:, None]
        ahead = (found > true[:, None]) | ((found == true[:, None]) & before)
        predicted = found.argmax(axis=-1)
        confidence, right = found[rows, predicted], predicted == labels

        np.add.at(self._counts, (labels, predicted), 1)
        self._top5 += int((ahead.sum(axis=-1) < 5).sum())
        least = np.finfo(given.dtype if given.dtype.kind == "f" else np.float64).eps
        self._log_loss -= float(np.log(np.clip(true, least, 1.0)).sum())
        self._brier += float(np.square(found).sum() + (1 - 2 * true).sum())
        self._calibration.add(confidence, right)
        self._mistakes += [
            (float(confidence[i]), first + int(i), int(labels[i]), int(predicted[i]))
            for i in np.flatnonzero(~right)
        ]
        self._mistakes.sort(key=lambda mistake: -mistake[0])
        del self._mistakes[MISTAKES:]

    def measures(self) -> Measures:
        """Returns the measures of all examples added."""
        count = int(self._counts.sum())
        if not count:
            raise ValueError("There is no example to measure.")
        confusions = Confusions(self._classes, self._counts)
        top5 = {"top5_accuracy": Scalar(self._top5 / count)} if len(self._classes) > 5 else {}
        return Measures(
            primary="accuracy",
            count=count,
            scalars={
                "accuracy": confusions.accuracy,
                **top5,
                "balanced_accuracy": confusions.balanced_accuracy,
                "macro_f1": confusions.macro_f1,
                "log_loss": Scalar(self._log_loss / count, more_is_better=False),
                "brier": Scalar(self._brier / count, more_is_better=False),
                "calibration_error": self._calibration.error,
            },
            views=[*confusions.views(), self._calibration.view(), self._gallery()],
            remarks=[*confusions.remarks(), *self._calibration.remarks()],
        )

    def _gallery(self) -> Gallery:
        names = self._classes
        examples = [
            Example(number, f"{names[label]} taken for {names[predicted]}, {confidence:.1%} sure")
            for confidence, number, label, predicted in self._mistakes
        ]
        return Gallery("Mistakes", examples, "The wrong predictions of the highest confidence.")


def _labels(target: np.ndarray, classes: int, first: int) -> np.ndarray:
    """Returns the numbers of the classes, integers [b]."""
    if target.ndim != 2 or target.shape[1] != classes:
        raise ValueError(f"Targets have shape {target.shape}, expected [examples, {classes}].")
    wrong = np.flatnonzero(((target == 1).sum(axis=-1) != 1) | ((target != 0).sum(axis=-1) != 1))
    if len(wrong):
        raise ValueError(
            f"The target of example {first + wrong[0]} is {_row(target[wrong[0]])}, "
            "expected 1 at one class and 0 at the others."
        )
    return target.argmax(axis=-1)


def _check(found: np.ndarray, shape: tuple[int, int], first: int) -> None:
    """Raises ValueError unless these are probabilities."""
    if found.shape != shape:
        raise ValueError(f"Probabilities have shape {found.shape}, expected {shape}.")
    for is_wrong, problem in [
        (lambda: ~np.isfinite(found).all(axis=-1), "are not finite"),
        (lambda: ((found < -1e-3) | (found > 1 + 1e-3)).any(axis=-1), "are not in [0, 1]"),
        (lambda: np.abs(found.sum(axis=-1) - 1) > 1e-3 + _rounding(found), "do not add up to 1"),
    ]:
        wrong = np.flatnonzero(is_wrong())
        if len(wrong):
            raise ValueError(
                f"The probabilities of example {first + wrong[0]} {problem}: "
                f"{_row(found[wrong[0]])}."
            )


def _row(values: np.ndarray) -> str:
    return np.array2string(values, precision=4, threshold=10, edgeitems=3)


def _rounding(found: np.ndarray) -> np.ndarray:
    """Returns how far a row may be from 1 by rounding alone, [b].

    A quantized softmax gives multiples of 1/256, each half a step off at most, and their errors
    add up.
    """
    on_grid = (found * 256 == np.round(found * 256)).all(axis=-1)
    return on_grid * found.shape[-1] / 512
