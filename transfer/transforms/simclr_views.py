"""Views of SimCLR (Chen et al., ICML 2020) and BYOL (Grill et al., NeurIPS 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.transforms.color import grayscale_matrix, mix_colors
from transfer.transforms.filters import blur_, blur_kernel, blur_sigmas, solarize
from transfer.transforms.geometry import crop_map, sample
from transfer.transforms.jitter import jitter_factors, jitter_maps, unclamped_jitter
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng

# Values that a CPU transforms at once, few enough to stay in its cache between steps.
BLOCK = 1 << 20


@dataclass(frozen=True)
class SimCLRViews:
    """A random view of each image: crop and flip, color jitter, gray, blur, solarization.

    The steps are in this order. Defaults are those of SimCLR; BYOL has jitter (0.4, 0.4, 0.2, 0.1)
    and, for its two views, blur 1 and 0.1 and solarize 0 and 0.2.
    """

    size: int  # px of a view
    scale: tuple[float, float] = (0.08, 1.0)  # of the image's area
    flip: float = 0.5  # probability, as are jitter_p, gray, blur, solarize
    # Of brightness, contrast, saturation, hue.
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)
    jitter_p: float = 0.8
    gray: float = 0.2
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # px
    solarize: float = 0.0
    strength: float = 1.0  # factor of `jitter`

    def __call__(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """Draw a view of each image: (B, 3, H, W) to (B, 3, size, size) float in [0, 1]."""
        maps = crop_map(rng, self.scale, flip=self.flip)
        brightness, contrast, saturation, hue = (part * self.strength for part in self.jitter)
        factors = jitter_factors(rng, brightness, contrast, saturation, hue, p=self.jitter_p)
        gray = rng.chance(self.gray)
        sigma = blur_sigmas(rng, self.blur_sigma, self.blur)
        solarized = rng.chance(self.solarize)
        views = torch.empty(len(images), 3, self.size, self.size, device=images.device)
        block = max(1, len(views))
        if len(views) and views.device.type == "cpu":
            block = max(1, BLOCK // views[0].numel())
        batch = (views, images, maps, jitter_maps(factors), factors[:, 3], gray, sigma, solarized)
        for part in zip(*(values.split(block) for values in batch), strict=True):
            self._fill(*part)
        return views

    def _fill(
        self,
        views: Tensor,
        images: Tensor,
        maps: Tensor,
        colors: Tensor,
        turn: Tensor,
        gray: Tensor,
        sigma: Tensor,
        solarized: Tensor,
    ) -> None:
        """Write the views of a block, from its draws."""
        jittered = unclamped_jitter(sample(images, maps, self.size), colors, turn)
        torch.clamp(jittered, 0, 1, out=views)
        chosen = gray.nonzero()[:, 0]
        grays = mix_colors(views[chosen], grayscale_matrix(gray[chosen])[:, :, :3])
        views.index_copy_(0, chosen, grays)
        blur_(views, sigma, blur_kernel(self.size))
        if self.solarize:
            views.copy_(solarize(views, solarized))
