"""JSONL: a file with a JSON object in every line, with texts and their labels."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tlkeras import spec
from tlkeras.data import columns, index, lines, splits
from tlkeras.data.index import Index, Row
from tlkeras.kind import Kind, finite
from tlkeras.kinds.text import Text
from tlkeras.source import Source, stamp


class JSONL(Source, name="jsonl"):
    """Texts and labels in JSON objects, one a line; `path` is a file or a folder of splits.

    In a folder, the files are called train, dev (or valid) and test. The id of an example is a
    digest of its texts. Classes are sorted, as numbers if all are whole numbers.
    """

    suffixes = (".jsonl", ".ndjson")

    path: Path
    text: str = "text"
    """The name of the texts in every object."""
    pair: str = ""
    """The name of the second texts, where two make an example."""
    label: str | None = ""
    """The name of the classes, ``label`` if it is empty; they are texts or whole numbers. None if
    nothing is to be predicted."""
    multilabel: bool = False
    """Whether `label` is a list of any number of classes."""
    number: str = ""
    """The name of the numbers to predict, in place of a class."""
    split_key: str = ""
    """The name of train, val, test or another usual word; if it is empty the hash decides."""
    together: str = ""
    """The name of what keeps examples in one split, such as a film: those of an equal value. None
    keeps none; ``split(group=…)`` decides in its place."""
    group: str | tuple[str, ...] = ()
    """The name of what examples have in common, such as a device, or several: by each the
    evaluator compares groups, and recipes can weigh them."""
    encoding: str = "utf-8"
    """Of the file."""

    def validate(self):
        self.require(bool(self.text), "text", "the name of the texts")
        lines.require_encoding(self, self.encoding)
        columns.targets(self)
        columns.groups(self)

    def title(self):
        return self.path.stem

    def features(self):
        texts: dict[str, Kind] = dict.fromkeys(_texts(self), Text())
        targets = {key: columns.TARGETS[key] for key in columns.targets(self)}
        return {**texts, **targets, **columns.groups(self)}

    def classes(self):
        return self._index().classes

    def examples(self):
        return self.between(0, len(self._index().ids))

    def between(self, start, stop):
        return self._index().between(start, stop)

    def labels(self):
        found = self._index()
        yield from zip(found.ids, map(list, found.labels), strict=True)

    def fingerprint(self):
        files = ((file.name, file) for file, _ in self._files())
        return stamp(files, lines.others(self.path, self.suffixes))

    def split(self, identity):
        return self._sides.get(identity)

    def stays_with(self, identity):
        return self._together.get(identity)

    def missing_targets(self):
        names = [f"{name}" for name in columns.targets(self).values()]
        rows = (_cut(self, file, 0) for file, _ in self._files())
        keys: set[str] = set()
        for _, _, text in itertools.chain.from_iterable(rows):
            try:
                keys |= {*_object(text)}
            except ValueError:
                return ()  # Whoever reads the examples is told which line is wrong.
            if {*names} & keys:
                return ()
        return names if keys else ()

    def remarks(self):
        return lines.left_out(self.path, self.suffixes) + self._index().told()

    @functools.cached_property
    def _sides(self) -> dict[str, str]:
        """The split of every id that has one, found once for all of them."""
        return self._index().sides

    @functools.cached_property
    def _together(self) -> dict[str, str]:
        """What keeps an id in the split of others, by the id."""
        return self._index().together

    def _files(self) -> list[tuple[Path, str | None]]:
        return lines.parts(self.path, self.suffixes)

    def _index(self) -> Index:
        """Returns the examples of the files, read again only after a change."""
        return _read(self, tuple(self._files()), self.fingerprint())


@functools.lru_cache(maxsize=2)
def _read(source: JSONL, files: tuple[tuple[Path, str | None], ...], stamped: str) -> Index:
    cut, row = functools.partial(_cut, source), functools.partial(_row, source)
    return Index(files, source.features(), cut, row)


def _cut(source: JSONL, file: Path, start: int) -> Iterator[tuple[int, int, str]]:
    begin = start
    for number, (text, end) in enumerate(lines.lines(file, source.encoding, start), start=1):
        if text.strip():
            yield begin, number, text
        begin = end


def _row(source: JSONL, line: int, raw: str) -> Row:
    """Returns an example; raises with its line if it is wrong."""
    try:
        values = _object(raw)
        texts = {key: _text(values, name, key) for key, name in _texts(source).items()}
        field = "number" if source.number else "label"
        found = {
            key: (_value(values, f"{name}", field), f"{name}")
            for key, name in columns.targets(source).items()
        }
        target = {key: _TARGETS[key](value, name) for key, (value, name) in found.items()}
        target |= {
            name: _label(_value(values, name, "group"), name, "group")
            for name in columns.groups(source)
        }
        shared = _value(values, source.together, "together") if source.together else None
        together = "" if shared is None else f"{shared}".strip()
        word = f"{_value(values, source.split_key, 'split_key')}" if source.split_key else ""
        split = splits.named(word) if word else None
        if word and split is None:
            raise ValueError(f"has the {source.split_key} {word!r}, expected train, val or test")
    except ValueError as error:
        raise ValueError(f"line {line} {error}") from None
    each = [one for value, _ in found.values() for one in _listed(value)]
    spaced = [name for name in each if isinstance(name, str) and name != name.strip()]
    notes = [(index.SPACES, repr(name)) for name in spaced]
    return Row(index.digest(*texts.values()), {**texts, **target}, split, together, notes)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _texts(source: JSONL) -> dict[str, str]:
    """Returns the names of the texts by key."""
    return {"text": source.text, **({"pair": source.pair} if source.pair else {})}


def _object(raw: str) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error.msg} at place {error.pos + 1}") from None
    if not isinstance(found, dict):
        raise ValueError(f"has {spec.listed([raw.strip()[:60]])} where an object is expected")
    return found


def _value(values: Mapping[str, Any], name: str, field: str) -> Any:
    if name not in values:
        raise ValueError(columns.missing(name, field, [*values]))
    return values[name]


def _text(values: Mapping[str, Any], name: str, field: str) -> str:
    value = _value(values, name, field)
    if not isinstance(value, str):
        raise ValueError(f"has {value!r} in {name}, expected a text")
    if not value.strip():
        raise ValueError(f"has no {name}")
    return value


def _label(value: Any, name: str, what: str = "class") -> str:
    if not isinstance(value, (str, int)) or not str(value).strip():
        raise ValueError(f"has {value!r} in {name}, expected the name of a {what}")
    return f"{value}".strip()


def _labels(value: Any, name: str) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"has {value!r} in {name}, expected a list of classes")
    return [*dict.fromkeys(_label(each, name) for each in value)]


def _number(value: Any, name: str) -> float:
    try:
        return finite(value)
    except ValueError as error:
        raise ValueError(f"{error} ({name})") from None


_TARGETS: dict[str, Callable[[Any, str], Any]] = {
    "label": _label,
    "labels": _labels,
    "number": _number,
}
