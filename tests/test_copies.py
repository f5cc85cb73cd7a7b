"""Near copies among hashes: which pairs are found, whatever the number of rows."""

from __future__ import annotations

import tracemalloc

import dirty
import imagehash
import numpy as np
import pytest
from PIL import Image

from tlkeras.doctor import hashes, sketches
from tlkeras.doctor.sets import Sets


def _flipped(rows: int, flips: int, plain: int, seed: int = 0) -> np.ndarray:
    """Random hashes, then as many with so many bits turned: uint8 [2 rows, 1, 33]."""
    chosen = np.random.default_rng(seed)
    bits = chosen.integers(0, 2, (rows, 256), np.uint8)
    other = bits.copy()
    for row in other:
        row[chosen.choice(256, flips, replace=False)] ^= 1
    packed = np.packbits(np.concatenate([bits, other]), axis=1)
    return np.pad(packed, [(0, 0), (1, 0)], constant_values=plain)[:, None]


@pytest.mark.parametrize(
    ("flips", "plain", "found"),
    [
        *((0, 0, 1.0), (20, 0, 1.0), (40, 0, 1.0), (64, 0, 0.8), (66, 0, 0.0)),
        *((0, 1, 1.0), (40, 1, 1.0), (42, 1, 0.0)),
    ],
)
def test_pictures_are_near_up_to_so_many_bits(flips: int, plain: int, found: float):
    pairs = {(i, j): far for i, j, far in hashes.copies(_flipped(500, flips, plain))}
    assert all(abs(i - j) == 500 for i, j in pairs)
    assert found * 500 <= len(pairs) <= (500 if found else 0)
    assert {*pairs.values()} <= {flips / 256}


def test_a_plain_border_of_one_is_enough_to_ask_for_more_equal_bits():
    held = _flipped(50, 60, 0)
    assert len([*hashes.copies(held)]) > 30
    held[:50, :, 0] = 1
    assert not [*hashes.copies(held)]


@pytest.mark.parametrize("rows", [2, 3_000])
def test_a_crowd_of_copies_is_one_set_in_few_pairs(rows: int):
    chosen = np.random.default_rng(0)
    bits = np.repeat(chosen.integers(0, 2, (1, 256), np.uint8), rows, axis=0)
    bits ^= (chosen.random(bits.shape) < 0.05).astype(np.uint8)
    held = np.pad(np.packbits(bits, axis=1), [(0, 0), (1, 0)])[:, None]
    pairs, sets = [*hashes.copies(held)], Sets()
    for one, other, _ in pairs:
        sets.join(one, other)
    assert len({sets.root(row) for row in range(rows)}) == 1
    assert len(pairs) < 3 * rows


def _symmetric(side: int = 256) -> list[Image.Image]:
    """Returns a cross, a ring and a bar, as logos and icons are."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    far = np.hypot(x, y)
    inside = [(abs(x) < 40) | (abs(y) < 40), (far < 90) & (far > 50), (abs(x) < 50) & (y > 0)]
    return [Image.fromarray(np.where(each, 180, 60).astype(np.uint8)) for each in inside]


def test_a_brighter_copy_of_a_symmetric_picture_has_its_hash():
    for picture in _symmetric():
        assert hashes.picture(picture.point(lambda grey: grey + 10)) == hashes.picture(picture)


def test_hashes_and_distances_are_those_of_imagehash():
    pictures = [dirty.scene(seed).convert("L") for seed in range(20)]
    pictures += [*(each.crop((1, 1, 95, 96)) for each in pictures), *_symmetric()]
    found = [bytes.fromhex(hashes.picture(image)) for image in pictures]
    small = [image.resize((64, 64), Image.Resampling.BOX) for image in pictures]
    expected = [imagehash.phash(image, hash_size=16) for image in small]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[1:] == np.packbits(theirs.hash).tobytes()
    held = np.array([[*found[5]], [*found[25]]], np.uint8)[:, None]
    ((_, _, distance),) = hashes.copies(held)
    assert distance == (expected[5] - expected[25]) / 256 > 0


@pytest.mark.parametrize(("size", "has_hash"), [((48, 48), True), ((47, 200), False)])
def test_a_small_picture_has_no_hash(size: tuple[int, int], has_hash: bool):
    assert bool(hashes.picture(dirty.scene(1, size).convert("L"))) == has_hash


def _held(*rows: list[str]) -> np.ndarray:
    return np.array(
        [[list(bytes.fromhex(sketches.sketch(text))) for text in row] for row in rows], np.uint8
    )


@pytest.mark.parametrize("lost", [0, 1, 3, 8])
def test_a_sketch_estimates_the_share_of_equal_shingles(lost: int):
    shares, estimates = [], []
    for seed in range(30):
        words = dirty.sentence(seed, 40).split()
        texts = " ".join(words), " ".join(words[: 40 - lost])
        one, other = ({text[at : at + 5] for at in range(len(text) - 4)} for text in texts)
        shares.append(len(one & other) / len(one | other))
        first, second = np.frombuffer(_held([texts[0]], [texts[1]]).tobytes(), "<u4").reshape(2, 64)
        estimates.append((first == second).mean())
    # The standard error of one is at most sqrt(0.25 / 64), of the mean of 30 a fifth of that.
    assert np.mean(estimates) == pytest.approx(np.mean(shares), abs=0.035)
    assert lost or np.all(np.array(estimates) == 1)


def test_pairs_of_texts_are_near_where_both_texts_are():
    first, second, third = (dirty.sentence(seed) for seed in range(3))
    held = _held([first, second], [first, third], [f"{first}.", f"{second}."], [third, second])
    assert [{i, j} for i, j, _ in sketches.copies(held)] == [{0, 2}]


def test_a_short_text_has_a_sketch():
    held = _held(["a"], ["A "], ["b"], ["ab"])
    assert [{i, j} for i, j, _ in sketches.copies(held)] == [{0, 1}]


def test_copies_among_many_texts_take_little_more_memory_than_their_sketches():
    held = np.random.default_rng(0).integers(0, 256, [40_000, 1, 256], np.uint8)
    held[30_000:30_002] = held[:2]
    tracemalloc.start()
    pairs = {(i, j) for i, j, _ in sketches.copies(held)}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pairs == {(0, 30_000), (1, 30_001)} and peak < 1.3 * held.nbytes
