"""What every kind promises."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import Tiny

from tlkeras import spec
from tlkeras.data import records
from tlkeras.frameworks import tf
from tlkeras.kind import SERVING, Kind

CLASSES = ("blue", "green", "red")

GOOD = {
    "boxes": [(0.1, 0.25, 0.5, 0.75), (0, 0, 1, 1)],
    "flags": [0, 2, 1],
    "group": "ward 3",
    "image": None,
    "label": 2,
    "labels": [0, 2],
    "mask": None,
    "number": 1.5,
    "numbers": [1.5, -2.0],
    "text": "Grüße, 世界",
    "words": ["Grüße", "世界"],
}
"""A value of every kind; None is the kind's own sample."""

BAD = [
    ("boxes", [(0.5, 0, 0.1, 1)], "has the box"),
    ("boxes", [(0, 0, 1)], "has the box"),
    ("flags", [0, 256], "the flag 256"),
    ("flags", [True, 0.5], "whole number"),
    ("group", " ", "name of a group"),
    ("image", b"", "empty file"),
    ("label", 1.5, "whole number"),
    ("label", "1", "whole number"),
    ("labels", [0, None], "whole number"),
    ("mask", b"no picture", "is none of JPEG"),
    ("number", float("nan"), "finite number"),
    ("number", "1", "finite number"),
    ("numbers", [0.0, float("inf")], "finite number"),
    ("text", 3, "text is expected"),
    ("text", "", "has no text"),
    ("text", " \n\t\u3000", "has no text"),
    ("text", "two\nl\udce9s", "has the byte 0xe9 in line 2, which is not UTF-8"),
    ("text", "\ud83d", "has half of a character in line 1"),
    ("words", ["rain", "\udce9"], "has the byte 0xe9 in line 1"),
    ("words", "a text", "list of words"),
    ("words", ["rain", ""], "a word is expected"),
    ("words", ["rain", 3], "a word is expected"),
]


@pytest.fixture(params=spec.names(Kind))
def kind(request: pytest.FixtureRequest) -> Kind:
    return spec.parse(request.param, Kind)


def good(kind: Kind):
    value = GOOD[kind.name]
    return kind.checked(kind.sample() if value is None else value)


def test_a_kind_is_its_text(kind: Kind):
    assert spec.parse(str(kind), Kind) == spec.parse(kind.full(), Kind) == kind


def test_a_standard_value_is_its_own_standard(kind: Kind):
    assert kind.checked(good(kind)) == good(kind)
    assert kind.checked(kind.sample()) is not None


def test_a_record_gives_back_what_was_put_in(kind: Kind):
    record = records.encode("a/1", {"x": good(kind)}, {"x": kind})
    assert record == records.encode("a/1", {"x": good(kind)}, {"x": kind})
    name, found = records.values(record, {"x": kind})
    assert name == "a/1"
    if np.asarray(good(kind)).dtype.kind != "f":
        assert found == {"x": good(kind)}
    else:  # As float32.
        np.testing.assert_allclose(kind.checked(found["x"]), good(kind), rtol=1e-6)


def test_an_empty_list_comes_back_from_a_record():
    for name in ("boxes", "labels", "numbers"):
        kind = spec.parse(name, Kind)
        record = records.encode("a", {"x": []}, {"x": kind})
        assert records.values(record, {"x": kind}) == ("a", {"x": []})


def test_a_record_is_decoded_to_what_a_python_user_gives(kind: Kind):
    record = records.encode("a", {"x": good(kind)}, {"x": kind})
    decoded = records.decode(tf.constant(record), {"x": kind})["x"]
    np.testing.assert_array_equal(decoded, kind.given(good(kind)))


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_value_of_another_kind_is_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        spec.parse(name, Kind).checked(value)


def test_what_names_classes_says_which(kind: Kind):
    numbers = kind.classes_in(good(kind))
    assert bool(kind.least_classes) == bool(numbers)
    assert all(0 <= number < len(CLASSES) for number in numbers)


def test_statistics_are_finite_numbers_and_words(kind: Kind):
    numbers, words = kind.summary(good(kind), CLASSES)
    assert numbers or words or kind.member == "group"  # Whose names can be those of people.
    assert np.isfinite([*numbers.values()]).all() and all(isinstance(x, str) for x in words)


def test_every_entrance_carries_a_value_to_what_a_record_gives(kind: Kind):
    value, entrances = good(kind), kind.entrances()
    assert SERVING in entrances
    for entrance in entrances.values():
        sent = tf.constant(entrance.request(value), entrance.dtype)
        assert sent.shape.rank == len(entrance.shape)
        arrived = entrance.decoded(sent) if entrance.decoded else sent
        np.testing.assert_array_equal(arrived, kind.given(value))


def test_a_report_shows_a_small_picture_or_a_text(kind: Kind):
    shown = kind.shown(good(kind))
    assert shown[:3] in (b"\xff\xd8\xff", b"\x89PN") if isinstance(shown, bytes) else shown
    assert len(shown) < 50_000


def test_code_for_the_card_runs(kind: Kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture.jpg").write_bytes(Tiny().raw()["image"].sample())
    known: dict = {}
    exec(compile(kind.reading(), "card.md", "exec"), known)
    assert ("value" in known) == bool(kind.reading())
