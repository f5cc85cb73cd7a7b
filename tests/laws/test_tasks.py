"""What every task promises."""

import html
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from conftest import COLOURS, Tiny, Wordy, export, members

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.backbones.towers import Towers
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.doctor.reference import Reference
from tlkeras.exporters.tflite import TFLite
from tlkeras.frameworks import tf
from tlkeras.images import decoding
from tlkeras.kinds.boxes import Boxes
from tlkeras.kinds.image import Image
from tlkeras.kinds.label import Label
from tlkeras.kinds.labels import Labels
from tlkeras.kinds.mask import Mask
from tlkeras.kinds.number import Number
from tlkeras.kinds.text import Text
from tlkeras.kinds.words import Words
from tlkeras.measures import measures
from tlkeras.model import vector
from tlkeras.model.transfer_model import TransferModel
from tlkeras.report import card, report
from tlkeras.source import Source
from tlkeras.task import Task

FIRST = 100  # The number of the first test example, to tell a number from a place.
CLASSES = ("B-x", "I-x", "O")

BACKBONES: Mapping[str, Backbone] = {
    "tagging": Wordy(),
    "language_modeling": Wordy(input="text"),
    "retrieval": Towers(Tiny(), Wordy(input="text")),
}
"""What a task is tried on, if not on pictures."""

OF_TEXTS = ("multilabel", "regression")
"""Tasks of any backbone that are tried on texts, too."""


class Everything(Source, name="everything"):
    """Examples that have what any task reads, pictures and texts."""

    count: int = 64

    def features(self):
        return {
            "image": Image(),
            "text": Text(),
            "caption": Text(),
            "words": Words(),
            "mask": Mask(background=True),
            "label": Label(),
            "labels": Labels(),
            "boxes": Boxes(),
            "number": Number(),
            "tags": Labels(),
        }

    def classes(self):
        return CLASSES

    def examples(self):
        for number in range(self.count):
            random = np.random.default_rng(number)
            label = number % len(CLASSES)
            noise = random.normal([*COLOURS.values()][label], 40, (24, 28, 3))
            pixels = np.clip(noise, 0, 255).astype(np.uint8)
            cells = random.integers(0, 1 + len(CLASSES), (3, 4))
            # Some sentences are longer than the network sees, one has no word.
            words = ["".join(random.choice([*"abcdefgh"], 2)) for _ in range(number % 16)]
            yield (
                str(number),
                {
                    "image": bytes(tf.io.encode_png(pixels).numpy()),
                    "mask": decoding.mask_file(cells.repeat(8, 0).repeat(7, 1)),
                    "text": " ".join(["a", *words]),
                    "caption": f"a {'bcd'[label]} {number % 4}",
                    "words": words,
                    "label": label,
                    "labels": [label] * (number % 3),
                    "boxes": [(0.1, 0.2, 0.6, 0.9), (0.5, 0.25, 0.75, 0.5)][: number % 3],
                    "number": 1000 + 10 * random.normal(),
                    "tags": [zlib.crc32(word.encode()) % 3 for word in words],
                },
            )

    def fingerprint(self):
        return "1"


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    out = tmp_path_factory.mktemp("everything")
    ingest.write_examples(Everything(), Split(validation=20, test=20), out)
    return out


@pytest.fixture(scope="module", params=[*members(Task), *(f"{name} of texts" for name in OF_TEXTS)])
def case(request):
    name, _, of_texts = request.param.partition(" of ")
    backbone = Wordy(input="text") if of_texts else BACKBONES.get(name, Tiny())
    return spec.parse(name, Task), backbone


@pytest.fixture(scope="module")
def task(case):
    return case[0]


@pytest.fixture(scope="module")
def data(case, everything):
    task, backbone = case
    return Data(everything, backbone, task, batch_size=4)


@pytest.fixture(scope="module")
def model(task, data):
    """A model after one epoch."""
    made = TransferModel(data.backbone, task, data.classes)
    task.initialize(made.head, data.targets_of("train"))
    made.train_only([])
    made.full.compile("adam", loss=task.loss(), metrics=task.metrics(made.classes))
    silent: Any = 0
    logs = made.full.fit(data.batches("train"), shuffle=False, verbose=silent).history
    assert np.isfinite(logs["loss"][0])
    return made


@pytest.fixture(scope="module")
def batches(data):
    """The test split as NumPy arrays, read once."""
    return [*data.batches("test").as_numpy_iterator()]


@pytest.fixture(scope="module")
def pairs(batches, model):
    """Targets and served outputs of the test split as NumPy arrays, in batches."""
    return [
        (
            target,
            {name: np.asarray(value) for name, value in model.served(inputs).items()},
        )
        for inputs, target in batches
    ]


def joined(pairs):
    """Returns batches as one batch."""
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *pairs)


def tallied(task, data, pairs):
    tally, first = task.tally(data.classes), FIRST
    for target, served in pairs:
        tally.add(target, served, first)
        first += count(target)
    return tally.measures()


def count(batch):
    return len(tf.nest.flatten(batch)[0])


def near(one, other):
    """Returns whether two JSON values are equal but for the rounding of numbers."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(near(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(near, one, other))
    return one == (pytest.approx(other) if isinstance(one, float) else other)


def test_a_task_is_its_text(task):
    assert spec.parse(str(task), Task) == spec.parse(task.full(), Task) == task


def test_a_task_trains_serves_and_measures(task, data, pairs):
    found = tallied(task, data, pairs)
    assert found.primary == task.primary and found.primary in found.scalars
    assert found.score.more_is_better == task.more_is_better
    assert found.count == data.count("test")
    assert all(np.isfinite(scalar.value) for scalar in found.scalars.values())
    for scalar in found.scalars.values():
        if scalar.interval:
            assert scalar.interval[0] <= scalar.value <= scalar.interval[1]
    plain = json.loads(json.dumps(found.plain(), allow_nan=False))
    assert measures.parsed(plain).plain() == plain


def test_a_tally_of_parts_is_that_of_the_whole(task, data, pairs):
    half = len(pairs) // 2
    assert half
    halves = [joined(pairs[:half]), joined(pairs[half:])]
    whole = tallied(task, data, [joined(pairs)])
    assert near(tallied(task, data, halves).plain(), whole.plain())
    assert near(tallied(task, data, pairs).plain(), whole.plain())


def test_a_tally_without_an_example_is_refused(task, data):
    with pytest.raises(ValueError, match="no example"):
        task.tally(data.classes).measures()


def test_a_gallery_has_numbers_of_the_split(task, data, pairs):
    views = tallied(task, data, pairs).views
    galleries = [view for view in views if isinstance(view, measures.Gallery)]
    numbers = [example.number for view in galleries for example in view.examples]
    assert all(FIRST <= number < FIRST + data.count("test") for number in numbers)


def test_a_table_has_rows_as_wide_as_its_columns(task, data, pairs):
    for view in tallied(task, data, pairs).views:
        if isinstance(view, measures.Table):
            assert all(len(row) == len(view.columns) for row in view.rows)
            assert view.weakest in ("", *view.columns)


def test_the_outputs_name_what_is_served(task, pairs):
    for _, served in pairs:
        assert {output.name for output in task.outputs()} == served.keys()


def test_what_is_kept_has_a_row_for_each_example_and_one_shape(task, pairs):
    shapes = [
        {name: (array.dtype, array.shape[1:]) for name, array in task.kept(served).items()}
        for _, served in pairs
    ]
    assert shapes[0] and all(shape == shapes[0] for shape in shapes)
    for target, served in pairs:
        assert {len(array) for array in task.kept(served).values()} == {count(target)}


def test_an_answer_agrees_with_itself(task, pairs):
    for target, served in pairs:
        agreement = np.asarray(task.agree(task.kept(served), task.kept(served)))
        assert agreement.dtype == bool and agreement.shape == (count(target),)
        assert agreement.all()


def turned(*cosines: float) -> np.ndarray:
    """Returns rows of length 1 that have these cosines with the row (1, 0)."""
    found = np.array(cosines)
    return np.stack([found, np.sqrt(1 - found**2)], axis=-1)


def masks(*wrong: int) -> np.ndarray:
    """Returns masks of 200 pixels, of class 1 in so many places and of class 0 elsewhere."""
    return (np.arange(200).reshape(10, 20) < np.reshape(wrong, [-1, 1, 1])).astype(np.uint8)


def box(right: float, score: float, category: int) -> tuple[list[Any], list[float], list[int]]:
    """Returns a box that begins at the corner, and one that is not sure, with their classes."""
    return [[0, 0, 0.5, right], [0.5, 0.5, 1, 1]], [score, 0.1], [category, 0]


def boxes(*rows: tuple[list[Any], list[float], list[int]]) -> dict[str, np.ndarray]:
    columns = zip(*rows, strict=True)
    served = zip(("boxes", "scores", "category"), map(np.array, columns), strict=True)
    return spec.parse("detection", Task).kept(dict(served))


WORDS = np.array([[0.9, 0.1], [0.2, 0.8], [0, 0]])  # The last was not seen.

ANSWERS = {
    "classification": (
        {"probabilities": np.array([[0.6, 0.4], [0.6, 0.4]])},
        {"probabilities": np.array([[0.9, 0.1], [0.4, 0.6]])},
        [True, False],
    ),
    "multilabel": (
        {"probabilities": np.array([[0.6, 0.4], [0.6, 0.4]])},
        {"probabilities": np.array([[0.9, 0.1], [0.6, 0.5]])},
        [True, False],
    ),
    "regression": (
        {"number": np.array([[110.0], [110.0], [90.0], [90.0]])},  # Of a deviation of 10.
        {"number": np.array([[110.4], [109.4], [90.6], [89.6]])},
        [True, False, False, True],
    ),
    "language_modeling": (
        {"log_probabilities": np.array([-100.0, -100.0, -100.0, 0.0])},
        {"log_probabilities": np.array([-100.9, -101.1, -98.9, -0.0009])},
        [True, False, False, True],
    ),
    "segmentation": ({"category": masks(0, 0)}, {"category": masks(1, 2)}, [True, False]),
    "retrieval": (
        {"picture": turned(1, 1, 1), "text": turned(1, 1, 1)},
        {"picture": turned(0.991, 0.989, 1), "text": turned(0.991, 1, 0.989)},
        [True, False, False],
    ),
    "tagging": (
        {"probabilities": np.stack([WORDS] * 4)},
        {"probabilities": np.stack([WORDS, WORDS**2, WORDS[[0, 0, 2]], WORDS[[0, 2, 2]]])},
        [True, True, False, False],
    ),
    "detection": (
        boxes(*[box(0.5, 0.6, 1)] * 5),
        boxes(
            box(0.46, 0.6, 1),
            box(0.44, 0.6, 1),
            box(0.5, 0.6, 0),
            box(0.5, 0.41, 1),
            box(0.5, 0.39, 1),
        ),
        [True, False, False, True, False],
    ),
}
"""By task: what is kept of some examples, that of other answers, and whether the two agree."""


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_agree_up_to_the_threshold_of_their_task(name):
    one, other, expected = ANSWERS[name]
    task = spec.parse(name, Task)
    assert np.asarray(task.agree(one, other)).tolist() == expected
    assert np.asarray(task.agree(other, one)).tolist() == expected


def test_a_file_of_builtin_operations_serves_what_the_model_serves(model, batches, pairs, tmp_path):
    exporter = TFLite()
    samples = tf.data.Dataset.from_tensor_slices(batches[0][0])
    export(exporter, model, samples, tmp_path)
    run = exporter.load(tmp_path)
    for (inputs, _), (_, served) in zip(batches, pairs, strict=True):
        found = run(inputs)
        for name, tensor in served.items():
            largest = max(1.0, float(np.abs(tensor).max()))
            assert np.abs(found[name] - tensor).max() <= exporter.tolerance * largest


def test_a_saved_model_answers_as_before(model, batches, tmp_path):
    model.save(tmp_path)
    loaded = TransferModel.load(tmp_path)
    for inputs, _ in batches[:2]:
        for name, tensor in model.served(inputs).items():
            assert np.array_equal(loaded.served(inputs)[name], tensor)


def test_a_reference_of_what_was_measured_sees_answers_and_features(
    task, data, model, batches, pairs
):
    reference, first = Reference(data, "test"), 0
    runs = vector.served(model), vector.predicted(model)
    for (inputs, _), (_, served) in zip(batches, pairs, strict=True):
        plain, short = ({name: np.asarray(x) for name, x in run(inputs).items()} for run in runs)
        features = plain.pop(vector.FEATURES)
        np.testing.assert_allclose(short.pop(vector.FEATURES), features, atol=1e-4)
        for name, tensor in served.items():
            np.testing.assert_allclose(plain[name], tensor, atol=1e-5)
            assert short[name].shape == tensor.shape
        reference.add(plain, features, first)
        first += len(features)
    found = reference.sample()
    assert found.count == len(found.features) == data.count("test")
    assert found.features.ndim == 2 and np.isfinite(found.features).all()
    assert found.features.std(axis=0).max() > 0
    assert {"image.brightness", "text.characters", "number"} <= found.numbers.keys()
    seen = [name for name in (*found.numbers, *found.words) if name.startswith("prediction")]
    assert bool(seen) == (task.name not in ("language_modeling", "retrieval"))
    for name in {"label", "tags", "prediction"} & {*found.words}:
        assert {*found.words[name]} <= {"", *data.classes}
        assert sum(found.words[name].values()) == found.count


def test_a_report_and_a_card_show_the_measures(task, data, pairs, tmp_path):
    found = tallied(task, data, pairs)
    report.write(tmp_path / "report.html", report.Report("Model", measures=found))
    page, text = (tmp_path / "report.html").read_text("utf-8"), card.card("m", measures=found)
    for view in found.views:
        assert f">{view.title}</h2>" in page
        if isinstance(view, measures.Gallery):
            assert all(html.escape(each.caption) in page for each in view.examples)
    assert task.primary.replace("_", " ") in text
    assert all(html.escape(remark, quote=False) in page for remark in found.remarks)


def test_the_measures_of_the_own_size_are_those_of_the_fixed_one(task, data, pairs):
    """As of a baseline, whose SavedModel takes examples one by one."""
    served = joined([served for _, served in pairs])
    rows = [
        (
            tf.nest.map_structure(lambda value: value[None], target),
            {name: values[place : place + 1] for name, values in served.items()},
        )
        for place, target in enumerate(data.targets_of("test"))
    ]
    found, expected = (tallied(task, data, batches) for batches in (rows, pairs))
    assert near(found.score.value, expected.score.value)


def test_a_row_of_weight_0_changes_no_metric(task, data, model, batches):
    """As the padding of a replica that has fewer rows than others."""
    if task.compares:
        pytest.skip("it trains on one device")
    inputs, targets = batches[0]
    whole = targets, tf.nest.map_structure(np.asarray, model.full(inputs))
    weights = np.ones(count(targets), np.float32)
    weights[-1] = 0
    for metric, other in zip(task.metrics(data.classes), task.metrics(data.classes), strict=True):
        metric.update_state(*tf.nest.map_structure(lambda each: each[:-1], whole))
        other.update_state(*whole, sample_weight=weights)
        assert float(other.result()) == pytest.approx(float(metric.result()), rel=1e-5)
