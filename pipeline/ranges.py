"""Ranges: values of a call that a search chooses, ``phase(learning_rate=log(1e-5, 1e-2))``.

A range stands where a value stands. It is a call without keywords, as no spec is. `ast` parses the
text, as it does that of a spec; nothing is evaluated.

* ``choice(0, 0.2, 0.5)``: one of these values; specs, texts and lists are values, too.
* ``uniform(0, 0.5)``: a number between two others.
* ``log(1e-5, 1e-2)``: the same, with every power of ten alike.
* ``int(1, 10)``: a whole number, both ends included.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tlkeras import spec


@dataclasses.dataclass(frozen=True)
class Range:
    """Values by their texts (`choices`), or the numbers from `low` to `high`."""

    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    is_log: bool = False

    @property
    def ends(self) -> tuple[str, ...]:
        """The texts of all choices, or of the two ends."""
        return self.choices or (repr(self.low), repr(self.high))

    def written(self, value: Any) -> str:
        """Returns the text of a value, of a float its first three digits."""
        if isinstance(value, float):
            value = min(max(float(f"{value:.3g}"), self.low), self.high)
        return str(value)


class Template:
    """The text of a flag with ranges in it.

    Attributes:
        ranges: By their place in the text, such as ``recipe.phases[1].learning_rate``.
    """

    def __init__(self, name: str, text: str) -> None:
        """Takes the name of the flag and its text.

        Raises:
            ValueError: A range is no range.
        """
        self.text, self.ranges = text, {}
        self._spans: dict[str, tuple[int, int]] = {}
        try:
            self.text = ast.unparse(ast.parse(text.strip(), mode="eval"))
            tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, RecursionError, MemoryError):
            return  # A shorthand, or nothing that can be read; whoever reads it says so.
        for place, node in _calls(tree, name):
            self.ranges[place] = _range(place, node)
            self._spans[place] = (node.col_offset, node.end_col_offset or 0)

    def filled(self, values: Mapping[str, str]) -> str:
        """Returns the text with a value in the place of each range."""
        text = self.text.encode()  # The parser counts bytes.
        for place, (start, end) in sorted(self._spans.items(), key=lambda span: -span[1][0]):
            text = text[:start] + values[place].encode() + text[end:]
        return text.decode()

    @property
    def first(self) -> dict[str, str]:
        """The first value of each range."""
        return {place: each.ends[0] for place, each in self.ranges.items()}


def _calls(node: ast.expr, place: str) -> Iterator[tuple[str, ast.Call]]:
    """Yields the ranges of a text with their places."""
    match node:
        case ast.Call(func=ast.Name(id=word)) if word in _KINDS:
            yield place, node
        case ast.Call(keywords=keywords):
            for keyword in keywords:
                yield from _calls(keyword.value, f"{place}.{keyword.arg}")
        case ast.Tuple(elts=items) | ast.List(elts=items):
            for number, item in enumerate(items):
                yield from _calls(item, f"{place}[{number}]")
        case ast.BinOp(op=ast.BitOr()):
            yield from _calls(ast.List([*spec.alternatives(node)]), place)
        case _:
            return


def _range(place: str, node: ast.Call) -> Range:
    word = node.func.id if isinstance(node.func, ast.Name) else ""
    try:
        if node.keywords:
            raise ValueError("expected values without names")
        return _KINDS[word](node.args)
    except ValueError as error:
        raise ValueError(f"{place} is {ast.unparse(node)}: {error}.") from None


def _choice(values: Sequence[ast.expr]) -> Range:
    if any(True for value in values for _ in _calls(value, "")):
        raise ValueError("a range in a choice is not supported; search each choice by itself")
    texts = tuple(dict.fromkeys(map(ast.unparse, values)))
    if len(texts) < 2:
        raise ValueError("expected at least two different values; write a single one without range")
    return Range(texts)


def _uniform(values: Sequence[ast.expr]) -> Range:
    low, high = _ends(values)
    return Range(low=float(low), high=float(high))


def _log(values: Sequence[ast.expr]) -> Range:
    low, high = _ends(values)
    if low <= 0:
        raise ValueError("expected ends above 0, because the logarithm of others does not exist")
    return Range(low=float(low), high=float(high), is_log=True)


def _int(values: Sequence[ast.expr]) -> Range:
    low, high = _ends(values)
    if not (isinstance(low, int) and isinstance(high, int)):
        raise ValueError("expected whole numbers as ends")
    return Range(low=low, high=high)


def _ends(values: Sequence[ast.expr]) -> tuple[float, float]:
    """Returns two numbers, the smaller one first."""
    numbers = [_number(value) for value in values]
    match numbers:
        case [int() | float() as low, int() | float() as high]:
            if low < high:
                return low, high
            raise ValueError("expected the smaller end first, and no range of one value")
        case _:
            raise ValueError(f"expected two numbers, the ends; these are {len(numbers)} values")


def _number(node: ast.expr) -> int | float | None:
    match node:
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=int() | float() as value) if abs(value) < float("inf"):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _number(operand)
            return None if value is None else -value
        case _:
            return None


_KINDS: Mapping[str, Callable[[Sequence[ast.expr]], Range]] = {
    "choice": _choice,
    "int": _int,
    "log": _log,
    "uniform": _uniform,
}
