"""Columns: which named values of a row are an example's inputs and its target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from tlkeras import spec
from tlkeras.kind import Kind
from tlkeras.kinds.group import Group
from tlkeras.kinds.label import Label
from tlkeras.kinds.labels import Labels
from tlkeras.kinds.number import Number

TARGETS: dict[str, Kind] = {"label": Label(), "labels": Labels(), "number": Number()}
"""The kinds of targets by key."""

# Keys of other features; a group has the name of its column as its key.
_TAKEN = ("id", "image", "text", "pair", "caption", *TARGETS)

# How people call such columns.
_USUAL = {
    "image": "img picture photo file filename file_name filepath path image_path",
    "text": "sentence review content body message comment tweet question document headline title "
    "sms utterance sentence1 question1 premise query",
    "label": "labels class category categories sentiment target y intent topic emotion tag tags "
    "polarity",
}


class Targeted(Protocol):
    """A source whose fields name the target of a row."""

    member: ClassVar[str]

    @property
    def label(self) -> str | tuple[str, ...] | None:
        """The column with the class, or the columns of the classes; None if there is no target."""
        ...

    @property
    def multilabel(self) -> bool:
        """Whether an example has any number of classes."""
        ...

    @property
    def number(self) -> str:
        """The column with a number."""
        ...


def targets(source: Targeted) -> dict[str, str | tuple[str, ...]]:
    """Returns the key of the target with its column or columns; ``label`` where none is named.

    Raises:
        ValueError: The source names two targets.
    """
    if source.number and (source.label or source.multilabel):
        raise ValueError(
            f"{source.member}.number is {source.number!r} beside a label; expected one of them, "
            "the target."
        )
    if source.number:
        return {"number": source.number}
    if source.label is None:
        return {}
    return {"labels" if source.multilabel else "label": source.label or "label"}


class Grouped(Protocol):
    """A source whose fields name the groups of a row."""

    member: ClassVar[str]

    @property
    def group(self) -> str | tuple[str, ...]:
        """The column with the name of a group, or several such columns."""
        ...


def groups(source: Grouped) -> dict[str, Kind]:
    """Returns the kind of each group by its column, which is its key.

    Raises:
        ValueError: A column comes twice, or has the name of another feature.
    """
    named = (source.group,) if isinstance(source.group, str) else source.group
    for place, column in enumerate(named):
        if not column or column in named[:place] or column in _TAKEN:
            raise ValueError(
                f"{source.member}.group has {column!r}, expected columns with other names than "
                f"{', '.join(_TAKEN)}, each once: the name is the key of the feature."
            )
    return dict.fromkeys(named, Group())


def missing(column: str, field: str, there: Sequence[str]) -> str:
    """Returns the end of a message on a column, named by a field, that does not exist."""
    near = usual(field, there)
    hint = f" Set {field}={near[0]!r} to read that one." if near else ""
    return (
        f"has no column {column!r}; {spec.nearest(column, there or ['no columns'])} "
        f"Its columns are {spec.listed(there, most=60) or 'none'}.{hint}"
    )


def usual(field: str, there: Sequence[str]) -> list[str]:
    """Returns the columns that people often call so, where a field names none."""
    return [name for name in there if name.lower() in {field, *_USUAL.get(field, "").split()}]
