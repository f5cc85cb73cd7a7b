"""Weights that come with tlkeras are read only if they are the described ones."""

import shutil

import numpy as np
import pytest

from tlkeras import shipped

SIZES = {"starter": 2.5e6, "starter_text": 4e6}

of_all = pytest.mark.parametrize("name", SIZES)


@pytest.fixture
def copied(tmp_path):
    for name in SIZES:
        for suffix in ("npz", "json"):
            shutil.copy(shipped.FOLDER / f"{name}.{suffix}", tmp_path)
    return tmp_path


@of_all
def test_weights_are_small_and_finite(copied, name):
    assert (copied / f"{name}.npz").stat().st_size <= SIZES[name]
    arrays = shipped.read(name, copied)
    assert all(np.isfinite(array).all() for array in arrays.values())


@of_all
def test_a_truncated_file_is_refused_by_its_digest(copied, name):
    path = copied / f"{name}.npz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"{name}.npz has 1,000 bytes .*damaged or another file"):
        shipped.read(name, copied)


@of_all
def test_another_file_is_refused_before_it_is_read(copied, name):
    # An array of objects is a pickle: it must never be opened.
    np.savez(copied / f"{name}.npz", np.array([print], dtype=object))
    with pytest.raises(ValueError, match=r"expected .*: it is damaged or another file"):
        shipped.read(name, copied)


@of_all
@pytest.mark.parametrize("suffix, why", [("npz", r" \(No such file"), ("json", "")])
def test_a_missing_file_is_named(copied, name, suffix, why):
    (copied / f"{name}.{suffix}").unlink()
    with pytest.raises(ValueError, match=rf"{name}.{suffix} cannot be read{why}"):
        shipped.read(name, copied)
