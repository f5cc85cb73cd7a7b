"""Texts as the doctor sees them: their traits, and which are odd."""

from __future__ import annotations

import re

from tlkeras.doctor import sketches

# A tag of HTML or XML, and an entity.
_MARKUP = re.compile(r"</?[A-Za-z][^<>]{0,500}>|<!--.*?-->|&(?:[A-Za-z]\w{1,30}|#\d{1,7});", re.S)

_DIGITS = 4


def traits(text: str) -> dict[str, float | str]:
    """Returns the traits of a text.

    ``characters`` and ``words`` are counts, ``markup`` is the share of the characters in tags and
    entities, and ``hash`` is that of its sketch, in hexadecimal.
    """
    inside = sum(match.end() - match.start() for match in _MARKUP.finditer(text))
    return {
        "characters": len(text),
        "words": len(text.split()),
        "markup": round(inside / len(text), _DIGITS),
        "hash": sketches.sketch(text),
    }
