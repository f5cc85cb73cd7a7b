"""The step that judges a model, and what else reads one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiny

from pipeline import product, store
from pipeline.config import Config
from pipeline.step import Step
from pipeline.steps import evaluator, exporter, infra_validator
from tlkeras import spec
from tlkeras.data import ingest, records
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.exporter import Details, Origin
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification


@pytest.fixture(scope="module")
def model(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unfitted model for the drawn pictures, as the trainer leaves it."""
    out = tmp_path_factory.mktemp("model")
    data = Data(recorded, Tiny(), Classification())
    TransferModel(data.backbone, data.task, data.classes).save(out)
    return out


def evaluated(out: Path, recorded: Path, model: Path, **changes: Any) -> dict[str, Any]:
    """Returns the blessing of a model without a baseline."""
    out.mkdir()
    resolved = out / "resolved"
    resolved.mkdir()
    (resolved / "resolved.json").write_text(json.dumps({"version": None}))
    options: dict[str, Any] = {"backbone": Tiny(), "task": Classification(), "lower_bound": 0.0}
    options |= {"max_drop": 0.0, "batch_size": 8, **changes}
    evaluator.evaluation.run(out, model=model, examples=recorded, resolved=resolved, **options)
    return json.loads((out / "blessing.json").read_text())


def test_the_measure_is_that_of_what_was_served(recorded: Path, model: Path, tmp_path: Path):
    blessing = evaluated(tmp_path / "out", recorded, model)
    served = np.load(tmp_path / "out" / "served" / "probabilities.npy")
    batches = Data(recorded, Tiny(), Classification()).batches("test")
    labels = np.concatenate([target.numpy() for _, target in batches]).argmax(-1)
    assert blessing["blessed"]
    assert blessing["value"] == pytest.approx((served.argmax(-1) == labels).mean())


def test_a_model_below_the_bound_is_not_blessed(recorded: Path, model: Path, tmp_path: Path):
    blessing = evaluated(tmp_path / "out", recorded, model, lower_bound=1.5)
    assert not blessing["blessed"] and "below the lower bound 1.5000" in blessing["reasons"][0]


def test_a_drop_of_just_what_is_allowed_is_no_reason(
    recorded: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """0.7 is less than 0.8 - 0.1 to a computer."""
    reached = evaluated(tmp_path / "first", recorded, model)["value"]
    monkeypatch.setattr(evaluator.resolver, "read", lambda resolved: Path("before"))
    monkeypatch.setattr(evaluator, "_require_classes", lambda version, data: None)
    monkeypatch.setattr(evaluator, "manifest", lambda version: {"lineage": []})
    for drop in (0.1, 0.2, 0.3):
        before = reached + drop
        monkeypatch.setattr(evaluator, "_served_by", lambda *ignored, before=before: before)
        places = (tmp_path / f"{drop}{kind}" for kind in ("just", "more"))
        just, more = (
            evaluated(place, recorded, model, max_drop=allowed)["blessed"]
            for place, allowed in zip(places, (drop, drop - 1e-4), strict=True)
        )
        assert just and not more


def test_the_same_model_as_a_baseline_has_the_same_value(
    recorded: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    version = tmp_path / "1"
    version.mkdir()
    data = Data(recorded, Tiny(), Classification())
    SavedModel().write(TransferModel.load(model), data.singles("train"), version)
    (version / "labels.txt").write_text("".join(f"{name}\n" for name in data.classes))
    monkeypatch.setattr(evaluator.resolver, "read", lambda resolved: version)
    blessing = evaluated(tmp_path / "out", recorded, model)
    assert blessing["baseline_value"] == pytest.approx(blessing["value"]) and blessing["blessed"]


def test_the_mistakes_kept_are_the_surest_by_their_place_in_the_split(
    recorded: Path, model: Path, tmp_path: Path
):
    evaluated(tmp_path / "out", recorded, model, batch_size=2)
    kept = json.loads((tmp_path / "out" / "mistakes.json").read_text())
    served = np.load(tmp_path / "out" / "served" / "probabilities.npy")
    data = Data(recorded, Tiny(), Classification())
    labels = np.concatenate([target.numpy() for _, target in data.batches("test")]).argmax(-1)
    wrong = np.flatnonzero(served.argmax(-1) != labels)
    surest = wrong[np.argsort(-served[wrong].max(-1), kind="stable")][: evaluator.SHOWN]
    assert len(wrong) > 2
    assert [(each["index"], each["label"], each["predicted"]) for each in kept] == [
        (i, data.classes[labels[i]], data.classes[served[i].argmax()]) for i in surest
    ]


def test_without_a_test_split_the_validation_split_is_measured_and_told(
    pictures: Path, model: Path, tmp_path: Path
):
    told = ingest.write_examples(
        Folder(pictures), Split(validation=20, test=0), tmp_path / "examples"
    )
    evaluated(tmp_path / "out", tmp_path / "examples", model)
    measures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert measures["split"] == "validation"
    assert measures["count"] == told.counts["validation"] > 0


@pytest.mark.parametrize("is_alike", [True, False])
def test_a_baseline_of_another_split_is_told(
    recorded: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_alike: bool
):
    cut = records.info(recorded).split if is_alike else Split(test=0).full()
    lineage = [{"step": "examples", "asked": {"fields": {"split": {"value": cut}}}}]
    monkeypatch.setattr(evaluator.resolver, "read", lambda resolved: Path("before"))
    monkeypatch.setattr(evaluator, "_require_classes", lambda version, data: None)
    monkeypatch.setattr(evaluator, "manifest", lambda version: {"lineage": lineage})
    monkeypatch.setattr(evaluator, "_served_by", lambda *ignored: 2.0)
    (reason,) = evaluated(tmp_path / "out", recorded, model)["reasons"]
    assert ("may know these very examples" in reason) is not is_alike


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": Tiny(size=48)}, r"of the backbone tiny, not tiny\(size=48\) .* Give"),
        ({"task": Classification(dropout=0.5)}, "of the task classification, not"),
    ],
)
def test_another_model_than_the_flags_say_is_refused(
    recorded: Path, model: Path, tmp_path: Path, changes: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        evaluated(tmp_path / "out", recorded, model, **changes)


def test_a_model_of_other_classes_is_refused(recorded: Path, tmp_path: Path):
    (tmp_path / "model").mkdir()
    other = TransferModel(Tiny(), Classification(), ("red", "green", "blue"))
    other.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"of the classes .*red.*, not .*blue"):
        evaluated(tmp_path / "out", recorded, tmp_path / "model")


@pytest.mark.parametrize(
    "step",
    [evaluator.evaluation, exporter.exports, infra_validator.infra_blessing],
    ids=lambda step: step.name,
)
def test_the_code_of_backbone_and_task_is_in_the_key(step: Step, monkeypatch: pytest.MonkeyPatch):
    """A mended measure is measured again, though the model is the same to the byte."""
    read: set[str] = set()
    monkeypatch.setattr(store.code, "digest", lambda modules: read.update(modules) or "")
    config, known = Config(), spec.fields(Config)
    store._key_content(
        step, {name: getattr(config, name) for name in step.read if name in known}, {}
    )
    assert {"tlkeras.tasks.classification", "tlkeras.backbones.starter"} <= read


def test_a_baseline_of_other_classes_is_refused_before_anything_is_measured(
    recorded: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = tmp_path / "before"
    before.mkdir()
    (before / "labels.txt").write_text("cat\ndog\n")
    monkeypatch.setattr(evaluator.resolver, "read", lambda resolved: before)
    monkeypatch.delattr(evaluator, "_served")
    with pytest.raises(ValueError, match=r"predicts 2 other classes than the 3 of the examples"):
        evaluated(tmp_path / "out", recorded, model)


def test_a_model_is_measured_in_float32_also_where_there_is_a_faster_one(
    recorded: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    is_rounded = tf.config.experimental.tensor_float_32_execution_enabled
    served, seen = TransferModel.served, []

    def watched(self: TransferModel, inputs: Any) -> Any:
        seen.append(is_rounded())
        return served(self, inputs)

    monkeypatch.setattr(TransferModel, "served", watched)
    evaluated(tmp_path / "out", recorded, model)
    assert is_rounded() and set(seen) == {False}


def test_exports_are_given_training_pictures_and_where_they_come_from(
    recorded: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given: list[Any] = []
    monkeypatch.setattr(SavedModel, "write", lambda exporter, *values: given.extend(values))
    (tmp_path / "blessing.json").write_text('{"blessed": true}')
    task, details = Classification(), Details(authors="Ada")
    exporter.exports.run(
        tmp_path, model=model, examples=recorded, evaluation=tmp_path, backbone=Tiny(), task=task,
        exporters=(SavedModel(),), name="colours", details=details,
    )  # fmt: skip
    _, samples, _, origin = given
    assert origin == Origin("colours", product.contents(model), details)
    train = Data(recorded, Tiny(), task).singles("train")
    np.testing.assert_array_equal(next(iter(samples)), next(iter(train)))
