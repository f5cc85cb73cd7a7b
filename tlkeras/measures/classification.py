"""Measures of a classifier, in one pass and with memory of classes squared.

Of at most `RANKED` classes the scores of all examples are kept, too, see `Scores`.
NumPy alone, so that Keras, a TFLite file and a server are measured alike. Of equally probable
classes the first one is the prediction, as in `argmax`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlkeras.measures.abstention import Abstention
from tlkeras.measures.calibration import Calibration
from tlkeras.measures.checks import FINITE, SHARES, Check, require, row
from tlkeras.measures.confusions import Confusions
from tlkeras.measures.estimates import mean_loss, sums
from tlkeras.measures.measures import Example, Gallery, Measures, Scalar, share
from tlkeras.measures.ranking import Ranking, Scores, curve, mean_average

MISTAKES = 12
"""The most confident mistakes, so many, are shown."""

RANKED = 20
"""Of more classes nothing is ranked: for each of them, an example would take up to eight bytes."""

SHOWN = 6
"""So many of the most certain and of the most doubtful predictions are shown."""


class ClassificationTally:
    """Sums over the examples; the measures are functions of them.

    ``accuracy``. ``top5_accuracy`` with more than five classes. ``balanced_accuracy``, the mean
    recall of the classes that have examples. ``macro_f1``, the mean F1 of the classes that have
    examples or are predicted. ``mcc``, the correlation of labels and predictions. ``log_loss`` in
    nats; a probability of 0 counts as the resolution of its number format. ``brier``, the squared
    error summed over the classes, in [0, 2]. ``calibration_error``, see `Calibration`.

    Of two classes also ``f1_<class>`` and ``average_precision_<class>`` of each, and ``roc_auc``,
    which is that of both; see `Ranking`. They are left out where a class has no example. Of three
    to `RANKED` classes ``mean_average_precision``, of each against all others; the mean is over the
    classes that have examples, and its interval takes them as independent.

    With `abstain_below`, also those of `Abstention`.
    """

    def __init__(self, classes: Sequence[str], abstain_below: float | None = None) -> None:
        """Begins with no example."""
        self._classes = tuple(classes)
        self._counts = np.zeros([len(classes), len(classes)], np.int64)
        self._top5 = 0
        self._log_loss, self._brier = np.zeros(2), np.zeros(2)  # Sums, and those of the squares.
        self._scores = [Scores(len(classes))] if 2 <= len(classes) <= RANKED else []
        self._calibration = Calibration()
        self._abstentions = [] if abstain_below is None else [Abstention(abstain_below)]
        # Confidence, number, label and prediction.
        self._mistakes: list[tuple[float, int, int, int]] = []
        self._certain: list[tuple[float, int, int, int]] = []
        self._doubtful: list[tuple[float, int, int, int]] = []

    def add(self, target: np.ndarray, served: Mapping[str, Any], first: int) -> None:
        """Adds one-hot targets [b, classes] and the probabilities, [b, classes], of a batch."""
        given = np.asarray(served["probabilities"])
        found = given.astype(np.float64)
        labels = _labels(np.asarray(target), len(self._classes), first)
        shape = len(labels), len(self._classes)
        require("probabilities", found, shape, first, [FINITE, SHARES, _WHOLE])
        rows = np.arange(len(found))
        true = found[rows, labels]
        before = np.arange(len(self._classes)) < labels[:, None]
        ahead = (found > true[:, None]) | ((found == true[:, None]) & before)
        predicted = found.argmax(axis=-1)
        confidence, right = found[rows, predicted], predicted == labels

        np.add.at(self._counts, (labels, predicted), 1)
        self._top5 += int((ahead.sum(axis=-1) < 5).sum())
        least = np.finfo(given.dtype if given.dtype.kind == "f" else np.float64).eps
        self._log_loss += sums(-np.log(np.clip(true, least, 1.0)))
        squares = np.square(found).sum(axis=-1) + (1 - 2 * true)
        total = np.square(found).sum() + (1 - 2 * true).sum()
        self._brier += [total, np.square(squares).sum()]
        for scores in self._scores:
            scores.add(found, labels[:, None] == np.arange(len(self._classes)))
        self._calibration.add(confidence[:, None], right[:, None])
        for abstention in self._abstentions:
            abstention.add(confidence, right)
        found = [
            (float(confidence[i]), first + i, int(labels[i]), int(predicted[i]))
            for i in range(len(labels))
        ]
        for held, more, sign, most in (
            (self._mistakes, [each for each in found if each[2] != each[3]], -1, MISTAKES),
            (self._certain, found, -1, SHOWN),
            (self._doubtful, found, 1, SHOWN),
        ):
            held.extend(more)
            held.sort(key=lambda each: sign * each[0])
            del held[most:]

    def measures(self) -> Measures:
        """Returns the measures of all examples added."""
        count = int(self._counts.sum())
        if not count:
            raise ValueError("There is no example to measure.")
        confusions = Confusions(self._classes, self._counts)
        rankings = [ranking for scores in self._scores for ranking in scores.rankings]
        averages = [ranking.average_precision for ranking in rankings]
        top5 = {"top5_accuracy": share(self._top5, count)} if len(self._classes) > 5 else {}
        return Measures(
            primary="accuracy",
            count=count,
            scalars={
                "accuracy": confusions.accuracy,
                **top5,
                "balanced_accuracy": confusions.balanced_accuracy,
                "macro_f1": confusions.macro_f1,
                "mcc": confusions.matthews,
                **self._ranked(confusions, rankings, averages),
                "log_loss": mean_loss(self._log_loss, count),
                "brier": mean_loss(self._brier, count),
                "calibration_error": self._calibration.error,
                **{k: v for each in self._abstentions for k, v in each.scalars().items()},
            },
            views=[
                *confusions.views(averages),
                *([curve(self._classes, rankings)] if rankings else []),
                self._calibration.view(),
                *(each.view() for each in self._abstentions),
                *self._galleries(),
            ],
            remarks=[*confusions.remarks(), *self._calibration.remarks()],
        )

    def _ranked(
        self,
        confusions: Confusions,
        rankings: Sequence[Ranking],
        averages: Sequence[Scalar | None],
    ) -> dict[str, Scalar]:
        """Returns what the rankings say, by name; of two classes their F1, too."""
        if len(rankings) != 2:
            average = mean_average(averages, confusions.support.tolist())
            return {"mean_average_precision": average} if average else {}
        if not confusions.support.all():
            return {}
        found: dict[str, Scalar | None] = {"roc_auc": rankings[1].roc_auc}
        for place, (name, average) in enumerate(zip(self._classes, averages, strict=True)):
            found[f"f1_{name}"] = confusions.f1_of(place)
            found[f"average_precision_{name}"] = average
        return {name: scalar for name, scalar in found.items() if scalar}

    def _galleries(self) -> list[Gallery]:
        return [
            Gallery(title, [*map(self._example, held)], note)
            for title, held, note in (
                ("Mistakes", self._mistakes, "The wrong predictions of the highest confidence."),
                ("Most doubtful", self._doubtful, "The predictions of the lowest confidence."),
                ("Most certain", self._certain, "The predictions of the highest confidence."),
            )
        ]

    def _example(self, found: tuple[float, int, int, int]) -> Example:
        confidence, number, label, predicted = found
        is_wrong = f"{self._classes[label]} taken for {self._classes[predicted]}"
        caption = is_wrong if label != predicted else f"{self._classes[label]}, rightly"
        return Example(number, f"{caption}, {confidence:.1%} sure")


def _labels(target: np.ndarray, classes: int, first: int) -> np.ndarray:
    """Returns the numbers of the classes, integers [b]."""
    if target.ndim != 2 or target.shape[1] != classes:
        raise ValueError(f"Targets have shape {target.shape}, expected [examples, {classes}].")
    wrong = np.flatnonzero(((target == 1).sum(axis=-1) != 1) | ((target != 0).sum(axis=-1) != 1))
    if len(wrong):
        raise ValueError(
            f"The target of example {first + wrong[0]} is {row(target[wrong[0]])}, "
            "expected 1 at one class and 0 at the others."
        )
    return target.argmax(axis=-1)


def _rounding(found: np.ndarray) -> np.ndarray:
    """Returns how far a row may be from 1 by rounding alone, [b].

    A quantized softmax gives multiples of 1/256, each half a step off at most, and their errors
    add up.
    """
    on_grid = (found * 256 == np.round(found * 256)).all(axis=-1)
    return on_grid * found.shape[-1] / 512


_WHOLE: Check = (
    lambda found: np.abs(found.sum(axis=-1) - 1) > 1e-3 + _rounding(found),
    "do not add up to 1",
)
