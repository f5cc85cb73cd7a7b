"""Folders: the files below a folder of data, and the nearest name of a path that does not exist.

Hidden files are left out. Links are followed, to outside of the folder too: people link whole data
sets into one place.
"""

from __future__ import annotations

import difflib
import operator
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from tlkeras import spec

# The name of a product in a store, with what stands beside it while a step works.
_PRODUCT = re.compile(r"[0-9a-f]{16}(\.(lock|partial|scratch|old))?")


def there(written: str | Path) -> Path | None:
    """Returns the path of a text; None if nothing is there, as of a call of any length."""
    path = spec.path(written)
    try:
        return path if path.exists() else None
    except (OSError, ValueError):  # Too long for the name of a file, or with a null byte.
        return None


def missing(path: Path) -> str:
    """Returns the message for a path that does not exist, with the nearest name in its folder."""
    lost = path
    while not ((above := there(lost.parent)) and above.is_dir()) and lost.parent != lost:
        lost = lost.parent
    try:
        names = sorted(each.name for each in lost.parent.iterdir() if each.name[0] != ".")
    except OSError:
        names = []
    plain = {name.lower(): name for name in names}
    close = difflib.get_close_matches(lost.name.lower(), [*plain], n=3, cutoff=0.6)
    near = " or ".join(repr(str(lost.parent / plain[name])) for name in close)
    holds = f"{lost.parent.absolute()} holds {spec.listed(names) or 'nothing'}."
    message = f"There is no folder or file {str(path)!r}; "
    return message + (f"did you mean {near}?" if close else holds)


def left_out(folder: Path, names: Sequence[str]) -> list[str]:
    """Returns a sentence on the files in a folder that are left out, if there are any."""
    if len(names) < 2:
        return [f"{folder} has 1 other file, {name}; it is left out." for name in names]
    return [f"{folder} has {len(names):,} other files, such as {names[0]}; they are left out."]


def first(folder: Path) -> Path | None:
    """Returns the first file in and below a folder, if it has any; errors are those of `inner`."""
    return next((Path(item) for _, item in scan(folder, folder) if is_file(item)), None)


def inner(folder: Path, top: Path) -> list[Path]:
    """Returns the folders in a folder, sorted; none that the pipeline made, see `is_made`.

    Args:
        folder: Where to look.
        top: The folder of the whole data.

    Raises:
        ValueError: A link leads back to a folder that it lies in, or a folder cannot be read.
    """
    return _inner(_entries(folder), top)


def _inner(entries: Iterable[os.DirEntry[str]], top: Path) -> list[Path]:
    found = sorted(Path(item) for item in entries if _is_folder(item))
    for each in found:
        _refuse_loop(each, top)
    return [each for each in found if not is_made(each)]


def holds(folder: Path, suffixes: Collection[str]) -> bool:
    """Returns whether a folder itself has a file of one of these endings, in lower case."""
    return any(
        Path(item.name).suffix.lower() in suffixes and not _is_folder(item)
        for item in _entries(folder)
    )


def walk(folder: Path, top: Path) -> Iterator[Path]:
    """Yields the paths of what `scan` yields; arguments and errors are those of `inner`."""
    return (Path(item) for _, item in scan(folder, top))


def by_name(files: Iterable[Path], top: Path) -> dict[str, Path]:
    """Returns files by their paths below a folder without suffix.

    Raises:
        ValueError: Two of them differ in their suffix alone.
    """
    found: dict[str, Path] = {}
    for file in files:
        name = file.relative_to(top).with_suffix("").as_posix()
        if name in found:
            raise ValueError(f"{found[name]} and {file} differ in their suffix alone.")
        found[name] = file
    return found


def scan(folder: Path, top: Path, below: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yields all in and below a folder that is no folder, sorted, of each folder its files first.

    Before each stands its path below the folder, with slashes. An entry knows whether it is a file,
    so large folders take a part of the time that `walk` and a look at each path take. Arguments and
    errors are those of `inner`; `below` is for the recursion.
    """
    entries = _entries(folder)
    # The order of names is that of the paths.
    for item in sorted(entries, key=operator.attrgetter("name")):
        if not _is_folder(item):
            yield f"{below}{item.name}", item
    for each in _inner(entries, top):
        yield from scan(each, top, f"{below}{each.name}/")


def is_file(item: os.DirEntry[str]) -> bool:
    """Returns whether an entry is a file, or a link to one."""
    try:
        return item.is_file()
    except OSError:  # A link to itself.
        return False


def is_made(folder: Path) -> bool:
    """Returns whether a folder is a store of the pipeline or holds pushed models.

    Data may lie in the folder where the pipeline runs. A store is known by its contents, not by a
    marker or a name: ``--root`` and ``--saved_models`` may have any name, and stores of before have
    no marker. The lock of a product is there before its manifest, so a first run knows it, too.
    """
    return any(_has_products(Path(item)) for item in _entries(folder) if _is_folder(item))


def made(folder: Path) -> list[Path]:
    """Returns the folders in a folder that the pipeline made."""
    found = sorted(Path(item) for item in _entries(folder) if _is_folder(item))
    return [each for each in found if is_made(each)]


def _has_products(folder: Path) -> bool:
    """Returns whether a folder holds the products of a step or the versions of a model."""
    try:
        with os.scandir(folder) as items:
            for item in items:
                if item.name == ".push.lock":
                    return True
                if _PRODUCT.fullmatch(item.name):
                    if item.name.endswith(".lock") or Path(item, "_manifest.json").is_file():
                        return True
                elif item.name.isdecimal():
                    if Path(item, "manifest.json").is_file():
                        return True
                elif not item.name.startswith("."):
                    return False  # Of a large folder of pictures the first name is enough.
    except OSError:
        pass  # Whoever reads the folder for its data says so.
    return False


def _refuse_loop(folder: Path, top: Path) -> None:
    if folder.is_symlink():
        target = folder.resolve()
        above = [each for each in folder.parents if each.is_relative_to(top)]
        if any(each.resolve().is_relative_to(target) for each in above):
            raise ValueError(
                f"The link {folder} leads back to {target}, a folder that it lies in; "
                "remove the link."
            )


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # A link to itself.
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Returns what is in a folder, hidden files and folders left out."""
    try:
        with os.scandir(folder) as items:
            return [item for item in items if not item.name.startswith(".")]
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}.") from None
