"""Drift: tests of whether two samples come from one distribution, several at once.

Every test has a p-value that is right for small samples as well, and the size of the shift: in
large samples a tiny shift is significant. Numbers are compared by Kolmogorov and Smirnov, words by
the likelihood ratio, rows of features by the maximum mean discrepancy, and values or words that
the first sample never had by their count.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

LEVEL = 0.05
"""The chance of any false alarm of all tests together."""

LEAST_SIZE = 0.1
"""The size from which on a shift of numbers or words matters: a tenth of the examples moved."""

# So many permutations are drawn first, and all of them only if none of the first reaches the
# statistic. That changes no decision at any level: either the first ones decide, or all do.
_FIRST, _ALL = 1000, 10_000
_TABLES = 9999  # Random tables.
_CELLS = 2**21  # Tables times words of one draw; all that is computed of them takes 120 MB.

EXCEEDANCES = "exceedances"
"""The test of values beyond all that training had; a few of them may matter."""

# From so many expected examples in every cell on, the statistic has its limiting distribution
# (Cochran 1954, https://doi.org/10.2307/3001666).
_EXPECTED = 5.0


@dataclasses.dataclass(frozen=True)
class Shift:
    """The outcome of a test.

    Attributes:
        test: The name of the test.
        statistic: Its statistic.
        p: The chance of such a statistic, or a larger one, in samples of one distribution.
        size: The size of the shift, from 0 to 1; None if the test has no such measure.
    """

    test: str
    statistic: float
    p: float
    size: float | None = None


def of_numbers(one: np.ndarray, other: np.ndarray) -> Shift:
    """Returns the test of Kolmogorov and Smirnov; its size is the largest difference of shares.

    For every threshold, the shares of the numbers up to it are compared.

    Args:
        one: Finite numbers, [n].
        other: More of them, [m].
    """
    from scipy import stats

    found: Any = stats.ks_2samp(one, other, method="auto")
    size = float(found.statistic)
    return Shift("Kolmogorov-Smirnov", size, float(found.pvalue), size)


def of_words(one: Mapping[str, int], other: Mapping[str, int]) -> Shift:
    """Returns the likelihood ratio test (G-test) of how often each word occurs.

    Its size is the largest difference of a word's share. Where a cell of the table expects few
    examples, the p-value comes from random tables with the same margins.

    Args:
        one: How many examples have each word.
        other: The same of the other sample.
    """
    from scipy import stats

    words = sorted(word for word in {*one, *other} if one.get(word, 0) + other.get(word, 0))
    table = np.array([[counts.get(word, 0) for word in words] for counts in (one, other)])
    margins, totals = table.sum(axis=0), table.sum(axis=1)
    shares = table / totals[:, None]
    size = float(np.abs(shares[0] - shares[1]).max())
    statistic = float(_likelihood_ratio(table[1], margins, totals))
    if len(words) == 1:
        return Shift("G-test", 0.0, 1.0, 0.0)
    if (np.outer(totals, margins) / totals.sum()).min() >= _EXPECTED:
        p = float(stats.chi2.sf(statistic, len(words) - 1))
    else:
        least = statistic * (1 - 1e-9)
        p = _share(
            margins, totals[1], lambda drawn: _likelihood_ratio(drawn, margins, totals) >= least
        )
    return Shift("G-test", statistic, p, size)


def of_rows(one: np.ndarray, other: np.ndarray) -> Shift:
    """Returns the permutation test of the maximum mean discrepancy of rows of features.

    The kernel is Gaussian, as wide as the median distance of all rows (Gretton et al. 2012,
    https://jmlr.org/papers/v13/gretton12a.html). The statistic is the unbiased estimate of the
    squared discrepancy. Time and memory grow with the square of the rows: 1,000 against 1,000 take
    a second.

    Args:
        one: Rows, [n, channels], at least two.
        other: More of them, [m, channels], at least two.
    """
    kernel = _gaussian(np.concatenate([one, other]).astype(np.float64))
    np.fill_diagonal(kernel, 0.0)  # The unbiased estimate leaves out each row with itself.
    own = np.zeros([len(kernel), 1])
    own[: len(one)] = 1.0
    (statistic,) = _discrepancies(kernel, own)
    random, reached, drawn = np.random.default_rng(0), 0, 0
    while drawn < (_ALL if drawn and not reached else _FIRST):
        sides = random.permuted(np.repeat(own, _FIRST - (drawn == 0), axis=1), axis=0)
        found = _discrepancies(kernel, sides)
        # Sums in another order differ in their last digits: nearly equal ones count as equal.
        reached += int((found >= statistic - 1e-9 * abs(statistic)).sum())
        drawn += _FIRST
    return Shift("maximum mean discrepancy", float(statistic), (1 + reached) / drawn)


def of_exceedances(counts: Sequence[int], total: int, known: int) -> Shift:
    """Returns the test of how many of `total` examples lie beyond all of `known` earlier ones.

    If both samples have one distribution, the outermost of all examples are equally likely any of
    them: that `count` of them are all new has the chance C(total, count) / C(known + total, count)
    (Gumbel and von Schelling 1950, https://doi.org/10.1214/aoms/1177729842). The size is the share
    of the examples beyond.

    Args:
        counts: How many lie beyond each end: one, or two of a range. Of two, the less likely one
            counts, twice.
        total: How many new examples there are.
        known: How many earlier ones.
    """
    chances = [
        math.exp(sum(math.log((total - i) / (known + total - i)) for i in range(count)))
        for count in counts
    ]
    beyond = sum(counts)
    return Shift(EXCEEDANCES, float(beyond), min(1.0, len(counts) * min(chances)), beyond / total)


def of_unseen(one: Mapping[str, int], other: Mapping[str, int]) -> Shift:
    """Returns the test of how many examples of the second sample have a word that the first lacks.

    Rare words are seldom in both samples, so even samples of one distribution have such examples.
    The p-value comes from random tables with the same margins. The size is their share.

    Args:
        one: How many examples have each word.
        other: The same of the other sample, at least one example.
    """
    words = sorted({*one, *other})
    margins = np.array([one.get(word, 0) + other.get(word, 0) for word in words])
    second = np.array([other.get(word, 0) for word in words])
    count, total = _unseen(second, margins), second.sum()
    if not count:
        return Shift(EXCEEDANCES, 0.0, 1.0, 0.0)
    p = _share(margins, total, lambda drawn: _unseen(drawn, margins) >= count)
    return Shift(EXCEEDANCES, float(count), p, float(count / total))


def holm(values: Sequence[float]) -> list[float]:
    """Returns the p-values of several tests, adjusted so that any one below 0.05 is an alarm.

    The chance of one false alarm or more is then at most 0.05, however the tests depend on each
    other (Holm 1979, https://www.jstor.org/stable/4615733).
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = highest
    return adjusted


def _share(margins: np.ndarray, total: int, reaches: Callable[[np.ndarray], np.ndarray]) -> float:
    """Returns the share of tables of two rows with these margins that reach the one at hand.

    That one counts, and random ones, which are drawn in pieces: they are those of one draw.

    Args:
        margins: The sum of each column, [words].
        total: That of the second row.
        reaches: From second rows, [tables, words], to whether each table does.
    """
    random, reached = np.random.default_rng(0), 0
    size = max(1, _CELLS // len(margins))
    for start in range(0, _TABLES, size):
        count = min(size, _TABLES - start)
        drawn = random.multivariate_hypergeometric(margins, total, size=count, method="marginals")
        reached += int(reaches(drawn).sum())
    return (1 + reached) / (1 + _TABLES)


def _unseen(second: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Returns how many examples of second rows, [..., words], have a word that the first lacks."""
    return np.where(second == margins, second, 0).sum(axis=-1)


def _likelihood_ratio(second: np.ndarray, margins: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Returns the statistic of tables with these margins, by their second rows, [..., words]."""
    rows = np.stack([margins - second, second], axis=-2)
    expected = totals[:, None] * margins / totals.sum()
    ratios = np.divide(rows, expected, out=np.ones(rows.shape), where=rows > 0)
    return 2 * (rows * np.log(ratios)).sum(axis=(-2, -1))


def _gaussian(rows: np.ndarray) -> np.ndarray:
    squares = (rows**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0.0)
    median = np.median(distances[np.triu_indices(len(rows), k=1)])
    return np.exp(-distances / (2 * median)) if median else (distances == 0).astype(np.float64)


def _discrepancies(kernel: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Returns the statistic of each column of `sides`, which has 1 for rows of the first sample."""
    n = sides[:, 0].sum()
    m = len(sides) - n
    total, to_first = kernel.sum(), kernel @ sides
    within = (sides * to_first).sum(axis=0)
    across = to_first.sum(axis=0) - within
    beyond = total - within - 2 * across
    return within / (n * (n - 1)) + beyond / (m * (m - 1)) - 2 * across / (n * m)
