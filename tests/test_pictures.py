from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from tlkeras.frameworks import tf
from tlkeras.images import decoding

RED, BLUE, WHITE = (220, 30, 30), (30, 30, 220), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flag(mode: str = "RGB") -> Image.Image:
    """The left half red, the right half blue, wider than high."""
    image = Image.new("RGB", (96, 48), RED)
    image.paste(BLUE, (48, 0, 96, 48))
    return image.quantize(4) if mode == "P" else image.convert(mode)


def seen(data: bytes) -> np.ndarray:
    return np.asarray(decoding.picture(decoding.normalized(data, "x.jpg")))


def looks_like(pixels: np.ndarray, image: Image.Image) -> bool:
    expected = np.asarray(image.convert("RGB"), np.int32)
    return pixels.shape == expected.shape and float(np.abs(pixels - expected).mean()) < 6


@pytest.mark.parametrize(
    "data",
    [
        encoded(flag(), "JPEG"),
        encoded(flag("L"), "JPEG"),
        encoded(flag()),
        encoded(flag("L")),
    ],
    ids=["rgb jpeg", "grey jpeg", "rgb png", "grey png"],
)
def test_a_plain_picture_keeps_its_bytes(data: bytes):
    assert decoding.normalized(data, "x") is data


@pytest.mark.parametrize(
    "data",
    [
        encoded(flag("CMYK"), "JPEG"),
        encoded(flag("P")),
        encoded(flag(), "BMP"),
        encoded(flag("P"), "GIF"),
        encoded(flag(), "WEBP", lossless=True),
        encoded(flag(), "TIFF"),
        encoded(flag("CMYK"), "TIFF"),
        encoded(flag(), "GIF", save_all=True, append_images=[Image.new("RGB", (96, 48), WHITE)]),
    ],
    ids=["cmyk jpeg", "palette", "bmp", "gif", "webp", "tiff", "cmyk tiff", "animation"],
)
def test_other_formats_look_as_they_do_to_people(data: bytes):
    assert looks_like(seen(data), flag())


def _undo(orientation: int, image: Image.Image) -> Image.Image:
    """The stored pixels of a camera held so that viewers must apply an orientation."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return image.transpose(turn[orientation])


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_cameras_orientation_is_applied(orientation: int, kind: str):
    upright = flag()
    upright.paste((30, 200, 30), (0, 0, 24, 24))
    notes = Image.Exif()
    notes[0x0112] = orientation
    data = encoded(_undo(orientation, upright), kind, exif=notes)
    assert looks_like(seen(data), upright)
    assert decoding.upright_size(data) == upright.size[::-1] == seen(data).shape[:2]


def test_a_turned_jpeg_stays_one():
    notes = Image.Exif()
    notes[0x0112] = 6
    turned = decoding.normalized(encoded(flag(), "JPEG", exif=notes), "x")
    assert Image.open(io.BytesIO(turned)).format == "JPEG"
    assert not Image.open(io.BytesIO(turned)).getexif()
    found, fine = (
        JpegImageFile(io.BytesIO(each)).quantization
        for each in (turned, encoded(flag(), "JPEG", quality=95))
    )
    assert found == fine


def test_alpha_is_laid_on_white_and_the_hidden_colour_does_not_leak():
    image = flag("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    assert (seen(encoded(image)) == 255).all()
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([200, 0, 0] * 256)
    assert (seen(encoded(palette, transparency=0)) == 255).all()
    grey = encoded(Image.new("L", (4, 4), 7), transparency=7)
    assert (seen(grey) == 255).all()


def test_sixteen_bits_become_eight_and_one_bit_black_and_white():
    deep = Image.fromarray(np.array([[0, 256, 65_535, 32_768]], np.uint16))
    assert seen(encoded(deep))[0, :, 0].tolist() == [0, 1, 255, 128]
    assert seen(encoded(deep, "TIFF"))[0, :, 0].tolist() == [0, 1, 255, 128]
    black = Image.new("1", (8, 8), 0)
    black.putpixel((3, 0), 1)
    assert seen(encoded(black))[0, :, 0].tolist() == [0, 0, 0, 255, 0, 0, 0, 0]


def _cut_short(kind: str) -> bytes:
    random = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    whole = encoded(Image.fromarray(random), kind)
    return whole[: len(whole) * 2 // 3]


def _wrong_sum() -> bytes:
    data = bytearray(encoded(flag()))
    data[data.index(b"IDAT") + 8] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "^roses/1.jpg is an empty file.$"),
        (
            b"not a picture at all",
            "^roses/1.jpg is none of JPEG, PNG, BMP, GIF, WEBP, TIFF; it is text.$",
        ),
        (_cut_short("JPEG"), r"^roses/1.jpg is damaged: image file is truncated \(\d+ bytes"),
        (_cut_short("PNG"), "^roses/1.jpg is damaged: "),
        (_cut_short("GIF"), "^roses/1.jpg is damaged: "),
        (_cut_short("BMP"), "^roses/1.jpg is damaged: "),
        (_cut_short("TIFF"), "^roses/1.jpg is damaged: "),
        (_cut_short("WEBP"), "^roses/1.jpg is (damaged: |none of)"),
        (_wrong_sum(), "^roses/1.jpg is damaged: "),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "has floating-point pixels of unknown range"),
        (
            encoded(Image.fromarray(np.full((2, 2), 2**20, np.int32)), "TIFF"),
            "has 32-bit pixels of unknown range",
        ),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_what_is_wrong_with_a_file_is_told_with_its_name(data: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        decoding.normalized(data, "roses/1.jpg")


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"x.png is too large to be decoded safely: .*4608 pixels"):
        decoding.normalized(encoded(flag()), "x.png")


@pytest.mark.parametrize("size", [(65_501, 3), (8_200, 8_200)])
def test_a_picture_of_more_pixels_than_any_camera_writes_is_refused(size: tuple[int, int]):
    data = encoded(Image.new("1", size))
    with pytest.raises(ValueError, match=f"too large .* it has {size[1]} x {size[0]} pixels"):
        decoding.standard(data)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "LA"])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 9)])
def test_a_png_whose_last_rows_are_missing_is_refused(mode: str, size: tuple[int, int]):
    whole = encoded(flag().resize(size).convert(mode))
    assert decoding.standard(whole)
    higher = (size[1] + 1).to_bytes(4, "big")
    header = b"IHDR" + whole[16:20] + higher + whole[24:29]
    data = whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:]
    with pytest.raises(ValueError, match="is damaged: "):
        decoding.standard(data)


@pytest.mark.parametrize("passes", [1, 7])
def test_an_interlaced_png_has_the_rows_of_all_its_passes(passes: int):
    pixels = np.random.default_rng(0).integers(0, 256, (13, 11, 3), np.uint8)
    rows = [pixels[y::dy, x::dx] for x, y, dx, dy in ADAM7[:passes]]
    raw = b"".join(b"\0" + row.tobytes() for each in rows for row in each if each.size)
    header = struct.pack(">IIBBBBB", 11, 13, 8, 2, 0, 0, 1)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(each)) + name + each + struct.pack(">I", zlib.crc32(name + each))
        for name, each in parts
    )
    if passes == 7:
        assert (seen(data) == pixels).all()
    else:
        with pytest.raises(ValueError, match="is damaged: "):
            decoding.standard(data)


ADAM7 = [
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
]
"""The first column and row and the steps of each pass, of the PNG specification, section 8.2."""


@pytest.mark.parametrize(
    "data",
    [
        encoded(flag())[:-4] + b"none",
        encoded(flag()) + b"more than there should be",
        encoded(flag(), "JPEG") + b"more than there should be",
    ],
    ids=["PNG without end", "PNG and more", "JPEG and more"],
)
def test_what_pillow_does_not_mind_tensorflow_decodes_too(data: bytes):
    assert looks_like(seen(data), flag())


def test_warnings_of_pillow_do_not_leak(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 4_000
    )  # There are 4,608: a warning, not an error.
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        decoding.normalized(encoded(flag()), "x.png")
    assert not leaked


def test_damaged_notes_do_not_make_a_picture_damaged():
    data = encoded(flag(), "JPEG", exif=b"Exif\0\0nonsense")
    assert looks_like(seen(data), flag())


@pytest.mark.parametrize(
    "stored",
    [
        lambda numbers: Image.fromarray(numbers),
        lambda numbers: _with_palette(numbers),
        lambda numbers: Image.fromarray(numbers.astype(np.uint16)),
    ],
    ids=["grey", "palette", "16 bits"],
)
def test_masks_keep_their_class_numbers(stored: Callable[[np.ndarray], Image.Image]):
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4)
    standard = decoding.standard_mask(encoded(stored(numbers)))
    image = Image.open(io.BytesIO(standard))
    assert image.mode == "L"
    assert (np.asarray(image) == numbers).all()


def _with_palette(numbers: np.ndarray) -> Image.Image:
    image = Image.fromarray(numbers, mode=None).convert("L")
    indexed = Image.new("P", image.size)
    indexed.putdata(list(image.tobytes()))
    indexed.putpalette([value for i in range(256) for value in (255 - i, i, 128)])
    return indexed


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encoded(flag()), r"is a mask in colour \(RGB\), expected one channel"),
        (encoded(Image.fromarray(np.full((2, 2), 300, np.uint16))), "with the value 300"),
    ],
    ids=["colour", "large"],
)
def test_what_is_no_mask_is_refused(data: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        decoding.standard_mask(data)


@pytest.mark.parametrize(
    ("sides", "least", "expected"),
    [
        ((640, 480), 120, (160, 120)),
        ((640, 480), 121, (320, 240)),
        ((640, 480), 60, (80, 60)),
        ((640, 480), 1, (80, 60)),
        ((640, 480), 241, (640, 480)),
        ((201, 301), 100, (101, 151)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_large_jpeg_is_decoded_at_the_part_of_its_size_that_keeps_enough(
    sides, least, expected, kind
):
    buffer = io.BytesIO()
    ramp = np.linspace(0, 255, sides[0] * sides[1]).reshape(sides[1], sides[0])
    Image.fromarray(ramp.astype(np.uint8)).convert("RGB").save(buffer, kind)
    found = decoding.picture(tf.constant(buffer.getvalue()), least).numpy()
    width, height = expected if kind == "JPEG" else sides
    assert found.shape == (height, width, 3)
    whole = tf.image.resize(decoding.picture(tf.constant(buffer.getvalue())), found.shape[:2])
    assert np.abs(found - whole.numpy()).mean() < 2


@pytest.mark.parametrize(
    ("depth", "is_white_zero", "packed", "expected"),
    [
        (12, False, b"\x00\x0f\xff\x00", [0, 255]),
        (16, False, b"\x00\x00\xff\xff", [0, 255]),
        (16, True, b"\x00\x00\xff\xff", [255, 0]),
        (32, False, b"\x00\x01\x00\x00\xff\xff\x00\x00", [1, 255]),
    ],
)
def test_deep_tiffs_are_as_light_as_their_notes_say(depth, is_white_zero, packed, expected):
    # Width, height, bits, compression, meaning, offset, samples, rows a strip, bytes of it.
    values = {256: 2, 257: 1, 258: depth, 259: 1, 262: int(not is_white_zero)}
    values |= {273: 8, 277: 1, 278: 1, 279: len(packed) - (depth == 12)}
    data = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + struct.pack("<H", len(values))
    for tag, value in values.items():
        data += struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value)
    assert seen(data + bytes(4))[0, :, 0].tolist() == expected


def test_a_deep_colour_that_is_transparent_is_laid_on_white():
    deep = Image.fromarray(np.array([[1799, 3000]], np.uint16))
    buffer = io.BytesIO()
    deep.save(buffer, "PNG", transparency=1799)
    assert Image.open(io.BytesIO(buffer.getvalue())).info["transparency"] == 1799
    assert seen(buffer.getvalue())[0, :, 0].tolist() == [255, 3000 >> 8]


LARGE = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 4},
}


def decodes(decode: Callable[[bytes], object], data: bytes) -> bool:
    try:
        decode(data)
    except (OSError, ValueError):
        return False
    return True


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("way", LARGE)
def test_a_fault_of_a_reduced_picture_is_found_as_that_of_the_whole(way: str, mode: str):
    noise = np.random.default_rng(0).integers(0, 256, (34, 45, 3), np.uint8)
    picture = Image.fromarray(noise).resize((720, 540), Image.Resampling.BICUBIC).convert(mode)
    data = encoded(picture, "JPEG", quality=90, **LARGE[way])
    found = decoding.examined(data)
    assert found.standard == data and (found.height, found.width) == (540, 720)
    assert (found.mode, found.grey.size) == (mode, (360, 270))
    halved = picture.convert("L").resize((360, 270), Image.Resampling.BOX)
    assert np.abs(np.asarray(found.grey, int) - np.asarray(halved)).mean() < 2

    def whole(data: bytes) -> None:
        Image.open(io.BytesIO(data)).load()

    for cut in np.linspace(2, len(data) - 40, 24, dtype=int):
        ended = data[:cut] + b"\xff\xd9"  # The end alone does not tell that something is missing.
        assert decodes(whole, ended) == decodes(decoding.examined, ended)
        assert not decodes(decoding.examined, data[:cut])
