"""Ingest: every example of a source checked, put on its side of the split, and written down."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import terminal
from tlkeras.data import records, splits
from tlkeras.data.parts import Runner
from tlkeras.data.records import Info
from tlkeras.data.splits import Split
from tlkeras.images import decoding
from tlkeras.kind import Kind
from tlkeras.source import Source

# Examples of a part: many enough that its files are no burden, few enough to share the work evenly.
_PART = 512

# What a part tells of its examples.
_FOUND = "found.json"

# How many of many names an error or a warning tells.
_TOLD = 10

Say = Callable[[str], None]


def write_examples(
    source: Source,
    split: Split,
    out: Path,
    say: Say = print,
    runner: Runner | None = None,
    parts: Path | None = None,
) -> Info:
    """Writes every example of a source into the folder `out`.

    Of the whole data only ids, labels and digests are in memory. Pictures are decoded in full and
    become what `pictures.normalized` gives. ``info.json`` is written last, when all is well. The
    files are the same whoever does the work.

    Args:
        source: Where the examples come from.
        split: How they are cut.
        out: The folder to write, made if need be.
        say: What tells the user of oddities.
        runner: Runs the parts of the job: it reads and checks the examples.
        parts: Where finished parts lie meanwhile; those of a killed run on the same data are used.
            If None, a folder in `out`, and nothing is used again.

    Raises:
        ValueError: What is wrong with the data, and with which examples.
    """
    out.mkdir(parents=True, exist_ok=True)
    source = source.replace()  # One that remembers nothing of data that were mended since.
    say = _printable(say)
    for remark in source.remarks():
        say(remark)
    sides, planned = _planned(source, split)
    for gap in _gaps(planned):
        say(gap)
    if torn := split.torn(sides):
        say(
            f"{len(torn):,} groups have examples in more than one split, so measures will flatter "
            f"the model: {_told(torn)}."
        )
    if lone := split.ungrouped(sides):
        say(
            f"{len(lone):,} of {len(sides):,} ids have nothing that group={split.group!r} finds; "
            f"each is a group of its own: {_told(lone)}."
        )
    _clear(out, planned)
    with contextlib.ExitStack() as stack:
        if parts is None:
            parts = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="_parts", dir=out)))
        try:
            _write_records(source, sides, planned, out, say, runner or Runner(), parts)
        except BaseException:
            _clear(out, planned)
            raise
    text = json.dumps(planned.plain(), indent=2, ensure_ascii=False)
    (out / "info.json").write_text(text + "\n", encoding="utf-8")
    return planned


def _clear(out: Path, planned: Info) -> None:
    """Removes what was written there before: nobody is to read it beside what comes next."""
    names = {*planned.counts}
    with contextlib.suppress(ValueError):
        names |= records.info(out).counts.keys()
    (out / "info.json").unlink(missing_ok=True)
    for name in names:
        records.remove(out, name)


def _planned(source: Source, split: Split) -> tuple[dict[str, str], Info]:
    """Returns the split of every id and what the folder will hold; reads ids and labels only."""
    kinds, classes = dict(source.features()), source.classes()
    if "id" in kinds:
        raise ValueError(f"{source.member} has a feature 'id', which is the example's own name.")
    naming = [key for key, kind in kinds.items() if kind.least_classes]
    for key in naming:
        if len(classes) < (least := kinds[key].least_classes):
            raise ValueError(
                f"{source} has {len(classes)} class{'' if len(classes) == 1 else 'es'}"
                f"{f', {classes[0]!r}' if classes else ''}; its {key!r} needs at least {least}."
            )
    for name in classes:
        if name.splitlines() != [name] or name != terminal.printable(name):
            raise ValueError(
                f"{source} has the class {name!r}; a class is named by one line of UTF-8."
            )
    ids, labels = [], []
    for identity, numbers in source.labels():
        ids.append(identity)
        labels.append(tuple(numbers))
    if not ids:
        raise ValueError(f"{source} has no examples.")
    if len(set(ids)) < len(ids):
        twice = [identity for identity, times in collections.Counter(ids).items() if times > 1]
        raise ValueError(f"{source} gives {len(twice):,} ids more than once: {_told(twice)}.")
    wrong = [
        f"{identity} has {number}"
        for identity, numbers in zip(ids, labels, strict=True)
        for number in numbers
        if not 0 <= number < len(classes)
    ]
    if wrong:
        raise ValueError(f"Labels must be from 0 to {len(classes) - 1}: {_told(wrong)}.")
    sides = splits.assigned(split, ids, labels, [source.split(identity) for identity in ids])
    if strange := [name for name in {*sides} if not re.fullmatch(r"\w+", name)]:
        raise ValueError(f"{source} has the split {strange[0]!r}, expected a plain word.")
    if splits.TRAIN not in sides:
        raise ValueError(
            f"{source} leaves no example for training: all {len(ids):,} are in "
            f"{' and '.join(sorted({*sides}))}. Add examples or give training a larger share."
        )
    known = (splits.TRAIN, splits.VALIDATION, splits.TEST)
    ordered = [name for name in known if name in sides] + sorted({*sides} - {*known})
    counts = collections.Counter(sides)
    pairs = collections.Counter(
        (side, number) for side, numbers in zip(sides, labels, strict=True) for number in {*numbers}
    )
    rows = {name: tuple(pairs[name, label] for label in range(len(classes))) for name in ordered}
    return dict(zip(ids, sides, strict=True)), Info(
        classes=tuple(classes),
        features=kinds,
        counts={name: counts[name] for name in ordered},
        class_counts=rows if naming else {},
        split=split.full(),
    )


def _gaps(planned: Info) -> Iterator[str]:
    """Yields a warning for every split that lacks some class."""
    for split, row in planned.class_counts.items():
        if missing := [name for name, count in zip(planned.classes, row, strict=True) if not count]:
            yield f"The split {split} has no example of {_told(missing)}."


def _write_records(
    source: Source,
    sides: Mapping[str, str],
    planned: Info,
    out: Path,
    say: Say,
    runner: Runner,
    parts: Path,
) -> None:
    """Writes the shards, then says which pictures are on two sides, or raises what is broken."""
    order, numbers = list(sides), {name: i for i, name in enumerate(planned.counts)}
    parts.mkdir(parents=True, exist_ok=True)
    np.save(parts / "sides.npy", np.array([numbers[side] for side in sides.values()], np.uint8))
    reading = _Reading(source, planned, parts.absolute() / "sides.npy")
    broken, leaks, first = [], [], {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(decoding.quiet())
        done = runner.run(reading, -(-len(order) // _PART), parts / "read", "reading")
        done = stack.enter_context(contextlib.closing(done))
        writers = {
            name: stack.enter_context(contextlib.closing(records.Writer(out, name)))
            for name in planned.counts
        }
        for number, part in enumerate(done):
            found = json.loads((part / _FOUND).read_text(encoding="utf-8"))
            _same_examples(order[number * _PART : (number + 1) * _PART], found)
            for identity, digest, problem in found:
                if problem:
                    broken.append(f"{identity} {problem}")
                    continue
                twin = first.setdefault(digest, identity)
                if sides[twin] != sides[identity]:
                    leaks.append(f"{twin} ({sides[twin]}) = {identity} ({sides[identity]})")
            for side, writer in writers.items():
                for record in records.Records(part, side).between(0, _PART):
                    writer.add(record)
    shutil.rmtree(parts)
    if broken:
        raise ValueError(
            f"{len(broken):,} of {len(order):,} examples cannot be used:\n  "
            + _told(broken, "\n  ")
            + "\nRepair or remove them, then run again."
        )
    if leaks:
        say(
            f"{len(leaks):,} examples are exact copies of one in another split, so measures will "
            "flatter the model. Nothing was moved; better remove them:\n  " + _told(leaks, "\n  ")
        )


def _same_examples(expected: Sequence[str], found: Sequence[Sequence[str]]) -> None:
    """Raises if what was read is not what was planned."""
    pairs = itertools.zip_longest(expected, (identity for identity, *_ in found))
    for planned, came in pairs:
        if planned != came:
            raise ValueError(
                f"The data changed while it was read: {came or 'nothing'} came instead of "
                f"{planned or 'the end'}; run again."
            )


@dataclasses.dataclass(frozen=True)
class _Reading:
    """A part of the data read and checked, each example a record of its side; see `workers.Part`.

    Beside the records it leaves ``(id, digest of what is seen, what is wrong)`` of every example.
    """

    source: Source
    planned: Info
    sides: Path
    """The split of every example by its number, uint8 [examples] in a file."""

    def __call__(self, number: int, out: Path) -> None:
        sides, names = np.load(self.sides, mmap_mode="r"), [*self.planned.counts]
        start, stop = number * _PART, (number + 1) * _PART
        # One that was added at the end is to be noticed, too.
        examples = self.source.between(start, stop if stop < len(sides) else stop + 1)
        found = []
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(contextlib.closing(records.Writer(out, name))) for name in names
            ]
            for place, (identity, features) in enumerate(examples, start=start):
                ready = _prepared(
                    identity, features, kinds=self.planned.features, classes=self.planned.classes
                )
                found.append((identity, ready.digest, ready.problem))
                if place < len(sides) and not ready.problem:
                    writers[sides[place]].add(ready.record)
        if tuple(self.source.classes()) != self.planned.classes:
            raise ValueError(
                "The data changed while it was read: its classes were "
                f"{_told(self.planned.classes)} and are {_told(self.source.classes())}; run again."
            )
        (out / _FOUND).write_text(json.dumps(found), encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class _Ready:
    """The record of one example and the digest of what is seen of it, or what is wrong with it."""

    record: bytes = b""
    digest: str = ""
    problem: str = ""


def _prepared(
    identity: str, features: Mapping[str, Any], *, kinds: Mapping[str, Kind], classes: Sequence[str]
) -> _Ready:
    """Returns the record of an example, or what is wrong with it."""
    try:
        if set(features) != set(kinds):
            raise ValueError(f"has the features {[*features]}, expected {[*kinds]}")
        standard = {
            key: _standard(key, kind, features[key], classes) for key, kind in kinds.items()
        }
        sizes = {kind.size(standard[key]) for key, kind in kinds.items()} - {None}
        if len(sizes) > 1 and any(kind.pixelwise for kind in kinds.values()):
            raise ValueError("has an image and a mask of different sizes")
        record = records.encode(identity, standard, kinds)
    except ValueError as error:
        return _Ready(problem=f"{error}")
    shared = (kind.same(standard[key]) for key, kind in kinds.items())
    seen = next((each for each in shared if each is not None), record)
    return _Ready(record, hashlib.sha256(seen).hexdigest())


def _standard(key: str, kind: Kind, value: Any, classes: Sequence[str]) -> Any:
    """Returns a value in its standard form.

    Raises:
        ValueError: It is not of its kind, or names a class that there is not.
    """
    try:
        standard = kind.checked(value)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"has a {key!r} that is not of kind {kind}: {error}") from None
    for number in kind.classes_in(standard):
        if not 0 <= number < len(classes):
            raise ValueError(f"has the {key} {number}, expected 0 to {len(classes) - 1}")
    return standard


def _printable(say: Say) -> Say:
    """Returns what says a text as it can be printed: names of files may hold any bytes."""
    return lambda text: say(terminal.printable(text))


def _told(names: Sequence[str], separator: str = ", ") -> str:
    """Returns the first of many names, and how many more there are."""
    more = len(names) - _TOLD
    return separator.join([*names[:_TOLD], *([f"and {more:,} more"] if more > 0 else [])])
