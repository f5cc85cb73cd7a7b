"""Lettering: how wide the texts of a chart are, so that none is cut at its edge."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from tlkeras.report.page import Markup, element

# By the character, at 12 pixels; wide enough for the usual fonts without serifs.
_USUAL, _BROAD, _FULL = 7, 11, 13
_MORE = "…"


def width(text: str) -> float:
    """Returns the pixels of a text of 12, rather too many than too few."""
    return float(sum(map(_advance, text)))


def shortened(text: str, room: float) -> str:
    """Returns a text, or as much of its beginning as there is room for, with an ellipsis."""
    if width(text) <= room:
        return text
    while text and width(text + _MORE) > room:
        text = text[:-1]
    return text.rstrip() + _MORE


def placed(x: float, y: float, text: str, within: tuple[float, float], **attributes: str) -> Markup:
    """Returns a text at a place, moved as far as it takes to lie within two x.

    A text without room there is shortened.
    """
    left, right = within
    text = shortened(text, right - left)
    before = {"middle": 0.5, "end": 1.0}.get(attributes.get("text_anchor", ""), 0.0) * width(text)
    x = min(max(x, left + before), right - width(text) + before)
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", **attributes)


def wrapped(text: str, room: float) -> list[str]:
    """Returns the lines of a text that is broken between words; too long a word is shortened."""
    words = text.split(" ")
    lines = rows([width(f"{word} ") for word in words], room + width(" "))
    return [shortened(" ".join(words[place] for place in line), room) for line in lines]


def rows(widths: Sequence[float], room: float) -> Iterator[list[int]]:
    """Yields the places of what stands in each row, if a row has so much room."""
    row: list[int] = []
    taken = 0.0
    for place, each in enumerate(widths):
        if row and taken + each > room:
            yield row
            row, taken = [], 0.0
        row.append(place)
        taken += each
    if row:
        yield row


def _advance(character: str) -> int:
    if unicodedata.east_asian_width(character) in "WF":
        return _FULL
    return _BROAD if character.isupper() or character in "mw@%—…" else _USUAL
