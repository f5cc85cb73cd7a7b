"""Evaluator: the model is measured on the test split and blessed or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import product
from pipeline.step import NotBlessed, Step
from pipeline.steps import resolver
from pipeline.version import manifest
from tlkeras import hardware, terminal
from tlkeras.backbone import Backbone
from tlkeras.data import reading
from tlkeras.data.batches import Data
from tlkeras.frameworks import tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Task
from tlkeras.training import feature_store

SHOWN = 12  # Mistakes kept for the report.

ROUNDING = 1e-9
"""What a difference of two measures may be off by: 0.95 - 0.94 is more than 0.01."""


@Step
def evaluation(
    out: Path,
    *,
    model: Path,
    examples: Path,
    resolved: Path,
    backbone: Backbone,
    task: Task,
    lower_bound: float,
    max_drop: float,
    batch_size: int,
) -> None:
    """Measures the model on the test split and compares it with its thresholds.

    Keeps ``metrics.json``, ``blessing.json``, ``mistakes.json``, the most confident ones, and what
    the model serves for every test example, ``served/<output>.npy``, by which exports are judged.
    Where the user has set the test split to
    nothing, the validation split is measured, and the measures say so. The baseline, a pushed
    version, is measured on the same examples, so that both figures are of the same test.
    """
    # No more than training had at a time; for many replicas that may be too many for one device.
    data = Data(examples, backbone, task, min(batch_size, 32))
    fitted = loaded(model, data)
    split = measured_split(data)
    baseline = resolver.read(resolved)
    if baseline:
        _require_classes(baseline, data)
    mistakes: list[dict[str, Any]] = []
    batches = _with_mistakes(_served(fitted, data, split, out / "served"), fitted, mistakes)
    with hardware.in_float32():
        measures = {"split": split, **fitted.task.measure(batches, data.classes)}
        before = _served_by(baseline, fitted, data, split) if baseline else None
    (out / "metrics.json").write_text(json.dumps(measures, indent=2), encoding="utf-8")
    (out / "mistakes.json").write_text(json.dumps(mistakes, indent=2), encoding="utf-8")

    # Name and version: where they lie is nobody's business who is given the report.
    named = "/".join(baseline.parts[-2:]) if baseline else None
    primary, reasons = fitted.task.primary, []
    reached = measures[primary]
    if reached < lower_bound:
        reasons.append(f"{primary} {reached:.4f} is below the lower bound {lower_bound:.4f}")
    if baseline and before is not None and reached < before - max_drop - ROUNDING:
        reasons.append(
            f"{primary} {reached:.4f} is more than {max_drop:.4f} below the {before:.4f} of "
            f"{named}{_doubt(baseline, data)}"
        )
    blessing = {
        "blessed": not reasons,
        "reasons": reasons,
        "primary": primary,
        "value": reached,
        "lower_bound": lower_bound,
        "baseline": named,
        "baseline_value": before,
    }
    (out / "blessing.json").write_text(json.dumps(blessing, indent=2), encoding="utf-8")


def loaded(model: Path, data: Data) -> TransferModel:
    """Returns the model of a product, which has to be one for these data.

    Raises:
        ValueError: It was fitted with another backbone, task or classes.
    """
    fitted = TransferModel.load(model)
    try:
        fitted.require(data)
    except ValueError as error:
        raise ValueError(
            f"{model}: {error} Give the same flags and examples as to the trainer."
        ) from None
    return fitted


def require_blessed(evaluation: Path) -> None:
    """Raises `NotBlessed`, and why, unless the product says that the model is."""
    blessing = json.loads((evaluation / "blessing.json").read_text(encoding="utf-8"))
    if not blessing["blessed"]:
        raise NotBlessed(f"Not blessed: {'; '.join(blessing['reasons'])}.")


def measured_split(data: Data) -> str:
    """Returns the split that judges a model: ``test``, or ``validation`` where there is no test."""
    for split in ("test", "validation"):
        if data.count(split):
            return split
    raise ValueError(
        "There is neither a test nor a validation example to measure the model on; "
        'give more examples, or --split="split(test=20)".'
    )


def _doubt(baseline: Path, data: Data) -> str:
    """Returns what is to be said of a version that may have been fitted to these examples."""
    made = product.made_by("examples", manifest(baseline)["lineage"])
    cuts = {each["asked"]["fields"]["split"]["value"] for each in made}
    if cuts == {data.info.split}:
        return ""
    return (
        f", which was fitted to data cut by {' and '.join(sorted(cuts)) or 'nobody knows what'}, "
        f"not by {data.info.split}, and may know these very examples (--baseline=none compares "
        "with none)"
    )


def _served(fitted: TransferModel, data: Data, split: str, out: Path) -> Iterator[tuple[Any, Any]]:
    """Yields numpy ``(target, served)`` batches of a split; writes the served arrays as well."""
    out.mkdir()
    writers: dict[str, Any] = {}
    start = 0
    batches = terminal.shown(data.batches(split), data.steps(split), "evaluating")
    for inputs, target in batches:
        served = {name: tensor.numpy() for name, tensor in fitted.served(inputs).items()}
        for name, array in served.items():
            if name not in writers:
                shape = (data.count(split), *array.shape[1:])
                writers[name] = feature_store.allocated(out / f"{name}.npy", array.dtype, shape)
            writers[name][start : start + len(array)] = array
        start += len(next(iter(served.values())))
        yield target.numpy(), served


def _with_mistakes(
    batches: Iterator[tuple[Any, Any]], fitted: TransferModel, mistakes: list[dict[str, Any]]
) -> Iterator[tuple[Any, Any]]:
    """Yields the batches and leaves the most confident mistakes in the list."""
    start = 0
    for target, served in batches:
        for place, label, predicted, probability in fitted.task.mistakes(target, served):
            mistakes.append(
                {
                    "index": start + place,
                    "label": fitted.classes[label],
                    "predicted": fitted.classes[predicted],
                    "probability": probability,
                }
            )
        mistakes.sort(key=lambda mistake: -mistake["probability"])
        del mistakes[SHOWN:]
        start += len(target)
        yield target, served


def _require_classes(version: Path, data: Data) -> None:
    """Raises ValueError unless a pushed version predicts the classes of the data."""
    labels = (version / "labels.txt").read_text(encoding="utf-8").splitlines()
    if tuple(labels) != data.classes:
        raise ValueError(
            f"{version} predicts {len(labels)} other classes than the {len(data.classes)} of the "
            "examples, so the two cannot be compared; give --baseline=none, or another --name."
        )


def _served_by(version: Path, fitted: TransferModel, data: Data, split: str) -> float:
    """Returns the primary measure of a pushed version's SavedModel on the same examples."""
    loaded = tf.saved_model.load(version / "saved_model")
    run = loaded.signatures["serving_default"]

    def batches() -> Iterator[tuple[Any, Any]]:
        read = reading.dataset(data.folder, split)
        for example in terminal.shown(read, data.count(split), "the baseline"):
            # Pictures differ in size, and the signature resizes them itself.
            served = run(image=example["image"][None])
            target = data.task.target(example, None, len(data.classes))
            yield (
                target.numpy()[None],
                {name: tensor.numpy() for name, tensor in served.items()},
            )

    return fitted.task.measure(batches(), data.classes)[fitted.task.primary]
