"""Lines: text files line by line, with the bytes where lines end, and the splits of files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from tlkeras import folders, spec
from tlkeras.data import splits
from tlkeras.source import Source

# Between the words of a name; letters behind a number are another word: ``wnut17train``.
_BREAK = re.compile(r"[\W_]+|(?<=\d)(?=[a-z])")

# A word for a split that stands, without a break, at the end of another: ``engtrain``.
_ENDING = re.compile(r"(.+)(train|dev|valid|test)")

# The first two bytes of texts of which a character takes two or four bytes.
_WIDE = (b"\xff\xfe", b"\xfe\xff")


def require_encoding(source: Source, encoding: str) -> None:
    """Raises ValueError if Python does not know the field `encoding` or its line breaks differ."""
    try:
        is_known = b"\n".decode(encoding) == "\n"
    except (LookupError, UnicodeError):
        is_known = False
    source.require(is_known, "encoding", "one such as 'utf-8', 'latin-1', 'cp1252' or 'shift-jis'")


def lines(
    file: Path, encoding: str, start: int = 0, has_field: bool = True
) -> Iterator[tuple[str, int]]:
    """Yields every line with its ending, and the byte where it ends, from byte `start` on.

    With `has_field`, the source has a field `encoding`, which messages advise.

    Raises:
        ValueError: The file cannot be read, or the line and the byte that are not of the encoding.
    """
    end = start
    try:
        with file.open("rb") as opened:
            opened.seek(start)
            blocks = (block.splitlines(keepends=True) for block in opened)
            for number, raw in enumerate((raw for block in blocks for raw in block), start=1):
                try:
                    text = raw.decode(encoding)
                except UnicodeDecodeError as error:
                    told = _undecodable(file, encoding, number, raw, error, has_field)
                    raise ValueError(told) from None
                end += len(raw)
                yield text if end > len(raw) else text.removeprefix("\ufeff"), end
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}.") from None


def whole(file: Path) -> str:
    """Returns a text in UTF-8, without the mark that may stand before it.

    Raises:
        ValueError: The file, and the line that is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{file} cannot be read: line {number} has the byte 0x{error.object[error.start]:02x}, "
            "which is not UTF-8. Save it in UTF-8."
        ) from None


def _undecodable(
    file: Path, encoding: str, number: int, raw: bytes, error: UnicodeDecodeError, has_field: bool
) -> str:
    if number == 1 and raw.startswith(_WIDE):
        return f"{file} cannot be read: it begins like a text in UTF-16. Save it in UTF-8."
    advice = ", or name its encoding, such as encoding='latin-1'" if has_field else ""
    return (
        f"{file} cannot be read: line {number} has the byte 0x{raw[error.start]:02x} at place "
        f"{error.start + 1}, which is not {encoding}. Save it in UTF-8{advice}."
    )


def parts(path: Path, suffixes: Collection[str]) -> list[tuple[Path, str | None]]:
    """Returns the files of a data set and their splits: one file, or those of splits in a folder.

    In a folder, files of these endings count, or all if none has such an ending. Files whose names
    tell no split are left out, such as ``latest``. But ``engtest`` is one beside ``engtrain``.

    Raises:
        ValueError: There is no such path, or it is not clear which files are meant.
    """
    if path.is_file():
        return [(path, None)]
    if not path.is_dir():
        raise ValueError(folders.missing(path))
    inside = _inside(path)
    found = [file for file in inside if file.suffix.lower() in suffixes] or inside
    named = _named(found)
    if not named and len(found) == 1:
        return [(found[0], None)]
    if not named:
        names = spec.listed([file.name for file in found]) or "no files"
        raise ValueError(
            f"{path} has {names}; expected one file, or files called train, dev (or valid) and "
            "test."
        )
    return named


def left_out(path: Path, suffixes: Collection[str]) -> list[str]:
    """Returns a message on `others`."""
    return folders.left_out(path, others(path, suffixes))


def others(path: Path, suffixes: Collection[str]) -> list[str]:
    """Returns the names of the files in a folder that `parts` leaves out."""
    taken = {file for file, _ in parts(path, suffixes)}
    return [file.name for file in _inside(path) if file not in taken] if path.is_dir() else []


def _inside(folder: Path) -> list[Path]:
    """Returns the files in a folder, no hidden ones."""
    return sorted(each for each in folder.iterdir() if each.is_file() and each.name[0] != ".")


def _named(found: Sequence[Path]) -> list[tuple[Path, str | None]]:
    """Returns the files whose names tell one split, each with it."""
    ends = {file: end for file in found if (end := _ENDING.fullmatch(file.stem.lower()))}
    alike: dict[str, set[str]] = {}
    for end in ends.values():
        alike.setdefault(end.group(1), set()).add(end.group(2))
    told = {file: _told(file.name) for file in found}
    for file, end in ends.items():
        if len(alike[end.group(1)]) > 1 and not told[file]:
            told[file] = _told(end.group(2))
    return [
        (file, split) for file, several in told.items() if len(several) == 1 for split in several
    ]


def _told(name: str) -> set[str]:
    """Returns the splits that the words in a name tell."""
    words = filter(None, _BREAK.split(name.lower()))
    return {split for word in words if (split := splits.named(word))}
