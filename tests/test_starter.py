"""The weights that come with tlkeras."""

import shutil

import numpy as np
import pytest

from tlkeras.backbones import starter
from tlkeras.backbones.starter import Starter


@pytest.fixture
def copied(tmp_path):
    for name in ("starter.npz", "starter.json"):
        shutil.copy(starter.WEIGHTS / name, tmp_path)
    return tmp_path


def test_the_weights_are_small_finite_and_in_the_network(copied):
    assert (copied / "starter.npz").stat().st_size <= 2.5e6
    arrays = starter.read(copied)
    assert all(np.isfinite(array).all() for array in arrays)
    features = Starter(size=64).build()
    held = {id(w): w for w in features.get_weights()}
    assert len(held) <= len(arrays)
    kernel = features.get_layer("Conv1").get_weights()[0]
    np.testing.assert_array_equal(kernel, arrays[0])


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
