"""Forget: removes examples from a store and all that was made of them, ``tlkeras forget``.

It is not a step of the pipeline. Products are caches, so every product that saw an example is
removed whole: the next run makes it again without the example. What a pushed model has learnt
cannot be taken out of it, so a version is marked. The plan is written first, as ``forget.json``,
and every part of it may be done twice. So after a kill the next call ends what was begun.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pipeline import certificate, flags, lineage, log, product, trace, version
from pipeline.trace import Root, SavedModels, Sight, Trace
from tlkeras import files, folders, spec, terminal
from tlkeras.data.id_list import IdList
from tlkeras.doctor import samples
from tlkeras.measures import measures
from tlkeras.measures.measures import Gallery
from tlkeras.spec import Spec

JOURNAL = "forget.json"

REPORT = "report.html"

_OF_EXAMPLES = (REPORT, samples.COLUMNS, samples.FEATURES)
"""Files of a version that show measured examples, or have rows of them."""


class Forget(Spec, name="forget"):
    """Removes examples from a store, marks the pushed versions that saw them, and certifies it.

    Removed are, whole, every product made from the examples, their entries in the feature cache,
    what killed runs left, and what was made from examples that the store no longer has. The next
    run makes the products again: give it the same list as --exclude_ids, as long as the data
    themselves hold the examples. Each version that saw them gets a mark, withdrawn.json. A
    certificate in --root tells what was removed and what has to be trained again. An id means every
    example of that id in the store. Known are the store, what was made elsewhere of its products,
    and the versions in --saved_models. No other folder is searched: predictions of new data by a
    version are known if they lie in the store, as by --out=runs/predictions, and what `tlkeras
    validate` wrote is not.
    """

    ids: Annotated[IdList, "A text file of ids, one a line."]
    root: Root = Path("runs")
    saved_models: SavedModels = Path("saved_models")
    dry_run: Annotated[bool, "Only print what would be removed and marked."] = False


def main(settings: Forget) -> int:
    """Removes, marks and certifies, then prints what was done.

    Raises:
        ValueError: The list is empty, no example has such an id, or there is no such store.
    """
    root, ids = settings.root, settings.ids.ids()
    if not ids:
        raise ValueError(f"There is no id in {settings.ids.path}.")
    if not root.is_dir():
        raise ValueError(f"--root={root}: {folders.missing(root)}")
    if settings.dry_run:
        if (root / JOURNAL).exists():
            print("A forget was killed; before anything else the next one ends it.")
        return _show(_plan(settings, ids), "would be")
    with log.alone(root, print):
        if (root / log.FILE).exists() and (fault := log.read(root).fault):
            print(
                f"{root / log.FILE}: {fault} Products elsewhere that it names later are not found."
            )
        plan = files.read_json(root / JOURNAL) if (root / JOURNAL).exists() else None
        if plan:
            print(f"Goes on with the forget that began at {plan['started']}.")
            _carry_out(root, plan)
        if plan is None or not _is_known(root, ids):
            plan = _plan(settings, ids)
            if plan["removed"] or plan["marked"]:
                files.write_json(root / JOURNAL, plan)
                _carry_out(root, plan)
    return _show(plan, "were")


def _plan(settings: Forget, ids: Sequence[str]) -> dict[str, Any]:
    """Returns what has to be done, as JSON can hold it.

    Raises:
        ValueError: No example has one of these ids.
    """
    root, saved_models = settings.root, settings.saved_models
    wanted = {trace.digest_of(identity): identity for identity in ids}
    found = trace.find(root, saved_models, lambda row: row.identity in wanted)
    rows = [row for sight in found.sights for row in sight.rows]
    _tell_unknown(root, wanted, {row.identity for row in rows}, found)
    versions = [each for each in found.sights if each.kind == trace.VERSION and _is_news(each)]
    removed = [each for each in found.sights if each.kind != trace.VERSION]
    if not versions and not any(each.rows for each in removed):
        removed = []
    now = datetime.now(UTC)
    models = [each.path for each in removed if each.kind == "model" and each.rows]
    return {
        "certificate": f"certificate-{now:%Y-%m-%dT%H-%M-%S-%f}Z",  # No two have one name.
        "started": now.isoformat(timespec="seconds"),
        "root": str(root.absolute()),
        "saved_models": str(saved_models.absolute()),
        "list": str(settings.ids.path.absolute()),
        "examples": [dataclasses.asdict(row) for row in dict.fromkeys(rows)],
        "unknown": [_relative(root, path) for path in found.unknown],
        "removed": [
            {"kind": each.kind, "path": _relative(root, each.path), "digest": _digest(each)}
            for each in removed
        ],
        "marked": [
            {
                "path": _relative(root, each.path),
                "digest": _digest(each),
                "redacted": _redacted(each),
                "examples": [dataclasses.asdict(row) for row in each.rows],
            }
            for each in versions
        ],
        "retrain": certificate.commands(
            root, saved_models, settings.ids.path, models, [each.path for each in versions]
        ),
    }


def _tell_unknown(root: Path, wanted: Mapping[str, str], seen: Iterable[str], found: Trace) -> None:
    """Prints the ids that no example has, and of what nobody can tell whether it saw the others.

    Raises:
        ValueError: No example has any of the ids.
    """
    before = _forgotten(root)
    known = before.union(seen)
    missing = [wanted[each] for each in wanted if each not in known]
    if len(missing) == len(wanted):
        nearest = lineage.nearest(missing[0], found.ids)
        others = f" or one of {len(missing) - 1:,} others" if missing[1:] else ""
        message = f"No example in {root} has the id {missing[0]!r}{others}; {nearest}"
        raise ValueError(" ".join([message, *lineage.remarks(found)]))
    if missing:
        _say(f"{len(missing):,} ids are of no example there: {spec.listed(missing)}.")
    if again := [wanted[each] for each in wanted if each in before]:
        _say(f"{len(again):,} ids were forgotten before: {spec.listed(again)}.")
    for remark in lineage.remarks(found):
        _say(remark)


def _say(text: str) -> None:
    print(terminal.printable(text))  # An id may hold any bytes.


def _forgotten(root: Path) -> set[str]:
    """Returns the digests of the ids that the log says were forgotten."""
    return {each for entry in _entries(root) for each in entry["ids"]}


def _entries(root: Path) -> list[dict[str, Any]]:
    """Returns what the log says of each forget; a store may have no log."""
    entries = log.read(root).entries if (root / log.FILE).exists() else []
    return [entry["forgotten"] for entry in entries if "forgotten" in entry]


def _is_known(root: Path, ids: Iterable[str]) -> bool:
    return {trace.digest_of(each) for each in ids} <= _forgotten(root)


def _is_news(sight: Sight) -> bool:
    """Returns whether a version saw examples that no mark of it tells."""
    told = {each["identity"] for mark in version.withdrawn(sight.path) for each in mark["examples"]}
    return not {row.identity for row in sight.rows} <= told


def _redacted(sight: Sight) -> list[str]:
    """Returns what has to go from a version because it may hold something of the examples."""
    if not (sight.path / measures.FILE).exists():
        return []
    measured = measures.read(sight.path).split
    if measured not in {row.split for row in sight.rows}:
        return []
    held = [name for name in _OF_EXAMPLES if (sight.path / name).exists()]
    return [*held, f"galleries of {measures.FILE}"]


def _digest(sight: Sight) -> str:
    if sight.path.is_file():
        return hashlib.sha256(sight.path.read_bytes()).hexdigest()
    return sight.digest or product.digest(product.digests(sight.path))


def _relative(root: Path, path: Path) -> str:
    return os.path.relpath(path.resolve(), root.resolve())


def _carry_out(root: Path, plan: Mapping[str, Any]) -> None:
    """Does what a plan says; done twice, it is as if done once."""
    for row in plan["removed"]:
        if row["kind"] == "examples":
            trace.keep_digests(root, root / row["path"], row["digest"])
    for row in plan["removed"]:
        _remove(root / row["path"])
    for row in plan["marked"]:
        _mark(root / row["path"], row, plan)
    name = f"{plan['certificate']}.json"
    if name not in {each["certificate"] for each in _entries(root)}:
        _log(root, certificate.write(root, plan), plan)
    (root / JOURNAL).unlink()


def _remove(path: Path) -> None:
    """Removes a folder or a file; after a kill in the middle nothing takes the rest for a whole."""
    with contextlib.ExitStack() as stack:
        if path.name.startswith(".partial"):  # Other stores push there, too.
            stack.enter_context(product.locked(path.parent / ".push", print))
        gone = path if path.suffix in trace.RESTS else path.with_name(f"{path.name}.old")
        if gone.is_dir() and path.exists():
            shutil.rmtree(gone)
        if path.exists() and path != gone:
            path.rename(gone)
        if gone.is_dir():
            shutil.rmtree(gone)
        gone.unlink(missing_ok=True)


def _mark(folder: Path, row: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    """Marks a version, and removes what may hold something of the examples."""
    with product.locked(folder.parent / ".push", print):
        if row["redacted"]:
            for name in _OF_EXAMPLES:
                (folder / name).unlink(missing_ok=True)
            found = measures.read(folder)
            views = [view for view in found.views if not isinstance(view, Gallery)]
            measures.write(dataclasses.replace(found, views=views), folder)
        marks = version.withdrawn(folder)
        if all(mark["certificate"] != plan["certificate"] for mark in marks):
            mark = {"time": plan["started"], "certificate": plan["certificate"]}
            files.write_json(
                folder / version.WITHDRAWN, [*marks, {**mark, "examples": row["examples"]}]
            )


def _log(root: Path, path: Path, plan: Mapping[str, Any]) -> None:
    log.append(
        root,
        forgotten={
            "certificate": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "ids": sorted({row["identity"] for row in plan["examples"]}),
            "removed": [row["path"] for row in plan["removed"]],
            "marked": [row["path"] for row in plan["marked"]],
        },
    )


def _show(plan: Mapping[str, Any], verb: str) -> int:
    rows = [(row["kind"], f"{verb} removed", row["path"]) for row in plan["removed"]]
    for row in plan["marked"]:
        rows.append(
            (trace.VERSION, f"{verb} marked, {certificate.counted(row['examples'])}", row["path"])
        )
    if not rows:
        print("There is nothing left to remove or to mark.")
        return 0
    _say(terminal.table(rows, ("product", "what", f"path in {plan['root']}")))
    for row in plan["retrain"]:
        _say(f"\n{row['what']} has to be trained again:\n  {row['command']}")
    if verb == "were":
        _say(f"\nCertificate: {Path(plan['root'], plan['certificate'])}.md")
    return 0


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras forget``."""
    flags.run(argv, main, Forget, example="--ids=withdrawn.txt --dry_run=true")
