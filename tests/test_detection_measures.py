"""Average precision, against pycocotools, and what else is measured of boxes."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from tlkeras.boxes.geometry import CROWD, DIFFICULT
from tlkeras.boxes.overlay import overlay
from tlkeras.measures import average_precision as ap
from tlkeras.measures.average_precision import Picture
from tlkeras.measures.detection import COLUMNS, REPLICAS, DetectionTally, agreement
from tlkeras.measures.measures import Gallery, Matrix, interval

CLASSES = ("cat", "dog", "emu")
AREAS = ("all", "small", "medium", "large")


def coco_of(pictures, classes):
    """Returns COCO's twelve numbers of pictures, by its own programme."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    truths, found = [], []
    for number, picture in enumerate(pictures):
        rows = zip(picture.boxes, picture.labels, picture.ignored, strict=True)
        for (top, left, bottom, right), label, ignored in rows:
            box = [left, top, right - left, bottom - top]
            truth = {"image_id": number, "category_id": int(label), "bbox": box}
            # From 1 on: it takes the id 0 for no match.
            truth |= {"id": len(truths) + 1, "area": box[2] * box[3], "iscrowd": int(ignored > 0)}
            truths.append(truth)
        rows = zip(picture.found, picture.categories, picture.scores, strict=True)
        for (top, left, bottom, right), label, score in rows:
            box = [left, top, right - left, bottom - top]
            one = {"image_id": number, "category_id": int(label), "bbox": box, "score": score}
            found.append(one)
    with contextlib.redirect_stdout(io.StringIO()):
        one = coco.COCO()
        one.dataset = {
            "images": [{"id": i} for i in range(len(pictures))],
            "categories": [{"id": i} for i in range(classes)],
            "annotations": truths,
            "info": {},
        }
        one.createIndex()
        judge = cocoeval.COCOeval(one, one.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats


def ours_of(pictures, classes):
    """Returns the same numbers in COCO's order; -1 is undefined, as there."""

    def precision(area, threshold=None):
        found = [*map(ap.precisions, ap.matched(pictures, classes, area))]
        return ap.mean(found, threshold)

    def recall(area, most):
        return ap.mean([*map(ap.recalls, ap.matched(pictures, classes, area, most))])

    numbers = [precision("all"), precision("all", 0), precision("all", 5)]
    numbers += [precision(area) for area in AREAS[1:]]
    numbers += [recall("all", most) for most in (1, 10, 100)]
    numbers += [recall(area, 100) for area in AREAS[1:]]
    return [-1 if each is None else each for each in numbers]


def drawn(random, count, ties=False, crowds=False, objects=6, alarms=6, size=200):
    """Returns pictures of boxes in whole pixels, found ones near the true ones or anywhere."""
    pictures = []
    for _ in range(count):
        n = random.integers(0, objects + 1)
        corners = random.integers(0, size, (n, 2))
        boxes = np.concatenate([corners, corners + random.integers(1, 130, (n, 2))], 1).astype(
            float
        )
        labels = random.integers(0, 3, n)
        near = boxes[random.random(n) < 0.9].repeat(2, axis=0)
        near = near + random.integers(-6, 7, near.shape)
        corners = random.integers(0, size, (random.integers(0, alarms + 1), 2))
        far = np.concatenate([corners, corners + random.integers(1, 90, corners.shape)], 1)
        found = np.concatenate([near, far])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        scores = random.random(len(found))
        pictures.append(
            Picture(
                boxes,
                labels,
                (random.random(n) < 0.3) * CROWD if crowds else np.zeros(n, int),
                found.astype(float),
                scores.round(1) if ties else scores,
                np.concatenate(
                    [labels[random.integers(0, n, len(near))], random.integers(0, 3, len(far))]
                )
                if n
                else random.integers(0, 3, len(found)),
            )
        )
    return pictures


def one(boxes, found, scores=None, labels=None, ignored=None):
    """Returns a picture of one class, if labels say nothing else."""
    boxes, found = (np.array(each, float).reshape(-1, 4) for each in (boxes, found))
    return Picture(
        boxes,
        np.zeros(len(boxes), int) if labels is None else np.array(labels),
        np.zeros(len(boxes), int) if ignored is None else np.array(ignored),
        found,
        np.linspace(0.9, 0.1, len(found)) if scores is None else np.array(scores, float),
        np.zeros(len(found), int),
    )


RANDOM = {
    "plain": {"count": 12},
    "ties": {"count": 12, "ties": True},
    "crowds": {"count": 12, "crowds": True},
    "ties and crowds": {"count": 25, "ties": True, "crowds": True, "objects": 12},
    "many objects": {"count": 2, "objects": 150, "alarms": 260, "size": 900},
}

SQUARE = [10, 10, 42, 42]  # Of exactly 32 * 32 pixels.

BY_HAND = {
    "areas on the border": [one([SQUARE, [0, 0, 96, 96]], [SQUARE, [0, 0, 96, 96]])],
    "empty pictures": [one([], [SQUARE]), one([SQUARE], []), one([SQUARE], [SQUARE])],
    "an IoU of exactly a half": [one([[0, 0, 10, 10]], [[0, 0, 10, 5]])],
    "two equal true boxes": [one([SQUARE, SQUARE], [SQUARE, SQUARE, SQUARE])],
    "equal overlaps": [one([[0, 0, 10, 10], [0, 2, 10, 12]], [[0, 1, 10, 11], [0, 2, 10, 12]])],
    "a crowd around": [
        one([[0, 0, 99, 99], SQUARE], [SQUARE, [50, 50, 80, 80], [0, 0, 9, 9]], ignored=[CROWD, 0])
    ],
    "nothing but crowds": [one([SQUARE], [SQUARE], ignored=[CROWD])],
    "no truth at all": [one([], [SQUARE])],
}


def test_numbers_are_those_of_coco_on_drawn_pictures():
    for seed, options in enumerate(RANDOM.values()):
        pictures = drawn(np.random.default_rng(seed), **options)
        expected = coco_of(pictures, len(CLASSES))
        np.testing.assert_allclose(ours_of(pictures, len(CLASSES)), expected, rtol=0, atol=1e-6)
        assert 0 < expected[0] < 1


@pytest.mark.parametrize("name", BY_HAND)
def test_numbers_are_those_of_coco_by_hand(name):
    pictures = BY_HAND[name]
    np.testing.assert_allclose(
        ours_of(pictures, 1), coco_of(pictures, 1), rtol=0, atol=1e-6, err_msg=name
    )


def test_a_difficult_object_counts_neither_found_nor_missed():
    other = [60, 60, 92, 92]
    easy = ap.precisions(ap.matched([one([SQUARE], [SQUARE])], 1)[0])
    for found in ([SQUARE], [SQUARE, other], [SQUARE, other, other]):
        picture = one([SQUARE, other], found, ignored=[0, DIFFICULT])
        np.testing.assert_array_equal(ap.precisions(ap.matched([picture], 1)[0]), easy)
    # Unlike in a crowd, a part of it is a false alarm.
    part, first = [60, 60, 70, 70], [0.9, 0.1]
    hard = one([SQUARE, other], [part, SQUARE], first, ignored=[0, DIFFICULT])
    crowd = one([SQUARE, other], [part, SQUARE], first, ignored=[0, CROWD])
    assert ap.mean([ap.precisions(ap.matched([hard], 1)[0])]) == pytest.approx(0.5)
    assert ap.mean([ap.precisions(ap.matched([crowd], 1)[0])]) == pytest.approx(1.0)


def test_weights_of_pictures_are_pictures_that_come_again():
    pictures = drawn(np.random.default_rng(5), 8, objects=10)
    weights = np.array([2, 0, 1, 3, 0, 1, 1, 0])
    again = [picture for picture, w in zip(pictures, weights, strict=True) for _ in range(w)]
    for own, other in zip(ap.matched(pictures, 3), ap.matched(again, 3), strict=True):
        weighted, expected = ap.precisions(own, weights), ap.precisions(other)
        assert weighted is not None and expected is not None
        np.testing.assert_allclose(weighted, expected, atol=1e-12)


def batch(pictures, most=12, size=200):
    """Returns targets and served arrays of pictures whose boxes are in pixels."""
    target = np.full([len(pictures), 1 + most, COLUMNS], -1, np.float32)
    served = {
        "boxes": np.zeros([len(pictures), most, 4]),
        "scores": np.zeros([len(pictures), most]),
        "category": np.zeros([len(pictures), most]),
    }
    for place, each in enumerate(pictures):
        target[place, 0] = [size, size, len(each.boxes), 0, 0, 0]
        rows = np.concatenate([each.boxes / size, each.labels[:, None], each.ignored[:, None]], 1)
        target[place, 1 : 1 + len(rows)] = rows[:most]
        order = np.argsort(-each.scores, kind="stable")[:most]
        served["boxes"][place, : len(order)] = each.found[order] / size
        served["scores"][place, : len(order)] = each.scores[order]
        served["category"][place, : len(order)] = each.categories[order]
    return target, served


def measured(pictures, most=12):
    tally = DetectionTally(CLASSES)
    tally.add(*batch(pictures, most), 0)
    return tally.measures()


def test_that_every_box_is_found_shows_no_more_than_a_share_of_the_pictures():
    box, label = np.array([[2.0, 2.0, 20.0, 20.0]]), np.zeros(1, np.int64)
    right = Picture(box, label, label, box, np.ones(1), label)
    found = measured([right] * 3).scalars
    assert found["ap"].value == 1 and found["ap"].interval == pytest.approx(interval(3, 3))
    assert measured([right]).scalars["ap"].interval is None


def test_pictures_without_boxes_make_what_is_known_of_the_others_no_less_sure():
    box, label = np.array([[2.0, 2.0, 20.0, 20.0]]), np.zeros(1, np.int64)
    right = Picture(box, label, label, box, np.ones(1), label)
    none = Picture(box[:0], label[:0], label[:0], box[:0], np.ones(0), label[:0])
    found = measured([right] * 3 + [none] * 97).scalars
    assert found["ap"].value == 1 and found["ap"].interval == pytest.approx(interval(3, 3))


def test_scalars_are_those_of_the_pictures_in_pixels():
    pictures = drawn(np.random.default_rng(3), 12, objects=4, alarms=2)
    expected = coco_of(pictures, len(CLASSES))
    found = measured(pictures)
    names = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "average_recall"]
    values = [found.scalars[name].value for name in names]
    np.testing.assert_allclose(values, expected[[0, 1, 2, 3, 4, 5, 8]], atol=1e-4)
    for scalar in found.scalars.values():
        assert scalar.interval is None or scalar.interval[0] <= scalar.value <= scalar.interval[1]
    assert found.scalars["ap"].interval and found.primary == "ap"


def test_only_the_classes_that_a_picture_has_are_looked_for_in_it(monkeypatch):
    pictures, calls, matched = drawn(np.random.default_rng(4), 20), [], ap._matched
    monkeypatch.setattr(ap, "_matched", lambda *given: calls.append(1) or matched(*given))
    tally = DetectionTally([*CLASSES, *(f"class {i}" for i in range(200))])
    tally.add(*batch(pictures, 30), 0)
    found = tally.measures()
    pairs = [len({*each.labels, *each.categories}) for each in pictures]
    assert 0 < len(calls) <= len(AREAS) * sum(pairs)
    assert found.scalars == measured(pictures, 30).scalars  # Other classes change nothing.


def test_intervals_draw_the_pictures_once_for_all_thresholds(monkeypatch):
    calls, precisions = [], ap.precisions
    monkeypatch.setattr(
        ap,
        "precisions",
        lambda each, weights=None: calls.append(weights) or precisions(each, weights),
    )
    measured(drawn(np.random.default_rng(4), 5))
    assert sum(weights is not None for weights in calls) == REPLICAS * len(CLASSES)


def test_confusions_count_classes_misses_and_false_alarms():
    boxes = [[0, 0, 50, 50], [60, 60, 99, 99], [120, 120, 160, 160], [0, 120, 50, 180]]
    picture = Picture(
        np.array(boxes, float),
        np.array([0, 1, 2, 1]),
        np.array([0, 0, 0, DIFFICULT]),
        np.array([boxes[0], boxes[1], [100, 0, 140, 50], boxes[3]], float),
        np.array([0.9, 0.8, 0.7, 0.65]),
        np.array([0, 2, 1, 1]),
    )
    certain = one([[0, 0, 20, 20]] * 1, [[0, 0, 20, 20]], [0.6])
    views = measured([picture, certain]).views
    (matrix,) = (view for view in views if isinstance(view, Matrix))
    # All are as sure as the last right one, which gives the best F1.
    assert matrix.names == [*CLASSES, "background"]
    assert matrix.counts == [[2, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]]


def test_galleries_have_the_best_and_the_worst_with_their_boxes():
    good, bad = one([SQUARE], [SQUARE], [0.9]), one([SQUARE], [[90, 90, 99, 99]], [0.95])
    views = measured([good, bad]).views
    worst, _, best = (view for view in views if isinstance(view, Gallery))
    assert [example.number for example in worst.examples] == [1, 0]
    assert [example.number for example in best.examples] == [0, 1]
    assert worst.examples[0].caption == "F1 0.00, 0 right, missed: cat, false: cat"
    assert set(worst.examples[0].overlays) == {"true", "found"}


def test_an_overlay_has_the_boxes_in_colours_and_is_clear_elsewhere():
    png = overlay(np.array([[10.0, 20, 50, 80]]), np.array([1]), (100, 200))
    with Image.open(io.BytesIO(png)) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    scale = pixels.shape[1] / 200
    assert pixels.shape[0] == round(100 * scale)
    opaque = np.argwhere(pixels[..., 3] > 0)
    np.testing.assert_allclose(opaque.min(0) / scale, [10, 20], atol=1)
    np.testing.assert_allclose((opaque.max(0) + 1) / scale, [50, 80], atol=1)
    assert not pixels[round(30 * scale), round(50 * scale), 3]


@pytest.mark.parametrize("side", [48, 96, 128, 144, 400])
def test_every_side_of_a_box_is_seen_where_the_overlay_is_shown_small(side):
    shown = min(side, 144)
    for start in np.linspace(0.1, 0.2, 23):
        box = np.array([[start, start, 0.8 - start / 3, 0.8 - start / 2]]) * side
        png = overlay(box, np.array([0]), (side, side))
        with Image.open(io.BytesIO(png)) as picture:
            small = picture.convert("RGBA").resize((shown, shown), Image.Resampling.NEAREST)
        seen = np.asarray(small)[..., 3] > 0
        rows, columns = seen.sum(1), seen.sum(0)
        long = 0.4 * shown
        for counts in (rows, columns):
            lines = np.flatnonzero(counts > long)
            assert lines.size and lines[0] < shown / 2 < lines[-1]


def test_remarks_tell_what_is_not_measured_and_what_is_weak():
    many = one([[10 * i, 0, 10 * i + 9, 9] for i in range(15)], [])
    remarks = " ".join(measured([many, one([], [])]).remarks)
    assert "1 of 2 pictures have more boxes than detection.most; 3 boxes are not" in remarks
    assert "in no picture, so nothing is known of them: dog, emu" in remarks
    assert "below 0.5: cat (0.00)" in remarks
    (told,) = measured([one([], [SQUARE])]).remarks
    assert told.startswith("No picture has a box")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"scores": np.full([2, 12], 1.5)}, "scores of example 7 are not in"),
        ({"boxes": np.full([2, 12, 4], np.nan)}, "boxes of example 7 are not finite"),
        ({"boxes": np.zeros([2, 11, 4])}, "Boxes have shape"),
    ],
)
def test_what_cannot_be_is_refused_by_the_number_of_its_picture(change, message):
    target, served = batch([one([SQUARE], [SQUARE])] * 2)
    with pytest.raises(ValueError, match=message):
        DetectionTally(CLASSES).add(target, served | change, 7)
    target[1, 1, 4] = 3
    with pytest.raises(ValueError, match="target of example 8 has the class 3"):
        DetectionTally(CLASSES).add(target, served, 7)


def test_answers_agree_if_the_sure_boxes_are_the_same():
    _, one_answer = batch([one([], [SQUARE, [90, 90, 150, 150]], [0.9, 0.55])] * 4)
    other = {name: array.copy() for name, array in one_answer.items()}
    other["boxes"][0] = other["boxes"][0, ::-1]
    for name in ("scores", "category"):
        other[name][0] = other[name][0, ::-1]
    other["scores"][1, 1] = 0.45
    other["boxes"][2, 0] *= 1.2
    other["category"][3, 0] = 1
    assert agreement(one_answer, other).tolist() == [True, True, False, False]
