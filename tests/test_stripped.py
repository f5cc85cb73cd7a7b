"""Pictures without their metadata: the same pixels, and nothing else."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from tlkeras.frameworks import tf
from tlkeras.images import decoding, metadata

MARK = "Hanako^Yamada"
PHOTO = np.random.default_rng(0).integers(0, 255, (40, 56, 3)).astype(np.uint8)


def saved(mode: str, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def segment(kind: int, content: bytes) -> bytes:
    return b"\xff" + bytes([kind]) + struct.pack(">H", len(content) + 2) + content


def notes() -> Image.Exif:
    """EXIF with an owner, a serial number, a place and a second picture."""
    exif = Image.Exif()
    exif[0x013B] = exif[0x010E] = MARK
    exif.get_ifd(0x8769)[0xA431] = MARK  # BodySerialNumber.
    exif.get_ifd(0x8825)[2] = (35.0, 41.0, 22.0)  # GPSLatitude.
    exif.get_ifd(0x8825)[29] = MARK  # GPSDateStamp.
    return exif


def with_segments(jpeg: bytes) -> bytes:
    """A JPEG with every kind of note: behind its beginning, before its pixels, behind its end."""
    texts = [
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + MARK.encode()),
        segment(0xED, b"Photoshop 3.0\08BIM" + MARK.encode()),
        segment(0xE0, b"JFXX\0" + MARK.encode()),
        segment(0xEF, MARK.encode()),
        segment(0xFE, MARK.encode()),
    ]
    scan = jpeg.index(b"\xff\xda")
    middle = b"".join(texts) + b"\xff\xff" + segment(0xFE, MARK.encode())[1:]
    return jpeg[:2] + b"".join(texts) + jpeg[2:scan] + middle + jpeg[scan:] + MARK.encode()


def with_thumbnail(jpeg: bytes) -> bytes:
    """A JPEG whose JFIF segment holds a small picture."""
    small = MARK.encode().ljust(15, b"\0")
    content = jpeg[6:18] + bytes([5, 1]) + small
    return jpeg[:2] + segment(0xE0, content) + jpeg[20:]


def as_rgb(jpeg: bytes) -> bytes:
    """The same coded numbers, which an Adobe segment calls red, green and blue."""
    return jpeg[:2] + segment(0xEE, b"Adobe\0\x64\0\0\0\0\0" + MARK.encode()) + jpeg[20:]


def mpo() -> bytes:
    buffer = io.BytesIO()
    first = Image.fromarray(PHOTO)
    first.save(buffer, "MPO", save_all=True, append_images=[Image.fromarray(255 - PHOTO)])
    return buffer.getvalue() + MARK.encode()


def with_chunks(png: bytes) -> bytes:
    """A PNG with chunks before its pixels and bytes behind its end."""
    end = 8 + 25
    found = b""
    for name, content in {
        b"gAMA": struct.pack(">I", 45_455),
        b"cHRM": MARK.encode().ljust(32),
        b"tIME": b"\x07\xea\x0b\x1c\0\0\0",
        b"prVt": MARK.encode(),
        b"sBIT": bytes([8, 8, 8]),
    }.items():
        found += struct.pack(">I", len(content)) + name + content
        found += struct.pack(">I", zlib.crc32(name + content))
    return png[:end] + found + png[end:] + MARK.encode()


def texts() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", MARK)
    info.add_text("Comment", MARK, zip=True)
    info.add_itxt("XML:com.adobe.xmp", MARK)
    return info


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
JPEG = saved("RGB", "JPEG", quality=90)
FILES = {
    "exif": saved("RGB", "JPEG", exif=notes()),
    "exif grey": saved("L", "JPEG", exif=notes(), comment=MARK),
    "profile": saved("RGB", "JPEG", icc_profile=PROFILE),
    "segments": with_segments(JPEG),
    "progressive": with_segments(saved("RGB", "JPEG", progressive=True)),
    "restarts": with_segments(saved("RGB", "JPEG", restart_marker_blocks=1)),
    "thumbnail": with_thumbnail(JPEG),
    "adobe rgb": as_rgb(JPEG),
    "cmyk": with_segments(saved("CMYK", "JPEG")),
    "mpo": mpo(),
    "png texts": saved("RGB", "PNG", pnginfo=texts(), exif=notes(), icc_profile=PROFILE),
    "png chunks": with_chunks(saved("RGB", "PNG")),
    "png grey": with_chunks(saved("L", "PNG", pnginfo=texts())),
    "png alpha": with_chunks(saved("LA", "PNG")),
    "png palette": with_chunks(saved("P", "PNG", transparency=3)),
    "png animation": saved("RGB", "PNG", save_all=True, append_images=[Image.new("RGB", (56, 40))]),
}


def seen(encoded: bytes) -> list[np.ndarray]:
    """What TensorFlow and Pillow decode."""
    image = Image.open(io.BytesIO(encoded))
    pixels = tf.io.decode_image(encoded, expand_animations=False) if image.mode != "CMYK" else None
    return [np.asarray(image), *([pixels.numpy()] if pixels is not None else [])]


@pytest.mark.parametrize("name", FILES)
def test_all_notes_go_and_the_decoded_pixels_stay(name: str):
    made = metadata.stripped(FILES[name])
    assert made is not None and len(made) < len(FILES[name])
    assert MARK.encode() not in made and b"desc" not in made
    for before, after in zip(seen(FILES[name]), seen(made), strict=True):
        np.testing.assert_array_equal(before, after)
    assert metadata.stripped(made) is made


def test_an_adobe_segment_that_tells_the_colours_stays():
    """Without it both decoders would take red, green and blue for luma and chroma."""
    plain = as_rgb(JPEG)
    made = metadata.stripped(plain)
    assert made is not None and b"Adobe" in made
    differences = np.abs(seen(plain)[1].astype(int) - seen(JPEG)[1])
    assert differences.mean() > 20


def test_coded_pixels_are_copied_byte_by_byte():
    made = metadata.stripped(FILES["segments"])
    assert made == JPEG
    png = saved("RGB", "PNG")
    assert metadata.stripped(with_chunks(png)) == png


@pytest.mark.parametrize("encoded", [JPEG, saved("L", "JPEG"), saved("RGB", "PNG")])
def test_a_file_without_notes_keeps_its_bytes(encoded: bytes):
    assert metadata.stripped(encoded) is encoded


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xff\xd8\xff",
        JPEG[:25],
        JPEG[:-2],
        saved("RGB", "PNG")[:50],
        saved("RGB", "BMP"),
        b"GIF89a",
    ],
)
def test_another_form_or_a_file_cut_short_is_none(encoded: bytes):
    assert metadata.stripped(encoded) is None


def _flipped(encoded: bytes, place: int) -> bytes:
    return encoded[:place] + bytes([encoded[place] ^ 255]) + encoded[place + 1 :]


def _length(encoded: bytes) -> bytes:
    """A comment that claims to be longer than the file."""
    return encoded[:2] + b"\xff\xfe\xff\xff" + encoded[2:]


@pytest.mark.parametrize("change", [lambda x: _flipped(x, 40), _length, lambda x: x[:-400]])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_damaged_file_is_refused_as_before(kind: str, change: Callable[[bytes], bytes]):
    """Or, where the decoders see none of the damage, it decodes as before."""
    damaged = change(saved("RGB", kind))
    try:
        before = np.asarray(Image.open(io.BytesIO(damaged)).convert("RGB"))
    except (OSError, SyntaxError):
        with pytest.raises(ValueError, match=r"is damaged|is none of"):
            decoding.standard(damaged)
    else:
        after = Image.open(io.BytesIO(decoding.standard(damaged)))
        np.testing.assert_array_equal(before, np.asarray(after))


@pytest.mark.parametrize("name", FILES)
def test_no_standard_picture_holds_a_note(name: str):
    standard = decoding.standard(FILES[name])
    assert MARK.encode() not in standard
    assert not Image.open(io.BytesIO(standard)).getexif()
    assert {*Image.open(io.BytesIO(standard)).info} <= {
        *("jfif", "jfif_version", "jfif_unit", "jfif_density", "adobe", "adobe_transform"),
        *("progressive", "progression"),
    }


def test_no_mask_holds_a_note():
    mask = saved("L", "PNG", pnginfo=texts())
    standard = decoding.standard_mask(mask)
    assert MARK.encode() not in standard
    np.testing.assert_array_equal(seen(standard)[0], seen(mask)[0])


def test_it_costs_little_beside_decoding():
    random = np.random.default_rng(1).integers(0, 255, (1_000, 1_000, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(random).save(buffer, "JPEG", quality=95)
    encoded = with_segments(buffer.getvalue())

    def spent(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    decode = min(spent(lambda: Image.open(io.BytesIO(encoded)).load()) for _ in range(5))
    strip = min(spent(lambda: metadata.stripped(encoded)) for _ in range(5))
    assert strip < 0.5 * decode
