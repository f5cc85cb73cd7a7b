"""What every task promises."""

import json
from typing import Any

import numpy as np
import pytest
from conftest import Tiny, members

from tlkeras import spec
from tlkeras.data.batches import Data
from tlkeras.frameworks import tf
from tlkeras.measures import measures
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Task

FIRST = 100  # The number of the first test example, to tell a number from a place.


@pytest.fixture(scope="module", params=members(Task))
def task(request):
    return spec.parse(request.param, Task)


@pytest.fixture(scope="module")
def data(task, recorded):
    return Data(recorded, Tiny(), task, batch_size=4)


@pytest.fixture(scope="module")
def model(task, data):
    """A model after one epoch."""
    made = TransferModel(Tiny(), task, data.classes)
    made.train_only([])
    made.full.compile("adam", loss=task.loss(), metrics=task.metrics())
    silent: Any = 0
    logs = made.full.fit(data.batches("train"), shuffle=False, verbose=silent).history
    assert np.isfinite(logs["loss"][0])
    return made


@pytest.fixture(scope="module")
def pairs(data, model):
    """Targets and served outputs of the test split as NumPy arrays, in batches."""
    return [
        (
            tf.nest.map_structure(np.asarray, target),
            {name: np.asarray(value) for name, value in model.served(inputs).items()},
        )
        for inputs, target in data.batches("test")
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
