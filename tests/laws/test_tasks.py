"""What every task promises."""

import json
from typing import Any

import numpy as np
import pytest
from conftest import Tiny

from tlkeras import spec
from tlkeras.data.batches import Data
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Task


@pytest.mark.parametrize("name", spec.names(Task))
def test_a_task_is_its_text(name):
    task = spec.parse(name, Task)
    assert spec.parse(str(task), Task) == spec.parse(task.full(), Task) == task


@pytest.mark.parametrize("name", spec.names(Task))
def test_a_task_trains_serves_and_measures(name, recorded):
    task = spec.parse(name, Task)
    data = Data(recorded, Tiny(), task, batch_size=8)
    model = TransferModel(Tiny(), task, data.classes)
    model.train_only([])
    model.full.compile("adam", loss=task.loss(), metrics=task.metrics())
    silent: Any = 0
    logs = model.full.fit(data.batches("train"), shuffle=False, verbose=silent).history
    assert np.isfinite(logs["loss"][0])
    pairs = [
        (targets.numpy(), {key: np.asarray(value) for key, value in model.served(inputs).items()})
        for inputs, targets in data.batches("test")
    ]
    measures = task.measure(pairs, data.classes)
    assert 0 <= measures[task.primary] <= 1
    assert json.loads(json.dumps(measures)) == measures
