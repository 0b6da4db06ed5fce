"""Views of an image as SimCLR (Chen et al., ICML 2020) and BYOL (Grill et al., NeurIPS 2020) make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.transforms.color import (
    grayscale_matrix,
    jitter_factors,
    jitter_maps,
    mix_colors,
    unclamped_jitter,
)
from transfer.transforms.filters import blur_, blur_kernel, blur_sigmas, solarize
from transfer.transforms.geometry import crop_map, sample
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng

# Values that a processor works on at once, so that they stay in its cache from one step to the next.
BLOCK = 1 << 20


@dataclass(frozen=True)
class SimCLRViews:
    """Crop and flip, color jitter, gray, blur, solarization, in this order; each image by its own draw.

    Defaults are SimCLR's; BYOL's are jitter (0.4, 0.4, 0.2, 0.1), blur 1 and 0.1, solarize 0 and 0.2 for its two views.
    """

    size: int  # px of a view
    scale: tuple[float, float] = (0.08, 1.0)  # of the image's area
    flip: float = 0.5  # probability, as are jitter_p, gray, blur, solarize
    jitter: tuple[float, float, float, float] = (
        0.8,
        0.8,
        0.8,
        0.2,
    )  # brightness, contrast, saturation, hue
    jitter_p: float = 0.8
    gray: float = 0.2
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # px
    solarize: float = 0.0
    strength: float = 1.0  # what `jitter` is multiplied by

    def __call__(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """(B, 3, H, W) uint8 or float to (B, 3, size, size) float in [0, 1]."""
        maps = crop_map(rng, self.scale, flip=self.flip)
        factors = jitter_factors(
            rng, *(width * self.strength for width in self.jitter), p=self.jitter_p
        )
        gray = rng.chance(self.gray)
        sigma = blur_sigmas(rng, self.blur_sigma, self.blur)
        solarized = rng.chance(self.solarize)
        seen = torch.empty(len(images), 3, self.size, self.size, device=images.device)
        block = (
            max(1, BLOCK // seen[0].numel())
            if len(seen) and seen.device.type == "cpu"
            else max(1, len(seen))
        )
        whole = (seen, images, maps, jitter_maps(factors), factors[:, 3], gray, sigma, solarized)
        for part in zip(*(values.split(block) for values in whole), strict=True):
            self._show(*part)
        return seen

    def _show(
        self,
        seen: Tensor,
        images: Tensor,
        maps: Tensor,
        colors: Tensor,
        turn: Tensor,
        gray: Tensor,
        sigma: Tensor,
        solarized: Tensor,
    ) -> None:
        """Fill `seen`."""
        torch.clamp(unclamped_jitter(sample(images, maps, self.size), colors, turn), 0, 1, out=seen)
        chosen = gray.nonzero()[:, 0]
        seen.index_copy_(
            0, chosen, mix_colors(seen[chosen], grayscale_matrix(gray[chosen])[:, :, :3])
        )
        blur_(seen, sigma, blur_kernel(self.size))
        if self.solarize:
            seen.copy_(solarize(seen, solarized))
