"""Where each format has values of more than 8 bits, and what white is there.

Pillow keeps gray values of 16 and 32 bits; of a color it keeps the upper byte. Where all bits of a
color are needed, torchvision reads PNG and tifffile reads TIFF.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from PIL import Image

from transfer.datasets.packed.deep_values import DeepValues
from transfer.datasets.packed.picture_files import png_without_metadata
from transfer.datasets.packed.tiff_values import (
    PHOTOMETRIC,
    WHITE_IS_ZERO,
    gray_type,
    tag,
    tiff_values,
    tiff_white,
)
from transfer.errors import BadImage

_CODESTREAM = b"\xff\x4f\xff\x51"  # where the sizes of a JPEG 2000 begin
_PRECISION = 40  # from there to the bits of its first channel


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
    if kind == "tiff" and all_bits:
        return tiff_values(data, image.width * image.height)
    if all_bits:
        raise BadImage("`value_range` reads colors of more than 8 bits from PNG and TIFF only")
    return None


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
    """Return the values of a PNG of 16 bits that is not plain gray."""
    import torch
    from torchvision.io import ImageReadMode, decode_png

    encoded = torch.frombuffer(bytearray(png_without_metadata(data)), dtype=torch.uint8)
    values = decode_png(encoded, ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
    alpha = None
    if values.shape[2] in (2, 4):
        values, alpha = values[..., :-1], (values[..., -1] >> 8).astype(np.uint8)
    elif key is not None:
        alpha = _alpha((values != np.array(key)).any(2))
    return DeepValues(values[..., 0] if values.shape[2] == 1 else values, 65535, alpha)


def _alpha(opaque: np.ndarray) -> np.ndarray:
    return opaque.astype(np.uint8) * 255
