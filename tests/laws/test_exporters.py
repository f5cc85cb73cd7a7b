"""What every exporter promises."""

import numpy as np
import pytest
from conftest import Tiny, export

from tlkeras import spec
from tlkeras.exporter import Exporter
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import tf
from tlkeras.model import TransferModel
from tlkeras.tasks.classification import Classification


@pytest.fixture(scope="module")
def model():
    return TransferModel(Tiny(), Classification(), ("blue", "green", "red"), seed=0)


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 3)).astype("float32")


@pytest.mark.parametrize("name", spec.names(Exporter))
def test_an_exporter_is_its_text(name):
    exporter = spec.parse(name, Exporter)
    assert spec.parse(str(exporter), Exporter) == spec.parse(exporter.full(), Exporter) == exporter


@pytest.mark.parametrize("name", spec.names(Exporter))
def test_an_export_serves_what_keras_serves(name, model, inputs, tmp_path):
    exporter = spec.parse(name, Exporter)
    samples = tf.data.Dataset.from_tensor_slices(inputs)
    export(exporter, model, samples, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(exporter.files())
    served, expected = exporter.load(tmp_path)(inputs), model.served(inputs)
    for key, tensor in expected.items():
        np.testing.assert_allclose(served[key], tensor, rtol=0, atol=exporter.tolerance)


def test_the_saved_model_takes_any_size_and_encoded_pictures(model, tmp_path):
    SavedModel().write(model, None, tmp_path)
    signatures = tf.saved_model.load(tmp_path / "saved_model").signatures
    pixels = np.random.default_rng(1).integers(0, 256, (2, 50, 40, 3)).astype(np.uint8)
    by_image = signatures["serving_default"](image=tf.constant(pixels))
    by_float = signatures["float"](image=tf.constant(pixels.astype("float32")))
    encoded = [tf.io.encode_png(one) for one in pixels]
    by_bytes = signatures["encoded"](image=tf.stack(encoded))
    expected = model.predict(list(pixels))
    for served in (by_image, by_float, by_bytes):
        for i, one in enumerate(expected):
            np.testing.assert_allclose(served["probabilities"][i], one["probabilities"], atol=1e-5)
            assert served["label"][i].numpy().decode() == one["label"]
