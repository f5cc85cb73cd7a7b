"""The pipeline file for Kubeflow: the same steps, and it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import kubeflow
from pipeline.config import Config
from pipeline.kubeflow import Target
from pipeline.order import STEPS

ROOT = Path(__file__).parents[1]
IMAGE = "registry.example/tlkeras-python:1"


def config(place: Path, **fields: Any) -> Config:
    return Config(root=place / "runs", saved_models=place / "saved_models", **fields)


def compiled(place: Path, made: Config, volume: str = "") -> list[Any]:
    """Returns the documents of the pipeline file."""
    pytest.importorskip("kfp")
    kubeflow.main(Target(out=place / "pipeline.yaml", image=IMAGE, volume=volume), made)
    return list(yaml.safe_load_all((place / "pipeline.yaml").read_text()))


def test_every_step_is_a_component_with_the_parameters_of_its_signature(tmp_path):
    (pipeline,) = compiled(tmp_path, config(tmp_path))
    tasks = pipeline["root"]["dag"]["tasks"]
    assert len(tasks) == len(STEPS)
    made_by = {step.name: step.module.rpartition(".")[2].replace("_", "-") for step in STEPS}
    for step in STEPS:
        task = tasks[made_by[step.name]]
        given = task["inputs"]["parameters"]
        assert set(given) == {"root", *step.read}
        products = {name for name in step.read if name in made_by}
        assert set(task.get("dependentTasks", [])) == {made_by[name] for name in products}
        for name in given:
            source = given[name]
            if name in products:
                assert source["taskOutputParameter"]["producerTask"] == made_by[name]
            else:
                assert source == {"componentInputParameter": name}
        assert not task["cachingOptions"].get("enableCache")
    for executor in pipeline["deploymentSpec"]["executors"].values():
        assert executor["container"]["image"] == IMAGE
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_the_flags_are_the_defaults_of_the_pipelines_parameters(tmp_path):
    made = config(tmp_path, batch_size=7, name="My sevens_7", to="model")
    (pipeline,) = compiled(tmp_path, made)
    assert pipeline["pipelineInfo"]["name"] == "my-sevens-7"
    given = pipeline["root"]["inputDefinitions"]["parameters"]
    assert given["batch_size"]["defaultValue"] == "7"
    assert given["root"]["defaultValue"] == str(tmp_path / "runs")
    assert given["seed"]["description"] == "Seed of everything random."
    assert "lower_bound" not in given  # No step up to the model reads it.
    assert "pusher" not in pipeline["root"]["dag"]["tasks"]


def test_the_example_of_the_help_has_folders_that_all_containers_see(capsys):
    with pytest.raises(SystemExit):
        kubeflow.command(["kubeflow", "--help"])
    told = "".join(capsys.readouterr().out.split())
    assert "".join(kubeflow.EXAMPLE.split()) in told
    words = [each.removeprefix("--").partition("=") for each in kubeflow.EXAMPLE.split()]
    given: dict[str, Any] = {name: value for name, _, value in words}
    folders = [Path(given.pop(name)) for name in ("root", "saved_models")]
    Target(**{**given, "out": Path(given["out"])})
    assert all(folder.is_absolute() for folder in folders)


def test_a_volume_is_mounted_in_every_container(tmp_path):
    _, platform = compiled(tmp_path, config(tmp_path), "data:/store")
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert len(executors) == len(STEPS)
    for executor in executors.values():
        (mount,) = executor["pvcMount"]
        assert (mount["constant"], mount["mountPath"]) == ("data", "/store")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"root": Path("runs")}, r"^flag --root=runs: containers share no working folder"),
        ({"saved_models": Path("out")}, r"^flag --saved_models=out: containers share no"),
        ({"sign_key": Path("key.pem")}, r"^flag --sign_key=key\.pem: containers share no"),
        ({"to": "modl"}, "'modl' is not a product; did you mean 'model'"),
    ],
)
def test_what_no_container_would_find_is_refused(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        compiled(tmp_path, config(tmp_path).replace(**fields))
    assert not (tmp_path / "pipeline.yaml").exists()


@pytest.mark.parametrize("volume", ["store", ":/store", "store:runs"])
def test_a_volume_is_a_claim_and_a_folder(volume):
    with pytest.raises(ValueError, match=r"^target.volume is .*, expected CLAIM:/FOLDER"):
        Target(out=Path("pipeline.yaml"), image=IMAGE, volume=volume)


def test_without_kfp_the_message_tells_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kfp", None)
    with pytest.raises(ValueError, match=r"package kfp.*: pip install 'tlkeras\[kubeflow\]'\.$"):
        kubeflow.main(Target(out=tmp_path / "pipeline.yaml", image=IMAGE), config(tmp_path))


RUN = """
import sys
from kfp import components, local

local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2])
components.load_component_from_file(sys.argv[1])()
"""


@pytest.mark.slow
def test_the_file_runs_from_data_to_a_pushed_model_and_its_products_are_found_again(tmp_path):
    pytest.importorskip("kfp")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(ROOT)}

    def run(*words: str) -> str:
        ended = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    options = (
        f"--root={tmp_path}/runs", f"--saved_models={tmp_path}/saved_models",
        "--source=embedded(count=120)", "--recipe=fine_tune(phases=[phase(epochs=1)])",
    )  # fmt: skip
    run("-m", "pipeline", "kubeflow", "--out=pipeline.yaml", f"--image={IMAGE}", *options)
    (tmp_path / "run.py").write_text(RUN)
    told = run("run.py", "pipeline.yaml", str(tmp_path / "kfp"))
    assert "reused" not in told
    version = tmp_path / "saved_models" / "digits" / "1"
    assert (version / "saved_model").is_dir() and (version / "model.tflite").is_file()

    # The command line finds what Kubeflow made, step by step.
    told = run("-m", "pipeline", *options)
    steps = {line.split()[0]: line.split()[1] for line in told.splitlines() if "   " in line}
    assert {step.name for step in STEPS if not step.always} == {
        name for name, state in steps.items() if state == "reused"
    }
    assert told.splitlines()[-1] == f"Pushed: {version}"


def test_a_secret_is_not_written_into_the_file(tmp_path):
    secret = config(tmp_path, beam_runner="X", beam_options="--s3_secret_access_key=K123")
    with pytest.raises(ValueError, match="--beam_options holds a secret") as told:
        kubeflow.main(Target(out=tmp_path / "pipeline.yaml", image=IMAGE), secret)
    assert "K123" not in str(told.value) and not (tmp_path / "pipeline.yaml").exists()
