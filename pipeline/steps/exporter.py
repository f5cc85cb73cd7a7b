"""Exporter: writes a blessed model in every format of ``--exporters``."""

from __future__ import annotations

from pathlib import Path

from pipeline import fresh, product
from pipeline.step import Step
from pipeline.steps import evaluator
from tlkeras.backbone import Backbone
from tlkeras.data.batches import Data
from tlkeras.exporter import Details, Exporter, Origin, require_distinct
from tlkeras.frameworks import writing
from tlkeras.task import Task


@Step
def exports(
    out: Path,
    *,
    model: Path,
    examples: Path,
    evaluation: Path,
    backbone: Backbone,
    task: Task,
    exporters: tuple[Exporter, ...],
    name: str,
    details: Details,
) -> None:
    """Writes every export, and ``labels.txt`` with one class name a line.

    Exporters calibrate on training examples, or on those of the target that the head is for.
    """
    evaluator.require_blessed(evaluation)
    require_distinct(exporters)
    fresh.start()  # It imports the libraries beside the work here.
    data = Data(examples, backbone, task)
    split = "target" if (model / "for_target.json").exists() else "train"
    fitted, samples = evaluator.loaded(model, data), data.singles(split)
    evaluator.release()
    origin = Origin(name, product.contents(model), details)
    for exporter in exporters:
        print(f"  {exporter}")
        with writing():
            exporter.write(fitted, samples, out, origin)
    labels = "".join(f"{name}\n" for name in fitted.classes)
    (out / "labels.txt").write_text(labels, encoding="utf-8")
