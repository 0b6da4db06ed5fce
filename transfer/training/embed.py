"""Running a frozen network over a packed set, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from transfer.images.batches import Batches
from transfer.images.transforms import normalise
from transfer.lazy import F, np, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.artifacts import Images, Model
    from transfer.machine import Machine

# Images a forward pass. A part of an extraction is of whole blocks, so a resumed extraction has the
# blocks of a straight one, and gives the same bytes. In another block, or another place of it, an
# image's values may differ by rounding: libraries split a product by its shape.
BLOCK = 256


def outputs(
    model: Model, images: Images, layers: Sequence[str], machine: Machine, start: int = 0
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """(first row, layer -> activations as they are computed) for each block of images from row `start` on, in order."""
    from transfer.networks.blocks import fold  # imports torch

    network = model.network()
    fold(network)
    network.to(machine.device, memory_format=torch.channels_last)
    if machine.compile:
        network.compile()
    for first, batch in in_order(images, machine, start):
        batch = fitted(batch, model.card["size"])
        with torch.inference_mode(), machine.autocast():
            found = network.layers(normalise(batch, model.normalisation), layers)
        yield first, found


def fitted(images: Tensor, size: int) -> Tensor:
    """uint8 (B, 3, S, S) as they are where they have that size already, else resized, antialiased, float in [0, 1]."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images.float(), size=size, mode="bilinear", antialias=True).div(255)


def in_order(images: Images, machine: Machine, start: int = 0) -> Iterator[tuple[int, Tensor]]:
    """(first row, uint8 (B, 3, S, S) on the device) for each block of images from row `start` on, in order."""
    blocks = [np.arange(first, min(first + BLOCK, len(images))) for first in range(start, len(images), BLOCK)]
    with Batches(images, machine, BLOCK) as feed:
        for rows, batch in zip(blocks, feed.each(blocks), strict=True):
            yield int(rows[0]), batch


def pooled(activations: Tensor, side: int, how: str) -> Tensor:
    """(B, C, H, W) to (B, C * side * side) float32, by maximum or mean over a side x side grid; flat ones stay flat."""
    if activations.ndim == 4 and max(activations.shape[-2:]) > side:
        if how == "max":
            activations = F.adaptive_max_pool2d(activations, side)
        else:
            activations = F.adaptive_avg_pool2d(activations.float(), side)
    return activations.flatten(1).float()
