"""Augmentations: laws over the whole family, and oracles by numpy and Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from tlkeras import augment, spec
from tlkeras.augment import Augment
from tlkeras.augments import mixing, rand_augment
from tlkeras.frameworks import tf
from tlkeras.images import geometry

FAMILY = list(spec.names(Augment))
STRONG = [
    *FAMILY,
    "flip(vertical=True)",
    "crop(scale=0.2)",
    "zoom(scale=3, ratio=2)",
    "rotate(degrees=180)",
    "color(brightness=1, contrast=1, saturation=1)",
    "rand_augment(operations=3, magnitude=1)",
    "erase(scale=0.9)",
]
OFF = [
    "flip(horizontal=False)",
    "crop(scale=1)",
    "zoom(scale=1, ratio=1)",
    "rotate(degrees=0)",
    "color(brightness=0, contrast=0, saturation=0)",
    "rand_augment(operations=0)",
    "erase(scale=0)",
    "mix_up(alpha=0)",
    "cut_mix(alpha=0)",
]
RECTANGLES = {1: (10, 14, 30, 50), 2: (34, 40, 56, 70)}
"""Mask value and label, and (top, left, bottom, right) in pixels of a picture of 64 x 80."""


def made(text: str) -> Augment:
    return spec.parse(text, Augment)


def example(dtype: Any = np.uint8, shape: tuple[int, int] = (64, 80)) -> dict[str, Any]:
    """Returns a noisy picture with two rectangles, brighter, and all there may be about them."""
    height, width = shape
    pixels = np.random.default_rng(3).uniform(0, 100, (height, width, 3))
    mask = np.zeros((height, width, 1), np.uint8)
    for value, (top, left, bottom, right) in RECTANGLES.items():
        pixels[top:bottom, left:right] += 150
        mask[top:bottom, left:right] = value
    boxes = np.array([*RECTANGLES.values()]) / [height, width, height, width]
    return {
        "id": tf.constant("a/1.jpg"),
        "image": tf.constant(pixels.astype(dtype)),
        "mask": tf.constant(mask),
        "boxes": tf.constant(boxes, tf.float32),
        "labels": tf.constant([*RECTANGLES], tf.int64),
        "label": tf.constant(7, tf.int64),
    }


def batch(count: int = 6) -> tuple[Any, Any]:
    inputs = np.random.default_rng(4).uniform(0, 255, (count, 10, 14, 3)).astype(np.float32)
    return tf.constant(inputs), tf.one_hot(np.arange(count) % 4, 4)


def arrays(changed: dict[str, Any]) -> dict[str, Any]:
    return {key: value.numpy() for key, value in changed.items()}


def assert_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert left.keys() == right.keys()
    for key, value in left.items():
        np.testing.assert_array_equal(value, right[key], err_msg=key)


@pytest.mark.parametrize("name", FAMILY)
def test_the_seed_decides_the_result(name):
    member, inputs = made(name), batch()
    results = []
    for number in range(8):
        changed = arrays(member.example(example(), [number, 5]))
        assert_same(changed, arrays(member.example(example(), tf.constant([number, 5]))))
        mixed = [part.numpy() for part in member.batch(*inputs, [number, 5])]
        for part, again in zip(mixed, member.batch(*inputs, [number, 5]), strict=True):
            np.testing.assert_array_equal(part, again)
        results.append(changed["image"].tobytes() + mixed[0].tobytes())
    # A flip gives one of two pictures, and some crops are the whole picture.
    assert len(set(results)) >= {"flip": 2, "crop": 5}.get(name, 7)


@pytest.mark.parametrize("text", STRONG)
def test_the_example_of_the_caller_is_unchanged(text):
    given = example()
    before, values = dict(given), arrays(given)
    made(text).example(given, [2, 7])
    assert all(given[key] is before[key] for key in before) and given.keys() == before.keys()
    assert_same(arrays(given), values)


# After two turns, a box is around the box of the first.
ONE_TURN = [text for text in STRONG if not text.startswith("rand_augment")]


@pytest.mark.parametrize("text", [*ONE_TURN, "rand_augment(operations=1, magnitude=1)"])
def test_the_hull_of_a_filled_box_is_the_box(text):
    """Drawn into the mask; a turned or sheared box is the hull of what it has become."""
    seen = 0
    for number in range(10):
        box = np.random.default_rng(number).integers([8, 8, 32, 40], [28, 36, 56, 72])
        mask = np.zeros([64, 80, 1], np.uint8)
        mask[box[0] : box[2], box[1] : box[3]] = 5
        given = {
            **example(),
            "mask": tf.constant(mask),
            "boxes": tf.constant([box / [64, 80, 64, 80]], tf.float32),
            "labels": tf.constant([5], tf.int64),
            "ignored": tf.constant([1], tf.int64),
        }
        changed = arrays(made(text).example(given, [number, 3]))
        assert set(np.unique(changed["mask"])) <= {0, 5, 255}
        covered, size = changed["mask"][..., 0] == 5, changed["mask"].shape[:2]
        assert len(changed["boxes"]) == len(changed["labels"]) == len(changed["ignored"])
        if not len(changed["boxes"]):
            assert covered.mean() < 1e-3
            continue
        moved = changed["boxes"][0] * [*size, *size]
        whole = (moved[:2] > 0).all() and (moved[2:] < size).all()
        if covered.any() and (whole or text.startswith(("flip", "crop", "zoom"))):
            np.testing.assert_allclose(moved, bounds(covered), atol=1.01)
            seen += 1
    assert seen >= 3


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("text", STRONG)
def test_an_example_keeps_keys_types_and_ranges(text, dtype):
    for number in range(5):
        given = example(dtype)
        changed = made(text).example(given, [number, 0])
        assert changed.keys() == given.keys()
        for key, value in changed.items():
            assert value.dtype == given[key].dtype, key
            assert value.shape.rank == given[key].shape.rank, key
        assert changed["image"].shape[:2] == changed["mask"].shape[:2]
        assert changed["image"].shape[2] == 3
        assert np.min(changed["image"]) >= 0 and np.max(changed["image"]) <= 255
        assert set(np.unique(changed["mask"])) <= {0, 1, 2, 255}
        top, left, bottom, right = changed["boxes"].numpy().T
        assert (top >= 0).all() and (top < bottom).all() and (bottom <= 1).all()
        assert (left >= 0).all() and (left < right).all() and (right <= 1).all()
        assert changed["labels"].shape == top.shape
        assert changed["label"] == 7 and changed["id"] == b"a/1.jpg"


@pytest.mark.parametrize("text", STRONG)
def test_an_example_may_be_a_picture_and_nothing_else(text):
    image = example()["image"]
    assert made(text).example({"image": image}, [1, 2]).keys() == {"image"}


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 2)])
@pytest.mark.parametrize("text", STRONG)
def test_the_smallest_pictures_pass(text, shape):
    image = tf.constant(np.full((*shape, 3), 90, np.uint8))
    for number in range(4):
        assert min(made(text).example({"image": image}, [number, 0])["image"].shape) >= 1


@pytest.mark.parametrize("text", OFF)
def test_without_strength_nothing_changes(text):
    for dtype in (np.uint8, np.float32):
        given = example(dtype)
        changed = made(text).example(given, [3, 4])
        np.testing.assert_allclose(changed.pop("boxes"), given.pop("boxes"), atol=1e-6)
        assert_same(arrays(changed), arrays(given))
    for part, before in zip(made(text).batch(*batch(), [3, 4]), batch(), strict=True):
        np.testing.assert_array_equal(part, before)


def bounds(covered: np.ndarray) -> np.ndarray:
    """Returns (top, left, bottom, right) in pixels of what is True."""
    rows, columns = np.nonzero(covered)
    return np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])


@pytest.mark.parametrize(
    ("text", "pixels"),
    [
        ("flip(vertical=True)", 1e-3),
        ("crop(scale=0.3)", 1e-3),
        ("zoom(scale=3, ratio=2)", 1e-3),
        ("rotate(degrees=45)", 2),
        ("rand_augment(magnitude=0.6)", 2),
        ("erase", 1e-3),
        ("color", 1e-3),
    ],
)
def test_mask_and_boxes_follow_the_picture(text, pixels):
    seen = 0
    for number in range(12):
        given = example()
        changed = arrays(made(text).example(given, [number, 1]))
        height, width = changed["mask"].shape[:2]
        boxes = changed["boxes"] * [height, width, height, width]
        kept = dict(zip(changed["labels"].tolist(), boxes, strict=True))
        for label in RECTANGLES:
            covered = changed["mask"][..., 0] == label
            if label not in kept:
                assert covered.mean() < 1e-3
                continue
            if not covered.any():
                continue
            # A box that is cut off may be wider than what is left of the turned rectangle.
            apart = np.array([1, 1, -1, -1]) * (bounds(covered) - kept[label])
            assert (apart > -pixels).all()
            inside = (kept[label][:2] > 0).all() and (kept[label][2:] < [height, width]).all()
            if inside or pixels < 1:
                assert (apart < pixels).all()
                seen += 1
            if text.startswith(("flip", "crop", "zoom", "rotate")):
                bright = changed["image"][covered].min(axis=-1) >= 126  # At an edge it is blended.
                assert bright.mean() > 0.9
    assert seen >= 8


def test_a_turn_by_90_degrees_is_the_one_of_numpy():
    given = example(shape=(80, 80))
    changed = arrays(geometry.rotated(given, tf.constant(90.0)))
    for key in ("image", "mask"):
        np.testing.assert_array_equal(changed[key], np.rot90(given[key]))
    top, left, bottom, right = given["boxes"].numpy().T
    expected = np.stack([1 - right, top, 1 - left, bottom], axis=1)
    np.testing.assert_allclose(changed["boxes"], expected, atol=1e-5)


def test_a_shift_drops_the_boxes_it_pushes_out_and_their_labels():
    changed = geometry.shifted(example(), tf.constant([0.5, 0.0]))
    np.testing.assert_array_equal(changed["labels"], [1])
    np.testing.assert_allclose(changed["boxes"], [[42 / 64, 14 / 80, 62 / 64, 50 / 80]], atol=1e-5)
    assert (changed["mask"].numpy()[:32] == 255).all()
    assert (changed["image"].numpy()[:32] == 128).all()


@pytest.mark.parametrize("text", ["flip", "flip(vertical=True)"])
def test_to_flip_twice_is_to_flip_not_at_all(text):
    for number in range(6):
        once = made(text).example(example(), [number, 0])
        twice, given = made(text).example(once, [number, 0]), example()
        np.testing.assert_allclose(twice.pop("boxes"), given.pop("boxes"), atol=1e-6)
        assert_same(arrays(twice), arrays(given))


def test_a_crop_keeps_its_part_of_the_area_and_the_shape_of_the_picture_nearly():
    image = tf.zeros([90, 320, 3], tf.uint8)
    parts, ratios = [], []
    for number in range(60):
        height, width = (
            made("crop(scale=0.4)").example({"image": image}, [number, 0])["image"].shape[:2]
        )
        parts.append(height * width / (90 * 320))
        ratios.append((width / 320) / (height / 90))
    assert min(parts) >= 0.4 and min(parts) < 0.5 and max(parts) > 0.9
    assert 0.73 < min(ratios) < 0.85 and 1.2 < max(ratios) < 1.36


def test_a_zoom_shows_the_pixels_of_its_window_and_grey_beside_the_picture():
    height, width = 30, 50
    places = np.arange(height * width, dtype=np.float32).reshape(height, width, 1)
    given = {"image": tf.constant(np.repeat(places, 3, axis=2) + 1000)}
    given["mask"] = tf.zeros([height, width, 1], tf.uint8)
    scales, ratios, sides = [], [], []
    for number in range(80):
        changed = arrays(made("zoom(scale=2, ratio=1.5)").example(given, [number, 0]))
        pixels, outside = changed["image"], changed["mask"][..., 0] == 255
        assert (pixels[outside] == 128).all()
        top, left, bottom, right = bounds(~outside)
        inside = pixels[top:bottom, left:right, 0] - 1000
        rows, columns = inside // width, inside % width
        assert (np.diff(rows, axis=0) == 1).all() and (np.diff(columns, axis=1) == 1).all()
        part = np.array(pixels.shape[:2]) / [height, width]
        # A side that is larger than the picture's has all of it.
        assert all(np.array(inside.shape)[part >= 1] == np.array([height, width])[part >= 1])
        scales.append(np.sqrt(part.prod()))
        ratios.append(part[1] / part[0])
        sides.append(part)
    assert 0.48 < min(scales) < 0.6 and 1.7 < max(scales) < 2.05
    assert 0.64 < min(ratios) < 0.72 and 1.4 < max(ratios) < 1.55
    assert 0.35 < np.mean(np.array(scales) < 1) < 0.65


def test_an_erased_rectangle_is_at_most_its_part_of_the_area():
    image = np.full((100, 100, 3), 77, np.float32)
    for number in range(20):
        changed = made("erase(scale=0.2)").example({"image": tf.constant(image)}, [number, 0])
        covered = (changed["image"].numpy() != image).any(axis=-1)
        top, left, bottom, right = bounds(covered)
        assert covered[top:bottom, left:right].mean() > 0.99
        assert covered.mean() < 0.22


def enhanced(kind: str) -> Any:
    return lambda image: getattr(ImageEnhance, kind)(image).enhance(1 + 0.9 * 0.6)


@pytest.mark.parametrize(
    ("place", "oracle"),
    [
        (1, ImageOps.autocontrast),
        (2, ImageOps.equalize),
        (3, lambda image: ImageOps.solarize(image, 103)),
        (4, lambda image: ImageOps.posterize(image, 8 - 2)),
        (5, enhanced("Brightness")),
        (6, enhanced("Contrast")),
        (7, enhanced("Color")),
        (8, enhanced("Sharpness")),
    ],
)
def test_the_operations_on_colour_are_those_of_pillow(place, oracle):
    noise = np.random.default_rng(1).normal(110, 35, (40, 50, 3)).clip(20, 230).astype(np.uint8)
    image = Image.fromarray(noise).filter(ImageFilter.BLUR)
    changed = rand_augment._OPERATIONS[place](
        {"image": tf.constant(np.asarray(image))}, tf.constant(0.6)
    )
    expected = np.asarray(oracle(image)).astype(int)
    assert (expected != np.asarray(image)).mean() > 0.3
    # Pillow leaves the outermost pixels as they are, and drops fractions where we round.
    apart = np.abs(changed["image"].numpy().astype(int) - expected)[1:-1, 1:-1]
    assert apart.max() <= 1


def test_a_picture_of_one_colour_has_no_contrast_to_stretch_or_equalize():
    image = tf.fill([5, 6, 3], tf.constant(90, tf.uint8))
    for place in (1, 2):
        changed = rand_augment._OPERATIONS[place]({"image": image}, tf.constant(1.0))
        np.testing.assert_array_equal(changed["image"], image)


def test_rand_augment_draws_all_fourteen_operations_in_both_directions():
    assert len(rand_augment._OPERATIONS) == 14
    member = made("rand_augment(operations=1, magnitude=1)")
    image = example()["image"]
    found = {
        member.example({"image": image}, [n, 9])["image"].numpy().tobytes() for n in range(300)
    }
    # None, contrast, equalization, solarize and posterize have one direction, the others two.
    assert len(found) == 5 + 2 * 9


def test_mix_up_blends_inputs_and_targets_by_the_same_part():
    inputs, targets = (part.numpy() for part in batch(4))
    mixed, mixed_targets = made("mix_up(alpha=1)").batch(*batch(4), [5, 6])
    own = mixed_targets.numpy()[np.arange(4), np.arange(4)]  # The classes are 0, 1, 2, 3.
    assert len(np.unique(own)) == 4
    part = own[:, None, None, None]
    expected = part * inputs + (1 - part) * np.roll(inputs, -1, axis=0)
    np.testing.assert_allclose(mixed, expected, rtol=1e-5)
    expected = own[:, None] * targets + (1 - own[:, None]) * np.roll(targets, -1, axis=0)
    np.testing.assert_allclose(mixed_targets, expected, atol=1e-6)
    np.testing.assert_allclose(np.sum(mixed_targets, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.001, 0.2, 1.0, 4.0])
def test_the_parts_are_of_the_beta_distribution(alpha):
    draws = mixing._beta(alpha, 20_000, [1, 2]).numpy()
    assert ((draws >= 0) & (draws <= 1)).all()
    assert draws.mean() == pytest.approx(0.5, abs=0.02)
    assert draws.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)


def test_cut_mix_blends_targets_by_the_pixels_that_are_left():
    count = 40
    inputs = np.broadcast_to(
        np.arange(count, dtype=np.float32)[:, None, None, None], (count, 12, 16, 3)
    )
    mixed, targets = made("cut_mix").batch(
        tf.constant(inputs), tf.one_hot(range(count), count), [3, 3]
    )
    following = np.roll(inputs, -1, axis=0)
    mixed, targets, own = mixed.numpy(), targets.numpy(), mixed.numpy() == inputs
    np.testing.assert_array_equal(mixed, np.where(own, inputs, following))
    for i in range(count):
        covered = ~own[i, ..., 0]
        if covered.any():
            top, left, bottom, right = bounds(covered)
            assert covered[top:bottom, left:right].all()
        expected = np.zeros(count)
        expected[i] = 1 - covered.mean()
        expected[(i + 1) % count] = covered.mean()
        np.testing.assert_allclose(targets[i], expected, atol=1e-6)
    assert 0.3 < np.mean(own) < 0.95
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("name", FAMILY)
def test_a_parallel_map_gives_what_eager_calls_give(name):
    member = made(name)
    shapes = [(64, 80), (60, 90), (70, 75)] * 2
    rows = [example(shape=shape) for shape in shapes]
    kinds = {
        key: tf.TensorSpec([None] * value.shape.rank, value.dtype) for key, value in rows[0].items()
    }
    kinds |= {
        "image": tf.TensorSpec([None, None, 3], tf.uint8),
        "mask": tf.TensorSpec([None, None, 1], tf.uint8),
    }
    kinds |= {"boxes": tf.TensorSpec([None, 4], tf.float32)}
    seeds = tf.stack([tf.range(6), tf.range(6)], axis=1)
    given = tf.data.Dataset.from_generator(lambda: iter(rows), output_signature=kinds)
    given = tf.data.Dataset.zip(given, tf.data.Dataset.from_tensor_slices(seeds))
    mapped = given.map(member.example, num_parallel_calls=2)
    assert mapped.element_spec["image"].shape.as_list() == [None, None, 3]
    assert mapped.element_spec["boxes"].shape.as_list() == [None, 4]
    found = list(mapped)
    assert len(found) == len(rows)
    for row, seed, changed in zip(rows, seeds, found, strict=True):
        expected = member.example(row, seed)
        np.testing.assert_allclose(changed.pop("boxes"), expected.pop("boxes"), atol=1e-6)
        apart = np.abs(changed.pop("image").numpy().astype(int) - expected.pop("image"))
        assert apart.max() <= 1 and apart.mean() < 1e-3  # A sum in another order may round apart.
        assert_same(arrays(changed), arrays(expected))
    batches = tf.data.Dataset.from_tensors(batch()).repeat(3)
    mapped = batches.enumerate().map(
        lambda step, pair: member.batch(pair[0], pair[1], tf.stack([step, 1])), num_parallel_calls=2
    )
    for step, (inputs, targets) in enumerate(mapped):
        expected = member.batch(*batch(), [step, 1])
        np.testing.assert_allclose(inputs, expected[0], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(targets, expected[1], atol=1e-6)


def test_several_are_applied_in_order_with_seeds_of_their_own():
    crop, image = made("crop(scale=0.5)"), example()
    seeds = augment.seeds([3, 4], 2)
    expected = crop.example(crop.example(image, seeds[0]), seeds[1])
    assert_same(arrays(augment.examples([crop, crop], image, [3, 4])), arrays(expected))
    assert (seeds[0].numpy() != seeds[1].numpy()).any()
    assert_same(arrays(augment.examples([], image, [3, 4])), arrays(image))


@pytest.mark.parametrize("last", [2, tf.int32, tf.int64])
def test_a_seed_is_any_number_of_integers_in_any_form(last):
    step = last if isinstance(last, int) else tf.constant(2, last)
    found = augment.batches([made("mix_up"), made("cut_mix")], *batch(), (0, 1, step))
    expected = augment.batches([made("mix_up"), made("cut_mix")], *batch(), tf.constant([0, 1, 2]))
    for part, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(part, other)
    other = augment.batches([made("mix_up"), made("cut_mix")], *batch(), (0, 2, step))
    assert (other[0].numpy() != found[0].numpy()).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop(scale=0)", "crop.scale is 0.0, expected a fraction in"),
        ("zoom(scale=0.5)", "zoom.scale is 0.5, expected a factor from 1 to 4"),
        ("zoom(ratio=5)", "zoom.ratio is 5.0, expected a factor from 1 to 4"),
        ("rotate(degrees=200)", "rotate.degrees is 200.0, expected an angle from 0 to 180"),
        ("color(contrast=1.5)", "color.contrast is 1.5, expected a fraction from 0 to 1"),
        ("rand_augment(operations=-1)", "rand_augment.operations is -1, expected at least 0"),
        (
            "rand_augment(magnitude=0)",
            "rand_augment.magnitude is 0.0, expected a fraction in",
        ),
        ("erase(scale=1)", "erase.scale is 1.0, expected a fraction of the area"),
        ("mix_up(alpha=-1)", "mix_up.alpha is -1.0, expected at least 0"),
        ("cut_mix(alpha=-1)", "cut_mix.alpha is -1.0, expected at least 0"),
        ("flop", "'flop' is not an Augment; did you mean 'flip'"),
    ],
)
def test_what_makes_no_sense_is_refused_when_written(text, message):
    with pytest.raises(ValueError, match=message):
        made(text)


@pytest.mark.parametrize("name", ["mix_up", "cut_mix"])
def test_only_float_pictures_with_rows_of_targets_can_be_mixed(name):
    inputs, targets = batch()
    with pytest.raises(
        ValueError, match=rf"targets of {name} are int64 \(6,\), expected a float row"
    ):
        made(name).batch(inputs, tf.argmax(targets, axis=1), [0, 0])
    with pytest.raises(ValueError, match=rf"inputs of {name} are dict, expected float pictures"):
        made(name).batch({"tokens": inputs}, targets, [0, 0])


def test_an_example_without_a_picture_is_refused():
    with pytest.raises(ValueError, match="No 'image' to augment; this example has label, text"):
        made("flip").example({"text": tf.constant("a"), "label": tf.constant(1)}, [0, 0])


COS, SIN = np.cos(np.pi / 12), np.sin(np.pi / 12)


@pytest.mark.parametrize(
    ("place", "rows", "shift"),
    [
        (9, [[COS, -SIN], [SIN, COS]], (0, 0)),
        (10, [[1, 0.15], [0, 1]], (0, 0)),
        (11, [[1, 0], [0.15, 1]], (0, 0)),
        (12, np.eye(2), (0.225, 0)),
        (13, np.eye(2), (0, 0.225)),
    ],
)
def test_at_half_the_magnitude_pictures_move_half_as_far_as_the_paper_has_it(place, rows, shift):
    size = np.array([64, 80])
    changed = rand_augment._OPERATIONS[place](example(), tf.constant(0.5))
    before, after = (
        each["boxes"].numpy()[0].reshape(2, 2).mean(axis=0) * size - size / 2
        for each in (example(), changed)
    )
    np.testing.assert_allclose(after, np.array(rows) @ before + shift * size, atol=1e-3)
