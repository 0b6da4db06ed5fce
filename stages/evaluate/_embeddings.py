"""Images as points on a sphere: what nearest neighbours are looked for among."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.training.inference import outputs, pooled
from transfer.utils.lazy_imports import F, np

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Images, Model
    from transfer.stage.context import Work


def embedded(work: Work, model: Model, images: Images, layer: str, pool: int) -> numpy.ndarray:
    """(N, D) float32 of unit length: a layer averaged over a pool x pool grid."""
    rows = []
    with work.progress("reading", len(images), "images") as progress:
        for _, found in outputs(model, images, [layer], work.machine):
            rows.append(F.normalize(pooled(found[layer], pool, "average"), dim=1).cpu().numpy())
            progress.advance(len(rows[-1]))
            work.pause_point()
    points = np.concatenate(rows)
    if not np.isfinite(points).all():
        raise TransferError("the network's features are not finite numbers")
    return points
