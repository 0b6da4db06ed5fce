"""Pictures as people have them, each beside four plain ones: packed, or refused with the reason."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.conftest import Said

PIPELINE = "data: {{folder: {folder}, size: 16}}\nstages: {{hog: {{uses: extract/hog}}}}\n"
GRAY = (90, 120, 200)


def photo(width: int = 48, height: int = 40) -> Image.Image:
    return Image.new("RGB", (width, height), GRAY)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_texts(count: int, letters: int) -> bytes:
    info = PngImagePlugin.PngInfo()
    for number in range(count):
        info.add_text(f"k{number}", "x" * letters, zip=True)
    return encoded(photo(), "PNG", pnginfo=info)


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(photo(60, 30), "JPEG", exif=exif)


def gray_16(value: int, **options: object) -> bytes:
    return encoded(Image.fromarray(np.full((40, 48), value, np.uint16)), "PNG", **options)


JPEG = encoded(photo(200, 200), "JPEG", quality=95)
BAD_EXIF = (
    JPEG[:2]
    + b"\xff\xe1"
    + struct.pack(">H", 28)
    + b"Exif\0\0II*\0\xff\xff\xff\x7f"
    + b"\1" * 12
    + JPEG[2:]
)
MORE = {"save_all": True, "append_images": [photo()]}
# Name -> the file, and the mean of its pixels: that of each channel, or of gray.
TAKEN: dict[str, tuple[Callable[[], bytes], str, float]] = {
    "a text of 1.5 MB": (lambda: with_texts(1, 1_500_000), "x.png", 136.7),
    "70 texts of 1 MB": (lambda: with_texts(70, 1_000_000), "x.png", 136.7),
    "a color profile of 1.2 MB": (
        lambda: encoded(photo(), "PNG", icc_profile=b"\0" * 1_200_000),
        "x.png",
        136.7,
    ),
    "16 bits": (lambda: gray_16(100 * 257), "x.png", 100),
    "16 bits, transparent": (lambda: gray_16(5 * 257, transparency=5 * 257), "x.png", 255),
    "gray with alpha": (lambda: encoded(photo().convert("LA"), "PNG"), "x.png", 120),
    "palette": (lambda: encoded(photo().quantize(4), "PNG"), "x.png", 136.7),
    "MPO": (lambda: encoded(photo(), "MPO", **MORE), "IMG_1.JPG", 136.7),
    "APNG": (lambda: encoded(photo(), "PNG", **MORE), "x.png", 136.7),
    "animated WebP": (lambda: encoded(photo(), "WEBP", lossless=True, **MORE), "x.webp", 136.7),
    "turned by EXIF": (lambda: oriented(6), "x.JPEG", 136.7),
    "broken EXIF": (lambda: BAD_EXIF, "x.jpg", 136.7),
    "a PNG called .jpg": (lambda: encoded(photo(), "PNG"), "x.jpg", 136.7),
    "a TIFF called .jpg": (lambda: encoded(photo(), "TIFF"), "x.jpg", 136.7),
    "a BMP called .jpg": (lambda: encoded(photo(), "BMP"), "x.jpg", 136.7),
    "a GIF called .jpg": (lambda: encoded(photo().quantize(4), "GIF"), "x.jpg", 136.7),
    "one pixel": (lambda: encoded(photo(1, 1), "PNG"), "x.png", 136.7),
    "one column": (lambda: encoded(photo(1, 3000), "PNG"), "x.png", 136.7),
    "zeros behind the end": (lambda: JPEG + b"\0" * 5000, "x.jpg", 136.7),
    "JFIF": (lambda: JPEG, "x.jfif", 136.7),
    "JPE": (lambda: JPEG, "x.jpe", 136.7),
}
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "HEIC": (
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200,
        "IMG_2.jpg",
        "a HEIC picture: `pip install pillow-heif`",
    ),
    "web page": (b"<!DOCTYPE html><html>404</html>", "x.jpg", "a web page (HTML), not a picture"),
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n",
        "x.jpg",
        "a Git LFS pointer, not a picture: `git lfs pull`",
    ),
    "empty": (b"", "x.jpg", "an empty file: copy or download it again"),
    "cut": (JPEG[: len(JPEG) // 2], "x.jpg", "damaged or cut off"),
}


@pytest.fixture
def packed(
    invoke: Callable[..., Said], tmp_path: Path, pipeline: Callable[..., Path]
) -> Callable[..., Said]:
    """Run a pipeline over four plain pictures and another file."""

    def run(data: bytes, name: str, check: int = 0, options: str = "") -> Said:
        folder = tmp_path / "set"
        folder.mkdir()
        for number in range(4):
            photo().save(folder / f"{number}.png")
        (folder / name).write_bytes(data)
        text = PIPELINE.format(folder=folder).replace("size: 16", f"size: 16{options}")
        return invoke("run", pipeline(text), "--store", tmp_path / "store", check=check)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("case", TAKEN)
def test_good_pictures_are_packed_with_their_colors(
    packed: Callable[..., Said], tmp_path: Path, case: str
) -> None:
    from transfer.artifacts import Images

    make, name, mean = TAKEN[case]
    assert "images 5" in packed(make(), name).out
    (folder,) = (tmp_path / "store" / "images").glob("[0-9a-f]*")
    images = Images(folder)
    row = next(row for row, id in enumerate(images.ids) if id == name)
    assert float(images.picture(row).mean()) == pytest.approx(mean, abs=2)


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_picture_is_refused_or_skipped_with_the_reason(
    packed: Callable[..., Said], case: str
) -> None:
    data, name, reason = REFUSED[case]
    assert reason in packed(data, name, check=1).err


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_picture_is_left_out_on_demand(packed: Callable[..., Said], case: str) -> None:
    data, name, _ = REFUSED[case]
    said = packed(data, name, options=", on_bad_image: skip").out
    assert "skipped 1" in said
    assert "images 4" in said
