"""Measures of a segmentation, in one pass and with memory that does not grow with the pictures.

NumPy alone, so that Keras, a TFLite file and a server are measured alike. A mask of another size
than the answer is resized to it, as `tf.image.resize` does by nearest pixels.

Intervals are of a bootstrap over pictures: of `REPLICAS` data sets, each has every picture a number
of times that is drawn from a Poisson distribution of mean 1; where nothing varies, see
`estimates.drawn`. Only the number of a picture decides the draw, so parts and wholes agree. Apart
from the sums of all replicas, few pictures are in memory: the best, the worst, and a sample for the
median.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tlkeras.images.masks import IGNORE, nearest, overlay
from tlkeras.measures.confusions import shares
from tlkeras.measures.estimates import drawn
from tlkeras.measures.measures import (
    Example,
    Gallery,
    Matrix,
    Measures,
    Scalar,
    Table,
    listed,
)

BACKGROUND = "background"
"""The name of pixels of no class; their number is 0, that of class c is 1 + c."""

REPLICAS = 200
TOLERANCE = 0.0075
"""How far apart boundaries may be to match, as a part of the diagonal; at least one pixel."""

SHOWN = 4
"""So many pictures of the best, the worst and the median are shown."""

_SAMPLED = 64
_WEAK = 0.5  # Below this IoU a class is worth a remark.

# The rows of the sums of a picture, each [1 + classes].
_BOTH, _TRUE, _FOUND, _EDGES, _EDGES_MET, _DRAWN, _DRAWN_MET = range(7)


@dataclasses.dataclass(frozen=True)
class _Picture:
    """A measured picture that may be shown."""

    iou: float
    number: int
    caption: str
    overlays: Mapping[str, str]


class SegmentationTally:
    """Sums over the pixels of all pictures; the measures are functions of them.

    ``mean_iou``, the mean intersection over union of the background and the classes that occur in a
    mask or an answer. ``mean_dice`` likewise. ``pixel_accuracy``. ``boundary_f``, the mean F1 of
    the boundary pixels of the classes, those within `TOLERANCE` of the other boundary being right
    (Csurka et al. 2013). Ignored pixels count nowhere.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """Begins with no picture."""
        self._names = (BACKGROUND, *classes)
        count = len(self._names)
        self._size = (0, 0)  # Of the answers, at which everything is measured.
        self._confusions = np.zeros([count, count], np.int64)
        self._replicas = np.zeros([1 + REPLICAS, 7, count], np.int64)
        self._draws = np.zeros(1 + REPLICAS, np.int64)
        self._pictures = np.zeros(count, np.int64)
        self._best: list[_Picture] = []
        self._worst: list[_Picture] = []
        self._sample: list[tuple[int, _Picture]] = []

    def add(self, target: np.ndarray, served: Mapping[str, Any], first: int) -> None:
        """Adds masks, uint8 [b, h, w], and scores of the background and the classes, [b, …]."""
        scores, count = np.asarray(served["mask"]), len(self._names)
        _check(np.asarray(target), scores, count, first)
        self._size = scores.shape[1:3]
        for place, (mask, row) in enumerate(zip(np.asarray(target), scores, strict=True)):
            true = nearest(mask, row.shape[:2])
            self._add(true, row.argmax(-1).astype(np.uint8), first + place)

    def _add(self, true: np.ndarray, found: np.ndarray, number: int) -> None:
        count = len(self._names)
        known = true < count
        pairs = true[known].astype(np.int64) * count + found[known]
        confusions = np.bincount(pairs, minlength=count * count).reshape(count, count)
        sums = np.stack(
            [
                confusions.diagonal(),
                confusions.sum(axis=1),
                confusions.sum(axis=0),
                *_edges(true, found, known, count),
            ]
        )
        draws = np.array([1, *np.random.default_rng((number, 7)).poisson(1.0, REPLICAS)])
        self._confusions += confusions
        self._draws += draws
        self._replicas += draws[:, None, None] * sums
        self._pictures += sums[_TRUE] > 0
        self._keep(true, found, sums, number)

    def _keep(self, true: np.ndarray, found: np.ndarray, sums: np.ndarray, number: int) -> None:
        """Keeps a picture if it may be one of those that are shown."""
        iou = float(_mean(sums, _ious))
        rank = int(np.random.default_rng((number, 8)).integers(2**62))
        is_best = len(self._best) < SHOWN or iou > self._best[-1].iou
        is_worst = len(self._worst) < SHOWN or iou < self._worst[-1].iou
        is_sampled = len(self._sample) < _SAMPLED or rank < self._sample[-1][0]
        if not (is_best or is_worst or is_sampled):
            return
        picture = _Picture(
            iou,
            number,
            f"mean IoU {iou:.2f}" + self._said(sums),
            {"true": _encoded(true), "predicted": _encoded(found)},
        )
        if is_best:
            self._best = sorted([*self._best, picture], key=lambda each: -each.iou)[:SHOWN]
        if is_worst:
            self._worst = sorted([*self._worst, picture], key=lambda each: each.iou)[:SHOWN]
        if is_sampled:
            self._sample = sorted([*self._sample, (rank, picture)], key=lambda each: each[0])
            del self._sample[_SAMPLED:]

    def _said(self, sums: np.ndarray) -> str:
        """Returns the IoU of the classes of a picture, the background left out."""
        values, occurs = _ious(sums)
        told = [f"{self._names[i]} {values[i]:.2f}" for i in np.flatnonzero(occurs) if i]
        return f": {listed(told)}" if told else ""

    def measures(self) -> Measures:
        """Returns the measures of all pictures added."""
        if not self._draws[0]:
            raise ValueError("There is no example to measure.")
        return Measures(
            primary="mean_iou",
            count=int(self._draws[0]),
            scalars={
                "mean_iou": self._scalar(lambda sums: _mean(sums, _ious)),
                "pixel_accuracy": self._scalar(_accuracy),
                "mean_dice": self._scalar(lambda sums: _mean(sums, _dices)),
                "boundary_f": self._scalar(lambda sums: _mean(sums, _boundaries)),
            },
            views=[self._matrix(), self._classes(), *self._galleries()],
            remarks=[*self._remarks()],
        )

    def _scalar(self, measure: Callable[[np.ndarray], float]) -> Scalar:
        value = float(measure(self._replicas[0]))
        draws = [
            measure(sums)
            for sums, count in zip(self._replicas[1:], self._draws[1:], strict=True)
            if count
        ]
        count = int(self._draws[0])
        return Scalar(value, drawn(value, draws, count) if count > 1 and draws else None)

    def _occurring(self) -> np.ndarray:
        """Returns the numbers of what occurs in a mask or an answer."""
        return np.flatnonzero(self._confusions.sum(axis=0) + self._confusions.sum(axis=1))

    def _matrix(self) -> Matrix:
        places = self._occurring()
        return Matrix(
            "Confusions",
            [self._names[i] for i in places],
            self._confusions[np.ix_(places, places)].tolist(),
            "Pixels. Rows are true classes, columns predictions; shades are shares of the row.",
        )

    def _classes(self) -> Table:
        """Returns a row of everything that occurs; a share of nothing is an empty cell."""
        sums = self._replicas[0]
        values = [_known(*measure(sums)) for measure in (_ious, _dices, _boundaries)]
        total = max(int(sums[_TRUE].sum()), 1)
        rows = [
            [
                self._names[i],
                *(column[i] for column in values),
                float(sums[_TRUE][i] / total),
                int(self._pictures[i]),
            ]
            for i in self._occurring()
        ]
        columns = ["class", "IoU", "Dice", "boundary F", "share of the pixels", "pictures"]
        note = (
            "All is measured at the {} x {} pixels of the answers, to which the masks are resized. "
            "Boundaries match within {:.2%} of the picture's diagonal. An empty cell is undefined: "
            "there is no boundary, or it is that of other classes.".format(*self._size, TOLERANCE)
        )
        return Table("Classes", columns, rows, note, weakest="IoU")

    def _galleries(self) -> Iterator[Gallery]:
        note = "Left the mask, right the answer, on the picture; grey pixels are ignored."
        middle = float(np.median([picture.iou for _, picture in self._sample]))
        near = sorted(
            (picture for _, picture in self._sample),
            key=lambda picture: (abs(picture.iou - middle), picture.number),
        )[:SHOWN]
        groups = {"Worst masks": self._worst, "Median masks": near, "Best masks": self._best}
        for title, pictures in groups.items():
            examples = [Example(each.number, each.caption, each.overlays) for each in pictures]
            yield Gallery(title, examples, note)

    def _remarks(self) -> Iterator[str]:
        sums = self._replicas[0]
        values, occurs = _ious(sums)
        most = int(sums[_TRUE].argmax())
        if _accuracy(sums) <= sums[_TRUE][most] / max(sums[_TRUE].sum(), 1):
            yield f"The model is no better than one that answers {self._names[most]} everywhere."
        unseen = [self._names[i] for i in range(1, len(values)) if not sums[_TRUE][i]]
        if unseen:
            yield f"These classes are in no mask, so nothing is known of them: {listed(unseen)}."
        weak = [
            f"{self._names[i]} ({values[i]:.2f})"
            for i in values.argsort(kind="stable")
            if occurs[i] and sums[_TRUE][i] and values[i] < _WEAK
        ]
        if weak:
            yield f"The IoU of these classes is below {_WEAK}: {listed(weak)}."


def _check(target: np.ndarray, scores: np.ndarray, classes: int, first: int) -> None:
    """Raises ValueError unless these are masks and scores of as many pictures."""
    if target.ndim != 3 or target.dtype != np.uint8:
        raise ValueError(
            f"Masks are {target.dtype} {target.shape}, expected uint8 [examples, height, width]."
        )
    if scores.ndim != 4 or scores.shape[0] != len(target) or scores.shape[-1] != classes:
        raise ValueError(
            f"Scores have shape {scores.shape}, expected ({len(target)}, height, width, {classes})."
        )
    wrong = np.flatnonzero(~np.isfinite(scores).all(axis=(1, 2, 3)))
    if len(wrong):
        raise ValueError(f"The scores of example {first + wrong[0]} are not finite.")
    wrong = np.flatnonzero(((target >= classes) & (target != IGNORE)).any(axis=(1, 2)))
    if len(wrong):
        raise ValueError(
            f"The mask of example {first + wrong[0]} has the class {target[wrong[0]].max()}, "
            f"expected 0 to {classes - 1}, or {IGNORE}."
        )


def _ious(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the intersection over union of everything, and whether it occurs."""
    either = sums[_TRUE] + sums[_FOUND] - sums[_BOTH]
    return shares(sums[_BOTH], either), either > 0


def _dices(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    both = sums[_TRUE] + sums[_FOUND]
    return shares(2 * sums[_BOTH], both), both > 0


def _boundaries(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the F1 of the boundary of every class, and whether it has one."""
    precision = shares(sums[_DRAWN_MET], sums[_DRAWN])
    recall = shares(sums[_EDGES_MET], sums[_EDGES])
    return shares(2 * precision * recall, precision + recall), sums[_DRAWN] + sums[_EDGES] > 0


def _mean(sums: np.ndarray, measure: Callable[..., tuple[np.ndarray, np.ndarray]]) -> float:
    """Returns the mean over what occurs; 1 if nothing does, for then nothing is wrong."""
    values, occurs = measure(sums)
    return float(values[occurs].mean()) if occurs.any() else 1.0


def _accuracy(sums: np.ndarray) -> float:
    total = sums[_TRUE].sum()
    return float(sums[_BOTH].sum() / total) if total else 1.0


def _known(values: np.ndarray, occurs: np.ndarray) -> list[float | None]:
    return [float(x) if is_known else None for x, is_known in zip(values, occurs, strict=True)]


def _edges(true: np.ndarray, found: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
    """Returns the rows from `_EDGES` on: boundary pixels, and those near the other boundary.

    The background has none: its boundary is that of the classes.
    """
    rows = np.zeros([4, classes], np.int64)
    reach = max(1, round(TOLERANCE * float(np.hypot(*true.shape))))
    present = np.unique(np.concatenate([true[known], found[known]]))
    for number in present[present > 0]:
        edges, drawn = (_boundary(each == number, known) for each in (true, found))
        rows[:, number] = [
            edges.sum(),
            (edges & _grown(drawn, reach)).sum(),
            drawn.sum(),
            (drawn & _grown(edges, reach)).sum(),
        ]
    return rows


def _boundary(inside: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns the pixels inside that have one of four neighbours outside, ignored ones neither."""
    inside, outside = inside & known, ~inside & known
    near = np.zeros_like(inside)
    near[1:] |= outside[:-1]
    near[:-1] |= outside[1:]
    near[:, 1:] |= outside[:, :-1]
    near[:, :-1] |= outside[:, 1:]
    return inside & near


def _grown(pixels: np.ndarray, reach: int) -> np.ndarray:
    """Returns the pixels within a distance of some of these."""
    height, width = pixels.shape
    padded = np.pad(pixels, reach)
    grown = np.zeros_like(pixels)
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            if y * y + x * x <= reach * reach:
                top, left = reach + y, reach + x
                grown |= padded[top : top + height, left : left + width]
    return grown


def _encoded(mask: np.ndarray) -> str:
    return base64.b64encode(overlay(mask)).decode()
