"""BulkInferrer: runs an export over a whole data set, on one machine or many."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import numpy as np

from pipeline import flags, product
from pipeline.step import Runtime, Step
from pipeline.version import manifest, warning
from tlkeras import folders, spec
from tlkeras.backbone import Backbone
from tlkeras.data import reading, records
from tlkeras.data.parts import Runner
from tlkeras.exporter import Exporter
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import tf
from tlkeras.images import decoding
from tlkeras.spec import Spec
from tlkeras.task import Task

FILE = "predictions.jsonl"
_PART = 512  # Examples of a part.
_DIGITS = 6  # Decimals of a prediction that are written.

# One batch at a time: it uses all cores, and TFLite's interpreter is not thread-safe.
_RUNNING = threading.Lock()


class Inference(Spec, name="inference"):
    """The settings of predictions."""

    exporter: Annotated[Exporter, "The export to run."] = SavedModel()
    batch_size: Annotated[int, "Examples per batch."] = 32
    beam_runner: Annotated[str, "The Beam runner, as in python -m pipeline."] = Runner.name
    beam_options: Annotated[str, "Options of that runner, separated by spaces."] = Runner.options

    def validate(self):
        self.require(self.batch_size >= 1, "batch_size", "at least 1")


@Step
def predictions(
    out: Path,
    *,
    exports: Annotated[Path, "A pushed version, or the product exports."],
    data: Annotated[Path, "A folder of files, at any depth, or the product examples."],
    exporter: Exporter,
    batch_size: int,
    beam_runner: Runtime[str] = Runner.name,
    beam_options: Runtime[str] = Runner.options,
) -> None:
    """Writes the predictions to ``predictions.jsonl``, one object a line, in data order.

    Each has an ``id``, a path below `data` or the example's name, and what `Task.record` returns.
    Of classification that is ``label``, ``classes`` and ``scores``, best first, and
    ``probabilities`` in the order of ``labels.txt``; of detection ``names``, ``scores`` and
    ``pixels``, the boxes. A mask is a PNG file, which the line names: ``category/1.jpg.png`` for
    the picture ``1.jpg``, 0 where there is no class and 1 + c in class c. An unreadable file has
    ``error`` instead.
    """
    if missing := [name for name in exporter.files() if not (exports / name).exists()]:
        raise ValueError(f"There is no {missing[0]} in {exports}; choose another --exporter.")
    if said := warning(exports):
        print(f"  {said}")
    _files.cache_clear()  # The folder may have changed since the last call in this process.
    _loaded.cache_clear()
    backbone, task = _described(exports)
    suffixes = _suffixes(backbone) if not _is_examples(data) else ()
    parts = _parts(data, suffixes)
    if not parts:
        raise ValueError(f"There are no files in {data} that end in {', '.join(suffixes)}.")
    classes = tuple((exports / "labels.txt").read_text(encoding="utf-8").splitlines())
    shutil.copy(exports / "labels.txt", out / "labels.txt")
    predicting = _Predicting(
        data.absolute(),
        suffixes,
        exports.absolute(),
        exporter,
        backbone,
        task,
        tuple(classes),
        batch_size,
    )
    done = Runner(beam_runner, beam_options).run(
        predicting, len(parts), out / "_scratch", "predicting"
    )
    with decoding.quiet(), (out / FILE).open("wb") as file:
        for part in done:
            with (part / FILE).open("rb") as lines:
                shutil.copyfileobj(lines, file)
            for folder in (path for path in part.iterdir() if path.is_dir()):
                shutil.copytree(folder, out / folder.name, dirs_exist_ok=True)


def _described(exports: Path) -> tuple[Backbone, Task]:
    """Returns the backbone and the task of exports, from their lineage."""
    is_pushed = (exports / "manifest.json").exists()
    lineage = manifest(exports)["lineage"] if is_pushed else product.lineage(exports)
    models = product.made_by("model", lineage)
    if not models:
        raise ValueError(f"{exports} has no model in its lineage.")
    fields = models[0]["asked"]["fields"]
    backbone = spec.parse(fields["backbone"]["value"], Backbone)
    return backbone, spec.parse(fields["task"]["value"], Task)


def _suffixes(backbone: Backbone) -> tuple[str, ...]:
    """Returns the suffixes of files that hold one example for the backbone.

    Raises:
        ValueError: An example of the backbone does not fit into one file.
    """
    (kind, *others) = backbone.raw().values()
    if others or not kind.suffixes:
        raise ValueError(
            f"{backbone.name} reads {', '.join(backbone.reads)}, which no single file holds; set "
            "--data to the product examples."
        )
    return kind.suffixes


def _parts(data: Path, suffixes: tuple[str, ...]) -> list[tuple[str, int]]:
    """Returns the split, empty for a folder of files, and the first number of every part."""
    counts = records.info(data).counts if _is_examples(data) else {"": len(_files(data, suffixes))}
    return [(split, start) for split, n in counts.items() for start in range(0, n, _PART)]


def _is_examples(data: Path) -> bool:
    return (data / "info.json").exists()


@functools.lru_cache(maxsize=1)
def _files(data: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Returns every file with one of these suffixes in a folder and below, but no hidden ones."""
    if not data.is_dir():
        raise ValueError(folders.missing(data))
    return sorted(path for path in folders.walk(data, data) if path.suffix.lower() in suffixes)


@functools.lru_cache(maxsize=1)
def _loaded(exporter: Exporter, exports: Path) -> Callable[[Any], dict[str, Any]]:
    return exporter.load(exports)


@dataclasses.dataclass(frozen=True)
class _Predicting:
    """The predictions of a part of the data; see `tlkeras.data.parts.Part`."""

    data: Path
    suffixes: tuple[str, ...]
    exports: Path
    exporter: Exporter
    backbone: Backbone
    task: Task
    classes: tuple[str, ...]
    batch_size: int

    def __call__(self, number: int, out: Path) -> None:
        examples = self._examples(*_parts(self.data, self.suffixes)[number])
        # Bytes of a file name that are not UTF-8 become JSON's own escapes.
        with (out / FILE).open("w", encoding="utf-8", errors="backslashreplace") as file:
            while batch := list(itertools.islice(examples, self.batch_size)):
                answers = self._answers([one for one in batch if not one.problem])
                for one in batch:
                    told = {"error": one.problem} if one.problem else _written(next(answers), out)
                    file.write(json.dumps({"id": one.identity, **told}, ensure_ascii=False) + "\n")

    def _examples(self, split: str, start: int) -> Iterator[_Example]:
        """Yields the examples of a part."""
        if not _is_examples(self.data):
            ((key, kind),) = self.backbone.raw().items()
            for path in _files(self.data, kind.suffixes)[start : start + _PART]:
                identity = path.relative_to(self.data).as_posix()
                try:
                    example = {key: kind.given(kind.read(path))}
                except (ValueError, OSError) as error:
                    yield _Example(identity, problem=str(error))
                else:
                    yield self._prepared(identity, identity, example)
            return
        order = np.arange(start, min(start + _PART, records.info(self.data).counts[split]))
        rows = reading.dataset(self.data, split, order, self.backbone.reads)
        for number, example in zip(order, rows, strict=True):
            identity = example["id"].numpy().decode(errors="surrogateescape")
            # An id is any text, not always a path that can be written to.
            yield self._prepared(identity, f"{split}/{number:06d}", example)

    def _prepared(self, identity: str, name: str, example: Mapping[str, Any]) -> _Example:
        size = self.backbone.sides(example)
        return _Example(identity, name, self.backbone.preprocess(example), size)

    def _answers(self, examples: Sequence[_Example]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the name of each example and what is written down of its answer."""
        if not examples:
            return
        stacked = tf.nest.map_structure(
            lambda *rows: np.stack(rows), *(one.inputs for one in examples)
        )
        with _RUNNING:
            served = _loaded(self.exporter, self.exports)(stacked)
        answers = self.task.answers(served, self.classes, [one.size for one in examples])
        for one, answer in zip(examples, answers, strict=True):
            yield one.name, self.task.record(answer)


class _Example(NamedTuple):
    """An example to predict.

    Attributes:
        identity: Its id.
        name: A path below a folder, without suffix, for the files of its answer.
        inputs: What the backbone makes of it.
        size: See `Backbone.sides`.
        problem: Why it cannot be read; it has no inputs then.
    """

    identity: str
    name: str = ""
    inputs: Any = None
    size: Any = None
    problem: str = ""


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
    return (
        np.round(array.astype(float), _DIGITS).tolist()
        if array.dtype.kind == "f"
        else array.tolist()
    )


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras bulk_inferrer``."""
    flags.run_alone(argv, predictions, Inference)
