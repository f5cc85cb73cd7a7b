"""Detection: geometry, suppression, assignment, loss, metric and exports."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiny
from PIL import Image

from tlkeras import spec, wire
from tlkeras.boxes import assignment, geometry, suppression
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.exporter import Exporter
from tlkeras.formats import litert
from tlkeras.frameworks import keras, tf
from tlkeras.kinds.image import Image as ImageKind
from tlkeras.losses.detection import AP50, DetectionLoss
from tlkeras.measures import average_precision as ap
from tlkeras.model.transfer_model import TransferModel, computing_in
from tlkeras.sources.embedded import Embedded
from tlkeras.task import Task
from tlkeras.tasks.detection import Detection
from tlkeras.training import schedule

CLASSES = ("cat", "dog", "emu")
IMAGE = ImageKind()


def random_boxes(random, *shape):
    """Returns boxes inside the picture, no side smaller than 0.02."""
    low = random.uniform(0, 0.7, (*shape, 2))
    return np.concatenate([low, low + random.uniform(0.02, 0.3, (*shape, 2))], -1).astype("float32")


def overlap_of(one, other):
    """Returns IoU and generalized IoU of two boxes, by the definition."""
    sides = [max(0.0, min(one[i + 2], other[i + 2]) - max(one[i], other[i])) for i in range(2)]
    both = sides[0] * sides[1]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    hull = [max(one[i + 2], other[i + 2]) - min(one[i], other[i]) for i in range(2)]
    either, whole = sum(areas) - both, hull[0] * hull[1]
    return both / either, both / either - (whole - either) / whole


def test_overlaps_are_those_of_the_definition():
    random = np.random.default_rng(0)
    one, other = random_boxes(random, 20), random_boxes(random, 20)
    expected = np.array([overlap_of(*both) for both in zip(one, other, strict=True)])
    np.testing.assert_allclose(geometry.iou(one, other), expected[:, 0], atol=1e-6)
    np.testing.assert_allclose(geometry.generalized_iou(one, other), expected[:, 1], atol=1e-5)
    pairs = np.array([[overlap_of(a, b)[0] for b in other] for a in one])
    np.testing.assert_allclose(geometry.pairs(one, other), pairs, atol=1e-6)
    none = np.zeros([1, 4], np.float32)
    assert np.asarray(geometry.iou(none, none)) == 0
    assert np.asarray(geometry.generalized_iou(none, none)) <= 0


def test_a_box_comes_back_from_its_code_on_any_cell():
    random = np.random.default_rng(1)
    cells = geometry.cells(3, 5)
    np.testing.assert_allclose(cells[5:7], [[0.5, 0.1, 1 / 3, 0.2], [0.5, 0.3, 1 / 3, 0.2]])
    boxes = random_boxes(random, 4, 15)
    codes = geometry.encoded(boxes, cells)
    np.testing.assert_allclose(geometry.decoded(codes, cells), boxes, atol=1e-6)
    square = geometry.decoded(np.zeros([15, 4], np.float32), cells)
    np.testing.assert_allclose(
        square[7], [0.5 - 2 / 3, 0.5 - 0.4, 0.5 + 2 / 3, 0.5 + 0.4], atol=1e-6
    )


def greedy(boxes, scores, categories, most, threshold, least):
    """Returns the places of the boxes that stay, by the definition."""
    stay = []
    for place in np.argsort(-scores, kind="stable"):
        same = [each for each in stay if categories[each] == categories[place]]
        free = all(overlap_of(boxes[each], boxes[place])[0] <= threshold for each in same)
        if free and scores[place] >= least:
            stay.append(place)
    return stay[:most]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_suppression_is_greedy_suppression_by_class(threshold):
    random = np.random.default_rng(2)
    # Crowded: around few places.
    boxes = np.clip(random_boxes(random, 3, 9).repeat(14, axis=1), 0, 1)
    boxes = np.clip(boxes + random.normal(0, 0.02, boxes.shape), 0, 1).astype("float32")
    scores = random.uniform(0, 1, boxes.shape[:2]).astype("float32")
    categories = random.integers(0, 2, scores.shape).astype("float32")
    found = suppression.suppressed(boxes, scores, categories, 20, threshold, 0.05)
    for place in range(3):
        stay = greedy(boxes[place], scores[place], categories[place], 20, threshold, 0.05)
        assert found["count"][place] == len(stay) and len(stay) > 5
        for name, array in (("boxes", boxes), ("scores", scores), ("category", categories)):
            got = np.asarray(found[name][place])
            np.testing.assert_array_equal(got[: len(stay)], array[place][stay])
            assert not got[len(stay) :].any()


def test_suppression_is_right_along_a_chain_and_with_few_boxes():
    # Each overlaps the next one by 0.6: every second one stays.
    shifts = np.arange(16, dtype=np.float32) * 0.02
    boxes = np.stack([shifts, 0 * shifts, shifts + 0.08, 0 * shifts + 0.1], -1)[None]
    scores = np.linspace(0.9, 0.5, 16, dtype=np.float32)[None]
    found = suppression.suppressed(boxes, scores, np.zeros_like(scores), 30, 0.5, 0.0)
    np.testing.assert_array_equal(np.asarray(found["scores"])[0, :8], scores[0, ::2])
    assert found["count"][0] == 8 and found["boxes"].shape == (1, 30, 4)


def crowd(objects, copies):
    """Returns boxes and scores of objects side by side, each found several times: [1, n, …].

    Every copy of an object is surer than those of the next one, as large objects are.
    """
    side = int(np.ceil(np.sqrt(objects)))
    rows, columns = np.divmod(np.arange(objects).repeat(copies), side)
    low = np.stack([rows, columns], -1) / side
    boxes = np.concatenate([low, low + 0.9 / side], -1)[None]
    boxes = boxes + np.random.default_rng(5).normal(0, 0.01 / side, boxes.shape)
    order = np.random.default_rng(6).permutation(boxes.shape[1])
    scores = np.linspace(0.9, 0.1, boxes.shape[1])[None]
    return boxes[:, order].astype("float32"), scores[:, order].astype("float32")


@pytest.mark.parametrize("objects, copies, most", [(60, 10, 100), (300, 1, 300)])
def test_every_object_of_a_crowded_picture_is_found(objects, copies, most):
    boxes, scores = crowd(objects, copies)
    nobody = np.zeros_like(scores)
    found = suppression.suppressed(boxes, scores, nobody, most, 0.5, 0.05)
    assert found["count"][0] == objects and found["boxes"].shape == (1, most, 4)
    stay = greedy(boxes[0], scores[0], nobody[0], most, 0.5, 0.05)
    for name, array in (("boxes", boxes), ("scores", scores)):
        np.testing.assert_array_equal(np.asarray(found[name])[0, :objects], array[0, stay])


def test_what_is_suppressed_suppresses_nothing_however_many_boxes_are_between():
    # The second of the chain goes, so the third, which overlaps it alone, stays.
    chain = np.array([[0.9, 0, 0.94, 0.4], [0.9, 0.1, 0.94, 0.5], [0.9, 0.2, 0.94, 0.6]])
    others, _ = crowd(200, 1)
    boxes = np.concatenate([chain[:2], others[0] * 0.8, chain[2:]])[None].astype("float32")
    scores = np.linspace(0.9, 0.1, 203, dtype=np.float32)[None]
    found = suppression.suppressed(boxes, scores, np.zeros_like(scores), 300, 0.5, 0.0)
    assert found["count"][0] == 202
    np.testing.assert_array_equal(found["boxes"][0, 201], boxes[0, 202])


def test_cells_inside_a_box_learn_it_and_small_boxes_get_the_nearest_cell():
    cells = geometry.cells(8, 8)[None]
    boxes = np.array([[[0.1, 0.1, 0.6, 0.6], [0.78, 0.78, 0.8, 0.8], [0, 0, 0, 0]]], "float32")
    predicted = geometry.decoded(np.zeros([1, 64, 4], np.float32), cells)
    scores = np.full([1, 64, 3], 0.1, np.float32)
    found = assignment.assigned(
        cells,
        predicted,
        scores,
        boxes,
        np.array([[1, 2, 0]]),
        np.array([[1.0, 2.0, 0.0]], "float32"),
    )
    learned = np.asarray(found.scores)[0]
    inside = np.all((cells[0, :, :2] > 0.1) & (cells[0, :, :2] < 0.6), axis=-1)
    assert 0 < (learned[:, 1] > 0).sum() <= 10 and inside[learned[:, 1] > 0].all()
    (small,) = np.flatnonzero(learned[:, 2])
    np.testing.assert_allclose(cells[0, small, :2], [0.8125, 0.8125])
    assert learned[small, 2] == pytest.approx(0.1) and not learned[:, 0].any()
    weights, has_box = np.asarray(found.weights)[0], learned.any(-1)
    assert (weights[~has_box] == 0).all() and weights[small] == 2
    # The best cell learns how well its box fits.
    overlaps = np.asarray(geometry.pairs(boxes[0], predicted[0]))[0]
    assert learned[:, 1].max() == pytest.approx(overlaps[learned[:, 1] > 0].max(), abs=1e-6)


def test_a_cell_in_two_boxes_learns_the_one_that_it_fits():
    cells = geometry.cells(4, 4)[None]
    boxes = np.array([[[0, 0, 1, 1], [0.2, 0.2, 0.8, 0.8]]], "float32")
    codes = geometry.encoded(np.repeat(boxes[:, :1], 16, axis=1), cells).numpy()
    inner = 5
    codes[0, inner] = geometry.encoded(boxes[0, 1], cells[0, inner])
    predicted = geometry.decoded(codes, cells)
    found = assignment.assigned(
        cells,
        predicted,
        np.full([1, 16, 2], 0.5, "float32"),
        boxes,
        np.array([[0, 1]]),
        np.ones([1, 2], "float32"),
    )
    np.testing.assert_allclose(found.boxes[0, inner], boxes[0, 1])
    learned = np.asarray(found.scores)[0]
    assert learned[inner, 1] == pytest.approx(1.0, abs=1e-5)
    assert (learned.sum(0) > 0).all()


def target_of(boxes, labels, ignored=None, most=5, classes=3):
    """Returns the target of one picture, a batch."""
    example = {
        "boxes": tf.constant(boxes, tf.float32, [len(boxes), 4]),
        "labels": tf.constant(labels, tf.int64, [len(labels)]),
        "image": tf.zeros([24, 36, 3], tf.uint8),
    }
    if ignored is not None:
        example["ignored"] = tf.constant(ignored, tf.int64)
    return Detection(most=most).target(example, None, classes)[None]


def test_a_target_is_the_boxes_their_number_and_the_size_of_the_picture():
    boxes = [[0.1, 0.2, 0.3, 0.4]] * 6
    (found,) = target_of(boxes[:2], [1, 2], [0, 2]).numpy()
    np.testing.assert_allclose(found[0], [24, 36, 2, 0, 0, 0])
    np.testing.assert_allclose(found[1:3], [[*boxes[0], 1, 0], [*boxes[0], 2, 2]], atol=1e-7)
    assert (found[3:] == -1).all()
    (more,) = target_of(boxes, [0] * 6).numpy()
    assert more.shape == (6, 6) and more[0, 2] == 6 and (more[1:, 4] == 0).all()
    (none,) = target_of([], []).numpy()
    assert none[0, 2] == 0 and (none[1:] == -1).all()


def outputs_of(boxes, labels, rows=8, classes=3, sure=6.0):
    """Returns outputs whose nearest cells have found these boxes, and no other cell anything."""
    cells = geometry.cells(rows, rows)
    found = np.zeros([1, rows * rows, 8 + classes], np.float32)
    found[0, :, :4], found[0, :, 8:] = cells, -sure
    for box, label in zip(np.array(boxes, "float32"), labels, strict=True):
        middle = (box[:2] + box[2:]) / 2
        nearest = np.abs(cells[:, :2] - middle).sum(-1).argmin()
        found[0, nearest, 4:8] = geometry.encoded(box, cells[nearest])
        found[0, nearest, 8 + label] = sure
    return found


def loss_of(target, outputs) -> float:
    return float(np.asarray(DetectionLoss()(target, outputs)))


BOXES, LABELS = [[0.1, 0.1, 0.4, 0.5], [0.5, 0.6, 0.95, 0.9]], [0, 2]


def test_the_loss_is_small_for_the_truth_and_larger_for_all_else():
    target = target_of(BOXES, LABELS)
    right = loss_of(target, outputs_of(BOXES, LABELS))
    wrong_class = loss_of(target, outputs_of(BOXES, [0, 1]))
    shifted = loss_of(target, outputs_of([[0.15, 0.1, 0.45, 0.5], BOXES[1]], LABELS))
    missed = loss_of(target, outputs_of(BOXES[:1], LABELS[:1]))
    alarm = loss_of(target, outputs_of([*BOXES, [0.7, 0.1, 0.9, 0.3]], [*LABELS, 1]))
    assert right < 0.1 and all(right + 0.2 < each for each in (wrong_class, shifted, missed, alarm))
    nothing = loss_of(target_of([], []), outputs_of([], []))
    assert 0 <= nothing < 0.01
    assert loss_of(target_of([], []), outputs_of(BOXES, LABELS)) > 1


def test_the_loss_is_varifocal_and_generalized_iou_by_hand():
    (box,) = boxes = [[0.1, 0.1, 0.4, 0.5]]
    outputs = outputs_of([[0.12, 0.1, 0.42, 0.5]], [0], sure=1.0)
    cells, codes, logits = outputs[0, :, :4], outputs[0, :, 4:8], outputs[0, :, 8:].astype(float)
    found = assignment.assigned(
        cells[None],
        geometry.decoded(codes, cells)[None],
        1 / (1 + np.exp(-logits.astype("float32")))[None],
        np.array([boxes], "float32"),
        np.zeros([1, 1], int),
        np.ones([1, 1], "float32"),
    )
    q = np.asarray(found.scores)[0].astype(float)
    p = 1 / (1 + np.exp(-logits))
    entropy = -q * np.log(p) - (1 - q) * np.log(1 - p)
    varifocal = (np.where(q > 0, q, 0.75 * p**2) * entropy).sum()
    decoded = np.asarray(geometry.decoded(codes, cells))
    fits = sum(q[i].sum() * (1 - overlap_of(decoded[i], box)[1]) for i in np.flatnonzero(q.sum(-1)))
    expected = (varifocal + 2 * fits) / max(q.sum(), 1)
    assert loss_of(target_of(boxes, [0]), outputs) == pytest.approx(expected, rel=1e-4)


def test_what_is_ignored_is_neither_learned_nor_a_false_alarm():
    alarm = outputs_of(BOXES, LABELS)
    first = target_of(BOXES, LABELS, [0, 1])
    assert loss_of(first, alarm) < loss_of(target_of(BOXES[:1], LABELS[:1]), alarm) - 0.2
    silent = outputs_of(BOXES[:1], LABELS[:1])
    assert loss_of(first, silent) < loss_of(target_of(BOXES, LABELS), silent) - 0.2


def test_class_weights_are_those_of_the_boxes():
    task, target = Detection(most=5), target_of(BOXES, LABELS)
    targets, ones = task.weighted(target, tf.constant([1.0, 1.0, 3.0]))
    np.testing.assert_array_equal(targets[0, 1:3, 6], [1, 3])
    np.testing.assert_array_equal(ones, [1])
    missed = outputs_of(BOXES[:1], LABELS[:1])
    plain = loss_of(task.weighted(target, tf.ones([3]))[0], missed)
    assert plain == pytest.approx(loss_of(target, missed))
    assert loss_of(targets, missed) > plain + 0.2


def test_balanced_class_weights_are_of_the_boxes_that_are_learned():
    task, box = Detection(most=12), [0.1, 0.2, 0.3, 0.4]
    first = target_of([box] * 11, [0] * 9 + [1] * 2, [0] * 10 + [1], most=12)
    targets = tf.concat([first, target_of([box], [1], most=12)], axis=0)
    pairs = tf.data.Dataset.from_tensor_slices((tf.zeros([2]), targets))
    data: Any = types.SimpleNamespace(task=task, classes=("a", "b"), pairs=lambda split: pairs)
    weights = schedule._class_weights(data)
    np.testing.assert_allclose(weights, [11 / (2 * 9), 11 / (2 * 2)], rtol=1e-6)


def test_the_metric_of_an_epoch_is_nearly_the_measured_ap50():
    random = np.random.default_rng(4)
    task = Detection(most=5)
    metric, pictures = AP50(task), []
    for _ in range(30):
        boxes, labels = random_boxes(random, 4), np.zeros(4, int)
        shift = random.normal(0, 0.03, boxes.shape)
        found = np.clip(boxes + shift, 0, 1)[: random.integers(1, 5)]
        outputs = outputs_of(found, [0] * len(found), rows=16)
        outputs[..., 8] += random.normal(0, 1, outputs.shape[1]) * (outputs[0, :, 8] > 0)
        target = target_of(boxes, labels)
        metric.update_state(target, outputs)
        served = {name: np.asarray(each)[0] for name, each in task.served(outputs).items()}
        stay = served["scores"] > 0
        pictures.append(
            ap.Picture(
                boxes.astype(float),
                labels,
                labels,
                served["boxes"][stay].astype(float),
                served["scores"][stay].astype(float),
                served["category"][stay].astype(int),
            )
        )
    expected = ap.mean([ap.precisions(ap.matched(pictures, 1)[0])], 0)
    assert expected is not None and 0.3 < expected < 0.9
    assert float(metric.result()) == pytest.approx(expected, abs=0.02)
    none = AP50(task)
    assert float(none.result()) == 0
    none.update_state(target_of(BOXES, LABELS), outputs_of(BOXES, LABELS), np.zeros(1, "float32"))
    assert float(none.result()) == 0 and float(none.boxes) == 0


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn shapes as examples."""
    out = tmp_path_factory.mktemp("drawn")
    source = Embedded(data="shapes", count=40, size=48)
    ingest.write_examples(source, Split(validation=20, test=20), out)
    return out


@pytest.fixture(scope="module")
def model() -> TransferModel:
    """A model whose head finds something in random pictures."""
    made = TransferModel(Tiny(size=48), Detection(most=10), CLASSES, seed=0)
    random = np.random.default_rng(0)
    for layer in made.head.layers:
        if layer.name.endswith(("codes", "logits")):
            kernel, bias = layer.get_weights()
            rates = layer.name.endswith("logits")
            kernel = random.normal(0, 0.3 if rates else 0.05, kernel.shape)
            layer.set_weights([kernel, bias + 3 * rates])
    for layer in made.full._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    made.full(noise(16), training=True)  # Batch norms take over what they see.
    return made


def noise(count):
    """Returns coarse random pictures."""
    coarse = np.random.default_rng(1).uniform(0, 255, (count, 6, 6, 3)).astype("float32")
    return tf.image.resize(coarse, [48, 48]).numpy()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """A function that writes the model by an exporter, at its first call, and returns both."""
    folder = tmp_path_factory.mktemp("exports")

    @functools.cache
    def write(text):
        exporter = spec.parse(text, Exporter)
        exporter.fits(model)
        exporter.write(model, tf.data.Dataset.from_tensor_slices(noise(16)), folder)
        return exporter, folder

    return write


@pytest.mark.slow
def test_a_fit_finds_the_boxes_that_it_was_shown(shapes):
    """A network of random weights learns sixteen pictures by heart."""
    task = Detection(most=6, width=48)
    data = Data(shapes, Tiny(size=48), task, batch_size=16)
    model = TransferModel(data.backbone, task, data.classes, seed=0)
    inputs, target = next(iter(data.batches("train")))
    metric = AP50(task)
    model.full.compile(keras.optimizers.Adam(0.01), loss=task.loss())
    losses = [float(model.full.train_on_batch(inputs, target)) for _ in range(50)]
    assert losses[-1] < 0.6 * losses[0]
    metric.update_state(target, model.full(inputs, training=True))
    assert float(metric.result()) > 0.5


def test_more_boxes_than_fit_are_told_before_the_training(shapes, capsys):
    task = Detection(most=2)
    data = Data(shapes, Tiny(size=48), task)
    counts = [int(target[0, 2]) for target in data.targets_of("train")]
    assert max(counts) > 2 and all(target.shape == (3, 6) for target in data.targets_of("train"))
    task.initialize(None, data.targets_of("train"))  # type: ignore[arg-type]
    more = [count - 2 for count in counts if count > 2]
    said = capsys.readouterr().out
    assert said.startswith(f"{len(more)} of {len(counts)} training pictures have more boxes")
    assert f"{sum(more)} boxes are left out" in said
    Detection().initialize(None, data.targets_of("train"))  # type: ignore[arg-type]
    assert not capsys.readouterr().out


def test_boxes_that_equal_an_earlier_one_are_told_before_the_training(capsys):
    (same, *_) = BOXES
    targets = [target_of([same, same, same], [0, 1, 2], [0, 0, 1])[0], target_of(BOXES, LABELS)[0]]
    Detection(most=5).initialize(None, targets)  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert said.startswith("Boxes that equal an earlier one of their training picture: 1. A cell")


def test_finer_cells_find_in_more_places_and_no_map_is_refused():
    models = {
        stride: TransferModel(Tiny(), Detection(stride=stride), CLASSES) for stride in (4, 8, 16)
    }
    shapes = {stride: each.head.output_shape[1] for stride, each in models.items()}
    assert shapes == {4: 64 + 16 + 4, 8: 16 + 4, 16: 4}
    with pytest.raises(ValueError, match="detection needs a picture backbone with maps"):
        Detection().summarize({"pooled": keras.Input([8])})


def test_cells_are_not_rounded_in_mixed_precision():
    with computing_in("mixed_bfloat16"):
        model = TransferModel(Tiny(), Detection(width=16), CLASSES, seed=0)
    outputs = np.asarray(model.full(np.zeros([1, 32, 32, 3], "float32")))
    cells = np.concatenate([geometry.cells(side, side) for side in (4, 2)])
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs[0, :, :4], cells)


@pytest.mark.parametrize(
    "text, message",
    [
        ("detection(most=0)", "detection.most is 0"),
        ("detection(threshold=1.0)", "detection.threshold is 1.0"),
        ("detection(stride=5)", "detection.stride is 5"),
        ("detection(width=0)", "detection.width is 0"),
    ],
)
def test_fields_are_checked(text, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        spec.parse(text, Task)


def test_names_are_those_of_the_boxes(model):
    served = model.served(np.random.default_rng(3).uniform(0, 255, (2, 48, 48, 3)))
    named = model.task.named(served, CLASSES)
    for names, categories, count in zip(
        named["names"].numpy(), served["category"].numpy(), served["count"].numpy(), strict=True
    ):
        expected = [CLASSES[int(each)].encode() for each in categories[: int(count)]]
        assert names.tolist() == [*expected, *[b""] * (10 - len(expected))] and count > 2


def test_clients_get_boxes_in_pixels_of_their_pictures(model, exported):
    _, folder = exported("saved_model")
    random = np.random.default_rng(7)
    pictures = [random.integers(0, 256, (*side, 3), np.uint8) for side in [(30, 70), (64, 64)]]
    answers = model.predict(pictures)
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    encoded = [tf.io.encode_png(picture).numpy() for picture in pictures]
    rows = loaded.signatures["encoded"](image=tf.constant(encoded))
    for place, (picture, answer) in enumerate(zip(pictures, answers, strict=True)):
        sides = [*picture.shape[:2], *picture.shape[:2]]
        one = loaded.signatures["serving_default"](image=tf.constant(picture[None]))
        sent = wire.example({"image": IMAGE.put(encoded[place])})
        two = loaded.signatures["examples"](examples=tf.constant([sent]))
        for name in ("pixels", "names", "scores", "count"):
            for found in (one[name][0], two[name][0], rows[name][place]):
                if name == "names":
                    assert [each.decode() for each in found.numpy()] == answer[name]
                else:
                    np.testing.assert_allclose(found, answer[name], atol=1e-2)
        np.testing.assert_allclose(answer["pixels"], answer["boxes"] * sides, rtol=1e-6)
        assert answer["count"] > 0 and (answer["pixels"] <= sides).all()


@pytest.mark.parametrize(
    "text, least",
    [
        ("saved_model", 1.0),
        pytest.param("keras", 1.0, marks=pytest.mark.slow),
        pytest.param("onnx", 1.0, marks=pytest.mark.slow),
        ("tflite", 1.0),
        pytest.param("tflite(quantize='float16')", 0.75, marks=pytest.mark.slow),
        pytest.param("tflite(quantize='dynamic')", 0.5, marks=pytest.mark.slow),
        pytest.param("tflite(quantize='int8')", 0.5, marks=pytest.mark.slow),
    ],
)
def test_exports_find_the_boxes_of_keras(model, exported, text, least):
    exporter, folder = exported(text)
    inputs = noise(8)
    expected = {name: np.asarray(each) for name, each in model.served(inputs).items()}
    found = exporter.load(folder)(inputs)
    task = model.task
    for name, array in expected.items():
        assert found[name].shape == array.shape
    assert (expected["scores"] >= 0.5).sum() >= 16  # Of fewer the agreement would say nothing.
    agreement = task.agree(task.kept(expected), task.kept(found))
    assert agreement.mean() >= least


SEEN = """
import json
import mediapipe
from mediapipe.tasks.python import BaseOptions, vision
base = BaseOptions(model_asset_path="model.tflite")
picture = mediapipe.Image.create_from_file("picture.png")
with vision.ObjectDetector.create_from_options(vision.ObjectDetectorOptions(base)) as task:
    print(json.dumps([
        [
            each.categories[0].category_name, each.categories[0].score, each.bounding_box.origin_y,
            each.bounding_box.origin_x, each.bounding_box.height, each.bounding_box.width,
        ]
        for each in task.detect(picture).detections
    ]))
"""


@pytest.mark.slow
def test_the_network_of_an_int8_file_computes_in_integers_and_its_tail_in_float(exported):
    exporter, folder = exported("tflite(quantize='int8')")
    file = (folder / exporter.files()[0]).read_bytes()
    (graph,) = litert.parsed(file).subgraphs
    floats = [graph.tensors[i].type == 0 for i in range(len(graph.tensors))]
    codes = [code.builtinCode for code in litert.parsed(file).operatorCodes]
    weighted, after = (3, 4), 0  # Convolutions, by their numbers in the schema.
    for operation in graph.operators:
        inexact = any(floats[i] for i in (*operation.inputs, *operation.outputs) if i >= 0)
        if codes[operation.opcodeIndex] in weighted:
            assert not inexact and not after  # None stands behind the tail's first operation.
        after += inexact and codes[operation.opcodeIndex] != 6  # DEQUANTIZE, which leads there.
    assert after > 20
    (image,) = litert.interpreter(folder / exporter.files()[0]).get_input_details()
    assert image["dtype"] == np.uint8 and image["quantization"] == (1.0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["tflite", "tflite(quantize='int8')"])
def test_mediapipe_finds_the_boxes_of_the_file_by_our_labels(text, model, exported, tmp_path):
    pytest.importorskip("mediapipe")
    exporter, folder = exported(text)
    shutil.copy(folder / exporter.files()[0], tmp_path / "model.tflite")
    pixels = np.rint(noise(1)[0]).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    # In a process of its own: wrong metadata can end it, or keep it waiting.
    ended = subprocess.run(
        [sys.executable, "-c", SEEN], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    served = exporter.load(folder)(pixels[None].astype("float32"))
    served = {name: each[0] for name, each in served.items()}
    count = int(served["count"])
    assert count > 2 and len(found) == count
    for row, box, category, score in zip(
        found, served["boxes"], served["category"], served["scores"], strict=False
    ):
        top, left, bottom, right = box * 48
        assert row[0] == CLASSES[int(category)] and row[1] == pytest.approx(score, abs=1e-3)
        np.testing.assert_allclose(row[2:], [top, left, bottom - top, right - left], atol=1.0)
