"""Images as points on a sphere: what nearest neighbors are looked for among."""

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
    """(N, D) float32 of unit length: a layer averaged over a pool x pool grid."""
    rows = []
    with context.progress("reading", len(images), "images") as progress:
        for _, found in extract_layers(model, images, [layer], context.runtime):
            rows.append(
                F.normalize(pool_features(found[layer], pool, "average"), dim=1).cpu().numpy()
            )
            progress.advance(len(rows[-1]))
            context.pause_point()
    points = np.concatenate(rows)
    if not np.isfinite(points).all():
        raise TransferError("the network's features are not finite numbers")
    return points
