from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from tlkeras.sources.embedded import Embedded
from tlkeras.texts import notes

COUNT = 4_000


@pytest.fixture(scope="module")
def made() -> list[notes.Note]:
    return [notes.note(0, number) for number in range(COUNT)]


def names(note: notes.Note) -> set[tuple[str, str]]:
    """Returns every word of a name that no other split may have, with its kind."""
    marks = [notes.TAGS[tag] for tag in note.tags]
    return {
        (mark[2:], word)
        for word, mark in zip(note.words, marks, strict=True)
        if mark != "O" and not word.isdecimal() and word not in ("New", "Port", "Upper")
    }


def test_a_note_is_decided_by_seed_and_number(made: list[notes.Note]):
    assert notes.note(0, 17) == made[17] != notes.note(1, 17)
    assert notes.pair(0, 17) == notes.pair(0, 17) != notes.pair(1, 17)
    assert notes.several(0, 17) == notes.several(0, 17) != notes.several(1, 17)


def test_thousands_of_notes_are_all_different(made: list[notes.Note]):
    assert len({note.text for note in made}) > 0.999 * COUNT
    assert len({notes.pair(0, number)[:2] for number in range(COUNT)}) > 0.999 * COUNT


def test_classes_have_equal_size_in_every_split(made: list[notes.Note]):
    sizes = Counter((notes.split(n), note.label) for n, note in enumerate(made))
    for place, (split, share) in enumerate([("train", 0.8), ("validation", 0.1), ("test", 0.1)]):
        assert {sizes[split, label] for label in range(4)} == {round(COUNT * share / 4)}, place
    assert [note.label for note in made] == [notes.label(number) for number in range(COUNT)]


def test_names_in_one_split_are_in_no_other(made: list[notes.Note]):
    found: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for number, note in enumerate(made):
        found[notes.split(number)] |= {word for _, word in names(note)}
    assert all(len(words) > 80 for words in found.values())
    assert not found["train"] & (found["validation"] | found["test"])
    assert not found["validation"] & found["test"]


def test_a_name_may_be_of_a_person_or_of_a_place(made: list[notes.Note]):
    kinds: dict[str, set[str]] = {}
    for note in made:
        for kind, word in names(note):
            kinds.setdefault(word, set()).add(kind)
    assert sum(both == {"person", "place"} for both in kinds.values()) > 100


def test_tags_are_bio_and_a_text_is_its_words(made: list[notes.Note]):
    assert list(notes.TAGS) == sorted(notes.TAGS) and list(notes.LABELS) == sorted(notes.LABELS)
    for note in made[:500]:
        assert len(note.words) == len(note.tags)
        marks = [notes.TAGS[tag] for tag in note.tags]
        for before, mark in zip(["O", *marks], marks, strict=False):
            assert mark[0] != "I" or before[2:] == mark[2:]
        assert note.text.replace(" ", "") == "".join(note.words)
        assert note.text[0].isupper() and note.text[-1] in ".?" and "  " not in note.text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["is", "it", "Ada", "?"], "Is it Ada?"),
        (["we", "agree", ":", "no", ",", "never", "."], "We agree: no, never."),
    ],
)
def test_words_are_written_as_people_do(words: list[str], text: str):
    assert notes.written(words) == text


def test_a_score_has_the_sign_of_its_class(made: list[notes.Note]):
    signs = {"praise": {1.0}, "complaint": {-1.0}, "plan": {0.0}, "question": {0.0}}
    for name, expected in signs.items():
        scores = [note.score for note in made if notes.LABELS[note.label] == name]
        assert {*np.sign(scores)} == expected and max(np.abs(scores)) <= 2


def test_praise_and_complaint_are_not_told_apart_by_words_alone(made: list[notes.Note]):
    """Of single words a linear model is little better than chance, of three in a row it is not."""
    judged = [
        (notes.split(number), note.text, note.label)
        for number, note in enumerate(made)
        if notes.LABELS[note.label] in ("praise", "complaint")
    ]
    accuracy = {}
    for most in (1, 3):
        vectors = TfidfVectorizer(ngram_range=(1, most), token_pattern=r"\w+")
        train, test = ([row for row in judged if row[0] == name] for name in ("train", "test"))
        model = LogisticRegression(C=10, max_iter=1_000)
        model.fit(vectors.fit_transform(text for _, text, _ in train), [x for *_, x in train])
        found = model.predict(vectors.transform(text for _, text, _ in test))
        accuracy[most] = np.mean(found == [label for *_, label in test])
    assert accuracy[1] < 0.75 and accuracy[3] > 0.9


def test_a_statement_that_does_not_hold_has_another_name():
    foreign = Counter[tuple[int, bool]]()
    for number in range(1_000):
        text, statement, holds = notes.pair(0, number)
        strange = {word.strip(".,") for word in statement.split() if word[0].isupper()} - {"The"}
        unknown = strange - {*text.replace(",", "").replace(".", "").split()}
        foreign[holds, bool(unknown)] += 1
        assert holds == notes.label(number, classes=2)
    assert foreign[1, True] == 0
    assert 200 < foreign[0, True] < 300 and 200 < foreign[0, False] < 300


def test_a_text_of_several_notes_has_their_classes():
    counts = Counter(len(notes.several(0, number)[1]) for number in range(500))
    assert set(counts) == {1, 2, 3} and min(counts.values()) > 50
    for number in range(100):
        text, labels = notes.several(0, number)
        assert notes.label(number) in labels == sorted({*labels})
        if len(labels) > 1:
            assert text.count(".") + text.count("?") > 1


def test_notes_stay_in_their_own_splits():
    source = Embedded("notes", count=20, target="tags")
    sides = [source.split(identity) for identity, _ in source.labels()]
    assert sides == [*["train"] * 8, "validation", "test"] * 2
    assert Embedded("shapes").split("shape-0000009") is None
