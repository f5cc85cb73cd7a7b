"""Measures of retrieval: the place of a picture's text among all, and of a text's picture.

Equal texts are one text: any picture that has it is right. Equal pictures are one
picture: any of its texts is right. A wrong answer that is as near as the right one counts as
nearer, so that a model which tells nothing apart is right nowhere.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tlkeras.measures.checks import FINITE, require
from tlkeras.measures.estimates import Ratio, spread
from tlkeras.measures.measures import NORMAL, Example, Gallery, Measures, Scalar, Table

PLACES = (1, 5, 10)
"""Recall is measured among so many first answers."""

_ROWS = 1024  # Of the scores that are in memory at a time.
_QUERIES, _ANSWERS = 3, 4  # Shown in a report, each way.


@dataclasses.dataclass(frozen=True)
class Ranks:
    """The place of the first right answer to each query, from 1 on.

    A text is right for a picture if some example has both, and so is the picture for the text.

    Attributes:
        texts: Of a right text for each different picture, among the different texts; int64 [p].
        pictures: Of a right picture for each different text, among the pictures; int64 [t].
        pairs: The numbers of the picture and of the text of each example, int64 [n, 2].
        first: The first example of each different picture and of each different text.
    """

    texts: np.ndarray
    pictures: np.ndarray
    pairs: np.ndarray
    first: tuple[np.ndarray, np.ndarray]

    @property
    def guess(self) -> float:
        """The share of queries, either way, for which a guess puts a right answer first."""
        right = len(np.unique(self.pairs, axis=0))
        return right / (len(self.texts) * len(self.pictures))

    @functools.cached_property
    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """The number of the independent unit of each picture, [p], and of each text, [t].

        Pictures with a text in common share its fate, and so do texts with a picture in common.
        """
        from scipy import sparse  # No help text has to wait for them.
        from scipy.sparse import csgraph

        (picture, text), count = self.pairs.T, len(self.texts)
        sides = 2 * (count + len(self.pictures),)
        links = sparse.coo_array((np.ones(len(text)), (picture, count + text)), sides)
        _, unit = csgraph.connected_components(links, directed=False)
        return unit[:count], unit[count:]


def ranks(pictures: np.ndarray, texts: np.ndarray, keys: np.ndarray) -> Ranks:
    """Returns the places of right answers by the products of rows.

    Args:
        pictures: Rows of pictures, float [n, channels].
        texts: Rows of their texts, float [n, channels].
        keys: What equal texts have equal, two numbers, and then equal pictures, [n, 4].
    """
    (first_text, text), (first_picture, picture) = map(_different, (keys[:, :2], keys[:, 2:]))
    rows, columns = pictures[first_picture], texts[first_text]
    return Ranks(
        _places(rows, columns, picture, text),
        _places(columns, rows, text, picture),
        np.stack([picture, text], axis=1),
        (first_picture, first_text),
    )


def _different(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first row of each different key, and the number of the key of each row."""
    _, first, number = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first, number.reshape(-1)


def _places(
    queries: np.ndarray, answers: np.ndarray, query: np.ndarray, answer: np.ndarray
) -> np.ndarray:
    """Returns the place of the first right answer to each query, of numbers of right pairs."""
    found = np.empty(len(queries), np.int64)
    for rows, scores in _scores(queries, answers):
        is_right = np.zeros(scores.shape, bool)
        own = (query >= rows.start) & (query < rows.stop)
        is_right[query[own] - rows.start, answer[own]] = True
        best = np.where(is_right, scores, -np.inf).max(axis=1)
        found[rows] = 1 + ((scores >= best[:, None]) & ~is_right).sum(axis=1)
    return found


def _scores(queries: np.ndarray, answers: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, len(queries), _ROWS):
        rows = slice(start, min(start + _ROWS, len(queries)))
        yield rows, queries[rows] @ answers.T


class RetrievalTally:
    """Rows of all pairs, ranked at the end.

    ``recall_at_1`` is the mean of both ways: ``text_recall_at_k``, of different pictures that have
    a right text among the first k of the different texts, and ``picture_recall_at_k``, of different
    texts that have a right picture among the first k. Intervals take a picture with all its texts,
    and a text with all its pictures, for one example, see `Ranks.units`. Those of median ranks are
    of order statistics.
    """

    def __init__(self) -> None:
        """Begins with no pair."""
        self._keys: list[np.ndarray] = []
        self._pictures: list[np.ndarray] = []
        self._texts: list[np.ndarray] = []
        self._first: int | None = None

    def add(self, target: np.ndarray, served: Mapping[str, Any], first: int) -> None:
        """Adds what tells texts and pictures apart, [b, 4], and rows of length 1 by their names."""
        pictures, texts = (np.asarray(served[name], np.float32) for name in ("picture", "text"))
        require("targets", target, (len(pictures), 4), first, [FINITE])
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
        of_pictures, of_texts = found.units
        scalars = {"recall_at_1": _both(found)}
        for place in PLACES:
            scalars[f"text_recall_at_{place}"] = _recall(found.texts <= place, of_pictures)
            scalars[f"picture_recall_at_{place}"] = _recall(found.pictures <= place, of_texts)
        scalars["text_median_rank"] = _median(found.texts, int(of_pictures.max()) + 1)
        scalars["picture_median_rank"] = _median(found.pictures, int(of_texts.max()) + 1)
        remarks = [
            f"Among {count:,} different pictures and {different:,} different texts, a guess puts a "
            f"right one first for {found.guess:.2%} of the queries, either way."
        ]
        if different <= PLACES[-1]:
            remarks.append(
                f"With {different} different texts, the right one is always among the first "
                f"{PLACES[-1]}."
            )
        return Measures(
            primary="recall_at_1",
            count=len(found.pairs),
            scalars=scalars,
            views=[_table(scalars, found.guess), *self._galleries(found, pictures, texts)],
            remarks=remarks,
        )

    def _galleries(
        self, found: Ranks, pictures: np.ndarray, texts: np.ndarray
    ) -> Iterator[Gallery]:
        """Yields what is found for a few texts and for a few pictures."""
        start = self._first or 0
        right = {*map(tuple, found.pairs.tolist())}
        of_pictures, of_texts = found.first
        for query in _spread(len(of_texts)):
            own = int(of_texts[query])
            order = np.argsort(-(pictures[of_pictures] @ texts[own]), kind="stable")[:_ANSWERS]
            answers = [(int(of_pictures[e]), (int(e), query) in right) for e in order]
            told = f"wanted: the text of this one; a right picture is {_th(found.pictures[query])}"
            yield _gallery("Pictures found for a text", start, (own, told), answers)
        for query in _spread(len(of_pictures)):
            own = int(of_pictures[query])
            order = np.argsort(-(texts[of_texts] @ pictures[own]), kind="stable")[:_ANSWERS]
            answers = [(int(of_texts[e]), (query, int(e)) in right) for e in order]
            told = f"wanted: a text for this picture; its own is {_th(found.texts[query])}"
            yield _gallery("Texts found for a picture", start, (own, told), answers)


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
    """Returns the mean recall at 1 of both ways; the variance is that of sums over units."""
    parts, values = [], []
    for places, unit in zip((found.texts, found.pictures), found.units, strict=True):
        hits, counts = np.bincount(unit, places == 1), np.bincount(unit)
        values.append(hits.sum() / counts.sum())
        parts.append((hits - values[-1] * counts) / counts.sum())
    value = float(sum(values)) / 2
    variance = float(np.square(sum(parts) / 2).sum())
    return Scalar(value, spread(value, variance, len(parts[0])))


def _recall(is_hit: np.ndarray, unit: np.ndarray) -> Scalar:
    ratio = Ratio()
    ratio.add(np.bincount(unit, is_hit), np.bincount(unit))
    return ratio.scalar


def _median(places: np.ndarray, units: int) -> Scalar:
    """Returns the median with the interval of order statistics, of so many independent units."""
    reach = NORMAL / (2 * units**0.5)
    low, middle, high = np.quantile(
        places, [max(0.5 - reach, 0), 0.5, min(0.5 + reach, 1)], method="inverted_cdf"
    ).tolist()
    return Scalar(middle, (low, high), more_is_better=False)


def _table(scalars: Mapping[str, Scalar], guess: float) -> Table:
    names = {"text": "a picture's text", "picture": "a text's picture"}
    rows = [
        [
            told,
            *(scalars[f"{way}_recall_at_{place}"].value for place in PLACES),
            guess,
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
