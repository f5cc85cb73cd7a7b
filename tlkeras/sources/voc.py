"""VOC: pictures, and an XML file of boxes for each."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

from tlkeras import folders
from tlkeras.boxes.annotations import (
    KINDS,
    Annotated,
    Annotations,
    Box,
    Object,
    Problems,
    collected,
    examined,
)
from tlkeras.boxes.geometry import DIFFICULT
from tlkeras.data import lines, splits
from tlkeras.images import decoding
from tlkeras.source import Source

_PICTURES, _XML, _LISTS = "JPEGImages", "Annotations", "ImageSets/Main"


class VOC(Source, name="voc"):
    """A folder in the layout of Pascal VOC, or pictures with ``.xml`` files of the same names.

    ``JPEGImages``, ``Annotations`` and ``ImageSets/Main`` may lie one folder below. With lists
    ``train.txt``, ``val.txt`` or ``test.txt`` only the pictures in them are taken, in these splits;
    ``trainval.txt`` is for training where there is no ``train.txt``. Without lists, folders of such
    names are the splits.

    Of pictures of one name, a file is of that in folders most like its own; if it fits several, it
    is left out, and so are they. Objects marked as difficult are neither learned nor measured. A
    picture without a file has no object.
    """

    path: Path

    @classmethod
    def owns(cls, folder):
        return _top(folder) is not None

    def title(self):
        return self.path.resolve().name

    def features(self):
        return KINDS

    def classes(self):
        return self._names

    def examples(self):
        return self.between(0, len(self._found.pictures))

    def between(self, start, stop):
        return self._found.between(start, stop)

    def labels(self):
        return self._found.labels()

    def fingerprint(self):
        lists = self._root.glob(f"{_LISTS}/*.txt")
        return self._found.fingerprint([*sorted(self._files.values()), *sorted(lists)])

    def split(self, identity):
        return self._found.split(identity)

    def remarks(self):
        return list(self._found.remarks)

    @property
    def _root(self) -> Path:
        if not self.path.is_dir():
            raise ValueError(folders.missing(self.path))
        return _top(self.path) or self.path

    @functools.cached_property
    def _files(self) -> dict[str, Path]:
        """The XML files by path below `_root`."""
        top = self._root / _XML if (self._root / _XML).is_dir() else self._root
        return {
            file.relative_to(self._root).as_posix(): file
            for file in folders.walk(top, top)
            if file.suffix.lower() == ".xml"
        }

    @functools.cached_property
    def _read(self) -> dict[str, _File]:
        found = collected(_parsed, [*self._files.values()])
        return dict(zip(self._files, found, strict=True))

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        names = {each.name for file in self._read.values() for each in file.objects}
        if not names:
            raise ValueError(f"{self.path} has no object in {len(self._files):,} .xml files.")
        return tuple(sorted(names))

    @functools.cached_property
    def _found(self) -> Annotations:
        problems, numbers = Problems(), {name: place for place, name in enumerate(self._names)}
        top = self._root / _PICTURES if (self._root / _PICTURES).is_dir() else self._root
        pictures = {
            file.relative_to(top).as_posix(): file
            for file in folders.walk(top, top)
            if file.suffix.lower() in decoding.SUFFIXES
        }
        if not pictures:
            raise ValueError(f"{top} has no pictures ({', '.join(decoding.SUFFIXES)}).")
        by_name = _by_name(pictures)
        files, unclear = self._of_pictures(by_name, problems)
        listed = self._listed(by_name, problems)
        found = []
        for identity, file in pictures.items():
            if listed and identity not in listed:
                problems.add("pictures are in no list and left out", identity)
                continue
            read = files.get(identity)
            if read is None and identity in unclear:
                problems.add("pictures whose annotations fit several are left out", identity)
                continue
            if read is None:
                problems.add("pictures have no .xml file, so no object", identity)
            split = listed.get(identity) or splits.of_folders(identity)
            found.append(_annotated(identity, file, split, read, numbers))
        return examined(found, problems)

    def _of_pictures(
        self, by_name: Mapping[str, list[str]], problems: Problems
    ) -> tuple[dict[str, _File], set[str]]:
        """Returns the file of each picture, and the pictures of files that fit several.

        A file is of the picture of its own name, else of the one that it names.
        """
        found: dict[str, _File] = {}
        unclear: set[str] = set()
        fits: list[tuple[int, int, str, str]] = []
        for name, read in self._read.items():
            named = read.picture.replace("\\", "/")
            own = name.removeprefix(f"{_XML}/")
            ways = [_fitting(way, by_name) for way in (_bare(own), _bare(named), named)]
            order, fitting = next(
                ((order, way) for order, way in enumerate(ways) if len(way) == 1), (0, [])
            )
            if fitting:
                fits.append((order, -_alike(_bare(own), _bare(fitting[0]))[0], name, fitting[0]))
            elif several := next(filter(None, ways), None):
                problems.add("annotations fit several pictures and are left out", name)
                unclear.update(several)
            else:
                problems.add("annotations have no picture and are left out", name)
        # Files of the names of pictures come first, and of these those in folders of their names.
        for _, _, name, picture in sorted(fits):
            if picture in found:
                problems.add("annotations are of a picture that has one and are left out", name)
            else:
                found[picture] = self._read[name]
        return found, unclear

    def _listed(self, by_name: Mapping[str, list[str]], problems: Problems) -> dict[str, str]:
        """Returns the split of each picture in a list; none if there are no lists."""
        lists = sorted((self._root / _LISTS).glob("*.txt"))
        named = [(splits.named(file.stem), file) for file in lists]
        if splits.TRAIN not in [split for split, _ in named]:
            # A list of validation, after it, takes its own pictures out of it.
            both = [(splits.TRAIN, file) for file in lists if file.stem == "trainval"]
            named = [*both, *named]
        found: dict[str, str] = {}
        for split, file in named:
            if split is None:
                continue
            for line in lines.whole(file).split("\n"):
                name = line.strip()
                if not name:
                    continue
                match _fitting(name, by_name):
                    case [picture]:
                        found[picture] = split
                    case []:
                        problems.add("listed pictures are not there", f"{name} of {file.name}")
                    case _:
                        problems.add("listed names fit several pictures", f"{name} of {file.name}")
        return found


class _Named(NamedTuple):
    """An object with the name of its class."""

    name: str
    box: Box
    ignored: int


class _File(NamedTuple):
    """What an XML file says: the name of the picture, its size, and the objects."""

    place: str
    picture: str
    size: tuple[float, float]
    objects: list[_Named]


def _annotated(
    identity: str,
    file: Path,
    split: str | None,
    read: _File | None,
    numbers: Mapping[str, int],
) -> Annotated:
    """Returns a picture with what its XML file says; without one it has no object."""
    if read is None:
        return Annotated(identity, file, (), None, split)
    objects = tuple(
        Object(numbers[each.name], each.box, each.ignored, read.place) for each in read.objects
    )
    return Annotated(identity, file, objects, read.size, split)


def _parsed(file: Path) -> _File:
    """Returns what an XML file says.

    Raises:
        ValueError: What is wrong with it.
    """
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}.") from None
    size = tuple(_number(root.find(f"size/{side}"), file, 0.0) for side in ("height", "width"))
    objects = []
    for each in root.iter("object"):
        name = (each.findtext("name") or "").strip()
        if not name:
            raise ValueError(f"{file} has an object without a name.")
        left, top, right, bottom = (
            _number(each.find(f"bndbox/{side}"), file) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        difficult = DIFFICULT if _number(each.find("difficult"), file, 0.0) else 0
        box = (*_counted_from_1(top, bottom), *_counted_from_1(left, right))
        box = (box[0], box[2], box[1], box[3])
        objects.append(_Named(name, box, difficult))
    picture = (root.findtext("filename") or "").strip()
    return _File(file.name, picture, (size[0], size[1]), objects)


def _counted_from_1(low: float, high: float) -> tuple[float, float]:
    """Returns the ends of a side whose pixels count from 1, the last one belonging to it.

    Of two equal corners some tools mean nothing by it, and so does this.
    """
    return (low - (low < high), high - (high < low))


def _number(element: ElementTree.Element | None, file: Path, default: float | None = None) -> float:
    """Returns the number in an element.

    Raises:
        ValueError: There is none, and no default.
    """
    text = "" if element is None else (element.text or "").strip()
    if not text and default is not None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        tag = "a side of a box" if element is None else f"<{element.tag}>"
        raise ValueError(f"{file} has {text!r} as {tag}, expected a number.")
    return number


def _bare(name: str) -> str:
    """Returns the path of a file without suffix; of no path nothing."""
    return PurePosixPath(name).with_suffix("").as_posix() if PurePosixPath(name).name else ""


def _by_name(pictures: Iterable[str]) -> dict[str, list[str]]:
    """Returns pictures by their names without suffix, alone and with the folder that they are in.

    Names of frames are the same in every film, so the folder tells most of them apart at once.
    """
    found: dict[str, list[str]] = {}
    for identity in pictures:
        parts = _bare(identity).split("/")
        for name in {parts[-1], "/".join(parts[-2:])}:
            found.setdefault(name, []).append(identity)
    return found


def _fitting(path: str, by_name: Mapping[str, list[str]]) -> list[str]:
    """Returns the pictures of the name of a path without suffix, in folders most like its own."""
    parts = path.split("/")
    found = by_name.get("/".join(parts[-2:])) or by_name.get(parts[-1], [])
    if len(found) < 2:
        return found
    likeness = {identity: _alike(path, _bare(identity)) for identity in found}
    most = max(likeness.values())
    return [identity for identity in found if likeness[identity] == most]


def _alike(one: str, other: str) -> tuple[int, bool]:
    """Returns how many names two paths share, from their ends on, and whether both are as long."""
    left, right = one.split("/"), other.split("/")
    ends = _shared(left[::-1], right[::-1])
    return ends + _shared(left[:-ends], right[:-ends]), len(left) == len(right)


def _shared(one: list[str], other: list[str]) -> int:
    """Returns how many items two lists begin with alike."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _top(folder: Path) -> Path | None:
    """Returns the folder with `_XML`, this one or the only one in it."""
    inside = folders.inner(folder, folder)
    for each in (folder, *(inside if len(inside) == 1 else ())):
        if (each / _XML).is_dir() and (each / _PICTURES).is_dir():
            return each
    return None
