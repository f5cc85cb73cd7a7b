"""Answers that a classifier does not give: the label, the curve, the exports."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiny
from test_bulk_inferrer import described, predicted
from test_metadata import embedded

from tlkeras.data.batches import Data
from tlkeras.exporter import Origin
from tlkeras.exporters.browser import _shown
from tlkeras.exporters.keras import Keras
from tlkeras.exporters.onnx import ONNX
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.exporters.tflite import TFLite
from tlkeras.frameworks import tf
from tlkeras.measures.abstention import Abstention
from tlkeras.measures.classification import ClassificationTally
from tlkeras.measures.conformal import LAC, Sets
from tlkeras.measures.measures import Curve, share
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.classification import Classification

CLASSES = ("blue", "green", "red")

# By hand: at 0.9 one of one is right, at 0.8 two of three, at 0.5 three of four, at 0.4 three of 5.
SURE = np.array([0.5, 0.8, 0.9, 0.4, 0.8])
RIGHT = np.array([True, False, True, False, True])


def test_the_area_is_the_mean_risk_over_the_coverages():
    found = Abstention(0.0)
    found.add(SURE[:2], RIGHT[:2])
    found.add(SURE[2:], RIGHT[2:])
    scalars = found.scalars()
    expected = (1 * 0 + 2 * (1 / 3) + 1 * (1 / 4) + 1 * (2 / 5)) / 5
    assert scalars["risk_coverage_area"].value == pytest.approx(expected)
    assert not scalars["risk_coverage_area"].more_is_better
    assert scalars["accuracy_at_80_coverage"] == share(3, 4)
    assert scalars.keys() == {"risk_coverage_area", "accuracy_at_80_coverage"}
    points = [[0.2, 1.0], [0.6, 2 / 3], [0.8, 0.75], [1.0, 0.6]]
    (line,) = found.view().series.values()
    np.testing.assert_allclose(line, points)


@pytest.mark.parametrize(
    ("threshold", "answered", "right"), [(0.8, 3, 2), (0.81, 1, 1), (0.1, 5, 3), (0.95, 0, 0)]
)
def test_a_threshold_answers_what_is_as_sure(threshold, answered, right):
    found = Abstention(threshold)
    found.add(SURE, RIGHT)
    scalars, view = found.scalars(), found.view()
    assert scalars["answered"] == share(answered, 5)
    expected = share(right, answered) if answered else None
    assert scalars.get("accuracy_of_answered") == expected
    ((place, _), (other, _)) = view.series[f"abstain below {threshold:g}"]
    assert place == other == answered / 5
    assert f"{answered / 5:.1%} of the examples get an answer" in view.note


def test_equally_sure_predictions_are_answered_together_whatever_their_order():
    found = []
    for order in (np.arange(5), np.arange(5)[::-1]):
        each = Abstention(0.0)
        each.add(np.full(5, 0.5), RIGHT[order])
        found.append(each.scalars())
    assert found[0] == found[1] and found[0]["risk_coverage_area"].value == pytest.approx(0.4)


def test_a_plain_tally_shows_none_of_it():
    probabilities = np.array([[0.7, 0.3], [0.4, 0.6]])
    found = {}
    for threshold in (None, 0.0, 0.65):
        tally = ClassificationTally(("a", "b"), threshold)
        tally.add(np.eye(2), {"probabilities": probabilities}, 0)
        found[threshold] = tally.measures()
    more = found[0.65].scalars.keys() - found[None].scalars.keys()
    assert more - found[0.0].scalars.keys() == {"answered", "accuracy_of_answered"}
    titles = {each: [view.title for view in found[each].views] for each in found}
    assert {*titles[0.0]} - {*titles[None]} == {"Accuracy by coverage"}
    assert found[0.65].scalars["accuracy"] == found[None].scalars["accuracy"]
    assert sum(isinstance(view, Curve) for view in found[0.65].views) == 2  # And the precision.


@pytest.fixture(scope="module")
def model(recorded: Path) -> TransferModel:
    """A model of chance whose logits differ by about 1 on drawn pictures."""
    made = TransferModel(Tiny(), Classification(abstain_below=0.6), CLASSES, seed=1)
    data = Data(recorded, Tiny(), Classification(), batch_size=64)
    ((inputs, _),) = data.batches("train").take(1)
    features = np.asarray(made.body(inputs))
    kernel = np.random.default_rng(0).normal(0, 1, (features.shape[1], len(CLASSES)))
    kernel /= (features @ kernel).std(axis=0)
    made.head.get_layer("logits").set_weights([kernel, -features.mean(axis=0) @ kernel])
    return made


def test_a_doubtful_answer_is_unknown_in_python_the_saved_model_and_the_bulk_inferrer(
    model: TransferModel, pictures: Path, tmp_path: Path
):
    samples = tf.data.Dataset.from_tensor_slices(np.zeros((1, 32, 32, 3), np.float32))
    SavedModel().write(model, samples, tmp_path)
    described(tmp_path, model.task)
    sets = Sets(LAC(), 0.5, 20)
    sets.write(tmp_path)
    rows = predicted(tmp_path / "out", pictures, tmp_path)
    labels = set()
    for row, expected in zip(rows, model.predict(sorted(pictures.glob("*/*.png"))), strict=True):
        best = int(np.argmax(row["probabilities"]))
        label = CLASSES[best] if row["probabilities"][best] >= 0.6 else "unknown"
        assert row["label"] == expected["label"] == label
        assert row["classes"][0] == CLASSES[best] and sorted(row["classes"]) == [*CLASSES]
        assert "novelty_p" not in row
        held = np.array(row["scores"]) >= 0.5
        assert row["set"] == np.array(row["classes"])[held].tolist()
        labels.add(row["label"])
    assert "unknown" in labels and len(labels) > 1


def test_a_class_of_that_name_is_refused_before_the_training():
    message = "abstain_below is 0.6, and the data have a class 'unknown'"
    with pytest.raises(ValueError, match=message):
        TransferModel(Tiny(), Classification(abstain_below=0.6), ("a", "unknown"))
    for threshold in (None, 0.0):
        TransferModel(Tiny(), Classification(abstain_below=threshold), ("a", "unknown"))


@pytest.mark.parametrize("threshold", [-0.1, 1.0, 60.0])
def test_a_threshold_is_a_probability(threshold):
    with pytest.raises(ValueError, match=r"classification.abstain_below is .*, expected a prob"):
        Classification(abstain_below=threshold)


@pytest.mark.slow
def test_the_metadata_of_a_tflite_file_leaves_out_what_is_lower(model: TransferModel, tmp_path):
    schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    TFLite().write(model, None, tmp_path, Origin())
    file = (tmp_path / "model.tflite").read_bytes()
    read = schema.ModelMetadataT.InitFromObj(
        schema.ModelMetadata.GetRootAs(embedded(file).tobytes())
    )
    (scores,) = read.subgraphMetadata[0].outputTensorMetadata
    (unit,) = scores.processUnits
    assert isinstance(unit.options, schema.ScoreThresholdingOptionsT)
    assert unit.options.globalScoreThreshold == pytest.approx(0.6)
    assert scores.description == b"If no score is at least 0.6, the answer is unknown."

    mediapipe = pytest.importorskip("mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    inputs = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    inputs[::2] //= 8
    expected = np.asarray(model.served(inputs.astype(np.float32))["probabilities"])
    options = vision.ImageClassifierOptions(
        BaseOptions(model_asset_path=str(tmp_path / "model.tflite"))
    )
    told = []
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for picture in inputs:
            image = mediapipe.Image(mediapipe.ImageFormat.SRGB, picture)
            found = classifier.classify(image).classifications[0].categories
            told.append([each.category_name for each in found])
    assert told == [[CLASSES[i] for i in np.flatnonzero(row >= 0.6)] for row in expected]
    assert [] in told and any(told)


def test_a_threshold_that_no_score_of_an_int8_export_reaches_is_refused_before_the_training():
    for threshold, message in ((0.996, ""), (0.997, "scores of at most 0.9961, which is below")):
        made = TransferModel(Tiny(), Classification(abstain_below=threshold), CLASSES, seed=1)
        with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
            TFLite(quantize="int8").fits(made)
        TFLite().fits(made)


@pytest.mark.parametrize("exporter", [TFLite(), ONNX(), Keras()], ids=str)
def test_the_card_says_when_scores_are_no_answer(exporter):
    said = "# The answer is unknown if no number in probabilities is at least 0.6."
    for task, expected in ((Classification(abstain_below=0.6), True), (Classification(), False)):
        (use,) = exporter.usage(Tiny(), task)
        assert (said in use.code) == expected


def test_the_page_knows_the_threshold(model: TransferModel):
    assert _shown(model)["abstains_below"] == 0.6
