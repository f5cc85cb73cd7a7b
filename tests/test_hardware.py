"""One run on several devices and machines is the run on one device."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiny, configs, draw, last_of_ours, mounted, weights_of

from tlkeras import hardware
from tlkeras.augment import Augment
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.sources.folder import Folder
from tlkeras.spec import parse
from tlkeras.tasks.classification import Classification
from tlkeras.training import rate_finder

HERE = Path(__file__).parent


@contextlib.contextmanager
def workers(
    arguments: list[str],
    environments: list[dict[str, str]],
    prefixes: Sequence[Sequence[str]] = ((), ()),
) -> Iterator[list]:
    """Starts a process for each environment; at the end none of them is left."""
    started = [
        subprocess.Popen(
            [*prefix, sys.executable, *arguments],
            env={
                **os.environ,
                "CUDA_VISIBLE_DEVICES": "-1",
                "PYTHONPATH": str(HERE.parent),
                **environment,
            },
            cwd=HERE.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for prefix, environment in zip(prefixes, environments, strict=False)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_a_gpu_that_tensorflow_cannot_use_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_NVIDIA", tmp_path / "none")
    assert hardware.devices() == "the processor"
    monkeypatch.setattr(hardware, "_NVIDIA", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert hardware.devices() == "the processor"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert "this machine has a GPU" in hardware.devices()
    found = [tf.config.LogicalDevice(f"/device:{kind}:0", kind) for kind in ("CPU", "GPU", "GPU")]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: found)
    assert hardware.devices() == "1 GPU"  # The default strategy has one replica.
    monkeypatch.setattr(hardware, "replicas", lambda: 2)
    assert hardware.devices() == "2 GPU"


def fitted(
    strategy: str,
    folder: Path,
    scratch: Path,
    out: Path,
    *fault: str,
    prefixes: Sequence[Sequence[str]] = ((), ()),
) -> list[str]:
    """Runs ``fitting.py``, for two workers if there are; returns what each of them said."""
    environments = [{"TF_CONFIG": text} for text in configs()] if "worker" in strategy else [{}]
    arguments = [str(HERE / "fitting.py"), strategy, *map(str, (folder, scratch, out)), *fault]
    with workers(arguments, environments, prefixes) as started:
        said = [process.communicate(timeout=1200)[0] for process in started]
        assert fault or not any(process.returncode for process in started), said
    return said


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Examples of which there are 43, 18 and 14 in the splits: no batch size fits."""
    place = tmp_path_factory.mktemp("recorded")
    ingest.write_examples(
        Folder(draw(place / "pictures", 25)), Split(validation=20, test=20), place
    )
    return place


@pytest.fixture
def data(recorded):
    return Data(recorded, Tiny(), Classification(), batch_size=8)


@pytest.fixture(scope="module")
def alone(recorded, tmp_path_factory):
    """What one device made."""
    place = tmp_path_factory.mktemp("alone")
    fitted("one_device", recorded, place / "scratch", place)
    return place


@pytest.fixture(scope="module")
def together(recorded, tmp_path_factory):
    """What two workers made, and their scratch folder."""
    place = tmp_path_factory.mktemp("together")
    fitted("multi_worker", recorded, place / "scratch", place)
    return place


@pytest.fixture(scope="module")
def mirrored(recorded, tmp_path_factory):
    """What two devices of one machine made."""
    place = tmp_path_factory.mktemp("mirrored")
    fitted("mirrored", recorded, place / "scratch", place)
    return place


def arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as held:
        return dict(held)


def assert_equal(place: Path, other: Path, worker: int) -> None:
    for name in ("weights", "outputs"):
        expected, found = arrays(place / f"{name}0.npz"), arrays(other / f"{name}{worker}.npz")
        assert expected.keys() == found.keys()
        for path in expected:
            np.testing.assert_allclose(found[path], expected[path], 1e-5, 1e-5, err_msg=path)
    logs, others = (
        json.loads(path.read_text())
        for path in (place / "logs0.json", other / f"logs{worker}.json")
    )
    assert [(log["phase"], log["epoch"]) for log in logs] == [
        (log["phase"], log["epoch"]) for log in others
    ]
    for log, same in zip(logs, others, strict=True):
        assert same == pytest.approx(log, rel=1e-5, abs=1e-5)


@pytest.mark.slow
def test_the_case_is_worth_comparing(alone, recorded):
    counts = json.loads((recorded / "info.json").read_text())["counts"]
    assert all(count % 8 not in (0, 1) for count in counts.values())  # Batches of 8 do not fit,
    assert any(count % 2 for count in counts.values())  # nor do their halves,
    logs = json.loads((alone / "logs0.json").read_text())
    assert sum(log["phase"] == 0 for log in logs) < 4  # and patience ends a phase.


@pytest.mark.slow
@pytest.mark.parametrize("worker", [0, 1])
def test_two_workers_make_what_one_device_makes(alone, together, worker):
    assert_equal(alone, together, worker)


@pytest.mark.slow
def test_both_workers_end_with_the_very_same_weights(together):
    first, second = (arrays(together / f"weights{worker}.npz") for worker in (0, 1))
    for path in first:
        np.testing.assert_array_equal(first[path], second[path])
    assert (together / "logs0.json").read_text() == (together / "logs1.json").read_text()


@pytest.mark.slow
def test_each_worker_makes_its_shards_of_the_features(alone, together):
    made = [json.loads((together / f"shards{worker}.json").read_text()) for worker in (0, 1)]
    assert all(made) and not set(made[0]) & set(made[1])
    kept = (together / "features").glob("*/?????")
    assert {*made[0], *made[1]} == {f"{shard.parent.name}/{shard.name}" for shard in kept}
    files = [*(alone / "features").rglob("*.npy")]
    assert len(files) >= len(made[0]) + len(made[1])
    for file in files:
        same = together / "features" / file.relative_to(alone / "features")
        np.testing.assert_allclose(np.load(same), np.load(file), rtol=2e-3, atol=1e-6)


@pytest.mark.slow
def test_only_the_chief_writes_the_weights_and_the_state(recorded, together, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    bind = f'mount --bind "{scratch}" "{scratch}"'
    still = mounted(f'{bind} && mount -o remount,ro,bind "{scratch}"')
    assert subprocess.run([*still, "touch", str(scratch / "it")], capture_output=True).returncode
    fitted("multi_worker", recorded, scratch, tmp_path, prefixes=[(), still])
    for worker in (0, 1):
        weights = arrays(tmp_path / f"weights{worker}.npz")
        for path, value in arrays(together / f"weights{worker}.npz").items():
            np.testing.assert_array_equal(weights[path], value, err_msg=path)


@pytest.mark.slow
def test_two_devices_of_one_machine_make_what_one_device_makes(alone, mirrored):
    assert_equal(alone, mirrored, 0)


@pytest.mark.slow
def test_what_several_devices_made_is_loaded_on_one(alone, together):
    models = [TransferModel.load(place).full for place in (alone, together)]
    inputs = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3))
    one, other = (np.asarray(model(inputs)) for model in models)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    assert (alone / "model.json").read_bytes() == (together / "model.json").read_bytes()


@pytest.mark.slow
def test_a_worker_that_stopped_is_told_and_a_restarted_run_ends_like_an_unbroken_one(
    recorded, together, tmp_path
):
    # One that was killed, in `test_faults`, takes the whole pipeline with it.
    within = 120
    arguments = ["multi_worker", str(recorded), str(tmp_path / "scratch"), str(tmp_path), "stop"]
    environments = [{"TF_CONFIG": text} for text in configs()]
    with workers([str(HERE / "fitting.py"), *arguments], environments) as (chief, broken):
        state = tmp_path / "scratch" / "phase1" / "state.json"
        is_over, end = False, time.monotonic() + 1200  # Until the worker is lost.
        while not (state.exists() and json.loads(state.read_text())["epoch"] == 1):
            assert not is_over, chief.communicate()
            assert time.monotonic() < end
            is_over = chief.poll() is not None or broken.poll() is not None
            time.sleep(0.02)
        began = time.monotonic()
        said, _ = chief.communicate(timeout=within)
        assert chief.returncode == 1
        assert "Another worker was lost" in last_of_ours(said)
        assert time.monotonic() - began < within
    assert json.loads(state.read_text())["epoch"] == 1
    fitted("multi_worker", recorded, tmp_path / "scratch", tmp_path)
    for worker in (0, 1):
        unbroken = arrays(together / f"weights{worker}.npz")
        for path, value in arrays(tmp_path / f"weights{worker}.npz").items():
            np.testing.assert_array_equal(value, unbroken[path], err_msg=path)
        logs = f"logs{worker}.json"
        assert (tmp_path / logs).read_text() == (together / logs).read_text()


def test_the_batches_of_a_sweep_are_in_step_on_all_workers(recorded, monkeypatch):
    monkeypatch.setattr(rate_finder, "STEPS", 7)
    data = Data(recorded, Tiny(), Classification(), batch_size=14)
    assert data.count("train") % 14 == 1  # The last row is the second worker's.
    parts = [dataclasses.replace(data, part=(place, 2)).shuffled("train", 0) for place in (0, 1)]
    counts = [int(part.cardinality()) for part in parts]
    whole = rate_finder._repeated(data.shuffled("train", 0))
    monkeypatch.setattr(hardware, "gathered", lambda value: counts)
    shares = [rate_finder._repeated(part) for part in parts]
    joined = [np.concatenate([inputs for inputs, _ in own]) for own in zip(*shares, strict=True)]
    assert len(joined) == 7
    for found, (expected, _) in zip(joined, whole, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_workers_that_run_different_things_are_told_to_agree(recorded, tmp_path):
    said = fitted("multi_worker", recorded, tmp_path / "scratch", tmp_path, "differ")
    assert any("The workers do not agree" in each for each in said), said


@pytest.mark.slow
def test_exchanges_leave_no_threads_behind():
    program = (
        "import os\nfrom tlkeras import hardware\n"
        "def threads(exchanges):\n"
        "    for i in range(exchanges):\n"
        "        hardware.gathered(i)\n"
        "    return len(os.listdir('/proc/self/task'))\n"
        "with hardware.used('multi_worker'):\n"
        "    before = threads(20)\n"
        "    print(threads(200) - before)\n"
    )
    with workers(["-c", program], [{"TF_CONFIG": text} for text in configs()]) as started:
        for process in started:
            said, _ = process.communicate(timeout=600)
            assert process.returncode == 0, said
            assert int(said.splitlines()[-1]) < 20


@pytest.mark.slow
def test_a_worker_that_never_comes_is_named_after_a_time():
    program = (
        "import sys\nfrom tlkeras import hardware\n"
        "try:\n    hardware.strategy('multi_worker', timeout=3)\n"
        "except ValueError as error:\n    sys.exit(str(error))\n"
    )
    (config, _) = configs()
    missing = json.loads(config)["cluster"]["worker"][1]
    with workers(["-c", program], [{"TF_CONFIG": config}]) as (process,):
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert f"after 3 s there is no answer from {missing}. Start a process on every" in said


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("mirored", "", "'mirored' is not a strategy; did you mean 'mirrored'?"),
        ("multi_worker", "", "multi_worker: TF_CONFIG is '', expected a value like"),
        ("multi_worker", "{", "TF_CONFIG is '{', expected a value like"),
        ("multi_worker", "[1]", r"TF_CONFIG is '\[1\]', expected a value like"),
        (
            "multi_worker",
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}',
            "names only the worker a:1; name at least two",
        ),
        (
            "multi_worker",
            '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
            "with another index for every worker",
        ),
    ],
)
def test_what_is_wrong_with_a_strategy_is_one_clear_message(monkeypatch, name, config, message):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match=message), hardware.used(name):
        pass


@pytest.mark.parametrize("error", [OSError("refused"), RuntimeError("Missing library. Install")])
def test_where_there_is_no_tpu_that_is_one_clear_message(monkeypatch, error):
    def refused(**options):
        raise error

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", refused)
    monkeypatch.setenv("TPU_NAME", "none")
    with pytest.raises(ValueError, match="--strategy=tpu finds no TPU 'none'"):
        hardware.strategy("tpu")


@pytest.mark.parametrize(("cores", "hosts"), [(1, 1), (16, 2), (8, 1)])
def test_a_tpu_has_several_cores_of_one_host(monkeypatch, cores, hosts):
    made = types.SimpleNamespace(num_replicas_in_sync=cores)
    topology = types.SimpleNamespace(num_tasks=hosts)
    resolvers, experimental = tf.distribute.cluster_resolver, tf.tpu.experimental
    monkeypatch.setattr(resolvers, "TPUClusterResolver", lambda tpu: tpu)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda resolver: None)
    monkeypatch.setattr(experimental, "initialize_tpu_system", lambda resolver: topology)
    monkeypatch.setattr(tf.distribute, "TPUStrategy", lambda resolver: made)
    monkeypatch.setenv("TPU_NAME", "mine")
    if (cores, hosts) == (8, 1):
        assert hardware.strategy("tpu") is made
        return
    message = f"cores of the TPU 'mine': {cores}, its hosts: {hosts}; expected at least two cores"
    with pytest.raises(ValueError, match=message):
        hardware.strategy("tpu")


def test_auto_is_what_fits_the_machine(monkeypatch):
    for name in ("TPU_NAME", "TF_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware, "_mirrored", lambda: "mirrored")
    monkeypatch.setattr(hardware, "_tpu", lambda: "tpu")
    monkeypatch.setattr(hardware, "_multi_worker", lambda timeout: "multi_worker")
    one = tf.distribute.get_strategy()
    for count, expected in ((0, one), (1, one), (2, "mirrored")):
        monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind, n=count: [kind] * n)
        assert hardware.strategy("auto") == expected
    monkeypatch.setenv("TPU_NAME", "x")
    assert hardware.strategy("auto") == "tpu"
    monkeypatch.setenv("TF_CONFIG", configs()[1])
    assert hardware.strategy("auto") == "multi_worker"


def test_workers_and_tpus_are_made_at_once_under_auto(monkeypatch):
    made: list[str] = []
    default = tf.distribute.get_strategy()
    monkeypatch.setattr(hardware, "strategy", lambda name, timeout: made.append(name) or default)
    monkeypatch.delenv("TPU_NAME", raising=False)
    monkeypatch.setenv("TF_CONFIG", configs()[1])
    with hardware.used("auto"):
        assert made == ["multi_worker"] and hardware.part() == (1, 2)
    monkeypatch.delenv("TF_CONFIG")
    monkeypatch.setenv("TPU_NAME", "x")
    with hardware.used("auto"):
        assert made == ["multi_worker", "tpu"]


def test_one_device_is_the_strategy_of_a_machine_without_accelerators(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("TPU_NAME", raising=False)
    for name in ("auto", "one_device", "mirrored"):
        with hardware.used(name):
            assert hardware.current() is tf.distribute.get_strategy()
            assert hardware.replicas() == 1 and hardware.part() == (0, 1) and hardware.is_chief()


def rows(batches) -> list[np.ndarray]:
    return [np.asarray(keras.tree.flatten(batch)[0]) for batch in batches]


@pytest.mark.parametrize("augments", [(), ("flip",), ("flip", "mix_up")])
def test_the_parts_of_the_workers_are_the_batches_of_one_device(data, augments):
    augments = tuple(parse(text, Augment) for text in augments)
    whole = rows(data.shuffled("train", 2, augments))
    assert len(whole[-1]) % 4  # The parts of the last batch differ in size.
    parts = [
        rows(dataclasses.replace(data, part=(i, 4)).shuffled("train", 2, augments))
        for i in range(4)
    ]
    assert {len(each[0]) for each in parts} == {2}
    for i, batch in enumerate(whole):
        # Of the three examples in the last batch the first part has none.
        found = [part[i] for part in parts if i < len(part)]
        np.testing.assert_array_equal(np.concatenate(found), batch)


def test_a_batch_that_workers_cannot_share_evenly_is_refused(data):
    with pytest.raises(
        ValueError, match=r"Data.batch_size is 8, expected a multiple of 3: each of 3 workers"
    ):
        dataclasses.replace(data, part=(0, 3)).batches("train")


def test_the_pieces_of_a_batch_are_its_rows_in_order_filled_up():
    from tlkeras.training.replicated import _pieces

    batch = (tf.range(5)[:, None], tf.range(5) + 10)
    for size in (None, 3):
        pieces = list(_pieces(batch, 4, size))
        counts = [int(count) for _, count in pieces]
        assert counts == [1, 1, 1, 2]
        assert [len(x) for (x, _), _ in pieces] == ([3] * 4 if size else counts)
        kept = np.concatenate([y[:count] for (_, y), count in pieces])
        np.testing.assert_array_equal(kept, batch[1])
    (empty, count), *_ = _pieces((tf.range(1)[:, None],), 2, None)
    assert int(count) == 0 and len(empty[0]) == 1


def test_a_step_compiles_with_the_fixed_shapes_that_a_tpu_needs(data):
    from tlkeras.training import replicated

    silent: Any = 0

    def compiled(model):
        loss, metrics = data.task.loss(), data.task.metrics(data.classes)
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, metrics=metrics)
        return model

    # Two full batches and the short one at the end.
    batches = data.batches("train").skip(3)
    assert [len(x) for x, _ in batches] == [8, 8, 3]
    models = [TransferModel(Tiny(), data.task, data.classes) for _ in range(2)]
    for each in models:
        each.train_only(list(each.blocks))
        for layer in replicated._layers(each.full):
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0  # XLA draws other numbers.
    start, expected = (each.full for each in models)
    compiled(expected).fit(batches, shuffle=False, verbose=silent)

    model = compiled(replicated.Replicated(start, None))
    model.is_static = True
    dealt, steps = model._dealt(batches)
    assert all(each.shape.is_fully_defined() for each in keras.tree.flatten(dealt.element_spec))
    step = tf.function(model.train_step, jit_compile=True, autograph=False)
    with replicated._over_the_batch(model.network):
        for element in dealt.take(steps):
            step(element)
    assert step.experimental_get_tracing_count() == 1
    found = weights_of(start)
    for path, value in weights_of(expected).items():
        np.testing.assert_allclose(found[path], value, rtol=1e-4, atol=1e-5, err_msg=path)
