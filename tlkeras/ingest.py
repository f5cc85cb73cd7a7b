"""Ingest: every example of a source checked, put on its side of the split, and written down."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tlkeras import pictures, records, splits
from tlkeras.records import Info
from tlkeras.source import Kind, Source
from tlkeras.splits import Split

# Examples in work at a time: enough to keep the threads busy, few enough for the memory.
_THREADS = min(8, os.cpu_count() or 1)
_IN_WORK = 4 * _THREADS

# Keys of lists of classes.
_CLASS_LISTS = {"labels", "box_labels"}

# How many of many names an error or a warning tells.
_TOLD = 10

# How often a long ingest tells where it stands.
_TELL_EVERY = 20_000

Say = Callable[[str], None]


def write(source: Source, split: Split, out: Path, say: Say = print) -> Info:
    """Writes every example of a source into the folder `out`.

    Of the whole data only ids, labels and digests are in memory. Pictures are decoded in full and
    become what `pictures.normalized` gives. ``info.json`` is written last, when all is well.

    Raises:
        ValueError: What is wrong with the data, and with which examples.
    """
    out.mkdir(parents=True, exist_ok=True)
    for remark in source.remarks():
        say(remark)
    sides, planned = _planned(source, split)
    for gap in _gaps(planned):
        say(gap)
    _write_records(source, sides, planned, out, say)
    text = json.dumps(dataclasses.asdict(planned), indent=2, ensure_ascii=False)
    (out / "info.json").write_text(text + "\n", encoding="utf-8")
    return planned


def _planned(source: Source, split: Split) -> tuple[dict[str, str], Info]:
    """Returns the split of every id and what the folder will hold; reads ids and labels only."""
    kinds, classes = dict(source.features()), source.classes()
    if "id" in kinds:
        raise ValueError(f"{source.member} has a feature 'id', which is the example's own name.")
    labelled = kinds.get("label") == "integer"
    if labelled and len(classes) < 2:
        raise ValueError(
            f"{source} has {len(classes)} class{'' if classes else 'es'}"
            f"{f', {classes[0]!r}' if classes else ''}; choosing a label takes at least two."
        )
    ids, labels = [], []
    for identity, label in source.labels():
        ids.append(identity)
        labels.append(label)
    if not ids:
        raise ValueError(f"{source} has no examples.")
    if len(set(ids)) < len(ids):
        twice = [identity for identity, times in collections.Counter(ids).items() if times > 1]
        raise ValueError(f"{source} gives {len(twice):,} ids more than once: {_told(twice)}.")
    pairs = zip(ids, labels, strict=True)
    if labelled and (wrong := [(i, x) for i, x in pairs if not _in_range(x, classes)]):
        told = _told([f"{identity} has {label}" for identity, label in wrong])
        raise ValueError(f"Labels must be from 0 to {len(classes) - 1}: {told}.")
    sides = splits.cut(split, ids, labels, [source.split(identity) for identity in ids])
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
    pairs = collections.Counter(zip(sides, labels, strict=True))
    rows = {name: tuple(pairs[name, label] for label in range(len(classes))) for name in ordered}
    return dict(zip(ids, sides, strict=True)), Info(
        classes=tuple(classes),
        features=kinds,
        counts={name: counts[name] for name in ordered},
        class_counts=rows if labelled else {},
        split=split.full(),
    )


def _gaps(planned: Info) -> Iterator[str]:
    """Yields a warning for every split that lacks some class."""
    for split, row in planned.class_counts.items():
        if missing := [name for name, count in zip(planned.classes, row, strict=True) if not count]:
            yield f"The split {split} has no example of {_told(missing)}."


def _write_records(
    source: Source, sides: Mapping[str, str], planned: Info, out: Path, say: Say
) -> None:
    """Writes the shards, then says which pictures are on two sides, or raises what is broken."""
    prepare = functools.partial(_prepared, kinds=planned.features, classes=planned.classes)
    broken, leaks, first = [], [], {}
    done = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(pictures.quiet())
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
        writers = {
            name: stack.enter_context(contextlib.closing(records.Writer(out, name)))
            for name in planned.counts
        }
        for done, ready in enumerate(_in_order(pool, prepare, source.examples()), start=1):
            if ready.identity not in sides:
                raise ValueError(f"{ready.identity} appeared while the data was read: run again.")
            if ready.problem:
                broken.append(f"{ready.identity} {ready.problem}")
                continue
            side = sides[ready.identity]
            writers[side].add(ready.record)
            twin = first.setdefault(ready.digest, ready.identity)
            if sides[twin] != side:
                leaks.append(f"{twin} ({sides[twin]}) = {ready.identity} ({side})")
            if done % _TELL_EVERY == 0:
                say(f"{done:,} of {len(sides):,} examples read.")
    if broken:
        raise ValueError(
            f"{len(broken):,} of {done:,} examples cannot be used:\n  "
            + _told(broken, "\n  ")
            + "\nRepair or remove them, then run again."
        )
    if done != len(sides):
        raise ValueError(f"{len(sides) - done:,} examples vanished while the data was read.")
    if leaks:
        say(
            f"{len(leaks):,} examples are exact copies of one in another split, so measures will "
            f"flatter the model. Nothing was moved; better remove them:\n  " + _told(leaks, "\n  ")
        )


@dataclasses.dataclass(frozen=True)
class _Ready:
    """One example on its way from the source to its shard."""

    identity: str
    record: bytes = b""
    digest: bytes = b""
    problem: str = ""


def _prepared(
    identity: str, features: Mapping[str, Any], *, kinds: Mapping[str, Kind], classes: Sequence[str]
) -> _Ready:
    """Returns the record of an example, or what is wrong with it; runs in a thread."""
    try:
        if set(features) != set(kinds):
            raise ValueError(f"has the features {[*features]}, expected {[*kinds]}")
        for key in _CLASS_LISTS & kinds.keys():
            if not all(_in_range(label, classes) for label in features[key]):
                raise ValueError(f"has the {key} {features[key]}, expected 0 to {len(classes) - 1}")
        standard = {key: _STANDARD.get(kinds[key], _same)(features[key]) for key in kinds}
        seen = [standard[key] for key, kind in kinds.items() if kind in _STANDARD]
        if len({pictures.size(encoded) for encoded in seen}) > 1:
            raise ValueError("has an image and a mask of different sizes")
        record = records.encode(identity, standard, kinds)
    except ValueError as error:
        return _Ready(identity, problem=f"{error}")
    shown = [value for key, value in standard.items() if kinds[key] == "image"]
    shown = shown or [repr(value).encode() for key, value in standard.items() if key != "label"]
    return _Ready(identity, record, hashlib.sha256(b"".join(shown)).digest())


def _same(value: Any) -> Any:
    return value


_STANDARD: dict[Kind, Callable[[bytes], bytes]] = {
    "image": pictures.standard,
    "mask": pictures.standard_mask,
}


def _in_range(label: Any, classes: Sequence[str]) -> bool:
    return 0 <= label < len(classes)


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[..., _Ready],
    examples: Iterable[tuple[str, dict[str, Any]]],
) -> Iterator[_Ready]:
    """Yields the results of parallel work in order, a bounded number of examples in memory."""
    waiting = collections.deque()
    for example in examples:
        waiting.append(pool.submit(work, *example))
        if len(waiting) >= _IN_WORK:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _told(names: Sequence[str], separator: str = ", ") -> str:
    """Returns the first of many names, and how many more there are."""
    more = len(names) - _TOLD
    return separator.join([*names[:_TOLD], *([f"and {more:,} more"] if more > 0 else [])])
