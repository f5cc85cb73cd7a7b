"""Predictions of an export over a data set."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scanner
from conftest import Tiny
from PIL import Image
from toy_text import ToyText

from pipeline import batch, bulk_inferrer, product, store, validate
from pipeline.bulk_inferrer import predictions
from pipeline.explain import explanations
from tlkeras.backbone import Backbone
from tlkeras.data import workers
from tlkeras.exporter import Exporter
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.exporters.tflite import TFLite
from tlkeras.frameworks import tf
from tlkeras.kinds.image import Image as ImageKind
from tlkeras.model.transfer_model import TransferModel
from tlkeras.source import Source
from tlkeras.sources.coco import COCO
from tlkeras.sources.csv import CSV
from tlkeras.sources.dicom import DICOM
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.detection import Detection
from tlkeras.tasks.segmentation import Segmentation

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
    described(out, Classification())
    return out


def described(out: Path, task: Task, backbone: Backbone = Tiny()) -> None:  # noqa: B008
    """Writes what tells of a version's model."""
    (out / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    fields = {"backbone": {"value": backbone.full()}, "task": {"value": task.full()}}
    lineage = [{"step": "examples", "asked": {"fields": {}}}]
    lineage.append({"step": "model", "asked": {"fields": fields}})
    (out / "manifest.json").write_text(json.dumps({"lineage": lineage}))


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
    assert one == many and one.keys() == {bulk_inferrer.FILE, "labels.txt", "statistics.pb"}


@pytest.mark.parametrize("gpus", [(), ("GPU:0",)])
def test_many_parts_share_a_gpu_in_one_process(
    gpus: tuple[str, ...],
    version: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    counts: list[int] = []

    def started(job: workers.Job, count: int) -> None:
        counts.append(count)
        raise workers.Unsendable

    monkeypatch.setattr(workers, "started", started)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(bulk_inferrer, "MANY", 2)
    monkeypatch.setattr(bulk_inferrer, "_PART", 20)
    assert len(predicted(tmp_path / "out", pictures, version)) == 72
    assert len(counts) == (0 if gpus else 1)


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


def test_why_a_source_cannot_read_an_example_is_the_reason_that_is_told():
    reason = ValueError("has damaged pixels")
    with pytest.raises(ValueError, match="has damaged pixels"):
        batch._examined({"image": ImageKind()}, {"image": reason})


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


@pytest.mark.parametrize(("now", "told"), [("a", False), ("b", True), (ValueError("gone"), False)])
def test_files_of_a_backbone_that_have_changed_since_are_told(
    now: Any,
    told: bool,
    version: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
):
    def fingerprint(backbone: Tiny) -> str:
        if isinstance(now, ValueError):
            raise now
        return now

    monkeypatch.setattr(Tiny, "fingerprint", fingerprint)
    copy = shutil.copytree(version, tmp_path / "version")
    written = json.loads((copy / "manifest.json").read_text())
    written["lineage"][1]["asked"]["fields"]["backbone"]["fingerprint"] = "a"
    (copy / "manifest.json").write_text(json.dumps(written))
    bulk_inferrer.prepared(copy, SavedModel(), 5)
    assert ("The files of tiny have changed since" in capsys.readouterr().out) is told


def test_the_runner_is_in_no_key(version: Path, pictures: Path, tmp_path: Path):
    fields = {"exporter": SavedModel(), "batch_size": 32, "beam_options": ""}
    inputs = {"exports": version, "data": pictures}
    said: list[str] = []
    for runner in ("auto", "DirectRunner"):
        store.make(
            predictions, tmp_path / "out", {**fields, "beam_runner": runner}, inputs, said.append
        )
    assert said[1] == "reused" != said[0]


def test_answers_of_other_code_or_of_another_tokenizer_are_not_found(
    version: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The lineage of the version names what prepares the data; no field does."""
    fields = {"exporter": SavedModel(), "batch_size": 32}
    inputs = {"exports": version, "data": pictures}
    said: list[str] = []

    def make() -> Path:
        return store.Store(tmp_path).make(predictions, fields, inputs, said.append)

    made = make()
    assert {"backbone", "task"} <= product.manifest(made)["asked"]["fields"].keys()
    assert make() == made and said[-1] == "reused"
    with monkeypatch.context() as patch:
        patch.setattr(Tiny, "fingerprint", lambda backbone: "another tokenizer")
        assert make() != made and said[-1] != "reused"
    seen: set[str] = set()
    real = store.code.digest
    monkeypatch.setattr(store.code, "digest", lambda modules: seen.update(modules) or real(modules))
    for step in (predictions, explanations):
        seen.clear()
        store._key_content(step, {}, inputs)
        assert seen >= {Tiny.__module__, Classification.__module__}


def test_answers_about_a_table_go_by_the_source_that_reads_it(tmp_path: Path):
    (tmp_path / "new.csv").write_text("review,said\nthe good soup,yes\n")
    version = tmp_path / "version"
    version.mkdir()
    described(version, Classification(), ToyText(input="pair"))
    trained = CSV(tmp_path / "old.csv", text="review", pair="said", label="stars")
    written = json.loads((version / "manifest.json").read_text())
    written["lineage"][0]["asked"]["fields"]["source"] = {"value": trained.full()}
    (version / "manifest.json").write_text(json.dumps(written))
    inputs = {"exports": version, "data": tmp_path / "new.csv"}
    told = store._key_content(predictions, {}, inputs)["fields"]["source"]["value"]
    assert told == trained.replace(path=tmp_path / "new.csv", label=None).full()


def trained_on(source: Source, out: Path) -> Path:
    """Writes what tells of the data of a version."""
    out.mkdir(exist_ok=True)
    fields = {"source": {"value": source.full()}}
    lineage = [{"step": "examples", "asked": {"fields": fields}}]
    (out / "manifest.json").write_text(json.dumps({"lineage": lineage}))
    return out


def test_a_table_is_read_by_the_columns_of_the_training_and_needs_no_labels(tmp_path: Path):
    (tmp_path / "new.csv").write_text("review,said\nthe good soup,yes\nso bad,no\n")
    columns: dict[str, Any] = {
        "label": "stars",
        "group": "place",
        "together": "guest",
        "split_column": "part",
    }
    source = CSV(tmp_path / "old.csv", text="review", pair="said", **columns)
    version = trained_on(source, tmp_path / "version")
    new = batch.of_path(tmp_path / "new.csv", ToyText(input="pair"), version)
    rows = [one.values for one in new.between(ToyText(input="pair"), "", 0, 2)]
    assert new.counts() == {"": 2} and rows[1] == {"text": "so bad", "pair": "no"}
    (tmp_path / "new.jsonl").write_text('{"text": "so bad"}\n')
    assert batch.of_path(tmp_path / "new.jsonl", ToyText(), version).counts() == {"": 1}
    with pytest.raises(ValueError, match=r"new.csv holds no image itself; set --data to the folde"):
        batch.of_path(tmp_path / "new.csv", Tiny(), version)


def test_where_data_of_the_training_lie_and_how_they_were_cut_is_not_asked_of_others(
    tmp_path: Path,
):
    columns: dict[str, Any] = {"group": "place", "together": "guest", "split_column": "part"}
    source = CSV(tmp_path / "old.csv", text="review", label="stars", **columns)
    like = batch.like_trained(CSV(tmp_path / "new.csv"), trained_on(source, tmp_path / "version"))
    assert like == CSV(tmp_path / "new.csv", text="review", label="stars")
    source = CSV(tmp_path / "old.csv", image_folder=tmp_path, suffix=".jpg")
    like = batch.like_trained(CSV(tmp_path / "new.csv"), trained_on(source, tmp_path / "version"))
    assert like == CSV(tmp_path / "new.csv", suffix=".jpg")
    source = COCO(tmp_path / "old.json", images=tmp_path / "old", crowds=True)
    like = batch.like_trained(COCO(tmp_path / "new.json"), trained_on(source, tmp_path / "version"))
    assert like == COCO(tmp_path / "new.json", crowds=True)


def test_predictions_of_a_table_are_found_again_until_it_changes(tmp_path: Path):
    version, table = tmp_path / "version", tmp_path / "new.csv"
    version.mkdir()
    SavedModel().write(TransferModel(ToyText(), Classification(), CLASSES, seed=1), None, version)
    described(version, Classification(), ToyText())
    said: list[str] = []
    for text in ("text\nso bad\n", "text\nso bad\n", "text\nso bad\nthe soup\n"):
        table.write_text(text)
        fields = {"exporter": SavedModel(), "batch_size": 4, "novelty": False}
        inputs = {"exports": version, "data": table}
        out = tmp_path / f"out{text.count('o')}"
        store.make(predictions, out, fields, inputs, said.append)
        lines = (out / bulk_inferrer.FILE).read_text().splitlines()
        assert len(lines) == text.count("\n") - 1 and "label" in json.loads(lines[0])
    assert [each == "reused" for each in said] == [False, True, False]


@pytest.mark.parametrize("table", [None, Path("labels.csv")])
def test_scans_are_read_in_the_window_of_the_training_and_need_no_labels(
    table: Path | None, tmp_path: Path
):
    scanner.shapes(tmp_path / "new", 4)
    (tmp_path / "new/disk").rename(tmp_path / "new/2024")
    (tmp_path / "new/ring").rename(tmp_path / "new/2025")
    trained = DICOM(tmp_path / "old", window=(300, 900), frames="middle", table=table)
    version = trained_on(trained, tmp_path / "version")
    expected = DICOM(tmp_path / "new", window=(300, 900), frames="middle", label=None)
    assert batch.of_path(tmp_path / "new", Tiny(), version) == batch.Labelled(expected)
    new = validate._batch(f"{tmp_path / 'new'}", Tiny(), ["disk", "ring"], version)
    assert new == batch.Labelled(expected)
    (one, *_) = new.between(Tiny(), "", 0, 4)
    assert not one.problem and new.counts() == {"": 4}


@pytest.mark.parametrize("own", [{}, {"table": Path("t.csv"), "label": "kind", "key": "file"}])
def test_scans_in_folders_of_the_classes_are_judged_with_their_labels(own: Any, tmp_path: Path):
    scanner.shapes(tmp_path / "new", 4)
    version = trained_on(DICOM(tmp_path / "old", window=(300, 900), **own), tmp_path / "version")
    new = validate._batch(f"{tmp_path / 'new'}", Tiny(), ["disk", "ring"], version)
    assert new == batch.Labelled(DICOM(tmp_path / "new", window=(300, 900)))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Pictures of several sizes, by the path of their file."""
    random = np.random.default_rng(0)
    sizes = {"a.png": (20, 50), "b/a.png": (64, 40), "b/ü 1.png": (33, 33)}
    return {name: random.integers(0, 256, (*size, 3), np.uint8) for name, size in sizes.items()}


def of_places(task: Task, out: Path, photos: dict[str, np.ndarray]) -> tuple[Any, Path, Path]:
    """Returns a model, its version, and a folder of the pictures."""
    model, version, data = TransferModel(Tiny(), task, CLASSES, seed=1), out / "v", out / "data"
    version.mkdir()
    SavedModel().write(model, None, version)
    described(version, task)
    for name, pixels in photos.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(data / name)
    (data / "c.png").write_bytes(b"no picture")
    return model, version, data


def test_masks_are_files_of_the_size_of_the_pictures(photos, tmp_path, monkeypatch):
    model, version, data = of_places(Segmentation(width=8), tmp_path, photos)
    monkeypatch.setattr(bulk_inferrer, "_PART", 2)
    rows = {row["id"]: row for row in predicted(tmp_path / "out", data, version)}
    assert {*rows} == {*photos, "c.png"} and {*rows["c.png"]} == {"id", "error"}
    for (name, pixels), expected in zip(
        photos.items(), model.predict([*photos.values()]), strict=True
    ):
        assert rows[name] == {"id": name, "category": f"category/{name}.png"}
        with Image.open(tmp_path / "out" / rows[name]["category"]) as mask:
            assert mask.mode == "L" and mask.size == pixels.shape[1::-1]
            np.testing.assert_array_equal(np.asarray(mask), expected["category"])
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {bulk_inferrer.FILE, "labels.txt", "statistics.pb", "category"}


@pytest.mark.slow
def test_masks_of_examples_are_named_by_their_numbers(shapes, photos, tmp_path):
    _, version, _ = of_places(Segmentation(width=8), tmp_path, photos)
    rows = predicted(tmp_path / "out", shapes, version)
    counts = json.loads((shapes / "info.json").read_text())["counts"]
    expected = [f"category/{split}/{i:06d}.png" for split in counts for i in range(counts[split])]
    assert [row["category"] for row in rows] == expected
    assert all((tmp_path / "out" / name).is_file() for name in expected)


def test_boxes_are_rows_in_pixels_of_their_picture_with_names_and_scores(photos, tmp_path):
    task = Detection(most=7, width=8)
    model, version, data = of_places(task, tmp_path, photos)
    rows = {row["id"]: row for row in predicted(tmp_path / "out", data, version)}
    for name, expected in zip(photos, model.predict([*photos.values()]), strict=True):
        count = int(expected["count"])
        assert {*rows[name]} == {"id", "names", "scores", "pixels"}
        assert rows[name]["names"] == expected["names"][:count]
        np.testing.assert_allclose(rows[name]["pixels"], expected["pixels"][:count], atol=1e-3)
        np.testing.assert_allclose(rows[name]["scores"], expected["scores"][:count], atol=1e-5)
    assert len(next(iter(rows.values()))["names"]) > 0


@pytest.mark.parametrize("value", [4.3210987e-7, -3.21e-12, 0.1234567, 1990.1234567, 0.0])
def test_a_number_is_written_to_six_digits_whatever_its_unit(value, tmp_path):
    told = bulk_inferrer._written(("a", {"number": np.array([value])}), tmp_path)
    assert json.loads(json.dumps(told)) == {"number": [pytest.approx(value, rel=5e-6)]}
