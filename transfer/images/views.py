"""Views of an image as SimCLR (Chen et al., ICML 2020) and BYOL (Grill et al., NeurIPS 2020) make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.images.colour import grey_matrix, jitter, jitter_factors, mix_colours
from transfer.images.filters import blur_kernel, blur_sigmas, gaussian_blur, solarise
from transfer.images.geometry import crop_map, sample
from transfer.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.images.draw import Draw

# Values that a processor works on at once, so that they stay in its cache from one step to the next.
BLOCK = 1 << 20


@dataclass(frozen=True)
class Views:
    """Crop and flip, colour jitter, grey, blur, solarisation, in this order; each image by its own draw.

    Defaults are SimCLR's; BYOL's are jitter (0.4, 0.4, 0.2, 0.1), blur 1 and 0.1, solarise 0 and 0.2 for its two views.
    """

    size: int  # px of a view
    scale: tuple[float, float] = (0.08, 1.0)  # of the image's area
    flip: float = 0.5  # probability, as are jitter_p, grey, blur, solarise
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)  # brightness, contrast, saturation, hue
    jitter_p: float = 0.8
    grey: float = 0.2
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # px
    solarise: float = 0.0
    strength: float = 1.0  # what `jitter` is multiplied by

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        """(B, 3, H, W) uint8 or float to (B, 3, size, size) float in [0, 1]."""
        widths = [width * self.strength for width in self.jitter]
        drawn = (
            crop_map(draw, self.scale, flip=self.flip),
            jitter_factors(draw, *widths, p=self.jitter_p),
            grey_matrix(draw.chance(self.grey)),
            blur_sigmas(draw, self.blur_sigma, self.blur),
            draw.chance(self.solarise),
        )
        if images.device.type != "cpu":
            return self._show(images, *drawn)
        block = max(1, BLOCK // (3 * self.size**2))
        return torch.cat([self._show(*part) for part in zip(*(all.split(block) for all in (images, *drawn)))])

    def _show(
        self, images: Tensor, maps: Tensor, factors: Tensor, grey: Tensor, sigma: Tensor, solarised: Tensor
    ) -> Tensor:
        seen = mix_colours(jitter(sample(images, maps, self.size), factors), grey)
        seen = gaussian_blur(seen, sigma, blur_kernel(self.size))
        return solarise(seen, solarised) if self.solarise else seen
