"""Kinds of pictures besides JPEG, PNG and WebP, and why other files are none."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin, features

from tests.datasets.conftest import encode, picture
from transfer.datasets.packed.decode import decode, decode_picture
from transfer.datasets.readers import picture_suffixes
from transfer.datasets.readers.member_names import is_image
from transfer.datasets.readers.picture_suffixes import unread_reason
from transfer.errors import BadImage

ORIENTATION = 0x0112
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
LOSSLESS = {
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "PPM": {},
    "JPEG2000": {},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}
TIFFS = ["tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate", "jpeg"]


def flat(color: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (12, 8), color)


# What is read


@pytest.mark.parametrize("form", [pytest.param("AVIF", marks=needs_avif), *list(LOSSLESS)[:-1]])
def test_a_kind_is_known_by_its_bytes(form: str) -> None:
    original = picture(3, 31, 17)
    if form == "GIF":
        original = original.quantize(64)
    pixels = decode(encode(original, form, **LOSSLESS[form]))
    allowed = 12 if form == "AVIF" else 0
    expected = np.asarray(original.convert("RGB")).astype(int)
    assert np.abs(pixels - expected).max() <= allowed


@pytest.mark.parametrize("compression", TIFFS)
def test_a_compressed_tiff_gives_its_pixels(compression: str) -> None:
    pixels = decode(encode(flat((200, 40, 90)), "TIFF", compression=compression))
    assert np.abs(pixels.astype(int) - (200, 40, 90)).max() <= (6 if compression == "jpeg" else 0)


@pytest.mark.parametrize("form", ["TIFF", "BMP", "PPM"])
def test_black_and_white_becomes_0_and_255(form: str) -> None:
    bits = np.indices((8, 9)).sum(0) % 2 == 0
    assert (decode(encode(Image.fromarray(bits), form))[..., 1] == bits * 255).all()


@pytest.mark.parametrize("compression", ["raw", "group4"])
def test_a_scan_of_white_paper_is_white(compression: str) -> None:
    pixels = decode(encode(Image.new("1", (32, 16), 1), "TIFF", compression=compression))
    assert (pixels == 255).all()


def test_a_palette_gives_its_colors_and_shows_white_where_it_is_transparent() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((0, 0), 0)
    pixels = decode(encode(image, "GIF", transparency=0))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[3, 3].tolist() == [200, 100, 50]


@pytest.mark.parametrize("form", ["TIFF", "GIF", pytest.param("AVIF", marks=needs_avif)])
def test_the_first_frame_or_page_is_taken(form: str) -> None:
    frames = [flat((250, 0, 0)), flat((0, 250, 0))]
    data = encode(frames[0], form, save_all=True, append_images=frames[1:])
    pixels, remarks = decode_picture(data)
    assert np.abs(pixels.astype(int) - (250, 0, 0)).max() <= 6
    assert remarks == (("several pages",) if form == "TIFF" else ())


@pytest.mark.parametrize("form", ["TIFF", pytest.param("AVIF", marks=needs_avif)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says(form: str, orientation: int) -> None:
    stored = Image.new("RGB", (32, 16))
    stored.paste((255, 255, 255), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encode(stored, form, exif=exif.tobytes() if form == "AVIF" else exif)
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0)}
    corner |= {5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    pixels = decode(data)
    assert pixels.shape[:2] == ((16, 32) if orientation < 5 else (32, 16))
    assert pixels[corner[orientation]].min() > 200
    assert (pixels > 128).all(2).mean() == pytest.approx(1 / 8, abs=0.03)


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_cmyk_gives_the_colors_that_were_meant(form: str) -> None:
    pixels = decode(encode(flat((200, 40, 90)).convert("CMYK"), form))
    assert np.abs(pixels.astype(int) - (200, 40, 90)).max() <= 6


def test_a_progressive_jpeg_is_the_same_picture() -> None:
    image = picture(2, 40, 30)
    assert (decode(encode(image, "JPEG", progressive=True)) == decode(encode(image, "JPEG"))).all()


@pytest.mark.parametrize("form", ["TIFF", pytest.param("AVIF", marks=needs_avif)])
def test_alpha_is_laid_on_white(form: str) -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((200, 100, 0, 255), (8, 0, 16, 16))
    pixels = decode(encode(image, form)).astype(int)
    assert np.abs(pixels[2, 2] - 255).max() <= 4
    assert np.abs(pixels[8, 13] - (200, 100, 0)).max() <= 8


def test_premultiplied_alpha_of_a_tiff_is_laid_on_white() -> None:
    values = np.full((8, 8, 4), (100, 50, 0, 128), dtype=np.uint8)  # half of (199, 100, 0)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb", extrasamples=["assocalpha"])
    expected = np.array((100, 50, 0)) + 127
    assert np.abs(decode(buffer.getvalue())[0, 0].astype(int) - expected).max() <= 2


# PNG: metadata and transparent gray


def png(values: np.ndarray, color: int, bits: int, *before: tuple[bytes, bytes]) -> bytes:
    """A PNG of (H, W) or (H, W, C) values, with chunks before its pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    height, width = values.shape[:2]
    if bits == 16:
        rows = [row.astype(">u2").tobytes() for row in values]
    else:
        flags = ((values[..., None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8)
        rows = [np.packbits(row.reshape(-1)).tobytes() for row in flags]
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *before, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in chunks)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("where", ["first", "last"])
def test_transparent_gray_of_any_depth_is_white(bits: int, where: str) -> None:
    top = (1 << bits) - 1
    values = np.array([[0, top], [top // 3 if bits > 1 else 0, 0]])
    key = 0 if where == "first" else top
    pixels = decode(png(values, 0, bits, (b"tRNS", struct.pack(">H", key))))
    shown = np.where(values == key, 255, values * 255 // top if bits < 16 else values >> 8)
    assert (pixels == shown[..., None]).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_color_is_white_where_all_its_bits_agree(bits: int) -> None:
    scale = 257 if bits == 16 else 1
    values = np.array([[[10, 20, 30], [10, 20, 31], [10, 20, 30]]]) * scale
    if bits == 16:
        values[0, 2, 2] += 1  # another color with the same upper byte
    key = struct.pack(">HHH", *(np.array((10, 20, 30)) * scale).tolist())
    pixels = decode(png(values, 2, bits, (b"tRNS", key)))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 1].tolist() == [10, 20, 31]
    assert pixels[0, 2].tolist() == ([10, 20, 30] if bits == 16 else [255, 255, 255])


@pytest.mark.parametrize("color", [4, 6])
def test_alpha_of_16_bits_is_laid_on_white(color: int) -> None:
    channels = {4: 2, 6: 4}[color]
    values = np.full((4, 4, channels), 20_000)
    values[..., -1] = 0
    values[:, 2:, -1] = 65535
    pixels = decode(png(values, color, 16))
    assert (pixels[:, :2] == 255).all()
    assert (pixels[:, 2:] == 20_000 >> 8).all()


def _texts(count: int, size: int) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for number in range(count):
        info.add_text(f"key {number}", "x" * size, zip=True)
    return info


@pytest.mark.parametrize("case", ["text", "many texts", "international text", "profile"])
def test_the_metadata_of_a_png_is_not_unpacked(case: str) -> None:
    options: dict[str, object] = {}
    if case == "text":
        options["pnginfo"] = _texts(1, 3_000_000)
    elif case == "many texts":
        options["pnginfo"] = _texts(70, 1_000_000)
    elif case == "international text":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", "x" * 3_000_000, zip=True)
        options["pnginfo"] = info
    else:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        options["icc_profile"] = profile + b"\0" * 1_200_000
    image = picture(4)
    assert (decode(encode(image, "PNG", **options)) == np.asarray(image)).all()


def test_the_orientation_in_the_text_of_a_png_is_kept() -> None:
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
        '"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp)
    info.add_text("note", "x" * 3_000_000, zip=True)
    assert decode(encode(picture(1, 30, 20), "PNG", pnginfo=info)).shape == (30, 20, 3)


# What is not read


@pytest.fixture
def _no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide plug-ins of Pillow that this machine may have."""
    own = picture_suffixes._is_installed
    monkeypatch.setattr(
        picture_suffixes, "_is_installed", lambda name: name.startswith("PIL.") and own(name)
    )


@pytest.mark.usefixtures("_no_plugins")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture: `pip install pillow-heif`"),
        (b"\xff\x0a\0\0", "a JPEG XL picture: `pip install pillow-jxl-plugin`"),
        (b"<!DOCTYPE html><html>", r"a web page \(HTML\), not a picture: download the file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, .*`git lfs pull`"),
        (b"/annex/objects/SHA256E-s1--a", "a git-annex pointer, .*`git annex get`"),
        (b"", "^an empty file: copy or download it again$"),
        (b"\0" * 500, "^a file of zeros only: copy or download it again$"),
        (b"PK\3\4" + b"\0" * 30, "a zip archive, not a picture: unpack it"),
        (b"%PDF-1.7", "a PDF document: export its pages as pictures"),
        (b"\0\0\0\x18ftypisom", "a video: export its frames as pictures"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "an SVG drawing: export it as JPEG"),
        (b"8BPS\0\1", "a Photoshop document: export it as JPEG"),
        (b"\0\5\x16\7\0\2", r"a macOS resource fork \(\._\*\), not a picture: remove it"),
        (b"words", "^a text, not a picture$"),
        (b"\1\2\3\4", "^a file of an unknown kind, not a picture$"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_that_is_no_picture_is_named(data: bytes, message: str) -> None:
    with pytest.raises(BadImage, match=message):
        decode(data)


def test_the_preview_of_a_raw_picture_is_not_taken_for_it() -> None:
    buffer = io.BytesIO()
    values = np.zeros((8, 8, 3), np.uint8)
    tifffile.imwrite(buffer, values, photometric="rgb", subfiletype=1)
    with pytest.raises(BadImage, match="begins with a preview"):
        decode(buffer.getvalue())


@pytest.mark.parametrize("channels", [2, 5, 7])
def test_a_tiff_of_other_channels_is_named(channels: int) -> None:
    buffer = io.BytesIO()
    values = np.zeros((8, 9, channels), np.uint16)
    tifffile.imwrite(buffer, values, photometric="minisblack", planarconfig="contig")
    message = f"a TIFF picture of {channels} channels of uint16 values: export it as gray or RGB"
    with pytest.raises(BadImage, match=message):
        decode(buffer.getvalue())


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP", "PPM", "JPEG2000", "JPEG", "PNG", "WEBP"])
def test_a_picture_that_is_cut_off_is_named(form: str) -> None:
    data = encode(picture(1, 200, 150), form)
    kind = {"PPM": "PNM", "WEBP": "WebP", "JPEG2000": "JPEG 2000"}.get(form, form)
    with pytest.raises(BadImage, match=f"^a {kind} picture .*(cut off).*: copy or download"):
        decode(data[: len(data) * 8 // 10])


# Plug-ins

PLUGIN = """
from PIL import Image, ImageFile

class HeifImageFile(ImageFile.ImageFile):
    format = "HEIF"

    def _open(self):
        self.fp.seek(40)
        self._mode, self._size = "RGB", (4, 4)
        self.tile = [("raw", (0, 0, 4, 4), 40, ("RGB", 0, 1))]

def register_heif_opener():
    Image.register_open("HEIF", HeifImageFile, lambda start: start[4:12] == b"ftypheic")
"""


@pytest.mark.skipif(find_spec("pillow_heif") is not None, reason="the plug-in is installed")
def test_a_plugin_makes_heic_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\0\0\0\x18ftypheic".ljust(40, b"\0") + bytes(range(48))
    with pytest.raises(BadImage, match="pip install pillow-heif"):
        decode(data)
    assert unread_reason("a/IMG_1.HEIC").startswith("HEIC: `pip install pillow-heif`")
    (tmp_path / "pillow_heif.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pillow_heif", raising=False)
    try:
        assert decode(data)[0, 0].tolist() == [0, 1, 2]
        assert unread_reason("a/IMG_1.HEIC") == ""
    finally:
        sys.modules.pop("pillow_heif", None)
        Image.OPEN.pop("HEIF", None)


@pytest.mark.parametrize(
    ("name", "is_read"),
    [
        *((f"a.{suffix}", True) for suffix in ("JPG", "jfif", "jpe", "jif", "tif", "TIFF", "bmp")),
        *((f"a.{suffix}", True) for suffix in ("gif", "png", "webp", "pgm", "ppm", "jp2")),
        *((f"a.{suffix}", False) for suffix in ("txt", "svg", "CR2", "dng", "xml", "jpg.txt", "")),
    ],
)
def test_suffixes_of_pictures(name: str, is_read: bool) -> None:
    assert is_image(name) == is_read


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a.svg", "a drawing"), ("b/c.NEF", "a camera's raw"), ("d.txt", ""), ("e.jpg", "")],
)
def test_why_a_suffix_is_not_read(name: str, reason: str) -> None:
    assert unread_reason(name).startswith(reason)
    assert bool(unread_reason(name)) == bool(reason)
