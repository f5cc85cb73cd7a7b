"""A product on disk: a folder that appears whole or not at all, with a manifest of its making.

The work is done in ``<out>.partial/``, under a lock on ``<out>.lock``; a rename at the end makes it
visible. What a killed process left is wiped by the next one, but for ``_scratch/``, which lies in
``<out>.scratch/`` while the work is being made visible.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlkeras import files

MANIFEST = "_manifest.json"
SCRATCH = "_scratch"
"""Where a step keeps its own progress: it outlives a kill and is dropped when the step is done."""

_OWNER = ".key"


def manifest(product: Path) -> dict[str, Any]:
    """Returns what is known of how a product was made.

    ``step``, ``key`` and ``asked`` (what the key is a digest of), ``from`` (path, relative to the
    product, and digest of each input), ``files`` (the sha256 of each) and their ``digest``,
    ``started``, ``finished``, ``seconds``, ``resumed`` (whether a killed run had begun), ``git``,
    ``versions``, ``python``, ``platform``.
    """
    try:
        return files.read_json(product / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{product} is not the product of a step: no {MANIFEST} there.") from None
    except ValueError:
        raise ValueError(f"{product / MANIFEST} is damaged; remove {product}.") from None


def lineage(*products: Path) -> list[dict[str, Any]]:
    """Returns the manifests, ``path`` added, of products and of all they were made of, each once.

    Every product stands after those it was made of. Of one that was removed since, ``path``,
    ``step`` and ``digest`` are all that is left.
    """
    found: dict[Path, dict[str, Any]] = {}

    def follow(path: Path) -> None:
        kept = manifest(path)
        for name, source in kept["from"].items():
            ancestor = (path / source["path"]).resolve()
            if not (ancestor / MANIFEST).exists():
                gone = {"path": str(ancestor), "step": name, "digest": source["digest"]}
                found.setdefault(ancestor, gone)
            elif ancestor not in found:
                follow(ancestor)
        found[path] = {"path": str(path), **kept}

    for path in products:
        if path.resolve() not in found:
            follow(path.resolve())
    return list(found.values())


def made_by(step: str, lineage: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the manifests of a step in a lineage, but those of products that were removed."""
    return [made for made in lineage if made["step"] == step and "asked" in made]


def differing(product: Path) -> list[str]:
    """Returns the names of the files that are not as they were made: changed, missing or new."""
    kept, found = manifest(product)["files"], digests(product)
    return sorted(name for name in {*kept, *found} if kept.get(name) != found.get(name))


def contents(folder: Path) -> str:
    """Returns the digest of what is in a folder; of a product it is read from the manifest."""
    if (folder / MANIFEST).exists():
        return manifest(folder)["digest"]
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}.")
    return digest(digests(folder))


def digest(value: Any) -> str:
    """Returns the sha256 of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def partial(out: Path) -> Path:
    """Returns the folder in which a product is made."""
    return out.with_name(f"{out.name}.partial")


@contextlib.contextmanager
def locked(out: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Lets one process at a time work at `out`; one that has to wait says so, once."""
    with contextlib.ExitStack() as stack:
        with files.explained(out.parent):
            out.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.locked(out.with_name(f"{out.name}.lock"), say))
        yield


@contextlib.contextmanager
def appearing(out: Path, asked: Mapping[str, Any], inputs: Mapping[str, Path]) -> Iterator[Path]:
    """Yields a folder to work in, which becomes `out` at the end; call it under `locked`.

    Args:
        out: Where the product comes to lie, in place of what is there.
        asked: What it depends on: its key's material.
        inputs: The products that it is made of.

    Raises:
        ValueError: The disk is full or may not be written to; the message names the folder.
    """
    work, aside = partial(out), out.with_name(f"{out.name}.scratch")
    with files.explained(out.parent):
        _wipe(work)
        if aside.exists():  # By a process that was killed before all was done.
            shutil.rmtree(work / SCRATCH, ignore_errors=True)
            work.mkdir(parents=True, exist_ok=True)
            aside.rename(work / SCRATCH)
        resumed = _own_scratch(work / SCRATCH, digest(asked))
        started = datetime.now(UTC)
        try:
            yield work
            with contextlib.suppress(FileNotFoundError):  # A step may have dropped it itself.
                (work / SCRATCH).rename(aside)
            kept = {**_described(work, asked, inputs, started), "resumed": resumed}
            files.write_json(work / MANIFEST, kept)
            sync(work)
        except BaseException:
            with contextlib.suppress(OSError):
                _wipe(work)
            raise
        _replace(out, work)
        # Of what is left by a kill from here on nobody goes on.
        (aside / _OWNER).unlink(missing_ok=True)
        shutil.rmtree(aside, ignore_errors=True)


def _own_scratch(scratch: Path, key: str) -> bool:
    """Keeps the progress of a killed run of the same key, drops any other; tells which."""
    if scratch.is_symlink():
        scratch.unlink()
    owner = scratch / _OWNER
    kept = owner.exists() and owner.read_text(encoding="utf-8") == key
    if not kept:
        shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True, exist_ok=True)
    owner.write_text(key, encoding="utf-8")
    return kept


def _described(
    partial: Path, asked: Mapping[str, Any], inputs: Mapping[str, Path], started: datetime
) -> dict[str, Any]:
    kept = digests(partial)
    finished = datetime.now(UTC)
    # Relative, so that a store may be moved.
    paths = {
        name: os.path.relpath(path.resolve(), partial.resolve()) for name, path in inputs.items()
    }
    return {
        "step": asked["step"],
        "key": digest(asked),
        "asked": asked,
        "from": {
            name: {"path": path, "digest": asked["inputs"][name]} for name, path in paths.items()
        },
        "files": kept,
        "digest": digest(kept),
        "started": started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "seconds": round((finished - started).total_seconds(), 3),
        "git": _git(),
        "versions": _versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def digests(folder: Path) -> dict[str, str]:
    """Returns the sha256 of every file by its name within the folder, but of the manifest.

    Of one that may not be read it is ``unreadable``.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MANIFEST:
            try:
                with path.open("rb") as file:
                    made = hashlib.file_digest(file, "sha256").hexdigest()
            except PermissionError:
                made = "unreadable"
            found[path.relative_to(folder).as_posix()] = made
    return found


@functools.cache
def _git() -> str | None:
    """Returns the commit of this checkout, ``-dirty`` added if files differ from it."""
    checkout = Path(__file__).parents[1]
    command = [
        "git",
        "-C",
        str(checkout),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    if not (checkout / ".git").exists() or not shutil.which("git"):
        return None
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None


def _versions() -> dict[str, str]:
    """Returns the versions of the libraries that are loaded; imports none."""
    loaded = {module.partition(".")[0] for module in list(sys.modules)}
    found: dict[str, str] = {}
    for name, version in (_version(library) for library, holds in _libraries() if holds & loaded):
        found.setdefault(name, version)  # The first on the path is the one that is imported.
    return dict(sorted(found.items(), key=lambda each: each[0].lower()))


@functools.cache
def _libraries() -> list[tuple[importlib.metadata.Distribution, set[str]]]:
    """Returns every installed library and the modules that it holds, reading what is short.

    `importlib.metadata.packages_distributions` reads all descriptions, too.
    """
    return [(library, _modules(library)) for library in importlib.metadata.distributions()]


def _modules(library: importlib.metadata.Distribution) -> set[str]:
    if declared := library.read_text("top_level.txt"):
        return {*declared.split()}
    files = (line.split(",")[0] for line in (library.read_text("RECORD") or "").splitlines())
    parts = (file.partition("/") for file in files)
    return {top if rest else inspect.getmodulename(top) or top for top, _, rest in parts}


@functools.cache
def _version(library: importlib.metadata.Distribution) -> tuple[str, str]:
    told = library.metadata
    return told["Name"], told["Version"]


def _wipe(partial: Path) -> None:
    if partial.is_symlink():  # Nobody of ours makes one: what it leads to is not to be wiped.
        partial.unlink()
    for path in partial.iterdir() if partial.exists() else ():
        if not path.is_dir() or path.is_symlink():
            path.unlink()
        elif path.name != SCRATCH:
            shutil.rmtree(path)


def sync(folder: Path) -> None:
    """Returns when a folder and all that is in it would outlive a loss of power."""
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(out: Path, partial: Path) -> None:
    old = out.with_name(f"{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.replace(old)  # A folder that is not empty cannot be renamed over.
    partial.replace(out)
    _sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)
