"""Decoding and resizing of pictures: JPEG, PNG, WebP to (H, W, 3) uint8."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ExifTags import Base
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from transfer.errors import BadImage

MAX_PIXELS = 100_000_000  # larger pictures are refused by their header, before decoding

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


def decode_file(path: Path) -> np.ndarray:
    """Return the picture in `path` as (H, W, 3) uint8; BadImage with the reason if it has none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadImage(error.strerror or str(error)) from error
    return decode(data)


def decode(data: bytes) -> np.ndarray:
    """Return an encoded picture as (H, W, 3) uint8; BadImage with the reason if it is invalid.

    Gray becomes three equal channels, alpha is laid on white, EXIF orientation is applied, an
    animation gives its first frame.
    """
    if not data:
        raise BadImage("empty file")
    try:
        with _read_header(data) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadImage(
                    f"{width} x {height} pixels, more than {MAX_PIXELS // 1_000_000} million"
                )
            image.load()
            return np.asarray(as_rgb(upright(image)))
    except BadImage:
        raise
    except Exception as error:  # decoders raise almost any error on invalid bytes
        raise BadImage(" ".join(str(error).split()) or type(error).__name__) from error


def _read_header(data: bytes) -> Image.Image:
    """Return a picture of which only the header was read.

    `Image.open` is avoided: beyond its own limit of pixels it first warns, and then raises an
    error without the size.
    """
    for signature, reader in (
        (b"\xff\xd8\xff", JpegImageFile),
        (b"\x89PNG\r\n\x1a\n", PngImageFile),
    ):
        if data.startswith(signature):
            return reader(io.BytesIO(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImageFile(io.BytesIO(data))
    raise BadImage("not a JPEG, PNG or WebP picture")


def upright(image: Image.Image) -> Image.Image:
    """Return a picture turned as its EXIF orientation demands."""
    try:
        transposition = TRANSPOSITIONS.get(image.getexif().get(Base.Orientation, 1))
    except Exception:  # EXIF may be unreadable although the pixels are good
        return image
    return image if transposition is None else image.transpose(transposition)


def as_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as RGB: of 16-bit gray the upper byte, alpha on white."""
    if image.mode.startswith("I"):  # 16-bit gray
        upper_bytes = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(upper_bytes).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


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
    with _read_header(data) as image:
        is_upright = image.getexif().get(Base.Orientation, 1) not in TRANSPOSITIONS
        return image.size == (size, size) and image.mode == "RGB" and is_upright


def to_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encode (H, W, 3) uint8 as a JPEG without chroma subsampling."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, format="JPEG", quality=quality, subsampling=0)
    return data.getvalue()
