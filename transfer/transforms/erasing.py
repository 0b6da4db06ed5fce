"""Random erasing of boxes (Zhong et al., AAAI 2020), batched."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng


def erased_boxes(
    rng: PerImageRng,
    size: tuple[int, int],
    p: float,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Tensor:
    """Draw boxes to erase, (B, 4) int64: top, left, height and width in px.

    Args:
        rng: draws of the images.
        size: height and width of the images in px.
        p: probability of a box; others are empty.
        scale: range of the area before rounding, a share of the image's; uniform.
        ratio: range of the height to the width; its logarithm is uniform over the part that fits.
    """
    height, width = size
    area, shape, top, left, chosen = rng.uniform(5).unbind(1)
    area = (scale[0] + (scale[1] - scale[0]) * area) * (height * width)
    least, most = (area / width**2).log(), (height**2 / area).log()
    low, high = (
        torch.minimum(torch.maximum(area.new_tensor(math.log(end)), least), most) for end in ratio
    )
    shape = torch.exp(low + (high - low) * shape)
    tall = (area * shape).sqrt().round().clamp(max=height)
    wide = (area / shape).sqrt().round().clamp(max=width)
    tall = torch.where(chosen < p, tall, 0.0)
    top, left = (top * (height - tall + 1)).floor(), (left * (width - wide + 1)).floor()
    return torch.stack((top, left, tall, wide), dim=1).to(torch.int64)


def erase(images: Tensor, boxes: Tensor, value: float = 0.0) -> Tensor:
    """Set the box of each image to `value`; `boxes` (B, 4) are those of `erased_boxes`.

    The type of the images is kept.
    """
    top, left, tall, wide = boxes[:, :, None].unbind(1)
    y, x = (torch.arange(side, device=images.device) for side in images.shape[-2:])
    rows, columns = (y >= top) & (y < top + tall), (x >= left) & (x < left + wide)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], value)


def random_erase(
    images: Tensor,
    rng: PerImageRng,
    p: float = 0.5,
    scale: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
    value: float = 0.0,
) -> Tensor:
    """Erase a random box of each image (Zhong et al., AAAI 2020); the type is kept.

    Args:
        images: (B, 3, H, W).
        rng: draws of the images.
        p: probability of a box.
        scale: range of its area; see `erased_boxes`.
        ratio: range of its height to its width.
        value: what the box is filled with.
    """
    height, width = images.shape[-2:]
    return erase(images, erased_boxes(rng, (height, width), p, scale, ratio), value)
