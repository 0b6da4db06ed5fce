"""Batched transforms on the device; each image has its own draw. Images are (B, 3, H, W)."""

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
    """How uint8 images become a network's input: per channel, or each image by its own mean and deviation.

    With `lightness` the network sees no color: all three channels are the CIE lightness L.
    """

    per_image: bool = False
    lightness: bool = False
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


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
