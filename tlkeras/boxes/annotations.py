"""Annotations: boxes as people have drawn them, made sound for the pictures that they are of.

Every format of boxes comes through here, so problems are counted and named alike: a box outside of
its picture is clipped or left out, a repeated one is left out, an annotation of no picture is left
out. Sizes come from the picture as people see it; those in an annotation only say what its numbers
are fractions of.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlkeras import spec
from tlkeras.images import decoding
from tlkeras.kind import Kind
from tlkeras.kinds.boxes import Boxes
from tlkeras.kinds.flags import Flags
from tlkeras.kinds.image import Image
from tlkeras.kinds.labels import Labels
from tlkeras.source import content, stamp

Box = tuple[float, float, float, float]

KINDS: Mapping[str, Kind] = {
    "image": Image(),
    "boxes": Boxes(),
    "labels": Labels(),
    "ignored": Flags(),
}
"""The features of every source of boxes."""

YOLO_SETTINGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
"""Files with the names of classes in a set of YOLO, beside which other formats may lie."""

# A box may leave the picture by so many pixels unsaid: formats count corners from 0 or 1.
_ROUNDING = 1.0

# Two ratios of sides are equal within this part.
_SAME_SHAPE = 0.02

# A side of less is none: float32 would not tell its ends apart.
_LEAST_SIDE = 1e-6

_NAMED = 3  # So many places of a problem are named.


@dataclasses.dataclass(frozen=True)
class Object:
    """An object as annotated.

    Attributes:
        label: The number of its class.
        box: (top, left, bottom, right) in pixels, or in [0, 1] where no size is stated.
        ignored: 0, or `geometry.DIFFICULT` or `CROWD`: it is neither learned nor measured.
        place: Where it is written, for messages: a file, perhaps with a line.
    """

    label: int
    box: Box
    ignored: int = 0
    place: str = ""


@dataclasses.dataclass(frozen=True)
class Annotated:
    """A picture and its objects.

    Attributes:
        identity: The id of the example.
        file: The picture.
        objects: As annotated, or with sound boxes in [0, 1].
        size: The height and width that the annotation states; None if boxes are in [0, 1]. Of 0 it
            is not known.
        split: The split that the data have it in.
    """

    identity: str
    file: Path
    objects: tuple[Object, ...]
    size: tuple[float, float] | None = None
    split: str | None = None

    def features(self) -> dict[str, Any]:
        """Returns the features of the example but for the picture."""
        return {
            "boxes": [each.box for each in self.objects],
            "labels": [each.label for each in self.objects],
            "ignored": [each.ignored for each in self.objects],
        }


@dataclasses.dataclass(frozen=True)
class Annotations:
    """Pictures with sound boxes, and what was wrong with the others in words, and where."""

    pictures: tuple[Annotated, ...]
    remarks: tuple[str, ...]
    places: tuple[str, ...]

    def between(self, start: int, stop: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the examples from one number on and before another."""
        for each in self.pictures[start:stop]:
            yield each.identity, {"image": content(KINDS["image"], each.file), **each.features()}

    def labels(self) -> Iterator[tuple[str, list[int]]]:
        """Yields the classes of the objects of every picture that are learned and measured."""
        for each in self.pictures:
            yield each.identity, [one.label for one in each.objects if not one.ignored]

    def split(self, identity: str) -> str | None:
        """Returns the split that the data have an example in."""
        return self._splits[identity]

    def fingerprint(self, files: Iterable[Path]) -> str:
        """Returns a text that changes with the pictures, the files of annotations and `places`."""
        pictures = ((each.identity, each.file) for each in self.pictures)
        return stamp([*pictures, *((file.name, file) for file in files)], self.places)

    @functools.cached_property
    def _splits(self) -> dict[str, str | None]:
        return {each.identity: each.split for each in self.pictures}


class Problems:
    """What is wrong with annotations, each with its places."""

    def __init__(self) -> None:
        """Begins with none."""
        self._places: dict[str, list[str]] = {}

    def add(self, what: str, place: str) -> None:
        """Adds a place: ``boxes are empty and left out`` in ``a.xml``."""
        self._places.setdefault(what, []).append(place)

    def places(self) -> Iterator[str]:
        """Yields the places of all problems."""
        return itertools.chain.from_iterable(self._places.values())

    def remarks(self) -> Iterator[str]:
        """Yields a sentence for each problem."""
        for what, places in self._places.items():
            names = [*dict.fromkeys(places)]
            such = "such as in" if len(names) > _NAMED else "in"
            shown = ", ".join(names[:_NAMED])
            yield f"{what[0].upper()}{what[1:]}: {len(places):,}, {such} {shown}."


def examined(pictures: Iterable[Annotated], problems: Problems) -> Annotations:
    """Returns the pictures with boxes in [0, 1] of the upright picture, and what was wrong."""
    sound = tuple(_examined(each, problems) for each in pictures)
    return Annotations(sound, tuple(problems.remarks()), tuple(problems.places()))


def _examined(picture: Annotated, problems: Problems) -> Annotated:
    if not picture.objects:
        return dataclasses.replace(picture, size=None)
    try:
        raw, upright, turn = decoding.sizes(picture.file)
    except ValueError:
        # Whoever decodes the picture finds the fault, and leaves this one example out.
        return dataclasses.replace(picture, objects=(), size=None)
    divisors, turn = _frame(picture, raw, upright, turn, problems)
    known: dict[tuple[Box, int], None] = {}
    objects = []
    for each in picture.objects:
        box = _sound(each, divisors, upright, problems)
        if box is None:
            continue
        box = _turned(box, turn)
        if (box, each.label) in known:
            problems.add("boxes are there twice and left out once", each.place)
            continue
        known[box, each.label] = None
        objects.append(dataclasses.replace(each, box=box))
    return dataclasses.replace(picture, objects=tuple(objects), size=None)


def _frame(
    picture: Annotated,
    raw: tuple[int, int],
    upright: tuple[int, int],
    turn: int,
    problems: Problems,
) -> tuple[tuple[float, float], int]:
    """Returns what a box is divided by, and how it is turned then.

    A stated size of the shape of the picture is believed: the picture may have been scaled since.
    One of the shape of the file before its turn means that the boxes were drawn on that.
    """
    if picture.size is None:
        return (1.0, 1.0), 1
    height, width = picture.size
    place = picture.objects[0].place
    if height > 0 and width > 0 and math.isfinite(height * width):
        if _same_shape((height, width), upright):
            if (height, width) != upright:
                problems.add("annotations are of a larger or smaller copy of the picture", place)
            return (height, width), 1
        if _same_shape((height, width), raw):
            problems.add("annotations are of the picture before its camera's turn", place)
            return (height, width), turn
        problems.add("annotations state another size than the picture has, which counts", place)
    return upright, 1


def _same_shape(one: tuple[float, float], other: tuple[float, float]) -> bool:
    ratio = one[0] * other[1] / (one[1] * other[0])
    return abs(math.log(ratio)) <= _SAME_SHAPE


def _sound(
    each: Object, divisors: tuple[float, float], upright: tuple[int, int], problems: Problems
) -> Box | None:
    """Returns the box in [0, 1], or None if nothing of it is left.

    Raises:
        ValueError: It has no finite numbers.
    """
    if not all(map(math.isfinite, each.box)):
        raise ValueError(f"{each.place} has the box {each.box}, expected finite numbers.")
    sides = [side / divisors[i % 2] for i, side in enumerate(each.box)]
    (top, bottom), (left, right) = sorted(sides[::2]), sorted(sides[1::2])
    if bottom - top < _LEAST_SIDE or right - left < _LEAST_SIDE:
        problems.add("boxes are empty and left out", each.place)
        return None
    if [top, left, bottom, right] != sides:
        problems.add("boxes have their corners swapped, which are put right", each.place)
    box = (max(top, 0.0), max(left, 0.0), min(bottom, 1.0), min(right, 1.0))
    if box[2] - box[0] < _LEAST_SIDE or box[3] - box[1] < _LEAST_SIDE:
        problems.add("boxes are outside of their picture and left out", each.place)
        return None
    over = max(-top * upright[0], -left * upright[1])
    over = max(over, (bottom - 1) * upright[0], (right - 1) * upright[1])
    if over > _ROUNDING + 1e-6:
        problems.add("boxes reach outside of their picture and are clipped", each.place)
    return box


def _turned(box: Box, orientation: int) -> Box:
    """Returns a box of the file on the upright picture, by the value of the EXIF tag."""
    return _TURNS.get(orientation, lambda *sides: sides)(*box)


# As `decoding` turns the picture: 6 and 8 are quarter turns.
_TURNS: Mapping[int, Any] = {
    2: lambda top, left, bottom, right: (top, 1 - right, bottom, 1 - left),
    3: lambda top, left, bottom, right: (1 - bottom, 1 - right, 1 - top, 1 - left),
    4: lambda top, left, bottom, right: (1 - bottom, left, 1 - top, right),
    5: lambda top, left, bottom, right: (left, top, right, bottom),
    6: lambda top, left, bottom, right: (left, 1 - bottom, right, 1 - top),
    7: lambda top, left, bottom, right: (1 - right, 1 - bottom, 1 - left, 1 - top),
    8: lambda top, left, bottom, right: (1 - right, top, 1 - left, bottom),
}


def collected(read: Callable[[Any], Any], places: Sequence[Any]) -> list[Any]:
    """Returns what a function gives for each place; all that it refuses is in one message.

    Raises:
        ValueError: It refuses some.
    """
    found, broken = [], []
    for place in places:
        try:
            found.append(read(place))
        except ValueError as error:
            broken.append(str(error))
    if broken:
        raise ValueError(
            f"{len(broken):,} of {len(places):,} annotations cannot be used:\n  "
            + spec.listed(broken, separator="\n  ")
        )
    return found
