"""Reads mutated DICOM files: none may crash, hang, or ask for much memory.

    python benchmarks/mutated_scans.py --count=2000

Every file is one that pydicom ships, changed at random by a seed: bits, bytes, lengths, what is
cut off, put in or said twice. All are listed and their first frames read, as the source `dicom`
does. It prints what became of how many, the longest time of a file and the peak of memory.
"""

from __future__ import annotations

import argparse
import collections
import functools
import re
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom

from tlkeras.medical import dicom_file, dicom_picture, screen
from tlkeras.medical.labels import Found
from tlkeras.medical.scans import Listing

_LARGEST = 60_000  # Bytes of a file that is mutated: a change should hit something.
_FRAMES = 3


def originals() -> list[bytes]:
    """Returns the small files that the package pydicom holds and that can be read."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    found = (file for file in sorted(folder.rglob("*")) if file.is_file())
    small = (file for file in found if file.stat().st_size <= _LARGEST)
    return [file.read_bytes() for file in small if outcome(file) == "read"]


def _flip(content: bytearray, random: np.random.Generator) -> None:
    for place in random.integers(0, len(content), random.integers(1, 20)):
        content[place] ^= 1 << int(random.integers(8))


def _write(content: bytearray, random: np.random.Generator) -> None:
    place = int(random.integers(len(content)))
    content[place : place + 4] = random.bytes(4)


def _header(content: bytearray, random: np.random.Generator) -> None:
    """Changes a byte where the header is, not in the pixels."""
    end = max(content.rfind(b"\xe0\x7f\x10\x00"), 200)
    for place in random.integers(128, end, random.integers(1, 6)):
        content[place] = int(random.integers(256))


def _length(content: bytearray, random: np.random.Generator) -> None:
    """Makes a length, or another number, as large as it can be."""
    place = int(random.integers(132, len(content) - 4))
    claimed = (b"\xff\xff\xff\xff", b"\xfe\xff\xff\xff", b"\xff\xff\xff\x7f", b"\xff\xff")
    chosen = claimed[int(random.integers(len(claimed)))]
    content[place : place + len(chosen)] = chosen


def _size(content: bytearray, random: np.random.Generator) -> None:
    """Writes a large number into an element of group 0028, such as Rows."""
    places = [found.start() for found in re.finditer(rb"\x28\x00..US\x02\x00", bytes(content))]
    if places:
        place = places[int(random.integers(len(places)))] + 8
        content[place : place + 2] = int(random.integers(2**16)).to_bytes(2, "little")


def _cut(content: bytearray, random: np.random.Generator) -> None:
    del content[int(random.integers(len(content))) :]


def _drop(content: bytearray, random: np.random.Generator) -> None:
    place = int(random.integers(len(content)))
    del content[place : place + int(random.integers(1, 64))]


def _repeat(content: bytearray, random: np.random.Generator) -> None:
    start, place = random.integers(0, len(content), 2)
    content[place:place] = content[start : start + int(random.integers(1, 2000))]


_CHANGES: list[Callable[[bytearray, np.random.Generator], None]] = [
    *(_flip, _write, _header, _header, _length, _length, _size, _size, _cut, _drop, _repeat),
]


def mutated(number: int) -> bytes:
    """Returns the mutated file of a number, the same on every machine."""
    random, files = np.random.default_rng(number), _originals()
    content = bytearray(files[int(random.integers(len(files)))])
    for _ in range(int(random.integers(1, 4))):
        if len(content) > 200:
            _CHANGES[int(random.integers(len(_CHANGES)))](content, random)
    return bytes(content)


_originals = functools.cache(originals)


def outcome(file: Path) -> str:
    """Returns what becomes of a file: ``read``, or the beginning of what is wrong with it."""
    listing = Listing([file], file.parent, lambda file, names, patients: Found(0, [0]))
    if not listing.entries:
        return "no picture"
    (entry,) = listing.entries
    if entry.problem:
        return _brief(entry.problem)
    try:
        with dicom_file.opened(file) as scan:
            for frame in range(min(scan.frames, _FRAMES)):
                screen.png(dicom_picture.pixels(scan, frame, None, {}))
    except ValueError as error:
        return _brief(f"{error}")
    return "read"


def _brief(told: str) -> str:
    return " ".join(re.sub(r"[\d,.]+", "N", told).split()[:4])


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="The number of the first file.")
    arguments = parser.parse_args()
    outcomes: collections.Counter[str] = collections.Counter()
    before, longest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, (0.0, -1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mutated.dcm"
        for number in range(arguments.first, arguments.first + arguments.count):
            file.write_bytes(mutated(number))
            began = time.perf_counter()
            outcomes[outcome(file)] += 1
            longest = max(longest, (time.perf_counter() - began, number))
    for told, count in outcomes.most_common():
        print(f"{count:6,}  {told}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{arguments.count:,} files; at most {longest[0]:.2f} s (number {longest[1]}); peak of "
        f"memory {peak / 1024:,.0f} MB, {(peak - before) / 1024:,.0f} MB of it for the files"
    )


if __name__ == "__main__":
    main()
