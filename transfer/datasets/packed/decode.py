"""Encoded bytes to pixels: JPEG, PNG, WebP to (H, W, 3) uint8."""

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

MAX_PIXELS = 100_000_000  # a larger picture is refused by its header, before memory is spent on it

# EXIF's orientation: how to turn what was stored into what was photographed.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_file(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 of the picture in `path`; BadImage says what is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadImage(error.strerror or str(error)) from error
    return decode(data)


def decode(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8. Gray becomes three equal channels, alpha is laid on white, EXIF orientation is applied,
    an animation gives its first frame."""
    if not data:
        raise BadImage("empty file")
    try:
        with _open(data) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadImage(
                    f"{width} x {height} pixels, more than {MAX_PIXELS // 1_000_000} million"
                )
            image.load()
            return np.asarray(as_rgb(upright(image)))
    except BadImage:
        raise
    except Exception as error:  # decoders raise almost anything on bytes that make no sense to them
        raise BadImage(" ".join(str(error).split()) or type(error).__name__) from error


def _open(data: bytes) -> Image.Image:
    """Reads the header only. Not by `Image.open`, whose limit on pixels is a warning first and then lacks the size."""
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
    try:
        turn = TURNS.get(image.getexif().get(Base.Orientation))
    except (
        Exception
    ):  # EXIF that cannot be read says nothing of the orientation, and the pixels are good
        return image
    return image if turn is None else image.transpose(turn)


def as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray
        return Image.fromarray(
            (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        ).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def square(image: np.ndarray, size: int, fit: str = "crop") -> np.ndarray:
    """(size, size, 3), resampled bicubically with antialiasing.

    crop: the shorter side resized to `size`, then the center cut out, to the same pixels as torchvision's Resize and
    CenterCrop; stretch: all of it, whatever its shape.
    """
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    box = None
    if fit == "crop":
        short = min(height, width)
        wide, tall = size * width // short, size * height // short
        left, top = round((wide - size) / 2), round((tall - size) / 2)
        # One resampling of just the wanted region, in the source's coordinates.
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
    """Whether these are the bytes of a JPEG of `size` x `size` px that needs no turning and no change of colors."""
    if not data.startswith(b"\xff\xd8\xff"):
        return False
    with _open(data) as image:
        upright = image.getexif().get(Base.Orientation, 1) not in TURNS
        return image.size == (size, size) and image.mode == "RGB" and upright


def to_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """The bytes of (H, W, 3) uint8 as a JPEG whose colors are not subsampled."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, format="JPEG", quality=quality, subsampling=0)
    return data.getvalue()
