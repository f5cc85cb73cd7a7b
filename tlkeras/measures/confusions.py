"""Confusions: what the counts of labels and predictions say of the classes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tlkeras.measures.estimates import effective, spread
from tlkeras.measures.measures import Matrix, Scalar, Table, bounds, interval, listed, share

PAIRS = 12
"""Rows of the table of the most confused pairs."""

MOST = 200
"""Of more classes there is no matrix: it would be large, and nobody could read it."""

# From where on a number is worth a remark.
_WIDE = 0.1
_WEAK = 0.1
_FEW = 10
_OFTEN = 0.1


@dataclasses.dataclass(frozen=True)
class Confusions:
    """How often which class was predicted for which label.

    A share of nothing, such as the precision of a class that is never predicted, is 0. Intervals of
    what is no share of examples are by the delta method: the cells are counts of independent
    examples, and a measure is nearly linear in them.

    Attributes:
        names: The classes.
        counts: Integers [classes, classes]; rows are labels, columns predictions.
    """

    names: Sequence[str]
    counts: np.ndarray

    @functools.cached_property
    def support(self) -> np.ndarray:
        """The examples of each class, [classes]."""
        return self.counts.sum(axis=1)

    @functools.cached_property
    def predicted(self) -> np.ndarray:
        """The predictions of each class, [classes]."""
        return self.counts.sum(axis=0)

    @property
    def precision(self) -> np.ndarray:
        """The share of the predictions of each class that is right, [classes]."""
        return shares(self.counts.diagonal(), self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """The share of the examples of each class that is recognised, [classes]."""
        return shares(self.counts.diagonal(), self.support)

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall of each class, [classes]."""
        return shares(2 * self.counts.diagonal(), self.support + self.predicted)

    @property
    def accuracy(self) -> Scalar:
        """The share of all examples that is right."""
        return share(int(self.counts.trace()), int(self.support.sum()))

    @property
    def balanced_accuracy(self) -> Scalar:
        """The mean recall of the classes that have examples."""
        value = float(self.recall[self.support > 0].mean())
        known = self.support > 0
        i, j, _ = self._cells
        slopes = ((i == j) - self.recall[i]) * shares(known, self.support)[i]
        return Scalar(value, self._interval(value, slopes / known.sum()))

    @property
    def macro_f1(self) -> Scalar:
        """The mean F1 of the classes that have examples or are predicted.

        Its interval is that of Takahashi et al. 2022, https://doi.org/10.1007/s10489-021-02635-5.
        """
        known = self.support + self.predicted > 0
        value = float(self.f1[known].mean())
        return Scalar(value, self._interval(value, self._f1_slopes(known / known.sum())))

    @property
    def matthews(self) -> Scalar:
        """The correlation of labels and predictions, in [-1, 1]; 0 if either is always the same.

        Matthews's coefficient for any number of classes (Gorodkin 2004,
        https://doi.org/10.1016/j.compbiolchem.2004.09.006).
        """
        count = self.support.sum()
        labels, predicted = self.support / count, self.predicted / count
        spreads = 1 - labels @ labels, 1 - predicted @ predicted
        if not min(spreads) > 0:
            return Scalar(0.0)
        size = np.sqrt(spreads[0] * spreads[1])
        value = float((self.counts.trace() / count - labels @ predicted) / size)
        i, j, _ = self._cells
        slopes = ((i == j) - predicted[i] - labels[j]) / size
        slopes += value * (labels[i] / spreads[0] + predicted[j] / spreads[1])
        # As a number in [0, 1]; exactly 1 if all is right, whatever the root was rounded to.
        part = 1.0 if self.counts.trace() == count else float(np.clip((value + 1) / 2, 0, 1))
        low, high = self._interval(part, slopes / (2 * count))
        return Scalar(2 * part - 1, (2 * low - 1, 2 * high - 1))

    def f1_of(self, place: int) -> Scalar:
        """Returns the F1 of one class that has examples, with its interval."""
        slopes = self._f1_slopes(np.arange(len(self.names)) == place)
        value, support = float(self.f1[place]), int(self.support[place])
        return Scalar(value, spread(value, self._variance(slopes), support))

    def _f1_slopes(self, weights: np.ndarray) -> np.ndarray:
        """Returns the slopes of the weighted sum of the F1 of all classes, see `_interval`."""
        parts = weights / np.maximum(self.support + self.predicted, 1)
        lost, (i, j, _) = parts * self.f1, self._cells
        return 2 * parts[i] * (i == j) - lost[i] - lost[j]

    @functools.cached_property
    def _cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The labels, the predictions and the counts of the cells that have examples, [cells].

        They are no more than the examples, where all cells are the square of the classes.
        """
        i, j = np.nonzero(self.counts)
        return i, j, self.counts[i, j]

    def _interval(self, value: float, slopes: np.ndarray) -> tuple[float, float]:
        """Returns the interval of a number in [0, 1].

        Args:
            value: The number.
            slopes: By how much it grows with one more example of each of the `_cells`, [cells].
        """
        # If all is right: as many as give a mean of recalls the variance that such a share has.
        known = self.support[self.support > 0]
        return spread(value, self._variance(slopes), effective(known))

    def _variance(self, slopes: np.ndarray) -> float:
        """Returns the variance of a number with these slopes, see `_interval`."""
        *_, counts = self._cells
        mean = (counts * slopes).sum() / counts.sum()
        return float((counts * np.square(slopes - mean)).sum())

    def pairs(self) -> list[tuple[str, str, int, float]]:
        """Returns (label, prediction, count, share of the label), the most frequent first."""
        names, support = self.names, self.support
        found = [
            (names[int(i)], names[int(j)], int(count), float(count / support[i]))
            for i, j, count in zip(*self._cells, strict=True)
            if i != j
        ]
        return sorted(found, key=lambda pair: (-pair[2], -pair[3]))

    def views(self, averages: Sequence[Scalar | None] = ()) -> list[Matrix | Table]:
        """Returns the matrix, the most confused pairs and a row of every class.

        Of more than `MOST` classes there is no matrix. `averages` are the average precision of each
        class; without them there is no column of it.
        """
        few = len(self.names) <= MOST
        table = self._classes(averages)
        return [*([self._matrix()] if few else []), self._most_confused(), table]

    def _matrix(self) -> Matrix:
        note = "Rows are true classes, columns predictions; the shade is the share of the row."
        return Matrix("Confusions", self.names, self.counts.tolist(), note)

    def _most_confused(self) -> Table:
        pairs = self.pairs()
        note = "" if pairs else "The model confuses no classes: every prediction is right."
        if len(pairs) > PAIRS:
            note = f"The {PAIRS} most frequent of {len(pairs)} confusions."
        columns = ["class", "predicted", "examples", "share of the class"]
        return Table("Most confused classes", columns, pairs[:PAIRS], note)

    def _classes(self, averages: Sequence[Scalar | None]) -> Table:
        """Returns a row of every class; a share of nothing is an empty cell."""
        support, predicted = self.support, self.predicted
        columns: dict[str, list[Any]] = {
            "class": [*self.names],
            "precision": _where(predicted > 0, self.precision),
            "recall": _where(support > 0, self.recall),
            "f1": _where(support > 0, self.f1),
            "95 % interval of f1": [
                bounds(self.f1_of(place)) if count else None for place, count in enumerate(support)
            ],
            **(
                {"average precision": [each and each.value for each in averages]}
                if averages
                else {}
            ),
            "support": support.tolist(),
        }
        most = int(support.argmax())
        note = (
            f"Always answering the most frequent class, {self.names[most]}, would reach an "
            f"accuracy of {support[most] / support.sum():.4f}."
        )
        if not (support.all() and predicted.all()):
            note += (
                " An empty cell is undefined: "
                "the class has no example, or the model never predicts it."
            )
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        return Table("Classes", [*columns], rows, note, weakest="f1")

    def remarks(self) -> Iterator[str]:
        """Yields what the counts say against the model, the gravest first."""
        support, names = self.support, self.names
        most = int(support.argmax())
        if self.counts.trace() <= support[most]:
            yield f"The model is no better than one that always answers {names[most]}."
        low, high = interval(int(self.counts.trace()), int(support.sum()))
        if high - low > _WIDE:
            yield (
                f"The accuracy is imprecise: of only {support.sum()} examples, its 95 % interval "
                f"is {low:.2f} to {high:.2f}."
            )
        if untested := [name for name, count in zip(names, support, strict=True) if not count]:
            yield f"These classes have no example, so nothing is known of them: {listed(untested)}."
        if few := [name for name, count in zip(names, support, strict=True) if 0 < count < _FEW]:
            yield (
                f"These classes have fewer than {_FEW} examples, so little is known of them: "
                f"{listed(few)}."
            )
        if weak := self._weak():
            yield f"The recall of these classes is far below the accuracy: {listed(weak)}."
        often = [
            f"{label} for {prediction} ({part:.0%})"
            for label, prediction, count, part in self.pairs()
            if part >= _OFTEN and count > 1
        ]
        if often:
            yield f"The model often takes one class for another: {listed(often)}."

    def _weak(self) -> list[str]:
        """Returns the classes of a recall that is low and not by chance, the lowest first."""
        accuracy, recall, support = self.accuracy.value, self.recall, self.support
        return [
            f"{self.names[i]} ({recall[i]:.2f} of {support[i]})"
            for i in recall.argsort(kind="stable")
            if support[i]
            and recall[i] < accuracy - _WEAK
            and interval(int(self.counts[i, i]), int(support[i]))[1] < accuracy
        ]


def shares(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """Returns parts / wholes, 0 where the whole is 0."""
    return np.divide(parts, wholes, out=np.zeros(len(parts)), where=wholes > 0)


def _where(defined: np.ndarray, values: np.ndarray) -> list[float | None]:
    return [
        float(value) if is_known else None for is_known, value in zip(defined, values, strict=True)
    ]
