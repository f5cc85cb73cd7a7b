"""CSV: a table of picture files or of texts, and their labels."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from tlkeras.data import cells, columns, index, lines, splits
from tlkeras.data.index import Index, Row
from tlkeras.data.tables import Table
from tlkeras.images import decoding
from tlkeras.kind import Kind
from tlkeras.kinds.image import Image
from tlkeras.kinds.text import Text
from tlkeras.source import Source, content, stamp


class CSV(Source, name="csv"):
    """A text file whose first line has column names; commas, semicolons or tabs part its cells.

    It holds pictures or texts. The id of a picture is what its column says, that of a text is a
    digest of it; copies stay in one split with ``split(group='[0-9a-f]{16}')``. A picture with
    captions has a line for each; behind its own, the id has a digest of the caption, and
    ``split(group='(.+)/')`` keeps all of a picture in one split. Classes are the
    labels in the table, sorted as numbers if all are whole numbers.
    `path` may be a folder of such files called train, dev (or valid) and test.
    """

    suffixes = (".csv", ".tsv")

    path: Path
    image: str = ""
    """The column with the paths of the pictures, from `image_folder` on.

    If neither it nor `text` is named, the column ``image`` or ``text`` that exists is read.
    """
    text: str = ""
    """The column with the texts."""
    pair: str = ""
    """The column with the second texts, where two make an example."""
    caption: str = ""
    """The column with what is said of a picture, in place of a class."""
    label: str | tuple[str, ...] | None = ""
    """The column with the class, ``label`` if it is empty; or a column for each class, with a 1 in
    one of them. None if nothing is to be predicted."""
    multilabel: bool = False
    """Whether a cell of `label` has any number of classes, or any number of its columns a 1."""
    separator: str = ","
    """What parts the classes in a cell."""
    number: str = ""
    """The column with a number to predict, in place of a class."""
    split_column: str = ""
    """A column with train, val, test or another usual word; if it is empty the hash decides."""
    together: str = ""
    """A column with what keeps examples in one split, such as a patient or a film: those of an
    equal cell. An empty cell keeps none; ``split(group=…)`` decides in its place."""
    group: str | tuple[str, ...] = ()
    """A column with what examples have in common, such as a device, or several: by each the
    evaluator compares groups, and recipes can weigh them."""
    image_folder: Path = Path()
    """The folder of the pictures, from the table's own folder on."""
    suffix: str = ""
    """The ending of the files, such as '.jpg', if the table leaves it out."""
    columns: tuple[str, ...] = ()
    """The names of all columns if line 1 is an example; blanks may part their cells, too."""
    quotes: bool = True
    """Whether quotes may stand around a cell."""
    encoding: str = "utf-8"
    """Of the table."""

    def validate(self):
        if isinstance(self.label, tuple):
            is_distinct = len({*self.label}) == len(self.label) >= 2
            self.require(is_distinct, "label", "one column, or a column for each class")
        is_one = not ((self.image or self.caption) and (self.text or self.pair))
        self.require(is_one, "image", "no column beside that of texts")
        is_alone = not (self.caption and (self.label or self.multilabel or self.number))
        self.require(is_alone, "caption", "no column beside that of a class or a number")
        self.require(bool(self.separator), "separator", "what parts the classes in a cell")
        lines.require_encoding(self, self.encoding)
        _targets(self)
        columns.groups(self)

    def title(self):
        return self.path.stem

    def features(self):
        second: dict[str, Kind] = {key: Text() for key in ("pair", "caption") if getattr(self, key)}
        targets = {key: columns.TARGETS[key] for key in _targets(self)}
        inputs = {self._input: _INPUTS[self._input], **second}
        return {**inputs, **targets, **columns.groups(self)}

    def classes(self):
        return self._index().classes

    def examples(self):
        return self.between(0, len(self._index().ids))

    def between(self, start, stop):
        for identity, values in self._index().between(start, stop):
            if file := values.get("image"):
                values["image"] = content(_INPUTS["image"], file)
            yield identity, values

    def labels(self):
        found = self._index()
        yield from zip(found.ids, map(list, found.labels), strict=True)

    def fingerprint(self):
        parts = self._files()
        files = [(file.name, file) for file, _ in parts]
        pictures = self._index().ids if self._input == "image" else []
        if self.caption:
            # In files of splits, an id begins with the split.
            first = any(split for _, split in parts)
            pictures = dict.fromkeys("/".join(each.split("/")[first:-1]) for each in pictures)
        found = ((each, _found(self, each)[1]) for each in pictures)
        return stamp([*files, *found], lines.others(self.path, self.suffixes))

    def split(self, identity):
        return self._sides.get(identity)

    def stays_with(self, identity):
        return self._together.get(identity)

    def missing_targets(self):
        names = [name for named in _targets(self).values() for name in _each(named)]
        inputs = [self.image, self.text, self.pair]
        wanted = dict.fromkeys([*filter(None, inputs), *names], "")
        header = _table(self, wanted).layout(self._files()[0][0]).header
        return () if {*names} & {*header} else names

    def remarks(self):
        return lines.left_out(self.path, self.suffixes) + self._index().told()

    @functools.cached_property
    def _sides(self) -> dict[str, str]:
        """The split of every id that has one, found once for all of them."""
        return self._index().sides

    @functools.cached_property
    def _together(self) -> dict[str, str]:
        """What keeps an id in the split of others, by the id."""
        return self._index().together

    @property
    def _input(self) -> str:
        """The key of the input: the field that is named, or the column that exists."""
        named = "image" if self.image or self.caption else "text" if self.text or self.pair else ""
        return named or _found_input(self, self._files()[0][0])

    def _files(self) -> list[tuple[Path, str | None]]:
        return lines.parts(self.path, self.suffixes)

    def _index(self) -> Index:
        """Returns the examples of the table, read again only after a change."""
        files = self._files()
        return _read(self, tuple(files), stamp((file.name, file) for file, _ in files))


def _targets(table: CSV) -> dict[str, str | tuple[str, ...]]:
    """Returns the key of the target with its column; none beside a caption."""
    return {} if table.caption else columns.targets(table)


_INPUTS: dict[str, Kind] = {"image": Image(), "text": Text()}


def _found_input(table: CSV, file: Path) -> str:
    """Returns which input a table has that names none; ``image`` where the columns tell nothing."""
    header = _table(table, dict.fromkeys(_INPUTS, "")).layout(file).header
    there = [key for key in _INPUTS if key in header]
    if len(there) > 1:
        raise ValueError(
            f"{file} line 1 has the columns 'image' and 'text'; write image='image' or "
            "text='text' to say which is read."
        )
    usual = {key: columns.usual(key, header) for key in _INPUTS}
    return there[0] if there else "text" if usual["text"] and not usual["image"] else "image"


def _table(table: CSV, wanted: Mapping[str, str]) -> Table:
    return Table(wanted, table.columns, table.quotes, table.encoding)


@functools.lru_cache(maxsize=2)
def _read(table: CSV, files: tuple[tuple[Path, str | None], ...], stamped: str) -> Index:
    """Returns the examples of files with a stamp.

    Raises:
        ValueError: The columns that are missing, or the lines that are wrong and why.
    """
    named = next(iter(_targets(table).values()), ())
    wanted = {
        table.image or table.text or table._input: table._input,
        table.pair: "pair",
        table.caption: "caption",
        **dict.fromkeys(_each(named), "number" if table.number else "label"),
        table.split_column: "split_column",
        table.together: "together",
        **dict.fromkeys(columns.groups(table), "group"),
    }
    wanted.pop("", None)
    return Index(
        files,
        table.features(),
        _table(table, wanted).cut,
        functools.partial(_row, table, table._input),
        classes=() if isinstance(named, str) else named,
        unique=table._input == "image" and not table.caption,
    )


def _each(named: str | tuple[str, ...]) -> tuple[str, ...]:
    return (named,) if isinstance(named, str) else named


def _row(table: CSV, input: str, line: int, raw: tuple[list[str], list[str]]) -> Row:
    """Returns an example; raises with its line if it is wrong."""
    header, written = raw
    try:
        if len(written) != len(header):
            raise ValueError(f"has {len(written)} cells, expected {len(header)}")
        values = {name: cell.strip() for name, cell in zip(header, written, strict=True)}
        targets = _targets(table)
        target = {
            key: cells.TARGETS[key](values, named, table.separator)
            for key, named in targets.items()
        }
        target |= {column: cells.group(values, column) for column in columns.groups(table)}
        identity, inputs = _READ[input](table, values)
        word = values[table.split_column] if table.split_column else ""
        split = splits.named(word) if word else None
        if word and split is None:
            raise ValueError(f"has the {table.split_column} {word!r}, expected train, val or test")
    except ValueError as error:
        raise ValueError(f"line {line} {error}") from None
    labels = [cell for name, cell in zip(header, written, strict=True) if name in targets.values()]
    notes = [(index.SPACES, repr(cell)) for cell in labels if cell != cell.strip()]
    together = values[table.together] if table.together else ""
    return Row(identity, {**inputs, **target}, split, together, notes)


def _picture(table: CSV, values: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    identity, file = _found(table, cells.line(values, table.image or "image"))
    if not table.caption:
        return identity, {"image": file}
    if not (said := values[table.caption]):
        raise ValueError(f"has no {table.caption}")
    return f"{identity}/{index.digest(said)}", {"image": file, "caption": said}


def _texts(table: CSV, values: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    inputs = {"text": table.text or "text", **({"pair": table.pair} if table.pair else {})}
    for column in inputs.values():
        if not values[column]:
            raise ValueError(f"has no {column}")
    texts = {key: values[column] for key, column in inputs.items()}
    return index.digest(*texts.values()), texts


_READ = {"image": _picture, "text": _texts}


def _found(table: CSV, picture: str) -> tuple[str, Path]:
    """Returns the id and the file of a picture; Windows writes backslashes between folders."""
    for written in (picture, picture.replace("\\", "/")):
        identity = PurePath(written).as_posix()
        file = _file(table, identity, table.suffix)
        try:
            if file.is_file():
                return identity, file
        except OSError as error:  # A text too long for the name of a file, say.
            raise ValueError(f"names {identity[:60]!r}: {error.strerror}") from None
    identity = PurePath(picture).as_posix()
    endings = {each for suffix in decoding.SUFFIXES for each in (suffix, suffix.upper())}
    near = [each for each in sorted(endings) if _file(table, identity, each).is_file()]
    hint = f"; with suffix={near[0]!r} it does" if near and not table.suffix else ""
    file = _file(table, identity, table.suffix)
    raise ValueError(f"names {identity}, and {file} does not exist{hint}")


def _file(table: CSV, identity: str, suffix: str) -> Path:
    folder = table.path if table.path.is_dir() else table.path.parent
    return folder / table.image_folder / f"{identity}{suffix}"
