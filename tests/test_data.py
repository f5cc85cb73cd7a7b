"""Batches, their order and what is read for them."""

import dataclasses
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiny
from PIL import Image
from sklearn.datasets import load_digits

from tlkeras.augments.colour import Color
from tlkeras.augments.mixing import MixUp
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification

pytestmark = pytest.mark.equality


def columns(batches):
    pairs = list(batches.as_numpy_iterator())
    return [np.concatenate(column) for column in zip(*pairs, strict=True)]


def test_an_epoch_holds_every_example_once_in_an_order_of_its_own(data):
    inputs, targets = columns(data.batches("train"))
    assert len(inputs) == data.count("train")
    assert data.steps("train") == -(-len(inputs) // data.batch_size)
    for epoch in (0, 1):
        order = data.order("train", epoch)
        assert sorted(order) == list(range(len(inputs)))
        shuffled, labels = columns(data.shuffled("train", epoch))
        np.testing.assert_array_equal(shuffled, inputs[order])
        np.testing.assert_array_equal(labels, targets[order])
    assert list(data.order("train", 0)) != list(data.order("train", 1))


def test_the_records_of_a_folder_are_hashed_once_and_again_when_they_change(tmp_path, monkeypatch):
    ingest.write_examples(Embedded(data="shapes", count=60), Split(), tmp_path)
    read, hashed = [], hashlib.file_digest

    def spied(file, name):
        read.append(Path(file.name).name)
        return hashed(file, name)

    monkeypatch.setattr(hashlib, "file_digest", spied)
    digests = [Data(tmp_path, Tiny(), Classification()).digest("train") for _ in range(2)]
    assert digests[0] == digests[1]
    assert sorted(read) == ["train-00000.tfrecord", "train.index.npy"]
    path = tmp_path / "train-00000.tfrecord"
    path.write_bytes(path.read_bytes()[::-1])
    assert Data(tmp_path, Tiny(), Classification()).digest("train") not in digests
    assert read[2:] == [path.name]


def test_seed_and_epoch_decide_the_order_and_the_augmentation(data):
    augments = (Color(), MixUp())

    def epoch(seed, number):
        seeded = dataclasses.replace(data, seed=seed)
        return columns(seeded.shuffled("train", number, augments))

    for first, second in zip(epoch(1, 2), epoch(1, 2), strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(epoch(1, 2)[0], epoch(1, 3)[0])
    assert not np.array_equal(epoch(1, 2)[0], epoch(2, 2)[0])


def test_seed_and_epoch_decide_how_each_example_is_augmented(data):
    def in_file_order(seed, number):
        seeded = dataclasses.replace(data, seed=seed)
        shuffled = columns(seeded.shuffled("train", number, (Color(),)))[0]
        return shuffled[np.argsort(seeded.order("train", number))]

    first = in_file_order(1, 2)
    np.testing.assert_array_equal(first, in_file_order(1, 2))
    for other in (in_file_order(1, 3), in_file_order(2, 2)):
        assert all((one != two).any() for one, two in zip(first, other, strict=True))


def test_an_example_is_augmented_by_its_place_in_the_file_not_in_the_batch(data):
    smaller = dataclasses.replace(data, batch_size=3)
    whole, parts = (columns(d.shuffled("train", 0, (Color(),))) for d in (data, smaller))
    np.testing.assert_array_equal(whole[0], parts[0])


def test_only_what_backbone_and_task_read_is_decoded(tmp_path):
    # Boxes differ in number from picture to picture and could not be batched.
    ingest.write_examples(Embedded(data="shapes", count=60), Split(), tmp_path)
    data = Data(tmp_path, Tiny(), Classification(), batch_size=16)
    inputs, targets = columns(data.batches("train"))
    assert inputs.shape == (data.count("train"), 32, 32, 3)
    assert targets.shape == (data.count("train"), len(data.classes))
    element = data._examples("train", None).element_spec
    assert set(element) == {"id", "image", "label"}


def test_singles_are_the_inputs_of_the_batches_in_the_order_of_the_seed(data):
    singles = np.stack(list(data.singles("test").as_numpy_iterator()))
    inputs = columns(data.batches("test"))[0]
    np.testing.assert_array_equal(singles, inputs[data.order("test", 0)])
    assert not np.array_equal(singles, inputs)


def test_no_batches_end_only_when_a_tuner_wakes_up(data):
    for batches in (
        data.batches("train"),
        data.shuffled("train", 0),
        data.shuffled("train", 0, (Color(), MixUp())),
        data.singles("test"),
    ):
        assert batches.options().autotune.enabled is False


def test_a_split_that_is_not_there_is_told(data):
    assert data.count("tset") == 0
    with pytest.raises(ValueError, match=r"No 'tset' in .*; did you mean 'test'"):
        data.batches("tset")


def test_large_jpegs_give_nearly_the_same_inputs_where_they_need_not_be_exact(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            coarse = Image.fromarray(random.integers(0, 255, (6, 8, 3)).astype(np.uint8))
            large = coarse.resize((640, 480), Image.Resampling.BICUBIC)
            large.save(tmp_path / "pictures" / name / f"{i}.jpg", quality=95)
    ingest.write_examples(
        Folder(tmp_path / "pictures"), Split(validation=0, test=0), tmp_path / "out"
    )
    exact = Data(tmp_path / "out", Tiny(), Classification(), batch_size=8)
    reduced = dataclasses.replace(exact, exact=False)
    assert {each["image"].shape for each in reduced._examples("train", None)} == {(240, 320, 3)}
    whole, part = (columns(data.batches("train"))[0] for data in (exact, reduced))
    assert 0 < np.abs(whole - part).max() < 3


def test_the_embedded_digits_are_those_of_scikit_learn():
    pictures, labels = load_digits(return_X_y=True)
    examples = dict(Embedded().examples())
    assert len(examples) == len(labels)
    for number in (0, 1, 1_000, len(labels) - 1):
        example = examples[f"digit-{number:04d}"]
        assert example["label"] == labels[number]
        image = np.asarray(
            Image.open(io.BytesIO(example["image"])).resize((8, 8), Image.Resampling.BOX)
        )
        assert np.corrcoef(image.ravel(), pictures[number])[0, 1] > 0.95
    assert [label for (label,) in dict(Embedded().labels()).values()] == [*labels]
