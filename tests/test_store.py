"""Steps and their store: what is the same is found again, what is half-written is never seen."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import importlib.metadata
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pytest

from pipeline import log, product, store
from pipeline.step import Place, Runtime, Step
from pipeline.store import Store
from tlkeras.spec import Spec

ROOT = Path(__file__).parents[1]

ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran():
    """Empties the list that steps write their names into."""
    ran.clear()


class Words(Spec, name="words"):
    """A spec with a file behind it."""

    path: Path = Path("none")

    def fingerprint(self):
        return self.path.read_text() if self.path.exists() else ""


class Config(Spec, name="config"):
    """A few options."""

    words: Annotated[Words, "What is written."] = Words()
    both: Annotated[tuple[Words, ...], "Several."] = ()
    size: Annotated[int, "How often."] = 1
    rate: Annotated[float, "How fast."] = 0.5


@Step
def examples(out: Path, *, words: Words, size: int) -> None:
    """Writes a letter for every word; only the parity of the size shows."""
    ran.append("examples")
    (out / "train").mkdir()
    (out / "train" / "a.txt").write_text("a" * (size % 2))
    (out / "info.json").write_text("{}")


@Step
def model(out: Path, *, examples: Path, rate: float) -> None:
    """Writes what it read."""
    ran.append("model")
    text = (examples / "train" / "a.txt").read_text()
    (out / "weights").write_text(f"{text} {rate}")


@Step
def summary(out: Path, *, examples: Path, rate: Runtime[float], notes: Place) -> None:
    """Keeps what it read in a place that runs share."""
    ran.append("summary")
    notes.mkdir(parents=True, exist_ok=True)
    (notes / f"{rate}").touch()


@Step
def card(out: Path, *, model: Path, examples: Path, both: tuple[Words, ...]) -> None:
    """Writes nothing."""
    ran.append("card")


STEPS = (examples, model, card)


def run(
    root: Path, config: Spec | None = None, **options: Any
) -> tuple[dict[str, Path], list[str]]:
    said: list[str] = []
    steps = options.pop("steps", STEPS)
    products = store.run(steps, config or Config(), Store(root), say=said.append, **options)
    return products, said


def test_a_step_is_its_function_with_a_name():
    assert (examples.name, model.name) == ("examples", "model")
    assert list(model.parameters) == ["examples", "rate"]
    assert model.parameters["rate"] is float and model.parameters["examples"] is Path
    assert model.module == __name__
    assert (model.__doc__ or "").startswith("Writes what")


def test_running_a_step_calls_its_function(tmp_path):
    examples.run(tmp_path, words=Words(), size=3)
    assert (tmp_path / "train" / "a.txt").read_text() == "a"
    assert not (tmp_path / "_manifest.json").exists()


@pytest.mark.parametrize(
    "wrong", [lambda folder: None, lambda out, size: None, lambda out, *a: None]
)
def test_a_function_of_another_form_is_no_step(wrong):
    with pytest.raises(TypeError, match=r"The signature of a step is <lambda>\(out: Path, \*, …\)"):
        Step(wrong)


def test_a_place_is_shared_by_runs_and_neither_it_nor_what_is_unkeyed_is_in_a_key(tmp_path):
    made = []
    for rate, size in [(0.1, 1), (0.2, 1), (0.3, 2)]:
        products, _ = run(tmp_path, Config(rate=rate, size=size), steps=(examples, summary))
        made.append(products["summary"])
    assert made[0] == made[1] != made[2]
    assert sorted(path.name for path in (tmp_path / "notes").iterdir()) == ["0.1", "0.3"]
    assert list(product.manifest(made[0])["asked"]["fields"]) == []


def test_alone_a_step_has_a_place_in_its_scratch_unless_given_one(tmp_path):
    inputs = {"examples": run(tmp_path / "store", to="examples")[0]["examples"]}
    fields = {"rate": 0.1}
    out = store.make(summary, tmp_path / "a", fields, inputs, ran.append)
    assert [path.name for path in out.iterdir()] == ["_manifest.json"]
    given = {**fields, "notes": tmp_path / "given"}
    store.make(summary, tmp_path / "b", given, inputs, ran.append)
    assert (tmp_path / "given" / "0.1").exists()


def test_a_place_and_a_product_of_one_name_are_refused(tmp_path):
    @Step
    def notes(out: Path) -> None:
        """Nothing."""

    with pytest.raises(ValueError, match="'notes' names a product and something else"):
        run(tmp_path, steps=(notes, examples, summary))


def test_everything_is_made_once_and_then_found(tmp_path):
    products, said = run(tmp_path)
    assert ran == ["examples", "model", "card"]
    assert [line.split()[0] for line in said] == ran
    assert all(line.endswith(" s") for line in said)
    assert run(tmp_path) == (
        products,
        ["examples   reused", "model      reused", "card       reused"],
    )
    assert len(ran) == 3


def test_a_product_lies_under_its_step_and_key(tmp_path):
    products, _ = run(tmp_path)
    key = product.manifest(products["model"])["key"]
    assert products["model"] == tmp_path / "model" / key[:16]
    assert {path.name for path in products["model"].iterdir()} == {"weights", "_manifest.json"}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"rate": 0.25}, ["model", "card"]),
        ({"size": 2}, ["examples", "model", "card"]),
        ({"size": 3}, ["examples"]),  # Equal bytes: nothing that reads them runs.
        ({"both": (Words(),)}, ["card"]),
        ({"words": Words(Path("other"))}, ["examples"]),
        ({}, []),
    ],
)
def test_only_what_reads_a_changed_field_runs_again(tmp_path, change, again):
    run(tmp_path)
    ran.clear()
    run(tmp_path, Config(**change))
    assert ran == again


def test_a_changed_file_behind_a_field_runs_its_step_again(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("one")
    config = Config(words=Words(file))
    run(tmp_path, config)
    file.write_text("two")
    ran.clear()
    run(tmp_path, config)
    assert ran == ["examples"]


def test_changed_code_runs_its_step_again(tmp_path, monkeypatch):
    run(tmp_path)
    ran.clear()
    real = store.code.digest
    monkeypatch.setattr(store.code, "digest", lambda modules: real(modules) + "changed")
    run(tmp_path, to="examples")
    assert ran == ["examples"]


def test_a_run_whose_code_changes_meanwhile_stops_before_the_step_of_that_code(
    tmp_path, monkeypatch
):
    """The step in memory is that of before; under the new key stood what it makes."""
    text = (
        "from pathlib import Path\nfrom pipeline.step import Step\n\n\n"
        "@Step\ndef late(out: Path, *, examples: Path) -> None:\n"
        "    (out / 'a').write_text('old')\n"
    )
    file = tmp_path / "lately.py"
    file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    late = importlib.import_module("lately").late

    def rewrite(out: Path, **values: Any) -> None:
        made(out, **values)
        file.write_text(text.replace("old", "new"))

    made = examples._function
    monkeypatch.setattr(examples, "_function", rewrite)
    with pytest.raises(ValueError, match=r"lately\.py has changed since this run began"):
        run(tmp_path / "runs", steps=(examples, late))
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()] == ["examples"]


def test_to_stops_after_a_product(tmp_path):
    products, _ = run(tmp_path, to="model")
    assert list(products) == ran == ["examples", "model"]


@Step
def evaluation(out: Path, *, modle: Path) -> None:
    """Asks for what nobody makes."""


@Step
def early(out: Path, *, card: str) -> None:
    """Asks for a product as if it were an option."""


@Step
def size(out: Path) -> None:
    """Is called like an option."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "modle"}, "'modle' is not a product; did you mean 'model'?"),
        ({"to": "x"}, "'x' is not a product; there are examples, model, card."),
        (
            {"steps": (*STEPS, evaluation)},
            "Step evaluation has the parameter 'modle', which is neither the product of "
            "a step before it, annotated Path, nor a field of the config; did you mean 'model'?",
        ),
        (
            {"steps": (model, examples)},
            "Step model has the parameter 'examples', which is neither the product of "
            "a step before it, annotated Path, nor a field of the config; there are words, both, "
            "size, rate.",
        ),
        (
            {"steps": (*STEPS, early)},
            "Step early has the parameter 'card', which is neither the product of "
            "a step before it, annotated Path, nor a field of the config; did you mean 'card'?",
        ),
        ({"steps": (examples, examples)}, "'examples' names a product and something else."),
        ({"steps": (size,)}, "'size' names a product and something else."),
    ],
)
def test_wrong_names_are_found_before_anything_runs(tmp_path, options, message):
    with pytest.raises(ValueError) as error:
        run(tmp_path, **options)
    assert str(error.value) == message
    assert ran == [] and not list(tmp_path.iterdir())


def test_the_manifest_says_how_a_product_was_made(tmp_path):
    products, _ = run(tmp_path)
    kept = product.manifest(products["model"])
    asked = kept["asked"]
    assert kept["step"] == asked["step"] == "model"
    assert asked["fields"] == {"rate": {"value": "0.5", "fingerprint": ""}}
    assert asked["inputs"] == {"examples": product.manifest(products["examples"])["digest"]}
    assert kept["files"] == {"weights": hashlib.sha256(b"a 0.5").hexdigest()}
    source = kept["from"]["examples"]
    assert source["digest"] == asked["inputs"]["examples"]
    assert (products["model"] / source["path"]).resolve() == products["examples"].resolve()
    written = json.dumps(asked, sort_keys=True).encode()
    assert kept["key"] == hashlib.sha256(written).hexdigest()
    started, finished = (datetime.fromisoformat(kept[name]) for name in ("started", "finished"))
    assert started <= finished and kept["started"].endswith("+00:00") and kept["seconds"] >= 0
    assert kept["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert kept["resumed"] is False
    assert "pytest" in kept["versions"] and {"git", "platform"} <= kept.keys()
    loaded = {module.partition(".")[0] for module in list(sys.modules)}
    libraries = importlib.metadata.packages_distributions()
    expected = {name for module in loaded & libraries.keys() for name in libraries[module]}
    assert kept["versions"].keys() >= expected
    for name, version in kept["versions"].items():
        assert importlib.metadata.version(name) == version
    assert [*kept["versions"]] == sorted(kept["versions"], key=str.lower)


def test_lineage_follows_every_product_to_its_beginning(tmp_path):
    products, _ = run(tmp_path)
    steps = [kept["step"] for kept in product.lineage(products["card"])]
    assert steps == ["examples", "model", "card"]
    assert [kept["step"] for kept in product.lineage(products["examples"])] == ["examples"]
    moved = tmp_path / "moved"
    moved.mkdir()
    for step in ("examples", "model", "card"):
        (tmp_path / step).rename(moved / step)
    last = moved / "card" / products["card"].name
    assert [kept["step"] for kept in product.lineage(last)] == steps


def test_lineage_still_names_what_was_removed(tmp_path):
    products, _ = run(tmp_path)
    digest = product.manifest(products["examples"])["digest"]
    products["examples"].rename(tmp_path / "elsewhere")
    first, *_ = product.lineage(products["model"])
    assert (first["step"], first["digest"]) == ("examples", digest) and "files" not in first


@pytest.mark.parametrize(
    ("name", "text", "quoted"),
    [
        ("guests", "5", "--guests=5"),
        ("pans", "wok|grill", "'--pans=wok|grill'"),
        ("pan", "grill(kind='gas')", "\"--pan=grill(kind='gas')\""),
        ("dish", "it's $5", "'--dish=it'\"'\"'s $5'"),
    ],
)
def test_a_word_of_a_command_is_quoted_only_where_a_shell_needs_it(name, text, quoted):
    command = product.command({name: text}, "--to=model")
    assert command == f"tlkeras {quoted} --to=model"
    assert shlex.split(command) == ["tlkeras", f"--{name}={text}", "--to=model"]


def test_verify_names_the_files_that_differ(tmp_path):
    product = run(tmp_path, to="examples")[0]["examples"]
    assert Store.verify(product) == []
    (product / "train" / "a.txt").write_text("b")
    (product / "info.json").unlink()
    (product / "new").write_text("")
    assert Store.verify(product) == ["info.json", "new", "train/a.txt"]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda product: (product / "train" / "a.txt").write_text("b"), "train/a.txt"),
        (lambda product: (product / "info.json").unlink(), "info.json"),
        (lambda product: (product / "more").write_text(""), "more"),
    ],
)
def test_a_damaged_product_is_named_and_made_again(tmp_path, damage, named):
    products, _ = run(tmp_path)
    digest = product.manifest(products["examples"])["digest"]
    damage(products["examples"])
    ran.clear()
    again, said = run(tmp_path)
    assert again == products and ran == ["examples"]  # Equal bytes: nothing that reads them runs.
    where = products["examples"]
    assert said[0] == f"examples   damaged ({named} in {where}), so it runs again"
    assert Store.verify(where) == [] and product.manifest(where)["digest"] == digest


def test_other_workers_wait_for_what_the_chief_makes(tmp_path, monkeypatch):
    monkeypatch.setattr(store.hardware, "is_chief", lambda: threading.current_thread() is chief)
    inside, go_on = threading.Event(), threading.Event()

    @Step
    def slow(out: Path) -> None:
        ran.append("slow")
        inside.set()
        assert go_on.wait(120)

    @Step(together=True)
    def model(out: Path, *, examples: Path, rate: float) -> None:
        assert threading.current_thread() is not chief
        ran.append("model, together")
        chief.join(120)

    chief = threading.Thread(target=run, args=(tmp_path,), kwargs={"steps": (slow, *STEPS)})
    chief.start()
    assert inside.wait(120)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        go_on.set()

    steps = (slow, examples, model, card)
    products = store.run(steps, Config(), Store(tmp_path), say=say)
    chief.join(120)
    assert list(products) == ["slow", "examples", "model"]  # After it they are done.
    assert said[0] == "slow       waits for the chief"
    assert "slow       reused" in said and said[-1] in (
        "model      done, the chief writes it",
        "model      reused",
    )
    assert [ran.count(name) for name in ("slow", "examples", "model", "card")] == [1, 1, 1, 1]


def test_the_chief_makes_what_is_not_for_all_workers_as_if_there_were_no_others(
    tmp_path, monkeypatch
):
    @Step
    def lonely(out: Path) -> None:
        ran.append(f"{store.hardware.part()}")

    chief = store.hardware._Chosen(lambda: None, index=0, count=2)
    monkeypatch.setattr(store.hardware, "_chosen", chief)
    run(tmp_path, steps=(lonely,))
    assert ran == ["(0, 1)"] and store.hardware.part() == (0, 2)


def test_a_worker_does_not_wait_for_ever_for_a_chief_that_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(store.hardware, "is_chief", lambda: False)
    monkeypatch.setattr(store, "PATIENCE", 0.3)
    with pytest.raises(ValueError, match="The chief does not write examples: for 0 s it has not"):
        run(tmp_path)
    assert ran == []


def test_a_worker_waits_while_the_chief_is_at_work_on_any_product(tmp_path, monkeypatch):
    slept: list[float] = []
    with contextlib.ExitStack() as chief:
        chief.enter_context(log.led(tmp_path))

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                chief.close()

        monkeypatch.setattr(store.hardware, "is_chief", lambda: False)
        monkeypatch.setattr(store, "PATIENCE", -1)
        monkeypatch.setattr(store.time, "sleep", sleep)
        with pytest.raises(ValueError, match="The chief does not write examples"):
            run(tmp_path)
    assert len(slept) == 3


def test_the_chief_is_at_work_while_it_compares_a_product_with_its_digests(tmp_path, monkeypatch):
    run(tmp_path, to="examples")
    seen: list[bool] = []

    def differing(path: Path) -> list[str]:
        seen.append(log.is_led(tmp_path))
        return []

    monkeypatch.setattr(store.product, "differing", differing)
    chief = store.hardware._Chosen(lambda: None, index=0, count=2)
    monkeypatch.setattr(store.hardware, "_chosen", chief)
    run(tmp_path, to="examples")
    assert seen == [True] and not log.is_led(tmp_path)


def test_a_damaged_manifest_is_named(tmp_path):
    made = run(tmp_path, to="examples")[0]["examples"]
    (made / "_manifest.json").write_text("{")
    with pytest.raises(ValueError, match=rf"{made}/_manifest.json is damaged; remove {made}"):
        run(tmp_path, to="examples")
    with pytest.raises(ValueError, match="is not the product of a step"):
        product.lineage(tmp_path)


def test_a_mount_point_is_refused_before_the_work():
    with pytest.raises(ValueError, match="/proc is a mount point, which no rename can replace"):
        store.make(examples, Path("/proc"), {}, {})
    assert ran == []


def test_a_step_that_fails_leaves_nothing_to_be_seen(tmp_path):
    @Step
    def broken(out: Path) -> None:
        (out / "_scratch" / "kept").write_text("")
        (out / "half").write_text("half")
        (out / "folder").mkdir()
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        run(tmp_path, steps=(broken,))
    left = [p.relative_to(tmp_path / "broken") for p in tmp_path.glob("broken/**/*") if p.is_file()]
    names = sorted("/".join(path.parts).split(".", 1)[1] for path in left)
    assert names == ["lock", "partial/_scratch/.key", "partial/_scratch/kept"]


def test_the_progress_of_another_configuration_is_not_gone_on_from(tmp_path):
    @Step
    def model(out: Path, *, seed: int) -> None:
        progress = out / "_scratch" / "seed"
        if progress.exists():
            (out / "begun_by").write_text(progress.read_text())
            return
        progress.write_text(str(seed))
        raise RuntimeError("in the middle")

    for seed in (0, 1):
        with pytest.raises(RuntimeError, match="in the middle"):
            store.make(model, tmp_path / "model", {"seed": seed}, {})
    made = store.make(model, tmp_path / "model", {"seed": 1}, {})
    assert (made / "begun_by").read_text() == "1"


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.step import Step
from pipeline.store import Store, run
from tlkeras.spec import Spec

class Config(Spec, name="config"):
    '''Nothing.'''

@Step
def model(out: Path) -> None:
    '''Is killed the first time.'''
    progress = out / "_scratch" / "epoch"
    left = sorted(path.name for path in out.iterdir())
    if progress.exists():
        (out / "weights").write_text(progress.read_text() + " ".join(left))
        return
    progress.write_text("epoch 1, ")
    (out / "weights").write_text("half")
    (out / "folder").mkdir()
    (out / "folder" / "file").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

run([model], Config(), Store(Path(sys.argv[1])))
"""


def test_after_a_kill_only_the_progress_is_left_and_the_step_goes_on_from_it(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    root = tmp_path / "runs"
    command = [sys.executable, str(script), str(root)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert first.returncode == -signal.SIGKILL
    assert not list(root.glob("model/*/_manifest.json"))
    second = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert second.returncode == 0 and second.stdout.startswith("model   "), second.stderr
    (product,) = (path.parent for path in root.glob("model/*/_manifest.json"))
    assert (product / "weights").read_text() == "epoch 1, _scratch"
    assert {path.name for path in product.iterdir()} == {"weights", "_manifest.json"}
    assert not list(root.glob("model/*.partial")) and store.manifest(product)["resumed"]


@pytest.mark.parametrize("place", ["_described", "sync", "_replace"])
def test_a_kill_while_a_product_is_finished_keeps_its_progress(tmp_path, monkeypatch, place):
    seen = []

    @Step
    def model(out: Path) -> None:
        epochs = out / "_scratch" / "epochs"
        seen.append(epochs.exists())
        epochs.write_text("all")
        (out / "weights").write_text("best")

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(product, place, killed)
        with pytest.raises(KeyboardInterrupt):
            store.run([model], Config(), Store(tmp_path))
    made = store.run([model], Config(), Store(tmp_path))["model"]
    assert seen == [False, True] and product.manifest(made)["resumed"]
    assert sorted(path.name for path in made.parent.iterdir()) == [made.name, f"{made.name}.lock"]
    assert sorted(path.name for path in made.iterdir()) == ["_manifest.json", "weights"]


def test_a_kill_while_the_progress_of_a_finished_product_is_dropped_leaves_none(
    tmp_path, monkeypatch
):
    @Step
    def model(out: Path) -> None:
        assert not [path for path in (out / "_scratch").iterdir() if path.name != ".key"]
        for name in ("state", "weights"):
            (out / "_scratch" / name).write_text(name)
        (out / "weights").write_text("best")

    remove = shutil.rmtree

    def killed(folder, ignore_errors=False):
        if folder.name.endswith(".scratch"):
            (folder / "weights").unlink()
            raise KeyboardInterrupt
        remove(folder, ignore_errors=ignore_errors)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            store.run([model], Config(), Store(tmp_path))
    (made,) = (path.parent for path in tmp_path.glob("model/*/_manifest.json"))
    (made / "weights").write_text("damaged")
    assert store.run([model], Config(), Store(tmp_path))["model"] == made
    assert (made / "weights").read_text() == "best"


def test_a_link_beside_a_product_is_never_followed(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine").write_text("kept")
    for name in ("a.partial", "b.scratch"):
        (tmp_path / name).symlink_to(home)
    (tmp_path / "c.lock").symlink_to(home / "mine")
    for name in ("a", "b"):
        with product.appearing(tmp_path / name, {"step": name, "inputs": {}}, {}):
            pass
        assert (tmp_path / name / "_manifest.json").exists()
    message = r"c\.lock: .*a link is in the way"
    with pytest.raises(ValueError, match=message), product.locked(tmp_path / "c", print):
        pass
    assert [(path.name, path.read_text()) for path in home.iterdir()] == [("mine", "kept")]


def test_a_file_that_may_not_be_read_is_so_to_a_digest(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    before = product.digests(tmp_path)
    read = Path.open

    def guarded(path, *arguments, **options):
        if path.name == "b":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", guarded)
    assert product.digests(tmp_path) == {"a": before["a"], "b": "unreadable"}


def test_of_two_runs_at_once_the_second_waits_and_finds_what_the_first_made(tmp_path):
    inside, go_on = threading.Event(), threading.Event()

    @Step
    def slow(out: Path) -> None:
        ran.append("slow")
        inside.set()
        assert go_on.wait(120)

    first = threading.Thread(target=run, args=(tmp_path,), kwargs={"steps": (slow,)})
    first.start()
    assert inside.wait(120)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        go_on.set()

    store.run((slow,), Config(), Store(tmp_path), say=say)
    first.join(120)
    assert ran == ["slow"]
    assert said == [f"slow   waits for PID {os.getpid()}", "slow   reused"]


def test_a_step_for_its_effects_runs_always(tmp_path):
    count = itertools.count()

    @Step(always=True)
    def pushed(out: Path, *, rate: float) -> None:
        (out / "version").write_text(str(next(count)))

    assert pushed.name == "pushed" and list(pushed.parameters) == ["rate"]
    products, _ = run(tmp_path, steps=(pushed,))
    again, said = run(tmp_path, steps=(pushed,))
    assert again == products and said[0].endswith(" s")
    assert (again["pushed"] / "version").read_text() == "1"
    assert {path.suffix for path in (tmp_path / "pushed").iterdir()} == {"", ".lock"}


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "No space left on device; free some space there, or choose another folder"),
        (errno.EROFS, "Read-only file system; choose a folder that can be written to"),
        (errno.EACCES, "Permission denied; choose a folder that you may write to"),
    ],
)
def test_what_the_disk_refuses_is_one_message_that_names_the_folder(tmp_path, number, message):
    @Step
    def big(out: Path) -> None:
        (out / "half").write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(ValueError, match=rf"^Cannot write to {tmp_path}/big: {message}"):
        run(tmp_path, steps=(big,))
    assert not list(tmp_path.rglob("half"))


def test_a_file_in_the_way_of_the_store_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(ValueError, match=rf"Cannot write to {tmp_path}/runs.*a file is in the way"):
        run(tmp_path / "runs")


def test_an_error_about_a_file_elsewhere_is_left_as_it_is(tmp_path):
    @Step
    def reader(out: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/some/where/else.jpg")

    with pytest.raises(PermissionError, match=r"else\.jpg"):
        run(tmp_path, steps=(reader,))


def test_one_step_alone_makes_its_product_where_it_is_told(tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    examples.run(foreign, words=Words(), size=1)
    out = tmp_path / "deep" / "model"
    said: list[str] = []
    assert store.make(model, out, {"rate": 1.0}, {"examples": foreign}, said.append) == out
    assert store.make(model, out, {"rate": 1.0}, {"examples": foreign}, said.append) == out
    assert said[1] == "reused" and ran == ["examples", "model"]
    with pytest.raises(ValueError, match=rf"^{out} holds something else; remove it or choose"):
        store.make(model, out, {"rate": 2.0}, {"examples": foreign})
    with pytest.raises(ValueError, match=rf"^There is no folder {tmp_path}/none\.$"):
        store.make(model, out, {"rate": 2.0}, {"examples": tmp_path / "none"})


def test_a_folder_of_data_is_known_by_its_files_behind_links_too(tmp_path):
    @Step
    def predictions(out: Path, *, data: Path) -> None:
        """Writes nothing."""

    data, camera = tmp_path / "new", tmp_path / "camera"
    for folder in (data, camera):
        folder.mkdir()
    (data / "today").symlink_to(camera)
    keys = []
    for name in ("1.png", "2.png", ".hidden"):
        (camera / name).write_text(name)
        out = store.make(predictions, tmp_path / f"after_{name}", {}, {"data": data}, ran.append)
        keys.append(product.manifest(out)["key"])
    assert keys[0] != keys[1] == keys[2]


def test_one_step_alone_spares_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "precious").write_text("")
    with pytest.raises(ValueError, match="holds something else"):
        store.make(examples, tmp_path, {"words": Words(), "size": 1}, {})
    assert (tmp_path / "precious").exists() and ran == []


def test_nothing_here_imports_tensorflow(tmp_path):
    program = (
        "import sys; from pathlib import Path; from pipeline import flags, store\n"
        "from tlkeras.exporter import Exporter; from tlkeras.spec import Spec\n"
        "from pipeline.step import Step\n"
        "class Config(Spec, name='config'): exporters: tuple[Exporter, ...] = ()\n"
        "def step(out, *, exporters: tuple[Exporter, ...]): pass\n"
        "store.run([Step(step)], Config(), store.Store(Path(sys.argv[1])))\n"
        "print('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    script = tmp_path / "script.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(tmp_path / "runs")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1:] == ["False"], run.stderr


def test_workers_agree_on_all_that_a_shared_step_reads_and_run_what_the_chief_runs(
    tmp_path, monkeypatch
):
    run(tmp_path, to="examples")

    @Step(together=True)
    def model(out: Path, *, examples: Path, rate: float) -> None:
        ran.append(f"model, together, {rate}")

    met: list[str] = []
    monkeypatch.setattr(store.hardware, "part", lambda: (1, 2))
    monkeypatch.setattr(store.hardware, "is_chief", lambda: False)
    monkeypatch.setattr(store.hardware, "meet", met.append)
    for is_found, last in ((0, "model      done, the chief writes it"), (1, "model      reused")):
        monkeypatch.setattr(store.hardware, "gathered", lambda own, found=is_found: [found, own])
        said: list[str] = []
        config = Config(rate=0.25 + is_found)
        store.run((examples, model), config, Store(tmp_path), say=said.append)
        assert said[-1].split() == last.split()
    assert ran == ["examples", "model, together, 0.25"]
    assert "model, rate=0.25, key " in met[0] and "rate=1.25" in met[1]
