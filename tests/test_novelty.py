"""How unlike an example is those on which a model was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Tiny
from scipy.spatial import distance
from test_bulk_inferrer import CLASSES, described, predicted

from pipeline import bulk_inferrer
from tlkeras.doctor import novelty, samples
from tlkeras.doctor.novelty import Novelty
from tlkeras.doctor.samples import Gathering
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.exporters.tflite import TFLite
from tlkeras.measures.measures import Curve, Table
from tlkeras.model.transfer_model import TransferModel
from tlkeras.report import novelty as report
from tlkeras.tasks.classification import Classification


def drawn(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Returns rows of two clusters, of channels that depend on each other."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).normal(size=(8, 8))
    centres = 3 * np.eye(8)[random.integers(0, 2, count)]
    return (random.normal(size=(count, 8)) + centres + shift) @ mixing


def test_the_distance_is_that_of_the_nearest_directions():
    reference, rows = drawn(60, 0), drawn(7, 1)
    angles = 1 - distance.cdist(rows, reference, "cosine")  # |a - b|^2 = 2 - 2 cos.
    expected = np.sort(np.sqrt(2 - 2 * angles), axis=1)[:, : novelty.NEIGHBOURS].mean(axis=1)
    np.testing.assert_allclose(Novelty(reference).distances(rows), expected, rtol=1e-7)
    np.testing.assert_allclose(Novelty(reference).distances(9 * rows), expected, rtol=1e-7)


def test_usual_rows_have_any_share_and_strange_ones_the_least():
    known = Novelty(drawn(200, 0))
    shares = np.concatenate([known.shares(drawn(500, seed)) for seed in (1, 2)])
    for level in (0.05, 0.2, 0.5):
        assert (shares <= level).mean() == pytest.approx(level, abs=0.06)
    np.testing.assert_allclose(known.shares(drawn(20, 3, shift=-50.0)), 1 / 201)


def test_a_reference_of_few_rows_is_refused():
    with pytest.raises(ValueError, match="has 19 rows of features, at least 20 are needed"):
        Novelty(drawn(19, 0))


def test_rows_that_are_all_equal_are_no_failure():
    known = Novelty(np.ones((30, 4)))
    assert known.shares(np.ones((1, 4))).tolist() == [1.0]
    assert known.shares(np.zeros((1, 4))) == pytest.approx(1 / 31)
    assert Novelty(np.zeros((30, 4))).shares(np.zeros((1, 4))).tolist() == [1.0]


@pytest.mark.parametrize("share", [0.5, 0.2, 0.05, 0.01])
def test_beyond_a_threshold_a_row_has_at_most_that_share_and_before_it_more(share):
    known = Novelty(drawn(200, 0))
    rows = np.concatenate([drawn(300, 1), drawn(300, 2, shift=1.0)])
    threshold = known.threshold(share)
    np.testing.assert_array_equal(known.distances(rows) >= threshold, known.shares(rows) <= share)
    assert 0 < (known.distances(rows) >= threshold).mean() < 1


def views(count: int, split: str) -> tuple[Curve, Table]:
    curve, table = report.views(drawn(count, 0), split)
    assert isinstance(curve, Curve) and isinstance(table, Table)
    return curve, table


def test_the_report_shows_the_distances_of_the_reference_and_how_thresholds_were_set():
    curve, table = views(200, "validation")
    known = Novelty(drawn(200, 0))
    line, drawn_at = curve.series.values()
    for at, share in line:
        assert (known.own >= at).mean() == pytest.approx(share)
    assert {at for at, _ in drawn_at} == {known.threshold(0.05)}
    assert [share for share, _ in table.rows] == [0.5, 0.2, 0.05, 0.01]
    assert "200 examples of the validation split" in curve.note
    assert "its share of these examples" in curve.note
    # 30 rows are too few for a share of 0.01, and 19 for anything.
    assert [each is None for _, each in views(30, "test")[1].rows] == [False, False, False, True]
    assert report.views(drawn(19, 0), "test") == ()


@pytest.mark.slow
def test_every_line_says_how_usual_its_features_are(pictures: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(bulk_inferrer.judging, "judged", lambda *ignored: [])  # Needs a schema.
    model = TransferModel(Tiny(), Classification(), CLASSES, seed=1)
    version, out = tmp_path / "version", tmp_path / "out"
    version.mkdir()
    SavedModel().write(model, None, version)
    described(version, model.task)
    rows = np.random.default_rng(0).normal(size=(25, 24)).astype(np.float32)
    reference = Gathering()
    reference.add([str(i) for i in range(25)], [({}, {})] * 25, rows)
    reference.sample().write(version)
    told = predicted(out, pictures, version, novelty=True)
    files = sorted(pictures.glob("*/*.png"))
    decoded = [model.backbone.raw()["image"].given(file.read_bytes()) for file in files]
    inputs = np.stack([model.backbone.preprocess({"image": each}) for each in decoded])
    features = samples.projected(np.asarray(model.body(inputs)))
    expected = Novelty(samples.projected(rows)).shares(features)
    np.testing.assert_allclose([row["novelty_p"] for row in told], expected, atol=0.05)


def test_where_no_features_are_to_be_compared_it_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"has no reference\.npy, the features to compare with"):
        bulk_inferrer._novelty(tmp_path, SavedModel())
    np.save(tmp_path / samples.FEATURES, np.zeros((25, 4), np.float16))
    with pytest.raises(ValueError, match="tflite gives no features; use --exporter=saved_model"):
        bulk_inferrer._novelty(tmp_path, TFLite())
