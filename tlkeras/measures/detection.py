"""Measures of a detector: COCO's average precision, confusions, sizes, and pictures to look at.

NumPy alone, so that Keras, a TFLite file and a server are measured alike. Intervals are of a
bootstrap over pictures with a fixed seed.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tlkeras.boxes.overlay import overlay
from tlkeras.measures import average_precision as ap
from tlkeras.measures import checks
from tlkeras.measures.average_precision import Matches, Picture
from tlkeras.measures.estimates import drawn
from tlkeras.measures.measures import (
    Curve,
    Example,
    Gallery,
    Matrix,
    Measures,
    Scalar,
    Table,
    View,
    listed,
)

COLUMNS = 6
"""Of a target: top, left, bottom, right, class, ignored; others may follow."""

BACKGROUND = "background"
REPLICAS = 100
SHOWN = 4
"""So many pictures of the best, the worst and the median are shown."""

# The places of their thresholds; None is the mean of all.
_MEANS: Mapping[str, int | None] = {"ap": None, "ap50": 0, "ap75": 5}

_WEAK = 0.5  # Below this AP50 a class is worth a remark.
_CURVES = 4  # So many lines of a chart can be told apart.
_EQUAL, _SURE = 0.9, 0.5


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A measured picture."""

    number: int
    size: tuple[float, float]
    picture: Picture


class DetectionTally:
    """The boxes of all pictures; the measures are functions of them.

    ``ap`` is COCO's: the mean over classes and over the IoU from 0.5 to 0.95. ``ap50`` and ``ap75``
    are at one IoU; ``ap_small``, ``ap_medium`` and ``ap_large`` are of true boxes up to 32 and 96
    pixels square and larger, in the picture's own pixels. ``average_recall`` has at most 100 boxes
    of a class in a picture.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """Begins with no picture."""
        self._classes = tuple(classes)
        self._seen: list[_Seen] = []
        self._left: list[int] = []

    def add(self, target: np.ndarray, served: Mapping[str, Any], first: int) -> None:
        """Adds targets of `Detection` and the boxes served for them."""
        target = np.asarray(target)
        if target.ndim != 3 or target.shape[1] < 1 or target.shape[2] < COLUMNS:
            raise ValueError(
                f"Targets have shape {target.shape}, expected [examples, 1 + boxes, {COLUMNS}]."
            )
        arrays = {name: np.asarray(served[name]) for name in ("boxes", "scores", "category")}
        shape = (len(target), *arrays["scores"].shape[1:2])
        checks.require("boxes", arrays["boxes"], (*shape, 4), first, [checks.FINITE])
        checks.require("scores", arrays["scores"], shape, first, [checks.FINITE, checks.SHARES])
        checks.require("classes", arrays["category"], shape, first, [checks.FINITE])
        for place, (rows, boxes, scores, categories) in enumerate(
            zip(target, *(arrays[name] for name in ("boxes", "scores", "category")), strict=True)
        ):
            size = np.array([*rows[0, :2]] * 2, np.float64)
            true, found = rows[1:][rows[1:, 4] >= 0], scores > 0
            picture = Picture(
                true[:, :4] * size,
                true[:, 4].astype(np.int64),
                true[:, 5].astype(np.int64),
                boxes[found] * size,
                scores[found].astype(np.float64),
                np.rint(categories[found]).astype(np.int64),
            )
            if len(true) and picture.labels.max() >= len(self._classes):
                raise ValueError(
                    f"The target of example {first + place} has the class {picture.labels.max()}, "
                    f"expected 0 to {len(self._classes) - 1}."
                )
            self._seen.append(_Seen(first + place, (size[0], size[1]), picture))
            self._left.append(max(int(rows[0, 2]) - len(true), 0))

    def measures(self) -> Measures:
        """Returns the measures of all pictures added."""
        if not self._seen:
            raise ValueError("There is no example to measure.")
        pictures = [each.picture for each in self._seen]
        found = {area: ap.matched(pictures, len(self._classes), area) for area in ap.RANGES}
        least = ap.sure(found["all"])
        return Measures(
            primary="ap",
            count=len(self._seen),
            scalars=_scalars(found),
            views=[*self._views(found, least)],
            remarks=[*self._remarks(found["all"])],
        )

    def _views(self, found: Mapping[str, Sequence[Matches]], least: float) -> Iterator[View]:
        yield self._table(found)
        yield self._matrix(least)
        counts = [int(each.truths.sum()) for each in found["all"]]
        series = {}
        for number in sorted(np.argsort(-np.array(counts), kind="stable")[:_CURVES]):
            precision = ap.precisions(found["all"][number])
            if precision is not None:
                series[self._classes[number]] = [
                    [float(x), float(y)] for x, y in zip(ap.RECALLS, precision[0], strict=True)
                ]
        if series:
            note = "At an IoU of 0.5, of the classes with the most boxes."
            yield Curve("Precision and recall", "recall", "precision", series, note)
        yield from self._galleries(least)

    def _table(self, found: Mapping[str, Sequence[Matches]]) -> Table:
        """Returns a row of each class; where nothing is known, a cell is empty."""
        rows = []
        for number, name in enumerate(self._classes):
            matches = found["all"][number]
            precision, recall = [ap.precisions(matches)], [ap.recalls(matches)]
            sizes = [ap.mean([ap.precisions(found[area][number])]) for area in list(ap.RANGES)[1:]]
            rows.append(
                [
                    name,
                    ap.mean(precision),
                    ap.mean(precision, 0),
                    ap.mean(precision, 5),
                    ap.mean(recall),
                    *sizes,
                    int(matches.truths.sum()),
                    int((matches.truths > 0).sum()),
                ]
            )
        columns = ["class", "AP", "AP50", "AP75", "recall", *list(ap.RANGES)[1:]]
        note = (
            "AP and recall are means over the IoU from 0.5 to 0.95; small, medium and large are "
            "the AP of boxes up to 32 and 96 pixels square, and of larger ones."
        )
        return Table("Classes", [*columns, "boxes", "pictures"], rows, note, weakest="AP50")

    def _matrix(self, least: float) -> Matrix:
        names = [*self._classes, BACKGROUND]
        counts = np.zeros([len(names)] * 2, np.int64)
        for each in self._seen:
            picture = each.picture
            taken, missed, wrong = ap.pairs(picture, least)
            for true, found in taken:
                counts[picture.labels[true], picture.categories[found]] += 1
            for place in missed:
                counts[picture.labels[place], -1] += 1
            for place in wrong:
                counts[-1, picture.categories[place]] += 1
        note = (
            f"Boxes of a score of {least:.2f} or more, which gives the best F1, and the true boxes "
            "that they overlap by an IoU of 0.5. Rows are true classes, columns predictions; in "
            "the column background are the missed ones, in the row background false alarms."
        )
        return Matrix("Confusions", names, counts.tolist(), note)

    def _galleries(self, least: float) -> Iterator[Gallery]:
        """Yields the pictures of the lowest, the middle and the highest F1."""
        judged = sorted(
            (_f1(each.picture, least), each.number, place) for place, each in enumerate(self._seen)
        )
        middle = max(0, (len(judged) - SHOWN) // 2)
        groups = {
            "Worst pictures": judged[:SHOWN],
            "Median pictures": judged[middle : middle + SHOWN],
            "Best pictures": judged[::-1][:SHOWN],
        }
        note = f"Left the true boxes, right those found with a score of {least:.2f} or more."
        for title, group in groups.items():
            examples = [self._example(self._seen[place], f1, least) for f1, _, place in group]
            yield Gallery(title, examples, note)

    def _example(self, seen: _Seen, f1: float, least: float) -> Example:
        picture = seen.picture
        taken, missed, wrong = ap.pairs(picture, least)
        right = sum(picture.labels[true] == picture.categories[found] for true, found in taken)
        told = [f"F1 {f1:.2f}", f"{right} right"]
        for word, numbers in [
            ("missed", picture.labels[missed]),
            ("false", picture.categories[wrong]),
        ]:
            if len(numbers):
                told.append(f"{word}: {listed([self._classes[number] for number in numbers])}")
        confused = [
            f"{self._classes[picture.labels[true]]} taken for "
            f"{self._classes[picture.categories[found]]}"
            for true, found in taken
            if picture.labels[true] != picture.categories[found]
        ]
        sure = picture.scores >= least
        overlays = {
            "true": _drawn(picture.boxes, picture.labels, seen.size),
            "found": _drawn(picture.found[sure], picture.categories[sure], seen.size),
        }
        return Example(seen.number, ", ".join([*told, *confused[:3]]), overlays)

    def _remarks(self, found: Sequence[Matches]) -> Iterator[str]:
        counts = [int(each.truths.sum()) for each in found]
        if not sum(counts):
            yield "No picture has a box, so nothing is known of the model but its false alarms."
            return
        if left := sum(self._left):
            many = sum(1 for each in self._left if each)
            yield (
                f"{many:,} of {len(self._left):,} pictures have more boxes than detection.most; "
                f"{left:,} boxes are not measured."
            )
        unseen = [name for name, count in zip(self._classes, counts, strict=True) if not count]
        if unseen:
            yield f"These classes are in no picture, so nothing is known of them: {listed(unseen)}."
        values = {
            name: ap.mean([ap.precisions(each)], 0)
            for name, each in zip(self._classes, found, strict=True)
        }
        weak = sorted((x, name) for name, x in values.items() if x is not None and x < _WEAK)
        if weak:
            told = listed([f"{name} ({value:.2f})" for value, name in weak])
            yield f"The AP50 of these classes is below {_WEAK}: {told}."


def _scalars(found: Mapping[str, Sequence[Matches]]) -> dict[str, Scalar]:
    """Returns the scalars; what has no true box is left out, but for the first three."""
    everything = found["all"]
    scalars = _intervals(everything)
    for area in list(ap.RANGES)[1:]:
        value = ap.mean([ap.precisions(each) for each in found[area]])
        if value is not None:
            scalars[f"ap_{area}"] = Scalar(value)
    recall = ap.mean([ap.recalls(each) for each in everything])
    return scalars | {"average_recall": Scalar(recall or 0.0)}


def _intervals(matches: Sequence[Matches]) -> dict[str, Scalar]:
    """Returns means of average precisions, their intervals over pictures, two that have boxes."""
    truths = np.sum([each.truths for each in matches], axis=0)
    if not truths.any():
        return dict.fromkeys(_MEANS, Scalar(0.0, is_defined=False))

    def measured(weights: np.ndarray | None) -> list[Any]:
        found = [ap.precisions(each, weights) for each in matches]
        return [ap.mean(found, threshold) for threshold in _MEANS.values()]

    values, count, known = measured(None), len(truths), int(np.count_nonzero(truths))
    if known < 2:
        return dict(zip(_MEANS, map(Scalar, values), strict=True))
    random = np.random.default_rng(0)
    draws = random.multinomial(count, np.full(count, 1 / count), REPLICAS)
    draws = draws[(draws[:, truths > 0] > 0).any(axis=1)]  # Without a box nothing is measured.
    every = zip(*map(measured, draws), strict=True)
    return {
        name: Scalar(value, drawn(value, each, known))
        for name, value, each in zip(_MEANS, values, every, strict=True)
    }


def _f1(picture: Picture, least: float) -> float:
    """Returns the F1 of the boxes of a picture; 1 if there is nothing and nothing is found."""
    taken, missed, wrong = ap.pairs(picture, least)
    right = sum(picture.labels[true] == picture.categories[found] for true, found in taken)
    whole = 2 * len(taken) + len(missed) + len(wrong)
    return float(2 * right / whole) if whole else 1.0


def _drawn(boxes: np.ndarray, labels: np.ndarray, size: tuple[float, float]) -> str:
    return base64.b64encode(overlay(boxes, labels, size)).decode()


def agreement(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns bool [b]: whether two answers have the same boxes, at an IoU of 0.9.

    A box of a score of 0.5 in one has to be in the other with the same class; that its score may be
    a little lower there is no difference.
    """
    rows = [
        {name: array[place] for name, array in both.items()}
        for place in range(len(one["scores"]))
        for both in (one, other)
    ]
    pairs: list[tuple[Any, Any]] = list(zip(rows[::2], rows[1::2], strict=True))
    return np.array([_holds(*pair) and _holds(*pair[::-1]) for pair in pairs], bool)


def _holds(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Returns whether the sure boxes of one answer are in another."""
    sure, there = one["scores"] >= _SURE, other["scores"] >= 0.8 * _SURE
    boxes = other["boxes"][there].astype(np.float64)
    iou = ap.overlaps(one["boxes"][sure].astype(np.float64), boxes, np.zeros(len(boxes)))
    same = one["category"][sure][:, None] == other["category"][there][None]
    return bool(((iou >= _EQUAL) & same).any(axis=1).all())
