"""Measures of retrieval: the place of a picture's text among all, and of a text's picture.

NumPy alone. Equal texts are one text: any picture that has it is right. A wrong answer that is as
near as the right one counts as nearer, so that a model which tells nothing apart is right nowhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tlkeras.measures.checks import FINITE, require
from tlkeras.measures.estimates import Ratio, spread
from tlkeras.measures.measures import NORMAL, Example, Gallery, Measures, Scalar, Table, share

PLACES = (1, 5, 10)
"""Recall is measured among so many first answers."""

_ROWS = 1024  # Of the scores that are in memory at a time.
_QUERIES, _ANSWERS = 3, 4  # Shown in a report, each way.


@dataclasses.dataclass(frozen=True)
class Ranks:
    """The place of the right answer to each query, from 1 on.

    Attributes:
        texts: Of the right text for each picture, among the different texts; int64 [n].
        pictures: Of the first right picture for each different text; int64 [m].
        of: The number of each picture's text, int64 [n] in [0, m).
        first: The first example of each different text, int64 [m].
    """

    texts: np.ndarray
    pictures: np.ndarray
    of: np.ndarray
    first: np.ndarray


def ranks(pictures: np.ndarray, texts: np.ndarray, keys: np.ndarray) -> Ranks:
    """Returns the places of right answers by the products of rows.

    Args:
        pictures: Rows of pictures, float [n, channels].
        texts: Rows of their texts, float [n, channels].
        keys: What equal texts have equal, [n, any].
    """
    _, first, of = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    of = of.reshape(-1)
    columns = texts[first]
    to_texts = np.empty(len(pictures), np.int64)
    for rows, scores in _scores(pictures, columns):
        right = scores[np.arange(len(scores)), of[rows]]
        # The right one itself is as near as the right one: the count of wrong ones and 1.
        to_texts[rows] = (scores >= right[:, None]).sum(axis=1)
    to_pictures = np.empty(len(first), np.int64)
    for rows, scores in _scores(columns, pictures):
        is_right = of[None, :] == np.arange(len(first))[rows][:, None]
        best = np.where(is_right, scores, -np.inf).max(axis=1)
        to_pictures[rows] = 1 + ((scores >= best[:, None]) & ~is_right).sum(axis=1)
    return Ranks(to_texts, to_pictures, of, first)


def _scores(queries: np.ndarray, answers: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, len(queries), _ROWS):
        rows = slice(start, min(start + _ROWS, len(queries)))
        yield rows, queries[rows] @ answers.T


class RetrievalTally:
    """Rows of all pairs, ranked at the end.

    ``recall_at_1`` is the mean of both ways: ``text_recall_at_k``, of pictures whose text is among
    the first k of the different texts, and ``picture_recall_at_k``, of different texts that have a
    right picture among the first k. Intervals take a text with all its pictures for one example,
    because its pictures share its fate. Those of median ranks are of order statistics.
    """

    def __init__(self) -> None:
        """Begins with no pair."""
        self._keys: list[np.ndarray] = []
        self._pictures: list[np.ndarray] = []
        self._texts: list[np.ndarray] = []
        self._first: int | None = None

    def add(self, target: np.ndarray, served: Mapping[str, Any], first: int) -> None:
        """Adds what tells texts apart, [b, 2], and rows of length 1, ``picture`` and ``text``."""
        pictures, texts = (np.asarray(served[name], np.float32) for name in ("picture", "text"))
        require("targets", target, (len(pictures), 2), first, [FINITE])
        for name, rows in (("rows of pictures", pictures), ("rows of texts", texts)):
            require(name, rows, pictures.shape, first, [FINITE])
        self._first = first if self._first is None else self._first
        self._keys.append(np.asarray(target))
        self._pictures.append(pictures)
        self._texts.append(texts)

    def measures(self) -> Measures:
        """Returns the measures of all pairs added."""
        if self._first is None:
            raise ValueError("There is no example, and so no pair to measure.")
        pictures, texts = np.concatenate(self._pictures), np.concatenate(self._texts)
        found = ranks(pictures, texts, np.concatenate(self._keys))
        count, different = len(found.texts), len(found.pictures)
        scalars = {"recall_at_1": _both(found)}
        for place in PLACES:
            scalars[f"text_recall_at_{place}"] = _of_texts(found, place)
            right = int((found.pictures <= place).sum())
            scalars[f"picture_recall_at_{place}"] = share(right, different)
        scalars["text_median_rank"] = _median(found.texts, different)
        scalars["picture_median_rank"] = _median(found.pictures, different)
        remarks = [
            f"Among {count:,} pictures with {different:,} different texts, a guess puts a right "
            f"one first for {1 / different:.2%} of the queries, either way."
        ]
        if different <= PLACES[-1]:
            remarks.append(
                f"With {different} different texts, the right one is always among the first "
                f"{PLACES[-1]}."
            )
        return Measures(
            primary="recall_at_1",
            count=count,
            scalars=scalars,
            views=[_table(scalars, different), *self._galleries(found, pictures, texts)],
            remarks=remarks,
        )

    def _galleries(
        self, found: Ranks, pictures: np.ndarray, texts: np.ndarray
    ) -> Iterator[Gallery]:
        """Yields what is found for a few texts and for a few pictures."""
        start = self._first or 0
        for query in _spread(len(found.first)):
            own = int(found.first[query])
            order = np.argsort(-(pictures @ texts[own]), kind="stable")[:_ANSWERS]
            answers = [(int(each), bool(found.of[each] == query)) for each in order]
            told = f"wanted: the text of this one; a right picture is {_th(found.pictures[query])}"
            yield _gallery("Pictures found for a text", start, (own, told), answers)
        for query in _spread(len(found.of)):
            order = np.argsort(-(texts[found.first] @ pictures[query]), kind="stable")[:_ANSWERS]
            answers = [(int(found.first[e]), bool(e == found.of[query])) for e in order]
            told = f"wanted: a text for this picture; its own is {_th(found.texts[query])}"
            yield _gallery("Texts found for a picture", start, (query, told), answers)


def _spread(count: int) -> list[int]:
    """Returns a few numbers below a count, far from each other."""
    return [*dict.fromkeys(count * place // _QUERIES for place in range(_QUERIES))]


def _th(rank: Any) -> str:
    return "found first" if rank == 1 else f"in place {rank}"


def _gallery(
    title: str, start: int, query: tuple[int, str], answers: list[tuple[int, bool]]
) -> Gallery:
    own, told = query
    examples = [Example(start + own, told)] + [
        Example(start + number, f"{place}: {'right' if right else 'wrong'}")
        for place, (number, right) in enumerate(answers, 1)
    ]
    return Gallery(title, examples)


def _both(found: Ranks) -> Scalar:
    """Returns the mean recall at 1 of both ways; the variance is that of sums over texts."""
    hits = np.bincount(found.of, found.texts == 1)
    counts = np.bincount(found.of)
    there, back = hits.sum() / counts.sum(), (found.pictures == 1).mean()
    parts = (hits - there * counts) / counts.sum() + ((found.pictures == 1) - back) / len(hits)
    value = float(there + back) / 2
    return Scalar(value, spread(value, float(np.square(parts / 2).sum()), len(hits)))


def _of_texts(found: Ranks, place: int) -> Scalar:
    ratio = Ratio()
    ratio.add(np.bincount(found.of, found.texts <= place), np.bincount(found.of))
    return ratio.scalar


def _median(places: np.ndarray, units: int) -> Scalar:
    """Returns the median with the interval of order statistics, of so many independent units."""
    reach = NORMAL / (2 * units**0.5)
    low, middle, high = np.quantile(
        places, [max(0.5 - reach, 0), 0.5, min(0.5 + reach, 1)], method="inverted_cdf"
    ).tolist()
    return Scalar(middle, (low, high), more_is_better=False)


def _table(scalars: Mapping[str, Scalar], different: int) -> Table:
    names = {"text": "a picture's text", "picture": "a text's picture"}
    rows = [
        [
            told,
            *(scalars[f"{way}_recall_at_{place}"].value for place in PLACES),
            1 / different,
            scalars[f"{way}_median_rank"].value,
        ]
        for way, told in names.items()
    ]
    columns = [
        "to find",
        *(f"recall at {place}" for place in PLACES),
        "recall at 1 of a guess",
        "median rank",
    ]
    return Table("Retrieval", columns, rows)
