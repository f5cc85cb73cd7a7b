"""DICOM pictures: a frame as a screen would show it, in 8 bits.

The steps are those of DICOM PS3.4, annex N.2, and PS3.3, C.11.1 and C.11.2: stored values, the
modality's table or slope and intercept, a window or a VOI table, and the inversion of MONOCHROME1.
In enhanced files each frame has its own of these, in functional groups (PS3.3, C.7.6.16), which
pydicom's functions of the same purpose do not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tlkeras.doctor.defects import Unusable
from tlkeras.medical import screen
from tlkeras.medical.dicom_file import Scan

Window = int | str | tuple[float, float] | None
"""A window of the file by its number, from 1, or its name; or one by center and width; or the first
of the file."""

Ranges = Mapping[str, tuple[float, float]]
"""By Modality, the range of values of files that have no window of their own."""

_GREY = ("MONOCHROME1", "MONOCHROME2")

# Both kinds of JPEG 2000 colours leave the decoder as red, green and blue.
_COLOUR = ("RGB", "YBR_ICT", "YBR_RCT")

# The attributes that hold the height and width of a pixel, the most trusted first.
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")


class Voi(NamedTuple):
    """The windows and tables that a frame offers.

    Attributes:
        windows: Center, width and name of each.
        tables: Items of VOILUTSequence.
        function: The name of a function in `screen.FUNCTIONS`.
    """

    windows: list[tuple[float, float, str]]
    tables: list[Any]
    function: str


def pixels(scan: Scan, frame: int, window: Window, ranges: Ranges) -> np.ndarray:
    """Returns a frame as uint8 [h, w] or [h, w, 3] with square pixels.

    Padding is black. Colours keep the upper 8 of their stored bits; no window applies to them.

    Args:
        scan: The file.
        frame: The number of the frame, from 0.
        window: Which values are shown.
        ranges: For files without a window; unused if `window` has values.

    Raises:
        ValueError: The frame cannot be shown.
    """
    stored, meaning = scan.stored(frame)
    if meaning == "PALETTE COLOR":
        shown = _palette(scan, stored)
    elif meaning in _COLOUR:
        shown = _upper(stored, int(scan.numbers("BitsStored")[0]))
    elif meaning in _GREY:
        values, padding = _modality(scan, frame, stored)
        shown = _windowed(scan, frame, values, window, ranges)
        shown = 255 - shown if meaning == "MONOCHROME1" else shown
        shown[padding] = 0
    else:
        raise Unusable(
            "unsupported format", "has a PhotometricInterpretation that is not supported"
        )
    return screen.squared(shown, _aspect(scan, frame))


def is_grey(scan: Scan) -> bool:
    """Returns whether a file holds shades, to which windows apply, and no colours."""
    return scan.text("PhotometricInterpretation") in _GREY


def extent(scan: Scan) -> tuple[float, float] | None:
    """Returns the least and the largest value of a grey file without a window, over its frames.

    None if it has a window or a VOI table, or colours.
    """
    found = []
    for frame in range(scan.frames):
        voi = offered(scan, frame)
        if not is_grey(scan) or voi.windows or voi.tables:
            return None
        stored, _ = scan.stored(frame)
        values, padding = _modality(scan, frame, stored)
        if not padding.all():
            found += [values[~padding].min(), values[~padding].max()]
    return (float(min(found)), float(max(found))) if found else None


def offered(scan: Scan, frame: int) -> Voi:
    """Returns the windows and tables of a frame: those of its group, of all frames, or the file."""
    own = _group(scan, frame, "FrameVOILUTSequence", ("WindowCenter", "VOILUTSequence"))
    centers, widths = scan.numbers("WindowCenter", own), scan.numbers("WindowWidth", own)
    named = scan.value("WindowCenterWidthExplanation", own)
    names = [named] if isinstance(named, str) else [*(named or ())]
    names = [str(name).strip() for name in names] + [""] * len(centers)
    if len(centers) != len(widths):
        raise Unusable("damaged", "has not as many WindowWidth as WindowCenter")
    tables = [*(scan.value("VOILUTSequence", own) or ())]
    function = str(scan.value("VOILUTFunction", own) or "LINEAR").strip().upper()
    if function not in screen.FUNCTIONS:
        raise Unusable(
            "damaged", f"has a VOILUTFunction that is none of {', '.join(screen.FUNCTIONS)}"
        )
    return Voi([*zip(centers, widths, names, strict=False)], tables, function)


def _groups(scan: Scan, frame: int, sequence: str) -> Iterator[Any]:
    """Yields the items of a functional group, of the frame before that of all frames."""
    each = scan.value("PerFrameFunctionalGroupsSequence")
    shared = scan.value("SharedFunctionalGroupsSequence")
    if each is not None and len(each) <= frame:
        raise Unusable("damaged", "has not as many PerFrameFunctionalGroupsSequence as frames")
    for group in (each[frame] if each is not None else None, shared[0] if shared else None):
        if group is not None and (items := scan.value(sequence, group)):
            yield items[0]


def _group(scan: Scan, frame: int, sequence: str, keywords: tuple[str, ...]) -> Any:
    """Returns the first functional group that has one of the attributes, else the header."""
    found = (
        item
        for item in _groups(scan, frame, sequence)
        if any(scan.value(keyword, item) is not None for keyword in keywords)
    )
    return next(found, scan.header)


def _modality(scan: Scan, frame: int, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the values of a frame in the unit of its modality, and where there is padding."""
    padding = _padding(scan, stored)
    if tables := scan.value("ModalityLUTSequence"):
        values, _ = _looked_up(scan, tables[0], stored)
        return values, padding
    own = _group(scan, frame, "PixelValueTransformationSequence", ("RescaleSlope",))
    (slope, *_) = scan.numbers("RescaleSlope", own) or [1.0]
    (intercept, *_) = scan.numbers("RescaleIntercept", own) or [0.0]
    # Whole numbers of 16 bits are exact in 32 bits of floating point, longer ones are not.
    precise = np.float32 if stored.dtype.itemsize <= 2 else np.float64
    values = stored.astype(precise)
    if not np.isfinite(values).all():
        padding |= ~np.isfinite(values)
        values[padding] = 0
    return values * precise(slope) + precise(intercept), padding


def _padding(scan: Scan, stored: np.ndarray) -> np.ndarray:
    """Returns where stored values are those of pixels outside the picture, bool [h, w]."""
    ends = scan.numbers("PixelPaddingValue") + scan.numbers("PixelPaddingRangeLimit")
    if not ends or stored.dtype.kind == "f":
        return np.zeros(stored.shape, bool)
    if stored.dtype.kind == "i":  # Some files write the bits of a negative value as unsigned.
        bits = 8 * stored.dtype.itemsize
        ends = [end - 2**bits if end >= 2 ** (bits - 1) else end for end in ends]
    return (stored >= min(ends)) & (stored <= max(ends))


def _windowed(
    scan: Scan, frame: int, values: np.ndarray, window: Window, ranges: Ranges
) -> np.ndarray:
    """Returns values as uint8 [h, w]."""
    if isinstance(window, tuple):
        return screen.eight_bits(screen.linear(values, *window))
    voi = offered(scan, frame)
    if isinstance(window, int) and window > len(voi.windows):
        raise Unusable("missing attribute", f"has no window {window}, it has {len(voi.windows)}")
    if isinstance(window, str):
        name = window.strip().casefold()
        found = [each for each in voi.windows if each[2].casefold() == name]
        tables = [item for item in voi.tables if str(item.get("LUTExplanation")).casefold() == name]
        if not found and not tables:
            raise Unusable("missing attribute", f"has no window {window!r}")
        voi, window = voi._replace(windows=found, tables=tables), None
    if voi.windows:
        center, width, _ = voi.windows[(window or 1) - 1]
        if width < 1 if voi.function == "LINEAR" else width <= 0:
            raise Unusable("damaged", "has a WindowWidth that is too small")
        return screen.eight_bits(screen.FUNCTIONS[voi.function](values, center, width))
    if voi.tables:
        entries, bits = _looked_up(scan, voi.tables[0], values)
        return screen.stretched(entries, 0, 2**bits - 1)
    low, high = ranges.get(scan.text("Modality"), (float(values.min()), float(values.max())))
    return screen.stretched(values, low, high)


def _looked_up(scan: Scan, item: Any, values: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the entries of a table for values, and how many bits an entry has.

    Source: DICOM PS3.3, C.11.1.1: number of entries, first value that is mapped, bits.
    """
    descriptor = [int(each) for each in scan.numbers("LUTDescriptor", item)]
    data = scan.value("LUTData", item)
    if len(descriptor) != 3 or data is None or not 1 <= descriptor[2] <= 16:
        raise Unusable("damaged", "has a damaged LUTDescriptor or LUTData")
    count, first, bits = descriptor
    count = count or 2**16
    if isinstance(data, bytes):
        order = "<" if scan.header.original_encoding[1] else ">"
        kind = "u1" if len(data) in (count, count + count % 2) and bits <= 8 else f"{order}u2"
        data = np.frombuffer(data[: len(data) // 2 * 2], kind)
    table = np.atleast_1d(np.asarray(data, np.float32))[:count]
    if len(table) < count:
        raise Unusable("damaged", "has fewer LUTData than its LUTDescriptor says")
    if first >= 2**15 and scan.numbers("PixelRepresentation") == [1]:
        first -= 2**16
    places = np.clip(values.astype(np.float64) - first, 0, count - 1).astype(np.int64)
    return table[places], bits


def _palette(scan: Scan, stored: np.ndarray) -> np.ndarray:
    """Returns the colours of a palette, uint8 [h, w, 3]."""
    from pydicom.pixels.processing import apply_color_lut

    try:
        colours = apply_color_lut(stored, scan.header)
    except Exception as error:  # A damaged table makes pydicom raise nearly anything.
        raise Unusable("damaged", f"has a damaged palette ({type(error).__name__})") from None
    return _upper(colours[..., :3], 8 * colours.dtype.itemsize)


def _upper(stored: np.ndarray, bits: int) -> np.ndarray:
    return (stored >> max(bits - 8, 0)).clip(0, 255).astype(np.uint8)


def _aspect(scan: Scan, frame: int) -> float:
    """Returns how many times higher than wide a pixel is; 1 if nothing says so."""
    measures = _group(scan, frame, "PixelMeasuresSequence", ("PixelSpacing",))
    for keyword in _SPACINGS:
        numbers = scan.numbers(keyword, measures if keyword == "PixelSpacing" else None)
        if len(numbers) == 2 and min(numbers) > 0:
            return numbers[0] / numbers[1]
    return 1.0
