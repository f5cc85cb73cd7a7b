"""The program that explains the predictions of a pushed version."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiny
from PIL import Image
from toy_text import ToyText

from pipeline import explain
from pipeline.explain import explanations
from tlkeras.backbone import Backbone
from tlkeras.explaining import explanation
from tlkeras.exporters.keras import Keras
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.tagging import Tagging

CLASSES = ("blue", "green", "red")
WORDS = ["the", "good", "soup", "<b>was</b>", "bad"]


def version(out: Path, backbone: Backbone, task: Task) -> TransferModel:
    """Returns a model; writes it as the pusher leaves it."""
    out.mkdir()
    model = TransferModel(backbone, task, CLASSES, seed=1)
    Keras().write(model, None, out)
    (out / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    fields = {"backbone": {"value": backbone.full()}, "task": {"value": task.full()}}
    lineage = [{"step": "model", "asked": {"fields": fields}}]
    (out / "manifest.json").write_text(json.dumps({"lineage": lineage}))
    return model


def explained(out: Path, exports: Path, data: Path):
    out.mkdir()
    explanations.run(out, exports=exports, data=data, batch_size=2)
    return [json.loads(line) for line in (out / explain.FILE).read_text().splitlines()]


def size(file: Path) -> tuple[int, int]:
    with Image.open(file) as opened:
        return opened.size


def test_every_picture_gets_heat_of_its_likeliest_classes(pictures, recorded, tmp_path):
    model = version(tmp_path / "exports", Tiny(), Classification())
    data = tmp_path / "data"
    (data / "far").mkdir(parents=True)
    shutil.copy(pictures / "red" / "000.png", data / "far" / "a.png")
    (data / "b.jpg").write_bytes(b"no picture")
    Image.new("RGB", (1500, 800), "blue").save(data / "c.png")
    bad, large, first = explained(tmp_path / "out", tmp_path / "exports", data)
    assert bad["id"] == "b.jpg" and "error" in bad and "explanations" not in bad
    assert (large["id"], first["id"]) == ("c.png", "far/a.png")
    own = explanation.explainer(model, explain.MOST)
    (expected,) = own([{"image": (data / "far" / "a.png").read_bytes()}])
    assert [each["of"] for each in first["explanations"]] == [each.of for each in expected]
    for found, wanted in zip(first["explanations"], expected, strict=True):
        assert wanted.heat is not None
        np.testing.assert_allclose(found["heat"], wanted.heat, atol=1e-5)
        assert found["value"] == pytest.approx(wanted.value, abs=1e-5)
    assert [each["picture"] for each in first["explanations"]] == [
        f"heat/far/a.png.{rank}.png" for rank in range(3)
    ]
    assert size(tmp_path / "out" / "heat/far/a.png.0.png") == size(data / "far" / "a.png")
    assert size(tmp_path / "out" / "heat/c.png.0.png") == (1024, 546)
    page = (tmp_path / "out" / explain.PAGE).read_text()
    assert "far/a.png" in page and page.count("what speaks for") >= 1 and "b.jpg" not in page
    rows = explained(tmp_path / "examples", tmp_path / "exports", recorded)
    by_id = {row["id"]: row for row in rows}
    for found, wanted in zip(
        by_id["red/000.png"]["explanations"], first["explanations"], strict=True
    ):
        np.testing.assert_allclose(found["heat"], wanted["heat"], atol=1e-4)


def test_a_file_name_of_any_bytes_is_explained_under_its_id(pictures, tmp_path):
    version(tmp_path / "exports", Tiny(), Classification())
    strange = os.fsdecode(b"y\xff.png")
    (tmp_path / "data").mkdir()
    shutil.copy(pictures / "red" / "000.png", tmp_path / "data" / strange)
    (row,) = explained(tmp_path / "out", tmp_path / "exports", tmp_path / "data")
    assert row["id"] == strange
    assert all((tmp_path / "out" / each["picture"]).exists() for each in row["explanations"])


def test_every_text_gets_the_weights_of_its_words(tmp_path):
    model = version(tmp_path / "exports", ToyText(), Classification())
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.txt").write_text(" ".join(WORDS))
    (row,) = explained(tmp_path / "out", tmp_path / "exports", data)
    (expected,) = explanation.explainer(model, explain.MOST)(
        [{"text": (data / "a.txt").read_text()}]
    )
    assert len(row["explanations"]) == len(expected) == 3
    for found, wanted in zip(row["explanations"], expected, strict=True):
        assert found["of"] == wanted.of and "picture" not in found
        assert [word for word, _ in found["words"]] == WORDS
        weights = [weight for _, weight in wanted.words]
        np.testing.assert_allclose([weight for _, weight in found["words"]], weights, atol=1e-5)
    page = (tmp_path / "out" / explain.PAGE).read_text()
    assert "<mark" in page and "<b>was" not in page


def test_what_cannot_be_explained_is_told_with_what_to_do(tmp_path):
    version(tmp_path / "exports", Tiny(), Classification())
    (tmp_path / "exports" / "model.keras").unlink()
    with pytest.raises(ValueError, match=r'no model\.keras .*--exporters="saved_model\|keras"'):
        explained(tmp_path / "out", tmp_path / "exports", tmp_path)
    version(tmp_path / "tags", ToyText(input="words"), Tagging())
    (tmp_path / "tags" / "model.keras").unlink()  # To export it would be in vain.
    with pytest.raises(ValueError, match="tagging rates no whole example"):
        explained(tmp_path / "other", tmp_path / "tags", tmp_path)


def test_an_exported_network_is_the_model_again(tmp_path):
    model = version(tmp_path / "exports", Tiny(), Classification())
    again = Keras().model(tmp_path / "exports", model.backbone, model.task, CLASSES)
    inputs = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(again.full(inputs), model.full(inputs))
    assert [*again.blocks] == [*model.blocks]
    assert [*again.head.weights[0].shape] == [*model.head.weights[0].shape]
