"""The frozen part, run once."""

import dataclasses
import errno
import functools
import gc
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from conftest import SUMMANDS, Tiny, assert_near

from tlkeras.augments.colour import Color
from tlkeras.augments.geometric import Flip
from tlkeras.data.batches import Data
from tlkeras.frameworks import keras
from tlkeras.model import graph
from tlkeras.model.transfer_model import HEAD, TransferModel
from tlkeras.recipes.fine_tune import FineTune, Phase
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.detection import Detection
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.training import feature_store, features, frozen, loop
from tlkeras.training.features import Cache, Tap

TAPS = (Tap("train", HEAD), Tap("train", "block3"), Tap("validation", "block3"))
TWO = (Phase(epochs=1), Phase(epochs=2, unfreeze="block3", learning_rate=1e-3))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(feature_store, "LENGTH", 16)


def make(task=Classification()):  # noqa: B008 - a spec is frozen
    return TransferModel(Tiny(), task, ("blue", "green", "red"), seed=3)


def entries(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def losses(logs):
    return [[log["loss"], log["val_loss"]] for log in logs]


def joined(batches, network, dtype="float32"):
    pairs = [
        (features.entrance(network, inputs, dtype).numpy(), targets.numpy())
        for inputs, targets in batches
    ]
    return [np.concatenate(column) for column in zip(*pairs, strict=True)]


@pytest.mark.equality
def test_features_are_what_the_prefix_gives_in_any_order(data, tmp_path):
    model = make()
    found = features.at(model, data, TAPS, Cache(tmp_path), "float32")
    for tap in TAPS:
        prefix = model.split_at(tap.block)[0]
        expected = joined(data.batches(tap.split), prefix)
        order = data.order(tap.split, 1)
        inputs, targets = joined(found[tap].batches(order), prefix)
        assert_near(inputs, expected[0][order], SUMMANDS[tap.block])
        np.testing.assert_array_equal(targets, expected[1][order])


def test_a_fit_that_is_over_holds_neither_its_network_nor_its_features(data, tmp_path):
    held = []

    def watch(self, *arguments):
        made(self, *arguments)
        held.append(weakref.ref(self))

    made = feature_store.Rows.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_store.Rows, "__init__", watch)
        model = make()
        FineTune(TWO).fit(model, data, tmp_path)
    held += [weakref.ref(model.full), weakref.ref(model.body)]
    del model
    keras.backend.clear_session()
    gc.collect()
    assert len(held) > 4 and not any(each() for each in held)


@pytest.mark.slow
def test_data_sets_open_no_files_that_they_leave_open(data):
    def opened():
        for epoch in range(20):
            next(iter(data.shuffled("train", epoch)))
        gc.collect()
        maps = Path("/proc/self/maps").read_text().count(".npy")
        return len([*Path("/proc/self/fd").iterdir()]), maps

    assert opened() == opened()


@pytest.mark.parametrize("gigabytes", [-1.0, math.inf, math.nan])
def test_a_cache_of_no_sensible_size_is_refused(tmp_path, gigabytes):
    with pytest.raises(ValueError, match=r"Cache.gigabytes is .*, expected a number from 0 on"):
        Cache(tmp_path, gigabytes)


def test_another_preparation_gives_other_features_and_another_fit(data, tmp_path, monkeypatch):
    features.at(make(), data, TAPS[:1], Cache(tmp_path / "cache"), "float32")
    FineTune((Phase(epochs=1),), cache="none").fit(make(), data, tmp_path / "fit")
    before = entries(tmp_path / "cache")
    # Weights are in the network, wherever their file is now.
    monkeypatch.setattr(Tiny, "fingerprint", lambda backbone: 1 / 0)
    monkeypatch.setattr(Tiny, "preparation", lambda backbone: "other words")
    features.at(make(), data, TAPS[:1], Cache(tmp_path / "cache"), "float32")
    assert len(before) == 2 and len(entries(tmp_path / "cache")) == 4
    with pytest.raises(ValueError, match=r"another fit, with preparation , not other words"):
        FineTune((Phase(epochs=1),), cache="none").fit(make(), data, tmp_path / "fit")


def test_of_features_no_more_are_kept_than_of_their_targets(data, tmp_path, monkeypatch, capsys):
    count, sizes = data.count("train"), {"float32": 96, "float16": 1}  # As of many classes.
    limit = (count * sizes["float16"] + 20 * sizes["float32"]) / 1e9
    monkeypatch.setattr(frozen, "row_bytes", lambda tensors, dtype, *_: sizes[dtype])
    features.at(make(), data, [Tap("train", HEAD)], Cache(tmp_path, limit), "float16")
    assert "16 examples of 40" in capsys.readouterr().out
    kept = {
        name.split("-")[1]: len(feature_store.Rows(tmp_path / name)) for name in entries(tmp_path)
    }
    assert kept == {HEAD: 16, features.TARGETS: 16}


def test_of_targets_no_more_are_kept_than_of_any_features(data, tmp_path):
    limit = (
        data.count("train") * 12 + 20 * frozen.row_bytes(make().body.output, "float16", [()], None)
    ) / 1e9
    features.at(make(), data, [Tap("train", HEAD)], Cache(tmp_path, limit), "float16")
    kept = {
        name.split("-")[1]: len(feature_store.Rows(tmp_path / name)) for name in entries(tmp_path)
    }
    assert kept == {HEAD: 16, features.TARGETS: 16}


def test_a_finished_fit_runs_no_network_again(data, tmp_path, monkeypatch):
    model = make()
    logs = FineTune(TWO).fit(model, data, tmp_path)
    monkeypatch.setattr(frozen, "run", None)
    assert FineTune(TWO).fit(model, data, tmp_path) == logs


@pytest.mark.equality
@pytest.mark.parametrize("examples", [16, 32])
def test_what_does_not_fit_is_computed_and_gives_the_same_features(data, tmp_path, examples):
    model = make()
    tap = Tap("train", "block3")
    prefix = model.split_at("block3")[0]
    size = frozen.row_bytes(prefix.output, "float16", [()], None)
    limit = (size * (examples + 1) + 40 * 12) / 1e9
    whole = features.at(model, data, [tap], Cache(tmp_path / "whole"), "float16")[tap]
    part = features.at(model, data, [tap], Cache(tmp_path / "part", limit), "float16")[tap]
    assert (whole.kept, part.kept) == (data.count("train"), examples)
    order = data.order("train", 5)
    for found in (whole, part):  # No epoch ends only when a tuner wakes up.
        assert found.batches(order).options().autotune.enabled is False
    expected, labels = joined(whole.batches(order), prefix, "float16")
    inputs, targets = joined(part.batches(order), prefix, "float16")
    np.testing.assert_array_equal(targets, labels)
    np.testing.assert_array_equal(inputs, inputs.astype("float16"))  # Rounded as what is kept.
    # A sum half-way between two numbers of float16 may become either when it is taken anew: so near
    # to that as float32 rounds, 2**-24 for each summand, of steps of at least 2**-11.
    is_other = inputs != expected
    np.testing.assert_allclose(inputs[is_other], expected[is_other], rtol=2**-10, atol=2**-24)
    assert is_other.mean() <= SUMMANDS["block3"] * 2**-13


@pytest.mark.equality
@pytest.mark.parametrize("gigabytes", [1.0, 60e-6])
def test_the_parts_of_the_workers_are_the_batches_of_one_device(data, tmp_path, gigabytes):
    model, tap, cache = make(), Tap("train", "block3"), Cache(tmp_path, gigabytes)
    prefix = model.split_at("block3")[0]

    def batches(part):
        own = dataclasses.replace(data, part=part)
        found = features.at(model, own, [tap], cache, "float32")[tap]
        assert (found.kept == data.count("train")) is (gigabytes == 1.0)
        fed = found.batches(data.order("train", 2))
        return [features.entrance(prefix, inputs, "float32").numpy() for inputs, _ in fed]

    whole, *parts = (batches(part) for part in ((0, 1), (0, 2), (1, 2)))
    assert {len(part[0]) for part in parts} == {data.batch_size // 2}
    for batch, *halves in zip(whole, *parts, strict=True):
        assert_near(np.concatenate(halves), batch, SUMMANDS["block3"])


def test_several_replicas_start_only_from_features_that_are_all_kept(data, tmp_path, monkeypatch):
    whole, part = Cache(tmp_path / "whole"), Cache(tmp_path / "part", 60e-6)
    tap = Tap("train", "block3")
    assert 0 < features.at(make(), data, [tap], part, "float16")[tap].kept < data.count("train")
    monkeypatch.setattr(features.hardware, "replicas", lambda: 2)
    assert features.at(make(), data, [tap], part, "float16") == {}
    assert features.at(make(), data, [tap], whole, "float16")[tap].kept == data.count("train")


@pytest.mark.parametrize("limit", [0.0, 60e-6, 120e-6])
def test_a_fit_under_any_limit_gives_the_losses_of_an_unlimited_one(data, tmp_path, limit):
    recipe = FineTune(TWO)
    expected = recipe.fit(make(), data, tmp_path / "a", shared=Cache(tmp_path / "whole"))
    logs = recipe.fit(make(), data, tmp_path / "b", shared=Cache(tmp_path / "part", limit))
    np.testing.assert_allclose(losses(logs), losses(expected), rtol=2e-3)
    kept = sum(path.stat().st_size for path in (tmp_path / "part").rglob("*.npy"))
    headers = 128 * len(list((tmp_path / "part").rglob("*.npy")))
    assert kept - headers <= limit * 1e9


def test_recipes_runs_and_seeds_share_what_is_the_same(data, tmp_path, monkeypatch):
    cache = Cache(tmp_path / "cache")
    FineTune(TWO).fit(make(), data, tmp_path / "a", shared=cache)
    made = entries(cache.folder)

    def ran(*arguments):
        raise AssertionError("ran the frozen part again")

    monkeypatch.setattr(frozen, "run", ran)
    seeded = dataclasses.replace(data, seed=7, batch_size=5)
    others = (Phase(epochs=1, learning_rate=0.1, unfreeze="block3", optimizer="sgd"),)
    FineTune(others).fit(make(), seeded, tmp_path / "b", shared=cache)
    assert entries(cache.folder) == made


@pytest.mark.equality
def test_validation_is_kept_also_where_every_epoch_changes_its_pictures(data, tmp_path):
    phase = Phase(epochs=2, unfreeze="block3", augment=(Flip(),))
    logs = {
        cache: losses(FineTune((phase,), cache=cache).fit(make(), data, tmp_path / cache))
        for cache in ("none", "float32")
    }
    kept = {name.partition("-")[0] for name in entries(tmp_path / "float32" / "features")}
    assert kept == {"validation"}
    assert_near(logs["float32"], logs["none"], SUMMANDS["logits"])


def test_another_head_runs_no_network_again(data, tmp_path):
    cache = Cache(tmp_path)
    features.at(make(), data, TAPS, cache, "float16")
    made = entries(cache.folder)
    features.at(make(task=Classification(dropout=0.5)), data, TAPS, cache, "float16")
    assert {name.split("-")[1] for name in {*entries(cache.folder)} - {*made}} == {features.TARGETS}


def test_targets_of_fewer_classes_are_not_found(data, recorded, tmp_path):
    """A class that the test split alone has leaves the records of the others as they were."""
    tap, cache = Tap("train", HEAD), Cache(tmp_path / "features")
    features.at(make(), data, [tap], cache, "float16")
    more = shutil.copytree(recorded, tmp_path / "examples")
    told = json.loads((more / "info.json").read_text())
    told["classes"].append("zebra")
    (more / "info.json").write_text(json.dumps(told))
    data = dataclasses.replace(data, folder=more)
    model = TransferModel(Tiny(), Classification(), data.classes, seed=3)
    found = features.at(model, data, [tap], cache, "float16")[tap]
    ((_, targets),) = found.batches(np.arange(1))
    assert targets.shape == (1, 4)


def test_targets_of_masks_with_another_meaning_of_0_are_not_found(shapes, tmp_path):
    """Whether 0 is of no class is in ``info.json`` alone: the records are equal."""
    data = Data(shapes, Tiny(), Segmentation(width=8), batch_size=4)
    model = TransferModel(Tiny(), data.task, data.classes, seed=3)
    tap, cache = Tap("train", HEAD), Cache(tmp_path / "features")
    features.at(model, data, [tap], cache, "float16")
    other = shutil.copytree(shapes, tmp_path / "examples")
    told = json.loads((other / "info.json").read_text())
    assert told["features"]["mask"] == "mask(ignore=255, background=True)"
    told["features"]["mask"] = "mask(ignore=255, background=False)"
    (other / "info.json").write_text(json.dumps(told))
    data = dataclasses.replace(data, folder=other)
    found = features.at(model, data, [tap], cache, "float16")[tap]
    ((_, targets),) = found.batches(np.arange(4))
    expected = np.stack([*itertools.islice(data.pairs("train").map(second).as_numpy_iterator(), 4)])
    np.testing.assert_array_equal(targets, expected)
    with pytest.raises(ValueError, match=r"another fit, with kinds .*True.*, not .*False"):
        fit = functools.partial(FineTune((Phase(epochs=1),)).fit, model, folder=tmp_path / "fit")
        fit(data=dataclasses.replace(data, folder=shapes))
        fit(data=data)


def second(first, second):
    return second


def test_pictures_decoded_in_full_beside_masks_are_not_those_of_another_task(shapes, tmp_path):
    tap, names = Tap("train", "block3"), []
    for task in (Segmentation(width=8), Detection(width=8), Detection(width=8, most=4)):
        data = Data(shapes, Tiny(), task, exact=False)
        model = TransferModel(Tiny(), task, data.classes, seed=3)
        prefixes = {tap.block: model.split_at(tap.block)[0]}
        names.append(features._names(model, data, [tap], prefixes, Cache(tmp_path), "float16")[tap])
    assert names[0] != names[1] == names[2]


def test_whatever_changes_the_activations_finds_nothing(data, tmp_path):
    tap, cache = Tap("train", "block3"), Cache(tmp_path)

    def name(model=None, data=data, tap=tap, cache=cache, dtype="float16"):
        model = model or make()
        prefixes = {tap.block: model.split_at(tap.block)[0]}
        return features._names(model, data, [tap], prefixes, cache, dtype)[tap]

    heavier = make()
    heavier.body.get_layer("block1_conv").bias.assign_add(np.full(8, 1e-3))
    later = make()
    later.body.get_layer("block4_conv").bias.assign_add(np.ones(24))
    flipped = dataclasses.replace(tap, augments=(Flip(),))
    changed = Cache(tmp_path, augments={Flip.__module__: "changed"})
    names = [
        name(),
        name(model=heavier),
        name(dtype="float32"),
        name(tap=Tap("train", "block2")),
        name(tap=Tap("validation", "block3")),
        name(tap=flipped),
        name(tap=dataclasses.replace(flipped, view=1)),
        name(tap=flipped, data=dataclasses.replace(data, seed=1)),
        name(cache=Cache(tmp_path, code="changed")),
        name(tap=flipped, cache=changed),
        name(model=TransferModel(Tiny(size=48), Classification(), "abc"), data=data),
    ]
    assert len({*names}) == len(names)
    # What lies behind the tap, the seed and the order do not, nor do unused augmentations.
    assert name() == name(model=later) == name(data=dataclasses.replace(data, seed=1, batch_size=2))
    assert name() == name(cache=changed)
    another = Cache(tmp_path, augments={Color.__module__: "changed"})
    assert name(tap=flipped) == name(tap=flipped, cache=another)


def test_a_network_made_anew_in_the_same_process_is_the_same():
    def network(scale):
        inputs = keras.Input([4])
        x = keras.layers.Dense(3, kernel_initializer="ones")(inputs)
        return keras.Model(inputs, scale * keras.ops.flip(x, axis=-1) + x)

    first, again, other = (graph.digest(network(scale)) for scale in (2.0, 2.0, 3.0))
    assert first == again != other


@pytest.mark.slow
def test_another_process_finds_the_same_names(recorded, data, tmp_path):
    made = features.at(make(), data, TAPS, Cache(tmp_path), "float16")
    before = entries(tmp_path)
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from test_features import *\n"
        "from tlkeras.data.batches import Data\n"
        "feature_store.LENGTH = 16\n"
        f"data = Data(Path({str(recorded)!r}), Tiny(), Classification(), batch_size=4)\n"
        "make(), make()\n"
        f"found = features.at(make(), data, TAPS, Cache(Path({str(tmp_path)!r})), 'float16')\n"
        "print(len(found))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str(len(made))
    assert entries(tmp_path) == before


def test_a_disk_too_full_is_told_before_the_network_runs(data, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ValueError, match=r"Cannot cache features in .*: No space left on device"):
        features.at(make(), data, TAPS, Cache(tmp_path), "float16")
    assert not list(tmp_path.rglob("*.npy"))


def test_a_disk_that_fills_up_leaves_nothing_half_written(data, tmp_path, monkeypatch):
    reserve, calls = os.posix_fallocate, []

    def full(descriptor, offset, length):
        calls.append(length)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        reserve(descriptor, offset, length)

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(ValueError, match="The cache needs room"):
            features.at(make(), data, TAPS, Cache(tmp_path), "float32")
    model, tap = make(), TAPS[1]
    found = features.at(model, data, TAPS, Cache(tmp_path), "float32")
    prefix = model.split_at(tap.block)[0]
    kept = joined(found[tap].batches(np.arange(data.count("train"))), prefix)
    assert_near(kept[0], joined(data.batches("train"), prefix)[0], SUMMANDS[tap.block])


@pytest.mark.equality
@pytest.mark.parametrize("size", [4, 5])
def test_features_gone_on_with_after_a_kill_are_those_of_an_unbroken_pass(data, tmp_path, size):
    class Killed(Exception):
        pass

    def rows(folder):
        tap, cache = Tap("train", "block3"), Cache(tmp_path / folder)
        own = dataclasses.replace(data, batch_size=size)
        found = features.at(make(), own, [tap], cache, "float32")[tap].rows
        return found.read(np.arange(len(found)))[0]

    def kill(writer, first, columns):
        if first >= 2 * feature_store.LENGTH:
            raise Killed
        add(writer, first, columns)

    add = feature_store.Writer.add
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(feature_store.Writer, "add", kill)
        with pytest.raises(Killed):
            rows("broken")
    assert len([*(tmp_path / "broken").glob("*block3*/?????")]) == 2
    np.testing.assert_array_equal(rows("broken"), rows("unbroken"))


@pytest.mark.equality
def test_an_epoch_has_one_view_after_the_other(data, tmp_path):
    model = make()
    augments = (Flip(), Color())
    taps = [Tap("train", "block2", augments, view) for view in range(2)]
    prefix = model.split_at("block2")[0]
    found = features.at(model, data, taps, Cache(tmp_path), "float32")
    for epoch in range(4):
        tap = taps[epoch % 2]
        expected = joined(data.shuffled("train", epoch, augments, tap.view), prefix)
        kept = joined(found[tap].batches(data.order("train", epoch)), prefix)
        assert_near(kept[0], expected[0], SUMMANDS["block2"])


@pytest.mark.equality
def test_kept_views_give_the_losses_of_views_made_anew(data, tmp_path):
    phases = (Phase(epochs=3, unfreeze="block3", augment=(Flip(), Color()), views=2),)
    logs = {
        cache: losses(FineTune(phases, cache=cache).fit(make(), data, tmp_path / cache))
        for cache in ("none", "float32")
    }
    assert_near(logs["float32"], logs["none"], SUMMANDS["logits"])


def test_a_fit_killed_and_gone_on_with_under_another_limit_goes_on(data, tmp_path):
    class Killed(Exception):
        pass

    fit, calls = loop.fit, []

    def stop(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return fit(*arguments, **options)

    recipe = FineTune(TWO)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "fit", stop)
        with pytest.raises(Killed):
            recipe.fit(make(), data, tmp_path / "fit", shared=Cache(tmp_path / "cache"))
    shutil.rmtree(tmp_path / "cache")
    logs = recipe.fit(make(), data, tmp_path / "fit", shared=Cache(tmp_path / "cache", 60e-6))
    expected = recipe.fit(make(), data, tmp_path / "unbroken")
    np.testing.assert_allclose(losses(logs), losses(expected), rtol=2e-3)


def test_activations_too_large_for_float16_are_refused(data, tmp_path):
    model = make()
    norm = model.body.get_layer("block2_norm")
    norm.gamma.assign(np.full(norm.gamma.shape, 1e6))
    with pytest.raises(ValueError, match=r"An activation is .*, and float16 ends at 6.55e\+04"):
        features.at(model, data, TAPS, Cache(tmp_path), "float16")


def test_fresh_activations_too_large_for_float16_stay_as_they_are():
    model = make()
    norm = model.body.get_layer("block2_norm")
    norm.gamma.assign(np.full(norm.gamma.shape, 1e6))
    prefix, _ = model.split_at("block3")
    pictures = np.random.default_rng(0).uniform(0, 255, [4, 32, 32, 3]).astype(np.float32)
    exact = prefix(pictures).numpy()
    assert np.abs(exact).max() > np.finfo(np.float16).max
    batch = {
        features.CACHED: exact[:0],
        features._PLACES: np.arange(4),
        features._FRESH: pictures,
    }
    found = features.entrance(prefix, batch, "float16")
    np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_activations_that_are_no_numbers_are_refused(dtype, value):
    with pytest.raises(ValueError, match=r"An activation is (inf|nan): check the weights"):
        frozen.narrowed(np.array([1, value], np.float32), dtype)
