from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tlkeras import spec
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


@pytest.mark.parametrize("text", ["image,label\nä,b\n", 'image,label\n"' + 140_000 * "a"])
def test_what_is_no_table_in_utf_8_is_told_with_its_name(text: str, tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="cp1252")
    with pytest.raises(ValueError, match=r"table.csv cannot be read as a table: .*CSV in UTF-8"):
        CSV(path).classes()


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
    with pytest.raises(ValueError, match=r"is not a file, expected a table with column names"):
        CSV(tmp_path).classes()
