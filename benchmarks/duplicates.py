"""Near copies: which changes of real pictures and texts are found, and what is taken for a copy.

    python benchmarks/duplicates.py --images=IMAGES --texts=TEXTS

IMAGES and TEXTS are the folders of data sets. Prints three tables: the share of changed copies that
are found (recall) with the share of all found pairs that are copies or look alike (precision); the
same for texts; and the time and memory of the search among made-up hashes. The pairs are those that
connect a group: of three copies two pairs. Two different pictures
look alike if their grey values at 32 x 32 correlate by 0.9; such pairs are in the data as they are.
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from tlkeras.doctor import hashes, sketches
from tlkeras.doctor.sets import Sets
from tlkeras.kind import Kind
from tlkeras.kinds.image import Image as ImageKind
from tlkeras.kinds.text import Text

PICTURES = ("flower_photos", "dogcat", "brain_tumor_mri", "hymenoptera")
TEXTS = {"sst2": ("*train*", " "), "ag_news": ("*.tsv", "\t"), "sms_spam": ("*", "\t")}
"""By the name of a set its file, and what stands between a label and a text."""
ROWS = (1_000, 10_000, 50_000)
ALIKE = 0.9

Change = Callable[[Image.Image, random.Random], Image.Image]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Which near copies are found.")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--count", type=int, default=150, help="Changed copies of each set.")
    parser.add_argument("--others", type=int, default=1_000, help="Originals of each set.")
    options = parser.parse_args()
    if options.images:
        pictures(options.images, options.count, options.others)
    if options.texts:
        texts(options.texts, options.count, options.others)
    scale()


def pictures(folder: Path, count: int, others: int) -> None:
    """Prints a row for every change and a column for every set of pictures."""
    columns = []
    for name in PICTURES:
        files = sorted(x for x in (folder / name).rglob("*") if x.suffix in (".jpg", ".png"))
        random.Random(0).shuffle(files)
        columns.append([*_of_pictures(files[:others], count)])
    print("| change | " + " | ".join(PICTURES) + " |")
    for row, change in enumerate(("none", *CHANGES)):
        print(f"| {change} | " + " | ".join(column[row] for column in columns) + " |")


def _of_pictures(files: Sequence[Path], count: int) -> Iterator[str]:
    greys = []
    for file in files:
        with Image.open(file) as image:
            greys.append(image.convert("RGB"))
    known = [hashes.picture(image.convert("L")) for image in greys]
    small = np.stack([_small(image) for image in greys])
    own = _pairs(ImageKind(), known)
    alike = sum(small[i] @ small[j] >= ALIKE for i, j in own)
    yield f"{len(own)} pairs, {alike} alike"
    for change in CHANGES.values():
        chosen = random.Random(1)
        changed = [change(image, chosen) for image in greys[:count]]
        rows = [*known, *(hashes.picture(image.convert("L")) for image in changed)]
        look = np.concatenate([small, np.stack([_small(image) for image in changed])])
        yield _judged(_pairs(ImageKind(), rows), len(known), len(changed), look)


def _judged(pairs: set[tuple[int, int]], first: int, count: int, look: np.ndarray) -> str:
    """Returns recall, and precision among the pairs in which a copy is."""
    found = _together(pairs, first, count)
    with_copy = [(i, j) for i, j in pairs if j >= first]
    right = sum(j - first == i or look[i] @ look[j] >= ALIKE for i, j in with_copy)
    return f"{found / count:.3f} ({right / max(len(with_copy), 1):.3f})"


def _together(pairs: set[tuple[int, int]], first: int, count: int) -> int:
    """Returns how many of the copies, rows from `first` on, are in the group of their originals."""
    sets = Sets()
    for one, other in pairs:
        sets.join(one, other)
    return sum(sets.root(number) == sets.root(first + number) for number in range(count))


def _small(image: Image.Image) -> np.ndarray:
    """Returns the grey values of a small copy, of mean 0 and length 1."""
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), np.float64)
    grey = (grey - grey.mean()).ravel()
    return grey / max(float(np.linalg.norm(grey)), 1e-9)


def _pairs(kind: Kind, found: Sequence[str]) -> set[tuple[int, int]]:
    """Returns the pairs of near copies, the first number the smaller."""
    rows = [number for number, each in enumerate(found) if each]
    if not rows:
        return set()
    held = np.stack([np.frombuffer(bytes.fromhex(found[row]), np.uint8) for row in rows])
    pairs = kind.copies(held[:, None])
    return {(min(i, j), max(i, j)) for i, j in ((rows[a], rows[b]) for a, b, _ in pairs)}


def _jpeg(quality: int) -> Change:
    def change(image: Image.Image, chosen: random.Random) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return change


def _resize(factor: float) -> Change:
    def change(image: Image.Image, chosen: random.Random) -> Image.Image:
        size = (round(image.width * factor), round(image.height * factor))
        return image.resize(size, Image.Resampling.BICUBIC)

    return change


def _crop(share: float) -> Change:
    """Returns the change that cuts a share of the height and of the width, at random places."""

    def change(image: Image.Image, chosen: random.Random) -> Image.Image:
        width, height = round(image.width * (1 - share)), round(image.height * (1 - share))
        left, top = (
            chosen.randint(0, image.width - width),
            chosen.randint(0, image.height - height),
        )
        return image.crop((left, top, left + width, top + height))

    return change


def _brightness(factor: float) -> Change:
    return lambda image, chosen: ImageEnhance.Brightness(image).enhance(factor)


CHANGES: dict[str, Change] = {
    **{f"JPEG {quality}": _jpeg(quality) for quality in (30, 50, 70, 90)},
    **{f"size x {factor}": _resize(factor) for factor in (0.5, 0.75, 1.5, 2)},
    **{f"crop {share:.0%}": _crop(share) for share in (0.02, 0.05, 0.1)},
    **{f"brightness x {factor}": _brightness(factor) for factor in (0.8, 1.2, 1.5)},
    "grey": lambda image, chosen: ImageOps.grayscale(image),
    "mirrored": lambda image, chosen: ImageOps.mirror(image),
    "turned by 90": lambda image, chosen: image.rotate(90, expand=True),
}


def texts(folder: Path, count: int, others: int) -> None:
    """Prints a row for every change and a column for every set of texts."""
    columns = []
    for name, (pattern, between) in TEXTS.items():
        file = next(x for x in sorted((folder / name).glob(pattern)) if "README" not in x.name)
        lines = [*dict.fromkeys(file.read_text("utf-8", "replace").splitlines())]
        # The longer part of a line is the text, the other one its label.
        found = [max(line.split(between, 1), key=len).strip() for line in lines]
        found = [each for each in found if len(each.split()) >= 5]
        random.Random(0).shuffle(found)
        columns.append([*_of_texts(found[:others], count)])
    print("| change | " + " | ".join(TEXTS) + " |")
    for row, change in enumerate(("none", *REWORDED)):
        print(f"| {change} | " + " | ".join(column[row] for column in columns) + " |")


def _of_texts(found: Sequence[str], count: int) -> Iterator[str]:
    known = [sketches.sketch(text) for text in found]
    own = _pairs(Text(), known)
    yield f"{len(own)} pairs"
    for change in REWORDED.values():
        chosen = random.Random(1)
        changed = [change(text.split(), chosen) for text in found[:count]]
        pairs = _pairs(Text(), [*known, *map(sketches.sketch, changed)])
        hits = _together(pairs, len(known), len(changed))
        right = [j - i == len(known) for i, j in pairs if j >= len(known)]
        yield f"{hits / len(changed):.3f} ({sum(right) / max(len(right), 1):.3f})"


def _without(words: list[str], share: float, chosen: random.Random) -> str:
    return " ".join(word for word in words if chosen.random() >= share)


REWORDED: dict[str, Callable[[list[str], random.Random], str]] = {
    "capitals": lambda words, chosen: " ".join(words).upper(),
    "white space": lambda words, chosen: "\n  ".join(words),
    "a full stop more": lambda words, chosen: " ".join(words) + ".",
    "2 % of the words lost": lambda words, chosen: _without(words, 0.02, chosen),
    "5 % of the words lost": lambda words, chosen: _without(words, 0.05, chosen),
    "10 % of the words lost": lambda words, chosen: _without(words, 0.1, chosen),
    "the last tenth cut": lambda words, chosen: " ".join(words[: -max(1, len(words) // 10)]),
    "words shuffled": lambda words, chosen: " ".join(chosen.sample(words, len(words))),
}


def scale() -> None:
    """Prints the time and the memory of the search among random hashes, one in ten a copy."""
    print("| rows | pictures, s | texts, s | memory, MB |")
    for rows in ROWS:
        random_numbers = np.random.default_rng(0)
        seconds = []
        for kind, size in ((ImageKind(), 33), (Text(), 256)):
            held = random_numbers.integers(0, 256, (rows, 1, size), np.uint8)
            held[:, :, 0] &= 1
            held[: rows // 10] = held[rows // 10 : 2 * (rows // 10)]
            began = time.process_time()
            assert sum(1 for _ in kind.copies(held)) >= rows // 10
            seconds.append(time.process_time() - began)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"| {rows:,} | {seconds[0]:.2f} | {seconds[1]:.2f} | {memory:,.0f} |")


if __name__ == "__main__":
    main()
