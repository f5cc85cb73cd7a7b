"""Defects: what is wrong with an example, as a stable word and a reason.

``quarantine.json`` of the examples lists those that were left out, ``notes.json`` those that are
only worth a look. Both hold a list of the fields of `Defect`, named ``id``, ``split``, ``defect``
and ``reason``. So does ``defects.json`` of the anomalies, which lists all findings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from tlkeras import files

QUARANTINE, NOTES, ALL = "quarantine.json", "notes.json", "defects.json"

INVALID = "invalid value"
"""The word of a defect that has none of its own."""

TORN = "group in training"
"""The word of an example beside the training split whose group has others in it."""


class Unusable(ValueError):
    """A value that no model can be trained on; its text follows the name of the example.

    Attributes:
        defect: The stable word for what is wrong.
    """

    def __init__(self, defect: str, reason: str) -> None:
        """Takes the word, and the text of the error."""
        super().__init__(reason)
        self.defect = defect


@dataclasses.dataclass(frozen=True)
class Defect:
    """A finding on one example, or on one file that is no example.

    Attributes:
        identity: The id of the example, or the path of the file below the source's.
        split: The split of the example; empty for a file that is no example.
        defect: A short stable word, such as ``empty file``.
        reason: What was found, as it follows the id: ``is an empty file``.
    """

    identity: str
    split: str
    defect: str
    reason: str


def read(examples: Path) -> list[Defect]:
    """Returns the defects of the examples that were left out, in the order of the source."""
    return _read(examples / QUARANTINE)


def notes(examples: Path) -> list[Defect]:
    """Returns what is only worth a look, in the order of the source; then files left out."""
    return _read(examples / NOTES)


def listed(anomalies: Path) -> list[Defect]:
    """Returns all findings on the examples, those that were left out first."""
    return _read(anomalies / ALL)


def write(file: Path, found: Iterable[Defect]) -> None:
    """Writes a list of defects; the file appears whole."""
    rows = [
        {"id": each.identity, "split": each.split, "defect": each.defect, "reason": each.reason}
        for each in found
    ]
    files.write_json(file, rows)


def word(error: ValueError) -> str:
    """Returns the stable word of an error that a kind raised."""
    return error.defect if isinstance(error, Unusable) else INVALID


def _read(file: Path) -> list[Defect]:
    return [
        Defect(row["id"], row["split"], row["defect"], row["reason"])
        for row in files.read_json(file)
    ]
