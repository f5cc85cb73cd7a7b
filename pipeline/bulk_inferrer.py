"""BulkInferrer: runs an export over a whole data set, on one machine or many."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import numpy as np

from pipeline import batch, flags, product
from pipeline.batch import Batch, Example
from pipeline.step import Runtime, Step
from pipeline.version import manifest, warning
from tlkeras import files, spec
from tlkeras.backbone import Backbone
from tlkeras.data.parts import MANY, Runner
from tlkeras.doctor import answers, judging, samples, statistics
from tlkeras.doctor.novelty import Novelty
from tlkeras.doctor.samples import Gathering
from tlkeras.exporter import Exporter, Predict
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import tf
from tlkeras.images import decoding
from tlkeras.measures import conformal
from tlkeras.measures.conformal import Sets
from tlkeras.model import vector
from tlkeras.spec import Spec
from tlkeras.task import Task

FILE, DRIFT = "predictions.jsonl", "drift.json"
_PART = 512  # Examples of a part.
_DIGITS = 6  # Of a prediction that are written: decimals, or all digits of a small one.
_SMALL = 0.1

# One batch at a time: it uses all cores, and TFLite's interpreter is not thread-safe.
_RUNNING = threading.Lock()


class Inference(Spec, name="inference"):
    """The settings of predictions."""

    exporter: Annotated[Exporter, "The export to run."] = SavedModel()
    batch_size: Annotated[int, "Examples per batch."] = 32
    novelty: Annotated[
        bool, "Whether each line says how usual its features are, by the reference of the version."
    ] = False
    beam_runner: Annotated[str, "The Beam runner, as in python -m pipeline."] = Runner.name
    beam_options: Annotated[str, "Options of that runner, separated by spaces."] = Runner.options

    def validate(self):
        self.require(self.batch_size >= 1, "batch_size", "at least 1")


def behind(exports: Path, data: Path) -> dict[str, tuple[Spec, str]]:
    """Returns the specs that answers rest on, with their fingerprints, for the key of a step.

    They are the backbone, the task and what reads the data, as the lineage of the exports tells.
    """
    fields = _fields(exports)
    families: dict[str, type[Spec]] = {"backbone": Backbone, "task": Task}
    found = {name: spec.parse(fields[name]["value"], each) for name, each in families.items()}
    known = {name: (each, _fingerprint(each, fields[name])) for name, each in found.items()}
    source = batch.source_of(data.absolute(), cast(Backbone, found["backbone"]), exports)
    return {**known, **({"source": (source, "")} if source else {})}  # Its data are an input.


@Step(behind=behind)
def predictions(
    out: Path,
    *,
    exports: Annotated[Path, "A pushed version, or the product exports."],
    data: Annotated[
        Path, "A folder of files, at any depth, a table of texts, or the product examples."
    ],
    exporter: Exporter,
    batch_size: int,
    novelty: bool = False,
    beam_runner: Runtime[str] = Runner.name,
    beam_options: Runtime[str] = Runner.options,
) -> None:
    """Writes the predictions to ``predictions.jsonl``, one object a line, in data order.

    A table or a folder of scans is read as those of the training, without labels. Each line has an
    ``id``, a path below `data` or the example's name, and what `Task.record` returns.
    Of classification that is ``label``, ``classes`` and ``scores``, best first, and
    ``probabilities`` in the order of ``labels.txt``; of detection ``names``, ``scores`` and
    ``pixels``, the boxes. A mask is a PNG file, which the line names: ``category/1.jpg.png`` for
    the picture ``1.jpg``, 0 where there is no class and 1 + c in class c. An unreadable file has
    ``error`` instead. ``statistics.pb`` has the statistics of all examples and answers. For a
    version whose measures have conformal sets, ``set`` has the classes in that of the example, the
    most probable first; of an export that is coarse there is none. With `novelty`, ``novelty_p`` is
    the share of the examples of the reference that are at least as unlike the others; see
    `Novelty`. For a version with a reference, ``drift.json`` compares them with it, see ``tlkeras
    validate``.
    """
    predicting = prepared(exports, exporter, batch_size)
    if novelty:
        predicting = dataclasses.replace(predicting, novelty=_novelty(exports, exporter))
    new = batch.of_path(data.absolute(), predicting.backbone, exports)
    shutil.copy(exports / "labels.txt", out / "labels.txt")
    seen = predicted(predicting, new, out, Runner(beam_runner, beam_options))
    if (exports / samples.COLUMNS).exists():
        found = judging.judged(
            exports, seen.gathering, seen.problems, predicting.classes, exporter.is_coarse
        )
        files.write_json(out / DRIFT, [dataclasses.asdict(each) for each in found])
        for each in found:
            if each.is_wrong:
                print(f"  {each.sentence}")


@dataclasses.dataclass(frozen=True)
class Seen:
    """What has been seen of a batch.

    Attributes:
        gathering: Of the examples that could be read.
        problems: Why others could not be read, ``ID REASON`` each.
    """

    gathering: Gathering
    problems: Sequence[str]


def prepared(exports: Path, exporter: Exporter, batch_size: int) -> Predicting:
    """Returns the job without its data.

    Raises:
        ValueError: The folder does not hold this export, or does not tell of its model.
    """
    if missing := [name for name in exporter.files() if not (exports / name).exists()]:
        raise ValueError(f"There is no {missing[0]} in {exports}; choose another --exporter.")
    if said := warning(exports):
        print(f"  {said}")
    _loaded.cache_clear()  # The folder may have changed since the last call in this process.
    classes = tuple((exports / "labels.txt").read_text(encoding="utf-8").splitlines())
    described, sets = _described(exports), conformal.read(exports)
    if exporter.is_coarse:
        is_judged = (exports / samples.COLUMNS).exists()
        left = ["comparison of their numbers with the reference"] if is_judged else []
        left += ["conformal set"] if sets else []
        if left:
            print(f"  Answers of {exporter} have 8 bits, so there is no {' and no '.join(left)}")
        sets = None
    return Predicting(exports.absolute(), exporter, *described, classes, batch_size, sets)


def predicted(predicting: Predicting, new: Batch, out: Path, runner: Runner) -> Seen:
    """Returns what is seen of a batch; writes ``predictions.jsonl`` and ``statistics.pb``."""
    job = _Parts(predicting, new)
    # Each process would take the whole memory of the GPU.
    many = sys.maxsize if tf.config.list_physical_devices("GPU") else MANY
    seen, problems = Gathering(), []
    with decoding.quiet(), (out / FILE).open("wb") as file:
        parts = runner.run(job, len(job.places), out / "_scratch", "predicting", many)
        for part in parts:
            with (part / FILE).open("rb") as lines:
                shutil.copyfileobj(lines, file)
            seen.join(part)
            problems += files.read_json(part / _PROBLEMS)
            for folder in (path for path in part.iterdir() if path.is_dir()):
                shutil.copytree(folder, out / folder.name, dirs_exist_ok=True)
    new.complete(seen)
    proto = statistics.protos("statistics").DatasetFeatureStatisticsList()
    statistics.add(proto, "new", seen.count, seen.numbers, seen.words)
    statistics.write(proto, out)
    return Seen(seen, problems)


_PROBLEMS = "problems.json"  # Of a part.


def _fields(exports: Path) -> Mapping[str, Any]:
    """Returns the fields that the model of exports was made of, from their lineage."""
    is_pushed = (exports / "manifest.json").exists()
    lineage = manifest(exports)["lineage"] if is_pushed else product.lineage(exports)
    models = product.made_by("model", lineage)
    if not models:
        raise ValueError(f"{exports} has no model in its lineage.")
    return models[0]["asked"]["fields"]


def _described(exports: Path) -> tuple[Backbone, Task]:
    """Returns the backbone and the task of exports."""
    fields = _fields(exports)
    backbone = spec.parse(fields["backbone"]["value"], Backbone)
    before = fields["backbone"].get("fingerprint")
    if before is not None and _fingerprint(backbone, fields["backbone"]) != before:
        print(
            f"  The files of {backbone} have changed since {exports} was trained. They prepare the "
            "data here, so answers may differ from those of its SavedModel."
        )
    return backbone, task_of(exports)


def task_of(exports: Path) -> Task:
    """Returns the task of exports."""
    return spec.parse(_fields(exports)["task"]["value"], Task)


def _fingerprint(each: Spec, field: Mapping[str, str]) -> str:
    """Returns the fingerprint of the spec of a field of a manifest."""
    try:
        return each.fingerprint()
    except ValueError:  # A file is gone, perhaps of weights, which the exports have.
        return field.get("fingerprint", "")


def _novelty(exports: Path, exporter: Exporter) -> Novelty:
    """Returns what judges how usual the features of an example are.

    Raises:
        ValueError: The folder has no features to compare with, too few, or the export gives none.
    """
    if not (exports / samples.FEATURES).exists():
        raise ValueError(
            f"--novelty: {exports} has no {samples.FEATURES}, the features to compare with; give "
            "a pushed version of a model with features, or leave --novelty out."
        )
    if type(exporter).observed is Exporter.observed:
        raise ValueError(
            f"--novelty: {exporter.member} gives no features; use --exporter=saved_model, or leave "
            "--novelty out."
        )
    return Novelty(samples.read(exports).features)


@functools.lru_cache(maxsize=1)
def _loaded(exporter: Exporter, exports: Path) -> Predict:
    """Returns the export, with its features if there are some to compare them with."""
    watched = exporter.observed(exports) if (exports / samples.FEATURES).exists() else None
    return watched or exporter.load(exports)


@dataclasses.dataclass(frozen=True)
class Predicting:
    """Predictions by one export."""

    exports: Path
    exporter: Exporter
    backbone: Backbone
    task: Task
    classes: tuple[str, ...]
    batch_size: int
    sets: Sets | None = None
    novelty: Novelty | None = None

    def answers(
        self, examples: Sequence[Example], seen: Gathering
    ) -> list[tuple[str, dict[str, Any]]]:
        """Returns the name of each example and what is written down of its answer."""
        if not examples:
            return []
        stacked = tf.nest.map_structure(
            lambda *rows: np.stack(rows), *(one.inputs for one in examples)
        )
        with _RUNNING:
            served = dict(_loaded(self.exporter, self.exports)(stacked))
        features = served.pop(vector.FEATURES, None)
        columns = answers.columns(self.task.outputs(), served, self.classes)
        merged = [
            samples.merged(one.seen, each) for one, each in zip(examples, columns, strict=True)
        ]
        seen.add([one.identity for one in examples], merged, features)
        answered = self.task.answers(served, self.classes, [one.size for one in examples])
        told = [dict(self.task.record(each)) for each in answered]
        if self.sets:
            for each, chances in zip(told, self.task.chances(served), strict=True):
                each["set"] = self.sets.named(chances, self.classes)
        if self.novelty:
            shares = self.novelty.shares(samples.projected(np.asarray(features)))
            for each, part in zip(told, shares, strict=True):
                each["novelty_p"] = part
        return [(one.name, each) for one, each in zip(examples, told, strict=True)]


@dataclasses.dataclass(frozen=True)
class _Parts:
    """The predictions of a part of a batch; see `tlkeras.data.parts.Part`."""

    predicting: Predicting
    new: Batch

    @property
    def places(self) -> list[tuple[str, int]]:
        """The split, empty without any, and the first number of every part."""
        counts = self.new.counts()
        return [(split, start) for split, n in counts.items() for start in range(0, n, _PART)]

    def __call__(self, number: int, out: Path) -> None:
        split, start = self.places[number]
        examples = self.new.between(self.predicting.backbone, split, start, start + _PART)
        seen, problems = Gathering(), []
        # Bytes of a file name that are not UTF-8 become JSON's own escapes.
        with (out / FILE).open("w", encoding="utf-8", errors="backslashreplace") as file:
            while some := list(itertools.islice(examples, self.predicting.batch_size)):
                answered = iter(self.predicting.answers([x for x in some if not x.problem], seen))
                for one in some:
                    told = {"error": one.problem} if one.problem else _written(next(answered), out)
                    file.write(json.dumps({"id": one.identity, **told}, ensure_ascii=False) + "\n")
                problems += [f"{one.identity}: {one.problem}" for one in some if one.problem]
        seen.write(out)
        files.write_json(out / _PROBLEMS, problems)


def _written(answer: tuple[str, Mapping[str, Any]], out: Path) -> dict[str, Any]:
    """Returns an answer ready for JSON; its pictures are files, and their paths stand for them."""
    name, values = answer
    told: dict[str, Any] = {}
    for key, value in sorted(values.items()):
        if np.ndim(value) == 2 and np.asarray(value).dtype == np.uint8:
            told[key] = f"{key}/{name}.png"
            file = out / told[key]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(decoding.mask_file(np.asarray(value)))
        else:
            told[key] = _readable(value)
    return told


def _readable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    array = np.asarray(value)
    if array.dtype.kind in "OS":
        return [_readable(one) for one in array.tolist()]
    return rounded(array) if array.dtype.kind == "f" else array.tolist()


def rounded(values: Any) -> Any:
    """Returns a number, or an array as lists, to six decimals, or six digits of what is small."""
    array = np.asarray(values, float)
    found = [
        float(f"{value:.{_DIGITS}g}") if abs(value) < _SMALL else round(value, _DIGITS)
        for value in array.ravel().tolist()
    ]
    return np.array(found).reshape(array.shape).tolist()


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras bulk_inferrer``."""
    flags.run_alone(argv, predictions, Inference)
