"""Batched transforms on the device; each image has its own draw. Images are (B, 3, H, W)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from transfer.artifacts import Normalization
from transfer.transforms.color import mix_colors, rgb_to_lab, to_float
from transfer.transforms.geometry import random_resized_crop
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["mix_colors", "normalize", "random_resized_crop", "to_float"]


def normalize(images: Tensor, how: Normalization) -> Tensor:
    """What a network is fed: uint8 or float in [0, 1] to float32 of about zero mean and unit deviation."""
    images = to_float(images)
    if how.lightness:
        return ((rgb_to_lab(images)[:, :1] - 50) / 25).repeat(
            1, 3, 1, 1
        )  # L is 0..100, of photographs about 50 +- 25
    if how.per_image:
        # Not `std_mean`: its way over an image is five times as slow.
        centerd = images - images.mean((1, 2, 3), keepdim=True)
        length = torch.linalg.vector_norm(centerd, dim=(1, 2, 3), keepdim=True)
        return centerd.div_(length / math.sqrt(images[0].numel()) + 1e-5)
    mean = torch.tensor(how.mean, device=images.device)[:, None, None]
    std = torch.tensor(how.std, device=images.device)[:, None, None]
    return torch.addcmul(-mean / std, images, 1 / std)  # one pass instead of two
