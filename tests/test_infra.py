"""The check of exports, the push, and the examples in a report."""

import dataclasses
import io
import json
import shutil
import signal
import subprocess
import sys
import types
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import pytest
from conftest import COLOURS
from PIL import Image

from pipeline import flags, fresh, product
from pipeline.config import Config
from pipeline.step import NotBlessed
from pipeline.steps import evaluator, exporter, infra_validator, model_card, pusher, resolver
from tlkeras import files
from tlkeras.backbones.starter import Starter
from tlkeras.data import ingest, reading
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.exporters.tflite import TFLite
from tlkeras.measures import measures
from tlkeras.measures.measures import Example, Gallery, Measures, Scalar
from tlkeras.model.transfer_model import TransferModel
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification

ROOT = Path(__file__).parents[1]
BACKBONE, TASK = Starter(size=32), Classification()


@pytest.fixture(scope="module")
def products(recorded, tmp_path_factory):
    """Exports of an unfitted model and what Keras serves, as the steps before leave them."""
    folder = tmp_path_factory.mktemp("infra")
    data = Data(recorded, BACKBONE, TASK)
    model = TransferModel(BACKBONE, TASK, data.classes)
    exports, evaluation = folder / "exports", folder / "evaluation"
    exports.mkdir()
    (evaluation / "served").mkdir(parents=True)
    TFLite().write(model, None, exports)
    (exports / "labels.txt").write_text("".join(f"{name}\n" for name in data.classes))
    pairs = [(target.numpy(), model.served(inputs)) for inputs, target in data.batches("test")]
    served = np.concatenate([each["probabilities"] for _, each in pairs])
    np.save(evaluation / "served" / "probabilities.npy", served)
    tally = TASK.tally(data.classes)
    tally.add(np.concatenate([target for target, _ in pairs]), {"probabilities": served}, 0)
    measures.write(dataclasses.replace(tally.measures(), split="test"), evaluation)
    return {"exports": exports, "examples": recorded, "evaluation": evaluation}


def judged(products, out, max_export_drop=None, batch_size=32):
    out.mkdir()
    infra_validator.infra_blessing.run(
        out,
        **products,
        backbone=BACKBONE,
        task=TASK,
        exporters=(TFLite(),),
        max_export_drop=max_export_drop,
        batch_size=batch_size,
    )
    (row,) = json.loads((out / "infra.json").read_text())
    return row


def changed(products, tmp_path, name):
    """Returns the products with a copy of one, to be spoilt."""
    copy = tmp_path / f"changed_{name}"
    shutil.copytree(products[name], copy)
    return {**products, name: copy}


def test_an_export_is_measured_on_the_whole_test_split(products, tmp_path):
    row = judged(products, tmp_path / "out")
    assert row["primary"] == "accuracy"
    assert row["value"] == measures.read(products["evaluation"]).score.value
    assert row["difference"] < 1e-4
    assert row["agreement"] == 1
    assert row["bytes"] == (products["exports"] / "model.tflite").stat().st_size
    assert 0 < row["p50_ms"] <= row["p95_ms"]
    assert 0 < row["p50_ms_2_threads"] <= row["p95_ms_2_threads"]
    assert row["operations"]["SOFTMAX"] == 1
    assert "CONV_2D" in row["float_operations"]
    assert row["reasons"] == []


@pytest.mark.parametrize(
    ("seconds", "calls", "told"), [(0.01, 55, None), (1.0, 20, 15), (10.0, 6, 5)]
)
def test_the_timing_of_a_slow_export_ends_and_tells_of_how_many_calls_it_is(
    seconds, calls, told, monkeypatch
):
    clock = [0.0]

    def predict(inputs):
        clock.append(clock[-1] + seconds)

    monkeypatch.setattr(fresh, "time", types.SimpleNamespace(perf_counter=lambda: clock[-1]))
    monkeypatch.setattr(fresh, "_loaded", lambda *key: (None, predict))
    found = fresh._timed("tflite", Path(), 1, None)
    assert len(clock) - 1 == calls
    assert clock[-1] <= max(fresh.LONGEST, (1 + fresh.LEAST) * seconds)
    assert found["p50_ms"] == pytest.approx(1e3 * seconds)
    assert found.get("timed_calls") == told


def test_an_export_worse_than_keras_is_a_reason_and_nothing_is_pushed(products, tmp_path):
    better = changed(products, tmp_path, "evaluation")
    found = measures.read(better["evaluation"])
    scalars = {**found.scalars, "accuracy": Scalar(found.score.value + 0.05)}
    measures.write(dataclasses.replace(found, scalars=scalars), better["evaluation"])
    (reason,) = judged(better, tmp_path / "out")["reasons"]
    assert "of Keras by 0.0500, more than the allowed 0.0100 (--max_export_drop)" in reason
    with pytest.raises(
        NotBlessed, match=r"^Nothing pushed: tflite .* by 0\.0500, [^.]*0\.0100 [^.]*\.$"
    ):
        pusher.pushed.run(
            tmp_path,
            exports=products["exports"],
            evaluation=better["evaluation"],
            infra_blessing=tmp_path / "out",
            card=tmp_path,
            statistics=tmp_path,
            schema=tmp_path,
            name="colours",
            saved_models=tmp_path / "saved_models",
            sign_key=None,
        )
    assert not (tmp_path / "saved_models").exists()
    assert judged(better, tmp_path / "allowed", max_export_drop=0.06)["reasons"] == []


def test_a_push_that_fails_leaves_nothing(products, tmp_path):
    with pytest.raises(OSError, match="gone"):
        pusher._push(tmp_path / "colours", [products["exports"], tmp_path / "gone"], {})
    assert [*(tmp_path / "colours").iterdir()] == []


def test_only_the_newest_version_is_found_again_if_whole_and_of_the_same_statements(
    tmp_path, capsys
):
    made = tmp_path / "exports"
    (made / "saved_model").mkdir(parents=True)
    (made / "saved_model" / "saved_model.pb").write_bytes(b"network")
    schema = tmp_path / "schema"
    schema.mkdir()
    (schema / "schema.pbtxt").write_bytes(b"features")

    def contents(details, measured="once", bound="0.8"):
        products = {"exports": product.contents(made), "card": f"card {details}"}
        evaluation = {"metrics.json": measured, "blessing.json": bound}
        products |= {"evaluation": product.digest(evaluation)}
        exports = {"step": "exports", "asked": {}, "digest": products["exports"]}
        own = {"step": "evaluation", "asked": {}, "digest": products["evaluation"]}
        card = {"step": "card", "asked": {"fields": {"details": details}}}
        lineage = [
            {**exports, "digest": "another's", "files": {}},
            {**exports, "files": product.digests(made)},
            {**card, "digest": products["card"]},
            {**own, "files": evaluation},
        ]
        return {"name": "colours", "products": products, "lineage": lineage}

    models = tmp_path / "saved_models"
    (models / "colours" / ".partial").mkdir(parents=True)  # Of a push that was killed.
    version = pusher._push(models / "colours", [made], contents("theirs"))
    assert [path.name for path in (models / "colours").iterdir()] == ["1"]
    assert pusher._found(models, contents("theirs")) == version
    assert pusher._found(models, contents("theirs", bound="0.7")) == version
    assert pusher._found(models, contents("others")) is None
    assert pusher._found(models, contents("theirs", measured="with sets")) is None
    assert capsys.readouterr().out == ""
    (version / "saved_model" / "saved_model.pb").write_bytes(b"netw")
    assert pusher._found(models, contents("theirs")) is None
    assert "saved_model/saved_model.pb is not as it was pushed" in capsys.readouterr().out
    again = pusher._push(models / "colours", [made, schema], contents("theirs"))
    (again / "note.txt").write_text("ours")
    assert pusher._found(models, contents("theirs")) == again
    for damage in (lambda path: path.write_bytes(b"feat"), Path.unlink):
        damage(again / "schema.pbtxt")
        assert pusher._found(models, contents("theirs")) is None
        assert "schema.pbtxt is not as it was pushed" in capsys.readouterr().out
    manifest = files.read_json(again / "manifest.json")
    del manifest["files"]  # As an earlier release left it.
    files.write_json(again / "manifest.json", manifest)
    assert pusher._found(models, contents("theirs")) == again
    pusher._push(models / "colours", [made], contents("others"))
    assert pusher._found(models, contents("theirs")) is None  # A server has the others'.
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("step", [resolver.resolved, exporter.exports, model_card.card])
def test_a_step_alone_needs_the_name(step):
    texts = {"name": "", "baseline": "last", "saved_models": "models", "details": "details"}
    texts |= {"backbone": "starter", "task": "classification", "exporters": "tflite"}
    texts |= {"data_details": "data_details"}
    products = ("model", "examples", "statistics", "evaluation", "anomalies", "infra_blessing")
    texts |= dict.fromkeys(products, "x")
    with pytest.raises(ValueError, match="--name is empty; set the name"):
        flags.step_values(step, texts, Config)
    assert flags.step_values(step, {**texts, "name": "own"}, Config)[0]["name"] == "own"


@pytest.mark.parametrize("right", range(1, 100))
def test_an_export_may_lose_all_that_it_is_allowed_to(right):
    row = {"difference": 0.0, "primary": "accuracy", "value": right / 100}
    keras = Scalar((right + 1) / 100)
    assert infra_validator._reasons(TFLite(), row, keras, 0.01) == []
    assert infra_validator._reasons(TFLite(), row, keras, 0.0099) != []


def test_where_less_is_better_an_export_may_have_a_little_more():
    row = {"difference": 0.0, "primary": "perplexity", "value": 10.1}
    keras = Scalar(10.0, more_is_better=False)
    assert infra_validator._reasons(TFLite(), row, keras, 0.01) == []
    (reason,) = infra_validator._reasons(TFLite(), {**row, "value": 10.2}, keras, 0.01)
    assert "has perplexity 10.2000, worse than the 10.0000 of Keras by 0.0200" in reason
    assert infra_validator._reasons(TFLite(), {**row, "value": 9.0}, keras, 0.01) == []


def test_only_numbers_with_a_fraction_have_a_difference():
    wanted = {"mask": np.zeros([2, 4], np.uint8), "score": np.array([[0.5], [0.25]], np.float32)}
    found = {"mask": np.ones([2, 4], np.uint8), "score": np.array([[0.5], [0.5]], np.float32)}
    assert [*infra_validator._differences(wanted, found, {"score": 1.0})] == [0.25]
    nan = {**found, "score": np.full([2, 1], np.nan, np.float32)}
    assert np.isnan([*infra_validator._differences(wanted, nan, {"score": 1.0})]).all()


@pytest.mark.parametrize(
    ("values", "has_unit", "expected"),
    [
        (np.array([0.5, -0.25], np.float32), False, 1.0),  # Scores are at most 1.
        (np.array([500, -250], np.float32), False, 500.0),
        (np.array([500, -250], np.float32), True, 500.0),
        (np.array([2e-7, -4e-7], np.float32), True, 4e-7),
        (np.zeros(2, np.float32), True, 1.0),
        (np.array([7, 0], np.uint8), True, 1.0),
    ],
)
def test_differences_are_a_part_of_the_largest_number_and_of_no_less_than_1_for_scores(
    values, has_unit, expected
):
    assert infra_validator._scale(values, has_unit) == pytest.approx(expected)


def test_an_export_of_other_numbers_is_a_reason(products, tmp_path):
    other = changed(products, tmp_path, "evaluation")
    path = other["evaluation"] / "served" / "probabilities.npy"
    np.save(path, np.load(path) + np.float32(0.01))
    (reason,) = judged(other, tmp_path / "out")["reasons"]
    assert "differs from Keras by 1.0" in reason


def test_a_file_that_was_cut_off_is_one_message(products, tmp_path):
    cut = changed(products, tmp_path, "exports")
    file = cut["exports"] / "model.tflite"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"model\.tflite cannot be loaded: its .* cut off"):
        judged(cut, tmp_path / "out")


def test_labels_of_another_model_are_one_message(products, tmp_path):
    other = changed(products, tmp_path, "exports")
    (other["exports"] / "labels.txt").write_text("blue\ngreen\n")
    with pytest.raises(ValueError, match=r"labels\.txt names 2 classes.* have 3, blue, green, red"):
        judged(other, tmp_path / "out")


def test_outputs_of_another_number_are_one_message(products, tmp_path):
    other = changed(products, tmp_path, "evaluation")
    path = other["evaluation"] / "served" / "probabilities.npy"
    np.save(path, np.pad(np.load(path), ((0, 0), (0, 1))))
    match = r"cannot be measured: 'probabilities' has shape \(\d+, 3\), expected \(\d+, 4\)"
    with pytest.raises(NotBlessed, match=match):
        judged(other, tmp_path / "out")


class Here(Executor):
    """Runs in this process what the step runs in a fresh one."""

    def submit(self, function, /, *arguments, **named):
        found = Future()
        try:
            found.set_result(function(*arguments, **named))
        except ValueError as error:
            found.set_exception(error)
        return found


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(fresh, "process", Here)
    fresh._loaded.cache_clear()
    yield
    fresh._loaded.cache_clear()


def test_an_export_that_serves_no_numbers_is_named(products, tmp_path, monkeypatch, here):
    def load_on(self, out, threads):
        return lambda inputs: {"probabilities": np.full([len(inputs), 3], np.nan, np.float32)}

    monkeypatch.setattr(TFLite, "load_on", load_on)
    with pytest.raises(
        NotBlessed, match=r"^tflite serves outputs that cannot be measured: .*not finite"
    ):
        judged(products, tmp_path / "out")


@pytest.mark.parametrize("number", [2.0, np.nan])
def test_an_endpoint_of_other_numbers_is_a_reason(products, tmp_path, monkeypatch, here, number):
    values = []

    def endpoints(self, out, kinds):
        assert kinds == BACKBONE.raw()
        return {"off": lambda one: values.append(one) or {"probabilities": np.full((1, 3), number)}}

    monkeypatch.setattr(TFLite, "endpoints", endpoints)
    row = judged(products, tmp_path / "out")
    assert not row["difference"] < 1 and "differs from Keras by" in row["reasons"][0]
    # Clients send the bytes of a picture file, under the key that the backbone reads.
    assert all(one.keys() == {"image"} for one in values)
    assert all(Image.open(io.BytesIO(one["image"])).size == (28, 24) for one in values)


def test_an_endpoint_of_another_shape_is_one_message(products, tmp_path, monkeypatch, here):
    def endpoints(self, out, kinds):
        return {"off": lambda values: {"probabilities": np.zeros([1, 2], np.float32)}}

    monkeypatch.setattr(TFLite, "endpoints", endpoints)
    with pytest.raises(NotBlessed, match=r"^tflite serves other outputs at off: .*shape \(1, 2\)"):
        judged(products, tmp_path / "out")


def test_an_example_that_an_endpoint_does_not_carry_is_no_reason(
    products, tmp_path, monkeypatch, here
):
    monkeypatch.setattr(TFLite, "endpoints", lambda *_: {"text": lambda values: None})
    assert judged(products, tmp_path / "out")["reasons"] == []


@pytest.mark.parametrize(("batch_size", "expected"), [(2, 2), (64, 32)])
def test_an_export_is_judged_in_no_larger_batches_than_the_model(
    batch_size, expected, products, tmp_path, monkeypatch, here
):
    sizes, batches = [], Data.batches

    def watched(data, split):
        sizes.append(data.batch_size)
        return batches(data, split)

    monkeypatch.setattr(Data, "batches", watched)
    judged(products, tmp_path / "out", batch_size=batch_size)
    assert {*sizes} == {expected}
    measured = evaluator.measured_on(products["examples"], BACKBONE, TASK, batch_size)
    assert measured.batch_size == expected


def test_every_batch_is_compared_with_what_keras_served_for_it(
    products, tmp_path, monkeypatch, here
):
    from ai_edge_litert import interpreter

    threads = []

    class Watched(interpreter.Interpreter):
        def __init__(self, **options):
            threads.append(options.get("num_threads"))
            super().__init__(**options)

    monkeypatch.setattr(interpreter, "Interpreter", Watched)
    row = judged(products, tmp_path / "out", batch_size=4)
    value = measures.read(products["evaluation"]).score.value
    assert (row["value"], row["agreement"]) == (value, 1)
    assert row["difference"] < 1e-4
    assert threads == [1, 2, None]  # The last for `Exporter.facts`.
    other = changed(products, tmp_path, "evaluation")
    path = other["evaluation"] / "served" / "probabilities.npy"
    np.save(path, np.roll(np.load(path), 1, axis=-1))
    assert judged(other, tmp_path / "rolled")["agreement"] == 0


def test_comments_in_pictures_are_not_in_the_report(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        picture = Image.new("RGB", (200, 200), (200, 30, 30))
        picture.save(tmp_path / "photos" / name / "1.jpg", comment=b"Jane Doe")
    ingest.write_examples(
        Folder(tmp_path / "photos"), Split(validation=0, test=0), tmp_path / "examples"
    )
    (shown,) = model_card._shown(tmp_path / "examples", galleries("train", [0]), Starter()).values()
    assert isinstance(shown.content, bytes) and b"Jane Doe" not in shown.content


def galleries(split, *numbers):
    """Returns measures with a gallery of each of these lists of examples."""
    views = [Gallery("Some", [Example(number, "") for number in each]) for each in numbers]
    return Measures("accuracy", 1, {"accuracy": Scalar(0.5)}, views, split=split)


def test_the_examples_of_all_galleries_are_shown_by_their_numbers(recorded):
    ids = [row["id"].decode() for row in reading.dataset(recorded, "test").as_numpy_iterator()]
    every = [*range(len(ids))]
    shown = model_card._shown(recorded, galleries("test", every[::-1], every[:2]), Starter())
    assert {number: each.id for number, each in shown.items()} == dict(enumerate(ids))
    for each in shown.values():
        assert isinstance(each.content, bytes)
        colour = np.asarray(Image.open(io.BytesIO(each.content)), float).mean((0, 1))
        np.testing.assert_allclose(colour, COLOURS[each.id.split("/")[0]], atol=15)


def test_without_a_gallery_no_example_is_read(tmp_path, recorded):
    (tmp_path / "info.json").write_text((recorded / "info.json").read_text())
    assert model_card._shown(tmp_path, galleries("test"), Starter()) == {}


PARENT = """
import os, signal
from pipeline import fresh
print(fresh.process().submit(os.getpid).result(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_processes_of_a_killed_run_end_with_it():
    command = [sys.executable, "-c", PARENT]
    # The output ends when nobody can write to it any more.
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL and int(ended.stdout)
