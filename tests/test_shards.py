"""Rows of arrays on disk."""

import errno
import os
import resource
import shutil
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest

from tlkeras.training import feature_store


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(feature_store, "LENGTH", 4)


def filled(entry, count, start=0, stop=None, batch=3):
    """Writes rows of two arrays and returns them."""
    random = np.random.default_rng(count)
    columns = [random.normal(size=(count, 2)).astype("float16"), np.arange(count)]
    writer = feature_store.Writer(entry, start, count if stop is None else stop)
    for first in range(start, count, batch):
        writer.add(first, [column[first : first + batch] for column in columns])
    return columns


@pytest.mark.parametrize("count", [1, 4, 11])
def test_rows_are_read_as_they_were_written_in_any_order(tmp_path, count):
    columns = filled(tmp_path / "entry", count)
    rows = feature_store.Rows(tmp_path / "entry")
    assert len(rows) == count
    for seed in range(5):
        chosen = np.random.default_rng(seed).integers(count, size=7)
        for found, column in zip(rows.read(chosen), columns, strict=True):
            np.testing.assert_array_equal(found, column[chosen])
    assert [len(column) for column in rows.read(np.array([], np.int64))] == [0, 0]


def test_a_writer_stopped_in_the_middle_of_a_shard_leaves_the_whole_ones_and_is_gone_on_with(
    tmp_path,
):
    entry = tmp_path / "entry"
    columns = [np.arange(10), np.arange(10) * 0.5]
    feature_store.Writer(entry, 0, 10).add(0, [column[:7] for column in columns])
    assert len(feature_store.Rows(entry)) == 4
    feature_store.Writer(entry, 4, 10).add(0, columns)  # Rows before the start are passed over.
    for found, column in zip(feature_store.Rows(entry).read(np.arange(10)), columns, strict=True):
        np.testing.assert_array_equal(found, column)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 3), (0, 43), (4, 40), (8, 4), (11, 11)])
@pytest.mark.parametrize("workers", [1, 2, 3, 20])
def test_the_parts_of_the_workers_are_whole_shards_and_all_of_them(start, stop, workers):
    parts = [range(*feature_store.part(start, stop, worker, workers)) for worker in range(workers)]
    assert [row for part in parts for row in part] == [*range(start, stop)]
    assert all(part.start % 4 == 0 for part in parts if part)
    counts = [-(-len(part) // 4) for part in parts]
    assert max(counts) - min(counts) <= 1


def test_a_shard_behind_a_gap_is_written_anew(tmp_path):
    entry = tmp_path / "entry"
    feature_store.Writer(entry, 4, 8).add(4, [np.zeros(4)])
    assert len(feature_store.Rows(entry)) == 0
    feature_store.Writer(entry, 0, 8).add(0, [np.arange(8)])
    np.testing.assert_array_equal(feature_store.Rows(entry).read(np.arange(8))[0], np.arange(8))


def test_a_full_disk_leaves_whole_shards_only(tmp_path, monkeypatch):
    reserve, left = os.posix_fallocate, [2]  # Of two files for each shard.

    def full(descriptor, offset, length):
        left[0] -= 1
        if left[0] < -1:
            raise OSError(errno.ENOSPC, "No space left on device")
        reserve(descriptor, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        filled(tmp_path / "entry", 11)
    assert [path.name for path in (tmp_path / "entry").iterdir()] == ["00000"]
    assert len(feature_store.Rows(tmp_path / "entry")) == 4


def test_more_shards_than_files_may_be_open_are_read(tmp_path):
    filled(tmp_path / "entry", 200)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len([*Path("/proc/self/fd").iterdir()])
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 20, hard))
    try:
        assert len(feature_store.Rows(tmp_path / "entry").read(np.arange(200))[1]) == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_another_process_removes_meanwhile_counts_nothing(tmp_path, monkeypatch):
    filled(tmp_path / "gone", 8)
    entries = feature_store._entries

    def raced(folder):
        found = entries(folder)
        for path in found:
            shutil.rmtree(path)
        return found

    monkeypatch.setattr(feature_store, "_entries", raced)
    assert feature_store.granted(tmp_path, {"mine": [1] * 4}, 10) == {"mine": 4}


def test_a_process_killed_while_it_makes_room_leaves_nothing_to_be_read(tmp_path, monkeypatch):
    filled(tmp_path / "old", 8)
    remove = shutil.rmtree

    def killed(folder, ignore_errors=False):
        if next(folder.rglob("*.npy"), None):
            next(folder.rglob("*.npy")).unlink()
            raise KeyboardInterrupt
        remove(folder, ignore_errors=ignore_errors)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            feature_store.granted(tmp_path, {"mine": [1] * 4}, 10)
    assert len(feature_store.Rows(tmp_path / "old")) == 0
    filled(tmp_path / "kept", 4)
    (tmp_path / "kept" / "00001.left.gone").mkdir()
    assert feature_store.granted(tmp_path, {"old": [1] * 4}, 10**9) == {"old": 4}
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["00000"]
    shutil.rmtree(tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("name", ["a.jpg", "00000/a.jpg", "00000/a.npy/b.jpg", "c/00000.npy"])
def test_a_folder_that_is_no_entry_is_never_dropped(tmp_path, name):
    file = tmp_path / "photos" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(100))
    filled(tmp_path / "old", 8)
    assert feature_store.granted(tmp_path, {"mine": [1] * 4}, 4) == {"mine": 4}
    assert file.exists() and not (tmp_path / "old").exists()


def test_what_fits_is_granted_small_rows_first_and_cut_at_the_end_of_a_shard(tmp_path):
    wanted = {"large": [100] * 10, "small": [1] * 10}
    assert feature_store.granted(tmp_path, wanted, 1010) == {"large": 10, "small": 10}
    assert feature_store.granted(tmp_path, wanted, 1009) == {"large": 8, "small": 10}
    assert feature_store.granted(tmp_path, wanted, 400) == {"large": 0, "small": 10}
    assert feature_store.granted(tmp_path, wanted, 0) == {"large": 0, "small": 0}


def test_a_disk_without_room_for_what_is_granted_is_told_before_anything_is_written(
    tmp_path, monkeypatch
):
    def free(size):
        usage = types.SimpleNamespace(free=size)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)

    free(999)
    with pytest.raises(OSError, match="No space left"):
        feature_store.granted(tmp_path, {"large": [100] * 10}, 10**9)
    free(1000)
    assert feature_store.granted(tmp_path, {"large": [100] * 10}, 10**9) == {"large": 10}
    filled(tmp_path / "large", 8)  # What is there already needs no room.
    free(0)
    assert feature_store.granted(tmp_path, {"large": [100] * 8}, 10**9) == {"large": 8}
    with pytest.raises(OSError, match="No space left"):  # Others may still have it open.
        feature_store.granted(tmp_path, {"other": [100] * 8}, 800)


def test_the_least_recently_used_entries_make_room_but_for_those_in_work(tmp_path):
    for age, name in enumerate(["new", "old", "busy"]):
        filled(tmp_path / name, 4)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    size = sum(path.stat().st_size for path in (tmp_path / "old").rglob("*.npy"))
    open_rows = feature_store.Rows(tmp_path / "old")
    with feature_store.locked(tmp_path, ["busy"]):
        granted = feature_store.granted(tmp_path, {"mine": [1] * 4}, 2 * size + 4)
    assert granted == {"mine": 4}
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"new", "busy"}
    assert len(open_rows.read(np.arange(4))[1]) == 4  # Who has it open reads on.


def test_one_at_a_time_works_at_an_entry_and_others_at_others(tmp_path, capsys):
    def work(name):
        with feature_store.locked(tmp_path, [name]):
            done.append(name)

    done = []
    threads = {name: threading.Thread(target=work, args=[name]) for name in ("a", "c")}
    with feature_store.locked(tmp_path, ["a", "b"]):
        threads["a"].start()
        threads["c"].start()
        threads["c"].join()
        told, end = "", time.monotonic() + 60
        while not told.endswith("\n") and time.monotonic() < end:  # As soon as the other waits.
            told += capsys.readouterr().out
            time.sleep(0.01)
        assert done == ["c"]
    threads["a"].join()
    assert done == ["c", "a"]
    assert told == f"  waits for PID {os.getpid()}, which works at {tmp_path / 'a'}\n"
