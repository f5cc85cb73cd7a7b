"""Group: what an example has in common with others, such as a place, a device or a person."""

from __future__ import annotations

from tlkeras.kind import Written


class Group(Written, name="group"):
    """The name of a group, a str. Decoded: its UTF-8, string []. No network reads it."""

    def checked(self, value):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"has {value!r} where the name of a group is expected")
        return value

    def summary(self, value, classes):
        """Returns nothing: a name can be that of a person, and statistics leave the machine."""
        return {}, []

    def sample(self):
        return "group"
