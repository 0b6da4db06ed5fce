"""Where each format has values of more than 8 bits, and what white is there.

Pillow keeps gray values of 16 and 32 bits; of a color it keeps the upper byte. Where all bits of a
color are needed, PNG and TIFF are decoded twice.
"""

from __future__ import annotations

import sys
import zlib
from typing import Any, cast

import numpy as np
from PIL import Image

from transfer.datasets.packed.deep_values import DeepValues
from transfer.datasets.packed.picture_files import read_header
from transfer.datasets.packed.tiff_values import (
    EXTRA_SAMPLES,
    PHOTOMETRIC,
    PREMULTIPLIED,
    WHITE_IS_ZERO,
    gray_type,
    has_planes,
    tag,
    tiff_values,
    tiff_white,
)
from transfer.errors import BadImage

GRAY_WITH_ALPHA, RGBA = 4, 6  # a PNG's types of color
_CODESTREAM = b"\xff\x4f\xff\x51"  # where the sizes of a JPEG 2000 begin
_PRECISION = 42  # from there to the bits of its first channel


def declared_white(kind: str, image: Image.Image, data: bytes) -> int | None:
    """Return the value of white in a file: 255 for up to 8 bits, None where there is none.

    Args:
        kind: name of the file's kind.
        image: the picture, of which only the header was read.
        data: the file.
    """
    if kind == "png":
        return 65535 if data[24] == 16 else 255
    if kind == "tiff":
        return tiff_white(image)
    if kind == "pnm":
        arguments = cast(Any, image).tile[0][3]
        if isinstance(arguments, tuple):
            return max(255, int(arguments[1]))
    if kind == "jpeg2000":
        start = data.find(_CODESTREAM)
        bits = (data[start + _PRECISION] & 127) + 1 if start >= 0 else 8
        return max(255, (1 << bits) - 1)
    return 65535 if image.mode[0] == "I" else 255


def deep_values(
    kind: str, image: Image.Image, data: bytes, white: int | None, all_bits: bool
) -> DeepValues | None:
    """Return the values of a loaded picture; None where Pillow's 8 bits are enough.

    Args:
        kind: name of the file's kind.
        image: the loaded picture.
        data: the file.
        white: of `declared_white`.
        all_bits: whether the upper byte of a color is not enough.
    """
    key = image.info.get("transparency")
    if image.mode[0] in "IF":
        values = _gray_values(kind, image, white)
        alpha = _alpha(values != key) if isinstance(key, int) else None
        is_inverted = kind == "tiff" and tag(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO
        return DeepValues(values, white, alpha, is_inverted)
    if white == 255:
        return None
    if kind == "tiff" and image.mode == "L":  # signed values of 8 bits
        return DeepValues(np.asarray(image).view(np.int8), None)
    if kind == "png" and (all_bits or key is not None):
        return _png_values(data, key)
    if kind == "tiff" and white == 65535 and (all_bits or has_planes(image, packed=False)):
        return _tiff_colors(image, data)
    if all_bits:
        raise BadImage("`value_range` reads colors of more than 8 bits from PNG and TIFF only")
    return None


def takes_range(kind: str, image: Image.Image) -> bool:
    """Whether all bits of a picture's colors can be read, which `value_range` needs."""
    if kind != "tiff":
        return kind == "png"
    is_premultiplied = tag(image, EXTRA_SAMPLES, 0) == PREMULTIPLIED
    return has_planes(image) or (image.mode in ("RGB", "RGBA") and not is_premultiplied)


def _gray_values(kind: str, image: Image.Image, white: int | None) -> np.ndarray:
    """Return the values as the file has them; Pillow scales those of some formats to 16 bits."""
    values = np.asarray(image)
    if values.dtype.kind == "f":
        return values
    if kind == "tiff":
        return values.astype(gray_type(image))
    if kind in ("pnm", "jpeg2000") and white not in (None, 65535):
        return ((values.astype(np.uint32) * white + 32767) // 65535).astype(np.uint16)
    return values.astype(np.uint16)


def _png_values(data: bytes, key: Any) -> DeepValues:
    """Return the values of a PNG of 16-bit colors, or of 16-bit gray with alpha."""
    if data[25] == GRAY_WITH_ALPHA:
        # A pixel of four bytes, whose filters are those of 8-bit RGBA.
        header = data[12:24] + bytes((8, RGBA)) + data[26:29]
        as_rgba = data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
        with read_header(as_rgba) as image:
            halves = np.asarray(image).astype(np.uint16)
        return DeepValues(halves[..., 0] << 8 | halves[..., 1], 65535, np.asarray(image)[..., 2])
    values = _whole_colors(data)
    if values.shape[2] == 4:
        return DeepValues(values[..., :3], 65535, (values[..., 3] >> 8).astype(np.uint8))
    alpha = None if key is None else _alpha((values != np.array(key)).any(2))
    return DeepValues(values, 65535, alpha)


def _tiff_colors(image: Image.Image, data: bytes) -> DeepValues:
    """Return the values of a TIFF of 16-bit colors."""
    if has_planes(image):
        return tiff_values(data, image.width * image.height)
    if not takes_range("tiff", image):
        form = "CMYK" if image.mode == "CMYK" else "premultiplied alpha"
        raise BadImage(f"a TIFF with {form} takes no `value_range`: export it as gray or RGB")
    values = _whole_colors(data)
    alpha = (values[..., 3] >> 8).astype(np.uint8) if values.shape[2] == 4 else None
    return DeepValues(values[..., :3], 65535, alpha)


def _whole_colors(data: bytes) -> np.ndarray:
    """Return the 16-bit channels (H, W, C) of a picture.

    Pillow keeps the upper byte of each. With the order of the bytes reversed it keeps the lower.
    """
    halves = []
    for reverse in (False, True):
        with read_header(data) as image:
            if reverse:
                cast(Any, image).tile = [_reversed(tile) for tile in cast(Any, image).tile]
            image.load()
            halves.append(np.asarray(image).astype(np.uint16))
    return halves[0] << 8 | halves[1]


def _reversed(tile: Any) -> Any:
    """Return a tile of Pillow with the other order of bytes: `RGB;16B` becomes `RGB;16L`."""
    decoder, extents, offset, arguments = tile
    mode, *others = (arguments,) if isinstance(arguments, str) else arguments
    orders = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
    mode = mode[:-1] + orders[mode[-1]]
    changed = mode if isinstance(arguments, str) else (mode, *others)
    make = getattr(type(tile), "_make", tuple)  # older versions have plain tuples
    return make((decoder, extents, offset, changed))


def _alpha(opaque: np.ndarray) -> np.ndarray:
    return opaque.astype(np.uint8) * 255
