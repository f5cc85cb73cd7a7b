"""Ingest: every example of a source checked and written into its split."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any

from tlkeras import files, spec, terminal
from tlkeras.data import planning, records
from tlkeras.data.findings import FILES, Findings, Ready
from tlkeras.data.parts import Runner
from tlkeras.data.planning import Plan
from tlkeras.data.records import Info
from tlkeras.data.splits import TRAIN, Split
from tlkeras.doctor import defects, samples
from tlkeras.doctor.defects import Unusable
from tlkeras.doctor.duplicates import Copies
from tlkeras.doctor.traits import Traits
from tlkeras.images import decoding
from tlkeras.kind import Kind
from tlkeras.source import Derived, Source

# Examples of a part: many enough that its files are no burden, few enough to share the work evenly.
_PART = 512

# From so many parts on processes are faster than threads, their start counted.
_MANY = 8

# The file of a part with a line for each of its examples, and the name of its records.
_FOUND, _ALL = "found.jsonl", "all"

MAX_BAD_FRACTION = 0.01
"""The share of the examples that may be left out, if nothing else is said."""

Say = Callable[[str], None]


def write_examples(
    source: Source,
    split: Split,
    out: Path | str,
    say: Say = print,
    runner: Runner | None = None,
    parts: Path | str | None = None,
    max_bad_fraction: float = MAX_BAD_FRACTION,
    report: Path | str | None = None,
    excluded: Collection[str] = (),
) -> Info:
    """Writes every example of a source that can be used into the folder `out`.

    Only ids, labels, digests and hashes of the whole data are in memory. Pictures are decoded in
    full and written as `decoding.standard` returns them. ``quarantine.json`` lists the examples
    that cannot be used, ``notes.json`` those that are worth a look; ``traits.jsonl`` has a line
    for every record, ``duplicates.json`` the copies. ``info.json`` comes last: it is there only
    after a success. The files are the same for any runner.

    Args:
        source: Where the examples come from.
        split: How they are cut.
        out: The folder to write; it need not exist.
        say: Prints a message on oddities of the data.
        runner: Runs the parts of the job: it reads and checks the examples.
        parts: The folder of finished parts until the end, for a killed run on the same data to go
            on from. If None, a folder in `out`, which no later run uses.
        max_bad_fraction: The largest share of examples that may be left out, in [0, 1].
        report: The file for the list of defects if there are more; ``quarantine.json`` in `out` if
            None.
        excluded: The ids of examples to leave out; an unknown one may have gone already. They move
            no other example between splits. Only ``split(dedup=True)`` reads them, to know copies.

    Raises:
        ValueError: The source is wrong, or too many examples cannot be used, each with its id.
    """
    if not 0 <= max_bad_fraction <= 1:
        raise ValueError(f"max_bad_fraction is {max_bad_fraction}, expected a share from 0 to 1.")
    out = spec.path(out)
    out.mkdir(parents=True, exist_ok=True)
    report = spec.path(report) if report else out / defects.QUARANTINE
    source = copy.deepcopy(source)  # Without any listing: the data may have changed since.
    say = _printable(say)
    for remark in source.remarks():
        say(remark)
    excluded = frozenset(excluded)
    every = planning.planned(source, split)
    plan = every.excluding(excluded)
    for remark in planning.exclusions(excluded, every):
        say(remark)
    _clear(out, plan.info)
    runner = runner or Runner()
    with contextlib.ExitStack() as stack:
        if parts is None:
            parts = stack.enter_context(tempfile.TemporaryDirectory(prefix="_parts", dir=out))
        parts = spec.path(parts)
        try:
            if split.dedup:
                staged = _staged(source, every, runner, parts)
                every = planning.planned(source, split, _twins(staged, plan.info))
                plan = every.excluding(excluded)
                examples = (
                    each
                    for each in _held(staged, _rows(staged))
                    if each[0].identity not in excluded
                )
            else:
                examples = _read(source, every, runner, parts / "read", excluded)
            for remark in planning.remarks(source, split, plan):
                say(remark)
            findings = stack.enter_context(Findings(plan, out))
            _write(stack.enter_context(contextlib.closing(examples)), plan, findings, out)
            for remark in findings.require_enough(max_bad_fraction, report):
                say(remark)
            for remark in findings.write(
                source.left_out(),
                lambda name: not split.dedup and source.split(name) in (None, TRAIN),
            ):
                say(remark)
            shutil.rmtree(parts, ignore_errors=True)  # Of a folder on NFS a part may stay.
        except BaseException:
            _clear(out, plan.info, spared=report)
            raise
    info = findings.info()
    for name in {*plan.info.counts} - {*info.counts}:
        records.remove(out, name)
    files.write_json(out / "info.json", info.plain())
    return info


def _clear(out: Path, plan: Info, spared: Path | None = None) -> None:
    """Removes an earlier ingest: nobody may read it beside the new one."""
    names = {*plan.counts}
    with contextlib.suppress(ValueError):
        names |= records.info(out).counts.keys()
    for file in ("info.json", *FILES):
        if out / file != spared:
            (out / file).unlink(missing_ok=True)
    for name in names:
        records.remove(out, name)


def _write(
    examples: Iterator[tuple[Ready, bytes]], plan: Plan, findings: Findings, out: Path
) -> None:
    """Writes the shards, every record into that of its split."""
    with contextlib.ExitStack() as stack:
        writers = {
            name: stack.enter_context(contextlib.closing(records.Writer(out, name)))
            for name in plan.info.counts
        }
        for (ready, record), labels in zip(examples, plan.labels, strict=True):
            findings.add(ready, labels)
            if not ready.defect:
                writers[plan.sides[ready.identity]].add(record)


def _read(
    source: Source,
    plan: Plan,
    runner: Runner,
    folder: Path,
    excluded: frozenset[str] = frozenset(),
) -> Generator[tuple[Ready, bytes]]:
    """Yields every example with its record, which is empty if it cannot be used."""
    order = list(plan.sides)
    reading = _Reading(source, plan.info, len(order), _PART, excluded)
    with contextlib.ExitStack() as stack:
        stack.enter_context(decoding.quiet())
        done = runner.run(reading, -(-len(order) // _PART), folder, "reading", _MANY)
        for number, part in enumerate(stack.enter_context(contextlib.closing(done))):
            found = [*_rows(part)]
            expected = order[number * _PART : (number + 1) * _PART]
            expected = [identity for identity in expected if identity not in excluded]
            _same_examples(expected, [each.identity for each in found])
            yield from _held(part, found)
    _require_same_classes(copy.deepcopy(source), plan.info)


def _held(folder: Path, rows: Iterable[Ready]) -> Generator[tuple[Ready, bytes]]:
    """Yields the examples in the folder of a part with their records, in order."""
    with contextlib.closing(records.every(folder, _ALL)) as usable:
        for ready in rows:
            yield ready, b"" if ready.defect else next(usable)


def _rows(folder: Path) -> Iterator[Ready]:
    with (folder / _FOUND).open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            yield Ready(*json.loads(line))


class _Holding:
    """Writes examples into a folder, for `_held`."""

    def __init__(self, folder: Path) -> None:
        self._writer = records.Writer(folder, _ALL)
        self._lines = (folder / _FOUND).open("w", encoding="utf-8", errors="surrogateescape")

    def add(self, ready: Ready, record: bytes) -> None:
        fields = [getattr(ready, field.name) for field in dataclasses.fields(ready)]
        self._lines.write(f"{json.dumps(fields, ensure_ascii=False)}\n")
        if not ready.defect:
            self._writer.add(record)

    def close(self) -> None:
        self._lines.close()
        self._writer.close()


def _staged(source: Source, plan: Plan, runner: Runner, parts: Path) -> Path:
    """Returns a folder with all examples, which appears whole, as a killed run may have left it.

    So the data are read once, though their cut is known only when all have been.
    """
    out, partial = parts / "staged", parts / "staged.partial"
    if not out.exists():
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        reading = _read(source, plan, runner, parts / "read")
        with contextlib.closing(reading), contextlib.closing(_Holding(partial)) as holding:
            for ready, record in reading:
                holding.add(ready, record)
        partial.rename(out)
    _same_examples(list(plan.sides), [each.identity for each in _rows(out)])
    return out


def _twins(staged: Path, info: Info) -> dict[str, str]:
    """Returns the name of its group of copies for every id that is in one."""
    copies = Copies(info.features)
    for each in _rows(staged):
        if not each.defect:
            copies.add(each.identity, each.digest, each.traits)
    return {identity: ids[0] for ids, _, _ in copies.groups() for identity in ids}


def _same_examples(expected: Sequence[str], found: Sequence[str]) -> None:
    """Raises if the examples of a part are not those of the plan."""
    for wanted, came in itertools.zip_longest(expected, found):
        if wanted != came:
            raise ValueError(
                f"The data changed while it was read: {came or 'nothing'} came instead of "
                f"{wanted or 'the end'}; run again."
            )


def _require_same_classes(source: Source, plan: Info) -> None:
    """Raises if a source, looked at anew, has other classes than the plan."""
    if (classes := tuple(source.classes())) != plan.classes:
        raise ValueError(
            "The data changed while it was read: its classes were "
            f"{spec.listed(plan.classes)} and are {spec.listed(classes)}; run again."
        )


@dataclasses.dataclass(frozen=True)
class _Reading:
    """A part of the data read and checked, in the form that `_held` reads; see `parts.Part`."""

    source: Source
    plan: Info
    count: int
    """The number of all examples."""
    size: int
    """The number of those of a part."""
    excluded: frozenset[str]

    def __call__(self, number: int, out: Path) -> None:
        start, stop = number * self.size, (number + 1) * self.size
        # The last part reads one more, to notice an example that came since.
        examples = self.source.between(start, stop if stop < self.count else stop + 1)
        with contextlib.closing(_Holding(out)) as holding:
            for identity, features in examples:
                if identity not in self.excluded:
                    holding.add(*_prepared(identity, features, self.plan))


def _prepared(identity: str, features: Mapping[str, Any], plan: Info) -> tuple[Ready, bytes]:
    """Returns an example after its check and its record, which is empty if it is broken."""
    kinds = plan.features
    try:
        if set(features) != set(kinds):
            raise ValueError(f"has the features {[*features]}, expected {[*kinds]}")
        found = {key: _examined(key, kind, features[key], plan) for key, kind in kinds.items()}
        standard = {key: value for key, (value, _) in found.items()}
        _require_one_size(standard, kinds)
        record = records.encode(identity, standard, kinds)
    except ValueError as error:
        return Ready(identity, defect=defects.word(error), reason=f"{error}"), b""
    shared = [(kind, same) for key, kind in kinds.items() if (same := kind.same(standard[key]))]
    # Both texts of a pair, but not the caption of a picture.
    inputs = [same for kind, same in shared if kind == shared[0][0]]
    seen = b"\0".join(inputs) if inputs else record
    pictures = (features[key] for key, kind in kinds.items() if kind.meaning == "image")
    first = next(iter(kinds))
    numbers, words = samples.of_values(standard, kinds, plan.classes)
    # What traits tell of the source's own value counts more than the same of its standard form.
    told = {f"{key}.{name}" for key, (_, traits) in found.items() for name in traits}
    return Ready(
        identity,
        digest=hashlib.sha256(seen).hexdigest(),
        brightest=max(map(decoding.brightest, pictures), default=-1),
        sha256=_origin(features[first], standard[first], kinds[first]),
        traits={key: traits for key, (_, traits) in found.items() if traits},
        numbers={name: value for name, value in numbers.items() if name not in told},
        words=words,
    ), record


def _require_one_size(standard: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """Raises Unusable if a mask is not of the size of its picture."""
    if any(kind.pixelwise for kind in kinds.values()):
        sizes = {kind.size(standard[key]) for key, kind in kinds.items()} - {None}
        if len(sizes) > 1:
            raise Unusable("sizes differ", "has an image and a mask of different sizes")


def _origin(value: Any, standard: Any, kind: Kind) -> str:
    """Returns the SHA-256 of the file or text of an input; of others than these any."""
    if isinstance(value, Derived):
        return value.origin
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    elif not isinstance(value, bytes):
        value = kind.same(standard) or repr(standard).encode()
    return hashlib.sha256(value).hexdigest()


def _examined(key: str, kind: Kind, value: Any, plan: Info) -> tuple[Any, Traits]:
    """Returns a value in its standard form, and its traits.

    Raises:
        ValueError: It is not of its kind, or it has the number of no class.
    """
    if isinstance(value, ValueError):
        raise value
    try:
        standard, traits = kind.examined(value)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"has a {key!r} that is not of kind {kind}: {error}") from None
    except ValueError as error:
        first = next(iter(plan.features))  # The picture or text itself needs no name.
        told = f"{error}" if key == first else f"{error} ({key})"
        raise Unusable(defects.word(error), told) from None
    for number in kind.classes_in(standard):
        if not 0 <= number < len(plan.classes):
            raise Unusable(
                "wrong class", f"has the {key} {number}, expected 0 to {len(plan.classes) - 1}"
            )
    return standard, traits


def _printable(say: Say) -> Say:
    """Returns a printer of escaped texts: names of files may hold any bytes."""
    return lambda text: say(terminal.printable(text))
