"""TIFF: the types of values that its tags name, and the values that Pillow does not read."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from transfer.datasets.packed.deep_values import DeepValues
from transfer.datasets.packed.picture_files import too_many_pixels
from transfer.errors import BadImage

if TYPE_CHECKING:
    from PIL.Image import Image

# Tags, and values of them.
BITS, PHOTOMETRIC, SUBFILE, SAMPLE_FORMAT, DNG_VERSION, ORIENTATION = 258, 262, 254, 339, 50706, 274
EXTRA_SAMPLES, PLANES, COMPRESSION, CHANNELS = 338, 284, 259, 277
HEIGHT, STRIPS, STRIP_HEIGHT = 257, 273, 278
UNSIGNED = NO_COMPRESSION = 1
WHITE_IS_ZERO, RGB = 0, 2
SEPARATE_PLANES = 2
UNSPECIFIED, PREMULTIPLIED, OPACITY = 0, 1, 2
PREVIEW = (
    "a TIFF that begins with a preview, as a camera's raw picture does: export it as JPEG, PNG or "
    "TIFF"
)


def tag(image: Image, number: int, default: int) -> int:
    """Return the first value of a tag of Pillow's TIFF."""
    value = cast(Any, image).tag_v2.get(number, default)
    return int(value[0] if isinstance(value, tuple) else value)


def has_planes(image: Image, packed: bool = True) -> bool:
    """Whether the channels of a TIFF lie apart; with `packed` also where they are compressed.

    Of those that are not compressed, Pillow takes 16-bit values for 8-bit ones.
    """
    is_packed = tag(image, COMPRESSION, NO_COMPRESSION) != NO_COMPRESSION
    return tag(image, PLANES, 1) == SEPARATE_PLANES and (packed or not is_packed)


def is_paged(image: Image) -> bool:
    """Whether a TIFF has a second page."""
    return bool(cast(Any, image).tag_v2.next)


def tiff_white(image: Image) -> int | None:
    """Return the value of white: 255 for up to 8 bits, None for signed, long and float values."""
    if tag(image, DNG_VERSION, 0) or tag(image, SUBFILE, 0) & 1:
        raise BadImage(PREVIEW)
    _check_strips(image)
    bits = tag(image, BITS, 1)
    if tag(image, SAMPLE_FORMAT, UNSIGNED) != UNSIGNED or bits > 16:
        return None
    return max(255, (1 << bits) - 1)


def _check_strips(image: Image) -> None:
    """Raise BadImage for a TIFF without all strips; Pillow leaves the others black."""
    tags: Any = cast(Any, image).tag_v2
    height = tag(image, HEIGHT, 0)
    planes = tag(image, CHANNELS, 1) if has_planes(image) else 1
    expected = planes * math.ceil(height / max(1, min(height, tag(image, STRIP_HEIGHT, height))))
    present = len(tags.get(STRIPS, ()))
    if present and present < expected:
        raise BadImage(
            f"a TIFF picture that is damaged or cut off ({present} of {expected} strips): "
            "copy or download it again"
        )


def gray_type(image: Image) -> np.dtype[Any]:
    """Return the type of the values of a TIFF of integers."""
    sign = "u" if tag(image, SAMPLE_FORMAT, UNSIGNED) == UNSIGNED else ""
    return np.dtype(f"{sign}int{max(16, tag(image, BITS, 16))}")


def tiff_values(data: bytes, max_pixels: int) -> DeepValues:
    """Return the values of a TIFF's first page with tifffile, which knows more types than Pillow.

    BadImage where it is neither gray nor RGB, or has more than `max_pixels`.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        if not len(file.pages):
            raise ValueError("its first page lies beyond the end of the file")
        page: Any = file.pages[0]
        channels, height, width = page.samplesperpixel, page.imagelength, page.imagewidth
        if height * width > max_pixels:
            raise BadImage(too_many_pixels(width, height, max_pixels))
        extra = tuple(page.extrasamples)
        colors = channels - len(extra)
        if page.dtype is not None and page.dtype.kind not in "uif":
            raise BadImage(f"a TIFF picture of {page.dtype} values: export it as gray or RGB")
        is_known = extra in ((), (OPACITY,)) or (colors == 3 and extra == (UNSPECIFIED,))
        if page.photometric > RGB or colors not in (1, 3) or not is_known:
            form = f"{channels} channels of {page.dtype or 'unknown'} values"
            raise BadImage(f"a TIFF picture of {form}: export it as gray or RGB")
        is_separate = page.planarconfig == SEPARATE_PLANES and channels > 1
        shape = (channels, height, width) if is_separate else (height, width, channels)
        values = page.asarray().reshape(shape)
        bits = int(page.bitspersample)
        is_inverted = page.photometric == WHITE_IS_ZERO
        orientation = page.tags[ORIENTATION].value if ORIENTATION in page.tags else 1
    if is_separate:
        values = np.moveaxis(values, 0, 2)
    values = _upright(values, orientation)
    alpha = None
    if extra[:1] == (OPACITY,):
        white = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1
        opacity = DeepValues(values[..., colors], None)
        alpha = np.asarray(opacity.to_8_bits((0, white)))
    white = (1 << bits) - 1 if values.dtype.kind == "u" and bits <= 16 else None
    return DeepValues(values[..., 0] if colors == 1 else values[..., :3], white, alpha, is_inverted)


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Return an array turned as its orientation demands, as Pillow does with its own."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(values[::rows, ::columns])
