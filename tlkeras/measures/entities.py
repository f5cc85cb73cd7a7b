"""Entities: the spans that the tags of words name.

The names of the classes tell the scheme. ``B-x``, ``I-x`` and ``O`` are BIO: the first word of an
entity of type x, a later one, and none. With ``E-x`` and ``S-x``, its last and its only word, it is
BIOES; ``L-`` and ``U-`` (BILOU) and ``M-`` (BMES) are other letters for E, S and I. A name without
such a letter, as that of a part of speech, is an entity of one word.
"""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[str, int, int]
"""A type, the first word, and the word behind the last one."""

OUTSIDE = "O"

NEVER = -1e6
"""The logarithm of the probability of what a scheme does not allow.

Where it allows nothing, as an entity of BIOES in one word without S, the rest still decides.
"""

_LETTERS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}


class Scheme:
    """From the tags of a sentence, numbers of classes, to its entities.

    -1 is a word in no entity, as is that of the class ``O``, where there is one.

    Attributes:
        types: The types of entities, in the order of their classes.
        type_of: The place of each class in `types`; their number for ``O``.
        begins: Whether each class is that of the first word of an entity.
        outside: The number of the class ``O``, or -1.
        letters: The letter of each class, as BIOES has it.
        closes: Whether the scheme marks the last word of an entity.
        goes_on: Whether a word of each class goes on with the entity of the word before it.
        before: The two classes that can come before such a word, the first word of its type and a
            later one.
        rests: Whether an entity, if there is one, can end behind a word of each class.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """Reads the names of the classes."""
        parts = [*map(_parts, classes)]
        kinds = [kind for letter, kind in parts if letter != OUTSIDE]
        self.types: list[str] = [*dict.fromkeys(kinds)]
        places = {OUTSIDE: len(self.types)} | {kind: i for i, kind in enumerate(self.types)}
        self.type_of: list[int] = [
            places[kind if letter != OUTSIDE else OUTSIDE] for letter, kind in parts
        ]
        self.begins: list[bool] = [letter in "BS" for letter, _ in parts]
        self.outside: int = classes.index(OUTSIDE) if OUTSIDE in classes else -1
        self._parts = [*parts, (OUTSIDE, "")]  # The last is found by -1.
        self.letters: list[str] = [letter for letter, _ in parts]
        self.closes: bool = any(
            _LETTERS.get(name[:1]) in ("E", "S") for name in classes if _has(name)
        )
        # Of a type without a first word, or in BIOES without a last one, nothing is asked.
        number = {part: place for place, part in enumerate(parts)}
        self.goes_on: list[bool] = [
            letter in "IE" and ("B", kind) in number for letter, kind in parts
        ]
        self.before: list[tuple[int, int]] = [
            (first, number.get(("I", kind), first))
            for place, (_, kind) in enumerate(parts)
            for first in [number.get(("B", kind), place)]
        ]
        self.rests: list[bool] = [
            letter not in "BI" or not self.closes or not {("B", kind), ("E", kind)} <= {*number}
            for letter, kind in parts
        ]

    def strict(self, tags: Sequence[int]) -> list[Span]:
        """Returns the entities that the scheme allows, in order.

        Of BIO: a B, and the I of its type that follow. Of BIOES: an S, or a B, any number of I and
        an E of one type. Other tags count as O. These are the entities of seqeval with
        ``mode='strict'`` and the scheme ``IOB2`` or ``IOBES``.
        """
        spans: list[Span] = []
        start, kind = -1, ""
        for place, tag in enumerate([*tags, -1]):
            letter, type_ = self._parts[tag]
            goes_on = start >= 0 and letter in "IE" and type_ == kind
            if start >= 0 and not (goes_on and letter == "I"):
                if goes_on or not self.closes:
                    spans.append((kind, start, place + goes_on))
                start = -1
            if letter == "S":
                spans.append((type_, place, place + 1))
            elif letter == "B":
                start, kind = place, type_
        return spans

    def lenient(self, tags: Sequence[int]) -> list[Span]:
        """Returns the entities as the script conlleval reads them, in order.

        Every run of words of one type is an entity, whatever letter it begins with; B and S begin
        a new one, E and S end one. So does seqeval without ``mode``.
        """
        spans: list[Span] = []
        start, kind, before = -1, "", OUTSIDE
        for place, tag in enumerate([*tags, -1]):
            letter, type_ = self._parts[tag]
            if start >= 0 and (letter in "OBS" or before in "ES" or type_ != kind):
                spans.append((kind, start, place))
                start = -1
            if start < 0 and letter != OUTSIDE:
                start, kind = place, type_
            before = letter
        return spans


def overlapping(one: Sequence[Span], other: Sequence[Span]) -> list[str]:
    """Returns the type of each pair of entities of one type with a common word.

    Both are in order and without overlap in themselves; each entity is in one pair at most.
    """
    found: list[str] = []
    for kind in dict.fromkeys(kind for kind, _, _ in one):
        firsts = [span for span in one if span[0] == kind]
        seconds = [span for span in other if span[0] == kind]
        while firsts and seconds:
            (_, start, stop), (_, begin, end) = firsts[0], seconds[0]
            if start < end and begin < stop:
                found.append(kind)
                del firsts[0], seconds[0]
            else:
                (firsts if stop <= begin else seconds).pop(0)
    return found


def _has(name: str) -> bool:
    """Returns whether a name begins with the letter of a scheme."""
    return name[:1] in _LETTERS and name[1:2] == "-" and len(name) > 2


def _parts(name: str) -> tuple[str, str]:
    """Returns the letter, as BIOES has it, and the type of a class."""
    if name == OUTSIDE:
        return OUTSIDE, ""
    return (_LETTERS[name[0]], name[2:]) if _has(name) else ("S", name)
