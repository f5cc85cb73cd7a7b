"""Drawing: pictures of textured, coloured shapes on clouds, a function of seed and index.

Every shape is one polygon in the unit circle, so one affine map places it, its box and its mask.
Polygons are drawn at four times the size and averaged down, which smooths their edges.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_FINER = 4
_TRIES = 20

COLOURS = {
    "black": (28, 28, 34),
    "blue": (38, 84, 214),
    "brown": (124, 74, 36),
    "cyan": (44, 196, 214),
    "green": (42, 158, 66),
    "orange": (244, 134, 24),
    "pink": (246, 126, 184),
    "purple": (130, 52, 184),
    "red": (214, 36, 42),
    "white": (244, 244, 240),
    "yellow": (250, 214, 36),
}
"""The colours of objects, RGB, in the order of names."""


@dataclasses.dataclass(frozen=True)
class Drawing:
    """One picture and its annotations.

    Attributes:
        image: JPEG, RGB, [size, size].
        caption: The main object in words, ``a striped red star``.
        boxes: (top, left, bottom, right) in [0, 1] of every object, the main one first.
        labels: The shape of every object, an index into `SHAPES`.
        mask: PNG, grey: 0 is the background, 1 + label an object.
    """

    image: bytes
    caption: str
    boxes: list[tuple[float, float, float, float]]
    labels: list[int]
    mask: bytes


def main_label(index: int) -> int:
    """Returns the shape of the main object; shapes take turns, so classes have equal size."""
    return index % len(SHAPES)


def draw(
    seed: int,
    index: int,
    size: int,
    main: tuple[str, str] | None = None,
    shift: str = "none",
) -> Drawing:
    """Returns the picture of an index: one large object and up to three small ones beside it.

    `main` is the colour and the texture of the large one, where they are not drawn by lot. A
    `shift` of `SHIFTS` is made of the whole picture; caption, boxes and mask know nothing of it.
    """
    random = np.random.default_rng((seed, index))
    canvas = _ground(random, size)
    mask = np.zeros([size, size], np.uint8)
    placed: list[_Placed] = []
    for number in range(1 + random.integers(4)):
        label = int(random.integers(len(SHAPES))) if number else main_label(index)
        radius = random.uniform(0.09, 0.14) if number else random.uniform(0.24, 0.34)
        if (spot := _free_spot(random, radius, placed)) is not None:
            placed.append(_Placed(label, radius, *spot, random.uniform(0, 2 * math.pi)))
    captions = []
    for thing in placed:
        colour, texture = (str(random.choice([*names])) for names in (COLOURS, TEXTURES))
        if main and not captions:
            colour, texture = main
        captions.append(f"a {texture} {colour} {[*SHAPES][thing.label]}")
        frame = _Frame(thing, size)
        cover = frame.cover()
        paint = _painted(random, frame, colour, texture)
        part = canvas[frame.rows, frame.columns]
        part *= 1 - 0.45 * _shadow(cover, size)[..., None]
        part += cover[..., None] * (paint - part)
        mask[frame.rows, frame.columns][cover > 0.5] = 1 + thing.label
    canvas += 3 * random.standard_normal(canvas.shape, np.float32)
    pixels = SHIFTS[shift](canvas.clip(0, 255).astype(np.uint8))
    return Drawing(
        image=_encoded(pixels, "JPEG", quality=92, subsampling=0),
        caption=captions[0],
        boxes=[thing.box() for thing in placed],
        labels=[thing.label for thing in placed],
        mask=_encoded(mask, "PNG"),
    )


@dataclasses.dataclass(frozen=True)
class _Placed:
    """A shape at its place: radius and centre as fractions of the picture's side, and an angle."""

    label: int
    radius: float
    x: float
    y: float
    angle: float

    def points(self) -> np.ndarray:
        """Returns the corners, [n, 2], as (x, y) in [0, 1]."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        rotated = [*SHAPES.values()][self.label] @ np.array([[cos, sin], [-sin, cos]])
        return rotated * self.radius + (self.x, self.y)

    def box(self) -> tuple[float, float, float, float]:
        (left, top), (right, bottom) = self.points().min(axis=0), self.points().max(axis=0)
        return float(top), float(left), float(bottom), float(right)


class _Frame:
    """The part of a canvas of side `size` with a shape and its shadow."""

    def __init__(self, thing: _Placed, size: int) -> None:
        reach = thing.radius * 1.05 + 0.08
        self.thing, self.size = thing, size
        self.rows = slice(max(0, int((thing.y - reach) * size)), int((thing.y + reach) * size))
        self.columns = slice(max(0, int((thing.x - reach) * size)), int((thing.x + reach) * size))
        self._x = (np.arange(size, dtype=np.float32)[self.columns] + 0.5) / size
        self._y = (np.arange(size, dtype=np.float32)[self.rows] + 0.5) / size

    def cover(self) -> np.ndarray:
        """Returns the fraction of each pixel that the shape covers, float32 [h, w] in [0, 1]."""
        image = Image.new("L", (len(self._x) * _FINER, len(self._y) * _FINER))
        corner = (self.columns.start, self.rows.start)
        points = (self.thing.points() * self.size - corner) * _FINER
        ImageDraw.Draw(image).polygon([tuple(point) for point in points], fill=255)
        return np.asarray(image.reduce(_FINER), np.float32) / 255

    def within(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the coordinates of each pixel in the shape's own axes, radius 1."""
        x = (self._x[None, :] - self.thing.x) / self.thing.radius
        y = (self._y[:, None] - self.thing.y) / self.thing.radius
        cos, sin = math.cos(self.thing.angle), math.sin(self.thing.angle)
        return x * cos + y * sin, y * cos - x * sin


def _free_spot(
    random: np.random.Generator, radius: float, placed: list[_Placed]
) -> tuple[float, float] | None:
    """Returns a centre for a circle inside of the picture and apart from all others."""
    for _ in range(_TRIES):
        x, y = random.uniform(radius + 0.02, 0.98 - radius, 2)
        if all(math.hypot(x - o.x, y - o.y) > radius + o.radius + 0.02 for o in placed):
            return float(x), float(y)
    return None


def _ground(random: np.random.Generator, size: int) -> np.ndarray:
    """Returns clouds of muted colour, the finer the weaker: float32 [size, size, 3]."""
    base = random.uniform(90, 170) + random.normal(0, 14, 3)
    canvas = np.broadcast_to(base.astype(np.float32), [size, size, 3]).copy()
    for cells, strength, channels in ((2, 34, 1), (3, 12, 3), (7, 12, 1), (20, 8, 1)):
        coarse = random.normal(0, strength, [channels, cells, cells]).astype(np.float32)
        layers = [
            np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC))
            for plane in coarse
        ]
        canvas += np.stack(layers, axis=-1)
    return canvas


def _shadow(cover: np.ndarray, size: int) -> np.ndarray:
    shade = Image.fromarray((cover * 255).astype(np.uint8))
    shade = shade.filter(ImageFilter.GaussianBlur(size / 50))
    away = (1, 0, -size / 60, 0, 1, -size / 45)
    shade = shade.transform(shade.size, Image.Transform.AFFINE, away)
    return np.asarray(shade, np.float32) / 255


def _painted(random: np.random.Generator, frame: _Frame, colour: str, texture: str) -> np.ndarray:
    """Returns the colours of the shape's surface over its whole frame, [h, w, 3]."""
    first = np.array(COLOURS[colour], np.float32) + random.normal(0, 9, 3)
    # The second colour has the same hue and is darker, or lighter if the first is dark.
    second = first * 0.42 if first.mean() > 110 else first + (235 - first) * 0.62
    u, v = frame.within()
    share = TEXTURES[texture](random, u, v)[..., None]
    down = u * math.sin(frame.thing.angle) + v * math.cos(frame.thing.angle)
    return (first + share * (second - first)) * (1.06 - 0.16 * down[..., None])


def _solid(random: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.zeros_like(u)


def _striped(random: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _edge(np.sin(u * random.uniform(7, 10)))


def _dotted(random: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    pitch = random.uniform(7.5, 9.5)
    return _edge(np.cos(u * pitch) + np.cos(v * pitch) - 0.75)


def _checkered(random: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    pitch = random.uniform(5.5, 7.5)
    return _edge(np.sin(u * pitch) * np.sin(v * pitch) * 3)


def _speckled(random: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    grain = Image.fromarray(random.normal(0, 1, [24, 24]).astype(np.float32))
    wide = grain.resize(u.shape[::-1], Image.Resampling.BICUBIC)
    return _edge(np.asarray(wide) - 0.35)


def _edge(height: np.ndarray) -> np.ndarray:
    """Returns 1 for heights above 0 and 0 for those below, with a soft edge."""
    return (0.5 + 2.5 * height).clip(0, 1)


TEXTURES: dict[str, Callable[..., np.ndarray]] = {
    "checkered": _checkered,
    "dotted": _dotted,
    "solid": _solid,
    "speckled": _speckled,
    "striped": _striped,
}
"""The textures of objects, in the order of names."""


def _arc(start: float, end: float, radius: float = 1.0, x: float = 0.0) -> np.ndarray:
    """Returns points on a circle around (x, 0), angles in degrees."""
    angles = np.radians(np.linspace(start, end, 65))
    return np.stack([x + radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _regular(corners: int, inner: float = 0.0) -> np.ndarray:
    """Returns a regular polygon, or a star if its inner corners have a radius."""
    step = 1 if inner else 2
    angles = np.arange(0, 2 * corners, step) * math.pi / corners - math.pi / 2
    radii = np.where(np.arange(len(angles)) % 2, inner, 1.0) if inner else np.ones(len(angles))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, 97)
    x = 16 * np.sin(t) ** 3
    y = -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)
    return np.stack([x, y], axis=1) / 17.5


def _cross() -> np.ndarray:
    arm = np.array([(0.3, -0.3), (0.95, -0.3), (0.95, 0.3)])
    quarter = np.array([[0, 1], [-1, 0]])
    return np.concatenate([arm @ np.linalg.matrix_power(quarter, turns) for turns in range(4)])


SHAPES: dict[str, np.ndarray] = {
    "arrow": np.array(
        [(1, 0), (0.2, -0.7), (0.2, -0.28), (-0.95, -0.28), (-0.95, 0.28), (0.2, 0.28), (0.2, 0.7)]
    ),
    "circle": _arc(0, 360) * 0.92,
    "crescent": np.concatenate([_arc(50, 310), _arc(298, 62, radius=0.86, x=0.24)]),
    "cross": _cross(),
    "ellipse": _arc(0, 360) * (1, 0.5),
    "heart": _heart(),
    "hexagon": _regular(6),
    "ring": np.concatenate([_arc(0, 360), _arc(360, 0, radius=0.55)]) * 0.95,
    "semicircle": (_arc(0, 180) - (0, 0.4)) * 0.92,
    "square": _regular(4),
    "star": _regular(5, inner=0.42),
    "triangle": _regular(3),
}
"""The corners of every shape, [n, 2], y downwards; labels follow the order of names."""


def _grey(pixels: np.ndarray) -> np.ndarray:
    """Returns the same picture without colours, [h, w, 3]."""
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def _blurred(pixels: np.ndarray) -> np.ndarray:
    """Returns the same picture as an unsharp lens would show it."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(len(pixels) / 50)))


SHIFTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda pixels: pixels,
    "blurred": _blurred,
    "grey": _grey,
    "inverted": lambda pixels: 255 - pixels,
}
"""Changes of whole pictures, uint8 [h, w, 3], that make another domain of the same shapes."""


def _encoded(pixels: np.ndarray, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
