from __future__ import annotations

import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image

from tlkeras.images import drawing


@pytest.fixture(scope="module")
def drawings() -> list[drawing.Drawing]:
    return [drawing.draw(seed=3, index=i, size=64) for i in range(36)]


def test_a_picture_is_decided_by_seed_and_index(drawings: list[drawing.Drawing]):
    assert drawing.draw(seed=3, index=17, size=64) == drawings[17]
    assert drawing.draw(seed=4, index=17, size=64) != drawings[17]
    assert len({drawn.image for drawn in drawings}) == len(drawings)


def test_every_shape_lies_in_the_unit_circle():
    assert len(drawing.SHAPES) >= 10
    assert list(drawing.SHAPES) == sorted(drawing.SHAPES)
    for name, points in drawing.SHAPES.items():
        assert np.hypot(*points.T).max() <= 1 + 1e-9, name


def test_the_main_shapes_take_turns_and_the_caption_names_them(drawings: list[drawing.Drawing]):
    for index, drawn in enumerate(drawings):
        name = list(drawing.SHAPES)[index % len(drawing.SHAPES)]
        assert drawn.labels[0] == index % len(drawing.SHAPES) == drawing.main_label(index)
        assert re.fullmatch(rf"a \w+ \w+ {name}", drawn.caption)


def test_boxes_and_masks_tell_the_same(drawings: list[drawing.Drawing]):
    for drawn in drawings:
        mask = np.asarray(Image.open(io.BytesIO(drawn.mask)))
        assert mask.shape == (64, 64)
        assert set(np.unique(mask)) == {0, *(label + 1 for label in drawn.labels)}
        for (top, left, bottom, right), label in zip(drawn.boxes, drawn.labels, strict=True):
            assert 0 <= top < bottom <= 1
            assert 0 <= left < right <= 1
            rows, columns = np.nonzero(mask == label + 1)
            if drawn.labels.count(label) == 1:  # Else the boxes are of several objects.
                found = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
                box = np.array([top, left, bottom, right]) * 64
                assert np.abs(box - found).max() < 4  # Sharp tips cover no pixel by half.


def test_the_main_object_is_the_largest(drawings: list[drawing.Drawing]):
    for drawn in drawings:
        sides = [max(bottom - top, right - left) for top, left, bottom, right in drawn.boxes]
        assert sides[0] == max(sides)


def test_a_larger_picture_shows_the_same_scene():
    small, large = (drawing.draw(seed=0, index=5, size=size) for size in (32, 96))
    assert small.boxes == large.boxes
    assert small.caption == large.caption
    assert Image.open(io.BytesIO(large.image)).size == (96, 96)


@pytest.mark.parametrize("name", [*drawing.SHIFTS])
def test_a_shift_changes_the_picture_alone(name: str, drawings: list[drawing.Drawing]):
    shifted = drawing.draw(3, 5, 64, shift=name)
    before, after = (
        np.asarray(Image.open(io.BytesIO(each.image)), float) for each in (drawings[5], shifted)
    )
    assert dataclasses.replace(shifted, image=drawings[5].image) == drawings[5]
    expected = {
        "none": 0.0,
        "inverted": np.abs(255 - 2 * before).mean(),
        "grey": np.abs(before - (before @ np.array([0.299, 0.587, 0.114]))[..., None]).mean(),
    }
    if name == "blurred":  # Neighbours are more alike than before.
        assert np.abs(np.diff(after, axis=0)).mean() < 0.8 * np.abs(np.diff(before, axis=0)).mean()
    else:
        assert np.abs(before - after).mean() == pytest.approx(expected[name], abs=3)
