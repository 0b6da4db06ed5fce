"""Encoded pictures of every kind that is read: their headers, and why others are not read.

The first bytes decide what a file is, never its suffix.
"""

from __future__ import annotations

import io
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import Lock
from typing import Any

from PIL import Image

from transfer.datasets.readers.picture_suffixes import OPTIONAL_FORMATS
from transfer.errors import BadImage
from transfer.utils.file_kinds import FileKind, file_kind

# Without a handler, what decoders log of a damaged picture would be printed without its name.
for _decoder in ("PIL", "tifffile"):
    logging.getLogger(_decoder).addHandler(logging.NullHandler())

# Kind -> the class of Pillow that reads it. `Image.open` is avoided: beyond its own limit of pixels
# it first warns, and then raises an error without the size.
PILLOW_READERS = {
    "jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "png": ("PIL.PngImagePlugin", "PngImageFile"),
    "webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "pnm": ("PIL.PpmImagePlugin", "PpmImageFile"),
    "jpeg2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
}
# Kind -> its entries in OPTIONAL_FORMATS and in Pillow's table of formats.
PLUGIN_READERS = {"avif": ("AVIF", "AVIF"), "heic": ("HEIC", "HEIF"), "jxl": ("JPEG XL", "JXL")}
# What turns a document into pictures, where its kind is known.
_AS_PICTURE = "export it as JPEG, PNG or TIFF"
REMEDIES = {
    **dict.fromkeys(("pfm", "raw", "svg", "icon", "psd", "exr", "dicom"), _AS_PICTURE),
    **dict.fromkeys(("pdf", "postscript", "office"), "export its pages as pictures"),
    "video": "export its frames as pictures",
}
# Chunks of a PNG that no pixel needs. Pillow limits their size, and refuses a picture beyond it.
PNG_METADATA = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
# Texts that may hold the orientation; they are kept up to the size that Pillow accepts.
ORIENTATION_TEXTS = (b"XML:com.adobe.xmp", b"Raw profile type exif")
MAX_TEXT = 1 << 20
DOWNLOAD = "copy or download it again"
# Of what decoders say of files that end early.
SIGNS_OF_DAMAGE = (
    *("truncated", "broken data stream", "could not create decoder", "parsing failed"),
    *("decoder error -2", "beyond the end"),
)
_limit_lock = Lock()
MAX_RATIO = 1100  # no PNG is compressed further


def read_header(data: bytes) -> Image.Image:
    """Return an encoded picture, of which only the header was read.

    BadImage for a file that is no picture, or one of a kind that this machine does not read.
    Other errors of the decoder pass through, see `decoder_fault`.
    """
    kind = file_kind(data)
    if kind.name in PILLOW_READERS:
        module, name = PILLOW_READERS[kind.name]
        reader = getattr(import_module(module), name)
    elif kind.name in PLUGIN_READERS:
        reader = _plugin_reader(kind)
    else:
        raise BadImage(_refusal(kind))
    if kind.name == "png":
        _check_png_size(data)
        data = png_without_metadata(data)
    return reader(io.BytesIO(data))


def _check_png_size(data: bytes) -> None:
    """Raise BadImage for a PNG whose size needs more bytes than it has; zlib has a limit."""
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    channels = {2: 3, 4: 2, 6: 4}.get(data[25], 1) if len(data) > 25 else 1
    if len(data) > 25 and width * height * channels * data[24] // 8 > MAX_RATIO * len(data):
        raise BadImage(
            f"a PNG picture that is cut off ({len(data):,} bytes cannot hold {width} x {height} "
            f"pixels): {DOWNLOAD}"
        )


def picture_size(data: bytes) -> tuple[int, int]:
    """Return width and height of an encoded picture in px as stored; BadImage if it is invalid."""
    try:
        with read_header(data) as image:
            return image.size
    except BadImage:
        raise
    except Exception as error:  # decoders raise almost any error on invalid bytes
        raise decoder_fault(file_kind(data), error) from error


@contextmanager
def without_pixel_limit() -> Iterator[None]:
    """Lift Pillow's own limit of pixels, which is one for the whole process."""
    with _limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def too_many_pixels(width: int, height: int, limit: int) -> str:
    """Return what is wrong with a picture of more pixels than `max_pixels`."""
    return f"{width} x {height} pixels, more than {limit:,}: raise `max_pixels`, or make it smaller"


def decoder_fault(kind: FileKind, error: Exception) -> BadImage:
    """Return a decoder's error as BadImage with the kind of the picture."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if any(words in reason.lower() for words in SIGNS_OF_DAMAGE):
        return BadImage(f"{kind.text} that is damaged or cut off ({reason}): {DOWNLOAD}")
    return BadImage(f"{kind.text} that cannot be decoded ({reason})")


def png_without_metadata(data: bytes) -> bytes:
    """Return a PNG without texts and color profile; orientation and pixels stay.

    A text may unpack to a thousand times its size, so it is not unpacked at all.
    """
    chunks = list(_png_chunks(data))
    if not any(kind in PNG_METADATA for kind, _, _ in chunks):
        return data
    parts = [data[:8]]
    for kind, start, end in chunks:
        if kind not in PNG_METADATA or _holds_orientation(kind, data[start + 8 : end - 4]):
            parts.append(data[start:end])
    return b"".join(parts)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of each chunk; the last may be cut off."""
    start = 8
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        kind = data[start + 4 : start + 8]
        yield kind, start, min(end, len(data))
        start = len(data) if kind == b"IEND" else end


def _holds_orientation(kind: bytes, body: bytes) -> bool:
    keyword, _, rest = body[:80].partition(b"\0")
    if kind == b"iCCP" or keyword not in ORIENTATION_TEXTS or len(body) > MAX_TEXT:
        return False
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"):
        return True
    packed = body[len(keyword) + 2 :]
    if kind == b"iTXt":  # after the method come the language and the translated keyword
        packed = packed[1:].split(b"\0", 2)[-1]
    try:
        unpacked = zlib.decompressobj().decompress(packed, MAX_TEXT + 1)
    except zlib.error:
        return False
    return len(unpacked) <= MAX_TEXT


def _plugin_reader(kind: FileKind) -> Any:
    """Return the class that reads a kind with a module that not every installation has."""
    label, form = PLUGIN_READERS[kind.name]
    name = OPTIONAL_FORMATS[label].module()
    if not name:
        raise BadImage(_refusal(kind))
    # The module of Pillow's own decoder is compiled; its plug-in lies beside it.
    module = import_module("PIL.AvifImagePlugin" if name == "PIL._avif" else name)
    if label == "HEIC":
        module.register_heif_opener()
    return Image.OPEN[form][0]


def _refusal(kind: FileKind) -> str:
    """Return why a file is not read, with the remedy."""
    if kind.name in PLUGIN_READERS:
        package = OPTIONAL_FORMATS[PLUGIN_READERS[kind.name][0]].package
        return f"{kind.text}: `pip install {package}` makes it readable"
    if kind.name in REMEDIES:
        return f"{kind.text}: {REMEDIES[kind.name]}"
    text = kind.text if kind.name in ("empty", "zeros") else f"{kind.text}, not a picture"
    return f"{text}: {kind.remedy}" if kind.remedy else text
