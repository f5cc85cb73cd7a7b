"""What every exporter promises."""

import numpy as np
import pytest
from conftest import Tiny, export

from tlkeras import spec
from tlkeras.exporter import Exporter
from tlkeras.frameworks import tf
from tlkeras.model import TransferModel
from tlkeras.tasks.classification import Classification


@pytest.fixture(scope="module")
def model():
    return TransferModel(Tiny(), Classification(), ("blue", "green", "red"), seed=0)


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 3)).astype("float32")


@pytest.fixture(params=spec.names(Exporter))
def exporter(request):
    """Every member of the family, unless the extra that it needs is not installed."""
    try:
        return spec.parse(request.param, Exporter)
    except ValueError as error:
        if "pip install 'tlkeras[" not in str(error):
            raise
        pytest.skip(str(error))


def test_an_exporter_is_its_text(exporter):
    assert spec.parse(str(exporter), Exporter) == spec.parse(exporter.full(), Exporter) == exporter


def test_an_export_serves_what_keras_serves(exporter, model, inputs, tmp_path):
    samples = tf.data.Dataset.from_tensor_slices(inputs)
    export(exporter, model, samples, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(exporter.files())
    served, expected = exporter.load(tmp_path)(inputs), model.served(inputs)
    for key, tensor in expected.items():
        np.testing.assert_allclose(served[key], tensor, rtol=0, atol=exporter.tolerance)
