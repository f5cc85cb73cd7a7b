"""The three models that share their variables."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SUMMANDS, Tiny, assert_near
from PIL import Image

from tlkeras import files
from tlkeras.data.batches import Data
from tlkeras.exporters.keras import Keras
from tlkeras.frameworks import keras
from tlkeras.model import block_flags, network_file
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.prototypes import Prototypes
from tlkeras.tasks.classification import Classification
from tlkeras.training.features import Cache

pytestmark = pytest.mark.equality

CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def model():
    return TransferModel(Tiny(), Classification(), CLASSES, seed=0)


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")


def test_head_after_body_is_full(model, inputs):
    whole = model.full(inputs, training=False)
    parts = model.head(model.body(inputs, training=False), training=False)
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize("block", ["block1", "block2", "block3", "block4", "head"])
def test_suffix_after_prefix_is_full(model, inputs, block):
    prefix, suffix = model.split_at(block)
    parts = suffix(prefix(inputs, training=False), training=False)
    np.testing.assert_array_equal(parts, model.full(inputs, training=False))


@pytest.mark.parametrize(
    ("unfreeze", "blocks"),
    [
        ((), []),
        ("all", ["stem", "block1", "block2", "block3", "block4"]),
        ("block3", ["block3", "block4"]),
        (("block2", "block4"), ["block2", "block4"]),
        (0.3, ["block3", "block4"]),
        (1.0, ["stem", "block1", "block2", "block3", "block4"]),
    ],
)
def test_unfreeze_names_blocks(model, unfreeze, blocks):
    assert model.chosen(unfreeze) == blocks


def test_the_trainable_flags_read_what_they_set(model):
    model.train_only(["block4"])
    assert dict(model.trainable) == {
        "stem": False, "block1": False, "block2": False, "block3": False, "block4": True
    }  # fmt: skip
    model.trainable["block2"] = True
    paths = {variable.path for variable in model.full.trainable_variables}
    assert {"block2_conv/kernel", "block4_conv/kernel", "logits/kernel"} <= paths
    assert not {path for path in paths if "norm" in path or "block1" in path}
    model.train_only([])
    assert {v.path for v in model.full.trainable_variables} == {"logits/kernel", "logits/bias"}


@pytest.mark.parametrize("batch_norm", [False, True])
def test_batch_norms_inside_of_layers_train_only_if_asked(batch_norm):
    norm: Any = keras.layers.BatchNormalization(momentum=0.99)
    block: Any = keras.Sequential([keras.layers.Dense(3, name="dense"), norm])
    block.build([None, 4])
    block_flags.set_trainable([block], True, batch_norm=batch_norm)
    block(np.ones([2, 4], np.float32), training=True)
    assert block.get_layer("dense").trainable
    assert norm.trainable == np.any(norm.moving_mean) == batch_norm
    assert norm.momentum == (0.9 if batch_norm else 0.99)


def test_the_summary_has_one_line_per_block(model):
    model.train_only(["block4"])
    lines = model.summary().splitlines()
    assert [line.split()[0] for line in lines] == ["block", *model.blocks, "head"]
    assert lines[-2].split() == ["block4", "yes", "5", f"{16 * 24 * 9 + 24 + 4 * 24:,}"]
    assert lines[-1].split() == ["head", "yes", "1", str(24 * 3 + 3)]


def test_a_saved_model_comes_back_equal_and_with_its_blocks(model, inputs, tmp_path):
    model.save(tmp_path)
    loaded = TransferModel.load(tmp_path)
    np.testing.assert_array_equal(
        loaded.full(inputs, training=False), model.full(inputs, training=False)
    )
    assert (loaded.backbone, loaded.task, loaded.classes) == (Tiny(), Classification(), CLASSES)
    names = {block: [layer.name for layer in found] for block, found in model.blocks.items()}
    assert {b: [layer.name for layer in found] for b, found in loaded.blocks.items()} == names
    np.testing.assert_array_equal(
        loaded.head(loaded.body(inputs)), model.full(inputs, training=False)
    )


def test_predict_takes_files_bytes_and_arrays(model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    found = model.predict([path, str(path), path.read_bytes(), pixels], batch_size=3)
    for one in (path, str(path), path.read_bytes(), {"image": pixels}):
        with pytest.raises(ValueError, match="is one example; pass a list of examples"):
            model.predict(one)
    assert len(found) == 4
    for one in found:
        assert_near(one["probabilities"], found[0]["probabilities"], SUMMANDS["logits"])
        assert one["label"] == CLASSES[int(np.argmax(one["probabilities"]))]


def test_the_same_seed_gives_the_same_head_and_another_does_not():
    kernels = [
        TransferModel(Tiny(), Classification(), CLASSES, seed=seed).head.get_weights()[0]
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_a_new_model_leaves_what_the_user_draws_as_it_was():
    def drawn(between):
        random.seed(1)
        np.random.seed(1)
        before = random.random(), np.random.uniform()
        between()
        return before, random.random(), np.random.uniform()

    made = lambda: TransferModel(Tiny(), Classification(), ("a", "b"), seed=7)  # noqa: E731
    assert drawn(made) == drawn(lambda: None)


def test_a_model_saved_twice_is_the_same_bytes(model, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
    first, second = (tmp_path / name / "model.keras" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("place", "name", "is_kept"),
    [(network_file, "_strip_date_and_addresses", True), (files, "write_json", False)],
)
def test_a_save_that_is_interrupted_leaves_the_model_of_before_or_none(
    place, name, is_kept, model, inputs, tmp_path, monkeypatch
):
    model.save(tmp_path)

    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        TransferModel(Tiny(), Classification(), ("a", "b"), seed=1).save(tmp_path)
    if is_kept:
        found = TransferModel.load(tmp_path)
        np.testing.assert_array_equal(found.full(inputs), model.full(inputs, training=False))
    else:
        with pytest.raises(ValueError, match=r"holds no model: there is no model\.json in it"):
            TransferModel.load(tmp_path)


def test_a_network_whose_channels_would_come_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r"data format of Keras is channels_first; .*: set it"):
            TransferModel(Tiny(), Classification(), CLASSES)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_paths_may_be_texts_and_a_folder_without_a_model_is_named(model, recorded, tmp_path):
    model.save(f"{tmp_path}/new/model")
    assert TransferModel.load(f"{tmp_path}/new/model").classes == CLASSES
    examples: Any = f"{recorded}"
    assert Data(examples, Tiny(), Classification()).count("train") > 0
    cache: Any = f"{tmp_path}/cache"
    assert Cache(cache).folder == tmp_path / "cache"
    with pytest.raises(ValueError, match=r"new holds no model: there is no model\.json in it"):
        TransferModel.load(tmp_path / "new")


def test_paths_of_the_python_api_may_begin_at_home(recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", f"{tmp_path}")
    (tmp_path / "examples").symlink_to(recorded)
    home = Path("~")
    data = Data(home / "examples", Tiny(), Classification())
    model = TransferModel(Tiny(), Classification(), data.classes)
    Prototypes().fit(model, data, home / "fit", shared=Cache(home / "cache"))
    model.save("~/work")
    Keras().write(TransferModel.load("~/work"), None, home / "fit")
    Image.new("RGB", (20, 30)).save(tmp_path / "a.png")
    assert len(model.predict(["~/a.png"])) == 1
    for made in ("cache", "fit/fit.json", "fit/model.keras", "work/model.json"):
        assert (tmp_path / made).exists()


@pytest.mark.parametrize(("field", "value"), [("seed", 2**32), ("seed", -1), ("batch_size", 0)])
def test_numbers_of_data_out_of_range_are_named(recorded, field, value):
    with pytest.raises(ValueError, match=f"Data.{field} is {value}, expected"):
        Data(recorded, Tiny(), Classification(), **{field: value})


def test_a_written_model_does_not_tell_what_was_built_before_it(tmp_path):
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        model = TransferModel(Tiny(), Classification(), CLASSES, seed=0)
        model.save(tmp_path / place)
    one, other = (tmp_path / place / "model.keras" for place in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
