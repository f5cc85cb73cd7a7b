"""Trace: which products of a store, caches and pushed versions saw an example.

A product saw what an examples product in its lineage holds; the digest of that product decides, so
this is also known of pushed versions, which may lie anywhere. Ids are compared by their digests: a
mark on a version tells no id. Whoever knows an id can look for it, and nobody can read it there.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pipeline import log, product, version
from tlkeras import files, folders
from tlkeras.data import records
from tlkeras.data.records import Records
from tlkeras.doctor import defects, traits

Root = Annotated[Path, "The folder of the store, where a run finds earlier products."]
SavedModels = Annotated[Path, "The folder of the pushed models."]

LEFT_OUT, PREDICTED = "quarantine", "predicted"
"""What stands for the split of an example that was left out, or of one that was predicted alone."""

IDS = {"predictions": "predictions.jsonl", "explanations": "explanations.jsonl"}
"""By step, the file of a product whose lines have the ids of what was predicted."""

CACHE, LIST, REST, VERSION = "features", "quarantine", "rest of a killed run", "version"
"""The kinds of `Sight` that are no product."""

_ENTRY = re.compile(r"(\w+)-.+-([0-9a-f]{16})-[0-9a-f]{16}(\..*)?")
"""The split, and the digest of its records, in the name of an entry of the feature cache."""

REMOVED = "withdrawn"
"""The folder in a store with the digests of the examples in products that were removed."""

RESTS = (".partial", ".scratch", ".old")
"""The endings of what killed runs leave beside a product."""


@dataclasses.dataclass(frozen=True)
class Row:
    """An example that a product holds.

    Attributes:
        identity: The digest of its id.
        split: Its split, `LEFT_OUT` or `PREDICTED`.
        content: The sha256 of its file or text; empty if the product does not tell it.
    """

    identity: str
    split: str
    content: str = ""


Wanted = Callable[[Row], bool]


@dataclasses.dataclass(frozen=True)
class Sight:
    """A folder that saw examples.

    Attributes:
        kind: The step of a product, `CACHE`, `LIST`, `REST` or `VERSION`.
        path: The folder; of a list the file.
        digest: Of the files of a product; empty for all others.
        rows: The examples; none of what nobody knows what it holds, such as a rest.
    """

    kind: str
    path: Path
    digest: str
    rows: Sequence[Row]


@dataclasses.dataclass(frozen=True)
class Trace:
    """All that saw some examples.

    Attributes:
        sights: The products first, then caches, rests of killed runs and versions.
        unknown: Products, caches and versions of which the store no longer has the examples, so
            that nobody can tell. The first two are among the sights, without rows.
        ids: The ids of all examples in the store, to compare a misspelled one with.
    """

    sights: Sequence[Sight]
    unknown: Sequence[Path]
    ids: frozenset[str]


def digest_of(identity: str) -> str:
    """Returns the digest that stands for an id."""
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()


def find(root: Path, saved_models: Path, wanted: Wanted) -> Trace:
    """Returns all that saw the wanted examples.

    Raises:
        ValueError: There is no such store, or a product or a version in it is damaged.
    """
    if not root.is_dir():
        raise ValueError(f"--root={root}: {folders.missing(root)}")
    places = [*_places(root)]
    inside = [path for kind, path in places if kind == "product"]
    named = {path.resolve(): path for path in [*inside, *_logged(root)]}
    made = {path: product.manifest(path) for path in named}
    ids: set[str] = set()
    held: dict[str, dict[Row, None]] = {}
    caches: dict[tuple[str, str], dict[Row, None]] = {}
    for path, manifest in [*made.items(), *_elsewhere(made)]:
        if manifest["step"] != "examples":
            continue
        rows = held.setdefault(manifest["digest"], {})
        of_split = {
            split: caches.setdefault((split, _records_digest(manifest, split)), {})
            for split in records.info(path).counts
        }
        for identity, split, content in _examples(path):
            ids.add(identity)
            row = Row(digest_of(identity), split, content)
            if wanted(row):
                rows[row] = None
                of_split.get(split, {})[row] = None
    for path in sorted(root.glob(f"{REMOVED}/*.jsonl")):
        rows = held.setdefault(path.stem, {})
        rows |= {row: None for row in _removed(path) if wanted(row)}
    ancestors = _Ancestors(made)
    sights, unknown = [], []
    for path, manifest in made.items():
        rows = {row for digest in ancestors.of(path) for row in held.get(digest, ())}
        rows |= {row for row in _predicted(path, manifest) if wanted(row)}
        if rows:
            sight = Sight(manifest["step"], named[path], manifest["digest"], _sorted(rows))
            sights.append(sight)
        elif ancestors.is_lost(path, root, held.keys()):
            unknown.append(named[path])
            if named[path] in inside:
                sights.append(Sight(manifest["step"], named[path], manifest["digest"], []))
    saw = {sight.digest for sight in sights}
    known = {*held, *(manifest["digest"] for manifest in made.values())}
    for kind, path in places:
        match = _ENTRY.fullmatch(path.name)
        if kind == CACHE and match:
            rows = caches.get((match[1], match[2]))
            if rows is None:
                unknown.append(path)
            if rows is None or rows:
                sights.append(Sight(kind, path, "", _sorted(rows or ())))
        elif kind == REST and _may_hold(path, saw, known):
            sights.append(Sight(kind, path, "", []))
    for path, listed in _listed(root):
        if rows := [row for row in listed if wanted(row)]:
            sights.append(Sight(LIST, path, "", _sorted(rows)))
    sights += [Sight(REST, path, "", []) for path in saved_models.glob("*/.partial*")]
    for path in _versions(saved_models):
        digests = {each["digest"] for each in _examples_of(version.manifest(path))}
        rows = {row for digest in digests for row in held.get(digest, ())}
        rows |= {row for mark in version.withdrawn(path) for row in _marked(mark) if wanted(row)}
        if rows := {row for row in rows if row.split != LEFT_OUT}:
            sights.append(Sight(VERSION, path, "", _sorted(rows)))
        elif not digests <= held.keys():
            unknown.append(path)
    return Trace(sights, unknown, frozenset(ids))


def _elsewhere(made: Mapping[Path, Mapping[str, Any]]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yields the products of other stores from which some products were made."""
    sources = ((path / each["path"], each) for path in made for each in made[path]["from"].values())
    for path, source in {origin.resolve(): source for origin, source in sources}.items():
        if path not in made and (path / product.MANIFEST).exists():
            manifest = product.manifest(path)
            if manifest["digest"] == source["digest"]:
                yield path, manifest


def products(root: Path) -> Iterator[Path]:
    """Yields the products in a store."""
    return (path for kind, path in _places(root) if kind == "product")


def keep_digests(root: Path, examples: Path, digest: str) -> None:
    """Writes the digests of examples that are to be removed: versions that saw them stay.

    So the next withdrawal of an example among them finds these versions, too.
    """
    path = root / REMOVED / f"{digest}.jsonl"
    if path.exists() or not examples.exists():
        return
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        for identity, split, content in _examples(examples):
            row = dataclasses.asdict(Row(digest_of(identity), split, content))
            file.write(json.dumps(row) + "\n")
    partial.replace(path)


def _removed(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield Row(**json.loads(line))


def _marked(mark: Mapping[str, Any]) -> Iterator[Row]:
    for each in mark["examples"]:
        yield Row(**each)


def _sorted(rows: Any) -> list[Row]:
    return sorted(rows, key=lambda row: (row.split, row.identity))


def _places(folder: Path, is_root: bool = True) -> Iterator[tuple[str, Path]]:
    """Yields the products, cache entries and rests of killed runs in a store.

    Its own folders may be links, such as that of the features to a faster disk; others are not
    followed.
    """
    with os.scandir(folder) as items:
        inner = sorted(item.name for item in items if item.is_dir(follow_symlinks=is_root))
    for name in inner:
        path = folder / name
        if path.suffix in RESTS:
            yield REST, path
        elif (path / product.MANIFEST).exists():
            yield "product", path
        elif _ENTRY.fullmatch(name):
            yield CACHE, path
        else:
            yield from _places(path, is_root=False)


def _logged(root: Path) -> Iterator[Path]:
    """Yields the products elsewhere that the log names, such as predictions."""
    if not (root / log.FILE).exists():
        return
    paths = {entry["made"]["path"] for entry in log.read(root).entries if "made" in entry}
    place = root.resolve()  # The log tells the way from the folder itself, not from a link to it.
    for path in sorted(path for path in paths if path.startswith("..")):
        if (place / path / product.MANIFEST).exists():
            yield Path(os.path.normpath(place / path))


def _examples(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yields the id, the split and the digest of the content of every example."""
    if (folder / traits.FILE).exists():
        for row in traits.read(folder):
            yield row.identity, row.split, row.sha256
        files_left = [each for each in defects.notes(folder) if not each.split]
        for each in (*defects.read(folder), *files_left):
            yield each.identity, LEFT_OUT, ""
    else:  # By a version of tlkeras that wrote no traits.
        for split, count in records.info(folder).counts.items():
            for record in Records(folder, split).between(0, count):
                yield records.values(record, {})[0], split, ""


def _listed(root: Path) -> Iterator[tuple[Path, list[Row]]]:
    """Yields the lists of examples that were too many to leave out, and so made no product."""
    for path in sorted(root.glob("quarantine/*.json")):
        yield path, [Row(digest_of(row["id"]), LEFT_OUT) for row in files.read_json(path)]


def _predicted(path: Path, manifest: Mapping[str, Any]) -> Iterator[Row]:
    """Yields the examples of a product in `IDS`, by the ids that it has written."""
    name = IDS.get(manifest["step"])
    if name and (file := path / name).exists():
        with file.open(encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                yield Row(digest_of(json.loads(line)["id"]), PREDICTED)


def _records_digest(manifest: Mapping[str, Any], split: str) -> str:
    """Returns what `Data.digest` makes of the records of a split, as far as a name holds it."""
    digest = hashlib.sha256()
    for name, found in sorted(manifest["files"].items()):
        if re.match(rf"{re.escape(split)}[.-][^/]*$", name):
            digest.update(bytes.fromhex(found))
    return digest.hexdigest()[:16]


class _Ancestors:
    """The digests of the examples that products come from."""

    def __init__(self, made: Mapping[Path, Mapping[str, Any]]) -> None:
        self._made = made

    @functools.cache  # noqa: B019 (the object lives as long as one search)
    def of(self, path: Path) -> frozenset[str]:
        manifest = self._made[path]
        found = {manifest["digest"]} if manifest["step"] == "examples" else set()
        for source in manifest["from"].values():
            origin = (path / source["path"]).resolve()
            # Of a product that is gone, or lies elsewhere, the digest may be that of examples.
            found |= self.of(origin) if origin in self._made else {source["digest"]}
        return frozenset(found)

    def is_lost(self, path: Path, root: Path, known: Collection[str]) -> bool:
        """Returns whether the product comes from examples, or from a product, that are gone.

        Args:
            path: The product.
            root: The store.
            known: The digests of all examples of which the store tells, or told when it forgot.
        """
        for name, source in self._made[path]["from"].items():
            origin = (path / source["path"]).resolve()
            if origin in self._made:
                if self.is_lost(origin, root, known):
                    return True
            elif source["digest"] not in known:
                is_gone = origin.is_relative_to(root.resolve()) and not origin.exists()
                if name == "examples" or is_gone:
                    return True
        return False


def _may_hold(rest: Path, saw: set[str], known: set[str]) -> bool:
    """Returns whether the rest of a killed run read one of these products, or nobody knows it.

    `known` are the digests of all products that are there.
    """
    origin = product.origin(rest)
    if (rest / product.MANIFEST).exists():
        origin = product.manifest(rest)["asked"]
    inputs = {*origin.get("inputs", {}).values()}
    return not inputs or bool(inputs & saw) or not inputs <= known


def _versions(saved_models: Path) -> Iterator[Path]:
    if saved_models.is_dir():
        for folder in sorted(saved_models.iterdir()):
            if folder.is_dir():
                yield from version.versions(saved_models, folder.name)


def _examples_of(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in manifest["lineage"] if each["step"] == "examples"]
