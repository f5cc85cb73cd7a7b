from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tlkeras import spec
from tlkeras.source import Source
from tlkeras.sources.jsonl import JSONL


def texts(folder: Path, *objects: Any, **fields: Any) -> JSONL:
    """Writes objects, and texts as they stand, a line each."""
    lines = [each if isinstance(each, str) else json.dumps(each) for each in objects]
    (folder / "texts.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return JSONL(folder / "texts.jsonl", **fields)


def rows(source: Source) -> list[dict[str, Any]]:
    return [row for _, row in source.examples()]


def test_objects_have_a_text_and_a_label(tmp_path: Path):
    objects = [{"text": "Grüße,\nWelt", "label": "b", "more": [1]}, {"label": "a", "text": "x"}]
    source = texts(tmp_path, f"\ufeff{json.dumps(objects[0])}", "", objects[1])
    assert [*source.features()] == ["text", "label"]
    assert source.classes() == ("a", "b")
    assert rows(source) == [{"text": "Grüße,\nWelt", "label": 1}, {"text": "x", "label": 0}]
    assert source.split("x") is None
    assert source.remarks() == []


def test_whole_numbers_are_classes_sorted_as_numbers(tmp_path: Path):
    source = texts(tmp_path, *({"text": f"{n}", "label": n} for n in (10, 9, 10)))
    assert source.classes() == ("9", "10")
    assert [row["label"] for row in rows(source)] == [1, 0, 1]


def test_pairs_lists_of_classes_and_splits_have_names_of_their_own(tmp_path: Path):
    first = {"q": "one", "a": "two", "topics": ["y", "x", "y"], "part": "dev"}
    second = {"q": "one", "a": "three", "topics": [], "part": ""}
    fields = {"text": "q", "pair": "a", "label": "topics", "multilabel": True, "split_key": "part"}
    source = texts(tmp_path, first, second, **fields)
    assert rows(source) == [
        {"text": "one", "pair": "two", "labels": [1, 0]},
        {"text": "one", "pair": "three", "labels": []},
    ]
    assert [source.split(identity) for identity, _ in source.labels()] == ["validation", None]
    assert spec.parse(str(source), Source) == source


def test_a_key_keeps_its_objects_in_one_split(tmp_path: Path):
    values = ["film 1", "film 1", 7, 7, None]
    objects = [{"text": f"{n}", "label": "a", "film": value} for n, value in enumerate(values)]
    source = texts(tmp_path, *objects, together="film")
    found = [source.stays_with(identity) for identity, _ in source.labels()]
    assert found[0] == found[1] != found[2] == found[3] and found[4] is None
    with pytest.raises(ValueError, match="has no column 'show'"):
        source.replace(together="show").classes()


def test_a_number_may_be_the_target(tmp_path: Path):
    source = texts(tmp_path, {"text": "a", "y": 1}, {"text": "b", "y": 2.5}, number="y")
    assert [row["number"] for row in rows(source)] == [1.0, 2.5]
    assert source.classes() == ()


def test_texts_may_have_no_target(tmp_path: Path):
    source = texts(tmp_path, {"text": "a"}, {"text": "b", "label": None}, label=None)
    assert [*source.features()] == ["text"] and source.classes() == ()
    assert rows(source) == [{"text": "a"}, {"text": "b"}]


def test_files_of_a_folder_are_its_splits(tmp_path: Path):
    for name in ("train", "valid", "test"):
        line = json.dumps({"text": name, "label": name[0]})
        (tmp_path / f"{name}.jsonl").write_text(f"{line}\n")
    (tmp_path / "about.json").touch()
    source = JSONL(tmp_path)
    assert {identity.split("/")[0] for identity, _ in source.labels()} == {
        *("test", "train", "validation")
    }
    assert {source.split(identity) for identity, _ in source.labels()} == {
        *("test", "train", "validation")
    }
    assert source.remarks() == [f"{tmp_path} has 1 other file, about.json; it is left out."]


def test_spaces_around_labels_are_told(tmp_path: Path):
    source = texts(tmp_path, {"text": "a", "label": " x"}, {"text": "b", "label": "x"})
    assert source.classes() == ("x",)
    (remark,) = source.remarks()
    assert remark.startswith("1 labels have spaces around them, which do not count; the first is")


GOOD = {"text": "a", "label": "x"}


@pytest.mark.parametrize(
    ("line", "fields", "message"),
    [
        ("{'text': 'a'}", {}, "line 2 is no JSON: Expecting property name .* at place 2"),
        ('["a", "x"]', {}, r"""line 2 has \["a", "x"\] where an object is expected"""),
        ({"sentence": "a"}, {}, "line 2 has no column 'text'; .*Set text='sentence' to read that"),
        ({"text": "a", "class": "x"}, {}, "line 2 has no column 'label'; .*Set label='class'"),
        ({"text": " \n", "label": "x"}, {}, "line 2 has no text"),
        ({"text": None, "label": "x"}, {}, "line 2 has None in text, expected a text"),
        ({"text": "a", "label": " "}, {}, "line 2 has ' ' in label, expected the name of a class"),
        ({"text": "a", "label": 0.5}, {}, "line 2 has 0.5 in label, expected the name of a class"),
        ({"text": "a", "label": ["x"]}, {}, r"line 2 has \['x'\] in label, expected the name"),
        ({"text": "a", "label": None}, {}, "line 2 has None in label, expected the name"),
        (GOOD, {"multilabel": True}, "line 1 has 'x' in label, expected a list of classes"),
        (GOOD, {"number": "label"}, r"line 2 has 'x' where a finite number is expected \(label\)"),
        ('{"text": "a", "y": NaN}', {"number": "y"}, "line 2 has nan where a finite number"),
        ('{"text": "a", "y": 1e39}', {"number": "y"}, "line 2 has 1e\\+39 where a finite number"),
        (f'{{"text": "a", "y": 1{"0" * 400}}}', {"number": "y"}, "line 2 has 10+ where a finite"),
        (GOOD, {"split_key": "text"}, "line 2 has the text 'a', expected train, val or test"),
        (GOOD, {"pair": "b"}, "line 2 has no column 'b'; there are text, label"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    line: Any, fields: dict[str, Any], message: str, tmp_path: Path
):
    with pytest.raises(ValueError, match=message):
        texts(tmp_path, GOOD, line, **fields).classes()


def test_another_encoding_is_told_and_read_where_it_is_named(tmp_path: Path):
    line = json.dumps({"text": "Größe", "label": "x"}, ensure_ascii=False)
    (tmp_path / "texts.jsonl").write_text(f"{line}\n", encoding="cp1252")
    with pytest.raises(ValueError, match=r"line 1 has the byte 0xf6 at place 13, which is not utf"):
        JSONL(tmp_path / "texts.jsonl").classes()
    source = JSONL(tmp_path / "texts.jsonl", encoding="cp1252")
    assert rows(source) == [{"text": "Größe", "label": 0}]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": ""}, "jsonl.text is '', expected the name of the texts"),
        ({"number": "a", "label": "b"}, "jsonl.number is 'a' beside a label"),
        ({"encoding": "utf-16"}, "jsonl.encoding is 'utf-16', expected one such as"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        JSONL(Path("texts.jsonl"), **fields)
