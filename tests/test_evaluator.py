"""The step that judges a model, and what else reads one."""

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from conftest import Tiny, Wordy
from toy_text import ToyText

from pipeline import baselines, product, store
from pipeline.config import Config
from pipeline.step import Step
from pipeline.steps import evaluator, exporter, infra_validator
from tlkeras import spec
from tlkeras.backbones.hub_text import Gemma
from tlkeras.data import ingest, records
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.doctor import defects, duplicates, samples, traits
from tlkeras.doctor.defects import Defect
from tlkeras.doctor.duplicates import Group
from tlkeras.exporter import Details, Origin
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import tf
from tlkeras.images.masks import nearest
from tlkeras.kind import SERVING
from tlkeras.measures import conformal, measures
from tlkeras.measures.conformal import LAC
from tlkeras.measures.measures import Gallery, Measures, Scalar, Table
from tlkeras.model import vector
from tlkeras.model.transfer_model import TransferModel
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.segmentation import Segmentation


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
    (resolved / "resolved.json").write_text(json.dumps({"version": None, "is_last": True}))
    options: dict[str, Any] = {"backbone": Tiny(), "task": Classification(), "lower_bound": None}
    options |= {"upper_bound": None, "max_drop": 0.0, "max_gap": None, "batch_size": 8, **changes}
    evaluator.evaluation.run(out, model=model, examples=recorded, resolved=resolved, **options)
    return json.loads((out / "blessing.json").read_text())


def test_the_measure_is_that_of_what_was_served(recorded: Path, model: Path, tmp_path: Path):
    blessing = evaluated(tmp_path / "out", recorded, model)
    served = np.load(tmp_path / "out" / "served" / "probabilities.npy")
    batches = Data(recorded, Tiny(), Classification()).batches("test")
    labels = np.concatenate([target.numpy() for _, target in batches]).argmax(-1)
    assert blessing["blessed"]
    assert blessing["value"] == pytest.approx((served.argmax(-1) == labels).mean())


def test_the_reference_is_of_the_examples_that_were_measured(
    recorded: Path, model: Path, tmp_path: Path
):
    evaluated(tmp_path / "out", recorded, model)
    found, data = samples.read(tmp_path / "out"), Data(recorded, Tiny(), Classification())
    counts = dict(zip(data.classes, data.info.class_counts["test"], strict=True))
    assert found.count == data.count("test") and found.words["label"] == counts
    body = TransferModel.load(model).body
    rows = np.concatenate([np.asarray(body(inputs)) for inputs, _ in data.batches("test")])
    near = np.abs(found.features[:, None] - rows.astype(np.float16)).max(axis=-1) < 0.01
    assert near.any(axis=0).all() and near.any(axis=1).all()  # In another order.


def test_a_model_out_of_its_bounds_is_not_blessed(recorded: Path, model: Path, tmp_path: Path):
    blessing = evaluated(tmp_path / "out", recorded, model, lower_bound=0.999)
    (reason,) = blessing["reasons"]
    assert not blessing["blessed"] and "below the lower bound 0.9990" in reason
    assert blessing["lower_bound"] == 0.999 and blessing["upper_bound"] is None


@pytest.mark.parametrize(
    ("value", "more", "bounds", "expected"),
    [
        (0.8, True, (0.8, None), []),
        (0.8, True, (0.9, None), ["score 0.8000 is below the lower bound 0.9000"]),
        (np.nan, True, (0.9, None), ["score nan is below the lower bound 0.9000"]),
        (8.0, False, (None, 8.0), []),
        (8.5, False, (None, 8.0), ["score 8.5000 is above the upper bound 8.0000"]),
        (8.5, False, (None, None), []),
        (4.321e-7, False, (None, 2e-7), ["score 4.321e-07 is above the upper bound 2e-07"]),
    ],
)
def test_a_value_within_its_bounds_has_no_reason_against_it(value, more, bounds, expected):
    found = Measures("score", 1, {"score": Scalar(value, more_is_better=more)})
    assert [*evaluator._out_of_bounds(found, *bounds)] == expected


@pytest.mark.parametrize(
    ("task", "bound", "message"),
    [
        ("regression", "lower_bound", "--lower_bound=0.5: of mean_absolute_error, .* less is"),
        ("multilabel", "upper_bound", "--upper_bound=0.5: of macro_f1, .* more is .*--lower_bound"),
    ],
)
def test_a_bound_on_the_wrong_side_is_refused_before_the_data_are_read(task, bound, message):
    bounds: dict[str, Any] = {bound: 0.5}
    with pytest.raises(ValueError, match=message):
        Config(source=Embedded(data="notes"), task=spec.parse(task, Task), **bounds)


def test_a_bound_on_the_wrong_side_is_refused(recorded: Path, model: Path, tmp_path: Path):
    match = "--upper_bound=0.9: of accuracy, the primary measure of classification, more is better"
    with pytest.raises(ValueError, match=match):
        evaluated(tmp_path / "out", recorded, model, upper_bound=0.9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lower_bound": 90.0}, "lower_bound is 90.0, expected a share from 0 to 1, or None"),
        ({"lower_bound": -0.1}, "lower_bound is -0.1, expected a share"),
        ({"max_drop": 2.0}, "max_drop is 2.0, expected a share from 0 to 1"),
        ({"max_export_drop": 3.0}, "max_export_drop is 3.0, expected a share from 0 to 1, or None"),
        ({"upper_bound": np.inf}, "upper_bound is inf, expected a finite float or None"),
    ],
)
def test_a_threshold_that_is_no_share_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Config(**changes)


def test_a_measure_that_the_examples_do_not_define_is_within_no_bound():
    found = Measures("perplexity", 1, {"perplexity": Scalar(0.0, None, False, False)})
    (reason,) = evaluator._out_of_bounds(found, None, 50.0)
    assert reason == "perplexity is not defined by these examples, so it is within no bound"
    assert not [*evaluator._out_of_bounds(found, None, None)]


def before(value: float, more: bool = True) -> Measures:
    return Measures("accuracy", 1, {"accuracy": Scalar(value, more_is_better=more)})


def test_a_drop_of_just_what_is_allowed_is_no_reason(
    recorded: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """0.7 is less than 0.8 - 0.1 to a computer."""
    reached = evaluated(tmp_path / "first", recorded, model)["value"]
    monkeypatch.setattr(evaluator.resolver, "read", lambda resolved: Path("models/before"))
    monkeypatch.setattr(evaluator.baselines, "require_comparable", lambda version, data: None)
    monkeypatch.setattr(evaluator, "manifest", lambda version: {"lineage": []})
    for drop in (0.1, 0.2, 0.3):
        other = before(reached + drop)
        monkeypatch.setattr(evaluator.baselines, "measured", lambda *ignored, other=other: other)
        places = (tmp_path / f"{drop}{kind}" for kind in ("just", "more"))
        just, more = (
            evaluated(place, recorded, model, max_drop=allowed)
            for place, allowed in zip(places, (drop, drop - 1e-4), strict=True)
        )
        assert just["blessed"] and not more["blessed"]
        assert (
            f"of models/before by {drop:.4f}, more than the {drop - 1e-4:.4f} of --max_drop"
            in (more["reasons"][0])
        )


def test_the_same_model_as_a_baseline_has_the_same_value(
    recorded: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    version = tmp_path / "1"
    version.mkdir()
    data = Data(recorded, Tiny(), Classification())
    SavedModel().write(TransferModel.load(model), data.singles("train"), version)
    (version / "labels.txt").write_text("".join(f"{name}\n" for name in data.classes))
    (version / "manifest.json").write_text('{"lineage": []}')
    monkeypatch.setattr(evaluator.resolver, "read", lambda resolved: version)
    blessing = evaluated(tmp_path / "out", recorded, model)
    assert blessing["baseline_value"] == pytest.approx(blessing["value"]) and blessing["blessed"]


@pytest.mark.parametrize("side", [16, 32, 64])
def test_a_baseline_of_another_size_is_measured_on_the_truth_of_the_model(
    side: int, shapes: Path, monkeypatch: pytest.MonkeyPatch
):
    data = Data(shapes, Tiny(size=32), Segmentation(width=8))
    fitted = TransferModel(data.backbone, data.task, data.classes)
    truths = np.concatenate([target.numpy() for _, target in data.batches("test")])
    count, answers = 1 + len(data.classes), iter(truths)
    expected = data.task.tally(data.classes)
    for first, truth in enumerate(truths):
        mask = _scores(nearest(truth, (side, side)), count)
        expected.add(truth[None], {"mask": tf.image.resize(mask, [32, 32]).numpy()}, first)

    def serve(values: Any) -> dict[str, Any]:
        return {"mask": _scores(nearest(next(answers), (side, side)), count)}

    monkeypatch.setattr(SavedModel, "endpoints", lambda *ignored: {SERVING: serve})
    found = evaluator.baselines.measured(Path(), fitted, data, "test")
    assert found.score.value == expected.measures().score.value
    assert (found.score.value < 1) is (side < 32)
    (table,) = (each for each in found.views if each.title == "Classes")
    assert isinstance(table, Table) and "at the 32 x 32 pixels of the answers" in table.note


def _scores(mask: np.ndarray, count: int) -> np.ndarray:
    """Returns a sure answer, [1, h, w, count]; of ignored pixels anything."""
    return np.eye(256, count, dtype=np.float32)[mask][None]


def test_the_gallery_has_the_surest_mistakes_by_their_place_in_the_split(
    recorded: Path, model: Path, tmp_path: Path
):
    evaluated(tmp_path / "out", recorded, model, batch_size=2)
    views = measures.read(tmp_path / "out").views
    (gallery,) = (each for each in views if each.title == "Mistakes")
    assert isinstance(gallery, Gallery)
    served = np.load(tmp_path / "out" / "served" / "probabilities.npy")
    data = Data(recorded, Tiny(), Classification())
    labels = np.concatenate([target.numpy() for _, target in data.batches("test")]).argmax(-1)
    wrong = np.flatnonzero(served.argmax(-1) != labels)
    surest = wrong[np.argsort(-served[wrong].max(-1), kind="stable")][:12]
    assert len(wrong) > 2
    assert [example.number for example in gallery.examples] == surest.tolist()
    for example, i in zip(gallery.examples, surest, strict=True):
        pair = f"{data.classes[labels[i]]} taken for {data.classes[served[i].argmax()]},"
        assert example.caption.startswith(pair)


def test_a_class_that_training_never_saw_is_a_reason(
    recorded: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    known = records.info(recorded)
    assert evaluated(tmp_path / "seen", recorded, model)["blessed"]
    train = (0, *known.class_counts["train"][1:])
    counts = {**known.class_counts, "train": train}
    monkeypatch.setattr(Data, "info", dataclasses.replace(known, class_counts=counts))
    (reason,) = evaluated(tmp_path / "unseen", recorded, model)["reasons"]
    assert reason == "the test split has classes without a training example: blue"
    monkeypatch.setattr(Data, "info", dataclasses.replace(known, class_counts={}))
    assert evaluated(tmp_path / "no counts", recorded, model)["blessed"]


@pytest.mark.parametrize(
    ("task", "refuses"),
    [
        ("classification", True),
        ("tagging", True),
        ("regression", False),
        ("retrieval", False),
        ("language_modeling", False),
    ],
)
def test_classes_decide_on_a_model_of_a_task_that_answers_with_classes_alone(
    task: str, refuses: bool, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    known = records.info(recorded)
    counts = {**known.class_counts, "train": (0, *known.class_counts["train"][1:])}
    monkeypatch.setattr(Data, "info", dataclasses.replace(known, class_counts=counts))
    data = Data(recorded, Tiny(), spec.parse(task, Task))
    assert bool([*evaluator._unseen(tmp_path, data, "test")]) is refuses
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "manifest.json").write_text('{"lineage": []}')
    monkeypatch.setattr(baselines, "_require_pieces", lambda version, backbone: None)
    message = "2 other classes than the 3"
    with pytest.raises(ValueError, match=message) if refuses else contextlib.nullcontext():
        baselines.require_comparable(tmp_path, data)


@pytest.mark.parametrize("shares", [1, 2])
def test_examples_that_share_groups_are_told_with_their_intervals(
    shares: int, recorded: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    known = records.info(recorded)
    groups = {name: count // shares for name, count in known.counts.items()}
    monkeypatch.setattr(Data, "info", dataclasses.replace(known, groups=groups))
    evaluated(tmp_path / "out", recorded, model, conformal=LAC(0.5))
    found, rule = measures.read(tmp_path / "out"), conformal.read(tmp_path / "out")
    note = next(view.note for view in found.views if view.title == conformal.TITLE)
    assert rule
    if shares == 1:
        assert found.groups == rule.groups == 0 and "independent" not in f"{found.remarks}{note}"
        return
    assert (found.groups, rule.groups) == (groups["test"], groups["validation"])
    assert found.remarks[0] == (
        f"These {found.count} examples are of {found.groups} groups, such as patients; intervals "
        "take them as independent and are too narrow."
    )
    assert f"they are of {rule.groups} groups, such as patients, so one split may be" in note


def test_measures_of_an_earlier_version_are_read(recorded, model, tmp_path):
    evaluated(tmp_path / "out", recorded, model)
    plain = json.loads((tmp_path / "out" / measures.FILE).read_text())
    del plain["groups"], plain["known"]
    assert measures.parsed(plain) == measures.read(tmp_path / "out")


def test_examples_that_training_knows_are_counted_in_the_measures(
    recorded: Path, model: Path, tmp_path: Path
):
    shutil.copytree(recorded, tmp_path / "examples")
    ids = {name: [] for name in ("train", "test")}
    for row in traits.read(recorded):
        ids.setdefault(row.split, []).append(row.identity)
    group = Group([ids["test"][0], ids["train"][0]], ["test", "train"], False, 0.01)
    others = Group(ids["test"][4:6], ["test", "test"], True, 0.0)
    duplicates.write(tmp_path / "examples", [group, others])
    torn = [Defect(each, "test", defects.TORN, "") for each in ids["test"][:3]]
    defects.write(tmp_path / "examples" / defects.NOTES, torn)
    evaluated(tmp_path / "out", tmp_path / "examples", model)
    found = measures.read(tmp_path / "out")
    assert found.known == 3
    assert found.remarks[0] == (
        f"Training has copies of 3 of these {found.count} examples, or others of the same group, "
        "so the measures flatter the model."
    )


def test_targets_may_be_nested(recorded: Path, tmp_path: Path):
    """What is kept and what is measured go by the first leaf of a target."""
    assert evaluator.count({"boxes": np.zeros([3, 8, 4]), "labels": np.zeros([3, 8])}) == 3
    assert evaluator.count((np.zeros([2, 1]), {"a": np.zeros([2])})) == 2
    kept = evaluator._Kept(tmp_path / "served", 5)
    for first, rows in ((0, 3), (3, 2)):
        kept.write({"a": np.full([rows, 2], first, np.uint8)}, first)
    assert np.load(tmp_path / "served" / "a.npy").tolist() == [[0, 0]] * 3 + [[3, 3]] * 2


def test_without_a_test_split_the_validation_split_is_measured_and_named(
    pictures: Path, model: Path, tmp_path: Path
):
    info = ingest.write_examples(
        Folder(pictures), Split(validation=20, test=0), tmp_path / "examples"
    )
    evaluated(tmp_path / "out", tmp_path / "examples", model)
    found = measures.read(tmp_path / "out")
    assert found.split == "validation"
    assert found.count == info.counts["validation"] > 0


@pytest.mark.parametrize(("is_alike", "is_cut"), [(True, True), (False, True), (False, False)])
def test_a_baseline_of_another_split_is_doubted_where_one_cuts(
    recorded: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_alike: bool,
    is_cut: bool,
):
    if not is_cut:
        info = dataclasses.replace(records.info(recorded), given=("train", "validation", "test"))
        monkeypatch.setattr(Data, "info", info)
    cut = records.info(recorded).split if is_alike else Split(test=0).full()
    lineage = [{"step": "examples", "asked": {"fields": {"split": {"value": cut}}}}]
    monkeypatch.setattr(evaluator.resolver, "read", lambda resolved: Path("before"))
    monkeypatch.setattr(evaluator.baselines, "require_comparable", lambda version, data: None)
    monkeypatch.setattr(evaluator, "manifest", lambda version: {"lineage": lineage})
    monkeypatch.setattr(evaluator.baselines, "measured", lambda *ignored: before(2.0))
    (reason,) = evaluated(tmp_path / "out", recorded, model)["reasons"]
    assert ("may know these very examples" in reason) is (is_cut and not is_alike)


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


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        ("cat\ndog\n", Classification().full(), "2 other classes than the 3 of the examples"),
        ("blue\ngreen\nred\n", "regression()", "by regression, not by classification, so the two"),
    ],
)
def test_a_baseline_of_other_classes_or_task_is_refused_before_anything_is_measured(
    recorded: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    labels: str,
    task: str,
    message: str,
):
    version = tmp_path / "before"
    version.mkdir()
    (version / "labels.txt").write_text(labels)
    lineage = [{"step": "model", "asked": {"fields": {"task": {"value": task}}}}]
    (version / "manifest.json").write_text(json.dumps({"lineage": lineage}))
    monkeypatch.setattr(evaluator.resolver, "read", lambda resolved: version)
    monkeypatch.delattr(evaluator, "_measured")
    with pytest.raises(ValueError, match=f"predicts {message}"):
        evaluated(tmp_path / "out", recorded, model)


@pytest.mark.parametrize(
    ("value", "fingerprint", "message"),
    [
        (Wordy(input="text").full(), "", ""),
        (Wordy(input="text", length=99).full(), "", "or another length of them"),
        (ToyText().full(), "", "rates other pieces of texts"),
        (Wordy(input="text").full(), "f00", "the files of wordy.* have changed since"),
        ("gpt2(weights='gone/')", "f00", r"pieces are not known: .*gone/.*--baseline=none"),
    ],
)
def test_a_baseline_of_other_pieces_is_refused(
    value: str, fingerprint: str, message: str, tmp_path: Path
):
    fields = {"backbone": {"value": value, "fingerprint": fingerprint}}
    lineage = [{"step": "model", "asked": {"fields": fields}}]
    (tmp_path / "manifest.json").write_text(json.dumps({"lineage": lineage}))
    expected = pytest.raises(ValueError, match=message) if message else contextlib.nullcontext()
    with expected:
        baselines._require_pieces(tmp_path, Wordy(input="text"))


def test_a_baseline_whose_model_was_removed_before_it_was_pushed_is_refused(tmp_path: Path):
    lineage = [{"step": "model", "digest": "f00"}]
    (tmp_path / "manifest.json").write_text(json.dumps({"lineage": lineage}))
    with pytest.raises(ValueError, match=r"its model was not there any more .*--baseline=none"):
        baselines._require_pieces(tmp_path, Wordy(input="text"))


def test_a_baseline_is_compared_where_another_network_reads_as_many_of_the_same_pieces(tmp_path):
    checkpoints.describe("gemma", tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    settings = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps({**settings, "rms_norm_eps": 1e-6}))
    backbone = Gemma(weights=None, configuration=tmp_path / "one", length=16)
    before = backbone.replace(configuration=tmp_path / "other")
    asked = {"value": before.full(), "fingerprint": before.fingerprint()}
    lineage = [{"step": "model", "asked": {"fields": {"backbone": asked}}}]
    (tmp_path / "manifest.json").write_text(json.dumps({"lineage": lineage}))
    baselines._require_pieces(tmp_path, backbone)
    with pytest.raises(ValueError, match="or another length of them"):
        baselines._require_pieces(tmp_path, backbone.replace(length=20))


def test_a_model_is_measured_in_float32_also_where_there_is_a_faster_one(
    recorded: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    is_rounded = tf.config.experimental.tensor_float_32_execution_enabled
    pooled, seen = vector.pooled, []

    def watched(summary: Any) -> Any:
        seen.append(is_rounded())
        return pooled(summary)

    monkeypatch.setattr(vector, "pooled", watched)
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
