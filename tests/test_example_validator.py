"""What the step finds in examples with planted defects, and what it leaves alone."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from conftest import Tiny, draw
from PIL import Image

from pipeline.steps import example_gen, example_validator, schema_gen, statistics_gen, trainer
from pipeline.store import Store
from tlkeras import hardware
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.sources.csv import CSV
from tlkeras.sources.domains import Domains
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.sources.yolo import YOLO
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.detection import Detection
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.tasks.tagging import Tagging
from tlkeras.training import features, schedule

SPLIT = Split(validation=20, test=20)
OPTIONS = {
    "backbone": Tiny(),
    "task": Classification(),
    "batch_size": 8,
    "seed": 0,
    "precision": "float32",
    "recipe": FineTune(),
    "feature_cache_gb": 1.0,
}


def examined(place, source, task, split=SPLIT, **others):
    """Returns the folders of the products up to the anomalies."""
    names = ("examples", "statistics", "schema", "anomalies")
    products = {name: place / name for name in names}
    for each in products.values():
        each.mkdir(parents=True)
    example_gen.examples.run(
        products["examples"],
        source=source,
        split=split,
        max_bad_fraction=0.1,
        quarantine=place / "quarantine",
    )
    statistics_gen.statistics.run(products["statistics"], examples=products["examples"])
    schema_gen.schema.run(products["schema"], statistics=products["statistics"])
    options = {**OPTIONS, "task": task, "features": place / "features", **others}
    given = {name: products[name] for name in names[:3]}
    example_validator.anomalies.run(products["anomalies"], **given, **options)
    return products


def defects(products):
    return json.loads((products["anomalies"] / example_validator.DEFECTS).read_text())


def ids(found, defect):
    return {each["id"] for each in found if each["defect"] == defect}


@pytest.fixture(scope="module")
def dirty(tmp_path_factory):
    """Pictures with wrong labels, a class stored as JPEG, a broken file and two copies."""
    place = tmp_path_factory.mktemp("dirty")
    folder = draw(place / "pictures", 40)
    for number in range(40):
        path = folder / "green" / f"{number:03d}.png"
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    for number in (0, 1):
        (folder / "red" / f"{number:03d}.png").rename(folder / "blue" / f"wrong{number}.png")
    (folder / "red" / "broken.png").write_bytes(b"")
    same = (folder / "red" / "005.png").read_bytes()
    (folder / "blue" / "twin.png").write_bytes(same)
    return examined(place, Folder(folder), Classification())


def test_every_planted_defect_is_in_the_list_under_its_word(dirty):
    found = defects(dirty)
    assert {each["split"] for each in found} <= {"", "train", "validation", "test"}
    judged = {f"blue/wrong{number}.png" for number in (0, 1)}
    data = Data(dirty["examples"], Tiny(), Classification())
    seen = {r for split in ("train", "validation") for r in _ids(data, split)}
    assert judged & seen
    assert judged & seen <= ids(found, "suspected label")
    assert ids(found, "mixed labels") & {"red/005.png", "blue/twin.png"}
    assert "image.format" in ids(found, "shortcut")
    assert ids(found, "empty file") == {"red/broken.png"}


def _ids(data, split):
    from tlkeras.data import records
    from tlkeras.data.records import Records

    held = Records(data.folder, split)
    return [records.values(row, data.info.features)[0] for row in held.between(0, len(held))]


def test_the_findings_are_anomalies_of_tensorflow_metadata_and_on_the_page(dirty):
    from google.protobuf import text_format

    text = (dirty["anomalies"] / example_validator.FILE).read_text()
    proto = text_format.Parse(text, statistics_gen.protos("anomalies").Anomalies())
    assert "suspected label" in proto.anomaly_info["label"].description
    assert "mixed labels" in proto.anomaly_info["label"].description
    assert "alone tells 'green'" in proto.anomaly_info["image.format"].description
    assert "empty file" in proto.anomaly_info["image"].description
    page = (dirty["anomalies"] / example_validator.PAGE).read_text()
    for word in ("Suspected label", "Mixed labels", "Shortcut", "red/broken.png"):
        assert word in page


def test_the_features_are_those_of_the_training_so_that_it_computes_none(dirty, capsys):
    backbone, task = Tiny(), Classification()
    data = Data(dirty["examples"], backbone, task, 8, 0, exact=False)
    model = TransferModel(backbone, task, data.classes, 0)
    cache = trainer.cache(dirty["examples"].parent / "features", 1.0, data)
    taps = schedule.frozen(model, data, FineTune().phases)
    assert {tap.block for tap in taps} > {"head"}
    features.at(model, data, taps, cache, "float16")
    assert "features of" not in capsys.readouterr().out


def test_a_target_without_labels_is_not_said_to_have_others_than_its_copies(tmp_path):
    pictures = sorted(draw(tmp_path / "pictures", 12).rglob("*.png"))
    rows = "\n".join(["image", *(str(each.relative_to(tmp_path)) for each in pictures)])
    (tmp_path / "target.csv").write_text(rows)
    source = Folder(tmp_path / "pictures")
    both = Domains(source, CSV(tmp_path / "target.csv", label=None))
    assert not ids(defects(examined(tmp_path / "1", both, Classification())), "mixed labels")
    other = Folder(draw(tmp_path / "other", 12))
    for each in pictures[:12]:
        shutil.copy(each, tmp_path / "other" / "red" / each.name)
    found = defects(examined(tmp_path / "2", Domains(source, other), Classification()))
    assert ids(found, "mixed labels")


def test_a_task_without_one_class_an_example_computes_no_features(tmp_path, capsys):
    made = examined(tmp_path, Embedded(data="shapes", count=20, size=32), Segmentation())
    assert not (tmp_path / "features").exists()
    assert not {"suspected label", "outlier", "shortcut"} & {e["defect"] for e in defects(made)}
    assert "not examined" not in capsys.readouterr().out


def test_a_split_without_a_labelled_example_is_told_and_stops_nothing(tmp_path):
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(3):
            picture = tmp_path / "yolo" / "images" / split / f"{split}{number}.png"
            label = tmp_path / "yolo" / "labels" / split / f"{split}{number}.txt"
            for path in (picture, label):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (20, 20, 3), np.uint8)).save(picture)
            label.write_text("0 0.5 0.5 0.2 0.2\n" if split == "train" else "")
    (tmp_path / "yolo" / "data.yaml").write_text("names: [cat]\n")
    made = examined(tmp_path, YOLO(tmp_path / "yolo"), Detection())
    (told,) = [each for each in defects(made) if each["defect"] == "missing value"]
    assert told["reason"] == "no test example of cat."


def test_labels_of_boxes_are_told_as_boxes(tmp_path):
    random = np.random.default_rng(0)
    for number in range(3):
        picture = tmp_path / "yolo" / "images" / f"{number}.png"
        label = tmp_path / "yolo" / "labels" / f"{number}.txt"
        for path in (picture, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (20, 20, 3), np.uint8)).save(picture)
        many = "".join(f"0 0.5 0.5 0.{side} 0.2\n" for side in range(10, 18))
        label.write_text(many + ("1 0.5 0.5 0.3 0.3\n" if number else ""))
    (tmp_path / "yolo" / "data.yaml").write_text("names: [cat, dog]\n")
    made = examined(tmp_path, YOLO(tmp_path / "yolo"), Detection(), Split(validation=0, test=0))
    told = {each["defect"]: each["reason"] for each in defects(made)}
    assert told["few examples"] == "fewer than 20 training boxes of 'dog' (2)."
    assert told["imbalance"].startswith("24 training boxes of 'cat' against 2 of 'dog'; consider")


def test_labels_of_words_are_told_as_words_and_no_weights_are_advised_where_a_task_has_none(
    tmp_path,
):
    made = examined(tmp_path, Embedded(data="notes", target="tags", count=120), Tagging())
    told = {each["defect"]: each["reason"] for each in defects(made)}
    counts = r"1,\d{3} training words of 'O' against \d+ of '.-\w+'\."
    assert re.fullmatch(counts, told["imbalance"]), told
    assert "training words of '" in told["few examples"]


def test_a_cache_without_room_is_told_and_stops_nothing(pictures, tmp_path, capsys):
    made = examined(tmp_path, Folder(pictures), Classification(), feature_cache_gb=0.0)
    told = "Labels and outliers are not examined: the cache has no room for the features of train."
    assert told in capsys.readouterr().out
    assert told in (made["anomalies"] / example_validator.PAGE).read_text()


def test_a_cache_with_room_has_examined_what_one_without_room_left_out(dirty, tmp_path):
    inputs = {name: dirty[name] for name in ("examples", "statistics", "schema")}
    found, store = [], Store(tmp_path / "runs")
    for room in (0.0, 1.0):
        fields = {**OPTIONS, "feature_cache_gb": room}
        made = store.make(example_validator.anomalies, fields, inputs)
        found.append(ids(defects({"anomalies": made}), "suspected label"))
    assert not found[0] and found[1] == ids(defects(dirty), "suspected label")


def test_three_examples_are_enough_for_the_step(tmp_path, capsys):
    random = np.random.default_rng(0)
    for name in ("a/1", "b/2", "b/3"):
        path = tmp_path / "few" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (20, 20, 3), np.uint8)).save(path)
    split = Split(validation=0, test=0)
    made = examined(tmp_path, Folder(tmp_path / "few"), Classification(), split)
    assert ids(defects(made), "lone class") == {"a"}
    assert "two classes of at least 10 different examples" in capsys.readouterr().out


def test_the_chief_examines_alone_while_others_wait(monkeypatch):
    monkeypatch.setattr(hardware, "_chosen", hardware._Chosen(lambda: None, 0, 4))
    with hardware.alone():
        assert hardware.part() == (0, 1) and hardware.replicas() == 1
        hardware.meet("anything")  # It waits for nobody.
    assert hardware.part() == (0, 4)
