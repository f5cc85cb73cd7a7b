"""How words are written: kinds by hand, and rows of neighbours against loops."""

from __future__ import annotations

import numpy as np
import pytest

from tlkeras.frameworks import tf
from tlkeras.texts import casing

NONE, SIGNS, DIGIT, LOWER, FIRST, UPPER, MIXED = range(casing.KINDS + 1)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("", NONE),
        ("...", SIGNS),
        ("\u00a0", SIGNS),
        ("2", DIGIT),
        ("B2B", DIGIT),
        ("٣", DIGIT),
        ("york", LOWER),
        ("日本", LOWER),
        ("Paris", FIRST),
        ("@Paul", FIRST),
        ("“Ärger", FIRST),
        ("I'm", FIRST),
        ("A", FIRST),
        ("USA", UPPER),
        ("ÉCOLE!", UPPER),
        ("McDonald", MIXED),
        ("iPhone", MIXED),
        ("a\nB", MIXED),
    ],
)
def test_a_word_is_of_the_first_kind_that_it_matches(word, kind):
    assert casing.of(tf.constant([[word, "x"]])).numpy().tolist() == [[kind, LOWER]]


def test_neighbours_are_told_each_and_together():
    kinds = np.random.default_rng(0).integers(0, casing.KINDS + 1, [5, 9])
    kinds[:, 7:] = 0
    found = np.asarray(casing.around(tf.constant(kinds, tf.int32)))
    near = np.pad(kinds, [[0, 0], [2, 2]])
    size, all_kinds = casing.KINDS, casing.KINDS + 1
    for row, word in np.ndindex(*kinds.shape):
        window = near[row, word : word + 5]
        expected = np.zeros(5 * size + size * all_kinds**2)
        for place, kind in enumerate(window):
            if kind:
                expected[place * size + kind - 1] = 1
        before, own, after = window[1:4]
        if own:
            expected[5 * size + ((own - 1) * all_kinds + before) * all_kinds + after] = 1
        np.testing.assert_array_equal(found[row, word], expected)


def test_places_behind_a_sentence_change_nothing():
    kinds = tf.constant([[FIRST, LOWER, UPPER]])
    whole = np.asarray(casing.around(tf.pad(kinds, [[0, 0], [0, 4]])))
    np.testing.assert_array_equal(whole[:, :3], casing.around(kinds))
