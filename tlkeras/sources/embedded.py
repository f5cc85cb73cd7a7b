"""Embedded: data without a file or a network, for first runs, examples and tests."""

from __future__ import annotations

import functools
import importlib.metadata
import io
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from PIL import Image as Pillow

from tlkeras.images import drawing
from tlkeras.kinds.boxes import Boxes
from tlkeras.kinds.image import Image
from tlkeras.kinds.label import Label
from tlkeras.kinds.labels import Labels
from tlkeras.kinds.mask import Mask
from tlkeras.kinds.text import Text
from tlkeras.source import Source

# scikit-learn's digits are 8 x 8 with values 0 to 16.
_BRIGHTEST = 16
_DIGIT_SIZE = 32


class Embedded(Source, name="embedded"):
    """Scikit-learn's 1,797 handwritten digits, or drawn shapes with captions, boxes and masks."""

    data: Literal["digits", "shapes"] = "digits"
    count: int = 2_000
    """The number of examples, from the first on; there are at most 1,797 digits."""
    size: int = 128
    """Side of the pictures of shapes in pixels; digits have 32."""
    seed: int = 0
    """Seed of the shapes: it and the number of a picture decide all of the picture."""

    def validate(self):
        self.require(self.count >= 1, "count", "at least 1")
        self.require(self.size >= 16, "size", "at least 16")
        self.require(self.seed >= 0, "seed", "at least 0")

    def title(self):
        return self.data

    def features(self):
        if self.data == "digits":
            return {"image": Image(), "label": Label()}
        return {
            "image": Image(),
            "label": Label(),
            "caption": Text(),
            "boxes": Boxes(),
            "box_labels": Labels(),
            "mask": Mask(background=True),
        }

    def classes(self):
        return tuple("0123456789") if self.data == "digits" else tuple(drawing.SHAPES)

    def examples(self):
        """Yields digits as grey PNG [32, 32], shapes as JPEG [size, size]; see `drawing`."""
        return self.between(0, self.count)

    def between(self, start, stop):
        numbers = range(self.count)[start:stop]
        return self._digits(numbers) if self.data == "digits" else self._shapes(numbers)

    def labels(self):
        if self.data == "digits":
            for number, label in enumerate(_digits()[1][: self.count]):
                yield _digit_id(number), [int(label)]
        else:
            for number in range(self.count):
                yield _shape_id(number), [drawing.main_label(number)]

    def fingerprint(self):
        if self.data == "digits":
            return f"digits of scikit-learn {importlib.metadata.version('scikit-learn')}"
        return f"shapes drawn by Pillow {importlib.metadata.version('pillow')}"

    def _digits(self, numbers: range) -> Iterator[tuple[str, dict[str, Any]]]:
        pictures, labels = _digits()
        for number in numbers[: max(0, len(labels) - numbers.start)]:
            label = labels[number]
            image = Pillow.fromarray((pictures[number] * (255 / _BRIGHTEST)).astype(np.uint8))
            buffer = io.BytesIO()
            image.resize((_DIGIT_SIZE, _DIGIT_SIZE), Pillow.Resampling.BICUBIC).save(buffer, "PNG")
            yield _digit_id(number), {"image": buffer.getvalue(), "label": int(label)}

    def _shapes(self, numbers: range) -> Iterator[tuple[str, dict[str, Any]]]:
        for number in numbers:
            drawn = drawing.draw(self.seed, number, self.size)
            yield (
                _shape_id(number),
                {
                    "image": drawn.image,
                    "label": drawn.labels[0],
                    "caption": drawn.caption,
                    "boxes": drawn.boxes,
                    "box_labels": drawn.labels,
                    "mask": drawn.mask,
                },
            )


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn import datasets

    pictures, labels = datasets.load_digits(return_X_y=True)
    return pictures.reshape(-1, 8, 8), labels


def _digit_id(number: int) -> str:
    return f"digit-{number:04d}"


def _shape_id(number: int) -> str:
    return f"shape-{number:07d}"
