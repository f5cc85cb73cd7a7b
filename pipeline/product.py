"""A product on disk: a folder that appears whole or not at all, with a manifest.

A step works in ``<out>.partial/`` under a lock on ``<out>.lock``; a rename at the end makes the
product visible. The next process removes what a killed one left, except its ``_scratch/``, from
which it resumes. That folder moves to ``<out>.scratch/`` during the rename.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import shlex
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
"""The folder of a step's progress; it survives a kill and is removed after the step."""

_OWNER = ".key"


def manifest(product: Path) -> dict[str, Any]:
    """Returns the manifest of a product.

    It has ``step``, ``key`` and ``asked`` (what the key is the digest of), ``from`` (path, relative
    to the product, and digest of each input), ``files`` (the sha256 of each) and their ``digest``,
    ``started``, ``finished``, ``seconds``, ``resumed`` (after a killed run), ``git``, ``versions``,
    ``python``, ``platform``.
    """
    try:
        return files.read_json(product / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{product} is not the product of a step: no {MANIFEST} there.") from None
    except ValueError:
        raise ValueError(f"{product / MANIFEST} is damaged; remove {product}.") from None


def lineage(*products: Path) -> list[dict[str, Any]]:
    """Returns the manifests of products and of all their ancestors, each once, with ``path``.

    Every product comes after its inputs. A product that was removed since has only ``path``,
    ``step`` and ``digest``.
    """
    manifests: dict[Path, dict[str, Any]] = {}

    def follow(path: Path) -> None:
        own = manifest(path)
        for name, source in own["from"].items():
            ancestor = (path / source["path"]).resolve()
            if not (ancestor / MANIFEST).exists():
                gone = {"path": str(ancestor), "step": name, "digest": source["digest"]}
                manifests.setdefault(ancestor, gone)
            elif ancestor not in manifests:
                follow(ancestor)
        manifests[path] = {"path": str(path), **own}

    for path in products:
        if path.resolve() not in manifests:
            follow(path.resolve())
    return list(manifests.values())


def made_by(step: str, lineage: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the manifests of a step in a lineage, without those of removed products."""
    return [entry for entry in lineage if entry["step"] == step and "asked" in entry]


def options(lineage: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the full text of every option that the products of a lineage depend on."""
    fields: dict[str, str] = {}
    for entry in lineage:
        if entry["step"] == "resolved":
            continue  # Its key is its contents: another run may have had other options.
        fields |= {name: field["value"] for name, field in entry["asked"]["fields"].items()}
    return {
        name: ast.literal_eval(text) if text[0] in "'\"" else text for name, text in fields.items()
    }


def command(options: Mapping[str, str], *more: str) -> str:
    """Returns the command that runs the pipeline with the texts of options, for a shell.

    A word with single quotes gets double quotes.
    """
    words = ["tlkeras", *(f"--{name}={text}" for name, text in options.items()), *more]
    return " ".join(
        f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)
        for word in words
    )


def differing(product: Path) -> list[str]:
    """Returns the names of the files that differ from the manifest: changed, missing or new."""
    expected, actual = manifest(product)["files"], digests(product)
    names = {*expected, *actual}
    return sorted(name for name in names if expected.get(name) != actual.get(name))


def contents(path: Path, listed: Callable[[Path], Iterable[Path]] | None = None) -> str:
    """Returns the digest of a file or of a folder's files; for a product, from its manifest.

    `listed` returns what is below a folder that is no product; if None, links to folders are not
    followed.
    """
    if path.is_file():
        return digest({path.name: files.sha256(path)})
    if (path / MANIFEST).exists():
        return manifest(path)["digest"]
    if not path.is_dir():
        raise ValueError(f"There is no folder {path}.")
    return digest(digests(path, listed(path) if listed else None))


def digest(value: Any) -> str:
    """Returns the sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def partial(out: Path) -> Path:
    """Returns the working folder of a product."""
    return out.with_name(f"{out.name}.partial")


@contextlib.contextmanager
def locked(out: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Locks `out` for one process at a time; a process that waits prints it once."""
    with contextlib.ExitStack() as stack:
        with files.explained(out.parent):
            out.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.locked(out.with_name(f"{out.name}.lock"), say))
        yield


@contextlib.contextmanager
def appearing(
    out: Path,
    content: Mapping[str, Any],
    inputs: Mapping[str, Path],
    announce: Callable[[Path], None] = lambda work: None,
) -> Iterator[Path]:
    """Yields a working folder, which becomes `out` at the end; call it under `locked`.

    Args:
        out: The folder of the product; an existing one is replaced.
        content: The content of its key: all that it depends on.
        inputs: The products that it depends on.
        announce: Called with the working folder when it is complete, before it becomes `out`.

    Raises:
        ValueError: The disk is full or not writable; the message names the folder.
    """
    work, aside = partial(out), out.with_name(f"{out.name}.scratch")
    with files.explained(out.parent):
        _wipe(work)
        if aside.exists():  # A process was killed during the rename.
            shutil.rmtree(work / SCRATCH, ignore_errors=True)
            work.mkdir(parents=True, exist_ok=True)
            aside.rename(work / SCRATCH)
        resumed = _own_scratch(work / SCRATCH, content)
        started = datetime.now(UTC)
        try:
            yield work
            with contextlib.suppress(FileNotFoundError):  # A step may have removed it itself.
                (work / SCRATCH).rename(aside)
            description = {**_described(work, content, inputs, started), "resumed": resumed}
            files.write_json(work / MANIFEST, description)
            sync(work)
            announce(work)
        except BaseException:
            with contextlib.suppress(OSError):
                _wipe(work)
            raise
        _replace(out, work)
        # The product is complete: after a kill from here on, no process resumes from this progress.
        (aside / _OWNER).unlink(missing_ok=True)
        shutil.rmtree(aside, ignore_errors=True)


def origin(left: Path) -> dict[str, Any]:
    """Returns ``key``, ``step`` and ``inputs`` (digests) of what a killed run left; {} if unknown.

    Args:
        left: A folder ``.partial``, or ``.scratch``, beside the product.
    """
    for owner in (left / SCRATCH / _OWNER, left / _OWNER):
        with contextlib.suppress(OSError, ValueError):
            found = files.read_json(owner)
            return found if isinstance(found, dict) else {}
    return {}


def _own_scratch(scratch: Path, content: Mapping[str, Any]) -> bool:
    """Removes progress of another key; returns whether there is progress of this key."""
    if scratch.is_symlink():
        scratch.unlink()
    own = {"key": digest(content), "step": content["step"], "inputs": content["inputs"]}
    is_own = origin(scratch) == own
    if not is_own:
        shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True, exist_ok=True)
    files.write_json(scratch / _OWNER, own)
    return is_own


def _described(
    partial: Path, content: Mapping[str, Any], inputs: Mapping[str, Path], started: datetime
) -> dict[str, Any]:
    sums = digests(partial)
    finished = datetime.now(UTC)
    # Relative paths stay valid if the store moves.
    paths = {
        name: os.path.relpath(path.resolve(), partial.resolve()) for name, path in inputs.items()
    }
    return {
        "step": content["step"],
        "key": digest(content),
        "asked": content,
        "from": {
            name: {"path": path, "digest": content["inputs"][name]} for name, path in paths.items()
        },
        "files": sums,
        "digest": digest(sums),
        "started": started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "seconds": round((finished - started).total_seconds(), 3),
        "git": _git(),
        "versions": _versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def digests(folder: Path, paths: Iterable[Path] | None = None) -> dict[str, str]:
    """Returns the sha256 of every file by its name within the folder, without the manifest.

    A file without read permission has ``unreadable``. `paths` are all below the folder if None.
    """
    sums: dict[str, str] = {}
    for path in sorted(folder.rglob("*") if paths is None else paths):
        if path.is_file() and path != folder / MANIFEST:
            sums[path.relative_to(folder).as_posix()] = sha256(path)
    return sums


def sha256(path: Path) -> str:
    """Returns the sha256 of a file, or ``unreadable`` without read permission."""
    try:
        return files.sha256(path)
    except PermissionError:
        return "unreadable"


@functools.cache
def _git() -> str | None:
    """Returns the commit of this checkout, with ``-dirty`` if files differ from it."""
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
    """Returns the versions of the loaded libraries; imports none."""
    loaded = {module.partition(".")[0] for module in list(sys.modules)}
    versions: dict[str, str] = {}
    for name, version in (_version(library) for library, holds in _libraries() if holds & loaded):
        versions.setdefault(name, version)  # Python imports the first one on its path.
    return dict(sorted(versions.items(), key=lambda each: each[0].lower()))


@functools.cache
def _libraries() -> list[tuple[importlib.metadata.Distribution, set[str]]]:
    """Returns every installed library with its modules; reads only short files.

    `importlib.metadata.packages_distributions` would read all descriptions, too.
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
    metadata = library.metadata
    return metadata["Name"], metadata["Version"]


def _wipe(partial: Path) -> None:
    if partial.is_symlink():  # Not from a step, so its target must stay.
        partial.unlink()
    for path in partial.iterdir() if partial.exists() else ():
        if not path.is_dir() or path.is_symlink():
            path.unlink()
        elif path.name != SCRATCH:
            shutil.rmtree(path)


def sync(folder: Path) -> None:
    """Flushes a folder with all files to the disk, so that it survives a loss of power."""
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
        out.replace(old)  # A rename cannot replace a folder that is not empty.
    partial.replace(out)
    _sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)
