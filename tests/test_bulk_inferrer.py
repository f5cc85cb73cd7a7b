"""Predictions of an export over a data set."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiny

from pipeline import bulk_inferrer, store
from pipeline.bulk_inferrer import predictions
from tlkeras.exporter import Exporter
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.exporters.tflite import TFLite
from tlkeras.frameworks import tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.classification import Classification

CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def model() -> TransferModel:
    return TransferModel(Tiny(), Classification(), CLASSES, seed=1)


@pytest.fixture(scope="module")
def version(model: TransferModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pusher leaves it."""
    out = tmp_path_factory.mktemp("version")
    samples = tf.data.Dataset.from_tensor_slices(np.zeros((1, 32, 32, 3), np.float32))
    for exporter in (SavedModel(), TFLite()):
        exporter.write(model, samples, out)
    (out / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    fields = {"backbone": {"value": Tiny().full()}, "task": {"value": Classification().full()}}
    lineage = [{"step": "examples", "asked": {"fields": {}}}]
    lineage.append({"step": "model", "asked": {"fields": fields}})
    (out / "manifest.json").write_text(json.dumps({"lineage": lineage}))
    return out


def predicted(out: Path, data: Path, exports: Path, **options: Any) -> list[dict[str, Any]]:
    out.mkdir()
    settings: dict[str, Any] = {"exporter": SavedModel(), "batch_size": 5, **options}
    predictions.run(out, exports=exports, data=data, **settings)
    return [json.loads(line) for line in (out / bulk_inferrer.FILE).read_text().splitlines()]


@pytest.mark.parametrize("exporter", [SavedModel(), TFLite()], ids=str)
def test_every_picture_of_a_folder_gets_what_the_model_predicts(
    exporter: Exporter, model: TransferModel, version: Path, pictures: Path, tmp_path: Path
):
    rows = predicted(tmp_path / "out", pictures, version, exporter=exporter)
    files = sorted(pictures.glob("*/*.png"))
    assert [row["id"] for row in rows] == [f"{file.parent.name}/{file.name}" for file in files]
    for row, expected in zip(rows, model.predict(files), strict=True):
        assert row["label"] == expected["label"]
        np.testing.assert_allclose(row["probabilities"], expected["probabilities"], atol=1e-4)
    assert (tmp_path / "out" / "labels.txt").read_text().split() == [*CLASSES]


def test_examples_get_the_predictions_of_their_pictures(
    version: Path, pictures: Path, recorded: Path, tmp_path: Path
):
    by_picture = predicted(tmp_path / "pictures", pictures, version)
    by_example = predicted(tmp_path / "examples", recorded, version)
    found = {row["id"]: row for row in by_example}
    assert len(found) == len(by_example) == len(by_picture)
    for row in by_picture:
        assert found[row["id"]]["label"] == row["label"]
        np.testing.assert_allclose(
            found[row["id"]]["probabilities"], row["probabilities"], atol=1e-5
        )


def test_the_parts_of_the_work_leave_no_trace(
    version: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    predicted(tmp_path / "one", pictures, version)
    monkeypatch.setattr(bulk_inferrer, "_PART", 5)
    predicted(tmp_path / "many", pictures, version)
    one, many = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "many")
    )
    assert one == many and one.keys() == {bulk_inferrer.FILE, "labels.txt"}


def test_a_picture_that_cannot_be_read_is_told_in_its_place(
    version: Path, pictures: Path, tmp_path: Path
):
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(pictures / "red" / "000.png", data / "a.png")
    (data / "b.jpg").write_bytes(b"no picture")
    shutil.copy(pictures / "blue" / "000.png", data / "c.png")
    (data / ".hidden.png").write_bytes(b"")
    (data / "notes.txt").write_text("no picture at all")
    (data / "folder.png").mkdir()
    (data / "z.png").symlink_to(data / "nowhere.png")
    strange = os.fsdecode(b"y\xff.png")
    shutil.copy(pictures / "blue" / "000.png", data / strange)
    first, second, third, fourth, fifth = predicted(tmp_path / "out", data, version)
    assert (fourth["id"], fifth["id"]) == (strange, "z.png")
    assert fourth["label"] == third["label"] and "No such file" in fifth["error"]
    assert (first["id"], second["id"], third["id"]) == ("a.png", "b.jpg", "c.png")
    assert set(second) == {"id", "error"} and "is none of JPEG, PNG" in second["error"]
    assert set(first) == set(third) == {"id", "label", "classes", "scores", "probabilities"}


def test_a_second_call_in_a_process_sees_what_is_there_now(
    version: Path, pictures: Path, tmp_path: Path
):
    data = tmp_path / "data"
    data.mkdir()
    for i, name in enumerate(("a.png", "b.png"), start=1):
        shutil.copy(pictures / "red" / "000.png", data / name)
        assert len(predicted(tmp_path / f"out{i}", data, version)) == i


def test_what_is_not_there_is_told(version: Path, pictures: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"There are no files in .*empty"):
        predicted(tmp_path / "first", tmp_path / "empty", version)
    partial = shutil.copytree(version, tmp_path / "partial")
    (partial / "model.tflite").unlink()
    with pytest.raises(ValueError, match=r"There is no model.tflite in .*partial"):
        predicted(tmp_path / "second", pictures, partial, exporter=TFLite())
    (partial / "manifest.json").write_text(json.dumps({"lineage": []}))
    with pytest.raises(ValueError, match="has no model in its lineage"):
        predicted(tmp_path / "third", pictures, partial)


def test_the_runner_is_in_no_key(version: Path, pictures: Path, tmp_path: Path):
    fields = {"exporter": SavedModel(), "batch_size": 32, "beam_options": ""}
    inputs = {"exports": version, "data": pictures}
    said: list[str] = []
    for runner in ("auto", "DirectRunner"):
        store.make(
            predictions, tmp_path / "out", {**fields, "beam_runner": runner}, inputs, said.append
        )
    assert said[1] == "reused" != said[0]
