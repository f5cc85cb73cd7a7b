"""Frames of DICOM files as a screen shows them, against NumPy by hand and pydicom's functions."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import scanner
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from scanner import enhanced, item, scan, shipped

from tlkeras.medical import dicom_file, dicom_picture, encodings, screen

VALUES = np.arange(0, 4096, 16, dtype="<u2").reshape(16, 16)


def shown(file: Path, frame: int = 0, window: dicom_picture.Window = None, **ranges: Any):
    with dicom_file.opened(file) as opened:
        return dicom_picture.pixels(opened, frame, window, ranges)


def by_hand(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """The linear function of PS3.3 C.11.2.1.2.1, case by case as it is printed there."""
    out = np.empty(values.shape)
    for place, x in np.ndenumerate(values.astype(float)):
        if x <= center - 0.5 - (width - 1) / 2:
            out[place] = 0
        elif x > center - 0.5 + (width - 1) / 2:
            out[place] = 255
        else:
            out[place] = ((x - (center - 0.5)) / (width - 1) + 0.5) * 255
    return np.rint(out).astype(np.uint8)


def test_the_first_window_is_applied_to_rescaled_values(tmp_path):
    values = {"WindowCenter": [40, 300], "WindowWidth": [400, 1500], "RescaleSlope": 2}
    file = scan(tmp_path / "a.dcm", VALUES, **values)
    np.testing.assert_array_equal(shown(file), by_hand(VALUES * 2.0 - 1024, 40, 400))


@pytest.mark.parametrize(
    ("window", "center", "width"),
    [(1, 40, 400), (2, 300, 1500), ("BONE", 300, 1500), (" bone ", 300, 1500), ((7, 99), 7, 99)],
)
def test_a_window_is_chosen_by_number_by_name_or_by_values(window, center, width, tmp_path):
    names = {"WindowCenterWidthExplanation": ["BRAIN", "BONE"]}
    values = {"WindowCenter": [40, 300], "WindowWidth": [400, 1500], **names}
    file = scan(tmp_path / "a.dcm", VALUES, **values)
    found = shown(file, window=window)
    np.testing.assert_array_equal(found, by_hand(VALUES - 1024.0, center, width))


@pytest.mark.parametrize(("window", "message"), [(3, "no window 3, it has 2"), ("LUNG", "'LUNG'")])
def test_a_window_that_a_file_lacks_is_named(window, message, tmp_path):
    values = {"WindowCenter": [40, 300], "WindowWidth": [400, 1500]}
    with pytest.raises(ValueError, match=message):
        shown(scan(tmp_path / "a.dcm", VALUES, **values), window=window)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("LINEAR_EXACT", lambda x: (x - 40) / 400 + 0.5),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 40) / 400))),
    ],
)
def test_other_functions_than_the_linear_one_are_those_of_the_standard(
    function, expected, tmp_path
):
    values = {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": function}
    file = scan(tmp_path / "a.dcm", VALUES, **values)
    exact = expected(VALUES - 1024.0).clip(0, 1) * 255
    np.testing.assert_allclose(shown(file), exact, atol=0.501)


def test_a_window_of_width_one_is_a_step(tmp_path):
    file = scan(tmp_path / "a.dcm", VALUES, WindowCenter=0.5, WindowWidth=1)
    np.testing.assert_array_equal(shown(file), np.where(VALUES - 1024.0 > 0, 255, 0))


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "examples_overlay.dcm",
        "dicomdirtests/98892001/CT2N/6293",
        "dicomdirtests/77654033/CR1/6154",
    ],
)
def test_classic_files_look_as_by_the_functions_of_pydicom(name):
    made = pydicom.dcmread(shipped(name))
    values = apply_modality_lut(made.pixel_array, made)
    expected = apply_voi_lut(values, made, prefer_lut=False).astype(float)
    if "WindowCenter" in made:  # It scales windows to the bits that are stored, and no others.
        least = -(2 ** (made.BitsStored - 1)) if made.PixelRepresentation else 0
        slope, intercept = made.get("RescaleSlope", 1), made.get("RescaleIntercept", 0)
        low = least * slope + intercept
        high = low + (2**made.BitsStored - 1) * slope
    else:
        low, high = expected.min(), expected.max()
    expected = (expected - low) / (high - low) * 255
    if made.PhotometricInterpretation == "MONOCHROME1":
        expected = 255 - expected
    found = shown(shipped(name))
    image = Image.fromarray(np.rint(expected).clip(0, 255).astype(np.uint8))
    resized = np.asarray(image.resize(found.shape[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_allclose(found.astype(int), resized, atol=1)


def test_monochrome1_is_inverted_and_padding_is_black(tmp_path):
    values = {"WindowCenter": 40, "WindowWidth": 400}
    plain = shown(scan(tmp_path / "a.dcm", VALUES, **values))
    dark = {**values, "PhotometricInterpretation": "MONOCHROME1"}
    np.testing.assert_array_equal(shown(scan(tmp_path / "b.dcm", VALUES, **dark)), 255 - plain)
    padded = {**dark, "PixelPaddingValue": 16, "PixelPaddingRangeLimit": 48}
    found = shown(scan(tmp_path / "c.dcm", VALUES, **padded))
    assert found.ravel()[1:4].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(found.ravel()[4:], 255 - plain.ravel()[4:])


def test_negative_values_and_unused_bits_are_read_as_stored(tmp_path):
    signed = np.array([[-2048, -1, 0, 2047]], "<i2")
    values = {"RescaleIntercept": 0, "WindowCenter": 0.5, "WindowWidth": 4096}
    exact = np.rint((signed + 2048) / 4095 * 255)
    np.testing.assert_array_equal(shown(scan(tmp_path / "a.dcm", signed, **values)), exact)
    # The upper four of 16 bits are not those of a pixel of 12, whatever is in them.
    soiled = (signed.view("<u2") & 0x0FFF | 0x5000).view("<i2")
    np.testing.assert_array_equal(shown(scan(tmp_path / "b.dcm", soiled, **values)), exact)


def test_twelve_bits_are_kept_until_the_window(tmp_path):
    """Neighbours of 4,096 values stay apart in a window of 256 of them."""
    stored = np.arange(1000, 1256, dtype="<u2").reshape(16, 16)
    values = {"RescaleIntercept": 0, "WindowCenter": 1128, "WindowWidth": 256}
    found = shown(scan(tmp_path / "a.dcm", stored, **values))
    assert found.ravel().tolist() == [*range(256)]


def table(first: int, data: list[int], bits: int) -> Sequence:
    made = Dataset()
    made.add_new("LUTDescriptor", "US", [len(data), first, bits])
    made.add_new("LUTData", "US", data)
    made.LUTExplanation = "VENDOR"
    made.ModalityLUTType = "US"
    return Sequence([made])


def test_tables_take_the_place_of_slope_and_window(tmp_path):
    stored = np.array([[0, 9, 10, 11, 12, 13, 4000]], "<u2")
    voi = {"VOILUTSequence": table(10, [0, 100, 200, 255], 8), "RescaleIntercept": 0}
    found = shown(scan(tmp_path / "a.dcm", stored, **voi))
    assert found.tolist() == [[0, 0, 0, 100, 200, 255, 255]]
    assert shown(tmp_path / "a.dcm", window="vendor").tolist() == found.tolist()
    modality = {"ModalityLUTSequence": table(10, [5, 6, 7, 8], 16), "WindowCenter": 7}
    found = shown(scan(tmp_path / "b.dcm", stored, WindowWidth=5, **modality))
    np.testing.assert_array_equal(found, by_hand(np.array([[5, 5, 5, 6, 7, 8, 8]]), 7, 5))


def test_a_window_counts_before_a_table_unless_it_is_named(tmp_path):
    both = {"VOILUTSequence": table(0, [9, 9], 8), "WindowCenter": 40, "WindowWidth": 400}
    file = scan(tmp_path / "a.dcm", VALUES, **both)
    np.testing.assert_array_equal(shown(file), by_hand(VALUES - 1024.0, 40, 400))
    assert (shown(file, window="VENDOR") == 9).all()


def test_without_a_window_the_range_of_the_whole_data_is_shown(tmp_path):
    file = scan(tmp_path / "a.dcm", VALUES)
    with dicom_file.opened(file) as opened:
        assert dicom_picture.extent(opened) == (-1024, 4080 - 1024)
    found = shown(file, CT=(-2000, 6000))
    np.testing.assert_array_equal(found, np.rint((VALUES - 1024.0 + 2000) / 8000 * 255))
    np.testing.assert_array_equal(shown(file), np.rint(VALUES / 4080 * 255))
    assert not shown(scan(tmp_path / "b.dcm", np.full((4, 4), 7, "<u2"))).any()


def test_the_range_leaves_padding_out(tmp_path):
    stored = np.array([[0, 1000, 2000, 4095]], "<u2")
    values = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 9, "RescaleIntercept": 0}
    with dicom_file.opened(scan(tmp_path / "a.dcm", stored, **values)) as opened:
        assert dicom_picture.extent(opened) == (1000, 4095)


def test_every_frame_of_an_enhanced_file_has_its_own_rule_and_window(tmp_path):
    """pydicom's apply_modality_lut and apply_voi_lut leave such frames as they are stored."""
    stored = np.stack([VALUES, VALUES, VALUES])
    frames = [
        {
            "PixelValueTransformationSequence": item(RescaleSlope=slope, RescaleIntercept=-100),
            "FrameVOILUTSequence": item(WindowCenter=center, WindowWidth=500),
        }
        for slope, center in ((1, 100), (2, 200), (3, 300))
    ]
    file = enhanced(tmp_path / "a.dcm", stored, frames)
    for frame, (slope, center) in enumerate(((1, 100), (2, 200), (3, 300))):
        expected = by_hand(VALUES * float(slope) - 100, center, 500)
        np.testing.assert_array_equal(shown(file, frame), expected)
    untouched = pydicom.dcmread(file)
    untouched.__delattr__("RescaleSlope")
    untouched.__delattr__("RescaleIntercept")
    np.testing.assert_array_equal(
        apply_voi_lut(apply_modality_lut(untouched.pixel_array, untouched), untouched), stored
    )


def test_shared_groups_hold_for_frames_without_their_own(tmp_path):
    own = {"FrameVOILUTSequence": item(WindowCenter=500, WindowWidth=100)}
    shared = Dataset()
    shared.FrameVOILUTSequence = item(WindowCenter=0, WindowWidth=1000)
    shared.PixelValueTransformationSequence = item(RescaleSlope=1, RescaleIntercept=-500)
    file = enhanced(
        tmp_path / "a.dcm",
        np.stack([VALUES, VALUES]),
        [own, {}],
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    np.testing.assert_array_equal(shown(file, 0), by_hand(VALUES - 500.0, 500, 100))
    np.testing.assert_array_equal(shown(file, 1), by_hand(VALUES - 500.0, 0, 1000))


@pytest.mark.parametrize(
    ("spacing", "size"),
    [
        ({"PixelSpacing": [2, 1]}, (32, 16)),
        ({"PixelSpacing": [1, 2]}, (16, 32)),
        ({"PixelAspectRatio": [3, 2]}, (24, 16)),
        ({"ImagerPixelSpacing": [0.5, 0.5]}, (16, 16)),
        ({"PixelSpacing": [1, 1], "PixelAspectRatio": [2, 1]}, (16, 16)),
    ],
)
def test_pixels_that_are_not_square_become_so(spacing, size, tmp_path):
    found = shown(scan(tmp_path / "a.dcm", VALUES, WindowCenter=0, WindowWidth=4000, **spacing))
    assert found.shape == size


COLOURS = np.random.default_rng(0).integers(0, 255, (6, 7, 3)).astype(np.uint8)


def test_colours_stay_as_they_are(tmp_path):
    np.testing.assert_array_equal(shown(scan(tmp_path / "a.dcm", COLOURS)), COLOURS)
    planes = scanner.data_set(COLOURS, PlanarConfiguration=1)
    planes.PixelData = COLOURS.transpose(2, 0, 1).tobytes()
    planes.save_as(tmp_path / "b.dcm")
    np.testing.assert_array_equal(shown(tmp_path / "b.dcm"), COLOURS)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("SC_rgb_dcmtk_+eb+cy+np.dcm", 30),
        ("SC_ybr_full_422_uncompressed.dcm", 30),
        ("SC_rgb_rle.dcm", 0),
        ("SC_rgb_rle_16bit.dcm", 0),
        ("SC_rgb_rle_32bit.dcm", 0),
    ],
)
def test_colours_of_other_forms_look_as_the_plain_ones(name, tolerance):
    """pydicom ships one picture, bars of colour, in all of these forms."""
    bars = shown(shipped("SC_rgb_rle.dcm"))
    assert bars[0, 0].tolist() == [255, 0, 0] and bars[-1, 0].tolist() == [255, 255, 255]
    found = shown(shipped(name))[:100, :100]
    assert np.abs(found[5::10].astype(int) - bars[5::10]).max() <= tolerance


def test_a_palette_becomes_colours():
    from pydicom.pixels.processing import apply_color_lut

    made = pydicom.dcmread(shipped("examples_palette.dcm"))
    expected = apply_color_lut(made.pixel_array, made) >> 8
    np.testing.assert_array_equal(shown(shipped("examples_palette.dcm")), expected[..., :3])


def test_a_png_of_a_frame_has_its_pixels_and_nothing_else():
    for pixels in (COLOURS, COLOURS[..., 0]):
        encoded = screen.png(pixels)
        image = Image.open(io.BytesIO(encoded))
        np.testing.assert_array_equal(np.asarray(image), pixels)
        assert not image.info


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SC_rgb_jpeg_gdcm.dcm", r"Lossless, .*4\.70\), for which no decoder.*python-gdcm"),
        ("JPEG-lossy.dcm", r"Extended .*4\.51\), which its decoder cannot read: .*-libjpeg, .*GPL"),
        ("MR_small_jpeg_ls_lossless.dcm", r"JPEG-LS .*4\.80\), for which.*pip install pyjpegls"),
    ],
)
def test_a_syntax_without_a_decoder_is_named_with_the_package_to_install(name, message):
    if any(map(importlib.util.find_spec, ("gdcm", "pylibjpeg", "jpeg_ls"))):
        pytest.skip("a decoder is installed")
    with pytest.raises(ValueError, match=message):
        shown(shipped(name))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"Rows": 60_000, "Columns": 60_000}, "is too large: 60,000 x 60,000 pixels"),
    ({"Rows": 64}, "is cut short: 512 bytes are left for 1 frames of 64 x 16 pixels"),
    ({"NumberOfFrames": 2_000_000_000}, "is cut short: 512 bytes are left for 2,000,000,000"),
    ({"Rows": None}, "has no Rows"),
    ({"BitsStored": 17}, "has a BitsStored that is not from 1 to 16"),
    ({"PhotometricInterpretation": None}, "has no PhotometricInterpretation"),
    ({"PhotometricInterpretation": "HSV"}, r"has damaged pixels|is not supported"),
    ({"WindowCenter": [1, 2], "WindowWidth": 3}, "not as many WindowWidth as WindowCenter"),
    ({"WindowCenter": 1, "WindowWidth": 0}, "has a WindowWidth that is too small"),
    ({"VOILUTFunction": "CURVE"}, "VOILUTFunction that is none of LINEAR, LINEAR_EXACT, SIGMOID"),
    ({"PixelSpacing": [1, 99]}, "has pixels that are 0.0101 times as high as wide"),
    ({"SamplesPerPixel": 4}, "is cut short: 512 bytes are left"),
]


@pytest.mark.parametrize(("values", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_header_that_cannot_be_true_is_refused_and_asks_for_no_memory(values, message, tmp_path):
    file = scan(tmp_path / "a.dcm", VALUES, **values)
    with pytest.raises(ValueError, match=message):
        shown(file)


def test_a_compressed_picture_larger_than_its_header_says_is_not_decoded(tmp_path):
    content = bytearray(shipped("MR_small_jp2klossless.dcm").read_bytes())
    place = content.index(b"\xff\x4f\xff\x51") + 8
    content[place : place + 8] = (60_000).to_bytes(4, "big") * 2
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(ValueError, match="picture of 60,000 x 60,000 pixels, its header says 64"):
        shown(tmp_path / "a.dcm")


def test_a_deflated_file_may_not_grow_without_bound(tmp_path, monkeypatch):
    deflated = shipped("image_dfl.dcm")
    assert shown(deflated).shape == (512, 512)
    monkeypatch.setattr(encodings, "_MOST_INFLATED", 1_000)
    with pytest.raises(ValueError, match="is too large: it inflates to more than 1,000 bytes"):
        shown(deflated)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is an empty file"),
        (b"Dear doctor, " * 99, "is no DICOM file"),
        (b"\0" * 128 + b"DICM", "has no pixels"),
        (shipped("CT_small.dcm").read_bytes()[:9_000], "is cut short"),
        (shipped("rtplan.dcm").read_bytes(), "has no pixels"),
    ],
)
def test_what_is_no_picture_is_told(content, message, tmp_path):
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        shown(tmp_path / "a.dcm")
