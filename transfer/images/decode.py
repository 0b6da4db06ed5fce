"""Encoded bytes to pixels: JPEG, PNG, WebP to (H, W, 3) uint8."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 100_000_000  # a larger picture is refused by its header, before memory is spent on it
FORMATS = ("JPEG", "PNG", "WEBP")


class BadImage(ValueError):
    """A picture that cannot be used, and why."""


def decode_file(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 of the picture in `path`; BadImage says what is wrong with it."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise BadImage(error.strerror or str(error)) from error


def decode(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8. Grey becomes three equal channels, alpha is laid on white, EXIF orientation is applied."""
    if not data:
        raise BadImage("empty file")
    try:
        # Decompression-bomb warnings of the library are replaced by the check below, which is an error.
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadImage(f"{width} x {height} pixels, more than {MAX_PIXELS // 1_000_000} million")
            image.load()
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16") or upright.mode in ("I", "F"):
                upright = Image.fromarray((np.asarray(upright, dtype=np.uint32) >> 8).clip(0, 255).astype(np.uint8))
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                upright = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
            return np.asarray(upright.convert("RGB"))
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage("too many pixels") from error
    except UnidentifiedImageError as error:
        raise BadImage("not a JPEG, PNG or WebP picture") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, MemoryError) as error:
        raise BadImage(str(error) or type(error).__name__) from error


def square(image: np.ndarray, size: int) -> np.ndarray:
    """(size, size, 3): the shorter side resized to `size` (bicubic, antialiased), then the centre cut out."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    scale = size / min(height, width)
    wide, tall = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = (wide - size) // 2, (tall - size) // 2
    # One resampling of just the wanted region, in the source's coordinates.
    box = (
        left * width / wide,
        top * height / tall,
        (left + size) * width / wide,
        (top + size) * height / tall,
    )
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box=box))


def squares(read: Callable[[int], np.ndarray], rows: Sequence[int], size: int) -> list[np.ndarray | str]:
    """The images of `rows` as squares, in parallel (decoders release the interpreter); a text where one is bad."""

    def one(row: int) -> np.ndarray | str:
        try:
            return square(read(row), size)
        except BadImage as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, rows))
