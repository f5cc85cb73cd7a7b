"""The whole pipeline from its command line, on a few small pictures."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from absl import flags as absl_flags
from conftest import draw

from pipeline import flags, verify
from pipeline.config import Config
from pipeline.verify import Verify
from tlkeras import spec
from tlkeras.backbones.starter import Starter
from tlkeras.kinds.numbers import Numbers
from tlkeras.recipe import Recipe
from tlkeras.recipes.prototypes import Prototypes
from tlkeras.source import Source
from tlkeras.sources.embedded import Embedded
from tlkeras.spec import parse
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification

ROOT = Path(__file__).parents[1]
NETWORK = "starter(size=32)"


def command(pictures, place, *flags, module="pipeline"):
    return [
        sys.executable, "-m", module,
        f"--source=folder(path='{pictures}')", "--split=split(validation=20, test=20)",
        f"--backbone={NETWORK}", f"--root={place / 'runs'}",
        f"--saved_models={place / 'saved_models'}", "--name=colours",
        "--details=details(authors='Ada Lovelace')", *flags,
    ]  # fmt: skip


def run(*arguments, **options):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        *arguments, capture_output=True, text=True, env=environment, cwd=ROOT, **options
    )


def imported(arguments):
    """Returns how a command ended, and the modules that were there at its end."""
    script = (
        "import atexit, runpy, sys; atexit.register(lambda: print('modules', *sys.modules)); "
        "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
    )
    python, _, module, *flags = arguments
    ended = run([python, "-c", script, module, *flags])
    assert ended.returncode == 0, ended.stderr
    return ended, {*ended.stdout.splitlines()[-1].split()}


RECIPE = "--recipe=fine_tune(phases=[phase(epochs=2), phase(epochs=2, unfreeze=0.2)])"


@pytest.fixture(scope="module")
def pushed(pictures, tmp_path_factory):
    """A place in which the pipeline ran, and how the run ended."""
    place = tmp_path_factory.mktemp("place")
    return place, run(command(pictures, place, RECIPE))


def test_a_run_pushes_all_that_a_user_takes_away(pushed):
    place, ended = pushed
    assert ended.returncode == 0, ended.stderr
    version = place / "saved_models" / "colours" / "1"
    assert ended.stdout.splitlines()[-1] == f"Pushed: {version}"
    names = {path.name for path in version.iterdir()}
    assert names >= {
        "saved_model", "model.tflite", "labels.txt", "metrics.json", "report.html", "card.md",
        "manifest.json", "datasheet.md", "bom.cdx.json", "croissant.json",
    }  # fmt: skip
    assert (version / "labels.txt").read_text().splitlines() == ["blue", "green", "red"]
    made = {
        entry["step"] for entry in json.loads((version / "manifest.json").read_text())["lineage"]
    }
    assert {"examples", "model", "evaluation", "exports", "infra_blessing", "card"} <= made


def test_a_version_tells_nothing_of_the_store_and_of_single_examples(pushed):
    place, _ = pushed
    version = place / "saved_models" / "colours" / "1"
    names = {path.name for path in version.iterdir()}
    assert not names & {"served", "_manifest.json"}
    told = json.loads((version / "manifest.json").read_text())
    assert not {key for made in told["lineage"] for key in made} & {"path", "from"}
    for name in (
        "manifest.json", "card.md", "report.html", "datasheet.md", "bom.cdx.json", "croissant.json",
    ):  # fmt: skip
        assert str(place / "runs") not in (version / name).read_text()


def test_report_card_and_exports_tell_all_that_is_known(pushed):
    place, _ = pushed
    version = place / "saved_models" / "colours" / "1"
    report = (version / "report.html").read_text(encoding="utf-8")
    assert {*re.findall(r'<h2 id="section\d+">(.*?)</h2>', report)} >= {
        "Results", "Learning curves", "Confusions", "Classes", "Calibration", "Exports", "Data",
        "Configuration", "Lineage",
    }  # fmt: skip
    assert "Blessed." in report
    assert "Authors: Ada Lovelace" in (version / "card.md").read_text(encoding="utf-8")
    lineage = json.loads((version / "manifest.json").read_text())["lineage"]
    (digest,) = {made["digest"] for made in lineage if made["step"] == "model"}
    file = (version / "model.tflite").read_bytes()
    for told in ("colours", "Ada Lovelace", digest):
        assert told.encode() in file


def test_the_digests_of_a_version_are_those_of_its_files(pushed):
    version = pushed[0] / "saved_models" / "colours" / "1"
    assert verify.main(Verify(version=version)) == 0
    bom = json.loads((version / "bom.cdx.json").read_text())
    held = json.loads((version / "manifest.json").read_text())["files"]
    files = bom["metadata"]["component"]["components"]
    assert {each["name"] for each in files} >= {"model.tflite", "labels.txt"}
    assert all(held[each["name"]] == each["hashes"][0]["content"] for each in files)


def test_the_command_in_the_card_makes_the_same_again(pushed, pictures):
    def read(words):
        (config,) = flags.parser(Config, values=absl_flags.FlagValues())(words)
        return config

    place, _ = pushed
    text = (place / "saved_models" / "colours" / "1" / "card.md").read_text()
    (line,) = re.findall(r"^tlkeras .*$", text, re.MULTILINE)
    # Where things lie is not told.
    expected = read(command(pictures, place, RECIPE, "--baseline=none")[2:])
    found = read(shlex.split(line))
    assert found.replace(root=expected.root, saved_models=expected.saved_models) == expected


def test_the_command_in_the_card_reads_the_data_where_they_lie_now(pushed, pictures, tmp_path):
    place, moved = tmp_path / "place", tmp_path / "moved"
    shutil.copytree(pushed[0], place, symlinks=True)
    shutil.copytree(pictures, moved)
    said = "--data_details=data_details(purpose='To tell colours')"
    ended = run(command(moved, place, RECIPE, said, "--to=card"))
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^model +reused", ended.stdout, re.MULTILINE)
    sheets = (place / "runs" / "card").glob("*/datasheet.md")
    (sheet,) = [path for path in sheets if "To tell colours" in path.read_text()]
    card = sheet.with_name("card.md").read_text()
    (line,) = re.findall(r"^tlkeras .*$", card, re.MULTILINE)
    assert f"--source=folder(path='{moved}'" in line


def test_a_version_is_a_folder_that_tensorflow_serving_loads(pushed):
    from tlkeras.frameworks import tf

    place, _ = pushed
    version = place / "saved_models" / "colours" / "1"
    assert {path.name for path in version.iterdir()} >= {"saved_model.pb", "variables"}
    assert (version / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 100
    # A version may be moved: the links are within it.
    assert not (version / "saved_model.pb").readlink().is_absolute()
    loaded = tf.saved_model.load(str(version))
    served = loaded.signatures["serving_default"](image=tf.zeros([1, 24, 28, 3], tf.uint8))
    assert served["label"].numpy()[0] in (b"blue", b"green", b"red")


def test_a_second_equal_run_does_nothing_and_imports_no_tensorflow(pushed, pictures):
    place, _ = pushed
    ended, modules = imported(command(pictures, place, RECIPE))
    told = {line.split()[0]: line.split()[1] for line in ended.stdout.splitlines() if "   " in line}
    steps = ("examples", "statistics", "schema", "anomalies", "model", "evaluation", "exports")
    assert {told[step] for step in steps} == {"reused"}
    assert not modules & {
        "tensorflow",
        "keras",
        "sklearn",
        "scipy",
        "matplotlib",
        "cv2",
        "apache_beam",
    }
    assert [p.name for p in (place / "saved_models" / "colours").glob("[0-9]*")] == ["1"]


def test_pictures_are_read_and_written_without_tensorflow(pushed, pictures):
    place, _ = pushed
    other = "--split=split(test=4)"
    ended, modules = imported(command(pictures, place, RECIPE, other, "--to=examples"))
    assert "examples" in ended.stdout and "PIL" in modules
    assert not modules & {"tensorflow", "keras", "sklearn", "scipy", "matplotlib", "cv2"}


def test_a_command_imports_with_keras_only_what_it_uses():
    used = "frameworks.is_command = True; frameworks.keras.Model; import sys; print(*sys.modules)"
    ended = run([sys.executable, "-c", f"from tlkeras import frameworks; {used}"])
    modules = {name.partition(".")[0] for name in ended.stdout.split()}
    assert {"tensorflow", "keras"} <= modules
    assert not modules & {"sklearn", "scipy", "matplotlib", "cv2"}


def test_what_keras_was_spared_can_be_imported_afterwards():
    spared = "frameworks.is_command = True; frameworks.keras.Model; import sklearn.base, scipy"
    ended = run([sys.executable, "-c", f"from tlkeras import frameworks; {spared}"])
    assert ended.returncode == 0, ended.stderr


def test_keras_on_another_backend_is_refused_in_one_line(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    ended = run(command(pictures, tmp_path))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith("on TensorFlow: set KERAS_BACKEND=tensorflow.")
    assert "Traceback" not in ended.stderr


def test_keras_on_another_backend_is_refused_behind_an_import_of_tensorflow_too(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    first = "import tensorflow; from tlkeras.frameworks import keras; keras.Model"
    ended = run([sys.executable, "-c", first])
    assert ended.stderr.splitlines()[-1].endswith("on TensorFlow: set KERAS_BACKEND=tensorflow.")


@pytest.mark.slow
def test_only_a_command_keeps_from_the_collector_what_there_was_before():
    held = "frameworks.keras.Model; import gc; print(gc.isenabled(), gc.get_freeze_count() > 0)"
    told = [
        run([sys.executable, "-c", f"from tlkeras import frameworks; {begun}{held}"]).stdout.split()
        for begun in ("", "frameworks.is_command = True; ")
    ]
    assert told == [["True", "False"], ["True", "True"]]


def test_a_removed_version_is_pushed_again(pushed, pictures):
    place, _ = pushed
    version = place / "saved_models" / "colours" / "1"
    version.rename(place / "taken")
    ended = run(command(pictures, place, RECIPE))
    assert ended.returncode == 0, ended.stderr
    assert (version / "model.tflite").read_bytes() == (place / "taken/model.tflite").read_bytes()


def test_a_model_below_its_bound_is_not_pushed(pushed, pictures):
    place, _ = pushed
    bad = "--recipe=fine_tune(phases=[phase(epochs=1, learning_rate=1e-9)])"
    flags = (bad, "--lower_bound=1", "--baseline=none")
    ended = run(command(pictures, place, *flags, "--name=strict"))
    assert ended.returncode == 2
    assert "is below the lower bound 1.0000" in ended.stderr
    assert "balanced accuracy" in ended.stdout  # The measures are shown all the same.
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not (place / "saved_models" / "strict").exists()
    ended = run(command(pictures, place, *flags, "--to=evaluation"))
    assert ended.returncode == 2 and "is below the lower bound 1.0000" in ended.stderr


def test_a_bound_on_the_wrong_side_is_one_clear_message(pushed, pictures):
    place, _ = pushed
    ended = run(command(pictures, place, RECIPE, "--upper_bound=0.1"))
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "--upper_bound=0.1: of accuracy, the primary measure of classification" in ended.stderr
    assert "give --lower_bound" in ended.stderr


@pytest.mark.slow
def test_kinds_of_tflite_are_proven_and_pushed_side_by_side(pushed, pictures):
    place, _ = pushed
    kinds = "--exporters=tflite|tflite(quantize='float16')|tflite(quantize='int8')"
    # One of these few pictures is worth points.
    flags = (kinds, "--max_export_drop=1", "--baseline=none", "--name=kinds")
    ended = run(command(pictures, place, RECIPE, *flags))
    assert ended.returncode == 0, ended.stderr
    version = place / "saved_models" / "kinds" / "1"
    rows = {line.split()[0]: line.split() for line in ended.stdout.splitlines() if "tflite" in line}
    for name in ("model.tflite", "model_float16.tflite", "model_int8.tflite"):
        assert rows[name][1] == f"{(version / name).stat().st_size:,}"
        assert rows[name][-1] == "yes"
    report = (version / "report.html").read_text()
    assert "model_int8.tflite" in report
    assert "median ms on 2 threads" in report


@pytest.mark.slow
def test_a_model_worse_than_the_last_pushed_one_is_not_pushed(pictures, tmp_path):
    exporters = "--exporters=saved_model"
    good = "--recipe=fine_tune(phases=[phase(epochs=8, learning_rate=0.01)])"
    ended = run(command(pictures, tmp_path, good, exporters))
    assert ended.returncode == 0, ended.stderr
    bad = "--recipe=fine_tune(phases=[phase(epochs=1, learning_rate=1e-9)])"
    ended = run(command(pictures, tmp_path, bad, exporters))
    assert ended.returncode == 2, ended.stdout
    assert "of colours/1 by" in ended.stderr
    ended = run(command(pictures, tmp_path, bad, exporters, "--baseline=none"))
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "saved_models" / "colours" / "2").is_dir()


@pytest.mark.slow
def test_a_run_killed_in_the_second_phase_ends_like_an_unbroken_one(pictures, tmp_path):
    recipe = "--recipe=fine_tune(phases=[phase(epochs=2), phase(epochs=40, unfreeze=0.2)])"
    ended = run(command(pictures, tmp_path / "unbroken", recipe, "--to=model"))
    assert ended.returncode == 0, ended.stderr

    broken = command(pictures, tmp_path / "broken", recipe, "--to=model")
    process = subprocess.Popen(broken, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    runs = tmp_path / "broken" / "runs" / "model"
    state = "*.partial/_scratch/phase1/state.json"
    end = time.monotonic() + 1200
    while not any(_epoch(path) for path in runs.glob(state)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = runs.glob(state)
    assert 1 <= _epoch(left) < 40

    ended = run(broken)
    assert ended.returncode == 0, ended.stderr
    models = []
    for place in ("unbroken", "broken"):
        (model,) = (p for p in (tmp_path / place / "runs/model").iterdir() if p.suffix == "")
        models.append({path.name: path.read_bytes() for path in model.iterdir()})
        assert len(json.loads(models[-1]["logs.json"])) == 42
    for name in ("logs.json", "model.keras", "model.json"):
        assert models[0][name] == models[1][name]


def _epoch(state):
    return json.loads(state.read_text())["epoch"]


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """Folders that a user should not have given."""
    folder = tmp_path_factory.mktemp("strange")
    (folder / "empty").mkdir()
    whole = draw(folder / "whole", 6)
    (folder / "one").mkdir()
    (whole / "red").rename(folder / "one" / "red")
    draw(folder / "broken", 6)
    (folder / "broken" / "red" / "000.png").write_bytes(b"\x89PNG")
    (folder / "hollow" / "red").mkdir(parents=True)
    draw(folder / "hollow" / "more", 1)
    return folder


@pytest.mark.parametrize(
    ("source", "backbone", "task"),
    [
        (Embedded(), "starter", "classification"),
        (Embedded(data="notes"), "starter_text", "classification"),
        (Embedded(data="notes", target="pair"), "starter_text(input='pair')", "classification"),
        (Embedded(data="notes", target="labels"), "starter_text", "multilabel"),
        (Embedded(data="notes", target="tags"), "starter_text(input='words')", "tagging"),
    ],
)
def test_the_data_decide_on_backbone_and_task_unless_they_are_named(source, backbone, task):
    made = Config(source=source)
    assert (str(made.backbone), str(made.task)) == (backbone, task)
    assert Config().replace(source=source) == made
    own = Config(source=source, backbone=Starter(size=64), task=Classification(dropout=0.5))
    assert (own.backbone, own.task) == (Starter(size=64), Classification(dropout=0.5))
    assert own.replace(source=Embedded(data="shapes")).backbone == Starter(size=64)


@pytest.mark.parametrize("name", spec.names(Task))
def test_the_task_decides_on_the_recipe_unless_one_is_named(name):
    task = parse(name, Task)
    made = Config(task=task)
    assert made.recipe == parse(task.recipe, Recipe)
    assert Config().replace(task=task) == made
    own = Config(task=task, recipe=Prototypes())
    assert own.recipe == own.replace(task=Classification()).recipe == Prototypes()


class Odd(Source, name="odd_of_a_test"):
    """Examples of features that nothing reads."""

    key: str = "vector"

    def features(self):
        return {self.key: Numbers()}

    def classes(self):
        return ()

    def examples(self):
        yield from ()

    def fingerprint(self):
        return ""


def test_data_that_no_starter_reads_and_no_task_predicts_from_are_refused_by_flag():
    with pytest.raises(ValueError, match=r"^--backbone is missing: no starter reads 'vector'"):
        Config(source=Odd())
    with pytest.raises(
        ValueError, match=r"^--task is missing: .* vector, which no task could learn"
    ):
        Config(source=Odd(), backbone=Starter())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("embedded", "digits"),
        ("embedded(data='shapes')", "shapes"),
        ("folder(path='photos/pets/')", "pets"),
        ("csv(path='photos/eyes.tsv')", "eyes"),
        ("folder(path='.photos')", "photos"),
        ("folder(path='/')", "folder"),
        ("tfds(name='malaria:1.0.0')", "malaria"),
        ("tfds(name='caltech/small:1.0.0')", "caltech"),
    ],
)
def test_a_model_is_called_like_its_data_unless_told_otherwise(source, name):
    read, named = parse(source, Source), {"backbone": Starter(), "task": Classification()}
    assert Config(source=read, **named).name == name
    assert Config(source=read, name="own", **named).name == "own"
    assert Config().replace(source=read, **named).name == name
    assert Config(name="own").replace(source=read, **named).name == "own"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bach_size=4"], "Unknown command line flag 'bach_size'. Did you mean: batch_size"),
        (["--batch_size=0"], "--batch_size is 0, expected at least 1"),
        (["--batch_size=four"], "'four' is not a whole number"),
        (["--exporters=tflit"], "'tflit' is not an Exporter; did you mean 'tflite'?"),
        (
            ["--backbone=mobilnet_v2"],
            "'mobilnet_v2' is not a Backbone; did you mean 'mobilenet_v2'",
        ),
        (["--to=modl"], "'modl' is not a product; did you mean 'model'?"),
        (["--exporters=tflite|tflite"], "--exporters writes model.tflite more than once"),
        (["--lower_bound=90"], "--lower_bound is 90.0, expected a share from 0 to 1, or None"),
        (["--name=a/b"], "--name is 'a/b', expected a plain folder name"),
        (["--source=folder(path='{strange}/none')"], "{strange}/none"),
        (["--source=folder(path='{strange}/empty')"], "{strange}/empty"),
        (
            ["--source={strange}/one"],
            "has one class folder, 'red', and classes must be at least two",
        ),
        (["--source={strange}/broken"], "red/000.png"),
    ],
)
def test_what_a_user_writes_wrongly_is_one_clear_message(strange, tmp_path, flags, message):
    flags = [flag.format(strange=strange) for flag in flags]
    ended = run(command("unused", tmp_path, *flags))
    assert ended.returncode == 1
    assert message.format(strange=strange) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "saved_models").exists()


@pytest.mark.slow
def test_the_weights_of_another_network_are_one_clear_message(pictures, tmp_path):
    from tlkeras.backbones.applications import MobileNet

    weights = tmp_path / "mobilenet.weights.h5"
    MobileNet(weights=None, size=32, alpha=0.25).build().save_weights(weights)
    backbone = f"--backbone=mobilenet_v2(alpha=0.35, size=32, weights='{weights}')"
    ended = run(command(pictures, tmp_path, backbone, "--to=model"))
    assert ended.returncode == 1
    assert str(weights) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert any((tmp_path / "runs" / "examples").iterdir())


@pytest.mark.parametrize("words", [[], ["trainer"], ["search"]])
def test_help_imports_no_tensorflow(words):
    ended, modules = imported([sys.executable, "-m", "pipeline", *words, "--help"])
    assert " ".join(["python -m pipeline", *words]) in ended.stdout
    assert "--recipe" in ended.stdout
    assert not modules & {"tensorflow", "keras"}


def test_the_first_word_names_a_step_or_a_program():
    for word in ("evaluator", "bulk_inferrer", "few_shot", "gain", "kubeflow"):
        ended = run([sys.executable, "-m", "pipeline", word, "--help"])
        assert ended.returncode == 0 and f"python -m pipeline {word}" in ended.stdout
    ended = run([sys.executable, "-m", "pipeline", "trianer"])
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "'trianer' is no step or program; did you mean 'trainer'?\n"


def test_the_console_script_is_the_same_door():
    script = Path(sys.executable).with_name("tlkeras")
    if not script.exists():
        pytest.skip("tlkeras is not installed beside this Python")
    ended = run([str(script), "trainer", "--help"])
    assert ended.returncode == 0 and "\n  tlkeras trainer --examples=examples" in ended.stdout
