"""Real photos and real ImageNet weights, where their folder lies beside the checkout."""

from typing import Any

import numpy as np
import pytest

from tlkeras.backbones.applications import MobileNetV2
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import keras
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.fine_tune import FineTune, Phase
from tlkeras.sources.folder import Folder
from tlkeras.sources.masks import Masks
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.segmentation import Segmentation

pytestmark = pytest.mark.data

WEIGHTS = "weights/imagenet/MobileNetV2_0.35_224_notop.weights.h5"


def test_published_weights_give_the_features_of_plain_keras(real_data):
    path = real_data / WEIGHTS
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3)).astype("float32")
    none: Any = None  # Keras annotates it as a text only.
    plain = keras.applications.MobileNetV2(
        input_shape=(96, 96, 3), alpha=0.35, include_top=False, weights=none
    )
    plain.load_weights(path)
    expected = plain(keras.applications.mobilenet_v2.preprocess_input(pixels.copy()))
    ours = MobileNetV2(size=96, alpha=0.35, weights=str(path)).build()
    np.testing.assert_allclose(ours(pixels)["stride32"], expected, atol=1e-4)


def test_ants_and_bees_are_told_apart_after_two_phases(real_data, tmp_path):
    backbone = MobileNetV2(size=160, alpha=0.35, weights=str(real_data / WEIGHTS))
    ingest.write_examples(
        Folder(real_data / "images/hymenoptera"), Split(test=0), tmp_path / "examples"
    )
    data = Data(tmp_path / "examples", backbone, Classification())
    model = TransferModel(backbone, Classification(), data.classes)
    logs = FineTune().fit(model, data, tmp_path / "fit")
    # 0.837 and 0.856 were measured with a smaller training part; 0.5 is chance.
    assert max(log["val_accuracy"] for log in logs) > 0.8
    files = sorted((real_data / "images/hymenoptera/val").glob("*/*.jpg"))
    served = model.predict(files)
    hits = [one["label"] == file.parent.name for one, file in zip(served, files, strict=True)]
    assert np.mean(hits) > 0.8
    for one in served:
        assert one["probabilities"].sum() == pytest.approx(1, abs=1e-5)


def test_pedestrians_are_segmented_on_frozen_features(real_data, tmp_path):
    folder = real_data / "images/pennfudan"
    names = ("background", "person")
    source = Masks(folder / "images", folder / "masks", names=names, instances=True)
    ingest.write_examples(source, Split(), tmp_path / "examples")
    backbone = MobileNetV2(size=160, alpha=0.35, weights=str(real_data / WEIGHTS))
    data = Data(tmp_path / "examples", backbone, Segmentation(), batch_size=16)
    model = TransferModel(backbone, data.task, data.classes)
    phase = Phase(epochs=8, learning_rate=3e-3, schedule="cosine", warmup=0.1)
    logs = FineTune(phases=(phase,)).fit(model, data, tmp_path / "fit")
    # 0.787 was measured after twelve epochs; background alone is 0.4.
    assert max(log["val_mean_iou"] for log in logs) > 0.73
    tally, first = data.task.tally(data.classes), 0
    for inputs, target in data.batches("test").as_numpy_iterator():
        served = {name: np.asarray(value) for name, value in model.served(inputs).items()}
        tally.add(target, served, first)
        first += len(target)
    assert tally.measures().score.value > 0.7
