"""Runs a frozen network over packed images, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from transfer.datasets.packed.batch_loader import Batches
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import F, np, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.artifacts import Images, Model
    from transfer.utils.runtime import Runtime

# Images of a forward pass. A part of an extraction consists of whole blocks, so a resumed
# extraction has the blocks of an uninterrupted one, and gives the same bytes. In another block, or
# at another place of it, an image's values may differ by rounding: libraries split a product by its
# shape.
BLOCK = 256


def extract_layers(
    model: Model, images: Images, layers: Sequence[str], runtime: Runtime, start: int = 0
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield (first row, layer -> activations) for each block of images in order.

    Args:
        model: the network.
        images: the packed images.
        layers: the layers to read.
        runtime: device, precision and compilation.
        start: the first row.
    """
    from transfer.models.blocks import fuse_batchnorm  # imports torch

    network = model.network()
    fuse_batchnorm(network)
    network.to(runtime.device).to(memory_format=torch.channels_last)
    if runtime.compile:
        network.compile()
    for first, batch in iter_batches(images, runtime, start):
        resized = resize_to(batch, model.card.size)
        with torch.inference_mode(), runtime.autocast():
            activations = network.layers(normalize(resized, model.normalization), layers)
        yield first, activations


def resize_to(images: Tensor, size: int) -> Tensor:
    """Resize uint8 (B, 3, S, S) to float (B, 3, size, size) in [0, 1], with antialiasing.

    Images of that size already stay as they are.
    """
    if images.shape[-1] == size:
        return images
    return F.interpolate(images.float(), size=size, mode="bilinear", antialias=True).div(255)


def iter_batches(images: Images, runtime: Runtime, start: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Yield (first row, uint8 (B, 3, S, S) on the device) for each block of images in order.

    Args:
        images: the packed images.
        runtime: the device and its threads.
        start: the first row.
    """
    blocks = [
        np.arange(first, min(first + BLOCK, len(images)))
        for first in range(start, len(images), BLOCK)
    ]
    with Batches(images, runtime, BLOCK) as loader:
        for rows, batch in zip(blocks, loader.each(blocks), strict=True):
            yield int(rows[0]), batch
