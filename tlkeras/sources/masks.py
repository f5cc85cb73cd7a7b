"""Masks: pictures in one folder, and in another a mask for each, with a class for every pixel."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tlkeras import folders, spec
from tlkeras.data import lines, splits
from tlkeras.images import decoding
from tlkeras.images.masks import IGNORE, nearest
from tlkeras.kinds.image import Image
from tlkeras.kinds.mask import Mask
from tlkeras.source import Source, content, stamp

_BACKGROUND = ("background", "_background_")
_COLUMNS = ("name", "r", "g", "b")
_BINARY = 255  # How black and white files write the second class.

# How many pixels a mask of another size may be off from the shape of its picture.
_ROUNDING = 1


class Masks(Source, name="masks"):
    """Pictures below `images` and masks of the same names below `masks`, at any depth.

    A mask may add an ending to the name of its picture, ``1_mask.png``, the same for all; `endings`
    choose one of several. Folders train, val and test in `images` are the user's splits. If
    `images` and `masks` are one folder, the masks of ``train`` lie in ``train_labels``, or another
    name that begins with that, unless `endings` tell them apart. A mask is a grey file of 8 or 16
    bits or one with a palette, and holds numbers; with `colours` it holds colours. One of another
    size than its picture but of the same shape is resized. Ids are paths below `images`.
    """

    images: Path
    masks: Path
    names: tuple[str, ...] = ()
    """The names of the numbers 0, 1, 2 …; 'background' in front says that 0 is of no class."""
    ignore: int | str | None = 255
    """The number of pixels that nothing is said about, or a name among the others."""
    colours: Path | None = None
    """A table with a header, name,r,g,b, in place of `names`: the colour of every class."""
    instances: bool = False
    """Whether numbers from 1 on are objects of one class, such as 1, 2, 3 for three people."""
    endings: tuple[str, str] = ("", "")
    """How the names of pictures and of masks end, without suffix, behind what both share, such as
    ('_leftImg8bit', '_gtFine_labelTrainIds'). Files of other endings are left out."""

    def validate(self):
        if bool(self.names) == bool(self.colours):
            raise ValueError(
                "masks needs names, such as names=('background', 'person'), or the table colours, "
                "and not both."
            )
        self.require(len({*self.names}) == len(self.names), "names", "distinct names")
        self.require(len(self.names) <= IGNORE, "names", f"at most {IGNORE} names")
        if self.instances and (self.colours or len(self.names) != 2):
            raise ValueError(
                "masks.instances needs two names, that of 0 and that of all other numbers."
            )
        if self.names and isinstance(self.ignore, str):
            self.require(self.ignore in self.names, "ignore", f"one of {', '.join(self.names)}")

    def title(self):
        images = self.images.resolve()
        return images.parent.name if images.name.lower() in ("images", "img") else images.name

    def features(self):
        return {"image": Image(), "mask": Mask(background=self._code.has_background)}

    def classes(self):
        return self._code.classes

    def examples(self):
        return self.between(0, len(self._listed))

    def between(self, start, stop):
        for pair in self._listed[start:stop]:
            picture = content(Image(), pair.picture)
            mask = decoding.mask_file(_fitted(pair, self._numbers(pair), picture))
            yield pair.identity, {"image": picture, "mask": mask}

    def labels(self):
        """Yields the classes of every mask; all masks that cannot be used are in one message."""
        kind, broken, pure = self.features()["mask"], [], True
        for pair in self._listed:
            try:
                numbers = self._numbers(pair)
            except ValueError as error:
                broken.append(f"{error}")
                continue
            present = np.unique(numbers)
            pure &= set(present.tolist()) <= {0, IGNORE} and IGNORE in present
            yield pair.identity, kind.classes_in(decoding.mask_file(present[None]))
        if broken:
            raise ValueError(
                f"{len(broken):,} of {len(self._listed):,} masks cannot be used:\n  "
                + spec.listed(broken, separator="\n  ")
            )
        if pure and len(self.names) == 2 and self.ignore == _BINARY:
            raise ValueError(
                f"The masks in {self.masks} hold 0 and {_BINARY} alone, and masks.ignore is "
                f"{_BINARY}. If {_BINARY} is {self.names[1]!r}, give ignore=None."
            )

    def fingerprint(self):
        pairs, alone, unused = self._pairs
        files = [
            *((pair.identity, pair.picture) for pair in pairs),
            *((pair.mask.relative_to(self.masks).as_posix(), pair.mask) for pair in pairs),
            *([(self.colours.name, self.colours)] if self.colours else []),
        ]
        return stamp(files, [*alone, *unused])

    def split(self, identity):
        return splits.of_folders(identity)

    def remarks(self):
        _, alone, unused = self._pairs
        told = []
        if alone:
            told.append(
                f"{len(alone):,} pictures in {self.images} have no mask in {self.masks} and are "
                f"left out: {spec.listed(alone)}."
            )
        if unused:
            told.append(
                f"{len(unused):,} masks in {self.masks} have no picture in {self.images} and are "
                f"left out: {spec.listed(unused)}."
            )
        return told

    @property
    def _listed(self) -> list[_Pair]:
        return self._pairs[0]

    @functools.cached_property
    def _code(self) -> _Code:
        """What the numbers or colours of the masks stand for."""
        named = [*self._colours] if self.colours else list(self.names)
        if self.colours and isinstance(self.ignore, str) and self.ignore not in named:
            raise ValueError(
                f"masks.ignore is {self.ignore!r}; {spec.nearest(self.ignore, named)} "
                f"{self.colours} has {', '.join(named)}."
            )
        ignored = {self.ignore} & {*named}
        # In colours any row may be the background, of numbers only 0.
        candidates = named if self.colours else named[:1]
        background = {name for name in candidates if name.lower() in _BACKGROUND} - ignored
        classes = tuple(name for name in named if name not in background | ignored)
        first = len(background) > 0
        numbers = {name: place + first for place, name in enumerate(classes)}
        numbers |= dict.fromkeys(background, 0) | dict.fromkeys(ignored, IGNORE)
        return _Code([numbers[name] for name in named], classes, first)

    @functools.cached_property
    def _colours(self) -> dict[str, tuple[int, ...]]:
        return _table(self.colours) if self.colours else {}

    @functools.cached_property
    def _pairs(self) -> tuple[list[_Pair], list[str], list[str]]:
        """The pictures with masks, pictures without, and masks without, by name."""
        pictures, masks = _found(self.images), _found(self.masks)
        if any(self.endings):
            masks = _without(self.endings[1], masks, [])
            pictures = _without(self.endings[0], pictures, masks.values())
        elif self.images.absolute() == self.masks.absolute():
            pictures, masks = _beside(pictures, self.images)
        if not any(self.endings) and not pictures.keys() & masks.keys():
            masks = self._of_one_ending(pictures, masks)
        pairs, alone = [], []
        for name, file in pictures.items():
            identity = file.relative_to(self.images).as_posix()
            if mask := masks.pop(name, None):
                pairs.append(_Pair(identity, file, mask))
            else:
                alone.append(identity)
        unused = [file.relative_to(self.masks).as_posix() for file in masks.values()]
        if not pairs:
            raise ValueError(
                f"No picture in {self.images} has a mask of its name in {self.masks}: "
                f"{spec.listed(alone) or 'no pictures'}; {spec.listed(unused) or 'no masks'}. If "
                "their names end differently, give both ends: endings=('_image', '_mask')."
            )
        return pairs, alone, unused

    def _of_one_ending(self, pictures: dict[str, Path], masks: dict[str, Path]) -> dict[str, Path]:
        """Returns masks by the names of their pictures, to which all of them add one ending.

        Raises:
            ValueError: Masks fit the pictures by several endings.
        """
        found = {_ending(name, pictures) for name in masks} - {""}
        # That of 1_2_mask, with no picture 1_2, is not one more ending of picture 1; nor is that of
        # 1_mask_2, a second mask beside 1_mask.
        ends = sorted(
            each
            for each in found
            if not any(
                each != end and (each.endswith(end) or each.startswith(end)) for end in found
            )
        )
        if len(ends) > 1:
            raise ValueError(
                f"Masks in {self.masks} fit the pictures by several endings, {spec.listed(ends)}; "
                f"choose one, as in endings=('', {ends[0]!r})."
            )
        ending = "".join(ends)
        return {
            (name.removesuffix(ending) if name.removesuffix(ending) in pictures else name): file
            for name, file in masks.items()
        }

    def _numbers(self, pair: _Pair) -> np.ndarray:
        """Returns the numbers of a mask as `features` has them, uint8 [h, w], of its own size.

        Raises:
            ValueError: The file and what is wrong with it.
        """
        encoded = content(Mask(), pair.mask)
        try:
            return self._of_colours(encoded) if self.colours else self._of_numbers(encoded)
        except ValueError as error:
            raise ValueError(f"{pair.mask} {error}") from None

    def _of_numbers(self, encoded: bytes) -> np.ndarray:
        try:
            values = decoding.mask_numbers(encoded)
        except ValueError as error:
            hint = "; give the table colours" if "in colour" in str(error) else ""
            raise ValueError(f"{error}{hint}") from None
        ignored = values == self.ignore
        if self.instances:
            values = np.where(ignored, 0, values > 0)
        elif len(self.names) == 2 and self.ignore != _BINARY and values.max() == _BINARY:
            values = np.where(values == _BINARY, 1, np.where(values == 1, -1, values))
        wrong = values[((values < 0) | (values >= len(self.names))) & ~ignored]
        if wrong.size:
            raise ValueError(
                f"has the number {wrong.max()}, expected 0 to {len(self.names) - 1} for "
                f"{spec.listed(self.names)}, or {self.ignore} for what is ignored"
            )
        codes = np.array(self._code.numbers, np.uint8)
        return np.where(ignored, IGNORE, codes[np.where(ignored, 0, values)]).astype(np.uint8)

    def _of_colours(self, encoded: bytes) -> np.ndarray:
        colours = _joined(decoding.mask_colours(encoded))
        known = _joined(np.array([*self._colours.values()], np.uint8))
        order = known.argsort()
        place = order[np.searchsorted(known[order], colours).clip(max=len(known) - 1)]
        wrong = colours[known[place] != colours]
        if wrong.size:
            number = int(wrong[0])
            raise ValueError(
                f"has the colour {number >> 16},{number >> 8 & 255},{number & 255} at "
                f"{wrong.size:,} of {colours.size:,} pixels, and {self.colours} has not"
            )
        return np.array(self._code.numbers, np.uint8)[place]


class _Pair(NamedTuple):
    """A picture and its mask."""

    identity: str
    picture: Path
    mask: Path


class _Code(NamedTuple):
    """What the numbers of masks stand for.

    Attributes:
        numbers: Of every name, the value that `examples` yields.
        classes: The names of the classes.
        has_background: Whether 0 is the value of pixels of no class.
    """

    numbers: list[int]
    classes: tuple[str, ...]
    has_background: bool


def _found(folder: Path) -> dict[str, Path]:
    """Returns the pictures of a folder by their paths below it without suffix."""
    if not folder.is_dir():
        raise ValueError(folders.missing(folder))
    files = folders.walk(folder, folder)
    pictures = (each for each in files if each.suffix.lower() in decoding.SUFFIXES)
    return folders.by_name((each for each in pictures if each.is_file()), folder)


def _beside(found: dict[str, Path], folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Returns pictures and masks of one folder, both by the path that the picture has or had.

    Raises:
        ValueError: No folder in it has a name that begins with that of another.
    """
    tops = {name.split("/")[0] for name in found if "/" in name}
    owners = {top: own for top in tops for own in tops if top != own and top.startswith(own)}
    if not owners:
        raise ValueError(
            f"masks.images and masks.masks are one folder, {folder}, expected two, or in it such "
            f"as train and train_labels; it has {spec.listed(sorted(tops)) or 'no folders'}."
        )
    pictures, masks = {}, {}
    for name, file in found.items():
        top, _, rest = name.partition("/")
        if top in owners:
            masks[f"{owners[top]}/{rest}"] = file
        else:
            pictures[name] = file
    return pictures, masks


def _without(ending: str, found: dict[str, Path], others: Collection[Path]) -> dict[str, Path]:
    """Returns the files whose names have an ending, by their names without it; none of others."""
    taken = {*others}
    return {
        name.removesuffix(ending): file
        for name, file in found.items()
        if name.endswith(ending) and file not in taken
    }


def _ending(name: str, pictures: Collection[str]) -> str:
    """Returns what follows in the name of a mask on the longest name of a picture, if any does."""
    # A letter or digit after the name is that of another picture, 10 after 1.
    ends = (end for end in range(len(name) - 1, 0, -1) if not name[end].isalnum())
    return next((name[end:] for end in ends if name[:end] in pictures), "")


def _table(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the colours in a table by name.

    Raises:
        ValueError: The line that is wrong and why.
    """
    if not path.is_file():
        raise ValueError(folders.missing(path))
    rows = list(csv.DictReader(io.StringIO(lines.whole(path)), skipinitialspace=True))
    header = {(name or "").strip().lower(): name for name in (rows[0] if rows else {})}
    if missing := [name for name in _COLUMNS if name not in header]:
        raise ValueError(
            f"{path} has no column {missing[0]!r} or no row, expected {','.join(_COLUMNS)}."
        )
    found: dict[str, tuple[int, ...]] = {}
    for line, row in enumerate(rows, start=2):
        name, *cells = ((row[header[column]] or "").strip() for column in _COLUMNS)
        if not all(cell.isdecimal() and int(cell) <= 255 for cell in cells):
            raise ValueError(f"{path} line {line} has the colour {','.join(cells)}.")
        colour = tuple(map(int, cells))
        if name in found or colour in found.values():
            raise ValueError(f"{path} line {line} has a name or colour of an earlier line: {name}.")
        found[name] = colour
    return found


def _joined(colours: np.ndarray) -> np.ndarray:
    """Returns one number for each colour of [..., 3]."""
    return colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def _fitted(pair: _Pair, mask: np.ndarray, picture: bytes) -> np.ndarray:
    """Returns a mask turned as its picture, and of its size.

    Raises:
        ValueError: The two are of different shapes.
    """
    try:
        size = decoding.upright_size(picture)
    except ValueError:
        return mask  # Ingest names the picture, and all others that are broken.
    mask = decoding.turned(picture, mask)
    if mask.shape == size:
        return mask
    scale = max(mask.shape) / max(size)
    off = max(abs(own - scale * side) for own, side in zip(mask.shape, size, strict=True))
    # Both sides of the smaller one are whole numbers of pixels.
    if off > _ROUNDING * max(1.0, scale):
        height, width = size
        raise ValueError(
            f"{pair.mask} has {mask.shape[1]} x {mask.shape[0]} pixels, its picture "
            f"{pair.picture} has {width} x {height}; expected the same shape."
        )
    return nearest(mask, size)
