"""Normalization of images to the input of a network; images are (B, 3, H, W)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.transforms.color import rgb_to_lab, to_float
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Normalization:
    """How images are normalized: by fixed values per channel, or each image by its own values.

    With `lightness` the network sees no color: all three channels are the CIE lightness L.
    """

    per_image: bool = False
    lightness: bool = False
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


def normalize(images: Tensor, how: Normalization) -> Tensor:
    """Convert uint8, or float in [0, 1], to float32 of about zero mean and unit deviation."""
    images = to_float(images)
    if how.lightness:
        lightness = rgb_to_lab(images)[:, :1]  # 0..100, in photographs about 50 +- 25
        return ((lightness - 50) / 25).repeat(1, 3, 1, 1)
    if how.per_image:
        # `std_mean` would be five times as slow.
        centered = images - images.mean((1, 2, 3), keepdim=True)
        length = torch.linalg.vector_norm(centered, dim=(1, 2, 3), keepdim=True)
        return centered.div_(length / math.sqrt(images[0].numel()) + 1e-5)
    mean = torch.tensor(how.mean, device=images.device)[:, None, None]
    std = torch.tensor(how.std, device=images.device)[:, None, None]
    return torch.addcmul(-mean / std, images, 1 / std)  # one pass over the images, not two
