"""Average precision of boxes as the COCO benchmark defines it, and matches of single pictures.

The rules are those of its programme: a found box takes the free true box of its class that it
overlaps most; ignored true boxes come after all others, and what they take counts neither as right
nor as wrong. Precision is read at 101 recalls. Boxes are (top, left, bottom, right) in pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tlkeras.boxes.geometry import CROWD

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)

RANGES: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Areas of true boxes in pixels; both ends belong to a range."""

MOST = 100
"""So many found boxes of a class in a picture count."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """The true and the found boxes of a picture, the found ones by falling score.

    Attributes:
        boxes: Float64 [n, 4].
        labels: Their classes, [n].
        ignored: 0, or why it is, see `geometry.CROWD`, [n].
        found: Float64 [m, 4].
        scores: [m].
        categories: Their classes, [m].
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    found: np.ndarray
    scores: np.ndarray
    categories: np.ndarray


@dataclasses.dataclass(frozen=True)
class Matches:
    """The found boxes of a class in some pictures, in the order of the pictures.

    Attributes:
        scores: [m].
        right: Whether each took a true box, by threshold, bool [thresholds, m].
        counts: Whether it counts at all, bool [thresholds, m].
        picture: The number of its picture, [m].
        truths: How many true boxes count in each picture, [pictures].
    """

    scores: np.ndarray
    right: np.ndarray
    counts: np.ndarray
    picture: np.ndarray
    truths: np.ndarray


_Part = tuple[np.ndarray, np.ndarray, np.ndarray, int]
"""Of one picture, `scores`, `right`, `counts` and the number of its `truths`."""


def overlaps(found: np.ndarray, boxes: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Returns the IoU of found and true boxes, [m, n]; with a crowd, the part of the found one."""
    low = np.maximum(found[:, None, :2], boxes[None, :, :2])
    high = np.minimum(found[:, None, 2:], boxes[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0.0), axis=-1)
    own, true = areas(found)[:, None], areas(boxes)[None]
    whole = np.where(ignored == CROWD, own, own + true - both)
    return np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)


def areas(boxes: np.ndarray) -> np.ndarray:
    """Returns the areas of boxes [..., 4]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def matched(
    pictures: Sequence[Picture], classes: int, area: str = "all", most: int = MOST
) -> list[Matches]:
    """Returns the matches of every class, of true boxes in a range of areas.

    Only the classes that a picture has are looked for in it.
    """
    found: list[list[tuple[int, _Part]]] = [[] for _ in range(classes)]
    for number, picture in enumerate(pictures):
        for category in np.union1d(picture.labels, picture.categories).tolist():
            if 0 <= category < classes:
                part = _matched(picture, category, RANGES[area], most)
                found[category].append((number, part))
    return [_joined(parts, len(pictures)) for parts in found]


def _joined(parts: Sequence[tuple[int, _Part]], pictures: int) -> Matches:
    """Returns the matches of a class in the pictures that have it, by their numbers."""
    empty, none = np.zeros([len(THRESHOLDS), 0], bool), np.zeros(0, np.int64)
    truths = np.zeros(pictures, np.int64)
    for number, part in parts:
        truths[number] = part[3]
    return Matches(
        np.concatenate([np.zeros(0), *(part[0] for _, part in parts)]),
        np.concatenate([empty, *(part[1] for _, part in parts)], axis=1),
        np.concatenate([empty, *(part[2] for _, part in parts)], axis=1),
        np.concatenate([none, *(np.full(len(part[0]), number) for number, part in parts)]),
        truths,
    )


def _matched(picture: Picture, category: int, area: tuple[float, float], most: int) -> _Part:
    is_class = picture.labels == category
    boxes, ignored = picture.boxes[is_class], picture.ignored[is_class]
    mine = np.flatnonzero(picture.categories == category)
    # Of equal scores the first one comes first.
    mine = mine[np.argsort(-picture.scores[mine], kind="stable")][:most]
    found, scores = picture.found[mine], picture.scores[mine]
    size = areas(boxes)
    passes = (ignored > 0) | (size < area[0]) | (size > area[1])
    right = np.zeros([len(THRESHOLDS), len(found)], bool)
    counts = np.ones_like(right)
    iou = overlaps(found, boxes, ignored)
    free = np.ones([len(THRESHOLDS), len(boxes)], bool)
    least = np.minimum(THRESHOLDS, 1 - 1e-10)
    for place in np.flatnonzero(iou.max(axis=1, initial=0.0) >= least[0]):
        fits = free & (iou[place] >= least[:, None])
        counted = fits & ~passes
        has_counted = counted.any(axis=1)
        choice = np.where(np.where(has_counted[:, None], counted, fits), iou[place], -1.0)
        taken = choice.shape[1] - 1 - choice[:, ::-1].argmax(axis=1)  # The last of equal ones.
        takes = fits.any(axis=1)
        right[:, place] = takes
        counts[:, place] = ~takes | has_counted
        # Any number of boxes may lie in an ignored one.
        used = takes & (ignored[taken] == 0)
        free[np.flatnonzero(used), taken[used]] = False
    own = areas(found)
    counts &= right | ~((own < area[0]) | (own > area[1]))
    return scores, right, counts, int((~passes).sum())


def precisions(matches: Matches, weights: np.ndarray | None = None) -> np.ndarray | None:
    """Returns the precision at every recall, [thresholds, 101]; None without a true box.

    Args:
        matches: Of one class.
        weights: How often each picture counts, [pictures]; once if None.
    """
    curves = _curves(matches, weights)
    if curves is None:
        return None
    found = np.zeros([len(THRESHOLDS), len(RECALLS)])
    for row, (recall, precision) in zip(found, zip(*curves, strict=True), strict=True):
        places = np.searchsorted(recall, RECALLS, side="left")
        reached = places < len(recall)
        row[reached] = precision[places[reached]]
    return found


def recalls(matches: Matches) -> np.ndarray | None:
    """Returns the part of the true boxes that are found, [thresholds]; None without one."""
    truths = matches.truths.sum()
    return (matches.right & matches.counts).sum(axis=1) / truths if truths else None


def _curves(matches: Matches, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns recall and precision, that of no later box being larger, both [thresholds, m]."""
    order = np.argsort(-matches.scores, kind="stable")
    times = np.ones(len(order)) if weights is None else weights[matches.picture[order]]
    truths = matches.truths.sum() if weights is None else (matches.truths * weights).sum()
    if not truths:
        return None
    right, counts = matches.right[:, order], matches.counts[:, order]
    hits = np.cumsum(right * counts * times, axis=1)
    misses = np.cumsum(~right * counts * times, axis=1)
    precision = hits / (hits + misses + np.spacing(1))
    return hits / truths, np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]


def mean(values: Sequence[np.ndarray | None], threshold: int | None = None) -> float | None:
    """Returns the mean over the classes with true boxes; None if there are none.

    `threshold` is the place of one of the thresholds; None is the mean of all.
    """
    known = [each if threshold is None else each[threshold] for each in values if each is not None]
    return float(np.mean(known)) if known else None


def sure(parts: Sequence[Matches]) -> float:
    """Returns the score from which on the boxes of all classes together have the best F1 at 0.5."""
    scores = np.concatenate([part.scores for part in parts])
    order = np.argsort(-scores, kind="stable")
    right, counts = (
        np.concatenate([values(part)[0] for part in parts])[order]
        for values in (lambda part: part.right & part.counts, lambda part: part.counts)
    )
    truths = sum(int(part.truths.sum()) for part in parts)
    if not right.any():
        return 0.5
    f1 = 2 * np.cumsum(right) / (np.cumsum(counts) + truths)
    return float(scores[order][f1.argmax()])


def pairs(picture: Picture, least: float) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Returns which boxes of at least a score take which true boxes of any class, at an IoU of 0.5.

    Returns:
        The places (true, found), the true ones that none takes, the found ones that take none; none
        of them ignored.
    """
    iou = overlaps(picture.found, picture.boxes, picture.ignored)
    free, taken, wrong = picture.ignored == 0, [], []
    for place in np.flatnonzero(picture.scores >= least):
        own = np.where(free, iou[place], -1.0)
        if own.size and own.max() >= THRESHOLDS[0]:
            taken.append((int(own.argmax()), int(place)))
            free[own.argmax()] = False
        elif iou[place][picture.ignored > 0].max(initial=0.0) < THRESHOLDS[0]:
            wrong.append(int(place))
    return taken, [int(each) for each in np.flatnonzero(free)], wrong
