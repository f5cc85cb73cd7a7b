"""Heat of a network that has learned something: it lies where the answer comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import Tiny
from scipy import stats

from tlkeras.explaining.maps import Places
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.classification import Classification

SIZE, SQUARE, EPOCHS = 112, 36, 5
COLOURS = {"blue": (38, 84, 214), "green": (42, 158, 66), "red": (214, 36, 42)}


def planted(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns grey noise with a square in the colour of a class, labels, and where squares are."""
    random = np.random.default_rng(seed)
    pictures = np.repeat(random.normal(128, 40, (count, SIZE, SIZE, 1)), 3, axis=-1)
    labels, inside = random.integers(3, size=count), np.zeros([count, SIZE, SIZE], bool)
    corners = random.integers(0, SIZE - SQUARE, (count, 2))
    for mask, (top, left) in zip(inside, corners, strict=True):
        mask[top : top + SQUARE, left : left + SQUARE] = True
    colours = np.array([*COLOURS.values()])[labels][:, None, None]
    pictures = np.where(inside[..., None], colours, pictures)
    return pictures.clip(0, 255).astype(np.float32), labels, inside


@pytest.fixture(scope="module")
def model() -> TransferModel:
    """Returns a network that was trained on planted squares for some seconds, norms frozen."""
    made = TransferModel(Tiny(size=SIZE), Classification(0.0), [*COLOURS], seed=0)
    made.train_only([*made.blocks])
    network: Any = made.full
    network.compile(keras.optimizers.Adam(3e-3), made.task.loss())
    pictures, labels, _ = planted(256, 0)
    keras.utils.set_random_seed(0)
    network.fit(pictures, np.eye(3)[labels], batch_size=32, epochs=EPOCHS, verbose=0)
    return made


@pytest.fixture(scope="module")
def explained(model):
    """Returns fresh pictures, the predicted classes, where squares are, and the heat [n, 7, 7]."""
    pictures, labels, inside = planted(60, 1)
    heat, chosen = Places(model)(pictures)
    predicted = np.asarray(chosen.labels)[:, 0]
    assert (predicted == labels).mean() >= 0.9
    return pictures, predicted, inside, heat[:, 0]


def test_heat_is_where_a_planted_shortcut_is(explained):
    _, _, inside, heat = explained
    finer = tf.image.resize(heat[..., None], [SIZE, SIZE], "bicubic").numpy()[..., 0]
    peaks = finer.reshape(len(finer), -1).argmax(axis=1)
    hits = inside.reshape(len(inside), -1)[np.arange(len(peaks)), peaks]
    assert hits.mean() >= 0.8 and inside.mean() < 0.15


@pytest.mark.parametrize("block", [None, "block4"])
def test_shuffled_weights_change_heat(model, explained, block):
    pictures, predicted, _, before = explained
    kept, random, changed = model.full.get_weights(), np.random.default_rng(2), []
    layers = [model.head.get_layer("logits"), *(model.blocks[block] if block else [])]
    kernels = [each for layer in layers for each in layer.weights if len(each.shape) > 1]
    for _ in range(6):
        for kernel in kernels:
            kernel.assign(random.permuted(kernel.numpy().ravel()).reshape(kernel.shape))
        heat, chosen = Places(model)(pictures, most=3)
        same = np.asarray(chosen.labels) == predicted[:, None]
        np.testing.assert_array_equal(same.sum(axis=1), 1)
        changed += [rank_correlation(*each) for each in zip(before, heat[same], strict=True)]
    model.full.set_weights(kept)
    heat, _ = Places(model)(pictures)
    unchanged = [rank_correlation(*each) for each in zip(before, heat[:, 0], strict=True)]
    assert np.mean(unchanged) > 0.99 > 0.5 > abs(np.mean(changed))


@pytest.mark.parametrize(("comes_first", "sign"), [(False, -1), (True, 1)])
def test_hot_places_carry_the_answer_more_than_any_others(model, explained, comes_first, sign):
    pictures, predicted, _, heat = explained
    chance = np.random.default_rng(3).random(heat.shape)
    own, other = (curve(model, pictures, predicted, each, comes_first) for each in (heat, chance))
    assert sign * (own - other) > 0.1


def curve(model, pictures, predicted, order, comes_first) -> float:
    """Returns the mean probability of the class as places of high order are added or taken away.

    What is taken away becomes the grey of the noise.
    """
    ranks = (-order).reshape(len(order), -1).argsort(axis=1).argsort(axis=1).reshape(order.shape)
    found = []
    for share in (0.1, 0.3, 0.6):
        chosen = (ranks < share * ranks[0].size) == comes_first
        kept = chosen.repeat(SIZE // 7, axis=1).repeat(SIZE // 7, axis=2)[..., None]
        logits = model.full(np.where(kept, pictures, 128).astype(np.float32), training=False)
        probabilities = tf.nn.softmax(logits).numpy()
        found.append(probabilities[np.arange(len(predicted)), predicted].mean())
    return float(np.mean(found))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    found: Any = stats.spearmanr(one.ravel(), other.ravel())
    return float(found.statistic)
