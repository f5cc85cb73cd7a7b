"""Traits: a line for every example, of what the doctor wants to know of its values.

``traits.jsonl`` of the examples has a JSON object a line, in the order of the source. Examples in
quarantine have none.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

FILE = "traits.jsonl"

Traits = Mapping[str, float | str]
"""What `Kind.traits` returns."""


@dataclasses.dataclass(frozen=True)
class Row:
    """The traits of one example.

    Attributes:
        identity: The id of the example.
        split: Its split.
        labels: The numbers of its classes, those of the first feature that names any.
        sha256: Of the file of the first input, also of a scan, or of the UTF-8 of a text.
        traits: By feature, what `Kind.traits` returned; features without traits are left out.
        numbers: By column, what else `Kind.summary` counts of its standard values.
        words: By feature that names classes, their names.
    """

    identity: str
    split: str
    labels: Sequence[int]
    sha256: str
    traits: Mapping[str, Traits]
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    words: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def line(self) -> str:
        """Returns the line of the file, without its end."""
        row = {
            "id": self.identity,
            "split": self.split,
            "labels": self.labels,
            "sha256": self.sha256,
            "traits": self.traits,
            "numbers": self.numbers,
            "words": self.words,
        }
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def read(examples: Path) -> Generator[Row]:
    """Yields the rows of a folder of examples, one in memory at a time.

    Raises:
        ValueError: The examples are of a version of tlkeras that wrote none, or fewer of them.
    """
    try:
        file = (examples / FILE).open(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        raise ValueError(f"{examples} has no {FILE}; write the examples again.") from None
    with file:
        for line in file:
            yield parsed(json.loads(line))


def parsed(row: Mapping[str, Any]) -> Row:
    """Returns the row of a line's JSON object."""
    fields = ("id", "split", "labels", "sha256", "traits", "numbers", "words")
    try:
        return Row(*(row[field] for field in fields))
    except KeyError as error:
        raise ValueError(f"A line of {FILE} has no {error}; write the examples again.") from None
