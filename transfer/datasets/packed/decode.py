"""Decoding and resizing of pictures to (H, W, 3) uint8."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from transfer.datasets.packed.decode_remarks import PAGED, deep_remarks, upper_byte_remarks
from transfer.datasets.packed.deep_formats import declared_white, deep_values, takes_range
from transfer.datasets.packed.deep_values import DeepValues
from transfer.datasets.packed.picture_files import (
    decoder_fault,
    read_header,
    too_many_pixels,
    without_pixel_limit,
)
from transfer.datasets.packed.tiff_values import is_paged, tiff_values
from transfer.datasets.spec import DecodeOptions
from transfer.errors import BadImage
from transfer.utils.file_kinds import FileKind, file_kind

REDUCED_PIXELS = 100_000_000  # larger pictures are decoded at, or reduced to, a part of their size
STRIP_PIXELS = 16_000_000  # that are laid on white together

# EXIF orientation -> the operation that turns the stored picture upright.
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """A picture (H, W, 3) uint8, and remarks to count over a set (`decode_remarks.py`)."""

    pixels: np.ndarray
    remarks: tuple[str, ...] = ()


DEFAULTS = DecodeOptions()


def decode_file(path: Path, options: DecodeOptions = DEFAULTS) -> np.ndarray:
    """Return the picture in `path` as (H, W, 3) uint8; BadImage with the reason if it has none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadImage(error.strerror or str(error)) from error
    return decode(data, options)


def decode(data: bytes, options: DecodeOptions = DEFAULTS) -> np.ndarray:
    """Return an encoded picture as (H, W, 3) uint8; BadImage with the reason if it is invalid."""
    return decode_picture(data, options).pixels


def decode_picture(data: bytes, options: DecodeOptions = DEFAULTS) -> Decoded:
    """Return an encoded picture with its remarks; BadImage with the reason if it is invalid.

    Gray becomes three equal channels, alpha is laid on white, EXIF orientation is applied, and of
    several frames or pages the first is taken. Of more than `REDUCED_PIXELS`, a JPEG is decoded at
    a half, a quarter or an eighth of its size, and others are reduced by a whole number.
    """
    kind = file_kind(data)
    try:
        try:
            image, remarks = _decode(kind, data, options)
        except Image.DecompressionBombError:  # Pillow's limit is lower than `max_pixels`
            with without_pixel_limit():
                image, remarks = _decode(kind, data, options)
        if (pixels := image.width * image.height) > REDUCED_PIXELS:
            image = image.reduce(math.ceil(math.sqrt(pixels / REDUCED_PIXELS)))
        return Decoded(np.asarray(image), remarks)
    except BadImage:
        raise
    except Exception as error:  # decoders raise almost any error on invalid bytes
        raise decoder_fault(kind, error) from error


def _decode(
    kind: FileKind, data: bytes, options: DecodeOptions
) -> tuple[Image.Image, tuple[str, ...]]:
    """Return a picture as RGB, upright, with its remarks."""
    try:
        image = read_header(data)
    except (SyntaxError, KeyError):  # types of values that Pillow does not know
        if kind.name != "tiff":
            raise
        deep = tiff_values(data, options.max_pixels)
        return as_rgb(deep.to_8_bits(options.value_range)), deep_remarks(deep, options.value_range)
    with image:
        if image.width * image.height > options.max_pixels:
            raise BadImage(too_many_pixels(image.width, image.height, options.max_pixels))
        white = declared_white(kind.name, image, data)
        paged = (PAGED,) if kind.name == "tiff" and is_paged(image) else ()
        if kind.name == "jpeg" and image.width * image.height > REDUCED_PIXELS:
            _draft(image)
        image.load()
        deep = deep_values(kind.name, image, data, white, options.value_range is not None)
        if deep is not None:
            picture = deep.to_8_bits(options.value_range)
            remarks = deep_remarks(deep, options.value_range)
        else:
            picture = _with_gray_key(image, data[24]) if kind.name == "png" else image
            can_range = takes_range(kind.name, image)
            remarks = upper_byte_remarks(image, can_range) if white == 65535 else ()
        return upright(as_rgb(picture), image), (*remarks, *paged)


def _draft(image: Image.Image) -> None:
    """Have a JPEG decoded at the largest scale that has at most `REDUCED_PIXELS`."""
    width, height = image.size
    for scale in (2, 4, 8):
        if width * height <= REDUCED_PIXELS * scale * scale:
            break
    image.draft(image.mode, (width // scale, height // scale))


def _with_gray_key(image: Image.Image, bits: int) -> Image.Image:
    """Return a PNG whose transparent gray is one of 0 to 255, as its values are.

    Pillow scales gray values of fewer than 8 bits, but not the transparent one among them.
    """
    key = image.info.get("transparency")
    if image.mode not in ("1", "L") or not isinstance(key, int) or bits == 8:
        return image
    del image.info["transparency"]
    gray = image.convert("L")
    gray.info["transparency"] = 255 * (key & ((1 << bits) - 1)) // ((1 << bits) - 1)
    return gray


def upright(image: Image.Image, source: Image.Image | None = None) -> Image.Image:
    """Return a picture turned as the EXIF orientation demands: its own, or that of `source`."""
    try:
        exif = (source or image).getexif()
        transposition = TRANSPOSITIONS.get(exif.get(Base.Orientation, 1))
    except Exception:  # EXIF may be unreadable although the pixels are good
        return image
    return image if transposition is None else image.transpose(transposition)


def as_rgb(image: Image.Image, value_range: tuple[float, float] | None = None) -> Image.Image:
    """Return a picture of any mode as RGB; alpha is laid on white.

    Args:
        image: a loaded picture.
        value_range: the values that become 0 and 255 where there are more than 8 bits; None: of
            16-bit gray the upper byte is kept. BadImage for other values without a range.
    """
    if image.mode[0] in "IF":
        values = np.asarray(image)
        is_16_bit = image.mode[0] == "I" and values.min() >= 0 and values.max() <= 65535
        image = DeepValues(values, 65535 if is_16_bit else None).to_8_bits(value_range)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Return a picture as RGB with its alpha laid on white, in strips to save memory."""
    if image.height > (rows := max(1, STRIP_PIXELS // image.width)):
        result = Image.new("RGB", image.size)
        for top in range(0, image.height, rows):
            strip = image.crop((0, top, image.width, min(top + rows, image.height)))
            result.paste(_on_white(strip), (0, top))
        return result
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def square(image: np.ndarray, size: int, fit: str = "crop") -> np.ndarray:
    """Resize to (size, size, 3), bicubically with antialiasing.

    Args:
        image: (H, W, 3) uint8.
        size: side of the square in px.
        fit: `crop` resizes the shorter side to `size`, then cuts out the center, to the pixels of
            torchvision's Resize and CenterCrop; `stretch` resizes both sides.
    """
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    box = None
    if fit == "crop":
        short = min(height, width)
        wide, tall = size * width // short, size * height // short
        left, top = round((wide - size) / 2), round((tall - size) / 2)
        # Only the region of the crop is resampled, in coordinates of the source.
        box = (
            left * width / wide,
            top * height / tall,
            (left + size) * width / wide,
            (top + size) * height / tall,
        )
    return np.asarray(
        Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box=box)
    )


def is_square_jpeg(data: bytes, size: int) -> bool:
    """Whether `data` is an upright RGB JPEG of `size` x `size` px, which can be packed as it is."""
    if not data.startswith(b"\xff\xd8\xff"):
        return False
    with read_header(data) as image:
        is_upright = image.getexif().get(Base.Orientation, 1) not in TRANSPOSITIONS
        return image.size == (size, size) and image.mode == "RGB" and is_upright


def to_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encode (H, W, 3) uint8 as a JPEG without chroma subsampling."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, format="JPEG", quality=quality, subsampling=0)
    return data.getvalue()
