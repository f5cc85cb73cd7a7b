"""The measures of a segmentation against scikit-learn and SciPy, and by hand."""

from __future__ import annotations

import base64
import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from PIL import Image
from scipy import ndimage

from tlkeras.images import masks
from tlkeras.measures.measures import Gallery, Matrix, Measures, Table, interval, parsed
from tlkeras.measures.segmentation import SHOWN, TOLERANCE, SegmentationTally

CLASSES = ("road", "car")

oracle: Any = sklearn.metrics
distances: Any = ndimage


def pairs(count: int = 12, side: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Returns masks and answers of smooth areas, shifted against each other; some are ignored."""
    random = np.random.default_rng(0)
    noise = distances.gaussian_filter(random.normal(size=[count, side, side]), (0, 4, 4))
    edges = np.quantile(noise, [0.5, 0.8])
    true = np.digitize(noise, edges).astype(np.uint8)
    found = np.roll(true, (1, 2), axis=(1, 2))
    true[:, :3, :5] = 255
    return true, found


def scores(found: np.ndarray) -> np.ndarray:
    return np.eye(1 + len(CLASSES), dtype="float32")[found]


def measured(true: np.ndarray, found: np.ndarray, size: int = 5) -> Measures:
    tally = SegmentationTally(CLASSES)
    for first in range(0, len(true), size):
        part = slice(first, first + size)
        tally.add(true[part], {"mask": scores(found[part])}, first)
    return tally.measures()


def edges(area: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns the boundary pixels by SciPy."""
    cross = distances.generate_binary_structure(2, 1)
    outside = distances.binary_dilation(~area & known, cross)
    return area & known & outside


def test_measures_are_those_of_scikit_learn():
    true, found = pairs()
    known = true != 255
    by_name = {"iou": "jaccard_score", "dice": "f1_score"}
    result = measured(true, found)
    for name, function in by_name.items():
        expected = getattr(oracle, function)(true[known], found[known], average="macro")
        assert result.scalars[f"mean_{name}"].value == pytest.approx(expected)
    assert result.scalars["pixel_accuracy"].value == (true == found)[known].mean()
    (matrix,) = (view for view in result.views if isinstance(view, Matrix))
    assert list(matrix.names) == ["background", *CLASSES]
    confusions = oracle.confusion_matrix(true[known], found[known])
    np.testing.assert_array_equal(matrix.counts, confusions)
    (table,) = (view for view in result.views if isinstance(view, Table))
    ious = oracle.jaccard_score(true[known], found[known], average=None)
    np.testing.assert_allclose([row[1] for row in table.rows], ious)


def test_the_boundary_measure_is_that_of_distances():
    true, found = pairs()
    reach = max(1, round(TOLERANCE * np.hypot(*true.shape[1:])))
    values = []
    for number in (1, 2):
        met, all_ = np.zeros(2), np.zeros(2)
        for mask, answer in zip(true, found, strict=True):
            known = mask != 255
            both = [edges(each == number, known) for each in (mask, answer)]
            for i, (own, other) in enumerate([both, both[::-1]]):
                far = distances.distance_transform_edt(~other) if other.any() else np.inf
                met[i] += (own & (far <= reach)).sum()
                all_[i] += own.sum()
        recall, precision = met / all_
        values.append(2 * recall * precision / (recall + precision))
    assert measured(true, found).scalars["boundary_f"].value == pytest.approx(np.mean(values))


def test_a_right_answer_is_one_and_a_wrong_one_is_zero():
    true, _ = pairs()
    known = np.where(true == 255, 0, true)
    right = measured(true, known)
    assert {scalar.value for scalar in right.scalars.values()} == {1.0}
    expected = interval(len(true), len(true))  # That all are right shows no more than a share.
    assert all(scalar.interval == expected for scalar in right.scalars.values())
    assert not right.remarks
    wrong = measured(true, (known + 1) % 3)
    assert wrong.scalars["mean_iou"].value == wrong.scalars["pixel_accuracy"].value == 0
    assert "no better" in wrong.remarks[0] and "is below 0.5" in wrong.remarks[1]


def test_what_never_occurs_does_not_count():
    empty = np.zeros([2, 8, 8], np.uint8)
    result = measured(empty, empty)
    assert result.score.value == 1 and "in no mask" in result.remarks[-1]
    ignored = measured(np.full([2, 8, 8], 255, np.uint8), empty)
    assert {scalar.value for scalar in ignored.scalars.values()} == {1.0}


def test_a_mask_of_another_size_is_resized_as_tensorflow_does():
    from tlkeras.frameworks import tf

    true, found = pairs(2, 41)
    for size in ((16, 16), (60, 20)):
        expected = tf.image.resize(true[..., None], size, "nearest")[..., 0].numpy()
        np.testing.assert_array_equal([masks.nearest(each, size) for each in true], expected)
        answer = np.stack([masks.nearest(each, size) for each in found])
        assert measured(true, answer).plain() == measured(expected, answer).plain()


def test_the_interval_is_that_of_pictures_drawn_anew():
    random = np.random.default_rng(0)
    true = np.ones([200, 8, 8], np.uint8)
    found = np.ones_like(true)
    found[:, :4] = random.integers(0, 2, 200)[:, None, None]  # Half of a picture, or nothing.
    low, high = measured(true, found).scalars["pixel_accuracy"].interval or (0, 0)
    parts = (true == found).mean(axis=(1, 2))
    draws = [parts[random.integers(0, 200, 200)].mean() for _ in range(2000)]
    np.testing.assert_allclose([low, high], np.percentile(draws, [2.5, 97.5]), atol=0.01)
    again = measured(true, found, size=50).scalars["pixel_accuracy"].interval
    assert again == (low, high)


def test_the_galleries_are_the_worst_the_median_and_the_best():
    true = np.ones([60, 20, 20], np.uint8)
    found = np.ones_like(true)
    for number in range(60):
        found[number].flat[: 6 * number] = 2
    tally = SegmentationTally(CLASSES)
    tally.add(true, {"mask": scores(found)}, 100)
    galleries = {each.title: each for each in tally.measures().views if isinstance(each, Gallery)}
    numbers = {title: [x.number for x in each.examples] for title, each in galleries.items()}
    assert numbers["Best masks"] == [100, 101, 102, 103]
    assert numbers["Worst masks"] == [159, 158, 157, 156]
    assert {*numbers["Median masks"]} == {128, 129, 130, 131}
    assert all(len(each.examples) == SHOWN for each in galleries.values())
    example = galleries["Worst masks"].examples[0]
    assert "road" in example.caption
    assert [*example.overlays] == ["true", "predicted"]
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(example.overlays["true"]))))
    np.testing.assert_array_equal(pixels, 1)
    assert parsed(tally.measures().plain()).views == tally.measures().views


def test_an_overlay_is_clear_where_no_class_is():
    mask = np.zeros([300, 600], np.uint8)
    mask[:, 300:] = 1
    mask[:100] = 255
    pixels = np.asarray(Image.open(io.BytesIO(masks.overlay(mask))).convert("RGBA"))
    assert pixels.shape == (72, 144, 4)
    assert pixels[60, 10, 3] == 0 and pixels[60, 140, 3] > 100
    np.testing.assert_array_equal(pixels[10, 10, :3], 128)


def test_memory_does_not_grow_with_the_pictures():
    true, found = pairs(8)

    def used(count: int) -> int:
        tally = SegmentationTally(CLASSES)
        tracemalloc.start()
        for first in range(0, count, 8):
            tally.add(true, {"mask": scores(found)}, first)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size

    assert used(160) < used(80) + 60_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda true, row: (true, row[:, :, :, :2]), r"Scores have shape .* expected \(3, height"),
        (lambda true, row: (true[:2], row), r"expected \(2, height, width, 3\)"),
        (lambda true, row: (true.astype(int), row), "Masks are int64"),
        (lambda true, row: (true + 1, row), "mask of example 7 has the class 3, expected 0 to 2"),
        (lambda true, row: (true, row * [[[[np.nan]]], [[[1]]], [[[1]]]]), "example 7 are not"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_added(change, message):
    true = np.full([3, 8, 8], 2, np.uint8)
    tally = SegmentationTally(CLASSES)
    target, rows = change(true, scores(true))
    with pytest.raises(ValueError, match=message):
        tally.add(target, {"mask": rows}, 7)
    with pytest.raises(ValueError, match="no example"):
        tally.measures()
