"""Embeddings of images: features of unit length, among which nearest neighbors are searched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.training.inference import extract_layers
from transfer.transforms.pooling import pool_features
from transfer.utils.lazy_imports import F, np

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Images, Model
    from transfer.stage.context import StageContext


def embed_images(
    context: StageContext, model: Model, images: Images, layer: str, pool: int
) -> numpy.ndarray:
    """Return (N, D) float32 of unit length.

    Args:
        context: the stage that runs.
        model: the network.
        images: N images.
        layer: the layer to read.
        pool: side of the grid over which the layer's map is averaged.

    Raises:
        TransferError: a feature is not finite.
    """
    blocks = []
    with context.progress("reading", len(images), "images") as progress:
        for _, activations in extract_layers(model, images, [layer], context.runtime):
            pooled = pool_features(activations[layer], pool, "average")
            blocks.append(F.normalize(pooled, dim=1).cpu().numpy())
            progress.advance(len(blocks[-1]))
            context.pause_point()
    embeddings = np.concatenate(blocks)
    if not np.isfinite(embeddings).all():
        raise TransferError(
            "the network's features are not finite numbers; check its weights or its training"
        )
    return embeddings
