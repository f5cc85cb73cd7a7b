"""No lost work: what is killed, damaged or refused by the disk in the real pipeline."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import configs, last_of_ours, mounted

from pipeline import product
from pipeline.order import STEPS

ROOT = Path(__file__).parents[1]
RECIPE = "--recipe=fine_tune(phases=[phase(epochs=1), phase(epochs=1, unfreeze=0.2)])"

# Runs the pipeline; the named step is killed when it has written all its files, so at the worst of
# times: nothing of it may be believed, and what stands beside it in the store is untouched.
KILLED = """
import os, signal, sys
from pipeline.__main__ import main
from pipeline.order import STEPS
from pipeline.step import Step

name = sys.argv.pop(1)

class Killed(Step):
    def run(self, out, **values):
        super().run(out, **values)
        if self.name == name:
            os.kill(os.getpid(), signal.SIGKILL)

for step in STEPS:
    step.__class__ = Killed
main()
"""

# Runs the pipeline; it is killed before the first epoch of the second phase is kept.
LOST = """
import os, signal
from pipeline.__main__ import main
from tlkeras.training import loop

save = loop._save

def killed(model, state, folder):
    if folder.name == "phase1" and state.epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    save(model, state, folder)

loop._save = killed
main()
"""


def pipeline(
    place: Path,
    pictures: Path,
    *flags: str,
    program: tuple[str, ...] = ("-m", "pipeline"),
    prefix: Sequence[str] = (),
    cluster: str = "",
) -> subprocess.CompletedProcess[str]:
    """Runs the whole pipeline at a place; returns how it ended."""
    command = [
        *prefix, sys.executable, *program, f"--source=folder(path='{pictures}')",
        "--split=split(validation=20, test=20)", "--backbone=starter(size=32)", RECIPE,
        "--exporters=tflite",
        f"--root={place / 'runs'}", f"--saved_models={place / 'saved_models'}", "--baseline=none",
        *flags,
    ]  # fmt: skip
    own = {"CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(ROOT), "TF_CONFIG": cluster}
    environment = {**os.environ, **own}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)


def products(place: Path) -> dict[str, dict]:
    """Returns the manifest of every product."""
    found = (product.manifest(path.parent) for path in place.glob("runs/*/*/_manifest.json"))
    return {kept["step"]: kept for kept in found}


@pytest.fixture(scope="module")
def unbroken(pictures, tmp_path_factory):
    """The place of a run that nothing befell."""
    place = tmp_path_factory.mktemp("unbroken")
    ended = pipeline(place, pictures)
    assert ended.returncode == 0, ended.stderr
    return place


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(STEPS)), ids=[step.name for step in STEPS])
def test_a_run_killed_in_any_step_ends_like_an_unbroken_one(unbroken, pictures, tmp_path, number):
    name = STEPS[number].name
    made_before(name, unbroken, tmp_path)
    ended = pipeline(tmp_path, pictures, program=("-c", KILLED, name))
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert name not in products(tmp_path)
    assert list((tmp_path / "runs" / name).glob("*.partial"))

    ended = pipeline(tmp_path, pictures, f"--to={name}")
    assert ended.returncode == 0, ended.stderr
    made, expected = products(tmp_path)[name], products(unbroken)[name]
    if "saved_models" not in STEPS[number].parameters:  # That is another folder.
        assert made["key"] == expected["key"]
    assert made["files"].keys() == expected["files"].keys()
    if name in ("examples", "statistics", "schema", "anomalies", "model", "evaluation"):
        assert made["digest"] == expected["digest"]
    assert not list((tmp_path / "runs").glob("*/*.partial"))
    if name == "pushed":
        versions = [*(tmp_path / "saved_models" / pictures.name).iterdir()]
        assert sorted(path.name for path in versions) == [".push.lock", "1"]


@pytest.mark.slow
def test_the_pipeline_of_two_workers_goes_on_where_one_of_them_was_lost(pictures, tmp_path):
    def together(folder, *programs):
        def one(program, cluster):
            flags = ("--strategy=multi_worker", "--to=model")
            return pipeline(folder, pictures, *flags, program=program, cluster=cluster)

        with ThreadPoolExecutor() as pool:
            return [*pool.map(one, programs, configs())]

    usual, lost = ("-m", "pipeline"), ("-c", LOST)
    chief, other = together(tmp_path / "lost", usual, lost)
    assert other.returncode == -signal.SIGKILL, other.stderr
    assert chief.returncode == 1
    assert "Another worker was lost" in last_of_ours(chief.stderr)
    assert "model" not in products(tmp_path / "lost")
    assert [*(tmp_path / "lost").glob("runs/model/*/_scratch/phase0/state.json")]
    for folder in ("lost", "unbroken"):
        for ended in together(tmp_path / folder, usual, usual):
            assert ended.returncode == 0, ended.stderr
    kept, expected = (products(tmp_path / folder)["model"] for folder in ("lost", "unbroken"))
    assert kept["digest"] == expected["digest"]

    # That a model is damaged the chief alone sees; both make it again.
    (logs,) = (tmp_path / "lost").glob("runs/model/*/logs.json")
    logs.write_text("[]")
    for is_found in (False, True):
        for ended in together(tmp_path / "lost", usual, usual):
            assert ended.returncode == 0, ended.stderr
            assert ("reused" in ended.stdout.splitlines()[-1]) is is_found
    assert products(tmp_path / "lost")["model"]["digest"] == expected["digest"]


@pytest.mark.slow
def test_a_damaged_model_is_named_and_made_again_and_nothing_after_it_is(
    unbroken, pictures, tmp_path
):
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    before = products(tmp_path)
    (model,) = tmp_path.glob("runs/model/*/model.keras")
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    ended = pipeline(tmp_path, pictures)
    assert ended.returncode == 0, ended.stderr
    assert f"damaged (model.keras in {model.parent}), so it runs again" in ended.stdout
    assert products(tmp_path)["model"]["digest"] == before["model"]["digest"]
    for name in ("examples", "evaluation", "exports", "card"):
        assert products(tmp_path)[name]["finished"] == before[name]["finished"]


def made_before(name: str, unbroken: Path, place: Path) -> None:
    """Puts what the steps before this one made into a place."""
    for step in STEPS[: [step.name for step in STEPS].index(name)]:
        shutil.copytree(unbroken / "runs" / step.name, place / "runs" / step.name)


def small(options: str, folder: Path) -> list[str]:
    """Returns what goes before a command that is to see a small file system at a folder."""
    folder.mkdir(parents=True)
    return mounted(f'mount -t tmpfs -o {options} none "{folder}"')


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("examples", "runs/examples"),
        ("model", "runs/model"),
        ("exports", "runs/exports"),
        ("pushed", "saved_models"),
    ],
)
def test_a_full_disk_is_one_message_wherever_it_happens(unbroken, pictures, tmp_path, name, named):
    made_before(name, unbroken, tmp_path)
    sizes = (path.stat().st_size for path in (unbroken / named).rglob("*") if path.is_file())
    half = small(f"size={sum(sizes) // 2}", tmp_path / named)
    ended = pipeline(tmp_path, pictures, prefix=half)
    assert ended.returncode == 1
    (said,) = ended.stderr.strip().splitlines()[-1:]
    assert "annot write to" in said and "No space left on device" in said, ended.stderr
    assert f"{tmp_path}/{named}" in said and "Traceback" not in ended.stderr


def test_a_store_that_may_only_be_read_is_one_message(pictures, tmp_path):
    folder = tmp_path / "still"
    ended = pipeline(folder, pictures, prefix=small("ro", folder))
    assert ended.returncode == 1
    message = f"Cannot write to {folder}/runs: Read-only file system; choose a folder"
    assert ended.stderr.strip().startswith(message), ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
