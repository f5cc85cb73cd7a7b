"""DICOM files: their headers, and the stored values of one frame at a time.

Files come from anywhere, so nothing in a header is believed before it is checked: neither a size
nor a number of frames asks for memory that the file itself does not fill. Messages name attributes
and never hold their values, which may be those of a patient; pydicom's warnings do, and are off.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import math
import mmap
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from tlkeras.doctor.defects import Unusable
from tlkeras.medical import encodings
from tlkeras.medical.encodings import damage

SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
"""The usual endings of DICOM files, in lower case; many have none."""

_MAGIC, _MAGIC_PLACE = b"DICM", 128

# Bytes of a frame: twice as many as the largest mammograms have, and below 1 GB while it is shown.
_MOST = 2**26

# A compressed frame is an item with some header of its codec, so it has at least so many bytes.
_LEAST_CODED = 64

_PIXELS = {
    (0x7FE0, 0x0008): "FloatPixelData",
    (0x7FE0, 0x0009): "DoubleFloatPixelData",
    (0x7FE0, 0x0010): "PixelData",
}


class NoPicture(Unusable):
    """A file is sound and no picture: a report, a plan, a directory."""


class Scan:
    """An open DICOM file, whose pixels are checked when something is asked of them.

    Attributes:
        header: All attributes before the pixels, a pydicom data set.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        """Reads the header.

        Args:
            stream: The file.
            size: Its length in bytes.

        Raises:
            Unusable: What is wrong with the file.
        """
        self._stream, self._size = stream, size
        with damage("is no DICOM file that can be read"):
            stream.seek(_MAGIC_PLACE)
            is_marked = stream.read(len(_MAGIC)) == _MAGIC
            stream.seek(0)
            self.header: Any = library().dcmread(stream, stop_before_pixels=True, force=True)
            self._end = self._place = stream.tell()  # Of the header; of the pixels' own head.
        if not is_marked and not (self.text("SOPClassUID") and "Rows" in self.header):
            raise Unusable("unsupported format", "is no DICOM file")

    @property
    def frames(self) -> int:
        """How many pictures the file holds.

        Raises:
            Unusable: There are no pixels, or what they need is missing or impossible.
        """
        return cast(int, self._options["number_of_frames"])

    def value(self, keyword: str, of: Any = None) -> Any:
        """Returns the value of an attribute of the header, or of another data set; None if absent.

        Raises:
            ValueError: It cannot be read.
        """
        with damage(f"has a damaged {keyword}"):
            found = (self.header if of is None else of).get(keyword)
        return None if found is None or (hasattr(found, "__len__") and not len(found)) else found

    def text(self, keyword: str) -> str:
        """Returns the text of an attribute without blanks around it; empty if absent."""
        found = self.value(keyword)
        return "" if found is None else str(found).strip(" \0")

    def numbers(self, keyword: str, of: Any = None) -> list[float]:
        """Returns the finite numbers of an attribute; none if it is absent.

        Raises:
            ValueError: One is no finite number.
        """
        found = self.value(keyword, of)
        with damage(f"has a damaged {keyword}"):
            several = (
                found if hasattr(found, "__iter__") and not isinstance(found, str) else [found]
            )
            numbers = [float(each) for each in several] if found is not None else []
        if not all(map(math.isfinite, numbers)):
            raise Unusable("damaged", f"has a damaged {keyword}")
        return numbers

    def stored(self, frame: int) -> tuple[np.ndarray, str]:
        """Returns the values of a frame, [h, w] or [h, w, 3], and what they stand for.

        Args:
            frame: Its number, from 0.

        Raises:
            ValueError: It cannot be decoded.
        """
        from pydicom.pixels.decoders.base import get_decoder

        syntax = self._options["transfer_syntax_uid"]
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            raise Unusable(
                "unsupported format",
                f"has the transfer syntax {encodings.named(syntax)}, which pydicom cannot decode; "
                "save it in another",
            ) from None
        if not decoder.is_available:
            raise Unusable(
                "no decoder", encodings.undecodable(syntax, "for which no decoder is installed")
            )
        self._stream.seek(self._place)
        if syntax.is_encapsulated:
            self._require_coded_size(frame)
        try:
            values, found = decoder.as_array(self._stream, index=frame, **self._options)
        except Exception as error:  # Damaged pixels make decoders raise nearly anything.
            if syntax.is_encapsulated and isinstance(error, RuntimeError):
                told = encodings.undecodable(syntax, "which its decoder cannot read")
                raise Unusable("no decoder", told) from None
            raise Unusable("damaged", f"has damaged pixels ({type(error).__name__})") from None
        return values, str(found["photometric_interpretation"])

    @functools.cached_property
    def _options(self) -> dict[str, Any]:
        """The options of a decoder, see `frames`; the stream is then behind the pixels' head."""
        from pydicom.pixels.utils import as_pixel_options
        from pydicom.uid import UID

        with damage("has a damaged header"):
            encoding = self.header.original_encoding
            syntax = UID(
                self.header.file_meta.get("TransferSyntaxUID", "") or encodings.NATIVE[encoding]
            )
            is_coded = syntax.is_encapsulated  # Raises unless it is a transfer syntax.
            keyword, vr = self._pixels("<" if encoding[1] else ">")
        if not keyword:
            raise (NoPicture if self._is_other() else Unusable)("no pixels", "has no pixels")
        for name in ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel"):
            self._require_whole(name, 1, 65_535)
        if keyword == "PixelData":
            self._require_whole("BitsStored", 1, int(self.numbers("BitsAllocated")[0]))
            self._require_whole("PixelRepresentation", 0, 1)
        if self.value("NumberOfFrames") is not None:
            self._require_whole("NumberOfFrames", 1, 2**31)
        if not self.text("PhotometricInterpretation"):
            raise Unusable("missing attribute", "has no PhotometricInterpretation")
        with damage("has a damaged description of its pixels"):
            options = as_pixel_options(self.header)
            options |= {"transfer_syntax_uid": syntax, "pixel_keyword": keyword}
            options |= {"pixel_vr": vr} if vr else {}
            values = options["rows"] * options["columns"] * options["samples_per_pixel"]
            frames = options["number_of_frames"]
        if values * options["bits_allocated"] > 8 * _MOST:
            raise Unusable(
                "too large",
                f"is too large: {options['rows']:,} x {options['columns']:,} pixels, expected at "
                f"most {_MOST:,} bytes a frame",
            )
        bits = _LEAST_CODED * 8 if is_coded else values * options["bits_allocated"]
        if options["photometric_interpretation"] == "YBR_FULL_422":
            bits = bits * 2 // 3  # Two pixels share their colour.
        left = self._size - self._place
        if frames * bits > 8 * left:
            raise Unusable(
                "truncated",
                f"is cut short: {left:,} bytes are left for {frames:,} frames of "
                f"{options['rows']} x {options['columns']} pixels",
            )
        return options

    def _is_other(self) -> bool:
        """Returns whether the file says that it is of a kind that needs no pixels."""
        with damage("has a damaged SOPClassUID"):
            told = self.header.file_meta.get("MediaStorageSOPClassUID")
            kind = told or self.header.get("SOPClassUID")
            return kind is not None and kind.name != str(kind) and "Image" not in kind.name

    def _pixels(self, order: str) -> tuple[str, str]:
        """Returns the keyword and the VR of the pixels, at whose first byte the stream then is.

        Some files have no VRs although their transfer syntax says so; pydicom reads them, too.
        """
        self._stream.seek(self._end)
        head = self._stream.read(8)
        if len(head) < 8:
            return "", ""
        keyword = _PIXELS.get(struct.unpack(f"{order}HH", head[:4]), "")
        vr = head[4:6].decode("latin-1")
        vr = vr if vr.isalpha() and vr.isupper() else ""
        self._place = self._end + (12 if vr else 8)
        self._stream.seek(self._place)
        return keyword, vr

    def _require_whole(self, keyword: str, least: int, most: int) -> None:
        numbers = self.numbers(keyword)
        if not numbers:
            raise Unusable("missing attribute", f"has no {keyword}")
        if len(numbers) > 1 or not least <= numbers[0] <= most or numbers[0] % 1:
            raise Unusable("damaged", f"has a {keyword} that is not from {least} to {most:,}")

    def _require_coded_size(self, frame: int) -> None:
        """Raises ValueError if a compressed frame claims another size than the header.

        Its decoder would allocate the memory that it claims.
        """
        from pydicom.encaps import get_frame

        options = self._options
        with damage("has damaged compressed pixels"):
            coded = get_frame(
                self._stream,
                frame,
                number_of_frames=self.frames,
                extended_offsets=options.get("extended_offsets"),
            )
        self._stream.seek(self._place)
        expected, found = (options["rows"], options["columns"]), encodings.coded_size(coded)
        if found not in (None, expected):
            raise Unusable(
                "damaged",
                f"has a compressed picture of {found[0]:,} x {found[1]:,} pixels, its header says "
                f"{expected[0]:,} x {expected[1]:,}",
            )


@contextlib.contextmanager
def opened(file: Path) -> Iterator[Scan]:
    """Opens a DICOM file; only what is read of it is in memory.

    Raises:
        Unusable: What is wrong with the file, as it follows its name.
    """
    with contextlib.ExitStack() as stack:
        try:
            size = file.stat().st_size
            if not size:
                raise Unusable("empty file", "is an empty file")
            raw = stack.enter_context(file.open("rb"))
            whole = stack.enter_context(mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise Unusable("unreadable", f"cannot be read: {error.strerror}") from None
        stream: Any = whole
        if encodings.is_deflated(whole):
            inflated = encodings.inflated(whole)
            stream, size = io.BytesIO(inflated), len(inflated)
        yield Scan(stream, size)


def is_marked(file: Path) -> bool:
    """Returns whether a file says that it is DICOM, by its first bytes."""
    with file.open("rb") as opened:
        opened.seek(_MAGIC_PLACE)
        return opened.read(len(_MAGIC)) == _MAGIC


@functools.cache
def _loaded() -> Any:
    try:
        import pydicom
    except ImportError:
        raise ValueError("DICOM files need pydicom: pip install 'tlkeras[medical]'.") from None
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").propagate = False
    return pydicom


def library() -> Any:
    """Returns pydicom, silenced: its warnings and its log quote what they find in files.

    Raises:
        ValueError: It is not installed.
    """
    warnings.filterwarnings("ignore", module=r"pydicom|tlkeras\.medical")
    return _loaded()
