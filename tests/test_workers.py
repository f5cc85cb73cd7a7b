"""Work in parts: in order, once, and found again after a kill."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import shutil
import sys
import threading
from pathlib import Path

import pytest

from tlkeras.data.parts import Runner


@dataclasses.dataclass(frozen=True)
class Sent:
    """A part that other processes can get."""

    wrong: int = -1
    odd: int = -1
    dead: int = -1

    def __call__(self, number: int, out: Path) -> None:
        print("no answer to anybody")
        (out / "number").write_text(f"{number} {os.getpid()}")
        if number == self.wrong:
            raise ValueError("Part three\nis broken.")
        if number == self.odd:
            raise KeyError("seven")
        if number == self.dead:
            os._exit(9)


class Doing:
    """Writes its number into every part and remembers which it did."""

    def __init__(self, *failing):
        self.numbers, self.failing, self.lock = [], failing, threading.Lock()

    def __call__(self, number: int, out: Path) -> None:
        with self.lock:
            self.numbers.append(number)
        (out / "number").write_text(f"{number}")
        if number in self.failing:
            raise ValueError("Part three\nis broken.")


def numbers(done) -> list[int]:
    return [int((part / "number").read_text()) for part in done]


def test_parts_come_in_order_and_leave_nothing_behind(tmp_path):
    part = Doing()
    assert numbers(Runner().run(part, 40, tmp_path / "parts", "doing")) == list(range(40))
    assert sorted(part.numbers) == list(range(40))
    assert not any(tmp_path.iterdir())


def test_few_parts_are_done_without_beam(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert numbers(Runner().run(Doing(), 3, tmp_path / "parts", "doing")) == [0, 1, 2]
    with pytest.raises(ImportError):
        list(Runner("DirectRunner").run(Doing(), 3, tmp_path / "parts", "doing"))
    assert logging.root.manager.disable == logging.NOTSET


def test_parts_of_a_stopped_run_are_not_done_again(tmp_path):
    first, second = Doing(), Doing()
    done = Runner().run(first, 40, tmp_path / "parts", "doing")
    assert [int((next(done) / "number").read_text()) for _ in range(3)] == [0, 1, 2]
    done.close()
    kept = {int(path.name) for path in (tmp_path / "parts").iterdir()}
    assert numbers(Runner().run(second, 40, tmp_path / "parts", "doing")) == list(range(40))
    assert sorted(second.numbers) == sorted({*range(40)} - kept)


def test_what_a_killed_worker_left_half_done_is_no_part(tmp_path):
    (tmp_path / "parts" / "00000001.abc.partial").mkdir(parents=True)
    assert numbers(Runner().run(Doing(), 3, tmp_path / "parts", "doing")) == [0, 1, 2]
    assert not any(tmp_path.iterdir())


def test_a_kill_while_a_part_is_removed_leaves_none_of_it(tmp_path, monkeypatch):
    def killed(folder, **options):
        (folder / "number").unlink()
        raise KeyboardInterrupt

    done = Runner().run(Doing(), 8, tmp_path / "parts", "doing")
    next(done)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            next(done)
    assert numbers(Runner().run(Doing(), 8, tmp_path / "parts", "doing")) == list(range(8))
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_removed_stops_no_run(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        # On NFS a file that is open elsewhere stays.
        patched.setattr(os, "unlink", lambda *arguments, **options: None)
        for _ in range(2):  # The second finds what the first could not remove.
            part = Doing()
            assert numbers(Runner().run(part, 8, tmp_path / "parts", "doing")) == list(range(8))
            assert sorted(part.numbers) == list(range(8))


def test_finished_parts_wait_on_the_disk_a_few_at_a_time(tmp_path):
    most = 2 * (2 * (os.cpu_count() or 1) + 1)
    for _ in Runner().run(Doing(), 90, tmp_path / "parts", "doing"):
        assert len(list((tmp_path / "parts").iterdir())) <= most


def test_the_error_of_a_part_is_raised_and_the_part_done_again_next_time(tmp_path):
    for _ in range(2):
        part = Doing(3)
        with pytest.raises(ValueError, match=r"^Part three\nis broken\.$"):
            numbers(Runner().run(part, 8, tmp_path / "parts", "doing"))
        assert 3 in part.numbers
    assert numbers(Runner().run(Doing(), 8, tmp_path / "parts", "doing")) == list(range(8))


def test_what_failed_before_it_was_mended_is_done_again(tmp_path):
    with pytest.raises(ValueError, match="Part three"):
        numbers(Runner().run(Doing(*range(3, 40)), 40, tmp_path / "parts", "doing"))
    assert numbers(Runner().run(Doing(), 40, tmp_path / "parts", "doing")) == list(range(40))


def test_an_error_that_is_not_the_users_passes(tmp_path):
    def part(number: int, out: Path) -> None:
        raise KeyError("seven")

    with pytest.raises(KeyError, match="seven"):
        list(Runner().run(part, 2, tmp_path / "parts", "doing"))


def test_a_part_that_no_worker_left_here_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(Runner, "_by_beam", lambda runner, do, todo: (None for _ in "1"))
    message = r"^FarRunner has run all parts, but part 0 is not in .*parts: every machine needs"
    with pytest.raises(ValueError, match=message):
        list(Runner("FarRunner").run(Doing(), 2, tmp_path / "parts", "doing"))


def test_options_without_a_runner_are_refused():
    with pytest.raises(ValueError, match=r"^The options of Beam are for a runner: name it, too\.$"):
        Runner(options="--s3_secret_access_key=K123")


def test_a_runner_is_a_value():
    assert pickle.loads(pickle.dumps(Runner("a", "b"))) == Runner("a", "b")


def test_many_parts_are_done_by_processes_in_order(tmp_path):
    done = Runner().run(Sent(), 30, tmp_path / "parts", "doing", many=30)
    told = [tuple(map(int, (part / "number").read_text().split())) for part in done]
    assert [number for number, _ in told] == [*range(30)]
    workers = {process for _, process in told}
    assert os.getpid() not in workers and len(workers) <= (os.cpu_count() or 1)
    assert not any(tmp_path.iterdir())


def test_a_job_that_no_other_process_can_get_is_done_by_threads(tmp_path):
    part = Doing()  # Its lock cannot be pickled.
    done = Runner().run(part, 8, tmp_path / "parts", "doing", many=1)
    assert numbers(done) == list(range(8)) and sorted(part.numbers) == list(range(8))


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        (Sent(wrong=3), ValueError, r"^Part three\nis broken\.$"),
        (Sent(odd=5), KeyError, "seven"),
        (Sent(dead=4), RuntimeError, r"^A worker process ended with status 9\."),
    ],
    ids=["wrong", "odd", "dead"],
)
def test_what_fails_in_a_process_fails_here(part, error, message, tmp_path):
    with pytest.raises(error, match=message):
        list(Runner().run(part, 8, tmp_path / "parts", "doing", many=1))
