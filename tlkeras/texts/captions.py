"""Captions: drawn shapes in sentences, and which combinations are for testing alone.

A combination is the shape, the texture and the colour of the large object in a picture. A fifth of
them is in the test split and in no other; every two of the three occur together in training. A
combination is said in one sentence, so that equal things have equal texts.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tlkeras.images.drawing import COLOURS, SHAPES, TEXTURES, main_label

# Every shape of a colour, and every colour of a texture, misses one texture or two colours.
_UNSEEN = 5

# Of the pictures of seen combinations, in turns of all shapes.
_VALIDATION = 8

_PATTERNS = {
    "checkered": "checks",
    "dotted": "dots",
    "solid": "no pattern",
    "speckled": "speckles",
    "striped": "stripes",
}

_SENTENCES = (
    "a {texture} {colour} {shape}",
    "{a_colour} {shape} with {pattern}",
    "there is a {texture} {shape}, and it is {colour}",
    "the large {shape} is {colour} and {texture}",
    "a picture of {a_colour} {shape} that has {pattern}",
    "{pattern} on {a_colour} {shape}",
    "this {shape} is {texture}; its colour is {colour}",
    "one {colour} {shape}, {texture}, on clouds",
)


@dataclasses.dataclass(frozen=True)
class Combination:
    """What the large object of a picture looks like."""

    shape: str
    texture: str
    colour: str

    @property
    def places(self) -> tuple[int, int, int]:
        """The places of shape, texture and colour among all of their sort."""
        return (
            [*SHAPES].index(self.shape),
            [*TEXTURES].index(self.texture),
            [*COLOURS].index(self.colour),
        )

    @property
    def is_unseen(self) -> bool:
        """Whether it is in the test split alone."""
        shape, texture, colour = self.places
        return (shape + 2 * texture + 3 * colour) % _UNSEEN == 0

    @property
    def sentence(self) -> str:
        """The sentence that says it."""
        shape, texture, colour = self.places
        article = "an" if self.colour[0] in "aeiou" else "a"
        return _SENTENCES[(shape + 3 * texture + 5 * colour) % len(_SENTENCES)].format(
            shape=self.shape,
            texture=self.texture,
            colour=self.colour,
            a_colour=f"{article} {self.colour}",
            pattern=_PATTERNS[self.texture],
        )


def combination(seed: int, number: int) -> Combination:
    """Returns the combination of a number; shapes take turns as in `drawing.main_label`."""
    random = np.random.default_rng((seed, number, 1))
    texture, colour = (str(random.choice([*names])) for names in (TEXTURES, COLOURS))
    return Combination([*SHAPES][main_label(number)], texture, colour)


def split(seed: int, number: int) -> str:
    """Returns the split of a number: ``test`` for all unseen combinations, and for no other."""
    if combination(seed, number).is_unseen:
        return "test"
    return "train" if number // len(SHAPES) % _VALIDATION else "validation"
