"""Episodes of few labels."""

import json

import numpy as np
import pytest
from absl import flags as absl_flags
from conftest import Tiny, Wordy

from pipeline import few_shot, flags
from pipeline.config import Config
from pipeline.few_shot import Episodes
from tlkeras import spec
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.model.transfer_model import TransferModel
from tlkeras.sources.csv import CSV
from tlkeras.sources.domains import Domains
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification
from tlkeras.training.features import Cache


def test_an_episode_has_other_examples_to_measure_on_and_the_seed_draws_it():
    labels = np.repeat(np.arange(6), 10)
    learnt, asked = few_shot.drawn(labels, ways=4, shots=3, queries=5, seed=(0, 3, 1))
    assert len({*learnt, *asked}) == 4 * 8
    shown = labels[learnt].reshape(4, 3)
    assert len({*shown[:, 0]}) == 4 and (shown == shown[:, :1]).all()
    np.testing.assert_array_equal(labels[asked].reshape(4, 5)[:, 0], shown[:, 0])
    again = few_shot.drawn(labels, ways=4, shots=3, queries=5, seed=(0, 3, 1))
    np.testing.assert_array_equal(np.concatenate([learnt, asked]), np.concatenate(again))
    other, _ = few_shot.drawn(labels, ways=4, shots=3, queries=5, seed=(0, 3, 2))
    assert not np.array_equal(learnt, other)


def test_a_target_without_labels_is_in_no_episode(tmp_path):
    rows = "\n".join(f"{'abcdefgh'[i % 8]},{i % 2}" for i in range(30))
    (tmp_path / "films.csv").write_text("text\na\nb\n")
    (tmp_path / "books.csv").write_text(f"text,label\n{rows}\n")
    source, target = CSV(tmp_path / "books.csv"), CSV(tmp_path / "films.csv", label=None)
    found = []
    for number, each in enumerate((source, Domains(source, target))):
        examples, features = tmp_path / f"examples{number}", tmp_path / f"features{number}"
        ingest.write_examples(each, Split(validation=20, test=20), examples)
        data = Data(examples, Wordy("text"), Classification())
        model = TransferModel(data.backbone, data.task, data.classes)
        summaries = few_shot._summaries(model, data, Cache(features))
        found.append((few_shot._labels(data), summaries))
    for alone, both in zip(*found, strict=True):
        assert len(alone) == 30
        np.testing.assert_array_equal(alone, both)


def test_features_beyond_float16_are_read_in_float32(data, tmp_path):
    model = TransferModel(data.backbone, data.task, data.classes)
    norm = model.body.get_layer("block4_norm")
    norm.gamma.assign(np.full(norm.gamma.shape, 1e9))
    found = few_shot._summaries(model, data, Cache(tmp_path))
    assert np.abs(found).max() > np.finfo(np.float16).max
    splits = few_shot._labelled(data)
    exact = [model.body(inputs) for split in splits for inputs, _ in data.batches(split)]
    np.testing.assert_allclose(found, np.concatenate(exact), rtol=1e-4, atol=1e3)


def test_the_interval_is_that_of_the_mean():
    mean, half = few_shot.interval(np.array([0.5, 0.7, 0.9, 0.7]))
    assert mean == pytest.approx(0.7)
    assert half == pytest.approx(1.96 * np.sqrt(0.08 / 3) / 2)


def test_every_head_is_measured_in_every_episode_and_told_in_a_table(pictures, tmp_path, capsys):
    config = Config(
        source=Folder(pictures),
        split=Split(validation=20, test=20),
        backbone=Tiny(),
        root=tmp_path,
        name="pictures",
    )
    settings = Episodes(ways=2, shots="1,5", queries=4, episodes=6)
    assert few_shot.main(config, settings) == 0
    (file,) = tmp_path.glob("few_shot/*/episodes.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(row["shots"], row["episode"]) for row in rows] == [
        (shots, number) for shots in (1, 5) for number in range(6)
    ]
    told = capsys.readouterr().out
    for name in ("probe", "prototypes_euclidean", "prototypes_cosine"):
        found = np.array([row[name] for row in rows if row["shots"] == 5])
        assert found.mean() > 0.8  # The colours of the pictures are easy.
        mean, half = few_shot.interval(found)
        assert f"{100 * mean:.2f} ± {100 * half:.2f}" in told and name.replace("_", " ") in told
    assert few_shot.main(config, settings) == 0
    assert "few_shot   reused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ({"label": "tags", "multilabel": True}, "'text', 'labels'"),
        ({"label": None, "number": "stars"}, "'text', 'number'"),
        ({"label": None}, "'text'"),
    ],
)
def test_examples_without_a_label_are_refused_before_anything_runs(fields, keys, tmp_path):
    (tmp_path / "films.csv").write_text("text,tags,stars\ngood,a b,5\nbad,a,1\n")
    config = Config(source=CSV(tmp_path / "films.csv", **fields), root=tmp_path / "runs")
    with pytest.raises(ValueError, match=rf"few_shot needs one label .* gives {keys}; use"):
        few_shot.main(config, Episodes())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("episodes(ways=4)", "ways is 4, expected at most the 3 classes"),
        (
            "episodes(ways=3, shots='20')",
            r"Class 'a' has 12 .* at least 35: 20 shots and 15 queries",
        ),
        ("episodes(ways=3, queries=12)", "Class 'a' has 12 .* at least 17: 5 shots and 12 queries"),
    ],
)
def test_more_than_the_classes_have_is_refused(settings, message):
    labels = np.repeat(np.arange(3), [12, 40, 50])
    with pytest.raises(ValueError, match=message):
        few_shot.require_enough(spec.parse(settings, Episodes), ("a", "b", "c"), labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("episodes(ways=1)", "ways is 1, expected at least 2 classes"),
        ("episodes(shots='0')", "shots is '0', expected numbers of at least 1, joined by commas"),
        ("episodes(shots='1,x')", "shots is '1,x', expected numbers of at least 1"),
        ("episodes(shots='1,1')", "shots is .*, expected each number once"),
        ("episodes(queries=0)", "queries is 0, expected at least 1"),
        ("episodes(episodes=1)", "episodes is 1, expected at least 2"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        spec.parse(settings, Episodes)


def test_settings_are_flags_beside_those_of_the_examples():
    values = absl_flags.FlagValues()
    parse = flags.parser(Config, Episodes, steps=few_shot.PIPELINE, values=values)
    config, settings = parse(["few_shot", "--ways=3", "--shots=1, 5", "--seed=2"])
    assert config == Config(seed=2) and settings == Episodes(ways=3, shots="1, 5")
    assert settings.counts == [1, 5]
