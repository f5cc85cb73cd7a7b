"""What tells who somebody is: named where it was, and in no product of a run."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID as PydicomUID
from scanner import data_set, shapes

from pipeline import bulk_inferrer, store
from pipeline.config import Config
from pipeline.order import STEPS
from tlkeras.backbones.starter import Starter
from tlkeras.data import ingest
from tlkeras.data.splits import Split
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.medical import confidentiality
from tlkeras.recipes.prototypes import Prototypes
from tlkeras.source import Source
from tlkeras.sources.dicom import DICOM
from tlkeras.sources.folder import Folder

MARK = "ZQXJ_HANAKO"
UID = "1.2.826.4711.4711.4711"

# Texts that hold whatever is written into them, and their longest forms.
TEXTS = ("PN", "LO", "SH", "ST", "LT", "UT", "UC", "UR", "AE", "CS")


def marked(made: Dataset) -> list[str]:
    """Writes the mark into every text of the profile, nested, private and of overlays too."""
    for tag in confidentiality.actions():
        keyword = keyword_for_tag(tag)
        if keyword and dictionary_VR(tag) in TEXTS and keyword not in ("PatientID", "Modality"):
            made.add_new(tag, dictionary_VR(tag), MARK[:16])
    inner = Dataset()
    inner.PatientName, inner.PersonAddress = MARK, MARK
    inner.private_block(0x0011, MARK, create=True).add_new(1, "LO", MARK)
    made.RequestAttributesSequence = Sequence([inner])
    block = made.private_block(0x0009, MARK, create=True)
    block.add_new(1, "LO", MARK)
    block.add_new(2, "OB", MARK.encode() + b"\0")
    made.add_new(0x60004000, "LT", MARK)
    made.add_new(0x50002500, "LO", MARK)
    made.BurnedInAnnotation = "YES"
    made.WindowCenterWidthExplanation = made.LUTExplanation = MARK
    return sorted(element.keyword for element in made)


def dicom_folder(root: Path, count: int) -> Source:
    """Rings and disks, every file of which says in every way who it is of."""
    shapes(root, count)
    for number, file in enumerate(sorted(root.glob("*/*"))):
        old = np.frombuffer(_read(file).PixelData, "<u2").reshape(32, 32)
        made = data_set(old, WindowCenter=40, WindowWidth=400, PatientID=f"{MARK}{number // 3}")
        marked(made)
        made.SOPInstanceUID = PydicomUID(f"{UID}.{number}")
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        made.file_meta.SourceApplicationEntityTitle = MARK
        made.preamble = MARK.encode().ljust(128, b"\0")
        made.save_as(file)
    return DICOM(root)


def _read(file: Path) -> Any:
    return pydicom.dcmread(file)


def picture_folder(root: Path, count: int) -> Source:
    """Red and blue JPEG and PNG files whose notes tell of their maker."""
    exif = Image.Exif()
    exif[0x013B] = MARK
    exif.get_ifd(0x8769)[0xA431] = MARK
    exif.get_ifd(0x8825)[29] = MARK
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", MARK)
    texts.add_itxt("XML:com.adobe.xmp", MARK)
    random = np.random.default_rng(0)
    for number in range(count):
        name, colour = (("blue", (40, 60, 220)), ("red", (220, 50, 40)))[number % 2]
        noisy = np.asarray(colour) + random.normal(0, 40, (32, 32, 3))
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        (root / name).mkdir(parents=True, exist_ok=True)
        jpeg, png = io.BytesIO(), io.BytesIO()
        image.save(jpeg, "JPEG", exif=exif, comment=MARK)
        image.save(png, "PNG", exif=exif, pnginfo=texts)
        packet = b"http://ns.adobe.com/xap/1.0/\0" + MARK.encode()
        xmp = b"\xff\xe1" + struct.pack(">H", len(packet) + 2) + packet
        content = jpeg.getvalue()[:2] + xmp + jpeg.getvalue()[2:] + MARK.encode()
        is_png = number % 3 == 0
        file = root / name / f"{number}.{'png' if is_png else 'jpg'}"
        file.write_bytes(png.getvalue() if is_png else content)
    return Folder(root)


SOURCES = {"dicom": dicom_folder, "pictures": picture_folder}

# What the marks become where they are hidden in digests that anybody could make.
TRACES = [MARK, MARK[:16], "ZQXJ", UID, "4711.4711", *(
    hashlib.sha256(f"{MARK}{number}".encode()).hexdigest()[:16] for number in range(40)
)]  # fmt: skip


def contents(place: Path) -> Iterator[tuple[str, bytes]]:
    """Yields all files below a folder, those in archives, and those inside pages."""
    for file in sorted(place.rglob("*")):
        if file.is_file():
            yield from _inside(file.relative_to(place).as_posix(), file.read_bytes())


def _inside(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    yield name, content
    if zipfile.is_zipfile(io.BytesIO(content)) and name.endswith((".keras", ".npz", ".zip")):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for each in archive.namelist():
                yield f"{name}/{each}", archive.read(each)
    for found in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content):
        yield f"{name} (a picture)", base64.b64decode(found)


def assert_untold(place: Path, *said: str) -> int:
    """Asserts that no file below a folder and no text has a trace of the marks."""
    files = 0
    for name, content in contents(place):
        files += 1
        for trace in TRACES:
            assert trace.encode() not in content, f"{name} has {trace}"
    for text in said:
        assert not any(trace in text for trace in TRACES), text
    return files


@pytest.mark.parametrize("name", SOURCES)
def test_no_example_and_no_message_of_ingest_tells_who_it_is_of(name, tmp_path):
    source = SOURCES[name](tmp_path / "data", 12)
    raw = b"".join(content for _, content in contents(tmp_path / "data"))
    assert raw.count(MARK.encode()) >= 12
    told: list[str] = []
    ingest.write_examples(source, Split(), tmp_path / "out", told.append)
    assert assert_untold(tmp_path / "out", *told) > 3


def test_what_was_left_out_is_listed_by_name(tmp_path):
    source = dicom_folder(tmp_path / "data", 6)
    (listed,) = (text for text in source.remarks() if "PS3.15" in text)
    for name in (
        "PatientName (6)", "PatientID (6)", "PersonAddress (6)", "SOPInstanceUID (6)",
        "OverlayComments (6)", "CurveData (6)", "private attributes (6)", "OperatorsName (6)",
        "DeviceSerialNumber (6)", "RequestAttributesSequence (6)",
    ):  # fmt: skip
        assert name in listed
    assert "Rows" not in listed and "PixelData" not in listed
    burned = "6 files say BurnedInAnnotation YES, so their pixels may show who it is"
    assert burned in " ".join(source.remarks())


def test_the_profile_has_the_rows_of_the_standard():
    """Table E.1-1 of PS3.15 2024e: 617 rows of one tag, and four of many."""
    actions = confidentiality.actions()
    assert len(actions) == 617
    assert {"X", "Z", "D", "U", "X/Z", "X/D", "Z/D", "X/Z/D", "X/Z/U"} == {*actions.values()}
    expected = {
        "PatientName": "Z", "PatientID": "Z/D", "PatientBirthDate": "Z", "PatientSex": "Z",
        "PatientAge": "X", "PatientAddress": "X", "SOPInstanceUID": "U", "StudyInstanceUID": "U",
        "AccessionNumber": "Z", "InstitutionName": "X/Z/D", "ReferringPhysicianName": "Z",
        "StudyDescription": "X", "ImageComments": "X", "StudyDate": "Z", "ContentDate": "Z/D",
        "OperatorsName": "X/Z/D", "DeviceSerialNumber": "X/Z/D", "ProtocolName": "X/D",
        "FrameOfReferenceUID": "U", "SeriesDate": "X/D", "AcquisitionDate": "X/Z",
    }  # fmt: skip
    found = {keyword_for_tag(tag): action for tag, action in actions.items()}
    assert {name: found[name] for name in expected} == expected


def test_private_and_repeated_groups_are_named_without_their_numbers():
    made = Dataset()
    made.private_block(0x0029, "SOMEBODY", create=True).add_new(1, "LO", "x")
    made.add_new(0x60023000, "OW", b"\0\0")
    made.add_new(0x501E0110, "LO", "x")
    made.Rows = 3
    assert confidentiality.named(made) == {"private attributes", "OverlayData", "CurveData"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_no_product_of_a_whole_run_tells_who_it_is_of(name, tmp_path, capfd):
    source = SOURCES[name](tmp_path / "data", 48)
    config = Config(
        source=source,
        split=Split(validation=20, test=20),
        backbone=Starter(size=32),
        recipe=Prototypes(),
        exporters=(SavedModel(),),
        saved_models=tmp_path / "saved",
        name="scans",
    )
    said: list[str] = []
    products = store.run(STEPS, config, store.Store(tmp_path / "runs"), say=said.append)
    version = tmp_path / "saved/scans/1"
    assert (version / "saved_model.pb").exists() and (version / "report.html").exists()
    if name == "pictures":
        out = tmp_path / "predictions"
        out.mkdir()
        bulk_inferrer.predictions.run(
            out,
            exports=version,
            data=tmp_path / "data",
            exporter=SavedModel(),
            batch_size=8,
        )
        assert assert_untold(out) >= 2
    assert {"examples", "statistics", "anomalies", "exports", "card"} <= products.keys()
    printed = capfd.readouterr()
    assert assert_untold(tmp_path / "runs", *said, printed.out, printed.err) > 20
    assert assert_untold(version) > 8


def test_a_mark_would_be_found(tmp_path):
    """What the laws above search is searched well: in plain files, in archives, in pages."""
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", MARK * 9)
    assert MARK.encode() not in (tmp_path / "model.keras").read_bytes()
    with pytest.raises(AssertionError, match=r"model.keras/config.json has ZQXJ"):
        assert_untold(tmp_path)
    (tmp_path / "model.keras").unlink()
    page = f'<img src="data:image/jpeg;base64,{base64.b64encode(MARK.encode()).decode()}">'
    (tmp_path / "report.html").write_text(page)
    with pytest.raises(AssertionError, match=r"report.html \(a picture\) has ZQXJ"):
        assert_untold(tmp_path)
