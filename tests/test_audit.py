"""The log is a chain: whatever is changed, missing or out of order in it is found."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import audit, log, product, store, trace
from pipeline.audit import Audit
from pipeline.step import Step
from tlkeras import frameworks
from tlkeras.spec import Spec

ROOT = Path(__file__).parents[1]


class Config(Spec, name="config"):
    """One option."""

    size: int = 1


@Step
def examples(out: Path, *, size: int) -> None:
    (out / "data").write_text("x" * size)


@Step
def model(out: Path, *, examples: Path) -> None:
    (out / "weights").write_text((examples / "data").read_text())


def run(root: Path, size: int = 1) -> dict[str, Path]:
    place = store.Store(root)
    return store.run((examples, model), Config(size=size), place, say=lambda _: None)


@pytest.fixture
def root(tmp_path):
    """A store of two runs, with four lines in its log."""
    run(tmp_path / "runs", 1)
    run(tmp_path / "runs", 2)
    return tmp_path / "runs"


def said(root: Path, capsys: Any, status: int, **more: Any) -> list[str]:
    """Returns the lines that an audit prints."""
    capsys.readouterr()
    assert audit.main(Audit(root=root, **more)) == status
    return capsys.readouterr().out.splitlines()


def test_every_product_has_a_line_with_its_digests(root, capsys):
    entries = log.read(root).entries
    assert [entry["number"] for entry in entries] == [1, 2, 3, 4]
    assert [entry["before"] for entry in entries] == ["", *(e["sha256"] for e in entries[:3])]
    for entry in entries:
        manifest = product.manifest(root / entry["made"]["path"])
        for name in ("step", "key", "digest"):
            assert entry["made"][name] == manifest[name]
    run(root, 1)  # Nothing is made.
    assert len(log.read(root).entries) == 4
    last = entries[-1]["sha256"]
    assert said(root, capsys, 0) == [f"4 lines of {root}/log.jsonl are sound, head {last}"]


@pytest.mark.parametrize(
    ("flip", "step"),
    [(1, 17), *(pytest.param(flip, 1, marks=pytest.mark.slow) for flip in (1, 32, 128))],
)
def test_a_changed_byte_in_any_line_is_found_and_the_line_is_named(root, flip, step):
    path = root / log.FILE
    sound = path.read_bytes()
    ends = [place for place, sign in enumerate(sound) if sign == ord("\n")]
    for place in sorted({*range(0, len(sound), step), *ends, *(end - 1 for end in ends)}):
        changed = bytearray(sound)
        changed[place] ^= flip
        path.write_bytes(changed)
        verdict = log.read(root)
        line = sum(end < place for end in ends) + 1
        assert verdict.fault.startswith(f"Line {line} ") and len(verdict.entries) == line - 1


def test_a_line_written_anew_with_a_digest_of_its_own_breaks_the_chain(root):
    path = root / log.FILE
    lines = path.read_bytes().splitlines(keepends=True)
    other = root.parent / "other"
    for size in (3, 4):
        run(other, size)
    lines[1] = (other / log.FILE).read_bytes().splitlines(keepends=True)[1]
    path.write_bytes(b"".join(lines))
    assert log.read(root).fault == "Line 2 does not follow line 1, which was replaced."


@pytest.mark.parametrize(
    ("order", "fault"),
    [
        ([1, 2, 3], "Line 1 is missing: line 2 stands at its place."),
        ([0, 2, 3], "Line 2 is missing: line 3 stands at its place."),
        ([0, 2, 1, 3], "Line 2 is out of order: it stands at place 3."),
        ([3, 0, 1, 2], "Line 1 is out of order: it stands at place 2."),
        ([0, 1, 1, 2, 3], "Line 3 is out of order: it stands at place 4."),
        ([0, 1, 2], ""),
    ],
)
def test_missing_and_moved_lines_are_named_but_for_the_last_ones(root, order, fault):
    path = root / log.FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[number] for number in order))
    assert log.read(root).fault == fault


def test_a_digest_kept_elsewhere_shows_that_last_lines_are_missing(root, capsys):
    path = root / log.FILE
    head = log.head(path)
    earlier = log.read(root).entries[1]["sha256"]
    assert said(root, capsys, 0, head=earlier)[-1] == "--head is line 2."
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    (message, *_) = said(root, capsys, 1, head=head)
    assert message.startswith(f"No line has the digest --head={head}: lines at the end are missing")


def damage(path: Path) -> None:
    (path / "weights").write_text("other")


def forge(path: Path) -> None:
    damage(path)
    made = product.manifest(path)
    made["files"] = product.digests(path)
    made["digest"] = product.digest(made["files"])
    (path / "_manifest.json").write_text(json.dumps(made))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damage, "was changed: weights, says line 4."),
        (forge, "has another _manifest.json, says line 4."),
        (shutil.rmtree, "is missing, and no forget removed it, says line 4."),
        (lambda path: (path / "_manifest.json").write_text("{"), "has a damaged _manifest.json,"),
    ],
)
def test_a_product_that_is_no_longer_what_it_was_is_named(root, capsys, harm, message):
    path = root / log.read(root).entries[-1]["made"]["path"]
    harm(path)
    (first, *_) = said(root, capsys, 1)
    assert first.startswith(f"{path} {message}")


def test_a_product_that_no_line_names_is_told_and_is_no_fault(root, capsys):
    path = root / log.read(root).entries[-1]["made"]["path"]
    shutil.copytree(path, path.with_name("0" * 16))
    assert said(root, capsys, 0)[0] == (
        f"{path.with_name('0' * 16)} is in no line: it is older than the log, or the store of the "
        "products that it was made of has its line, or somebody put it there."
    )


def test_after_a_kill_in_the_middle_of_a_line_the_next_run_goes_on(root, capsys):
    path = root / log.FILE
    whole = path.read_bytes()
    for length in (1, 40, len(whole.splitlines()[-1]) - 1):
        path.write_bytes(whole + whole.splitlines()[-1][:length])
        assert said(root, capsys, 1)[0].startswith("Line 5 has no end: a run was killed while")
        run(root, 10 + length)
        verdict = log.read(root)
        assert not verdict.fault and len(verdict.entries) == 6
        assert path.read_bytes().startswith(whole)
    path.write_bytes(whole.removesuffix(b"\n"))  # Only the end of the line is not there.
    run(root, 3)
    assert len(log.read(root).entries) == 6 and path.read_bytes().startswith(whole)


@contextlib.contextmanager
def killed_before_its_product() -> Iterator[None]:
    """A step in it is killed between its line and its product."""

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(product, "_replace", killed)
        patched.setattr(product, "_wipe", lambda _: None)
        yield


def test_a_run_killed_between_its_line_and_its_product_makes_it_again(root, capsys):
    with killed_before_its_product():
        run(root, 5)
    path = root / log.read(root).entries[-1]["made"]["path"]
    assert said(root, capsys, 1)[0].startswith(f"{path} was not finished because its run was kil")
    run(root, 5)
    assert len(said(root, capsys, 0)) == 1


def test_a_product_that_is_made_anew_and_killed_before_its_end_is_not_accused(root, capsys):
    @Step(always=True)
    def note(out: Path, *, examples: Path) -> None:
        (out / "note").write_text("")

    path, (first, *_) = root / "note", log.read(root).entries
    inputs = {"examples": root / first["made"]["path"]}
    store.make(note, path, {}, inputs, lambda _: None)
    assert len(said(root, capsys, 0)) == 1
    changed = product.manifest(path) | {"seconds": -1}  # Two manifests of one second may be equal.
    (path / product.MANIFEST).write_text(json.dumps(changed))
    with killed_before_its_product():
        store.make(note, path, {}, inputs, lambda _: None)
    assert said(root, capsys, 1)[0].startswith(f"{path} was not finished because its run was kil")
    store.make(note, path, {}, inputs, lambda _: None)
    assert len(said(root, capsys, 0)) == 1


def _append(root: Path, count: int) -> None:
    for number in range(count):
        log.append(root, note=f"{os.getpid()} {number}")


def test_several_processes_at_once_write_one_chain(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append, args=(tmp_path, 40)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    verdict = log.read(tmp_path)
    assert not verdict.fault and len({entry["note"] for entry in verdict.entries}) == 160


def test_a_killed_writer_leaves_a_log_that_goes_on(tmp_path):
    script = (
        "import sys; from pathlib import Path; from pipeline import log\n"
        "while True: log.append(Path(sys.argv[1]), note='x' * 3000); print(flush=True)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    log.append(tmp_path, note="last")
    verdict = log.read(tmp_path)
    assert not verdict.fault and verdict.entries[-1]["note"] == "last"
    assert len(verdict.entries) > 20


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("--beam_options=--password=x --runner=Flink", "--beam_options=…"),
        ("-beam_options=x", "-beam_options=…"),
        ("--source=tfds(name='a', api_key='x')", "--source=…"),
        ("--backbone=hub_text(tokens=3)", "--backbone=hub_text(tokens=3)"),
        ("--exclude_ids=gone.txt", "--exclude_ids=gone.txt"),
    ],
)
def test_no_secret_of_a_command_is_in_the_log(tmp_path, monkeypatch, word, shown):
    monkeypatch.setattr(frameworks, "is_command", True)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/tlkeras", word, "--beam_options", "secret=y"])
    log.append(tmp_path)
    (entry,) = log.read(tmp_path).entries
    assert entry["command"] == ["tlkeras", shown, "--beam_options", "…"]


def test_a_step_alone_has_a_line_in_the_store_of_its_inputs_or_beside_its_product(root, tmp_path):
    inputs = {"examples": root / log.read(root).entries[0]["made"]["path"]}
    store.make(model, tmp_path / "elsewhere" / "model", {}, inputs, lambda _: None)
    assert log.read(root).entries[-1]["made"]["path"] == "../elsewhere/model"
    assert not (tmp_path / "elsewhere" / log.FILE).exists()
    store.make(examples, tmp_path / "alone" / "examples", {"size": 1}, {}, lambda _: None)
    (entry,) = log.read(tmp_path / "alone").entries
    assert entry["made"]["path"] == "examples"


def test_a_store_behind_a_link_has_the_same_products_elsewhere(root, tmp_path, capsys):
    link = tmp_path / "work" / "link"
    link.parent.mkdir()
    link.symlink_to(root)
    inputs = {"examples": link / log.read(root).entries[0]["made"]["path"]}
    out = tmp_path / "work" / "model"
    store.make(model, out, {}, inputs, lambda _: None)
    assert log.read(root).entries[-1]["made"]["path"] == "../work/model"
    assert [*trace._logged(link)] == [out]
    said(link, capsys, 0)


def test_another_file_in_the_place_of_the_log_is_refused_before_the_work(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / log.FILE).write_text('{"loss": 1}\n')
    with pytest.raises(ValueError, match=r"runs/log\.jsonl is no log of runs, or its first line"):
        run(tmp_path / "runs")
    assert (tmp_path / "runs" / log.FILE).read_text() == '{"loss": 1}\n'


@pytest.mark.parametrize("place", ["none", "empty"])
def test_without_a_log_there_is_one_clear_message(tmp_path, place):
    (tmp_path / "empty").mkdir()
    message = {"none": "--root=.*none: There is no folder", "empty": "There is no log.jsonl in"}
    with pytest.raises(ValueError, match=message[place]):
        audit.main(Audit(root=tmp_path / place))
