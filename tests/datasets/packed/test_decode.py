from __future__ import annotations

import io
import random
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from tests.datasets.conftest import encode, picture
from transfer.datasets.packed import decode as decode_module
from transfer.datasets.packed.decode import BadImage, decode, decode_file, square
from transfer.datasets.spec import DecodeOptions

FORMS = ["JPEG", "PNG", "WEBP"]
EVERY_FORM = [*FORMS, "GIF", "TIFF", "BMP", "PPM", "JPEG2000"]
ORIENTATION = 0x0112


def png(width: int, height: int, padding: bytes = b"") -> bytes:
    """A PNG with a size in its header and almost no pixels, followed by bytes without a use."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body + padding


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 50), (31, 7), (300, 200)])
def test_each_format_decodes_at_any_size(form: str, width: int, height: int) -> None:
    lossless = (
        {"lossless": True}
        if form == "WEBP"
        else {"quality": 98, "subsampling": 0}
        if form == "JPEG"
        else {}
    )
    original = picture(3, width, height)
    pixels = decode(encode(original, form, **lossless))
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8
    allowed = 12 if form == "JPEG" else 0
    assert np.abs(pixels.astype(int) - np.asarray(original)).max() <= allowed


@pytest.mark.parametrize("form", FORMS)
def test_gray_becomes_three_equal_channels(form: str) -> None:
    pixels = decode(encode(picture().convert("L"), form))
    allowed = 4 if form == "WEBP" else 0  # lossy WebP has no gray
    assert np.ptp(pixels, axis=2).max() <= allowed
    assert pixels.std() > 10


def test_16_bit_gray_keeps_its_upper_byte() -> None:
    values = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    pixels = decode(encode(Image.fromarray(values)))
    assert (pixels == (values >> 8).astype(np.uint8)[..., None]).all()


def test_black_and_white_becomes_0_and_255() -> None:
    bits = np.indices((8, 8)).sum(0) % 2 == 0
    assert (decode(encode(Image.fromarray(bits)))[..., 1] == bits * 255).all()


def test_palette_gives_its_colors() -> None:
    original = picture().quantize(16)
    assert (decode(encode(original)) == np.asarray(original.convert("RGB"))).all()


def test_cmyk_gives_the_colors_that_were_meant() -> None:
    original = Image.new("RGB", (16, 16), (200, 40, 90))
    pixels = decode(encode(original.convert("CMYK"), "JPEG", quality=98))
    assert np.abs(pixels.astype(int) - (200, 40, 90)).max() <= 4


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_alpha_is_laid_on_white(form: str) -> None:
    values = np.zeros((2, 4, 4), dtype=np.uint8)
    values[..., 0], values[..., 3] = 200, [0, 51, 102, 255]
    pixels = decode(
        encode(Image.fromarray(values), form, **({"lossless": True} if form == "WEBP" else {}))
    )
    share = values[..., 3:] / 255
    assert np.abs(pixels - (values[..., :3] * share + 255 * (1 - share))).max() <= 1


@pytest.mark.parametrize("mode", ["LA", "P", "L", "RGB"])
def test_transparency_of_every_kind_shows_white(mode: str) -> None:
    if mode == "LA":
        data = encode(Image.new("LA", (4, 4), (0, 0)))
    else:
        value = (0, 0, 0) if mode == "RGB" else 0
        data = encode(Image.new(mode, (4, 4), value), transparency=value)
    assert (decode(data) == 255).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says(form: str, orientation: int) -> None:
    original = np.zeros((16, 32, 3), dtype=np.uint8)
    original[:8, :8] = 255  # the corner that is seen at the top left
    stored = {
        1: original,
        2: original[:, ::-1],
        3: original[::-1, ::-1],
        4: original[::-1],
        5: original.transpose(1, 0, 2),
        6: original.transpose(1, 0, 2)[::-1],
        7: original.transpose(1, 0, 2)[::-1, ::-1],
        8: original.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels = decode(encode(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif))
    assert pixels.shape == original.shape
    assert np.abs(pixels.astype(int) - original).mean() < 5


def test_exif_that_makes_no_sense_is_passed_over() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decode(encode(picture(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")).shape == (
            20,
            24,
            3,
        )


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(form: str) -> None:
    frames = [picture(number) for number in range(3)]
    lossless = {"lossless": True} if form == "WEBP" else {}
    data = encode(frames[0], form, save_all=True, append_images=frames[1:], **lossless)
    assert (decode(data) == np.asarray(frames[0])).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "^an empty file: copy or download it again$"),
        (b"some words in a text file", "^a text, not a picture$"),
        (b"\xff\xd8\xff", "."),
        (encode(picture(), "JPEG")[:-200], "(?i)truncated"),
        (encode(picture())[:200], "(?i)truncated"),
        (png(0, 5), "."),
    ],
    ids=["empty", "text", "signature", "truncated jpeg", "truncated png", "no width"],
)
def test_what_is_no_picture_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode(data)


@pytest.mark.parametrize("form", EVERY_FORM)
def test_a_picture_cut_off_in_its_first_nine_tenths_is_never_taken(form: str) -> None:
    data = encode(picture(), form)
    for length in range(0, len(data) * 9 // 10, 7):
        with pytest.raises(BadImage):
            decode(data[:length])


@pytest.mark.parametrize("form", EVERY_FORM)
def test_damaged_bytes_give_pixels_or_a_reason_and_no_other_error(form: str) -> None:
    exif = {} if form in ("GIF", "BMP", "PPM", "JPEG2000") else {"exif": Image.Exif()}
    data, draw = encode(picture(), form, **exif), random.Random(0)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pixels = decode(bytes(damaged))
            except BadImage:
                continue
        assert pixels.shape[2] == 3


@pytest.mark.parametrize("side", [20_000, 16_000, 10_001])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(side: int) -> None:
    options = DecodeOptions() if side > 15_811 else DecodeOptions(max_pixels=100_000_000)
    data = png(side, side, padding=b"\0" * 2_000_000)
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limit = f"more than {options.max_pixels:,}: raise `max_pixels`, or make it smaller"
        with pytest.raises(BadImage, match=f"^{side} x {side} pixels, {limit}$"):
            decode(data, options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize(("width", "height"), [(120, 80), (81, 50), (333, 64)])
def test_a_large_picture_is_decoded_at_a_part_of_its_size(
    form: str, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(3, width, height)
    monkeypatch.setattr(decode_module, "REDUCED_PIXELS", 2_000)
    pixels = decode(encode(image, form, **({"quality": 98} if form == "JPEG" else {})))
    assert pixels.shape[0] * pixels.shape[1] <= 2_000
    assert pixels.shape[1] / pixels.shape[0] == pytest.approx(width / height, rel=0.1)
    small = np.asarray(image.resize(pixels.shape[1::-1], Image.Resampling.BOX)).astype(int)
    assert np.abs(pixels - small).mean() < 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_alpha_in_strips_is_alpha_at_once(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 256, (50, 31, 4), dtype=np.uint8)
    image = Image.fromarray(values)
    if mode == "P":
        image = image.convert("RGB").quantize(16)
    data = encode(image.convert(mode), **({} if "A" in mode else {"transparency": 3}))
    whole = decode(data)
    monkeypatch.setattr(decode_module, "STRIP_PIXELS", 31 * 7)
    assert np.array_equal(decode(data), whole)


def test_pillows_own_limit_of_pixels_is_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for form in ("WEBP", "TIFF", "GIF"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert decode(encode(picture(1, 40, 30), form)).shape == (30, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("side", [5_000, 9_900])
def test_a_png_whose_bytes_cannot_hold_its_pixels_takes_no_memory(side: int) -> None:
    tracemalloc.start()
    with pytest.raises(BadImage, match=f"cut off .* cannot hold {side} x {side} pixels"):
        decode(png(side, side))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_large_picture_below_the_limit_is_read_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadImage, match="truncated"):
            decode(png(9_900, 9_900, padding=b"\0" * 300_000))


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="No such file"):
        decode_file(tmp_path / "gone.jpg")


@pytest.mark.parametrize("size", [16, 96, 224])
@pytest.mark.parametrize(
    ("width", "height"), [(120, 80), (250, 333), (47, 50), (400, 31), (97, 96), (1, 50), (640, 480)]
)
def test_a_square_is_torchvisions_resize_and_center_crop_within_two_gray_levels(
    width: int, height: int, size: int
) -> None:
    image = picture(5, width, height)
    resize = v2.Resize(size, interpolation=InterpolationMode.BICUBIC, antialias=True)
    expected = np.asarray(v2.CenterCrop(size)(resize(image))).astype(int)
    difference = np.abs(square(np.asarray(image), size) - expected)
    assert difference.max() <= 2
    assert difference.mean() < 0.01


def test_a_picture_that_fits_already_keeps_its_bytes() -> None:
    pixels = np.asarray(picture(1, 64, 64))
    assert (square(pixels, 64) == pixels).all()


def test_pillows_own_opening_agrees_on_good_pictures() -> None:
    for form in FORMS:
        data = encode(picture(8), form)
        assert (decode(data) == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()
