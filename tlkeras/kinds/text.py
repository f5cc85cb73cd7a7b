"""Text: a piece of writing."""

from __future__ import annotations

from tlkeras.kind import Written

_SHOWN = 200  # Characters.


class Text(Written, name="text"):
    """A str. Decoded: its UTF-8, string []."""

    suffixes = (".txt",)

    def checked(self, value):
        if not isinstance(value, str):
            raise ValueError(f"has {value!r} where a text is expected")
        return value

    def same(self, value):
        return value.encode("utf-8", "surrogateescape")

    def summary(self, value, classes):
        return {".characters": len(value), ".words": len(value.split())}, []

    def read(self, file):
        return file.read_text(encoding="utf-8")

    def sample(self):
        return "text"

    def shown(self, value):
        return value if len(value) <= _SHOWN else f"{value[: _SHOWN - 1]}…"

    def reading(self):
        return 'value = "a text"\n'
