"""Ingest: every example of a source checked and written into its split."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import files, spec, terminal
from tlkeras.data import planning, records
from tlkeras.data.parts import Runner
from tlkeras.data.records import Info
from tlkeras.data.splits import Split
from tlkeras.images import decoding
from tlkeras.kind import Kind
from tlkeras.source import Source

# Examples of a part: many enough that its files are no burden, few enough to share the work evenly.
_PART = 512

# The file of a part with a line for each of its examples.
_FOUND = "found.json"

# Below this largest value 16 bits become at most 64 grey levels: data of 14 bits or fewer.
_DARK = 2**14

Say = Callable[[str], None]


def write_examples(
    source: Source,
    split: Split,
    out: Path | str,
    say: Say = print,
    runner: Runner | None = None,
    parts: Path | str | None = None,
) -> Info:
    """Writes every example of a source into the folder `out`.

    Only ids, labels and digests of the whole data are in memory. Pictures are decoded in full and
    written as `decoding.standard` returns them. ``info.json`` comes last: it is there only after a
    success. The files are the same for any runner.

    Args:
        source: Where the examples come from.
        split: How they are cut.
        out: The folder to write; it need not exist.
        say: Prints a message on oddities of the data.
        runner: Runs the parts of the job: it reads and checks the examples.
        parts: The folder of finished parts until the end, for a killed run on the same data to go
            on from. If None, a folder in `out`, which no later run uses.

    Raises:
        ValueError: The errors in the data, each with the id of its example.
    """
    out = spec.path(out)
    out.mkdir(parents=True, exist_ok=True)
    source = source.replace()  # Without its listing: the data may have changed since.
    say = _printable(say)
    for remark in source.remarks():
        say(remark)
    sides, plan = planning.planned(source, split)
    for remark in planning.remarks(split, sides, plan):
        say(remark)
    _clear(out, plan)
    with contextlib.ExitStack() as stack:
        if parts is None:
            parts = stack.enter_context(tempfile.TemporaryDirectory(prefix="_parts", dir=out))
        try:
            for remark in _written(source, sides, plan, out, runner or Runner(), Path(parts)):
                say(remark)
        except BaseException:
            _clear(out, plan)
            raise
    files.write_json(out / "info.json", plan.plain())
    return plan


def _clear(out: Path, plan: Info) -> None:
    """Removes an earlier ingest: nobody may read it beside the new one."""
    names = {*plan.counts}
    with contextlib.suppress(ValueError):
        names |= records.info(out).counts.keys()
    (out / "info.json").unlink(missing_ok=True)
    for name in names:
        records.remove(out, name)


def _written(
    source: Source,
    sides: Mapping[str, str],
    plan: Info,
    out: Path,
    runner: Runner,
    parts: Path,
) -> Iterator[str]:
    """Writes the shards, then yields remarks on the pictures.

    Raises:
        ValueError: The examples that cannot be used, and why.
    """
    order, numbers = list(sides), {name: i for i, name in enumerate(plan.counts)}
    parts.mkdir(parents=True, exist_ok=True)
    np.save(parts / "sides.npy", np.array([numbers[side] for side in sides.values()], np.uint8))
    reading = _Reading(source, plan, parts.absolute() / "sides.npy")
    seen = _Seen(sides)
    with contextlib.ExitStack() as stack:
        stack.enter_context(decoding.quiet())
        done = runner.run(reading, -(-len(order) // _PART), parts / "read", "reading")
        done = stack.enter_context(contextlib.closing(done))
        writers = {
            name: stack.enter_context(contextlib.closing(records.Writer(out, name)))
            for name in plan.counts
        }
        for number, part in enumerate(done):
            found = files.read_json(part / _FOUND)
            _same_examples(order[number * _PART : (number + 1) * _PART], found)
            seen.add(_Ready(*row) for row in found)
            for side, writer in writers.items():
                for record in records.Records(part, side).between(0, _PART):
                    writer.add(record)
    shutil.rmtree(parts)
    yield from seen.remarks()


@dataclasses.dataclass(frozen=True)
class _Ready:
    """One example after its check, without its record.

    Attributes:
        identity: Its id.
        digest: Of the picture or text, equal for copies.
        problem: Why it cannot be used, or an empty text.
        brightest: The largest value of its 16-bit picture, or -1.
    """

    identity: str
    digest: str = ""
    problem: str = ""
    brightest: int = -1


class _Seen:
    """All examples so far: the broken ones, copies in two splits and 16-bit pictures."""

    def __init__(self, sides: Mapping[str, str]) -> None:
        self._sides = sides
        self._broken: list[str] = []
        self._leaks: list[str] = []
        self._first: dict[str, str] = {}
        self._deep, self._brightest = 0, 0

    def add(self, examples: Iterable[_Ready]) -> None:
        for each in examples:
            if each.problem:
                self._broken.append(f"{each.identity} {each.problem}")
                continue
            twin, sides = self._first.setdefault(each.digest, each.identity), self._sides
            if sides[twin] != sides[each.identity]:
                pair = (f"{identity} ({sides[identity]})" for identity in (twin, each.identity))
                self._leaks.append(" = ".join(pair))
            if each.brightest >= 0:
                self._deep += 1
                self._brightest = max(self._brightest, each.brightest)

    def remarks(self) -> Iterator[str]:
        """Yields a message on copies and one on dark pictures; raises if examples are broken."""
        if self._broken:
            raise ValueError(
                f"{len(self._broken):,} of {len(self._sides):,} examples cannot be used:\n  "
                + spec.listed(self._broken, separator="\n  ")
                + "\nRepair or remove them, then run again."
            )
        if self._leaks:
            yield (
                f"{len(self._leaks):,} examples are exact copies of one in another split, so "
                "measures will flatter the model. They stay; better remove them:\n  "
                + spec.listed(self._leaks, separator="\n  ")
            )
        # One file alone may be dark by nature; the largest value of all files is the scanner's.
        if self._deep and self._brightest < _DARK:
            yield (
                f"{self._deep:,} pictures have 16 bits and no value above {self._brightest}, so "
                f"they keep {self._brightest // 256 + 1} grey levels: the upper 8 of 16 bits "
                f"count. Multiply them by {2 ** (16 - self._brightest.bit_length())} first to "
                "keep more."
            )


def _same_examples(expected: Sequence[str], found: Sequence[Sequence[str]]) -> None:
    """Raises if the examples of a part are not those of the plan."""
    pairs = itertools.zip_longest(expected, (identity for identity, *_ in found))
    for wanted, came in pairs:
        if wanted != came:
            raise ValueError(
                f"The data changed while it was read: {came or 'nothing'} came instead of "
                f"{wanted or 'the end'}; run again."
            )


@dataclasses.dataclass(frozen=True)
class _Reading:
    """A part of the data read and checked, each example a record of its split; see `parts.Part`.

    Beside the records it leaves the fields of `_Ready` of every example.
    """

    source: Source
    plan: Info
    sides: Path
    """The split of every example by its number, uint8 [examples] in a file."""

    def __call__(self, number: int, out: Path) -> None:
        sides, names = np.load(self.sides, mmap_mode="r"), [*self.plan.counts]
        start, stop = number * _PART, (number + 1) * _PART
        # The last part reads one more, to notice an example that came since.
        examples = self.source.between(start, stop if stop < len(sides) else stop + 1)
        found = []
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(contextlib.closing(records.Writer(out, name))) for name in names
            ]
            for place, (identity, features) in enumerate(examples, start=start):
                ready, record = _prepared(identity, features, self.plan)
                found.append(dataclasses.astuple(ready))
                if place < len(sides) and not ready.problem:
                    writers[sides[place]].add(record)
        if (classes := tuple(self.source.classes())) != self.plan.classes:
            raise ValueError(
                "The data changed while it was read: its classes were "
                f"{spec.listed(self.plan.classes)} and are {spec.listed(classes)}; run again."
            )
        files.write_json(out / _FOUND, found)


def _prepared(identity: str, features: Mapping[str, Any], plan: Info) -> tuple[_Ready, bytes]:
    """Returns an example after its check and its record, which is empty if it is broken."""
    kinds = plan.features
    try:
        if set(features) != set(kinds):
            raise ValueError(f"has the features {[*features]}, expected {[*kinds]}")
        standard = {key: _standard(key, kind, features[key], plan) for key, kind in kinds.items()}
        sizes = {kind.size(standard[key]) for key, kind in kinds.items()} - {None}
        if len(sizes) > 1 and any(kind.pixelwise for kind in kinds.values()):
            raise ValueError("has an image and a mask of different sizes")
        record = records.encode(identity, standard, kinds)
    except ValueError as error:
        return _Ready(identity, problem=f"{error}"), b""
    shared = [(kind, same) for key, kind in kinds.items() if (same := kind.same(standard[key]))]
    # Both texts of a pair, but not the caption of a picture.
    inputs = [same for kind, same in shared if kind == shared[0][0]]
    seen = b"\0".join(inputs) if inputs else record
    pictures = (features[key] for key, kind in kinds.items() if kind.meaning == "image")
    brightest = max(map(decoding.brightest, pictures), default=-1)
    return _Ready(identity, hashlib.sha256(seen).hexdigest(), brightest=brightest), record


def _standard(key: str, kind: Kind, value: Any, plan: Info) -> Any:
    """Returns a value in its standard form.

    Raises:
        ValueError: It is not of its kind, or it has the number of no class.
    """
    try:
        standard = kind.checked(value)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"has a {key!r} that is not of kind {kind}: {error}") from None
    except ValueError as error:
        first = next(iter(plan.features))  # The picture or text itself needs no name.
        raise ValueError(f"{error}" if key == first else f"{error} ({key})") from None
    for number in kind.classes_in(standard):
        if not 0 <= number < len(plan.classes):
            raise ValueError(f"has the {key} {number}, expected 0 to {len(plan.classes) - 1}")
    return standard


def _printable(say: Say) -> Say:
    """Returns a printer of escaped texts: names of files may hold any bytes."""
    return lambda text: say(terminal.printable(text))
