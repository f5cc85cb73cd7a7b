"""What two devices of one machine compute is what one computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """By case of ``halves.py``, what one device and what two found."""
    out = tmp_path_factory.mktemp("found") / "found.json"
    subprocess.run(
        [sys.executable, str(HERE / "halves.py"), str(out)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(HERE.parent)},
        check=True,
    )
    return json.loads(out.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("case", ["clipped sgd", "clipped adam", "clipped sgd in float16"])
def test_gradients_of_embeddings_are_clipped_as_on_one_device(found, case):
    one, two = found[case]
    assert len(one) == 5
    for place, weights in one.items():
        np.testing.assert_allclose(two[place], weights, rtol=1e-4, atol=1e-5, err_msg=place)


@pytest.mark.slow
def test_the_losses_of_a_sweep_with_short_batches_are_those_of_one_device(found):
    one, two = found["swept"]
    # Behind the best rate every rounding grows.
    np.testing.assert_allclose(two[:80], one[:80], rtol=1e-5)


@pytest.mark.slow
def test_callbacks_see_the_means_over_all_rows_so_far(found):
    one, two = found["logged"]
    np.testing.assert_allclose(two, one, rtol=1e-5)
