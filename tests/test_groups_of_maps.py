"""Groups of tasks of many answers: masks and boxes are measured and weighed by group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import Tiny

from tlkeras.data.groups import Groups
from tlkeras.frameworks import tf
from tlkeras.measures.groups import GroupTally, Trained
from tlkeras.measures.parity import LEAST
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Task
from tlkeras.tasks.detection import Detection
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.training.balance import Balance, Cells

CLASSES = ("disc", "star")
COUNT = 2 * LEAST
NUMBERS = np.arange(COUNT, dtype=np.int32) % 2
NAMES = ("far", "near")


def masks(count: int, side: int, seed: int) -> np.ndarray:
    """Returns masks of the background, 0, and of two classes, uint8 [count, side, side]."""
    return np.random.default_rng(seed).integers(0, 3, (count, side, side)).astype(np.uint8)


def boxes(count: int, most: int, seed: int) -> np.ndarray:
    """Returns targets of two boxes each, float32 [count, 1 + most, 6]; see `Detection.target`."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 0.2, (count, 2, 2)) + np.array([[0.0, 0.0], [0.5, 0.5]])
    rows = np.full([count, 1 + most, 6], -1.0, np.float32)
    rows[:, 0] = [64, 64, 2, 0, 0, 0]
    rows[:, 1:3, :2], rows[:, 1:3, 2:4] = corners, corners + random.uniform(0.1, 0.3, (count, 2, 2))
    rows[:, 1:3, 4:] = np.stack([random.integers(0, 2, (count, 2)), np.zeros([count, 2])], axis=-1)
    return rows


def measured(task: Task, target: np.ndarray, served: dict[str, np.ndarray], batch: int = 7):
    """Returns what a tally by group found, which got the examples in batches."""
    totals = {name: 1 for name in NAMES}
    trained = Trained(totals, {name: np.ones(len(CLASSES), np.int64) for name in NAMES})
    tally = GroupTally("site", Groups(NAMES, NUMBERS), trained, task, CLASSES)
    for first in range(0, COUNT, batch):
        rows = slice(first, first + batch)
        tally.add(target[rows], {name: each[rows] for name, each in served.items()}, first)
    return tally.found


def test_the_overlap_of_masks_is_measured_by_group():
    true, found = masks(COUNT, 8, 0), masks(COUNT, 8, 1)
    found[NUMBERS == 1] = np.where(masks(COUNT, 8, 2) > 0, true, found)[NUMBERS == 1]
    result = measured(Segmentation(width=8), true, {"mask": np.eye(3)[found]})
    expected = {}
    for number, name in enumerate(NAMES):
        a, b = true[number == NUMBERS], found[number == NUMBERS]
        ratios = [((a == c) & (b == c)).sum() / ((a == c) | (b == c)).sum() for c in range(3)]
        expected[name] = np.mean(ratios)
    assert expected["near"] > expected["far"] + 0.2
    told = {name: each.score.value for (_, name), each in result.measured.items()}
    assert told == pytest.approx(expected)
    scalars = result.scalars()
    assert scalars["worst_mean_iou_site"].value == pytest.approx(expected["far"])
    assert scalars["gap_site"].value == pytest.approx(expected["near"] - expected["far"])


def test_the_precision_of_boxes_is_measured_by_group():
    task = Detection(width=8, most=4)
    target = boxes(COUNT, task.most, 0)
    target[:, 1:3, 4] = [0, 1]  # One box of each class.
    served = {
        "boxes": np.maximum(target[:, 1:, :4], 0),
        "scores": np.tile(np.array([0.9, 0.8, 0, 0], np.float32), (COUNT, 1)),
        "category": np.maximum(target[:, 1:, 4], 0),
    }
    # Of the far ones every second picture has no box found; without a false one, precision is 1 up
    # to a recall of a half, which are 51 of the 101 places at which COCO reads it.
    missed = (NUMBERS == 0) & (np.arange(COUNT) % 4 == 0)
    served["scores"][missed] = 0
    result = measured(task, target, served)
    told = {name: each.score.value for (_, name), each in result.measured.items()}
    assert told == pytest.approx({"far": 51 / 101, "near": 1.0})
    assert result.scalars()["gap_site"].value == pytest.approx(50 / 101)
    (reason,) = result.too_far(0.4)
    assert "the ap of far is 0.5050" in reason and [*result.too_far(0.5)] == []


@pytest.mark.parametrize("task", [Segmentation(width=8), Detection(width=8, most=4)])
def test_group_dro_weighs_whole_pictures_by_the_losses_of_their_cells(task: Task):
    model = TransferModel(Tiny(size=64), task, CLASSES, seed=0)
    pictures = np.random.default_rng(3).uniform(0, 255, (6, 64, 64, 3)).astype(np.float32)
    outputs: Any = model.full(pictures, training=False)
    target = tf.constant(masks(6, 64, 4) if task.member == "segmentation" else boxes(6, 4, 4))
    numbers, step_size = np.array([0, 0, 0, 0, 1, 1], np.int32), 0.7
    cells = Cells(NAMES, {"train": np.array([0] * 30 + [1] * 10, np.int32)})
    balance = Balance(cells, step_size, task, CLASSES)
    loss = task.loss()
    # The loss of a picture is its own: it is the same without the others.
    alone = np.array([loss.call(target[i : i + 1], outputs[i : i + 1])[0] for i in range(6)])
    fixed, factors = np.array([40 / (2 * 30), 40 / (2 * 10)]), np.ones(2)
    for _ in range(2):
        weights = balance.weights(tf.constant(numbers), target, outputs).numpy()
        sums = np.bincount(numbers, weights=alone * fixed[numbers])
        factors = factors * np.exp(step_size * 2 * sums / 6)
        factors /= factors.mean()
        np.testing.assert_allclose(weights, (fixed * factors)[numbers], rtol=1e-4)
    assert np.ptp(factors) > 0.1
