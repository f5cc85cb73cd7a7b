"""Tests of whether two samples come from one distribution."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tlkeras.doctor import drift
from tlkeras.doctor.drift import Shift


def brute_discrepancy(one: np.ndarray, other: np.ndarray, variance: float) -> float:
    """The unbiased estimate as Gretton et al. write it, sum by sum."""

    def kernel(x, y):
        return np.exp(-((x - y) ** 2).sum() / (2 * variance))

    def within(rows):
        pairs = itertools.permutations(range(len(rows)), 2)
        return sum(kernel(rows[i], rows[j]) for i, j in pairs) / (len(rows) * (len(rows) - 1))

    across = sum(kernel(x, y) for x in one for y in other) / (len(one) * len(other))
    return within(one) + within(other) - 2 * across


def test_the_discrepancy_of_rows_is_that_of_the_definition():
    random = np.random.default_rng(0)
    one, other = random.normal(size=(7, 3)), random.normal(1, 2, size=(5, 3))
    rows = np.concatenate([one, other])
    variance = np.median([((x - y) ** 2).sum() for x, y in itertools.combinations(rows, 2)])
    found = drift.of_rows(one, other)
    assert found.statistic == pytest.approx(brute_discrepancy(one, other, float(variance)))
    assert drift.of_rows(one, other) == found  # The permutations are seeded.


def test_the_p_value_of_few_rows_is_that_of_all_their_divisions():
    random = np.random.default_rng(1)
    one, other = random.normal(size=(4, 2)), random.normal(2, 1, size=(4, 2))
    rows = np.concatenate([one, other])
    variance = float(np.median([((x - y) ** 2).sum() for x, y in itertools.combinations(rows, 2)]))
    observed = brute_discrepancy(one, other, variance)
    reached = [
        brute_discrepancy(rows[[*some]], np.delete(rows, some, axis=0), variance)
        >= observed - 1e-12
        for some in itertools.combinations(range(8), 4)
    ]
    # A thousand random divisions are off by three deviations at most.
    assert drift.of_rows(one, other).p == pytest.approx(np.mean(reached), abs=0.03)


def test_a_p_value_at_its_limit_gets_more_permutations():
    one = np.zeros([20, 1]) + np.arange(20)[:, None] / 1000
    assert drift.of_rows(one, one + 5).p == 1e-4


NULLS = {
    "rows": lambda a: drift.of_rows(a[:25, :4], a[25:60, :4]),
    "numbers": lambda a: drift.of_numbers(a[:100, 0], a[100:, 0]),
    "words": lambda a: drift.of_words(
        Counter(map(str, (a[:150, 0] > 0) + 2 * (a[:150, 1] > 0))),
        Counter(map(str, (a[150:, 0] > 0) + 2 * (a[150:, 1] > 0))),
    ),
    "rare words": lambda a: drift.of_words(
        Counter(map(str, np.abs(5 * a[:60, 0]).round())),
        Counter(map(str, np.abs(5 * a[60:90, 0]).round())),
    ),
}


@pytest.mark.parametrize("name", NULLS)
def test_p_values_of_one_distribution_are_uniform(name):
    random = np.random.default_rng(6)
    count = 400 if name in ("numbers", "words") else 80  # Permutations take their time.
    values = [NULLS[name](random.normal(size=(300, 5))).p for _ in range(count)]
    assert stats.kstest(values, "uniform").pvalue > 0.01
    assert np.mean(np.array(values) < 0.05) == pytest.approx(0.05, abs=0.05)


def test_numbers_and_words_are_compared_as_by_scipy():
    random = np.random.default_rng(2)
    one, other = random.normal(size=80), random.normal(0.4, 1, size=50)
    expected: Any = stats.ks_2samp(one, other)
    assert drift.of_numbers(one, other) == Shift(
        "Kolmogorov-Smirnov", expected.statistic, expected.pvalue, expected.statistic
    )
    counts = {"a": 30, "b": 50}, {"a": 60, "b": 40, "c": 12}
    table = np.array([[30, 50, 0], [60, 40, 12]])
    expected = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
    found = drift.of_words(*counts)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.size == pytest.approx(50 / 80 - 40 / 112)


def test_few_words_have_the_exact_p_value_of_their_margins():
    one, other = {"a": 7, "b": 1}, {"a": 2, "b": 6}
    exact: Any = stats.fisher_exact([[7, 1], [2, 6]])
    assert drift.of_words(one, other).p == pytest.approx(exact.pvalue, abs=0.01)


def test_words_that_do_not_differ_are_no_shift():
    assert drift.of_words({"a": 5, "b": 0}, {"a": 9}) == Shift("G-test", 0.0, 1.0, 0.0)


def test_exceedances_are_as_likely_as_the_outermost_of_all_are_new():
    # Of 3 old and 2 new examples, each pair of the five is the outer one with equal chance.
    assert drift.of_exceedances([2], 2, 3).p == pytest.approx(1 / 10)
    assert drift.of_exceedances([1], 2, 3).p == pytest.approx(2 / 5)
    assert drift.of_exceedances([0], 2, 3) == Shift("exceedances", 0.0, 1.0, 0.0)
    assert drift.of_exceedances([0, 2], 2, 3).p == pytest.approx(2 / 10)
    assert drift.of_exceedances([1, 1], 2, 3).p == pytest.approx(2 * 2 / 5)


def test_unseen_words_are_as_likely_as_in_random_tables_of_the_same_margins():
    # Of 3 old and 2 new examples, both with the word have the chance that one pair of ten has.
    assert drift.of_unseen({"a": 3}, {"b": 2}).p == pytest.approx(1 / 10, abs=0.01)
    # Each of b and c is on the new side with 2 of 5, so at least one of both with 7 of 10.
    assert drift.of_unseen({"a": 2, "c": 1}, {"a": 1, "b": 1}).p == pytest.approx(0.7, abs=0.02)
    assert drift.of_unseen({"a": 3}, {"a": 2}) == Shift("exceedances", 0.0, 1.0, 0.0)
    assert drift.of_unseen({"a": 30}, {"a": 3, "b": 1}).size == 1 / 4


@pytest.mark.parametrize("test", [drift.of_words, drift.of_unseen])
def test_many_words_take_a_bounded_memory_and_have_the_p_value_of_one_draw(test: Any, monkeypatch):
    random = np.random.default_rng(8)
    one, other = (
        {f"{word}": int(n) for word, n in enumerate(random.poisson(rate, 700)) if n}
        for rate in (2.0, 0.2)
    )
    tracemalloc.start()
    found = test(one, other)
    assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    tracemalloc.stop()
    monkeypatch.setattr(drift, "_CELLS", 10**9)
    assert test(one, other) == found and 0.001 < found.p < 1


def test_rare_words_of_one_distribution_are_found_unseen_in_one_of_twenty_at_most():
    random, alarms = np.random.default_rng(7), 0
    shares = [0.97, *[0.03 / 40] * 40]
    for _ in range(60):
        one, other = (
            {f"{word}": int(n) for word, n in enumerate(random.multinomial(500, shares)) if n}
            for _ in range(2)
        )
        alarms += drift.of_unseen(one, other).p < 0.05
    assert alarms <= 6


def test_holm_multiplies_by_the_number_of_tests_that_are_left():
    assert drift.holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert drift.holm([0.4, 0.4]) == [0.8, 0.8]
    assert drift.holm([]) == []
