"""Evaluator: measures the model on the test split and blesses it or not."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline import baselines, product
from pipeline.step import NotBlessed, Step
from pipeline.steps import resolver
from pipeline.version import manifest
from tlkeras import files, hardware, terminal
from tlkeras.backbone import Backbone
from tlkeras.data import records
from tlkeras.data.batches import Data
from tlkeras.data.records import Records
from tlkeras.doctor import copies, defects, duplicates
from tlkeras.doctor.reference import Reference
from tlkeras.explaining import explanation
from tlkeras.frameworks import tf
from tlkeras.measures import calibration, conformal, domains, groups, measures
from tlkeras.measures.conformal import Conformal
from tlkeras.measures.measures import ROUNDING, Measures, decimals, listed
from tlkeras.model import vector
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Task
from tlkeras.training import feature_store, temperature

_TARGET = "target_test"
"""The split that measures on the target of two domains, see `sources.domains`."""

_SPLITS = ("test", "validation")
"""Those that measure otherwise, and on the source of two domains."""

_SHOWN = 8
"""Examples of which a task may make views."""


@Step
def evaluation(
    out: Path,
    *,
    model: Path,
    examples: Path,
    resolved: Path,
    backbone: Backbone,
    task: Task,
    lower_bound: float | None,
    upper_bound: float | None,
    max_drop: float,
    max_gap: float | None,
    batch_size: int,
    conformal: Conformal | None = None,
) -> None:
    """Measures the model on the test split and compares it with its thresholds.

    Writes ``metrics.json``, ``blessing.json`` and ``served/<output>.npy``, which judges exports:
    the `Task.kept` of every example. `samples` says what ``reference.json`` and ``reference.npy``
    are, by which new data are judged. Without a test split it measures the validation split; the
    measures name it. Of two domains it measures the target, and beside it the primary measure of
    the source; of a target without labels, the source alone, and says so. The baseline is measured
    on the same examples. Features of the kind ``group`` also give every measure by group, see
    `measures.groups`. With `conformal` the validation split gives ``sets.json``, and the test split
    measures the sets.
    """
    task.require_bounds(lower_bound, upper_bound)
    data = measured_on(examples, backbone, task, batch_size)
    fitted = loaded(model, data)
    split = measured_split(data)
    tallies = groups.tallies(data, split, max_gap)
    baseline = resolver.read(resolved)
    if baseline:
        baselines.require_comparable(baseline, data)
    with hardware.in_float32():
        besides = [*_uncalibrated(model, data), *_sets(fitted, data, conformal, out)]
        found = _measured(fitted, data, split, out, [*besides, *tallies])
        if split == _TARGET and (others := _beside(data)):
            found = domains.compared(found, _tallied(fitted, data, others))
        found = explanation.shown(found, fitted, functools.partial(_values, data, split))
        before = baselines.measured(baseline, fitted, data, split).score if baseline else None
    found = _of_known(_of_groups(found, data), data)
    if data.count("target") and split != _TARGET:
        found = domains.of_source(found)
    measures.write(found, out)
    # Name and version: a reader of the report need not know where they lie.
    named = "/".join(baseline.parts[-2:]) if baseline else None
    reasons = [*_unseen(model, data, split), *_out_of_bounds(found, lower_bound, upper_bound)]
    if baseline and before and not found.score.lost(before) <= max_drop + ROUNDING:
        reasons.append(
            f"{found.primary} {decimals(found.score.value)} is worse than the "
            f"{decimals(before.value)} of {named} by {found.score.lost(before):.4f}, more than the "
            f"{max_drop:.4f} of --max_drop{_doubt(baseline, data)}"
        )
    if max_gap is not None:
        reasons += [reason for each in tallies for reason in each.found.too_far(max_gap)]
    blessing = {
        "blessed": not reasons,
        "reasons": reasons,
        "primary": found.primary,
        "value": found.score.value,
        "lower_bound": lower_bound,
        "upper_bound": upper_bound,
        "baseline": named,
        "baseline_value": before.value if before else None,
        "baseline_is_last": resolver.is_last(resolved),
    }
    if keys := [each.found.key for each in tallies if each.found.measured]:
        blessing |= {"groups": keys, "max_gap": max_gap}
    files.write_json(out / "blessing.json", blessing)


def measured_on(examples: Path, backbone: Backbone, task: Task, batch_size: int) -> Data:
    """Returns the data in the batches in which a model, and what is made of it, is measured.

    They are no larger than those of the training, which for many replicas may be too large for one
    device.
    """
    return Data(examples, backbone, task, min(batch_size, 32))


def loaded(model: Path, data: Data) -> TransferModel:
    """Returns the model of a product, which has to be one for these data.

    Raises:
        ValueError: It was fitted with another backbone, task or classes.
    """
    path = model / "model.keras"
    fitted = _read(model, path.stat().st_mtime_ns if path.exists() else 0)
    try:
        fitted.require(data)
    except ValueError as error:
        raise ValueError(
            f"{model}: {error} Give the same flags and examples as to the trainer."
        ) from None
    return fitted


@functools.lru_cache(maxsize=1)
def _read(model: Path, _: int) -> TransferModel:
    """Returns the model of a product as of a time: exports finds that of evaluation here."""
    return TransferModel.load(model)


def release() -> None:
    """Frees the memory of the model that `loaded` returned, when no step needs it any more."""
    _read.cache_clear()


def require_blessed(evaluation: Path) -> None:
    """Raises `NotBlessed`, and why, unless the product says that the model is."""
    blessing = files.read_json(evaluation / "blessing.json")
    if not blessing["blessed"]:
        raise NotBlessed(f"Not blessed: {'; '.join(blessing['reasons'])}.")


def measured_split(data: Data) -> str:
    """Returns the split that judges a model: ``test``, or ``validation`` where there is no test.

    Of two domains it is the test split of the target, which the model is for; without labels the
    target has none.
    """
    for split in (_TARGET, *_SPLITS):
        if data.count(split):
            return split
    raise ValueError(
        "There is neither a test nor a validation example to measure the model on; "
        'give more examples, or --split="split(test=20)".'
    )


def _beside(data: Data) -> str | None:
    """Returns the split that measures a model on the source of two domains, if there is one."""
    return next((split for split in _SPLITS if data.count(split)), None)


def count(batch: Any) -> int:
    """Returns the number of examples in a batch, an array or any nest of arrays."""
    return len(tf.nest.flatten(batch)[0])


class _Beside(Protocol):
    """What is measured of the same batches, to be joined to the measures."""

    def add(self, target: Any, served: Mapping[str, Any], first: int) -> None: ...

    def joined(self, found: Measures) -> Measures: ...


def _uncalibrated(model: Path, data: Data) -> Iterator[_Beside]:
    if (found := temperature.read(model)) and found.value:
        yield calibration.Uncalibrated(data.task, data.classes, found.value)


def _sets(
    fitted: TransferModel, data: Data, asked: Conformal | None, out: Path
) -> Iterator[_Beside]:
    if asked:
        conformal.require_task(asked, data.task)
        asked.require_examples(data.info.counts)
        sets = conformal.fitted(asked, fitted, data)
        sets.write(out)
        yield conformal.SetTally(sets, data.task, data.classes)


def _measured(
    fitted: TransferModel, data: Data, split: str, out: Path, besides: Sequence[_Beside]
) -> Measures:
    """Returns the measures of the model; writes what it served, and the reference of drift."""
    kept, reference = _Kept(out / "served", data.count(split)), Reference(data, split)

    def keep(served: Mapping[str, np.ndarray], features: np.ndarray, first: int) -> None:
        reference.add(served, features, first)
        kept.write(fitted.task.kept(served), first)

    found = _tallied(fitted, data, split, keep, besides)
    reference.sample().write(out)
    few = range(min(_SHOWN, data.count(split)))
    views = fitted.task.views(fitted, _values(data, split, few))
    return dataclasses.replace(found, views=[*found.views, *views])


def _tallied(
    fitted: TransferModel,
    data: Data,
    split: str,
    keep: Callable[[Mapping[str, np.ndarray], np.ndarray, int], None] = lambda *batch: None,
    besides: Sequence[_Beside] = (),
) -> Measures:
    """Returns the measures of the model.

    `keep` gets what a batch was served with, its features, and the number of its first example.
    `besides` measure the same batches.
    """
    tally, first, run = fitted.task.tally(data.classes), 0, vector.predicted(fitted)
    batches = terminal.shown(data.batches(split), data.steps(split), "evaluating")
    for inputs, target in batches:
        served = {name: np.asarray(tensor) for name, tensor in run(inputs).items()}
        features = served.pop(vector.FEATURES)
        target = tf.nest.map_structure(np.asarray, target)
        tally.add(target, served, first)
        for beside in besides:
            beside.add(target, served, first)
        keep(served, features, first)
        first += count(target)
    found = tally.measures()
    for beside in besides:
        found = beside.joined(found)
    return dataclasses.replace(found, split=split)


def _of_groups(found: Measures, data: Data) -> Measures:
    """Returns measures that say so if several of their examples are of one group."""
    count, groups = data.count(found.split), data.info.groups.get(found.split, 0)
    if not 0 < groups < count:
        return found
    remark = (
        f"These {count:,} examples are of {groups:,} group{'' if groups == 1 else 's'}, such as "
        "patients; intervals take them as independent and are too narrow."
    )
    return dataclasses.replace(found, groups=groups, remarks=[remark, *found.remarks])


def _of_known(found: Measures, data: Data) -> Measures:
    """Returns measures that say so if training has copies of their examples, or their groups."""
    groups, notes = duplicates.read(data.folder), defects.notes(data.folder)
    known = len(copies.learnt(groups, notes, found.split))
    if not known:
        return found
    remark = (
        f"Training has copies of {known:,} of these {data.count(found.split):,} examples, or "
        "others of the same group, so the measures flatter the model."
    )
    return dataclasses.replace(found, known=known, remarks=[remark, *found.remarks])


def _values(data: Data, split: str, numbers: Sequence[int]) -> list[Mapping[str, Any]]:
    """Returns the standard values of examples by their numbers."""
    kinds = data.backbone.raw()
    return [records.values(row, kinds)[1] for row in Records(data.folder, split).read(numbers)]


class _Kept:
    """Arrays on disk, one row an example."""

    def __init__(self, folder: Path, count: int) -> None:
        """Makes the folder, which gets a file of `count` rows for each array."""
        folder.mkdir()
        self._folder, self._count = folder, count
        self._files: dict[str, Any] = {}

    def write(self, arrays: Mapping[str, np.ndarray], first: int) -> None:
        """Writes the rows of a batch, from the row `first` on."""
        for name, array in arrays.items():
            if name not in self._files:
                path, shape = self._folder / f"{name}.npy", (self._count, *array.shape[1:])
                self._files[name] = feature_store.allocated(path, array.dtype, shape)
            self._files[name][first : first + len(array)] = array


def _out_of_bounds(
    found: Measures, lower_bound: float | None, upper_bound: float | None
) -> Iterator[str]:
    primary, value = found.primary, found.score.value
    bounds = (lower_bound, upper_bound)
    if not found.score.is_defined and any(bound is not None for bound in bounds):
        yield f"{primary} is not defined by these examples, so it is within no bound"
        return
    if lower_bound is not None and not value >= lower_bound:
        yield f"{primary} {decimals(value)} is below the lower bound {decimals(lower_bound)}"
    if upper_bound is not None and not value <= upper_bound:
        yield f"{primary} {decimals(value)} is above the upper bound {decimals(upper_bound)}"


def _unseen(model: Path, data: Data, split: str) -> Iterator[str]:
    """Yields why a model is worth nothing for classes of which it saw neither example nor name."""
    if not data.task.answers_classes:
        return
    train, measured = (data.info.class_counts.get(name, ()) for name in ("train", split))
    counts = zip(data.classes, train, measured, strict=False)
    unseen = [name for name, seen, count in counts if count and not seen]
    if unseen and not (model / "named.json").exists():
        yield f"the {split} split has classes without a training example: {listed(unseen)}"


def _doubt(baseline: Path, data: Data) -> str:
    """Returns what to bear in mind of a version that may have been fitted to these examples."""
    made = product.made_by("examples", manifest(baseline)["lineage"])
    cuts = {each["asked"]["fields"]["split"]["value"] for each in made}
    if cuts == {data.info.split} or {*data.info.counts} == {*data.info.given}:
        return ""
    cut = " and ".join(sorted(cuts)) or "an unknown split"
    return (
        f"; that version was fitted to data cut by {cut}, not by {data.info.split}, and may know "
        "these very examples (--baseline=none compares with none)"
    )
