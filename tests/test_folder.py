from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tlkeras.data import ingest
from tlkeras.data.splits import Split
from tlkeras.sources.folder import Folder


def put(root: Path, *names: str) -> Folder:
    """Writes files that no test here decodes."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return Folder(root)


def found(source: Folder) -> dict[str, int]:
    return {identity: label for identity, (label,) in source.labels()}


def test_a_folder_is_a_class(tmp_path: Path):
    source = put(tmp_path, "rose/2.jpg", "rose/1.JPG", "daisy/deep/er/1.png", "daisy/1.tiff")
    assert source.classes() == ("daisy", "rose")
    assert list(source.labels()) == [
        ("daisy/1.tiff", [0]),
        ("daisy/deep/er/1.png", [0]),
        ("rose/1.JPG", [1]),
        ("rose/2.jpg", [1]),
    ]
    assert [row["image"] for _, row in source.examples()][1] == b"daisy/deep/er/1.png"
    assert source.split("rose/2.jpg") is None
    assert source.remarks() == []


@pytest.mark.parametrize(
    ("words", "splits"),
    [
        (("train", "val", "test"), ("train", "validation", "test")),
        (("Training", "Testing"), ("train", "test")),
        (("TRAIN", "Valid"), ("train", "validation")),
        (("train", "dev"), ("train", "validation")),
        (("train",), ("train",)),
        (("training_set", "test_set"), ("train", "test")),
        (("seg_train", "seg_test"), ("train", "test")),
        (("trainset", "val-data", "Test Images"), ("train", "validation", "test")),
    ],
)
@pytest.mark.parametrize(
    "layout", ["{split}/{label}", "{split}/{split}/{label}", "{label}/{split}"]
)
def test_the_users_own_splits_are_kept(words: tuple, splits: tuple, layout: str, tmp_path: Path):
    names = {
        f"{layout.format(split=word, label=label)}/1.jpg": (split, number)
        for word, split in zip(words, splits, strict=True)
        for number, label in enumerate("ab")
    }
    source = put(tmp_path, *names)
    assert source.classes() == ("a", "b")
    assert {name: (source.split(name), label) for name, label in found(source).items()} == names


def test_folders_in_a_class_are_no_splits(tmp_path: Path):
    names = ("a/2019/1.jpg", "a/2020/1.jpg", "a/train/1.jpg", "a/1.jpg", "b/2019/1.jpg", "b/1.jpg")
    source = put(tmp_path, *names)
    assert source.classes() == ("a", "b")
    assert {source.split(name) for name in found(source)} == {None}


def test_a_class_missing_in_one_split_shifts_no_label(tmp_path: Path):
    source = put(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "test/c/1.jpg")
    assert source.classes() == ("a", "b", "c")
    assert found(source)["test/c/1.jpg"] == 2


def test_a_class_may_be_called_train(tmp_path: Path):
    source = put(tmp_path, "car/1.jpg", "plane/1.jpg", "train/1.jpg")
    assert source.classes() == ("car", "plane", "train")
    assert source.split("train/1.jpg") is None


def test_what_is_no_picture_or_hidden_is_left_out_and_told(tmp_path: Path):
    source = put(
        tmp_path,
        *("a/1.jpg", "b/1.webp", "README.md", "a/notes.txt", "a/.1.jpg.swp", ".git/x/1.jpg"),
        *("loose.jpg", "b/.thumbs/1.jpg"),
    )
    assert set(found(source)) == {"a/1.jpg", "b/1.webp"}
    (remark,) = source.remarks()
    assert remark == f"{tmp_path} has 3 other files, such as README.md; they are left out."


def test_a_folder_of_texts_is_read_as_texts(tmp_path: Path):
    source = put(tmp_path, "train/pos/1.txt", "train/neg/1.TXT", "test/pos/1.txt", "test/neg/x.txt")
    (tmp_path / "train/pos/1.txt").write_bytes("\ufeffnaïve,\r\nsaid he\n".encode())
    (tmp_path / "train/words.feat").touch()
    assert [*source.features()] == ["text", "label"]
    assert source.classes() == ("neg", "pos")
    assert list(source.examples())[-1] == (
        "train/pos/1.txt",
        {"text": "naïve,\nsaid he\n", "label": 1},
    )
    assert source.split("test/neg/x.txt") == "test"
    (remark,) = source.remarks()
    assert remark.endswith("has 1 other file, train/words.feat; it is left out.")


def test_texts_that_are_empty_or_of_another_encoding_are_told_together(tmp_path: Path):
    source = put(tmp_path, *(f"{name}/{n}.txt" for name in "ab" for n in range(6)))
    (tmp_path / "a/1.txt").write_text(" \n")
    (tmp_path / "b/2.txt").write_bytes(b"one\ntwo \xe9\n")
    with pytest.raises(ValueError, match="2 of 12 examples cannot be used") as raised:
        ingest.write_examples(source, Split(), tmp_path.parent / "out")
    assert "a/1.txt has no text, or white space alone" in str(raised.value)
    assert "b/2.txt has the byte 0xe9 in line 2, which is not UTF-8; save it" in str(raised.value)


def test_links_are_followed(tmp_path: Path):
    root, outside = tmp_path / "photos", tmp_path / "outside"
    put(outside, "one.jpg", "c/1.jpg")
    put(root, "a/1.jpg", "b/1.jpg")
    (root / "a/inside.jpg").symlink_to(root / "b/1.jpg")
    (root / "a/outside.jpg").symlink_to(outside / "one.jpg")
    (root / "a/broken.jpg").symlink_to(root / "b/none.jpg")
    (root / "a/itself.jpg").symlink_to(root / "a/itself.jpg")
    (root / "b/linked").symlink_to(outside / "c")
    (root / "c").symlink_to(outside / "c")
    (tmp_path / "link").symlink_to(root)
    for source in (Folder(root), Folder(tmp_path / "link")):
        assert found(source) == {
            **{"a/1.jpg": 0, "a/inside.jpg": 0, "a/outside.jpg": 0},
            **{"b/1.jpg": 1, "b/linked/1.jpg": 1, "c/1.jpg": 2},
        }
        (remark,) = source.remarks()
        assert remark.endswith("has 2 other files, such as a/broken.jpg; they are left out.")


def test_whole_splits_may_be_links(tmp_path: Path):
    put(tmp_path / "disk", "one/a/1.jpg", "one/b/1.jpg", "two/a/1.jpg", "two/b/1.jpg")
    (tmp_path / "photos").mkdir()
    for split, name in (("train", "one"), ("test", "two")):
        (tmp_path / "photos" / split).symlink_to(tmp_path / "disk" / name)
    source = Folder(tmp_path / "photos")
    sides = {name: source.split(name) for name in found(source)}
    assert sides["train/a/1.jpg"] == "train" and sides["test/b/1.jpg"] == "test"


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("photos/a/up", "photos"),
        ("photos/a/deep/up", "photos/a"),
        ("photos/a/far", "."),
        ("photos/a/away", "away"),
        ("photos/train", "photos"),
    ],
)
def test_a_link_that_leads_back_is_one_message(link: str, target: str, tmp_path: Path):
    put(tmp_path, "photos/a/deep/1.jpg", "photos/a/1.jpg", "photos/b/1.jpg", "away/1.jpg")
    (tmp_path / "away/back").symlink_to(tmp_path / "photos")
    (tmp_path / link).symlink_to(tmp_path / target)
    with pytest.raises(ValueError, match=r"The link .* leads back to .*; remove the link"):
        found(Folder(tmp_path / "photos"))


@pytest.mark.parametrize("is_done", [True, False])
def test_what_the_pipeline_made_in_the_folder_is_no_class(is_done: bool, tmp_path: Path):
    product = "runs/examples/0123456789abcdef"
    made = [f"{product}.lock", f"{product}.partial/train-00000.tfrecord"]
    if is_done:
        made = [f"{product}/_manifest.json", f"{product}/1.jpg"]
        made += ["models/digits/1/manifest.json", "models/digits/1/try/1.png", "models/README.md"]
    source = put(tmp_path, "a/1.jpg", "b/1.jpg", *made)
    put(tmp_path / "b", *made)
    assert set(found(source)) == {"a/1.jpg", "b/1.jpg"}
    names = "models, runs" if is_done else "runs"
    assert source.remarks()[-1].endswith(f" has products of tlkeras in {names}; they are left out.")


def test_class_folders_of_hashes_and_numbers_are_data(tmp_path: Path):
    names = ("a/0123456789abcdef/1.jpg", "b/0123456789abcdea/1.jpg", "b/12/1.jpg")
    assert set(found(put(tmp_path, *names))) == {*names}


def test_the_fingerprint_knows_size_and_time_of_every_picture(tmp_path: Path):
    source = put(tmp_path, "a/1.jpg", "b/1.jpg")
    seen = {source.fingerprint()}
    (tmp_path / "a/1.jpg").write_bytes(b"longer than it was")
    seen.add(source.fingerprint())
    (tmp_path / "a/1.jpg").rename(tmp_path / "a/2.jpg")
    seen.add(source.fingerprint())
    os.utime(tmp_path / "b/1.jpg", (1, 1))
    seen.add(source.fingerprint())
    assert len(seen) == 4


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = put(tmp_path, "a/1.jpg", "b/1.jpg")

    def refused(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refused)
        with pytest.raises(ValueError, match=r"a/1\.jpg cannot be read: Permission denied"):
            list(source.examples())
    (tmp_path / "a/deep").mkdir()
    scan = os.scandir

    def scanned(folder: Path) -> Any:
        if Path(folder).name == "deep":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scanned)
    with pytest.raises(ValueError, match="a/deep cannot be read: Permission denied"):
        found(source)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x.jpg"], r"has no class folders; expected CLASS/\*.jpg"),
        (["photos/a/1.jpg", "photos/b/1.jpg"], "one class folder, 'photos', .* perhaps .*photos"),
        (["a/1.jpg"], "one class folder, 'a', and classes must be at least two"),
        (
            ["a/1.jpg", "b/1.txt", "b/2.txt"],
            r"The class folder .*b has no pictures \(.jpg, .jpeg.* has 1 pictures and 2 texts; exp",
        ),
        (
            ["a/1.txt", "b/1.md"],
            r"The class folder .*b has no texts \(.txt\); fill or remove it\.$",
        ),
        (["train/a/1.jpg", "train/b/1.jpg", "test/b/x.txt"], "class folder .*test/b has no pict"),
        (["train/a/1.jpg", "train/b/1.jpg", "more/1.jpg"], "has the folder 'more' beside 'train'"),
        (["train/1.jpg", "test/1.jpg"], "has no class folders"),
        (
            ["one/a/1.jpg", "one/b/1.jpg", "two/a/1.jpg", "two/b/1.jpg"],
            "one and .*two have no pictures but folders of the same names: a, b. If they are",
        ),
        (
            [*(f"one/{name}/1.jpg" for name in "abcx"), *(f"two/{name}/1.jpg" for name in "abc")],
            "one and .*two have no pictures but folders of the same names: a, b, c",
        ),
        (["one/a/1.jpg", "two/a/1.jpg", "two/b/1.jpg", "x/1.jpg"], "one and .*two have no pict"),
        (
            [
                f"{split}/fold{fold}/{x}/1.jpg"
                for split in ("train", "test")
                for fold in "01"
                for x in "ab"
            ],
            "test/fold0 and .*test/fold1 have no pictures",
        ),
        (
            ["a/train/1.jpg", "a/test/1.jpg", "b/train/x/1.jpg", "b/test/x/1.jpg"],
            "b/test and .*b/tr",
        ),
        (["data/train/a/1.jpg", "data/test/a/1.jpg"], "perhaps .*data is meant"),
        (["photos/train/a/1.jpg", "photos/train/b/1.jpg"], "perhaps .*photos.* is meant"),
    ],
)
def test_what_is_not_as_expected_is_told(names: list[str], message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        found(put(tmp_path, *names))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a/1.jpg", "a/1.jpg is not a folder; expected CLASS"),
        ("Photoz", "no folder or file .*/Photoz'; did you mean .*/photos'"),
        ("photoz/deep/er", "no folder or file .*/photoz/deep/er'; did you mean .*/photos'"),
        ("zzz", "no folder or file .*/zzz'; .* holds a, photos"),
    ],
)
def test_a_path_that_is_no_folder_is_refused(name: str, message: str, tmp_path: Path):
    put(tmp_path, "a/1.jpg", "photos/1.jpg")
    with pytest.raises(ValueError, match=message):
        found(Folder(tmp_path / name))
