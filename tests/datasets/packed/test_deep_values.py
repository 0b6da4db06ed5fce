"""Pictures of more than 8 bits: what of their values is kept, and `value_range`."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.datasets.conftest import encode
from tests.datasets.packed.test_decode_kinds import png
from transfer.datasets.packed.decode import as_rgb, decode, decode_picture
from transfer.datasets.packed.decode_remarks import decode_notes
from transfer.datasets.spec import DecodeOptions
from transfer.errors import BadImage

TWELVE_BITS = DecodeOptions(value_range=(0, 4095))


def tiff(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    kind = "rgb" if values.ndim == 3 and values.shape[-1] in (3, 4) else "minisblack"
    tifffile.imwrite(buffer, values, **{"photometric": kind, **options})
    return buffer.getvalue()


def pgm(values: np.ndarray, white: int) -> bytes:
    height, width = values.shape
    return f"P5 {width} {height} {white}\n".encode() + values.astype(">u2").tobytes()


def ramp(top: int, *shape: int) -> np.ndarray:
    """Values from 0 to `top`."""
    return np.linspace(0, top, int(np.prod(shape))).round().astype(np.uint16).reshape(shape)


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    pixels = np.rint((np.clip(values.astype(float), low, high) - low) * 255 / (high - low))
    return np.broadcast_to(pixels.reshape(*values.shape[:2], -1), (*values.shape[:2], 3))


# Without a range


@pytest.mark.parametrize("color", [0, 2, 4, 6])
def test_of_a_png_of_16_bits_the_upper_byte_is_kept(color: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    values = ramp(65535, 20, 21, channels)
    if channels in (2, 4):
        values[..., -1] = 65535
    seen = values[..., : 1 if channels < 3 else 3] >> 8
    pixels, remarks = decode_picture(png(values if channels > 1 else values[..., 0], color, 16))
    assert (pixels == seen).all()
    assert remarks == ("bits 16",)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
@pytest.mark.parametrize("shape", [(20, 21), (20, 21, 3), (20, 21, 4)])
def test_of_a_tiff_of_16_bits_the_upper_byte_is_kept(
    order: str, layout: dict[str, Any], shape: tuple[int, ...]
) -> None:
    values = ramp(65535, *shape)
    alpha = {"extrasamples": ["unassalpha"]} if len(shape) == 3 and shape[2] == 4 else {}
    if alpha:
        values[..., 3] = 65535
    data = tiff(values, byteorder=order, **layout, **alpha)
    seen = values.reshape(20, 21, -1)[..., :3]
    assert (decode(data) == seen >> 8).all()
    assert (decode(data, TWELVE_BITS) == scaled(seen, 0, 4095)).all()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_planes_that_lie_apart_are_one_picture(compression: str | None) -> None:
    values = ramp(65535, 3, 20, 21)
    data = tiff(values, photometric="rgb", planarconfig="separate", compression=compression)
    expected = np.moveaxis(values, 0, 2)
    assert (decode(data) == expected >> 8).all()
    assert (decode(data, TWELVE_BITS) == scaled(expected, 0, 4095)).all()


def test_zero_is_white_where_a_tiff_says_so() -> None:
    values = ramp(65535, 20, 21)
    pixels = decode(tiff(values, photometric="miniswhite"))
    assert (pixels == 255 - (values >> 8)[..., None]).all()


def test_of_a_jpeg_2000_of_16_bits_the_upper_byte_is_kept() -> None:
    values = ramp(65535, 40, 40)
    pixels, remarks = decode_picture(encode(Image.fromarray(values), "JPEG2000"))
    assert (pixels == (values >> 8)[..., None]).all()
    assert remarks == ("bits 16",)
    data = encode(Image.fromarray(ramp(4095, 40, 40)), "JPEG2000")
    assert decode(data, TWELVE_BITS).max() == 255


def test_a_format_that_names_its_white_is_scaled_by_it() -> None:
    values = ramp(4095, 20, 21)
    for data in (pgm(values, 4095), pgm(values * 16, 65535)):
        assert np.abs(decode(data).astype(int) - (values >> 4)[..., None]).max() <= 1
    assert (decode(pgm(values, 4095), TWELVE_BITS) == scaled(values, 0, 4095)).all()


@pytest.mark.parametrize(
    "kind", ["int8", "int16", "uint32", "int32", "float32", "float64", "float16", "uint64"]
)
def test_values_without_a_white_need_a_range(kind: str) -> None:
    values = np.linspace(0, 100, 400).astype(kind).reshape(20, 20)
    with pytest.raises(BadImage, match=f"its {kind} values have no fixed range: set `value_ra"):
        decode(tiff(values))
    pixels = decode(tiff(values), DecodeOptions(value_range=(0, 100)))
    assert (pixels == scaled(values, 0, 100)).all()


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_colors_that_pillow_does_not_know_need_a_range_too(kind: str) -> None:
    values = np.linspace(-50, 100, 1200).astype(kind).reshape(20, 20, 3)
    with pytest.raises(BadImage, match=f"its {kind} values have no fixed range"):
        decode(tiff(values))
    pixels = decode(tiff(values), DecodeOptions(value_range=(-50, 100)))
    assert (pixels == scaled(values, -50, 100)).all()


def test_a_tiff_of_complex_values_is_refused() -> None:
    with pytest.raises(BadImage, match="a TIFF picture of complex64 values"):
        decode(tiff(np.ones((9, 9), np.complex64)), TWELVE_BITS)


def test_a_tiff_without_all_its_strips_is_refused() -> None:
    data = bytearray(tiff(ramp(65535, 20, 20)))
    start = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[start : start + 2], "little")
    entries = range(start + 2, start + 2 + 12 * count, 12)
    height = next(at for at in entries if int.from_bytes(data[at : at + 2], "little") == 257)
    data[height + 8 : height + 12] = (9_000_000).to_bytes(4, "little")
    with pytest.raises(BadImage, match=r"cut off \(1 of 450000 strips\)"):
        decode(bytes(data))


def test_values_that_are_not_numbers_are_refused() -> None:
    values = np.ones((20, 20), np.float32)
    values[3, 4] = np.nan
    with pytest.raises(BadImage, match=r"not numbers \(NaN\)"):
        decode(tiff(values), DecodeOptions(value_range=(0, 1)))


# With a range


@pytest.mark.parametrize("color", [0, 2, 4, 6])
def test_a_range_takes_all_bits_of_a_png(color: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    values = ramp(4095, 20, 21, channels)
    if channels in (2, 4):
        values[..., -1] = 65535
    seen = values[..., : 1 if channels < 3 else 3]
    data = png(values if channels > 1 else values[..., 0], color, 16)
    pixels, remarks = decode_picture(data, TWELVE_BITS)
    assert (pixels == scaled(seen, 0, 4095)).all()
    assert remarks == ("in value_range",)


def test_values_outside_of_a_range_become_black_and_white() -> None:
    values = np.array([[0, 99, 100, 150, 200, 201, 65535]])
    options = DecodeOptions(value_range=(100, 200))
    pixels, remarks = decode_picture(png(values, 0, 16), options)
    assert pixels[0, :, 0].tolist() == [0, 0, 0, 128, 255, 255, 255]
    assert remarks == ("in value_range", "outside of value_range")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP"])
def test_a_range_leaves_pictures_of_8_bits_alone(form: str) -> None:
    data = encode(Image.new("RGB", (9, 9), (200, 100, 50)), form)
    assert (decode(data, TWELVE_BITS) == decode(data)).all()
    assert decode_picture(data, TWELVE_BITS).remarks == ()


def test_transparent_gray_is_white_with_a_range_too() -> None:
    values = np.array([[1000, 4095, 2000]])
    data = png(values, 0, 16, (b"tRNS", (1000).to_bytes(2, "big")))
    assert decode(data, TWELVE_BITS)[0, :, 0].tolist() == [255, 255, 125]


def test_colors_of_other_formats_are_refused_with_a_range() -> None:
    data = b"P6 2 1 4095\n" + bytes(12)
    assert decode(data).shape == (1, 2, 3)
    with pytest.raises(BadImage, match="from PNG and TIFF only"):
        decode(data, TWELVE_BITS)


def test_an_open_picture_of_float_values_needs_a_range() -> None:
    image = Image.fromarray(np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10))
    with pytest.raises(BadImage, match="float32 values have no fixed range"):
        as_rgb(image)
    assert np.asarray(as_rgb(image, (0, 1)))[-1, -1].tolist() == [255, 255, 255]


# Notes on a set


@pytest.mark.parametrize(
    ("counts", "note"),
    [
        ({"bits 12": 9, "bits 11": 1}, "only the values 0..4095 in 10 of 10"),
        ({"bits 11": 1}, "only the values 0..4095 in 1 of 1"),
        ({"bits 14": 3, "bits 16": 2}, "only the values 0..16383 in 3 of 5"),
        ({"bits 9": 3}, "only the values 0..1023 in 3 of 3"),
        ({"bits 7": 3}, "only the values 0..255 in 3 of 3"),
        ({"bits 12": 5, "bits 16": 6}, "in 5 of 11, which makes them dark; make them a set of"),
        ({"inverted bits 12": 2}, "makes them light; `value_range: [0, 4095]` in `data:` makes"),
        ({"fixed bits 12": 2}, "makes 4095 white in PNG and TIFF: export them"),
        ({"bits 12": 1, "bits 16": 20}, ""),
        ({"bits 16": 5, "bits 15": 5}, ""),
        ({}, ""),
    ],
)
def test_a_note_names_the_values_that_are_used(counts: dict[str, int], note: str) -> None:
    notes = decode_notes(Counter(counts), None)
    assert len(notes) == bool(note)
    assert note in "".join(notes)


def test_notes_on_a_range() -> None:
    assert decode_notes({"in value_range": 3}, (0, 4095)) == []
    clipped = decode_notes({"in value_range": 3, "outside of value_range": 2}, (0, 4095))
    assert clipped[0].startswith("2 of 3 images of more than 8 bits have values outside of")
    single = decode_notes({"in value_range": 1, "outside of value_range": 1}, (0, 4095))
    assert single[0].startswith("1 of 1 image of more than 8 bits has values outside of")
    unused = "`value_range: [0, 4095]` has no effect: no image has more than 8 bits"
    assert decode_notes({}, (0, 4095)) == [unused]
    assert decode_notes({"several pages": 2}, None)[0].startswith("2 TIFFs with several pages")


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_colors_of_a_ppm_are_not_advised_a_range_that_is_refused(bits: int) -> None:
    values = np.full((2, 2, 3), (1 << bits) - 1, dtype=">u2")
    data = b"P6 2 2 65535\n" + values.tobytes()
    assert decode_picture(data).remarks == (f"fixed bits {bits}",)
    with pytest.raises(BadImage, match="from PNG and TIFF only"):
        decode(data, TWELVE_BITS)


def test_a_tiff_whose_zero_is_white_is_remarked() -> None:
    image = Image.fromarray(np.full((2, 2), 4095, dtype=np.uint16))
    data = encode(image, "TIFF", tiffinfo={262: 0})
    assert decode_picture(data).remarks == ("inverted bits 12",)
    assert decode(data).min() == 240
    assert decode(data, TWELVE_BITS).max() == 0
