"""The weights that come with tlkeras."""

import shutil
from typing import Any

import numpy as np
import pytest

from tlkeras.backbones import starter
from tlkeras.backbones.starter import Starter
from tlkeras.frameworks import keras


@pytest.fixture
def copied(tmp_path):
    for name in ("starter.npz", "starter.json"):
        shutil.copy(starter.WEIGHTS / name, tmp_path)
    return tmp_path


def test_the_weights_are_small_and_finite(copied):
    assert (copied / "starter.npz").stat().st_size <= 2.5e6
    arrays = starter.read(copied)
    assert all(np.isfinite(array).all() for array in arrays)


def test_the_network_is_mobilenet_v2_with_these_weights_on_pixels_from_minus_1_to_1():
    none: Any = None  # Keras annotates it as a text only.
    plain = keras.applications.MobileNetV2(
        input_shape=(96, 96, 3), alpha=0.35, include_top=False, weights=none
    )
    plain.set_weights(starter.read(starter.WEIGHTS))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)
    found = Starter(size=96).build()(pixels)["stride32"]
    np.testing.assert_allclose(found, plain(pixels / 127.5 - 1), rtol=1e-4, atol=1e-4)


def test_a_truncated_file_is_refused_by_its_digest(copied):
    path = copied / "starter.npz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"starter.npz has 1,000 bytes .*damaged or another file"):
        starter.read(copied)


def test_another_file_is_refused_before_it_is_read(copied):
    # An array of objects is a pickle: it must never be opened.
    np.savez(copied / "starter.npz", np.array([print], dtype=object))
    with pytest.raises(ValueError, match=r"expected .*: it is damaged or another file"):
        starter.read(copied)


def test_a_missing_file_is_named(copied):
    (copied / "starter.npz").unlink()
    with pytest.raises(ValueError, match=r"starter.npz cannot be read \(No such file"):
        starter.read(copied)
    (copied / "starter.json").unlink()
    with pytest.raises(ValueError, match=r"starter.json cannot be read"):
        starter.read(copied)
