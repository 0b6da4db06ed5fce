"""Values of more than 8 bits, of which a picture's 0 to 255 are made."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from transfer.errors import BadImage

BLOCK = 1 << 22  # values that are converted together; floats of all would not fit into memory


class DeepValues(NamedTuple):
    """Values (H, W) or (H, W, 3) as the file has them, and what they mean."""

    values: np.ndarray
    white: int | None  # the value of white; None where the format has no such value
    alpha: np.ndarray | None = None  # (H, W) uint8
    is_inverted: bool = False  # 0 is white

    def to_8_bits(self, value_range: tuple[float, float] | None) -> Image.Image:
        """Return a picture of mode L, RGB or RGBA; BadImage where the values allow none.

        Args:
            value_range: the values that become 0 and 255; None: of the values of the format, the
                upper 8 bits are kept.
        """
        if self.values.dtype.kind == "f" and np.isnan(self.values).any():
            raise BadImage("it holds values that are not numbers (NaN)")
        if value_range is None:
            pixels = self._upper_bits()
        else:
            low, high = value_range
            pixels = np.empty(self.values.shape, dtype=np.uint8)
            step = max(1, BLOCK * len(pixels) // self.values.size)
            for start in range(0, len(pixels), step):
                rows = self.values[start : start + step].astype(np.float64).clip(low, high)
                pixels[start : start + step] = np.rint((rows - low) * 255 / (high - low))
        image = Image.fromarray(255 - pixels if self.is_inverted else pixels)
        if self.alpha is not None:
            image = image.convert("RGB")
            image.putalpha(Image.fromarray(self.alpha))
        return image

    def _upper_bits(self) -> np.ndarray:
        if self.white is None:
            raise BadImage(
                f"its {self.values.dtype.name} values have no fixed range: set "
                "`value_range: [LOW, HIGH]` to those that become black and white"
            )
        levels = self.white + 1
        if levels & (levels - 1) == 0:  # a power of 2
            return (self.values >> (self.white.bit_length() - 8)).clip(0, 255).astype(np.uint8)
        return (self.values.astype(np.int64) * 256 // levels).clip(0, 255).astype(np.uint8)

    def exceeds(self, value_range: tuple[float, float]) -> bool:
        """Whether a value lies outside of a range."""
        return bool(self.values.min() < value_range[0] or self.values.max() > value_range[1])
