"""DICOM files that tests write: made-up patients before a made-up scanner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid


def data_set(pixels: np.ndarray, **values: Any) -> FileDataset:
    """Returns a data set of 12 stored bits, HU from -1024 on, of one or several frames.

    Args:
        pixels: Stored values [h, w], [frames, h, w], or uint8 [h, w, 3].
        values: Other attributes by keyword.
    """
    is_colour = pixels.dtype == np.uint8
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID = meta.MediaStorageSOPClassUID = CTImageStorage
    source = f"{pixels.tobytes().hex()[:4000]}{values}"
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[source])
    made.PatientID, made.PatientName, made.Modality = "1", "Doe^Jane", "CT"
    if pixels.ndim == 3 and not is_colour:
        made.NumberOfFrames = len(pixels)
    made.Rows, made.Columns = pixels.shape[-3:-1] if is_colour else pixels.shape[-2:]
    made.SamplesPerPixel = 3 if is_colour else 1
    made.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    if is_colour:
        made.PlanarConfiguration = 0
    made.BitsAllocated, made.BitsStored = (8, 8) if is_colour else (16, 12)
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    if not is_colour:
        made.RescaleIntercept, made.RescaleSlope = -1024, 1
    for keyword, value in values.items():
        setattr(made, keyword, value)
    made.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    return made


def scan(file: Path, pixels: np.ndarray, **values: Any) -> Path:
    """Writes a file of `data_set`, with its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    data_set(pixels, **values).save_as(file)
    return file


def item(**values: Any) -> Sequence:
    """Returns a sequence of one item."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return Sequence([made])


def enhanced(file: Path, pixels: np.ndarray, frames: list[dict[str, Any]], **values: Any) -> Path:
    """Writes a file whose frames have functional groups of their own."""
    groups = []
    for each in frames:
        group = Dataset()
        for keyword, value in each.items():
            setattr(group, keyword, value)
        groups.append(group)
    return scan(file, pixels, PerFrameFunctionalGroupsSequence=Sequence(groups), **values)


def shapes(root: Path, count: int = 40, patients: int = 10, **values: Any) -> Path:
    """Writes noisy rings and disks of several patients, a folder for each class."""
    random = np.random.default_rng(0)
    for number in range(count):
        name = ("disk", "ring")[number % 2]
        y, x = np.mgrid[:32, :32] - 16 + random.integers(-3, 4, (2, 1, 1))
        radius = np.hypot(y, x)
        inside = (radius < 10) & ((radius > 6) | (name == "disk"))
        noisy = random.normal(900, 30, (32, 32)) + 300 * inside
        more = {"WindowCenter": 40, "WindowWidth": 400, "PatientID": f"P{number // 2 % patients}"}
        stored = noisy.clip(0, 4095).astype("<u2")
        scan(root / name / f"IM{number:04d}", stored, **{**more, **values})
    return root


def shipped(name: str) -> Path:
    """Returns a file that pydicom's own package holds; none is fetched."""
    file = Path(pydicom.__file__).parent / "data" / "test_files" / name
    assert file.is_file()
    return file


def syntax(name: str) -> str:
    """Returns the name of a file's transfer syntax."""
    return UID(
        pydicom.dcmread(shipped(name), stop_before_pixels=True).file_meta.TransferSyntaxUID
    ).name
