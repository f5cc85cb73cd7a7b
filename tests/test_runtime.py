"""TFLite files on the last TensorFlow Lite of that name, which phones have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiny

from tlkeras.backbones.starter import Starter
from tlkeras.exporters.tflite import TFLite
from tlkeras.formats import litert
from tlkeras.frameworks import tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.classification import Classification

KINDS = ("none", "dynamic", "float16", "int8")
LEAST = {"none": "1.6.0", "dynamic": "2.4.0", "float16": "1.15.0", "int8": "1.14.0"}
"""The oldest release that runs the network of `Tiny`, as the converter has it."""

RELEASE = "2.14.0"

# What has wheels for one version of Python only, and needs an older NumPy than TensorFlow does.
PACKAGES = (f"tflite-runtime=={RELEASE}", "numpy<2")

RUN = """
import json, sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
found = {}
for path in sys.argv[1:]:
    run = Interpreter(path).get_signature_runner("serving_default")
    dtype = run.get_input_details()["image"]["dtype"]
    rows = [run(image=row[None].astype(dtype)) for row in np.load("inputs.npy")]
    found[path] = [row["probabilities"][0].tolist() for row in rows]
print(json.dumps(found))
"""


def samples(size):
    inputs = np.random.default_rng(0).uniform(0, 255, (8, size, size, 3)).astype("float32")
    return tf.data.Dataset.from_tensor_slices(inputs)


def model_of(backbone):
    """Returns a model of so many classes that the weights of the dense layer are made smaller.

    They grow with the class, so that a scale for all of them is not that of the first.
    """
    model = TransferModel(backbone, Classification(), [f"class {i}" for i in range(60)], seed=0)
    logits = model.head.get_layer("logits")
    kernel, bias = logits.get_weights()
    logits.set_weights([kernel * np.geomspace(0.1, 10, 60), bias])
    return model


def release(text):
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_tells_the_oldest_runtime_that_has_its_operations(kind, tmp_path):
    TFLite(quantize=kind).write(model_of(Tiny(size=64)), samples(64), tmp_path)
    assert TFLite(quantize=kind).facts(tmp_path)["least_runtime"] == LEAST[kind]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory) -> Path:
    """A folder with the runtime and its NumPy in it."""
    folder = tmp_path_factory.mktemp("runtime")
    command = [sys.executable, "-m", "pip", "install", "--target", str(folder), *PACKAGES]
    ended = subprocess.run(
        [*command, "--quiet", "--only-binary=:all:", "--retries=0"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if ended.returncode:
        reason = [*ended.stderr.strip().splitlines(), "no reason given"][0]
        pytest.skip(f"pip cannot install {PACKAGES[0]}: {reason}")
    return folder


@pytest.mark.slow
def test_every_kind_of_file_runs_on_the_last_tflite_runtime(runtime, tmp_path):
    model = model_of(Starter(size=64))
    inputs = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3)).astype("float32")
    np.save(tmp_path / "inputs.npy", inputs)
    for kind in KINDS:
        exporter = TFLite(quantize=kind)
        exporter.write(model, samples(64), tmp_path)
        told = exporter.facts(tmp_path)["least_runtime"]
        assert release("1.0.0") < release(told) <= release(RELEASE), kind
    names = [TFLite(quantize=kind).files()[0] for kind in KINDS]
    ended = subprocess.run(
        [sys.executable, "-c", RUN, *names],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(runtime)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    for name in names:
        expected = litert.load(tmp_path / name)(inputs)["probabilities"]
        if "int8" in name:
            found[name] = np.array(found[name]) / 256
        # Kernels of another age round otherwise.
        np.testing.assert_allclose(found[name], expected, atol=0.02, err_msg=name)
        assert np.ptp(expected, axis=-1).min() > 0.1
