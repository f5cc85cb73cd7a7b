"""Volumes: slices of NIfTI files, turned so that all patients lie alike.

The stored order and direction of the axes are those of the scanner or of the program before. Here a
slice has the patient's right, or front, on its left, and the front, or head, at its top, as
radiologists look at it. Source: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h.
"""

from __future__ import annotations

import functools
import gzip
import io
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.doctor.defects import Unusable
from tlkeras.medical import screen

SUFFIXES = (".nii", ".nii.gz")
"""The endings of NIfTI files, in lower case."""

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The axis that slices stand across: from left to right, back to front, feet to head."""

# A packed volume is in memory as a whole while its slices are read.
_MOST_PACKED = 2**29

_HEADER = 540  # Bytes of that of NIfTI-2, the longer one.

# So many bytes may stand before the values of a packed file, which nibabel reads to the memory.
_MOST_BEFORE = 2**24

# Values of a slice: as many as of a frame of DICOM.
_MOST = 2**25


class Volume:
    """An open NIfTI file.

    Attributes:
        slices: How many there are across the axis.
        shown: The range of values that its header says to show, if any.
    """

    def __init__(self, file: Path, axis: str) -> None:
        """Reads the header.

        Raises:
            Unusable: What is wrong with the file, as it follows its name.
        """
        nibabel = library()
        if not file.stat().st_size:
            raise Unusable("empty file", "is an empty file")
        try:
            if _is_packed(file):
                _require_small_head(file)
            image: Any = nibabel.load(file)
            places = nibabel.io_orientation(image.affine)
            header, self._data = image.header, image.dataobj
            sides, self._kind = tuple(map(int, image.shape)), image.get_data_dtype()
            self._sizes = [float(size) for size in header.get_zooms()[:3]]
            low, high = float(header["cal_min"]), float(header["cal_max"])
        except Unusable:
            raise
        except Exception as error:  # A damaged file makes nibabel raise nearly anything.
            raise Unusable(
                "damaged", f"is no NIfTI file that can be read ({type(error).__name__})"
            ) from None
        sides = sides[:3] if math.prod(sides[3:]) == 1 else sides
        if len(sides) != 3 or min(sides) < 1:
            raise Unusable(
                "unsupported format", f"has {len(sides)} dimensions, expected a volume of 3"
            )
        if self._kind.kind not in "iuf" or self._kind.itemsize > 8:
            raise Unusable(
                "unsupported format",
                f"has values of type {self._kind}, expected whole or real numbers",
            )
        if not np.isfinite(places).all() or min(self._sizes) <= 0:
            raise Unusable("damaged", "has a damaged affine or pixdim")
        self._require_small(file, sides, AXES[axis])
        across, down, left = _stored_axes(places, AXES[axis])
        self._order = (across, down, left)
        self._turned = [places[each, 1] > 0 for each in (down, left)]
        self._is_up = places[across, 1] > 0
        self._sides = sides
        self.slices = sides[across]
        self.shown = (low, high) if math.isfinite(low) and low < high < math.inf else None

    @functools.cached_property
    def _stored(self) -> np.ndarray:
        """The values as they are stored; of a file that is not packed, only what is asked for."""
        try:
            return np.asanyarray(self._data.get_unscaled()).reshape(self._sides)
        except Exception as error:  # A damaged file makes its reader raise nearly anything.
            raise Unusable("damaged", f"has damaged values ({type(error).__name__})") from None

    def values(self, number: int) -> np.ndarray:
        """Returns a slice in the unit of the file, float32 or float64 [h, w].

        Args:
            number: From the left, the back or the feet on, from 0.

        Raises:
            ValueError: It cannot be read.
        """
        found = self._stored.transpose(self._order)[
            number if self._is_up else self.slices - 1 - number
        ]
        for axis, is_turned in enumerate(self._turned):
            found = np.flip(found, axis) if is_turned else found
        precise = np.float32 if self._kind.itemsize <= 2 or self._kind.kind == "f" else np.float64
        return found.astype(precise) * precise(self._data.slope) + precise(self._data.inter)

    def pixels(
        self, number: int, window: tuple[float, float] | None, low: float, high: float
    ) -> np.ndarray:
        """Returns a slice as uint8 [h, w] with square pixels; what is no number is black.

        Args:
            number: Of the slice.
            window: Its center and width, for the linear function of `screen`.
            low: The value that is black where there is no window.
            high: The value that is white.

        Raises:
            ValueError: It cannot be read or shown.
        """
        values = self.values(number)
        missing = ~np.isfinite(values)
        values = np.where(missing, 0, values)
        if window:
            shown = screen.eight_bits(screen.linear(values, *window))
        else:
            shown = screen.stretched(values, low, high)
        shown[missing] = 0
        _, down, left = self._order
        return screen.squared(shown, self._sizes[down] / self._sizes[left])

    def extent(self) -> tuple[float, float]:
        """Returns the least and the largest finite value; zeros if there is none."""
        ends = (math.inf, -math.inf)
        for number in range(self.slices):
            values = self.values(number)
            if (finite := values[np.isfinite(values)]).size:
                ends = min(ends[0], float(finite.min())), max(ends[1], float(finite.max()))
        return ends if ends[0] <= ends[1] else (0.0, 0.0)

    def _require_small(self, file: Path, sides: Sequence[int], axis: int) -> None:
        """Raises ValueError if a header claims more than its file has, or than memory takes."""
        size = math.prod(sides) * self._kind.itemsize
        is_packed = _is_packed(file)
        if is_packed and size > _MOST_PACKED:
            raise Unusable(
                "too large",
                f"is too large: {size:,} bytes packed, expected at most {_MOST_PACKED:,}; "
                "unpack it",
            )
        if not is_packed and size > file.stat().st_size:
            raise Unusable(
                "truncated", f"is cut short: it has {file.stat().st_size:,} of {size:,} bytes"
            )
        if math.prod(sides) // sides[axis] > _MOST:
            raise Unusable("too large", f"is too large: slices of more than {_MOST:,} values")


def _is_packed(file: Path) -> bool:
    return file.suffix.lower() == ".gz"


def _require_small_head(file: Path) -> None:
    """Raises an error unless little stands before the values of a packed file, and ends there.

    Unpacked it may be a thousand times as long, and an extension of a header says its own length.
    """
    nibabel = library()
    with gzip.open(file) as packed:
        start = packed.read(_HEADER)
        for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header):
            if kind.may_contain_header(start):
                header = kind(start[: kind.template_dtype.itemsize], check=False)
                before = int(header["vox_offset"])
                if before > _MOST_BEFORE:
                    raise Unusable(
                        "too large",
                        f"is too large: {before:,} bytes before its values, expected at most "
                        f"{_MOST_BEFORE:,}; unpack it",
                    )
                rest = packed.read(max(0, before - len(start)))
                kind.from_fileobj(io.BytesIO(start + rest))


def _stored_axes(places: np.ndarray, axis: int) -> tuple[int, int, int]:
    """Returns the stored axes across slices, along their height, and along their width."""
    down, left = {0: (2, 1), 1: (2, 0), 2: (1, 0)}[axis]
    stored = [int(np.flatnonzero(places[:, 0] == each)[0]) for each in (axis, down, left)]
    return stored[0], stored[1], stored[2]


def library() -> Any:
    """Returns nibabel, silenced.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import nibabel
    except ImportError:
        raise ValueError("NIfTI files need nibabel: pip install 'tlkeras[medical]'.") from None
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # It repairs headers aloud.
    return nibabel
