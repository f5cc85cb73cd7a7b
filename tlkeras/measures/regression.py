"""Measures of a predicted number.

NumPy alone. All numbers are kept, 16 bytes an example: ranks need them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tlkeras.measures.checks import FINITE, require
from tlkeras.measures.estimates import mean_loss, midranks, sums
from tlkeras.measures.measures import NORMAL, Curve, Example, Gallery, Measures, Scalar, Table

WORST = 12
"""The examples with the largest errors, so many, are shown."""

_RANGES = 10  # Into so many equal parts the examples are cut by their number.
_FEW = 30  # Of fewer examples there is a remark.


class RegressionTally:
    """The true and the predicted numbers of all examples.

    ``mean_absolute_error`` and ``root_mean_squared_error`` in the unit of the number. ``r2``, the
    share of the variance that is predicted; below 0 the mean would be better. ``pearson`` and
    ``spearman``, the correlations of numbers and of ranks. What is undefined is left out: all three
    if the true numbers are all equal, the correlations also if the predicted ones are.

    Intervals are by normal theory: of the mean of the absolute errors; of the squared ones, under
    the root; of the ratio of two sums for ``r2`` (delta method); of Fisher's z for ``pearson``, and
    with the variance of Bonett & Wright 2000 (https://doi.org/10.1007/BF02294183) for ``spearman``.
    """

    def __init__(self) -> None:
        """Begins with no example."""
        # Numbers of examples, true and predicted numbers, of each batch.
        self._batches: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, target: np.ndarray, served: Mapping[str, Any], first: int) -> None:
        """Adds the true and the predicted numbers of a batch, both [b, 1]."""
        true = np.asarray(target, np.float64)
        found = np.asarray(served["number"], np.float64)
        require("targets", true, (len(true), 1), first, [FINITE])
        require("numbers", found, true.shape, first, [FINITE])
        places = first + np.arange(len(true))
        self._batches.append((places, true[:, 0], found[:, 0]))

    def measures(self) -> Measures:
        """Returns the measures of all examples added."""
        if not any(len(places) for places, _, _ in self._batches):
            raise ValueError("There is no example to measure.")
        places, true, found = map(np.concatenate, zip(*self._batches, strict=True))
        errors = found - true
        absolute, squared = np.abs(errors), np.square(errors)
        scalars = {
            "mean_absolute_error": _mean(absolute),
            "root_mean_squared_error": _root(_mean(squared)),
            "r2": _r2(true, squared),
            "pearson": _correlation(true, found, lambda value: 1.0),
            "spearman": _correlation(
                midranks(true), midranks(found), lambda value: 1 + value**2 / 2
            ),
        }
        known = {name: scalar for name, scalar in scalars.items() if scalar}
        return Measures(
            primary="mean_absolute_error",
            count=len(true),
            scalars=known,
            views=[_curve(true, found), _ranges(true, found), _gallery(places, true, found)],
            remarks=[*_remarks(true, errors, known)],
        )


def _mean(losses: np.ndarray) -> Scalar:
    return mean_loss(sums(losses), len(losses))


def _root(mean: Scalar) -> Scalar:
    interval = mean.interval and (math.sqrt(mean.interval[0]), math.sqrt(mean.interval[1]))
    return Scalar(math.sqrt(mean.value), interval, more_is_better=False)


def _r2(true: np.ndarray, squared: np.ndarray) -> Scalar | None:
    """Returns 1 less the squared errors as a part of those of the mean."""
    if true.min() == true.max():
        return None
    others = np.square(true - true.mean())
    part = float(squared.sum() / others.sum())
    reach = NORMAL * math.sqrt(np.square(squared - part * others).sum()) / float(others.sum())
    return Scalar(1 - part, (1 - part - reach, min(1 - part + reach, 1.0)))


def _correlation(one: np.ndarray, other: np.ndarray, spread: Any) -> Scalar | None:
    """Returns Pearson's correlation; ``spread(value) / (n - 3)`` is the variance of its z."""
    if one.min() == one.max() or other.min() == other.max():
        return None
    one, other = one - one.mean(), other - other.mean()
    size = math.sqrt(float(one @ one)) * math.sqrt(float(other @ other))
    value = min(max(float(one @ other) / size, -1.0), 1.0)
    if len(one) < 4 or abs(value) == 1:
        return Scalar(value)
    z, reach = math.atanh(value), NORMAL * math.sqrt(spread(value) / (len(one) - 3))
    return Scalar(value, (math.tanh(z - reach), math.tanh(z + reach)))


def _parts(true: np.ndarray) -> list[np.ndarray]:
    """Returns the places of the examples in parts, the smallest numbers first.

    They are of equal size, but that equal numbers are in one part: a cut among them moves to the
    nearer end.
    """
    order = np.argsort(true, kind="stable")
    ordered = true[order]
    cuts = np.cumsum([len(part) for part in np.array_split(order, _RANGES)])[:-1]
    cuts = cuts[cuts < len(order)]
    first, last = (np.searchsorted(ordered, ordered[cuts], side) for side in ("left", "right"))
    moved = np.where(cuts - first <= last - cuts, first, last)
    return [part for part in np.split(order, moved) if len(part)]


def _curve(true: np.ndarray, found: np.ndarray) -> Curve:
    """Returns the predicted numbers by the true ones."""
    points = {"mean": [], "ideal": [], "10 %": [], "90 %": []}
    for part in _parts(true):
        x = float(true[part].mean())
        low, high = np.quantile(found[part], [0.1, 0.9])
        for name, y in zip(points, (found[part].mean(), x, low, high), strict=True):
            points[name].append([x, float(y)])
    return Curve(
        "Predicted and true",
        "true number",
        "predicted number",
        points,
        f"Each point is of a {_RANGES}th of the examples, by their true number; equal ones are "
        "together. Between the lines of 10 % and 90 % lie four of five predictions.",
    )


def _ranges(true: np.ndarray, found: np.ndarray) -> Table:
    """Returns the errors by the size of the true number."""
    rows = [
        [
            _span(true[part]),
            len(part),
            float(np.abs(found[part] - true[part]).mean()),
            float((found[part] - true[part]).mean()),
        ]
        for part in _parts(true)
    ]
    note = (
        f"Always answering {np.median(true):.4g}, the median, would reach a mean absolute error of "
        f"{_of_median(true):.4g}. A mean error above 0 is of predictions that are too high."
    )
    columns = ["true number", "examples", "mean absolute error", "mean error"]
    return Table("Errors by number", columns, rows, note)


def _span(numbers: np.ndarray) -> str:
    """Returns the smallest and the largest number, or the one that they print as."""
    low, high = f"{numbers.min():.4g}", f"{numbers.max():.4g}"
    return low if low == high else f"{low} to {high}"


def _gallery(places: np.ndarray, true: np.ndarray, found: np.ndarray) -> Gallery:
    worst = np.argsort(-np.abs(found - true), kind="stable")[:WORST]
    examples = [
        Example(int(places[i]), f"{found[i]:.4g} instead of {true[i]:.4g}")
        for i in worst
        if found[i] != true[i]
    ]
    return Gallery("Largest errors", examples, "The predictions that are farthest off.")


def _of_median(true: np.ndarray) -> float:
    """Returns the mean absolute error of always answering the median."""
    return float(np.abs(true - np.median(true)).mean())


def _remarks(true: np.ndarray, errors: np.ndarray, scalars: Mapping[str, Scalar]) -> Iterator[str]:
    """Yields what the numbers say against the model, the gravest first."""
    count, mean = len(true), float(errors.mean())
    if scalars["mean_absolute_error"].value >= _of_median(true) > 0:
        yield "The model is no better than one that always answers the median."
    if count < _FEW:
        yield f"The errors are imprecise: there are only {count} examples."
    # Three deviations: seldom by chance.
    if count > 1 and abs(mean) > 3 * float(errors.std(ddof=1)) / math.sqrt(count):
        word = "high" if mean > 0 else "low"
        yield f"The predictions are too {word}, by {abs(mean):.4g} on average."
