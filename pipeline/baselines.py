"""Baselines: pushed versions that are compared with a new model, measured on its examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import product
from pipeline.version import manifest
from tlkeras import spec, terminal
from tlkeras.backbone import Backbone
from tlkeras.data import reading, records
from tlkeras.data.batches import Data
from tlkeras.data.records import Records
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import tf
from tlkeras.kind import SERVING
from tlkeras.measures.measures import Measures
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Task


def require_comparable(version: Path, data: Data) -> None:
    """Raises ValueError unless a pushed version predicts what a model of these data predicts."""
    require_task(version, data.task)
    if data.task.answers_classes:
        _require_classes(version, data)
    if data.task.rates_pieces:
        _require_pieces(version, data.backbone)


def require_task(version: Path, task: Task) -> None:
    """Raises ValueError unless a pushed version predicts by a task, whose fields may be others."""
    for made in product.made_by("model", manifest(version)["lineage"]):
        before, *_ = made["asked"]["fields"]["task"]["value"].split("(")
        if before != task.member:
            raise ValueError(
                f"{version} predicts by {before}, not by {task.member}, so the two cannot be "
                "compared; give --baseline=none, or another --name."
            )


def measured(version: Path, fitted: TransferModel, data: Data, split: str) -> Measures:
    """Returns the measures of a pushed version's SavedModel on the same examples.

    Its maps are resized to those of the model: a map is measured at its own size, and a smaller one
    has less to miss.
    """
    run: Any = SavedModel().endpoints(version, data.backbone.raw())[SERVING]
    maps = [each.name for each in data.task.outputs() if each.meaning == "mask"]
    own = data.task.served(fitted.full.output) if maps else {}
    sizes = {name: own[name].shape[1:3] for name in maps}
    tally = data.task.tally(data.classes)
    examples = terminal.shown(_singles(data, split), data.count(split), "the baseline")
    for first, (values, target) in enumerate(examples):
        served = run(values)
        resized = {name: tf.image.resize(served[name], size) for name, size in sizes.items()}
        tally.add(target, {**served, **resized}, first)
    return tally.measures()


def _singles(data: Data, split: str) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """Yields the standard values of one example and its target, a batch of one."""
    kinds = data.backbone.raw()
    raw = Records(data.folder, split).between(0, data.count(split))
    decoded = reading.dataset(data.folder, split, keys=data.target_keys)
    for record, example in zip(raw, decoded, strict=True):
        target = data.task.target(example, None, len(data.classes))
        batch = tf.nest.map_structure(lambda tensor: np.asarray(tensor)[None], target)
        yield records.values(record, kinds)[1], batch


def _require_classes(version: Path, data: Data) -> None:
    """Raises ValueError unless a pushed version predicts the classes of the data."""
    labels = (version / "labels.txt").read_text(encoding="utf-8").splitlines()
    if tuple(labels) != data.classes:
        raise ValueError(
            f"{version} predicts {len(labels)} other classes than the {len(data.classes)} of the "
            "examples, so the two cannot be compared; give --baseline=none, or another --name."
        )


def _require_pieces(version: Path, backbone: Backbone) -> None:
    """Raises ValueError unless a pushed version rates the same pieces of texts as a backbone.

    In a larger vocabulary pieces are fewer and less probable; with more before them, they are more.
    """
    made = product.made_by("model", manifest(version)["lineage"])
    if not made:
        raise ValueError(
            f"{version}: its pieces are not known: its model was not there any more when it was "
            "pushed. Give --baseline=none, or another --name."
        )
    asked = made[0]["asked"]["fields"]["backbone"]
    if asked["value"] == backbone.full() and asked["fingerprint"] == backbone.fingerprint():
        return
    both, empty = (spec.parse(asked["value"], Backbone), backbone), {"text": tf.constant("")}
    try:
        changed = asked["fingerprint"] != both[0].fingerprint()
        before, now = ((each.tokenizer, each.preprocess(empty).shape) for each in both)
    except ValueError as error:
        raise ValueError(
            f"{version}: its pieces are not known: {error} Give --baseline=none."
        ) from None
    if changed or before != now:
        raise ValueError(
            f"{version} rates other pieces of texts or another length of them, or the files of "
            f"{asked['value']} have changed since, so the two cannot be compared; give "
            "--baseline=none, or another --name."
        )
