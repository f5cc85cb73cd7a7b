"""Usage: the code of the model card that runs an export on a raw example.

It joins `Kind.reading`, which reads a file into ``value`` as ingest does, and lines that run the
export.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_origin

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.exporter import Usage
from tlkeras.formats import signature
from tlkeras.kind import SERVING, Kind
from tlkeras.spec import Spec
from tlkeras.task import Output, Task


def of_values(kinds: Mapping[str, Kind], file: str, lines: str) -> list[Usage]:
    """Returns the use of a file that takes raw examples.

    In the lines ``FILE`` stands for the name of the file and ``INPUTS`` for keyword arguments,
    ``image=tf.constant([value], "uint8")``.
    """
    readings, batches = _read(kinds)
    inputs = ", ".join(f"{key}={batch}" for key, batch in batches.items())
    code = _joined(*readings, lines.replace("INPUTS", inputs))
    return [Usage(file, "python", code.replace("FILE", json.dumps(file)))]


def of_prepared(backbone: Backbone, file: str, picture: str, others: str) -> list[Usage]:
    """Returns the use of a file that takes what `Backbone.preprocess` gives.

    Args:
        backbone: That of the model.
        file: In the lines ``FILE`` stands for this name.
        picture: Lines that resize ``value``, uint8 [h, w, 3], themselves, as `pixels.squash` does.
        others: Lines that run ``inputs``, a batch of one; tlkeras prepares it of anything else, and
            of a picture that becomes a square in another way.
    """
    kinds = backbone.raw()
    is_picture = [kind.meaning for kind in kinds.values()] == ["image"]
    if is_picture and signature.squashes(backbone):
        code = _joined(*(kind.reading() for kind in kinds.values()), picture)
    else:
        readings, batches = _read(kinds)
        example = ", ".join(f'"{key}": {batch}' for key, batch in batches.items())
        prepared = _PREPARED.format(text=json.dumps(str(backbone)), example=example)
        if not (module := type(backbone).__module__).startswith("tlkeras."):
            prepared = f"import {module}  # It has the backbone.\n{prepared}"
        code = _joined(*readings, prepared, others)
        if paths := [*_relative(backbone)]:
            code = _PLACE.format(paths=", ".join(paths)) + code
    return [Usage(file, "python", code.replace("FILE", json.dumps(file)))]


def labelled(usages: Sequence[Usage], task: Task) -> list[Usage]:
    """Returns uses of files that serve numbers alone, with which lines of labels.txt these mean."""
    said = [_labels(output) for output in task.outputs() if output.labelled]
    return [dataclasses.replace(usage, code="".join([usage.code, *said])) for usage in usages]


def abstaining(usages: Sequence[Usage], task: Task) -> list[Usage]:
    """Returns uses of files that serve scores alone, with when these are no answer."""
    said = [
        f"# The answer is unknown if no number in {output.name} is at least "
        f"{output.abstains_below:g}.\n"
        for output in task.outputs()
        if output.abstains_below
    ]
    return [dataclasses.replace(usage, code="".join([usage.code, *said])) for usage in usages]


def _relative(of: Spec) -> Iterator[str]:
    """Yields the relative paths of what is there that a spec, or one in it, names."""
    for field, annotation in spec.fields(type(of)).items():
        value = getattr(of, field)
        if isinstance(value, Spec):
            yield from _relative(value)
        elif isinstance(value, str | Path) and get_origin(annotation) is not Literal and str(value):
            path = spec.path(str(value))
            if not path.is_absolute() and path.exists():
                yield str(value)


def _labels(output: Output) -> str:
    if output.meaning == "category":
        return f"# A number in {output.name} counts the lines of labels.txt, from 0.\n"
    if output.others:
        first = ", ".join(output.others)
        return f"# Scores in {output.name} are of {first}, then in the order of labels.txt.\n"
    said = f"# Scores in {output.name} are in the order of labels.txt.\n"
    if output.meaning == "tokens":
        said += "# The tags that measures are of: tlkeras.measures.tagging.tags_of makes them.\n"
    return said


_PLACE = "# Run it in the folder where the training ran: it reads {paths}.\n"

_PREPARED = """\
import tensorflow as tf
from tlkeras import spec
from tlkeras.backbone import Backbone

backbone = spec.parse({text}, Backbone)
inputs = backbone.preprocess({{{example}}})
"""


def _read(kinds: Mapping[str, Kind]) -> tuple[list[str], dict[str, str]]:
    """Returns code that reads a value of each kind, and that which makes it a batch, by key."""
    readings = [_reading(kind) for kind in kinds.values()]
    names = dict.fromkeys(kinds, "value")
    if len(kinds) > 1:
        names = {key: f"{key}_value" for key in kinds}
        readings = [
            f"{reading}{names[key]} = value\n" for key, reading in zip(kinds, readings, strict=True)
        ]
    # The type is written out: TensorFlow takes a list of arrays of bytes for int32.
    dtypes = {key: kind.entrances()[SERVING].dtype for key, kind in kinds.items()}
    return readings, {key: f'tf.constant([{name}], "{dtypes[key]}")' for key, name in names.items()}


def _reading(kind: Kind) -> str:
    return kind.reading() or f"value = {kind.sample()!r}\n"


def _joined(*parts: str) -> str:
    """Returns code whose imports stand once, at the beginning."""
    imports: dict[str, None] = {}
    bodies = []
    for part in parts:
        lines = part.splitlines()
        imports |= dict.fromkeys(line for line in lines if _IMPORT.match(line))
        bodies.append("\n".join(line for line in lines if not _IMPORT.match(line)).strip("\n"))
    head = sorted(_merged(imports), key=lambda line: (line.startswith("from "), line))
    return "\n".join([*head, "", *bodies]) + "\n" if head else "\n".join(bodies) + "\n"


def _merged(imports: Mapping[str, None]) -> list[str]:
    """Returns import lines, ``from`` a module once with all its names."""
    plain = [line for line in imports if line.startswith("import ")]
    names: dict[str, set[str]] = {}
    for line in imports:
        if match := re.fullmatch(r"from (\S+) import (.*)", line):
            names.setdefault(match[1], set()).update(match[2].split(", "))
    return plain + [f"from {module} import {', '.join(sorted(names[module]))}" for module in names]


_IMPORT = re.compile(r"(import|from) ")
