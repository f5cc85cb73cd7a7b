"""CoNLL: words and their tags, a word a line, with white space between sentences."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tlkeras import spec
from tlkeras.data import index, lines
from tlkeras.data.index import Index, Row
from tlkeras.kinds.labels import Labels
from tlkeras.kinds.words import Words
from tlkeras.source import Source, stamp

# A line between documents, which belongs to no sentence.
_DOCUMENT = "-DOCSTART-"

# How a comment ahead of a sentence begins, such as its id; so may a sentence whose first word is #.
_MARKS = ("# ", "#\t")

_OUTSIDE = "O"

# A tag of BIO, BIOES or BILOU: where in an entity the word is, and the type of the entity.
_SCHEME = re.compile(r"([BIOESLU])(?:-(.+))?")

# Where CoNLL-U has ten columns: numbers of a contraction, whose words follow, or of a word that the
# text leaves out.
_CONTRACTED = re.compile(r"\d+[-.]\d+")
_TEN = 10  # Columns.

_BESIDES = "lines number a contraction, or a word that is not there, and are left out"
_SEVERAL = "words have several tags, of which several={!r} decides"
_BEGUN = "entities start with I-, which is read as B-"


class CoNLL(Source, name="conll"):
    """Sentences of columns that tabs or blanks part; `path` is a file or a folder of splits.

    In a folder, the files are called train, dev (or valid) and test. Lines without text part
    sentences; lines ahead of one that begin with a # and have other columns than the words are
    comments. Tags of BIO, BIOES and any others are read as they are, but an entity that starts with
    I- is read as starting with B-. Of CoNLL-U, give ``word=1``; lines of contractions, such as 3-4,
    and of words left out, such as 8.1, are no words. The id of a sentence is a digest of its words.
    """

    suffixes = (".conll",)

    path: Path
    word: int = 0
    """The number of the column with the words, from 0 on; -1 is the last."""
    tag: int = -1
    """The number of the column with the tags."""
    several: Literal["first", "last", "none"] = "first"
    """Which tag counts where commas part several of a word; ``none`` makes them O."""
    encoding: str = "utf-8"
    """Of the files."""

    def validate(self):
        self.require(self.word != self.tag, "tag", "another column than that of the words")
        lines.require_encoding(self, self.encoding)

    def title(self):
        return self.path.stem

    def features(self):
        return {"words": Words(), "tags": Labels()}

    def classes(self):
        return self._index().classes

    def examples(self):
        return self.between(0, len(self._index().ids))

    def between(self, start, stop):
        return self._index().between(start, stop)

    def labels(self):
        found = self._index()
        yield from zip(found.ids, map(list, found.labels), strict=True)

    def fingerprint(self):
        files = ((file.name, file) for file, _ in self._files())
        return stamp(files, lines.others(self.path, self.suffixes))

    def split(self, identity):
        return self._sides.get(identity)

    def remarks(self):
        messages = lines.left_out(self.path, self.suffixes) + self._index().told()
        strange = [name for name in self.classes() if not _SCHEME.fullmatch(name)]
        if strange and _OUTSIDE in self.classes():
            messages.append(f"Tags that are of no scheme such as BIO: {spec.listed(strange)}.")
        return messages

    @functools.cached_property
    def _sides(self) -> dict[str, str]:
        """The split of every id that has one, found once for all of them."""
        return self._index().sides

    def _files(self) -> list[tuple[Path, str | None]]:
        return lines.parts(self.path, self.suffixes)

    def _index(self) -> Index:
        """Returns the sentences of the files, read again only after a change."""
        return _read(self, tuple(self._files()), self.fingerprint())


@functools.lru_cache(maxsize=2)
def _read(source: CoNLL, files: tuple[tuple[Path, str | None], ...], stamped: str) -> Index:
    cut, row = functools.partial(_cut, source), functools.partial(_row, source)
    return Index(files, source.features(), cut, row)


_Lines = list[tuple[int, list[str]]]
"""The number and the columns of every line of a sentence."""


def _cut(source: CoNLL, file: Path, start: int) -> Iterator[tuple[int, int, tuple[int, _Lines]]]:
    """Yields each sentence with the number of columns in the first line of all."""
    form, begin, found = _first(source, file), start, _Lines()
    for number, (text, end) in enumerate(lines.lines(file, source.encoding, start), start=1):
        if columns := _columns(text):
            if found or not text.startswith(_MARKS) or _form(text) == form:
                found.append((number, columns))
            continue
        if found:
            yield begin, found[0][0], (form.columns, found)
        begin, found = end, _Lines()
    if found:
        yield begin, found[0][0], (form.columns, found)


class _Form(NamedTuple):
    """How many columns a line has, and whether tabs part them."""

    columns: int
    is_tabbed: bool


def _first(source: CoNLL, file: Path) -> _Form:
    """Returns the form of the first line of a file that is surely no comment."""
    rows = (text for text, _ in lines.lines(file, source.encoding) if _columns(text))
    first = next(rows, "")
    while first.startswith(_MARKS) and (text := next(rows, "")):
        first = text
    return _form(first)


def _form(text: str) -> _Form:
    return _Form(len(_columns(text)), "\t" in text.strip(" \t\r\n"))


def _columns(text: str) -> list[str]:
    """Returns the cells of a line; none of one between sentences or documents."""
    if not text.strip():
        return []
    stripped = text.strip(" \t\r\n")
    parts = re.split("\t" if "\t" in stripped else " +", stripped)
    cells = [cell.strip(" ") for cell in parts]
    return [] if cells[0] == _DOCUMENT else cells


def _row(source: CoNLL, line: int, raw: tuple[int, _Lines]) -> Row:
    """Returns a sentence; raises with the line that is wrong."""
    expected, found = raw
    words: list[str] = []
    tags: list[str] = []
    notes: list[tuple[str, str]] = []
    for number, columns in found:
        if len(columns) != expected or expected < 2:
            wanted = expected if expected >= 2 else "at least 2"
            raise ValueError(f"line {number} has {len(columns)} columns, expected {wanted}")
        try:
            word, tag = columns[source.word], columns[source.tag]
        except IndexError:
            raise ValueError(
                f"line {number} has {len(columns)} columns, and column "
                f"{max(source.word, source.tag)} is to be read; the first is 0"
            ) from None
        if _is_beside(source, columns):
            notes.append((_BESIDES, repr(columns[0])))
            continue
        if not word or not tag:
            raise ValueError(f"line {number} has an empty {'tag' if word else 'word'}")
        several = [each.strip() for each in tag.split(",")]
        if len(several) > 1 and all(several):
            notes.append((_SEVERAL.format(source.several), repr(tag)))
            tag = {"first": several[0], "last": several[-1], "none": _OUTSIDE}[source.several]
        if _starts_inside(tag, tags):
            notes.append((_BEGUN, repr(tag)))
            tag = f"B{tag[1:]}"
        words.append(word)
        tags.append(tag)
    return Row(index.digest(*words), {"words": words, "tags": tags}, notes=notes)


def _is_beside(source: CoNLL, columns: Sequence[str]) -> bool:
    """Returns whether a line of CoNLL-U is of no word of its own."""
    is_numbered = len(columns) == _TEN and source.word not in (0, -_TEN)
    return is_numbered and bool(_CONTRACTED.fullmatch(columns[0]))


def _starts_inside(tag: str, before: Sequence[str]) -> bool:
    """Returns whether a tag goes on with an entity that the tag before does not belong to."""
    last = before[-1] if before else _OUTSIDE
    return tag.startswith("I-") and last not in (f"B{tag[1:]}", tag)
