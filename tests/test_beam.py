"""The same products whoever did the work: threads, processes, or one of Beam's runners."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import draw

from pipeline import log

ROOT = Path(__file__).parents[1]

# Beam's in-process runner on processes (on threads it runs unasked, see below); its portability
# API, as Flink and Spark use it; Dask's LocalCluster.
RUNNERS = {
    "processes": "--direct_running_mode=multi_processing --direct_num_workers=2",
    "PortableRunner": "--job_endpoint=embed --environment_type=LOOPBACK",
    "apache_beam.runners.dask.dask_runner.DaskRunner": "--dask_partition_size=1",
}


def run(*words: str) -> str:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    ended = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def files(folder: Path) -> dict[str, bytes]:
    """Returns what every file below a folder holds, what tells of its making left out."""
    told = {"_manifest.json", log.FILE}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in told and path.suffix != ".lock"
    }


def made(place: Path, *flags: str) -> dict[str, bytes]:
    run("-m", "pipeline", f"--root={place}", "--to=statistics", *flags)
    return files(place)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The examples and statistics of the digits, four parts, done by threads."""
    return made(tmp_path_factory.mktemp("threads"))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNNERS)
def test_every_runner_makes_the_same_bytes(name: str, expected: dict[str, bytes], tmp_path: Path):
    runner = "DirectRunner" if name == "processes" else name
    if "dask" in runner and not importlib.util.find_spec("distributed"):
        pytest.skip("apache-beam[dask] is not installed")
    found = made(tmp_path, f"--beam_runner={runner}", f"--beam_options={RUNNERS[name]}")
    assert found == expected
    assert {Path(path).parts[0] for path in found} == {"examples", "statistics"}


@pytest.mark.slow
def test_bulk_inference_by_every_runner_gives_the_same_bytes(tmp_path: Path):
    pictures = draw(tmp_path / "pictures", 12)
    run(
        *("-m", "pipeline", f"--source={pictures}", f"--root={tmp_path}/runs", "--name=colours"),
        *(f"--saved_models={tmp_path}/saved_models", "--exporters=saved_model"),
        "--recipe=fine_tune(phases=[phase(epochs=1)])",
    )
    found = []
    ways = {"auto": ("-m", "pipeline"), "PortableRunner": ("-m", "pipeline"), "many": ("-c", MANY)}
    for name, way in ways.items():
        options = RUNNERS.get(name, "")
        run(
            *(*way, "bulk_inferrer", f"--data={pictures}", f"--out={tmp_path / name}"),
            f"--exports={tmp_path}/saved_models/colours/1",
            *([f"--beam_runner={name}", f"--beam_options={options}"] if options else []),
        )
        found.append(files(tmp_path / name))
    assert found[0] == found[1] == found[2] and found[0]["predictions.jsonl"].count(b"\n") == 36


def test_a_runner_that_beam_does_not_know_is_one_clear_message(tmp_path: Path):
    with pytest.raises(AssertionError, match="Unexpected pipeline runner: DirektRunner") as failed:
        run("-m", "pipeline", f"--root={tmp_path}", "--to=examples", "--beam_runner=DirektRunner")
    assert "Traceback" not in str(failed.value)


MANY = """
import sys
from pipeline.__main__ import main
from tlkeras.data import ingest, parts

ingest._MANY = 1
parts.Runner.run.__defaults__ = (1,)
assert "apache_beam" not in sys.modules
main()
"""


@pytest.mark.slow
def test_very_many_parts_are_done_by_processes_unasked(expected: dict[str, bytes], tmp_path: Path):
    run("-c", MANY, f"--root={tmp_path}", "--to=statistics")
    assert files(tmp_path) == expected
