"""What transfer adds where labels are few."""

import json

import numpy as np
import pytest
from conftest import Tiny, weights_of

from pipeline import gain
from tlkeras import examples
from tlkeras.data import Data
from tlkeras.model import TransferModel
from tlkeras.sources.folder import Folder
from tlkeras.splits import Split
from tlkeras.tasks.classification import Classification


def test_few_are_so_many_of_every_class_and_the_seed_chooses_them(recorded, monkeypatch):
    monkeypatch.setattr(gain, "LABELS", 3)
    inputs, labels = gain.few(Data(recorded, Tiny(), Classification(), seed=0))
    assert np.bincount(labels).tolist() == [3, 3, 3] and inputs.shape == (9, 32, 32, 3)
    again, _ = gain.few(Data(recorded, Tiny(), Classification(), seed=0))
    other, _ = gain.few(Data(recorded, Tiny(), Classification(), seed=1))
    np.testing.assert_array_equal(inputs, again)
    assert not np.array_equal(inputs, other)


def test_training_from_scratch_begins_anew_and_learns(data):
    model = TransferModel(Tiny(), Classification(), data.classes, seed=0).full
    before = weights_of(model)
    pictures, labels = gain.few(data)
    fresh = gain.from_scratch(model, pictures, labels, seed=0)
    for name, weights in weights_of(model).items():
        np.testing.assert_array_equal(weights, before[name])
    assert (fresh.predict_on_batch(pictures).argmax(-1) == labels).mean() > 0.9


def test_both_are_measured_on_examples_that_neither_saw(recorded, tmp_path, monkeypatch):
    learnt = []
    monkeypatch.setattr(gain, "from_scratch", lambda model, *given: learnt.append(given) or model)
    gain.gain.run(tmp_path, examples=recorded, backbone=Tiny(), seed=0)
    told = json.loads((tmp_path / "gain.json").read_text())
    assert told["split"] == "test" and told["labels"] == len(learnt[0][1]) <= 3 * gain.LABELS
    data = Data(recorded, Tiny(), Classification())
    untrained = TransferModel(Tiny(), Classification(), data.classes, 0).full
    hits = [
        (untrained.predict_on_batch(x).argmax(-1) == y.argmax(-1)).sum()
        for x, y in data.batches("test").as_numpy_iterator()
    ]
    assert told["scratch"] == pytest.approx(sum(hits) / data.count("test"))
    assert told["transfer"] > 0.5  # Colours are told apart by any features.


def test_data_without_a_test_is_refused(pictures, tmp_path):
    examples.write(Folder(pictures), Split(validation=0, test=0), tmp_path / "examples")
    with pytest.raises(ValueError, match="neither a test nor a validation split"):
        gain.gain.run(tmp_path, examples=tmp_path / "examples", backbone=Tiny(), seed=0)
