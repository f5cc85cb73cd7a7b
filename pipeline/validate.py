"""Validate: judges a batch of new data by a pushed model, before its answers are trusted.

It is not a step of the pipeline.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

from pipeline import batch, bulk_inferrer, flags
from pipeline.batch import Batch
from pipeline.step import NotBlessed
from pipeline.version import warning
from tlkeras import folders, spec, terminal
from tlkeras.backbone import Backbone
from tlkeras.data.parts import Runner
from tlkeras.doctor import judging, samples, schemas, statistics
from tlkeras.doctor.judging import Finding
from tlkeras.exporter import Exporter
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.report import validation
from tlkeras.report.page import number
from tlkeras.source import Source
from tlkeras.sources.dicom import DICOM
from tlkeras.sources.folder import Folder
from tlkeras.sources.nifti import NIfTI
from tlkeras.spec import Spec

PAGE = "validation.html"


class Validation(Spec, name="validation"):
    """Judges whether new data are like those on which a pushed model was measured.

    Compared are classes, formats, sizes, brightness or lengths, labels where there are some,
    predictions, and the features of the network. Prints a table and writes
    ``predictions.jsonl``, ``statistics.pb`` and ``anomalies.pbtxt`` (protos of TensorFlow
    Metadata) and the page ``validation.html``. Exit status: 0, or 2 if something is wrong.
    """

    model: Annotated[Path, "The folder of a pushed version."]
    data: Annotated[
        str,
        "The new data: the bare path of a folder, with or without a folder for each class, or of a "
        "table; a source with its fields; or the product examples.",
    ]
    out: Annotated[Path, "The folder to write."] = Path("validation")
    exporter: Annotated[Exporter, "The export to run."] = SavedModel()
    batch_size: Annotated[int, "Examples per batch."] = 32

    def validate(self):
        self.require(self.batch_size >= 1, "batch_size", "at least 1")


def main(config: Validation) -> int:
    """Writes and prints the findings.

    Raises:
        NotBlessed: Something is wrong with the data.
        ValueError: The model, or the data, cannot be read.
    """
    _require_judge(config.model)
    predicting = bulk_inferrer.prepared(config.model, config.exporter, config.batch_size)
    new = _batch(config.data, predicting.backbone, predicting.classes, config.model)
    config.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="_parts", dir=config.out) as parts:
        work = Path(parts)
        seen = bulk_inferrer.predicted(predicting, new, work, Runner())
        if not seen.gathering.count:
            count = len(seen.problems)
            if not count:
                raise ValueError(f"--data={config.data} has no examples; name data that have some.")
            raise ValueError(
                f"None of the {count:,} examples of --data={config.data} can be read: "
                f"{spec.listed(seen.problems, separator='; ')}."
            )
        found = judging.judged(
            config.model,
            seen.gathering,
            seen.problems,
            predicting.classes,
            config.exporter.is_coarse,
        )
        judging.write(config.model, found, work)
        reference, sample = samples.read(config.model), seen.gathering.sample()
        title = f"{config.data} against {'/'.join(config.model.absolute().parts[-2:])}"
        validation.write(work / PAGE, title, found, reference, sample, seen.problems)
        _remove_pictures(config.out)
        for each in work.iterdir():  # Not the folder itself: its mode is private.
            if each.is_dir():
                shutil.copytree(each, config.out / each.name, dirs_exist_ok=True)
            else:
                shutil.copy(each, config.out)
    _show(found)
    print(f"\nWritten: {config.out / PAGE}")
    if wrong := [each.sentence.removesuffix(".") for each in found if each.is_wrong]:
        raise NotBlessed(
            f"{len(wrong)} of {len(found)} comparisons are wrong: "
            f"{spec.listed(wrong, separator='; ')}."
        )
    return 0


def _remove_pictures(out: Path) -> None:
    """Removes the pictures that the predictions of an earlier batch name, and no other file."""
    earlier = out / bulk_inferrer.FILE
    lines = earlier.read_bytes().splitlines() if (out / PAGE).exists() and earlier.exists() else []
    for row in map(json.loads, lines):
        for key, value in row.items():
            if isinstance(value, str) and value.startswith(f"{key}/") and value.endswith(".png"):
                (out / value).unlink(missing_ok=True)


def _require_judge(version: Path) -> None:
    """Raises ValueError unless a folder is a version that new data can be compared with."""
    if not version.is_dir():
        raise ValueError(folders.missing(version))
    if not (version / samples.COLUMNS).exists() and (said := warning(version)):
        raise ValueError(
            f"{said} Its {samples.COLUMNS}, with which new data are compared, was removed with "
            "them: train again by tlkeras with their list as --exclude_ids, and judge by the new "
            "version."
        )
    for each in (samples, schemas, statistics):
        each.read(version)


def _batch(data: str, backbone: Backbone, classes: Sequence[str], version: Path) -> Batch:
    """Returns the batch of a text: a folder without the classes of the model has no labels.

    Nor has a table without the columns of the target.

    A bare path is read as the data that the version was fitted to, if it is of the same source.
    """
    path = folders.there(data)
    if path and (path / "info.json").exists():
        return batch.of_folder(path.absolute(), backbone)
    source = spec.parse(data, Source)
    if path:
        source = batch.like_trained(source, version)
    if path and path.is_dir() and not _has_classes(source, classes):
        print(f"  {data} has no folder of a class of the model, so there are no labels")
        return batch.of_path(path.absolute(), backbone, version)
    if path and (missing := source.missing_targets()):
        print(f"  {data} has no column {spec.listed(missing)}, so there are no labels")
        source = batch.unlabelled(source)
    return batch.of_source(source, backbone)


def _has_classes(source: Source, classes: Sequence[str]) -> bool:
    """Returns whether a source that may have folders of classes has one of these."""
    if not isinstance(source, Folder | DICOM | NIfTI):
        return True
    try:
        return bool({*source.classes()} & {*classes})
    except ValueError:
        return False  # It is no folder of class folders.


def _show(found: Sequence[Finding]) -> None:
    rows = [
        (
            each.column or "examples",
            each.test or "rule",
            each.expected,
            each.found,
            number(each.size),
            number(each.corrected),
            "WRONG" if each.is_wrong else "",
        )
        for each in found
    ]
    columns = ("column", "test", "reference", "new data", "size", "corrected p", "")
    print("\n" + terminal.table(rows, columns))


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras validate``."""
    example = "--model=saved_models/photos/1 --data=new/"
    flags.run(argv, main, Validation, example=example)
