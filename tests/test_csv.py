from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tlkeras import spec
from tlkeras.data import ingest, planning
from tlkeras.data.splits import Split
from tlkeras.source import Source
from tlkeras.sources.csv import CSV


def table(folder: Path, text: str, name: str = "table.csv", **fields: Any) -> CSV:
    (folder / "pictures").mkdir(exist_ok=True)
    for number in range(4):
        (folder / "pictures" / f"{number}.jpg").write_bytes(b"%d" % number)
    (folder / name).write_text(text, encoding="utf-8")
    return CSV(folder / name, **fields)


def test_pictures_lie_where_their_column_says(tmp_path: Path):
    text = '\ufefflabel,image,note\ndog,pictures/1.jpg,"a, b"\n\n cat ,pictures/0.jpg,x\n'
    source = table(tmp_path, text)
    assert source.classes() == ("cat", "dog")
    assert list(source.examples()) == [
        ("pictures/1.jpg", {"image": b"1", "label": 1}),
        ("pictures/0.jpg", {"image": b"0", "label": 0}),
    ]
    assert source.split("pictures/0.jpg") is None


def test_columns_may_have_other_names_and_tabs_between_them(tmp_path: Path):
    text = (
        "file\tkind\tpart\npictures/0.jpg\ta\ttrain\npictures/1.jpg\tb\tVal\npictures/2.jpg\tb\t\n"
    )
    source = table(tmp_path, text, "t.tsv", image="file", label="kind", split_column="part")
    sides = [source.split(identity) for identity, _ in source.labels()]
    assert sides == ["train", "validation", None]


def test_a_column_keeps_its_rows_in_one_split_and_is_in_no_example(tmp_path: Path):
    rows = [f"t{n},{'ab'[n % 2]},{f'p{n // 2}' if n < 60 else ' '}" for n in range(80)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label,patient", *rows]))
    source = CSV(tmp_path / "t.csv", together="patient")
    ids = [identity for identity, _ in source.labels()]
    found = [source.stays_with(identity) for identity in ids]
    assert (
        all(found[n] == found[n + 1] for n in range(0, 60, 2)) and len({*found}) == 31
    )  # None is one.
    assert found[60:] == [None] * 20 and not any(f"{each}".startswith("p") for each in found)
    assert all("patient" not in row for _, row in source.examples())
    sides = planning.planned(source, Split(validation=20, test=20)).sides
    assert all(sides[ids[n]] == sides[ids[n + 1]] for n in range(0, 60, 2))
    with pytest.raises(ValueError, match="has no column 'patients'"):
        source.replace(together="patients").classes()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["table.csv", "table.tsv", "table.txt"])
def test_line_1_tells_the_delimiter(delimiter: str, name: str, tmp_path: Path):
    # Other delimiters inside the cells, even more of them, do not count.
    rows = [("image", "a;b, c;d, e\tf", "label"), ("pictures/0.jpg", "x,y;z\tw", "1,5;2\t7")]
    text = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in rows)
    source = table(tmp_path, text, name)
    assert source.classes() == ("1,5;2\t7",)
    plain = table(tmp_path, f"no{delimiter}such{delimiter}column\n", name)
    with pytest.raises(ValueError, match="Its columns are no, such, column"):
        plain.classes()


def test_pictures_may_lie_elsewhere_and_have_no_ending_in_the_table(tmp_path: Path):
    (tmp_path / "tables").mkdir()
    table(tmp_path, "")
    text = "image,label\n0,a\n1,b\n"
    for folder in (Path("../pictures"), tmp_path / "pictures"):
        source = table(tmp_path / "tables", text, image_folder=folder, suffix=".jpg")
        assert list(source.examples()) == [
            ("0", {"image": b"0", "label": 0}),
            ("1", {"image": b"1", "label": 1}),
        ]


@pytest.mark.parametrize(("ending", "hint"), [(".jpg", r"\.jpg"), (".PNG", r"\.PNG")])
def test_a_missing_ending_is_found(ending: str, hint: str, tmp_path: Path):
    (tmp_path / f"7{ending}").touch()
    with pytest.raises(ValueError, match=f"names 7, and .*7 does not exist; with suffix='{hint}'"):
        table(tmp_path, "image,label\n7,a\n").classes()


def test_backslashes_part_folders_unless_they_are_in_a_name(tmp_path: Path):
    source = table(tmp_path, "image,label\npictures\\0.jpg,a\n.\\pictures\\1.jpg,b\n")
    assert [identity for identity, _ in source.labels()] == ["pictures/0.jpg", "pictures/1.jpg"]
    (tmp_path / "a\\b.jpg").touch()
    source = table(tmp_path, "image,label\na\\b.jpg,a\n")
    assert [identity for identity, _ in source.labels()] == ["a\\b.jpg"]


def test_a_class_may_have_a_column_of_its_own(tmp_path: Path):
    text = "image,dog,cat,owl\npictures/0.jpg,0,1,0\npictures/1.jpg,1.0,0.0,0.0\n"
    source = table(
        tmp_path, text + "pictures/2.jpg,FALSE,True,false\n", label=("dog", "cat", "owl")
    )
    assert source.classes() == ("dog", "cat", "owl")
    assert [numbers for _, numbers in source.labels()] == [[1], [0], [1]]
    assert spec.parse(str(source), Source) == source


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0,0", "line 2 has a 1 in none of the columns cat, dog, expected it in one"),
        ("1,1", "line 2 has a 1 in cat, dog of the columns cat, dog, expected it in one"),
        ("1,", "line 2 has '' in dog, expected 0 or 1"),
        ("0.7,0.3", "line 2 has '0.7' in cat, expected 0 or 1"),
    ],
)
def test_a_row_of_no_single_class_is_told(line: str, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        table(tmp_path, f"image,cat,dog\npictures/0.jpg,{line}\n", label=("cat", "dog")).classes()


@pytest.mark.parametrize("label", [(), ("cat",), ("cat", "cat")])
def test_columns_of_classes_are_several(label: tuple[str, ...], tmp_path: Path):
    with pytest.raises(ValueError, match=r"csv\.label is .*, expected one column, or a column for"):
        table(tmp_path, "", label=label)


def test_whole_numbers_are_sorted_as_numbers(tmp_path: Path):
    source = table(tmp_path, "image,label\npictures/0.jpg,10\npictures/1.jpg,9\n")
    assert source.classes() == ("9", "10")


def test_a_changed_table_is_read_again(tmp_path: Path):
    source = table(tmp_path, "image,label\npictures/0.jpg,a\npictures/1.jpg,b\n")
    before = source.classes(), source.fingerprint()
    table(tmp_path, "image,label\npictures/0.jpg,a\npictures/1.jpg,other\n")
    assert source.classes() == ("a", "other")
    assert source.fingerprint() != before[1]


def test_a_changed_picture_is_noticed(tmp_path: Path):
    source = table(tmp_path, "image,label\npictures/0.jpg,a\npictures/1.jpg,b\n")
    before = source.fingerprint()
    (tmp_path / "pictures/1.jpg").write_bytes(b"another")
    assert source.fingerprint() != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 has no column 'image'; there are no columns. Its columns are none"),
        ("picture,label\n", "line 1 has no column 'image'; .* Its columns are picture, label"),
        ("image,lable\n", "no column 'label'; did you mean 'lable'"),
        ("image,label,label\n", "line 1 has the column 'label' more than once"),
        (
            'image,label\npictures/0.jpg,"cat\npictures/1.jpg,dog\npictures/2.jpg,dog\n',
            r"line 4, .*is a quote left open\?",
        ),
        (
            'image,label\npictures/0.jpg,"cat\npictures/1.jpg,dog"\npictures/2.jpg,dog\n',
            r"line 3 has a line break in its label; is a quote left open\?",
        ),
        (f"image,label\n{'x' * 300},cat\n", "line 2 names 'xxx.*': File name too long"),
        ("image,label\npictures/0.jpg\n", "line 2 has 1 cells, expected 2"),
        ("image,label\npictures/0.jpg,\n", "line 2 has no label"),
        ("image,label\n\n,cat\n", "line 3 has no image"),
        ("image,label\npictures/9.jpg,cat\n", "line 2 names pictures/9.jpg, and .*not exist"),
        ("image,label\npictures/0.jpg,a\npictures/0.jpg,b\n", "line 3 names pictures/0.jpg again"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        table(tmp_path, text).classes()


def test_what_is_no_table_is_told_with_its_name(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text('image,label\n"' + 140_000 * "a")
    with pytest.raises(ValueError, match=r"table.csv cannot be read as a table: .*CSV in UTF-8"):
        CSV(path).classes()


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_cell_may_hold_a_long_text(quote: str, tmp_path: Path):
    words = 100_000 * "a b "
    source = texts(tmp_path, f"text,label\n{quote}{words}{quote},x\nc,y\n")
    assert [row["text"] for row in rows(source)] == [words.strip(), "c"]


@pytest.mark.parametrize(
    ("more", "times"), [("a,x\n", 50_000), ('a "b,x\n', 50_000), ("a", 11_000_000)]
)
def test_a_quote_left_open_is_told_however_much_follows(more: str, times: int, tmp_path: Path):
    source = texts(tmp_path, 'text,label\n"a,x\n' + times * more)
    with pytest.raises(ValueError, match=r"is a quote left open\? Save it as CSV in UTF-8"):
        source.classes()


@pytest.mark.parametrize(
    ("written", "read", "message"),
    [
        (
            "cp1252",
            "utf-8",
            r"table.csv cannot be read: line 2 has the byte 0xe4 at place 2, which",
        ),
        ("utf-16", "utf-8", r"table.csv cannot be read: it begins like a text in UTF-16"),
        ("latin-1", "ascii", r"0xe4 .*not ascii. Save it in UTF-8, or .*encoding='latin-1'"),
    ],
)
@pytest.mark.parametrize("column", ["image", "text"])
def test_another_encoding_is_told_with_line_and_byte(
    column: str, written: str, read: str, message: str, tmp_path: Path
):
    path = tmp_path / "table.csv"
    path.write_text(f"{column},label\nxä,b\n", encoding=written)
    with pytest.raises(ValueError, match=message):
        CSV(path, encoding=read).classes()


@pytest.mark.parametrize("encoding", ["utf-16", "utf8x", "rot13", ""])
def test_an_encoding_of_no_lines_of_bytes_is_refused(encoding: str):
    with pytest.raises(ValueError, match=r"csv\.encoding is .*, expected one such as 'utf-8'"):
        CSV(Path("table.csv"), encoding=encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "UTF8"])
def test_texts_are_read_in_their_encoding(encoding: str, tmp_path: Path):
    rows = [("Grüße", "a"), ("naïve, déjà vu", "b")]
    text = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows)
    (tmp_path / "table.csv").write_text(text, encoding=encoding)
    source = CSV(tmp_path / "table.csv", encoding=encoding)
    assert [row["text"] for _, row in source.examples()] == [text for text, _ in rows]


def test_many_wrong_lines_are_counted(tmp_path: Path):
    lines = "".join(f"nowhere/{i}.jpg,cat\n" for i in range(25))
    with pytest.raises(ValueError, match=r"line 2 names(.|\n)*line 11 names(.|\n)*and 15 more"):
        table(tmp_path, "image,label\n" + lines).classes()


def test_an_unknown_split_is_told(tmp_path: Path):
    text = "image,label,split\npictures/0.jpg,a,holdout\n"
    with pytest.raises(ValueError, match="line 2 has the split 'holdout', expected train"):
        table(tmp_path, text, split_column="split").classes()


def test_a_missing_table_is_told(tmp_path: Path):
    (tmp_path / "labels.csv").touch()
    with pytest.raises(
        ValueError, match=r"no folder or file .*lables.csv'; did you mean .*/labels"
    ):
        CSV(tmp_path / "lables.csv").classes()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty has no files; expected one file, or files called"):
        CSV(tmp_path / "empty").classes()


def texts(folder: Path, written: str, **fields: Any) -> CSV:
    (folder / "texts.csv").write_text(written, encoding="utf-8", newline="")
    return CSV(folder / "texts.csv", **fields)


def rows(source: Source) -> list[dict[str, Any]]:
    return [row for _, row in source.examples()]


def test_a_column_of_texts_is_read_as_texts(tmp_path: Path):
    source = texts(
        tmp_path, 'label,text\nbad,"dull,\nand long"\n\ngood, fine \nbad,""" so so """\n'
    )
    assert {key: kind.name for key, kind in source.features().items()} == {
        "text": "text",
        "label": "label",
    }
    assert source.classes() == ("bad", "good")
    assert rows(source) == [
        {"text": "dull,\nand long", "label": 0},
        {"text": "fine", "label": 1},
        {"text": '" so so "', "label": 0},
    ]


def test_two_columns_of_texts_are_a_pair(tmp_path: Path):
    text = "premise,hypothesis,gold\nIt rains.,It is wet.,yes\nIt rains.,It is dry.,no\n"
    source = texts(tmp_path, text, text="premise", pair="hypothesis", label="gold")
    assert [*source.features()] == ["text", "pair", "label"]
    assert rows(source)[1] == {"text": "It rains.", "pair": "It is dry.", "label": 0}


@pytest.mark.parametrize(
    ("text", "fields", "classes", "expected"),
    [
        ('text,label\na,"x, y"\nb,\nc,y\n', {}, ("x", "y"), [[0, 1], [], [1]]),
        ("text,label\na,y|x|y\nb,\n", {"separator": "|"}, ("x", "y"), [[1, 0], []]),
        ("text,u,v\na,1,1\nb,0,0\n", {"label": ("u", "v")}, ("u", "v"), [[0, 1], []]),
    ],
)
def test_an_example_may_have_any_number_of_classes(
    text: str, fields: dict[str, Any], classes: tuple, expected: list, tmp_path: Path
):
    source = texts(tmp_path, text, multilabel=True, **fields)
    assert source.classes() == classes
    assert [row["labels"] for row in rows(source)] == expected
    assert [{*numbers} for _, numbers in source.labels()] == [{*each} for each in expected]


def test_a_number_may_be_the_target_of_texts_and_of_pictures(tmp_path: Path):
    source = texts(tmp_path, "text,stars\ngood,4.5\nbad,-1e-3\n", number="stars")
    assert source.classes() == ()
    assert [row["number"] for row in rows(source)] == [4.5, -0.001]
    assert [numbers for _, numbers in source.labels()] == [[], []]
    for number in ("1.7976931348623157e308", "nan"):
        with pytest.raises(ValueError, match=f"has '{number}' in stars, expected a number"):
            rows(texts(tmp_path, f"text,stars\ngood,{number}\n", number="stars"))
    source = table(tmp_path, "image,age\npictures/0.jpg,7\n", number="age")
    assert rows(source) == [{"image": b"0", "number": 7.0}]


def test_texts_may_have_no_target(tmp_path: Path):
    source = texts(tmp_path, "text,label\ngood,a\n", label=None)
    assert [*source.features()] == ["text"] and source.classes() == ()
    assert list(source.labels()) == [(identity, []) for identity, _ in source.examples()]
    source = texts(tmp_path, 'one, "two\nthree\tfour;\n', columns=("text",), label=None)
    assert rows(source) == [{"text": 'one, "two'}, {"text": "three\tfour;"}]
    assert spec.parse(str(source), Source) == source


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("t.tsv", ["Hello, world", "one; two; three", "plain"]),
        ("t.csv", ["Hello, world", "so, so; la, la", "plain"]),
        ("t.csv", ["tab\tand; semicolon", "tab\talone"]),
        ("t.csv", ['"Hello, world"', '"one; two"', "plain"]),
    ],
)
def test_a_table_of_one_column_of_texts_gives_them_back_whole(
    name: str, lines: list[str], tmp_path: Path
):
    (tmp_path / name).write_text("\n".join(["text", *lines, ""]))
    source = CSV(tmp_path / name, label=None)
    assert [row["text"] for _, row in source.examples()] == [each.strip('"') for each in lines]


def test_copies_of_a_text_stay_in_one_split_if_their_digest_is_the_group(tmp_path: Path):
    source = texts(tmp_path, "text,label\n" + "".join(f"{n % 20},a\n{n},b\n" for n in range(99)))
    told: list[str] = []
    ingest.write_examples(source, Split(group="[0-9a-f]{16}"), tmp_path / "out", told.append)
    assert told == []
    ingest.write_examples(source, Split(), tmp_path / "out", told.append)
    assert "exact copies" in told[0]


def test_a_copy_of_a_text_has_an_id_of_its_own_and_order_changes_none(tmp_path: Path):
    lines = ["one,a\n", "two,b\n", "one,b\n", "three,a\n"]
    ids = [each for each, _ in texts(tmp_path, "text,label\n" + "".join(lines)).labels()]
    assert ids[2] == f"{ids[0]}-2" and len({*ids}) == 4
    turned = texts(tmp_path, "text,label\n" + "".join(lines[::-1]))
    assert {each for each, _ in turned.labels()} == {*ids}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", ["\t", ";", ",", " "])
def test_a_table_without_a_line_of_names_is_read_by_the_names_given(
    delimiter: str, end: str, tmp_path: Path
):
    lines = [f"{n % 2}{delimiter}text{n} of it{end}" for n in range(30)]
    source = texts(tmp_path, "".join(lines), columns=("label", "text"))
    assert rows(source)[3] == {"text": "text3 of it", "label": 1}
    assert len(rows(source)) == 30
    assert list(source.between(28, 99)) == list(source.examples())[28:]
    assert spec.parse(str(source), Source) == source


def test_columns_without_a_name_are_not_read_and_quotes_may_be_plain(tmp_path: Path):
    source = texts(tmp_path, 'x\t"a" b"\t\ny\tc\t7\n', columns=("label", "text", ""), quotes=False)
    assert [row["text"] for row in rows(source)] == ['"a" b"', "c"]


def test_files_of_a_folder_are_its_splits(tmp_path: Path):
    for name, word in [("a_train.csv", "x"), ("a_dev.csv", "y"), ("a_test.csv", "x")]:
        (tmp_path / name).write_text(f"text,label\n{word} {name},{word}\nsame,{word}\n")
    (tmp_path / "README").touch()
    (tmp_path / "all.csv").touch()
    source = CSV(tmp_path)
    sides = [(source.split(identity), label) for identity, (label,) in source.labels()]
    assert sides == [("validation", 1)] * 2 + [("test", 0)] * 2 + [("train", 0)] * 2
    assert source.remarks() == [f"{tmp_path} has 2 other files, such as README; they are left out."]
    ids = [identity for identity, _ in source.labels()]
    assert len({*ids}) == 6 and ids[0].startswith("validation/")


@pytest.mark.parametrize("name", ["latest.csv", "contest.csv", "invalid.csv", "pretrain.csv"])
def test_a_word_that_only_ends_like_a_split_is_none(name: str, tmp_path: Path):
    source = texts(tmp_path, "text,label\na,x\nb,y\n")
    source.path.rename(tmp_path / name)
    alone = CSV(tmp_path)
    assert [alone.split(identity) for identity, _ in alone.labels()] == [None, None]
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("text,label\nc,x\n")
    beside = CSV(tmp_path)
    assert [beside.split(identity) for identity, _ in beside.labels()] == ["test", "train"]
    assert beside.remarks() == [f"{tmp_path} has 1 other file, {name}; it is left out."]


def test_words_that_only_end_like_splits_are_refused_together(tmp_path: Path):
    for name in ("latest.csv", "invalid.csv"):
        (tmp_path / name).write_text("text,label\na,x\n")
    with pytest.raises(ValueError, match=r"has invalid.csv, latest.csv; expected one file, or"):
        CSV(tmp_path).classes()


def test_a_folder_of_tables_of_pictures_keeps_their_paths_as_ids(tmp_path: Path):
    for number, name in enumerate(["train.csv", "test.csv"]):
        table(tmp_path, f"image,label\npictures/{number}.jpg,a\n", name)
    source = CSV(tmp_path)
    assert {each: source.split(each) for each, _ in source.labels()} == {
        "pictures/1.jpg": "test",
        "pictures/0.jpg": "train",
    }
    assert source.fingerprint() == source.replace().fingerprint()


def test_spaces_around_labels_and_capitals_are_told(tmp_path: Path):
    source = texts(tmp_path, "text,label\na,x\nb, x\nc,X\nd,y \n")
    assert source.classes() == ("X", "x", "y")
    assert source.remarks() == [
        "2 labels have spaces around them, which do not count; the first is ' x' in line 3 of "
        "texts.csv.",
        "Classes that differ in capital letters alone: X, x.",
    ]


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        (
            "image,text,label\n",
            {},
            "columns 'image' and 'text'; write image='image' or text='text'",
        ),
        ("sentence,label\n", {}, r"no column 'text'; .* Set text='sentence' to read that one"),
        ("Text,label\n", {}, "no column 'text'; did you mean 'Text'. .*Set text='Text'"),
        ("text,sentiment\n", {}, r"no column 'label'; .* Set label='sentiment' to read that one"),
        (
            "0\ta text\n",
            {},
            r"If line 1 is an example, name the columns .*columns=\['label', 'text",
        ),
        (
            "0\ta text\n",
            {"columns": ("label", "text", "x")},
            r"do not have 3 cells each, as columns=",
        ),
        ("0\ta text\n", {"columns": ("label", "txt")}, "columns has no column '(image|text)'"),
        ("text,label\n \t ,a\n", {}, "line 2 has no text"),
        ("text,q,label\na,,x\n", {"pair": "q"}, "line 2 has no q"),
        ("text,label\na,\n", {}, "line 2 has no label"),
        ("text,label\na,b,c\n", {}, "line 2 has 3 cells, expected 2"),
        ("text,y\na,3,5\n", {"number": "y"}, "line 2 has 3 cells"),
        ('text,y\na,"3,5"\nb,nan\n', {"number": "y"}, r"line 2 has '3,5' in y, expected a number"),
        ('text,label\n"a,b\n', {}, r"line 2, .*quote left open.*quotes=False"),
        ("text,label\na,x\n", {"pair": "q"}, "line 1 has no column 'q'"),
    ],
)
def test_what_is_wrong_in_a_table_of_texts_is_told(
    text: str, fields: dict[str, Any], message: str, tmp_path: Path
):
    with pytest.raises(ValueError, match=message):
        texts(tmp_path, text, **fields).classes()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": "a", "pair": "b"}, "csv.image is 'a', expected no column beside that of texts"),
        ({"image": "a", "text": "b"}, "csv.image is 'a', expected no column beside that of texts"),
        ({"number": "a", "label": "b"}, "csv.number is 'a' beside a label"),
        ({"number": "a", "multilabel": True}, "csv.number is 'a' beside a label"),
        ({"separator": ""}, "csv.separator is '', expected what parts"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        CSV(Path("table.csv"), **fields)


def test_a_text_that_changes_while_it_is_read_is_noticed(tmp_path: Path):
    lines = ["text,label\n", *(f"text {n:06d},{n % 2}\n" for n in range(40_000))]
    source = texts(tmp_path, "".join(lines))
    reading = source.between(0, 40_000)
    next(reading)
    (tmp_path / "texts.csv").write_text("".join([*lines[:-1], "text 999999,1\n"]))
    with pytest.raises(ValueError, match=r"texts.csv changed while it was read; run again"):
        list(reading)


@pytest.mark.data
@pytest.mark.parametrize(
    ("path", "fields", "classes", "counts"),
    [
        ("sst2", {}, 2, {"train": 6_920, "validation": 872, "test": 1_821}),
        ("trec", {"encoding": "latin-1"}, 6, {"train": 5_452, "test": 500}),
        ("ag_news/test.tsv", {"columns": ("text", "label")}, 4, {None: 7_600}),
        (
            "sms_spam/SMSSpamCollection",
            {"columns": ("label", "text", "", "", "")},
            2,
            {None: 5_574},
        ),
        ("fdu_mtl", {"encoding": "latin-1"}, 2, {"train": 9_598, "test": 2_400}),
    ],
)
def test_real_tables_are_read_whole(
    path: str, fields: dict[str, Any], classes: int, counts: dict, real_data: Path
):
    source = CSV(real_data / "text" / path, **{"columns": ("label", "text"), **fields})
    assert len(source.classes()) == classes
    assert Counter(source.split(identity) for identity, _ in source.labels()) == counts
    for _, row in source.examples():
        assert row["text"].strip() and "\n" not in row["text"]


@pytest.mark.data
def test_a_real_table_in_another_encoding_is_told(real_data: Path):
    source = CSV(real_data / "text/trec", columns=("label", "text"))
    message = (
        r"TREC.train.all cannot be read: line \d+ has the byte 0xf0 at place \d+, which is not"
    )
    with pytest.raises(ValueError, match=message):
        source.classes()


def test_a_picture_may_have_a_caption_in_each_of_several_lines(tmp_path: Path):
    text = "image,said\npictures/0.jpg,a cat\npictures/1.jpg,a dog\npictures/0.jpg,no dog\n"
    source = table(tmp_path, text, caption="said")
    assert [*source.features()] == ["image", "caption"] and source.classes() == ()
    (first, one), (_, two), (third, three) = source.examples()
    assert (one, two, three) == (
        {"image": b"0", "caption": "a cat"},
        {"image": b"1", "caption": "a dog"},
        {"image": b"0", "caption": "no dog"},
    )
    group = Split(group="(.+)/").group_of
    assert first != third and group(first) == group(third) == "pictures/0.jpg"
    before = source.fingerprint()
    (tmp_path / "pictures" / "1.jpg").write_bytes(b"another")
    assert source.fingerprint() != before


def test_pictures_with_captions_may_be_in_files_of_splits(tmp_path: Path):
    for number, name in enumerate(["train.csv", "test.csv"]):
        table(tmp_path, f"image,said\npictures/{number}.jpg,a cat\n", name)
    source = CSV(tmp_path, caption="said")
    assert [(source.split(identity), row["image"]) for identity, row in source.examples()] == [
        ("test", b"1"),
        ("train", b"0"),
    ]
    before = source.fingerprint()
    (tmp_path / "pictures" / "1.jpg").write_bytes(b"another")
    assert source.fingerprint() != before


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("image,said\npictures/0.jpg,\n", {"caption": "said"}, "line 2 has no said"),
        ("image,said\npictures/0.jpg,a\n", {"caption": "told"}, "has no column 'told'"),
        ("", {"caption": "said", "label": "kind"}, "csv.caption is 'said', expected no column"),
        ("", {"caption": "said", "pair": "b"}, "csv.image is '', expected no column beside"),
    ],
)
def test_captions_that_cannot_be_are_refused(text, fields, message, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        list(table(tmp_path, text, **fields).examples())
