from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tlkeras.source import Source
from tlkeras.sources.conll import CoNLL


def sentences(folder: Path, text: str, name: str = "words.conll", **fields: Any) -> CoNLL:
    (folder / name).write_bytes(text.encode())
    return CoNLL(folder / name, **fields)


def tagged(source: Source) -> list[list[tuple[str, str]]]:
    """Returns the words and the names of their tags, sentence by sentence."""
    classes = source.classes()
    return [
        [*zip(row["words"], (classes[tag] for tag in row["tags"]), strict=True)]
        for _, row in source.examples()
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("blank", ["", "\t", " \t ", "\n\n", "-DOCSTART- -X- O\n"])
@pytest.mark.parametrize("part", ["\t", " ", "   "])
def test_white_space_parts_columns_and_sentences(part: str, blank: str, end: str, tmp_path: Path):
    text = "Ann|B-PER\nsleeps|O\n@\nIn|O\nOslo|B-LOC\n".replace("|", part).replace("@", blank)
    source = sentences(tmp_path, text.replace("\n", end))
    assert tagged(source) == [
        [("Ann", "B-PER"), ("sleeps", "O")],
        [("In", "O"), ("Oslo", "B-LOC")],
    ]
    assert source.classes() == ("B-LOC", "B-PER", "O")
    assert source.remarks() == []


def test_words_may_have_blanks_where_tabs_part_columns(tmp_path: Path):
    source = sentences(tmp_path, "New York\tB-LOC\n\u00a0x\u3000\tO\n")
    assert tagged(source) == [[("New York", "B-LOC"), ("\u00a0x\u3000", "O")]]


def test_the_columns_of_words_and_tags_may_be_others(tmp_path: Path):
    text = "1 EU NNP B-ORG x\n2 says VBZ O x\n"
    source = sentences(tmp_path, text, word=1, tag=-2)
    assert tagged(source) == [[("EU", "B-ORG"), ("says", "O")]]
    source = sentences(tmp_path, "1 EU NNP B-ORG ,\n2 , , O ,\n", word=1, tag=2)
    assert tagged(source) == [[("EU", "NNP"), (",", ",")]]  # A comma may be a tag itself.


@pytest.mark.parametrize(
    ("comments", "row", "word", "tag"),
    [
        ("# id 6423\tdomain=en\n", "{} _ _ {}\n", 0, -1),  # MultiCoNER
        ("#\thttps://de.wikipedia.org\t[2009]\n", "1\t{}\t{}\tO\n", 1, 2),  # GermEval 2014
        ("# sent_id = 1\n# text = Ann #\n", "1\t{}\t{}\t-\t-\n", 1, 2),  # Universal NER
    ],
)
def test_comments_ahead_of_a_sentence_are_no_words(
    comments: str, row: str, word: int, tag: int, tmp_path: Path
):
    text = comments + row.format("Ann", "B-PER") + row.format("#", "O")
    source = sentences(tmp_path, f"{text}\n-DOCSTART-\n{text}\n{comments}", word=word, tag=tag)
    assert tagged(source) == [[("Ann", "B-PER"), ("#", "O")]] * 2
    assert [values["words"] for _, values in source.between(1, 2)] == [["Ann", "#"]]
    with pytest.raises(ValueError, match=r"line \d has \d columns, expected"):
        sentences(tmp_path, text * 2, word=word, tag=tag).classes()


def test_contractions_and_words_left_out_of_conll_u_are_no_words(tmp_path: Path):
    rows = ["1-2 zum _", "1 zu ADP", "2 dem DET", "3 Markt NOUN", "3.1 geht VERB"]
    lines = ["\t".join([*row.split(), *"_" * 7]) + "\n" for row in rows]
    text = "# text = zum Markt\n" + "".join(lines)
    source = sentences(tmp_path, f"{text}\n{text}", word=1, tag=2)
    assert tagged(source) == [[("zu", "ADP"), ("dem", "DET"), ("Markt", "NOUN")]] * 2
    assert source.classes() == ("ADP", "DET", "NOUN")
    assert source.remarks() == [
        "4 lines number a contraction, or a word that is not there, and are left out; the first is "
        "'1-2' in line 2 of words.conll."
    ]
    first = sentences(tmp_path, text, tag=2)
    assert [word for word, _ in tagged(first)[0]] == [row.split()[0] for row in rows]


@pytest.mark.parametrize("part", ["\t", " "])
def test_a_sentence_may_begin_with_the_word_that_begins_comments(part: str, tmp_path: Path):
    source = sentences(tmp_path, f"#{part}O\nx{part}B-a\n\n#{part}O\n")
    assert tagged(source) == [[("#", "O"), ("x", "B-a")], [("#", "O")]]
    assert tagged(sentences(tmp_path, f"#{part}O\n")) == [[("#", "O")]]


@pytest.mark.parametrize(
    ("several", "expected"), [("first", "B-a"), ("last", "B-b"), ("none", "O")]
)
def test_of_several_tags_one_counts_and_they_are_counted(
    several: Any, expected: str, tmp_path: Path
):
    source = sentences(tmp_path, "x\tB-a,B-b\ny\tO\n\nz\tB-a,B-b\n", several=several)
    assert tagged(source) == [[("x", expected), ("y", "O")], [("z", expected)]]
    assert source.remarks() == [
        f"2 words have several tags, of which several='{several}' decides; the first is 'B-a,B-b' "
        "in line 1 of words.conll."
    ]


@pytest.mark.parametrize(
    ("tags", "read", "count"),
    [
        ("I-a I-a O I-a", "B-a I-a O B-a", 2),
        ("O I-a I-b I-b", "O B-a B-b I-b", 2),
        ("B-a I-b", "B-a B-b", 1),
        ("B-a I-a B-a I-a", "B-a I-a B-a I-a", 0),
        ("B-a I-a E-a S-a O", "B-a I-a E-a S-a O", 0),
        ("B-a I-a L-a U-a O", "B-a I-a L-a U-a O", 0),
        ("NN VB IN", "NN VB IN", 0),
    ],
)
def test_an_entity_that_starts_with_i_starts_with_b(
    tags: str, read: str, count: int, tmp_path: Path
):
    lines = [f"w{n} {tag}\n" for n, tag in enumerate(tags.split())]
    source = sentences(tmp_path, "".join(lines))
    assert [tag for _, tag in tagged(source)[0]] == read.split()
    told = [f"{count} entities start with I-, which is read as B-"] * bool(count)
    assert [remark.split(";")[0] for remark in source.remarks()] == told


def test_a_sentence_again_has_another_id(tmp_path: Path):
    source = sentences(tmp_path, "a O\n\na O\n\na b\n\n")
    ids = [identity for identity, _ in source.labels()]
    assert ids == [ids[0], f"{ids[0]}-2", f"{ids[0]}-3"]
    assert [{*numbers} for _, numbers in source.labels()] == [{0}, {0}, {1}]
    assert source.remarks() == ["Tags that are of no scheme such as BIO: b."]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train.conll", "dev.conll", "test.conll"), ["validation", "test", "train"]),
        (("wnut17train.conll", "emerging.dev.conll"), ["validation", "train"]),
        (
            ("wnut17train.conll", "emerging.dev.conll", "emerging.test.conll"),
            ["validation", "test", "train"],
        ),
        (("eng.train", "eng.valid", "eng.test"), ["test", "train", "validation"]),
        (("engtrain.conll", "engdev.conll", "engtest.conll"), ["validation", "test", "train"]),
        (("all.txt",), [None]),
    ],
)
def test_files_of_a_folder_are_its_splits(
    names: tuple[str, ...], splits: list[str | None], tmp_path: Path
):
    for name in names:
        (tmp_path / name).write_text(f"{name} O\nx B-y\n\n")
    source = CoNLL(tmp_path)
    assert [source.split(identity) for identity, _ in source.labels()] == splits


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("a B-x O\nb O\n", {}, "line 2 has 2 columns, expected 3"),
        ("a O\nb\n", {}, "line 2 has 1 columns, expected 2"),
        ("a O\n\nb O O\n", {}, "line 3 has 3 columns, expected 2"),
        ("a\nb\n", {}, "line 1 has 1 columns, expected at least 2"),
        ("a\tx\tO\nb\t\tO\n", {"word": 1}, "line 2 has an empty word"),
        ("a\tx\tO\nb\t\tO\n", {"tag": 1}, "line 2 has an empty tag"),
        ("a O\n", {"tag": 3}, "line 1 has 2 columns, and column 3 is to be read; the first is 0"),
        ("a O\nb\nc\n\nd\n", {}, r"line 2 has 1 col(.|\n)*line 5 has 1 col"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    text: str, fields: dict[str, Any], message: str, tmp_path: Path
):
    with pytest.raises(ValueError, match=message):
        sentences(tmp_path, text, **fields).classes()


def test_a_folder_of_files_without_splits_is_refused(tmp_path: Path):
    for name in ("a.conll", "b.conll"):
        (tmp_path / name).write_text("x O\n")
    with pytest.raises(ValueError, match=r"has a.conll, b.conll; expected one file, or files call"):
        CoNLL(tmp_path).classes()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"word": -1}, "conll.tag is -1, expected another column than that of the words"),
        ({"several": "all"}, "conll.several is 'all', expected"),
        ({"encoding": "utf-32"}, "conll.encoding is 'utf-32', expected one such as"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        CoNLL(Path("words.conll"), **fields)


@pytest.mark.data
def test_wnut_17_is_read_as_its_authors_count_it(real_data: Path):
    source = CoNLL(real_data / "text/wnut17")
    sentences, words = Counter[str | None](), Counter[str | None]()
    for identity, row in source.examples():
        sentences[source.split(identity)] += 1
        words[source.split(identity)] += len(row["words"])
    assert sentences == {"train": 3_394, "validation": 1_009, "test": 1_287}
    assert words == {"train": 62_730, "validation": 15_733, "test": 23_394}
    types = ["corporation", "creative-work", "group", "location", "person", "product"]
    assert source.classes() == (*(f"{mark}-{name}" for mark in "BI" for name in types), "O")
    several, begun = source.remarks()
    assert several.startswith("297 words have several tags, of which several='first' decides;")
    assert several.endswith("in line 201 of emerging.test.conll.")
    assert begun.startswith("17 entities start with I-, which is read as B-")
