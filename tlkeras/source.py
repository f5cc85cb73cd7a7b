"""Source: where examples come from.

A source yields every example once, in a fixed order, as ``(id, features)``. Pictures stay the
encoded bytes of their files; `tlkeras.data` checks them, cuts the splits and writes records.
"""

from __future__ import annotations

import abc
import difflib
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from tlkeras import files, folders, spec
from tlkeras.kind import Kind
from tlkeras.spec import Spec

# A name, or the beginning of a call; any other text is a path.
_WORD, _CALL = re.compile(r"\s*[A-Za-z_]\w*\s*"), re.compile(r"\s*([A-Za-z_]\w*)\(")


class Source(Spec, plugins="tlkeras.sources"):
    """Labelled data. The same data gives the same ids, order and fingerprint on every machine."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """The endings, in lower case, of files that this source reads by its field ``path`` alone."""

    @classmethod
    def owns(cls, folder: Path) -> bool:
        """Returns whether a folder has the layout that this source reads by ``path`` alone."""
        return False

    @abc.abstractmethod
    def features(self) -> Mapping[str, Kind]:
        """Returns the kind of every key that `examples` yields, the network's inputs first."""

    @abc.abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Returns the names of the classes, whose numbers features hold; none if there are none."""

    @abc.abstractmethod
    def examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields ``(id, features)`` of every example; ids are unique and outlive a re-ordering.

        In place of an input that cannot be read stands the ValueError that says why, as it follows
        the id.
        """

    def between(self, start: int, stop: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields what `examples` yields from number `start` on and before `stop`.

        Workers read a data set so, in parts; a source overrides it to skip the examples before.
        """
        return itertools.islice(self.examples(), start, stop)

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Returns a text that changes when the data does, without reading all of it.

        It changes with the names that `remarks` and `left_out` give, too.
        """

    def title(self) -> str:
        """Returns the name of the data, which is the default name of a model."""
        return self.member

    def labels(self) -> Iterator[tuple[str, Sequence[int]]]:
        """Yields ``(id, numbers of its classes)`` of every example, in order.

        The classes are those of the first feature that names any. A source overrides it if it knows
        them without reading the pictures.
        """
        naming = [(key, kind) for key, kind in self.features().items() if kind.least_classes][:1]
        for identity, features in self.examples():
            yield identity, [x for key, kind in naming for x in _named(kind, features.get(key))]

    def split(self, identity: str) -> str | None:
        """Returns the split that the data have an example in; None if the hash decides."""
        return None

    def stays_with(self, identity: str) -> str | None:
        """Returns the name of those that an example stays with in one split; None if of none.

        A source of pictures of people names the person so. The name is in no product and in no
        message: it only chooses the split.
        """
        return None

    def missing_targets(self) -> Sequence[str]:
        """Returns the columns of the target that a file should have, if it has none of them.

        So it may be data to be predicted, of which `examples` refuses to read labels.
        """
        return ()

    def remarks(self) -> list[str]:
        """Returns messages for the user, such as which files the source leaves out, and why."""
        return []

    def left_out(self) -> Iterator[tuple[str, str, str]]:
        """Yields ``(name, defect, reason)`` of files among the examples that are none themselves.

        The name is the path below the source's; see `doctor.defects`.
        """
        return iter(())

    @classmethod
    def expand(cls, text: str) -> str:
        """Returns the call for a bare path, ``photos/`` or ``labels.csv``.

        A folder without folders is of the source that reads files in it, if there is just one.

        Raises:
            ValueError: The path does not exist, or no source reads such a file.
        """
        path, members, call = folders.there(text), spec.names(cls), _CALL.match(text)
        if call and (call[1] in members or not path):  # A folder may be called "photos(1)".
            return text
        suffixes = {suffix: name for name, each in members.items() for suffix in each.suffixes}
        if path and path.is_dir():
            owner = next((name for name, each in members.items() if each.owns(path)), None)
            return f"{owner or _member(path, suffixes) or 'folder'}(path={text!r})"
        if path:
            if member := suffixes.get(path.suffix.lower()):
                return f"{member}(path={text!r})"
            raise ValueError(
                f"No source reads the file {text!r}; "
                f"there are sources of {spec.listed([*suffixes])} files and of folders."
            )
        if text == "None" or not text.strip():
            return text
        if _WORD.fullmatch(text) and difflib.get_close_matches(text.strip(), [*members]):
            return text  # A misspelled member, of which the parser says so.
        raise ValueError(
            f"{text!r} is no source ({', '.join(members)}). {folders.missing(spec.path(text))}"
        )


def require_label(source: Source, asker: str) -> None:
    """Raises ValueError unless every example has one label; `asker` is who needs it."""
    if "label" not in (kinds := source.features()):
        raise ValueError(
            f"{asker} needs one label of each example, and {source} gives "
            f"{', '.join(map(repr, kinds))}; use a source with labels, such as folder."
        )


def _member(folder: Path, suffixes: Mapping[str, str]) -> str | None:
    """Returns the source of the files in a folder; None if it has folders or there is not one."""
    try:
        inside = [*folder.iterdir()]
    except OSError:  # Whoever reads the folder for its data says so.
        return None
    found = {suffixes.get(each.suffix.lower()) for each in inside if each.is_file()} - {None}
    return found.pop() if len(found) == 1 and not any(map(Path.is_dir, inside)) else None


def _named(kind: Kind, value: Any) -> Sequence[int]:
    try:
        return kind.classes_in(kind.checked(value))
    except (ValueError, TypeError, AttributeError):
        return ()  # Ingest refuses the example, and all others that are broken, in one message.


def content(kind: Kind, file: Path) -> Any:
    """Returns the value in a file of a kind.

    Raises:
        ValueError: The file cannot be read.
    """
    try:
        return kind.read(file)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}.") from None


class Derived(bytes):
    """The bytes of a picture that a source made of another file, such as a scan.

    Attributes:
        origin: The SHA-256 of that file, in hexadecimal, by which its owner finds it again.
    """

    origin: str

    def __new__(cls, encoded: bytes, origin: str) -> Self:
        """Takes the bytes and the digest of the file."""
        made = super().__new__(cls, encoded)
        made.origin = origin
        return made


def digest(file: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal.

    Raises:
        ValueError: The file cannot be read.
    """
    try:
        return files.sha256(file)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}.") from None


def stamp(files: Iterable[tuple[str, Path]], others: Iterable[str] = ()) -> str:
    """Returns a digest of the names, sizes and modification times of files; it reads none.

    `others` are the names of files that a source leaves out, and says so.
    """
    digest = hashlib.sha256()
    for name, path in files:
        status = path.stat()
        line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    for name in others:
        digest.update(f"{name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
