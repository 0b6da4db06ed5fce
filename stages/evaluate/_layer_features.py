"""What layers say of images, as a linear probe reads them: pooled to a grid, and kept in files that are mapped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.stage.feature_blocks import non_finite_row
from transfer.training.inference import extract_layers
from transfer.transforms.pooling import pool_features
from transfer.utils.lazy_imports import F, np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy
    from torch import Tensor

    from transfer.artifacts import Images, Model
    from transfer.stage.context import StageContext

LARGEST = 65504.0  # of float16


def grid(shape: Sequence[int], dimensions: int) -> int:
    """The largest side of a grid over a (C, H, W) map that leaves at most `dimensions` values; 1 for flat layers."""
    return max(1, int((dimensions / shape[0]) ** 0.5)) if len(shape) == 3 else 1


def pool_to_grid(activations: Tensor, dimensions: int, how: str) -> Tensor:
    """(B, D) float32 of a layer's (B, C, H, W) or (B, D): averaged over the grid, or sampled bilinearly."""
    side = grid(activations.shape[1:], dimensions)
    if how == "bilinear" and activations.ndim == 4 and max(activations.shape[-2:]) > side:
        activations = F.interpolate(
            activations.float(), size=(side, side), mode="bilinear", align_corners=False
        )
    return pool_features(activations, side, "average")


def read_layers(
    context: StageContext,
    model: Model,
    images: Images,
    layers: Sequence[str],
    role: str,
    dimensions: int,
    how: str = "average",
) -> dict[str, numpy.ndarray]:
    """Layer -> (N, D) float16, in files that are mapped: all layers from one pass through the network."""
    files: dict[str, numpy.ndarray] = {}
    with context.progress(f"reading {role}", len(images), "images") as progress:
        for first, found in extract_layers(model, images, layers, context.runtime):
            for number, layer in enumerate(layers):
                block = pool_to_grid(found[layer], dimensions, how).cpu().numpy()
                if layer not in files:
                    path = context.checkpoints / f"{role}-{number}.npy"
                    files[layer] = np.lib.format.open_memmap(
                        path, "w+", np.float16, (len(images), block.shape[1])
                    )
                if (bad := non_finite_row(block)) is not None:
                    raise TransferError(
                        f"layer {layer} says of {images.ids[first + bad]} what is no finite number"
                    )
                files[layer][first : first + len(block)] = block.clip(-LARGEST, LARGEST)
            progress.advance(len(next(iter(found.values()))))
            context.pause_point()
    return files


def resolve_layers(model: Model, layers: Sequence[str] | None) -> list[str]:
    """The layers that names, which may be aliases, mean; [] for none."""
    return [model.backbone.resolve_layer(layer) for layer in layers or []]


def map_layers(model: Model) -> list[str]:
    """Those of `probed_layers` that are maps; TransferError for a network without any."""
    found = [layer for layer in probed_layers(model) if len(model.layers[layer]) == 3]
    if not found:
        raise TransferError(
            f"no layer of {model.backbone.name} gives a map: this protocol reads maps"
        )
    return found


def probed_layers(model: Model) -> list[str]:
    """The layers that a probe reads by default: all but poolings; of more than eight, the last before maps shrink."""
    shapes = model.layers
    layers = [name for name in shapes if not name.startswith("pool")]
    return [
        a
        for a, b in zip(layers, [*layers[1:], None], strict=True)
        if b is None or len(layers) <= 8 or shapes[a][1:] != shapes[b][1:]
    ]
