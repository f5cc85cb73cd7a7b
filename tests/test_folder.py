from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

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
    ],
)
def test_the_users_own_splits_are_kept(words: tuple, splits: tuple, tmp_path: Path):
    source = put(tmp_path, *(f"{word}/{name}/1.jpg" for word in words for name in "ab"))
    assert source.classes() == ("a", "b")
    for word, split in zip(words, splits, strict=True):
        assert source.split(f"{word}/a/1.jpg") == split


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
    assert remark == f"3 files or links under {tmp_path} are left out, such as README.md."


def test_links_are_followed_inside_the_folder_only(tmp_path: Path):
    root, outside = tmp_path / "photos", tmp_path / "outside"
    put(outside, "secret.jpg", "c/1.jpg")
    source = put(root, "a/1.jpg", "b/1.jpg")
    (root / "a/inside.jpg").symlink_to(root / "b/1.jpg")
    (root / "a/escape.jpg").symlink_to(outside / "secret.jpg")
    (root / "a/broken.jpg").symlink_to(root / "b/none.jpg")
    (root / "a/linked").symlink_to(outside / "c")
    (root / "c").symlink_to(outside / "c")
    (remark,) = source.remarks()
    assert remark.startswith("4 files or links ") and remark.endswith("such as c.")
    assert set(found(source)) == {"a/1.jpg", "a/inside.jpg", "b/1.jpg"}
    assert source.classes() == ("a", "b")


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
    walk = os.walk

    def walked(folder: Path, onerror: Any) -> Any:
        onerror(PermissionError(errno.EACCES, "Permission denied", str(folder / "deep")))
        return walk(folder)

    monkeypatch.setattr(os, "walk", walked)
    with pytest.raises(ValueError, match="a/deep cannot be read: Permission denied"):
        found(source)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x.jpg"], r"has no class folders; expected CLASS/\*.jpg"),
        (["photos/a/1.jpg", "photos/b/1.jpg"], "one class folder, 'photos', .* perhaps .*photos"),
        (["a/1.jpg"], "one class folder, 'a', and classes must be at least two"),
        (["a/1.jpg", "b/1.txt"], r"The class folder .*b has no pictures \(.jpg, .jpeg"),
        (["train/a/1.jpg", "train/b/1.jpg", "test/b/x.txt"], "class folder .*test/b has no pict"),
        (["train/a/1.jpg", "train/b/1.jpg", "more/1.jpg"], "has the folder 'more' beside 'train'"),
        (["train/1.jpg", "test/1.jpg"], "has no class folders"),
    ],
)
def test_what_is_not_as_expected_is_told(names: list[str], message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        found(put(tmp_path, *names))


@pytest.mark.parametrize("name", ["nowhere", "a/1.jpg"])
def test_a_path_that_is_no_folder_is_refused(name: str, tmp_path: Path):
    put(tmp_path, "a/1.jpg", "b/1.jpg")
    with pytest.raises(ValueError, match="is not a folder; expected CLASS"):
        found(Folder(tmp_path / name))
