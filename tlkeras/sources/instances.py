"""Instances: boxes around the objects of masks in which every object has its own number."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from tlkeras import folders
from tlkeras.boxes.annotations import (
    KINDS,
    Annotated,
    Annotations,
    Object,
    Problems,
    collected,
    examined,
)
from tlkeras.data import splits
from tlkeras.images import decoding
from tlkeras.source import Source


class Instances(Source, name="instances"):
    """Pictures below `images`, and masks of the same names, or of these and an ending, in `masks`.

    In a mask 0 is the background, and any other number is one object. All are of one class. Folders
    train, val and test in `images` are the user's splits. A picture without a mask has no object.
    """

    images: Path
    masks: Path
    label: str = "object"
    """The name of the class."""

    def validate(self):
        self.require(bool(self.label.strip()), "label", "the name of a class")

    def title(self):
        return self.images.resolve().parent.name

    def features(self):
        return KINDS

    def classes(self):
        return (self.label,)

    def examples(self):
        return self.between(0, len(self._found.pictures))

    def between(self, start, stop):
        return self._found.between(start, stop)

    def labels(self):
        return self._found.labels()

    def fingerprint(self):
        return self._found.fingerprint(sorted(self._masks.values()))

    def split(self, identity):
        return self._found.split(identity)

    def remarks(self):
        return list(self._found.remarks)

    def _files(self, top: Path) -> dict[str, Path]:
        """Returns the pictures below a folder by their path in it without its ending."""
        if not top.is_dir():
            raise ValueError(folders.missing(top))
        files = folders.walk(top, top)
        pictures = (each for each in files if each.suffix.lower() in decoding.SUFFIXES)
        return folders.by_name(pictures, top)

    @functools.cached_property
    def _masks(self) -> dict[str, Path]:
        return self._files(self.masks)

    @functools.cached_property
    def _found(self) -> Annotations:
        problems, pictures = Problems(), self._files(self.images)
        if not pictures:
            raise ValueError(f"{self.images} has no pictures ({', '.join(decoding.SUFFIXES)}).")
        fitting = {name: file for name, file in self._masks.items() if name in pictures}
        for name, file in self._masks.items():
            if name in pictures:
                continue
            picture = _shortened(name, pictures)
            if picture is None or picture in fitting:
                problems.add("masks have no picture of their own and are left out", file.name)
            else:
                fitting[picture] = file
        read = dict(zip(fitting, collected(_objects, [*fitting.values()]), strict=True))
        found = []
        for name, file in pictures.items():
            if name not in read:
                problems.add("pictures have no mask, so no object", file.name)
            size, objects = read.get(name, (None, ()))
            identity = file.relative_to(self.images).as_posix()
            split = splits.of_folders(identity)
            found.append(Annotated(identity, file, objects, size, split))
        return examined(found, problems)


def _shortened(name: str, pictures: Collection[str]) -> str | None:
    """Returns the picture whose name that of a mask begins with, of "1" and "1_2" the longer."""
    # A letter or digit after the name is that of another picture, 10 after 1.
    ends = (end for end in range(len(name) - 1, 0, -1) if not name[end].isalnum())
    return next((name[:end] for end in ends if name[:end] in pictures), None)


def _objects(file: Path) -> tuple[tuple[float, float], tuple[Object, ...]]:
    """Returns the size of a mask and the boxes around its numbers.

    Raises:
        ValueError: It cannot be read, or is in colour.
    """
    try:
        with Pillow.open(file) as mask:
            numbers = np.asarray(mask)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error}.") from None
    if numbers.ndim != 2:
        raise ValueError(f"{file} is a mask in colour, expected numbers of one channel.")
    found = []
    for number in np.unique(numbers[numbers != 0]):
        rows, columns = np.nonzero(numbers == number)
        box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        top, left, bottom, right = map(float, box)
        found.append(Object(0, (top, left, bottom, right), 0, file.name))
    return numbers.shape, tuple(found)
