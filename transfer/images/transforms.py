"""Batched transforms on the device; each image has its own draw. Images are (B, 3, H, W)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from transfer.artifacts import Normalisation
from transfer.lazy import F, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.images.draw import Draw


def to_float(images: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]; float stays as it is."""
    return images.to(torch.float32).mul_(1 / 255) if images.dtype == torch.uint8 else images


def normalise(images: Tensor, how: Normalisation) -> Tensor:
    """What a network is fed: uint8 or float in [0, 1] to float32 of about zero mean and unit deviation."""
    images = to_float(images)
    if how.per_image:
        flat = images.flatten(1)
        deviation, mean = torch.std_mean(flat, dim=1, correction=0)
        return (images - mean[:, None, None, None]) / (deviation[:, None, None, None] + 1e-5)
    mean = torch.tensor(how.mean, device=images.device)[:, None, None]
    std = torch.tensor(how.std, device=images.device)[:, None, None]
    return torch.addcmul(-mean / std, images, 1 / std)  # one pass instead of two


def random_resized_crop(
    images: Tensor,
    draw: Draw,
    size: int,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Tensor:
    """(B, 3, size, size) float: a random part of each image, mirrored with probability `flip`, sampled bilinearly.

    Its area is uniform within `scale`; the logarithm of its shape (width to height, of a square image) is uniform
    over what of `ratio` lets such an area fit into the image, or the nearest to it.
    """
    area, shape, left, top, mirror = draw.uniform(5).unbind(1)
    area = scale[0] + (scale[1] - scale[0]) * area
    room = -area.log()
    low, high = (torch.minimum(torch.maximum(room.new_tensor(math.log(end)), -room), room) for end in ratio)
    shape = torch.exp(low + (high - low) * shape)
    wide, tall = (area * shape).sqrt().clamp(max=1), (area / shape).sqrt().clamp(max=1)
    # The middles of the wanted pixels, from -1 to 1 over the image. `F.affine_grid` is a product of matrices, which
    # mixed precision would round to half a pixel.
    line = (2 * torch.arange(size, device=images.device) + 1) / size - 1
    across = ((1 - wide) * (2 * left - 1))[:, None] + torch.where(mirror < flip, -wide, wide)[:, None] * line
    down = ((1 - tall) * (2 * top - 1))[:, None] + tall[:, None] * line
    grid = torch.stack([across[:, None, :].expand(-1, size, -1), down[:, :, None].expand(-1, -1, size)], dim=-1)
    return F.grid_sample(to_float(images), grid, mode="bilinear", padding_mode="border", align_corners=False)


def mix_colours(images: Tensor, matrices: Tensor) -> Tensor:
    """Apply to each image's colours its own 3 x 3 matrix: (B, 3, ...) and (B, 3, 3)."""
    with torch.autocast(images.device.type, enabled=False):  # a product of matrices would be rounded to bfloat16
        return torch.bmm(matrices, images.flatten(2)).view_as(images)
