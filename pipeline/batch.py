"""Batch: new examples to predict, as files of any folder, of a source, or as the product examples.

Each is read, checked and decoded once; what is seen of it on the way is what drift compares.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline import product
from pipeline.version import manifest
from tlkeras import folders, spec
from tlkeras.backbone import Backbone
from tlkeras.data import reading, records
from tlkeras.data.records import Records
from tlkeras.doctor import samples, traits
from tlkeras.doctor.samples import Gathering, Seen
from tlkeras.frameworks import tf
from tlkeras.kind import Kind
from tlkeras.source import Source


class Example(NamedTuple):
    """An example to predict.

    Attributes:
        identity: Its id.
        name: A path below a folder, without suffix, for the files of its answer.
        inputs: What the backbone makes of it; large pictures are small there.
        size: See `Backbone.sides`.
        seen: What is seen of it.
        problem: Why it cannot be read; it has nothing else then.
        values: Its standard values, by key of what the backbone reads.
    """

    identity: str
    name: str = ""
    inputs: Any = None
    size: Any = None
    seen: Seen = ({}, {})
    problem: str = ""
    values: Mapping[str, Any] = {}


class Batch(abc.ABC):
    """New examples for a model whose backbone reads values of some kinds."""

    @abc.abstractmethod
    def counts(self) -> Mapping[str, int]:
        """Returns the number of examples by split, one of the name ``""`` if there are none."""

    @abc.abstractmethod
    def between(self, backbone: Backbone, split: str, start: int, stop: int) -> Iterator[Example]:
        """Yields the examples of a split from number `start` on and before `stop`."""

    @property
    def classes(self) -> Sequence[str] | None:
        """The names of the classes of labels; None if there are no labels."""
        return None

    def complete(self, gathering: Gathering) -> None:  # noqa: B027, most have nothing to add.
        """Adds what is seen of the examples beside what `between` tells."""


@dataclasses.dataclass(frozen=True)
class Files(Batch):
    """The files of a kind in a folder and below, hidden ones left out; they have no labels."""

    folder: Path
    suffixes: tuple[str, ...]

    def counts(self):
        return {"": len(_files(self.folder, self.suffixes))}

    def between(self, backbone, split, start, stop):
        ((key, kind),) = backbone.raw().items()
        for path in _files(self.folder, self.suffixes)[start:stop]:
            identity = path.relative_to(self.folder).as_posix()
            try:
                standard, decoded, seen = _examined({key: kind}, {key: kind.read(path)})
                prepared = _prepared(backbone, decoded)
            except (ValueError, OSError) as error:
                yield Example(identity, problem=str(error))
            else:
                yield Example(identity, identity, *prepared, seen, values=standard)


@dataclasses.dataclass(frozen=True)
class Labelled(Batch):
    """The examples of a source."""

    source: Source

    def counts(self):
        return {"": _count(self.source)}

    @property
    def classes(self):
        return self.source.classes()

    def between(self, backbone, split, start, stop):
        kinds, read = dict(self.source.features()), backbone.raw()
        for number, (identity, values) in enumerate(self.source.between(start, stop), start=start):
            try:
                own, decoded, seen = _examined(read, values)
                others = {key: kind for key, kind in kinds.items() if key not in read}
                standard = {key: kind.checked(values[key]) for key, kind in others.items()}
                labels = samples.of_values(standard, others, self.classes)
                prepared = _prepared(backbone, decoded)
            except (ValueError, TypeError, IndexError) as error:
                yield Example(identity, problem=str(error))
            else:
                # An id is any text, not always a path that can be written to.
                seen = samples.merged(seen, labels)
                yield Example(identity, f"{number:06d}", *prepared, seen, values=own)


@dataclasses.dataclass(frozen=True)
class Recorded(Batch):
    """The product examples, all its splits."""

    folder: Path

    def counts(self):
        return records.info(self.folder).counts

    @property
    def classes(self):
        return records.info(self.folder).classes

    def between(self, backbone, split, start, stop):
        about = records.info(self.folder)
        order = np.arange(start, min(stop, about.counts[split]))
        rows = reading.dataset(self.folder, split, order, backbone.reads)
        kept = Records(self.folder, split).between(start, stop)
        is_told = self._has_traits()
        for number, example, record in zip(order, rows, kept, strict=True):
            identity, values = records.values(record, about.features)
            # What was seen of the values as the source gave them is told by `complete`.
            told = ({}, {}) if is_told else samples.of_values(values, about.features, about.classes)
            prepared = _prepared(backbone, example)
            own = {key: values[key] for key in backbone.reads}
            yield Example(identity, f"{split}/{number:06d}", *prepared, told, values=own)

    def complete(self, gathering):
        if self._has_traits():
            for row in traits.read(self.folder):
                each = itertools.starmap(samples.of_traits, row.traits.items())
                seen = samples.merged((row.numbers, row.words), *each)
                gathering.complete(row.identity, seen)

    def _has_traits(self) -> bool:
        """Returns whether the examples tell what was seen of them; those of old versions do not."""
        return (self.folder / traits.FILE).exists()


def of_folder(folder: Path, backbone: Backbone) -> Batch:
    """Returns the product examples, or the files of a folder that hold one example each.

    Raises:
        ValueError: There is no such file, or an example of the backbone does not fit into one.
    """
    clear()
    if (folder / "info.json").exists():
        return Recorded(folder)
    (kind, *others) = backbone.raw().values()
    if others or not kind.suffixes:
        raise ValueError(
            f"{backbone.name} reads {', '.join(backbone.reads)}, which no single file holds; set "
            "--data to the product examples."
        )
    if not _files(folder, kind.suffixes):
        raise ValueError(f"There are no files in {folder} that end in {', '.join(kind.suffixes)}.")
    return Files(folder, kind.suffixes)


def of_path(path: Path, backbone: Backbone, version: Path) -> Batch:
    """Returns what `of_folder` does, or the examples of a table or of a folder of scans.

    Raises:
        ValueError: There is no such path, or it holds no examples of the backbone.
    """
    source = source_of(path, backbone, version)
    return of_source(source, backbone) if source else of_folder(path, backbone)


def source_of(path: Path, backbone: Backbone, version: Path) -> Source | None:
    """Returns the source of a table or of a folder of scans; None of the examples of `of_folder`.

    It reads them as the data that a version was fitted to, if they are of the same source, and no
    labels.

    Raises:
        ValueError: There is no such path, or it holds no examples of the backbone.
    """
    clear()
    kinds = [*backbone.raw().values()]
    if path.is_file():
        if not all(kind.is_ready for kind in kinds):
            keys = spec.listed([*backbone.raw()])
            raise ValueError(f"{path} holds no {keys} itself; set --data to the folder of files.")
        return unlabelled(like_trained(spec.parse(f"{path}", Source), version))
    is_plain = (path / "info.json").exists() or any(_files(path, kinds[0].suffixes))
    source = None if is_plain else spec.parse(f"{path}", Source)
    if source is None or "label" not in spec.fields(type(source)):
        return None
    return unlabelled(like_trained(source, version))


def like_trained(source: Source, version: Path) -> Source:
    """Returns a source with the fields of that which a version was fitted to, but its own path.

    One of another kind is returned as it is. Fields that say where the data of the training lie, or
    how they were cut, are as in any source. So are those of labels if a table beside the files had
    them: it tells no labels of others.
    """
    is_pushed = (version / "manifest.json").exists()
    lineage = manifest(version)["lineage"] if is_pushed else product.lineage(version)
    given: Any = source
    for each in product.made_by("examples", lineage):
        text = each["asked"]["fields"].get("source", {}).get("value", "")
        if text.startswith(f"{source.member}("):
            known: Any = spec.parse(text, Source)
            own = [*_OF_PLACE, *(_OF_TABLE if getattr(known, "table", None) else ())]
            if getattr(known, "image_folder", Path()).is_absolute():
                own.append("image_folder")
            return _usual(known, own).replace(path=given.path)
    return source


def unlabelled(source: Source) -> Source:
    """Returns a source from `like_trained` that reads no labels, where it can."""
    names = spec.fields(type(source))
    return _usual(source, _OF_TABLE).replace(**{"label": None} if "label" in names else {})


# Fields that other data than those of the training need not have, or have elsewhere.
_OF_PLACE = ("images", "group", "together", "split_column", "split_key")
_OF_TABLE = ("table", "key", "label", "multilabel", "number")


def _usual(source: Source, names: Sequence[str]) -> Source:
    """Returns a source with the defaults of some fields, of those that it has."""
    own, kind = spec.fields(type(source)), type(source)
    return source.replace(**{name: getattr(kind, name) for name in names if name in own})


def of_source(source: Source, backbone: Backbone) -> Batch:
    """Returns the examples of a source.

    Raises:
        ValueError: The source has other features than the backbone reads.
    """
    clear()
    kinds = source.features()
    wanted = backbone.raw()
    if wrong := [key for key, kind in wanted.items() if kinds.get(key) != kind]:
        there = ", ".join(f"{key!r} ({kind})" for key, kind in kinds.items())
        raise ValueError(
            f"{source} has the features {there}; the model reads {wrong[0]!r} "
            f"({wanted[wrong[0]]}). Give --data of that kind."
        )
    return Labelled(source)


def clear() -> None:
    """Forgets the listings of folders, which may have changed since the last call."""
    _files.cache_clear()
    _count.cache_clear()


@functools.lru_cache(maxsize=1)
def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Returns every file with one of these suffixes in a folder and below, but no hidden ones."""
    if not folder.is_dir():
        raise ValueError(folders.missing(folder))
    return sorted(path for path in folders.walk(folder, folder) if path.suffix.lower() in suffixes)


@functools.lru_cache(maxsize=1)
def _count(source: Source) -> int:
    return sum(1 for _ in source.labels())


def _prepared(backbone: Backbone, decoded: Mapping[str, Any]) -> tuple[Any, Any]:
    return backbone.preprocess(decoded), backbone.sides(decoded)


def _examined(
    kinds: Mapping[str, Kind], values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], Seen]:
    """Returns the standard and the decoded values of an example, and what is seen of them."""
    checked, decoded, seen = {}, {}, []
    for key, kind in kinds.items():
        if isinstance(values[key], ValueError):  # See `Source.examples`.
            raise values[key]
        standard, found = kind.examined(values[key])
        checked[key] = standard
        decoded[key] = kind.decoded(tf.convert_to_tensor(standard, kind.parsing().dtype))
        seen.append(samples.of_values({key: standard}, {key: kind}, ()))
        seen.append(samples.of_traits(key, found))
    return checked, decoded, samples.merged(*seen)
