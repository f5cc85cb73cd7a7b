"""Embedded: data without a file or a network, for first runs, examples and tests."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import io
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from PIL import Image as Pillow

from tlkeras.images import drawing
from tlkeras.kind import Kind
from tlkeras.kinds.boxes import Boxes
from tlkeras.kinds.image import Image
from tlkeras.kinds.label import Label
from tlkeras.kinds.labels import Labels
from tlkeras.kinds.mask import Mask
from tlkeras.kinds.number import Number
from tlkeras.kinds.text import Text
from tlkeras.kinds.words import Words
from tlkeras.source import Source
from tlkeras.texts import captions, notes

# scikit-learn's digits are 8 x 8 with values 0 to 16.
_BRIGHTEST = 16
_DIGIT_SIZE = 32
_DIGITS = 1_797


class Embedded(Source, name="embedded"):
    """Scikit-learn's 1,797 digits; drawn shapes with captions, boxes and masks; or short notes.

    Notes are English texts made by a grammar, in their own splits: the names of persons, places and
    things in the test split are in no other. See `texts.notes`. So has the target ``caption`` of
    shapes: combinations of shape, texture and colour in the test split are in no other.
    """

    data: Literal["digits", "shapes", "notes"] = "digits"
    count: int = 2_000
    """The number of examples, from the first on; there are at most 1,797 digits."""
    size: int = 128
    """Side of the pictures of shapes in pixels; digits have 32."""
    seed: int = 0
    """Seed of shapes and notes: it and the number of an example decide all of the example."""
    target: Literal["label", "labels", "tags", "pair", "caption"] = "label"
    """What is predicted of notes: the class of one, beside a number; the classes of a text of some;
    the tags of its words; whether a second text holds of the first. Each has its own classes.
    ``caption`` is of shapes, each with a sentence; see `texts.captions`."""
    shift: Literal["none", "blurred", "grey", "inverted"] = "none"
    """How pictures of shapes are changed as a whole: another domain of the same classes."""

    def validate(self):
        self.require(self.count >= 1, "count", "at least 1")
        self.require(self.size >= 16, "size", "at least 16")
        self.require(self.seed >= 0, "seed", "at least 0")
        self.require(
            self.shift == "none" or self.data == "shapes", "shift", "'none' of all but shapes"
        )
        self.require((self.data, self.target) in _SETS, "target", _targets(self.data))

    def title(self):
        return self.data

    def features(self):
        return self._set.features

    def classes(self):
        return self._set.classes

    def examples(self):
        """Yields digits as grey PNG [32, 32], shapes as JPEG [size, size]; see `drawing`."""
        return self.between(0, self.count)

    def between(self, start, stop):
        for number in self._numbers[start:stop]:
            yield self._set.pattern.format(number), self._set.example(self, number)

    def labels(self):
        for number in self._numbers:
            yield self._set.pattern.format(number), self._set.labels(self, number)

    def fingerprint(self):
        told, package = self._set.origin
        return f"{told} {importlib.metadata.version(package)}"

    def split(self, identity):
        return self._set.split(self, int(identity.rpartition("-")[2]))

    @property
    def _set(self) -> _Set:
        return _SETS[self.data, self.target]

    @property
    def _numbers(self) -> range:
        return range(self.count)[: _DIGITS if self.data == "digits" else None]


@dataclasses.dataclass(frozen=True)
class _Set:
    """One set of data.

    Attributes:
        pattern: Of ids, with the number of the example.
        origin: What the examples are made by, and the package whose version may change them.
        features: The kinds.
        classes: Their names.
        example: From the source and a number to the features.
        labels: From the source and a number to the classes.
        split: From the source and a number to the split; None if the hash decides.
    """

    pattern: str
    origin: tuple[str, str]
    features: Mapping[str, Kind]
    classes: tuple[str, ...]
    example: Callable[[Embedded, int], dict[str, Any]]
    labels: Callable[[Embedded, int], list[int]]
    split: Callable[[Embedded, int], str | None] = lambda source, number: None


def _digit(source: Embedded, number: int) -> dict[str, Any]:
    pictures, labels = _digits()
    image = Pillow.fromarray((pictures[number] * (255 / _BRIGHTEST)).astype(np.uint8))
    buffer = io.BytesIO()
    image.resize((_DIGIT_SIZE, _DIGIT_SIZE), Pillow.Resampling.BICUBIC).save(buffer, "PNG")
    return {"image": buffer.getvalue(), "label": int(labels[number])}


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns what `sklearn.datasets.load_digits` reads; its import takes seconds."""
    package = importlib.metadata.distribution("scikit-learn")
    file = str(package.locate_file("sklearn/datasets/data/digits.csv.gz"))
    table = np.loadtxt(file, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def _shape(source: Embedded, number: int) -> dict[str, Any]:
    drawn = drawing.draw(source.seed, number, source.size, shift=source.shift)
    return {
        "image": drawn.image,
        "label": drawn.labels[0],
        "caption": drawn.caption,
        "boxes": drawn.boxes,
        "labels": drawn.labels,
        "mask": drawn.mask,
    }


def _captioned(source: Embedded, number: int) -> dict[str, Any]:
    said = captions.combination(source.seed, number)
    main = (said.colour, said.texture)
    drawn = drawing.draw(source.seed, number, source.size, main, source.shift)
    return {"image": drawn.image, "caption": said.sentence}


def _note(source: Embedded, number: int) -> dict[str, Any]:
    note = notes.note(source.seed, number)
    return {"text": note.text, "label": note.label, "number": note.score}


def _several(source: Embedded, number: int) -> dict[str, Any]:
    text, labels = notes.several(source.seed, number)
    return {"text": text, "labels": labels}


def _tagged(source: Embedded, number: int) -> dict[str, Any]:
    note = notes.note(source.seed, number)
    return {"words": note.words, "tags": note.tags}


def _pair(source: Embedded, number: int) -> dict[str, Any]:
    text, statement, holds = notes.pair(source.seed, number)
    return {"text": text, "pair": statement, "label": holds}


def _noted(source: Embedded, number: int) -> str:
    return notes.split(number)


_NOTES = "note-{:07d}", ("notes by the random numbers of NumPy", "numpy")

_SETS: Mapping[tuple[str, str], _Set] = {
    ("digits", "label"): _Set(
        "digit-{:04d}",
        ("digits of scikit-learn", "scikit-learn"),
        {"image": Image(), "label": Label()},
        tuple("0123456789"),
        _digit,
        lambda source, number: [int(_digits()[1][number])],
    ),
    ("shapes", "label"): _Set(
        "shape-{:07d}",
        ("shapes drawn by Pillow", "pillow"),
        {
            "image": Image(),
            "label": Label(),
            "caption": Text(),
            "boxes": Boxes(),
            "labels": Labels(),
            "mask": Mask(background=True),
        },
        tuple(drawing.SHAPES),
        _shape,
        lambda source, number: [drawing.main_label(number)],
    ),
    ("shapes", "caption"): _Set(
        "shape-{:07d}",
        ("shapes drawn by Pillow", "pillow"),
        {"image": Image(), "caption": Text()},
        (),
        _captioned,
        lambda source, number: [],
        lambda source, number: captions.split(source.seed, number),
    ),
    ("notes", "label"): _Set(
        *_NOTES,
        {"text": Text(), "label": Label(), "number": Number()},
        notes.LABELS,
        _note,
        lambda source, number: [notes.label(number)],
        _noted,
    ),
    ("notes", "labels"): _Set(
        *_NOTES,
        {"text": Text(), "labels": Labels()},
        notes.LABELS,
        _several,
        lambda source, number: _several(source, number)["labels"],
        _noted,
    ),
    ("notes", "tags"): _Set(
        *_NOTES,
        {"words": Words(), "tags": Labels()},
        notes.TAGS,
        _tagged,
        lambda source, number: sorted({*_tagged(source, number)["tags"]}),
        _noted,
    ),
    ("notes", "pair"): _Set(
        *_NOTES,
        {"text": Text(), "pair": Text(), "label": Label()},
        ("no", "yes"),
        _pair,
        lambda source, number: [notes.label(number, classes=2)],
        _noted,
    ),
}
"""By the fields `data` and `target`."""


def _targets(data: str) -> str:
    return f"{' or '.join(repr(target) for of, target in _SETS if of == data)} of {data}"
