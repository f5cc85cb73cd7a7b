"""Text: a piece of writing."""

from __future__ import annotations

from tlkeras.doctor import sketches, texts
from tlkeras.doctor.defects import Unusable
from tlkeras.kind import Written, require_unicode

_SHOWN = 200  # Characters.


class Text(Written, name="text"):
    """A str. Decoded: its UTF-8, string []."""

    suffixes = (".txt",)
    meaning = "text"

    def checked(self, value):
        if not isinstance(value, str):
            raise ValueError(f"has {value!r} where a text is expected")
        if not value.strip():
            defect = "white space" if value else "empty text"
            raise Unusable(defect, "has no text, or white space alone")
        require_unicode(value)
        return value

    def traits(self, value, standard):
        return texts.traits(standard)

    def oddities(self, traits):
        return texts.oddities(traits)

    def copies(self, hashes):
        return sketches.copies(hashes)

    def same(self, value):
        return value.encode("utf-8", "surrogateescape")

    def summary(self, value, classes):
        return {".characters": len(value), ".words": len(value.split())}, []

    def read(self, file):
        """Returns the text of a file; bytes that are not UTF-8 stay in it, for `checked` to tell.

        As anywhere in Python, line breaks become newlines; the mark of UTF-8 is left out.
        """
        return file.read_text(encoding="utf-8-sig", errors="surrogateescape")

    def sample(self):
        return "text"

    def shown(self, value):
        return value if len(value) <= _SHOWN else f"{value[: _SHOWN - 1]}…"

    def reading(self):
        return 'value = "a text"\n'
