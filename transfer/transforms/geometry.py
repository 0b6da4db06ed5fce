"""Where the pixels of batched images come from, each image by its own draw. Images are (B, 3, H, W).

A map is (B, 2, 3), affine, from a place in the output to the place in the input, both from -1 to 1 over the image.
Maps compose into one, so that a whole chain is one sampling.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from transfer.transforms.color import to_float
from transfer.utils.lazy_imports import F, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng


def affine_map(xx: Tensor, xy: Tensor, x: Tensor, yx: Tensor, yy: Tensor, y: Tensor) -> Tensor:
    """(B, 2, 3): across = xx * across' + xy * down' + x, down = yx * across' + yy * down' + y."""
    return torch.stack((xx, xy, x, yx, yy, y), dim=-1).unflatten(-1, (2, 3))


def crop_map(
    rng: PerImageRng,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Tensor:
    """A random part of each image, mirrored with probability `flip`.

    Its area is uniform within `scale`; the logarithm of its shape (width to height, of a square image) is uniform
    over what of `ratio` lets such an area fit into the image, or the nearest to it.
    """
    area, shape, left, top, mirror = rng.uniform(5).unbind(1)
    area = scale[0] + (scale[1] - scale[0]) * area
    room = -area.log()
    low, high = (
        torch.minimum(torch.maximum(room.new_tensor(math.log(end)), -room), room) for end in ratio
    )
    shape = torch.exp(low + (high - low) * shape)
    wide, tall = (area * shape).sqrt().clamp(max=1), (area / shape).sqrt().clamp(max=1)
    zero = torch.zeros_like(wide)
    return affine_map(
        torch.where(mirror < flip, -wide, wide),
        zero,
        (1 - wide) * (2 * left - 1),
        zero,
        tall,
        (1 - tall) * (2 * top - 1),
    )


def flip_map(mirrored: Tensor) -> Tensor:
    """(B,) bool: left and right exchanged where true."""
    one = torch.ones(len(mirrored), device=mirrored.device)
    zero = torch.zeros_like(one)
    return affine_map(torch.where(mirrored, -one, one), zero, zero, zero, one, zero)


def rotation_map(angles: Tensor, aspect: float = 1.0) -> Tensor:
    """(B,) degrees, counter-clockwise as seen; `aspect` is the width to the height of the image."""
    cos, sin = torch.cos(angles * (math.pi / 180)), torch.sin(angles * (math.pi / 180))
    zero = torch.zeros_like(cos)
    return affine_map(cos, -sin / aspect, zero, sin * aspect, cos, zero)


def compose(*maps: Tensor) -> Tensor:
    """One map for several, of which the first is applied to the image first."""
    whole, *others = maps
    for after in others:
        # Sums instead of a product of matrices, which mixed precision would round.
        product = (whole[:, :, :2, None] * after[:, None]).sum(2)
        product[:, :, 2] += whole[:, :, 2]
        whole = product
    return whole


def sample(
    images: Tensor,
    maps: Tensor,
    size: int | tuple[int, int],
    mode: str = "bilinear",
    padding: str = "border",
) -> Tensor:
    """(B, 3, H, W) uint8 or float to float (B, 3, size, size): what the maps (B, 2, 3) show of the images.

    `mode` and `padding` are those of `F.grid_sample`.
    """
    height, width = (size, size) if isinstance(size, int) else size
    # The middles of the wanted pixels, from -1 to 1 over the image. `F.affine_grid` is a product of matrices, which
    # mixed precision would round to half a pixel.
    across, down = (
        (2 * torch.arange(n, device=images.device) + 1) / n - 1 for n in (width, height)
    )
    maps = maps[:, :, None, None, :]
    grid = (maps[..., 2] + maps[..., 0] * across) + maps[..., 1] * down[:, None]
    grid = grid.permute(0, 2, 3, 1)
    return F.grid_sample(
        to_float(images), grid, mode=mode, padding_mode=padding, align_corners=False
    )


def random_resized_crop(
    images: Tensor,
    rng: PerImageRng,
    size: int,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Tensor:
    """(B, 3, size, size) float: a random part of each image (see `crop_map`), sampled bilinearly."""
    return sample(images, crop_map(rng, scale, ratio, flip), size)


def random_rotation(
    images: Tensor, rng: PerImageRng, degrees: float, padding: str = "zeros"
) -> Tensor:
    """Each image turned about its middle by an angle uniform over -degrees .. degrees; float, of the same size."""
    height, width = images.shape[-2:]
    angles = (2 * rng.uniform() - 1) * degrees
    return sample(images, rotation_map(angles, width / height), (height, width), padding=padding)


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Images turned counter-clockwise by `turns` (B,) int64 quarters, exactly; same type as given.

    ValueError where the images are not square.
    """
    if images.shape[-2] != images.shape[-1]:
        raise ValueError(
            f"images of {images.shape[-1]} x {images.shape[-2]} px cannot be turned by a quarter: they are not square"
        )
    turned = images.clone()
    for turn in (1, 2, 3):
        chosen = (turns % 4 == turn).nonzero()[:, 0]
        turned[chosen] = torch.rot90(images[chosen], turn, (-2, -1))
    return turned


def random_flip(images: Tensor, rng: PerImageRng, probability: float = 0.5) -> Tensor:
    """Images mirrored left to right with a probability, exactly; same type as given."""
    chosen = rng.chance(probability).nonzero()[:, 0]
    return images.index_copy(0, chosen, images[chosen].flip(-1))


def tiles(images: Tensor, rows: int, cols: int, tile: int, corners: Tensor | None = None) -> Tensor:
    """Tiles of each image, row by row of a grid: (B, C, H, W) to (B, rows * cols, C, tile, tile), same type.

    `corners` int64 are the rows and columns of the tiles' upper left pixels: (B, rows * cols, 2), or
    (B, rows * cols, C, 2) where each channel has its own. None: each tile in the middle of its cell. ValueError where
    there is no room for the tiles.
    """
    height, width = images.shape[-2:]
    tall, wide = height // rows, width // cols
    if corners is None:
        if tile > min(tall, wide):
            raise ValueError(f"cells of {wide} x {tall} px have no room for tiles of {tile} px")
        top, left = (tall - tile) // 2, (wide - tile) // 2
        cells = (
            images[..., : rows * tall, : cols * wide]
            .unflatten(-1, (cols, wide))
            .unflatten(-3, (rows, tall))
        )
        return (
            cells[..., top : top + tile, :, left : left + tile]
            .permute(0, 2, 4, 1, 3, 5)
            .flatten(1, 2)
        )
    # On an accelerator, looking would mean waiting for it.
    if corners.device.type == "cpu" and corners.numel():
        low, (bottom, right) = corners.amin(), corners.flatten(0, -2).amax(0).tolist()
        if low < 0 or bottom + tile > height or right + tile > width:
            raise ValueError(f"tiles of {tile} px reach out of images of {width} x {height} px")
    if corners.ndim == 3:
        corners = corners[:, :, None].expand(-1, -1, images.shape[1], -1)
    inside = torch.arange(tile, device=images.device)
    down, across = corners[..., 0, None] + inside, corners[..., 1, None] + inside  # (B, T, C, tile)
    index = (down[..., :, None] * width + across[..., None, :]).transpose(1, 2)
    return (
        images.flatten(2).gather(2, index.flatten(2)).unflatten(2, index.shape[2:]).transpose(1, 2)
    )


def erased_boxes(
    rng: PerImageRng,
    size: tuple[int, int],
    p: float,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Tensor:
    """(B, 4) int64: top, left, height and width in px of what is erased of images of `size` (height, width).

    The area, before it is rounded to pixels, is uniform within `scale`, a share of the image's; the logarithm of the
    shape (height to width) is uniform over what of `ratio` fits. With probability 1 - p a box is empty.
    """
    high, wide = size
    area, shape, top, left, chosen = rng.uniform(5).unbind(1)
    area = (scale[0] + (scale[1] - scale[0]) * area) * (high * wide)
    least, most = (area / wide**2).log(), (high**2 / area).log()
    low, top_end = (
        torch.minimum(torch.maximum(area.new_tensor(math.log(end)), least), most) for end in ratio
    )
    shape = torch.exp(low + (top_end - low) * shape)
    tall, broad = (
        (area * shape).sqrt().round().clamp(max=high),
        (area / shape).sqrt().round().clamp(max=wide),
    )
    tall = torch.where(chosen < p, tall, 0.0)
    top, left = (top * (high - tall + 1)).floor(), (left * (wide - broad + 1)).floor()
    return torch.stack((top, left, tall, broad), dim=1).to(torch.int64)


def erase(images: Tensor, boxes: Tensor, value: float = 0.0) -> Tensor:
    """Each image's box (B, 4), as `erased_boxes` gives them, set to `value`; same type as given."""
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
    """A random box of images chosen with probability p set to `value` (Zhong et al., AAAI 2020); see `erased_boxes`."""
    return erase(images, erased_boxes(rng, tuple(images.shape[-2:]), p, scale, ratio), value)
