"""What transfer adds where labels are few."""

import json

import numpy as np
import pytest
from absl import flags as absl_flags
from conftest import Tiny, weights_of

from pipeline import flags, gain
from pipeline.config import Config
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import keras
from tlkeras.model.transfer_model import TransferModel
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification
from tlkeras.training.trainable import trainable


def test_few_are_so_many_of_every_class_and_the_seed_chooses_them(recorded, monkeypatch):
    monkeypatch.setattr(gain, "LABELS", 3)
    inputs, labels = gain.few(Data(recorded, Tiny(), Classification(), seed=0))
    assert np.bincount(labels).tolist() == [3, 3, 3] and inputs.shape == (9, 32, 32, 3)
    again, _ = gain.few(Data(recorded, Tiny(), Classification(), seed=0))
    other, _ = gain.few(Data(recorded, Tiny(), Classification(), seed=1))
    np.testing.assert_array_equal(inputs, again)
    assert not np.array_equal(inputs, other)


def test_what_is_fresh_has_other_weights_by_the_seed_and_training_it_leaves_the_model(data):
    model = TransferModel(Tiny(), Classification(), data.classes, seed=0).full
    before = weights_of(model)
    first, again, other = (gain.fresh(model, seed) for seed in (1, 1, 2))
    kernel = next(name for name in before if name.endswith("block1_conv/kernel"))
    np.testing.assert_array_equal(weights_of(first)[kernel], weights_of(again)[kernel])
    for one in (before, weights_of(other)):
        assert not np.array_equal(weights_of(first)[kernel], one[kernel])
    gain.train(trainable(first), *gain.few(data), seed=0, steps=2)
    for name, weights in weights_of(model).items():
        np.testing.assert_array_equal(weights, before[name])


@pytest.mark.slow
def test_training_in_full_moves_every_block_and_learns(data):
    model = TransferModel(Tiny(), Classification(), data.classes, seed=0).full
    model.trainable = False
    before = weights_of(model)
    pictures, labels = gain.few(data)
    gain.train(trainable(model), pictures, labels, seed=0, steps=200)
    assert (model.predict_on_batch(pictures).argmax(-1) == labels).mean() > 0.9
    for name, weights in weights_of(model).items():
        assert "seed" in name or not np.array_equal(weights, before[name]), name


def test_both_are_trained_alike_and_measured_on_examples_that_neither_saw(
    recorded, tmp_path, monkeypatch
):
    learnt = []

    def train(trained, *given):
        learnt.append((weights_of(trained.network), given))

    monkeypatch.setattr(gain, "train", train)
    gain.gain.run(tmp_path, examples=recorded, backbone=Tiny(), seed=0)
    (transferred, (pictures, labels, *how)), (random, (others, same, *alike)) = learnt
    np.testing.assert_array_equal(pictures, others)
    np.testing.assert_array_equal(labels, same)
    assert how == alike and len(labels) <= 3 * gain.LABELS
    told = json.loads((tmp_path / "gain.json").read_text())
    assert told["split"] == "test" and told["labels"] == len(labels)
    data = Data(recorded, Tiny(), Classification())
    model = TransferModel(Tiny(), data.task, data.classes, seed=0).full
    fresh = gain.fresh(model, seed=0)
    for name, network, found in (("transfer", model, transferred), ("scratch", fresh, random)):
        for weight, values in weights_of(network).items():
            np.testing.assert_array_equal(found[weight], values, err_msg=weight)
        hits = [
            (network.predict_on_batch(x).argmax(-1) == y.argmax(-1)).sum()
            for x, y in data.batches("test").as_numpy_iterator()
        ]
        assert told[name] == pytest.approx(sum(hits) / data.count("test"))


def test_a_second_training_of_a_network_is_as_the_first_and_traces_nothing(data, monkeypatch):
    traces = []
    compute = keras.Model.compute_loss
    monkeypatch.setattr(
        keras.Model,
        "compute_loss",
        lambda *given, **more: traces.append(1) or compute(*given, **more),
    )
    model = TransferModel(Tiny(), Classification(), data.classes, seed=0).full
    start = [variable.numpy() for variable in model.variables]
    trained = trainable(model)
    pictures, labels = gain.few(data)
    ends = []
    for _ in range(2):
        for variable, value in zip(model.variables, start, strict=True):
            variable.assign(value)
        gain.train(trained, pictures, labels, seed=0, steps=3)
        ends.append(weights_of(model))
    for name, values in ends[0].items():
        np.testing.assert_array_equal(values, ends[1][name], err_msg=name)
    assert len(traces) == 1


def test_data_without_a_test_is_refused(pictures, tmp_path):
    ingest.write_examples(Folder(pictures), Split(validation=0, test=0), tmp_path / "examples")
    with pytest.raises(ValueError, match="neither a test nor a validation split"):
        gain.gain.run(tmp_path, examples=tmp_path / "examples", backbone=Tiny(), seed=0)


def test_a_flag_that_the_gain_does_not_read_is_refused(capsys):
    def read(*arguments):
        parse = flags.parser(
            Config, gain.Others, steps=gain.PIPELINE, values=absl_flags.FlagValues()
        )
        return parse(["gain", *arguments])

    assert read("--seed=3") == (Config(seed=3), gain.Others())
    with pytest.raises(SystemExit):
        read("--recipe=fine_tune")
    assert "Unknown command line flag 'recipe'" in capsys.readouterr().err


def test_data_that_are_no_pictures_are_refused_before_anything_runs(pictures, tmp_path):
    split = Split(validation=20, test=20)
    config = Config(source=Folder(pictures), split=split, root=tmp_path / "runs")
    with pytest.raises(ValueError, match=r"gain trains on shifted pictures, .* 'text' \(text\)"):
        gain.main(config, gain.Others((Embedded(data="notes", count=20),)))
    captioned = Embedded(data="shapes", target="caption", count=20)
    with pytest.raises(ValueError, match=r"gain needs one label .* gives 'image', 'caption'"):
        gain.main(config.replace(source=captioned, backbone=Tiny()), gain.Others())
    assert not (tmp_path / "runs").exists()


def test_the_gain_is_told_in_a_line_for_each_source(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gain, "train", lambda *given: None)
    split = Split(validation=20, test=20)
    config = Config(source=Folder(pictures), split=split, backbone=Tiny(), root=tmp_path)
    assert gain.main(config, gain.Others((Embedded(count=150),))) == 0
    lines = [x for x in capsys.readouterr().out.splitlines() if "Gain of transfer" in x]
    told = [json.loads(file.read_text()) for file in tmp_path.glob("gain/*/gain.json")]
    assert len(lines) == len(told) == 2
    wanted = {f"accuracy {x['transfer']:.3f} against {x['scratch']:.3f} from" for x in told}
    assert all(any(each in line for line in lines) for each in wanted)
    assert "embedded" not in lines[0] and "embedded" in lines[1]
