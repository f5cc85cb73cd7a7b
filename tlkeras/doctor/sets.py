"""Sets: disjoint sets of things that pairs connect."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any


class Sets:
    """Disjoint sets; a thing that was never joined is a set of its own.

    A search halves its path (Tarjan and van Leeuwen 1984, https://doi.org/10.1145/62.2160).
    """

    def __init__(self) -> None:
        """Starts without any set of two."""
        self._above: dict[Any, Any] = {}

    def root(self, one: Hashable) -> Any:
        """Returns the thing that stands for the set of another one."""
        above = self._above
        while (parent := above.get(one, one)) != one:
            above[one] = above.get(parent, parent)
            one = parent
        return one

    def join(self, one: Hashable, other: Hashable) -> None:
        """Makes one set of the sets of two things; that of the first stands for it."""
        first, second = self.root(one), self.root(other)
        if first != second:
            self._above[second] = first
