"""Features of a network's layers for linear classifiers: pooled to a grid, kept in mapped files."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.models.build import layer_shapes
from transfer.stage.feature_blocks import non_finite_row
from transfer.training.inference import extract_layers
from transfer.transforms.pooling import pool_features
from transfer.utils.lazy_imports import F, np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import numpy
    from torch import Tensor

    from transfer.artifacts import Images, Model
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

FLOAT16_MAX = 65504.0
MAX_LAYERS = 8  # layers that a probe reads by default


def grid_side(shape: Sequence[int], dimensions: int) -> int:
    """Return the largest side of a grid over a (C, H, W) map with at most `dimensions` values.

    It is 1 for a flat layer, (C,).
    """
    return max(1, int((dimensions / shape[0]) ** 0.5)) if len(shape) == 3 else 1


def pool_to_grid(activations: Tensor, dimensions: int, pooling: str) -> Tensor:
    """Return (B, D) float32 features of a layer.

    Args:
        activations: (B, C, H, W), or (B, D) of a flat layer.
        dimensions: the largest D of a map.
        pooling: `average` over the cells of the grid, or `bilinear` sampling.
    """
    side = grid_side(activations.shape[1:], dimensions)
    is_larger = activations.ndim == 4 and max(activations.shape[-2:]) > side
    if pooling == "bilinear" and is_larger:
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
    pooling: str = "average",
) -> dict[str, numpy.ndarray]:
    """Read all layers in one pass through the network, into mapped files.

    Args:
        context: the stage that runs; the files are in its checkpoints.
        model: the network.
        images: N images.
        layers: the layers to read.
        role: the name of the images in messages and file names.
        dimensions: the largest number of values of a layer.
        pooling: see `pool_to_grid`.

    Returns:
        Layer -> (N, D) float16.

    Raises:
        TransferError: a feature is not finite.
    """
    files: dict[str, numpy.ndarray] = {}
    clipped: Counter[str] = Counter()  # layer -> values beyond float16
    with context.progress(f"reading {role}", len(images), "images") as progress:
        for first, activations in extract_layers(model, images, layers, context.runtime):
            rows = 0
            for number, layer in enumerate(layers):
                block = pool_to_grid(activations[layer], dimensions, pooling).cpu().numpy()
                rows = len(block)
                if layer not in files:
                    path = context.checkpoints / f"{role}-{number}.npy"
                    shape = len(images), block.shape[1]
                    files[layer] = np.lib.format.open_memmap(path, "w+", np.float16, shape)
                if (row := non_finite_row(block)) is not None:
                    raise TransferError(
                        f"layer {layer}: the features of image {images.ids[first + row]} are not "
                        "finite numbers; check the network's weights or its training"
                    )
                clipped[layer] += int((np.abs(block) > FLOAT16_MAX).sum())
                files[layer][first : first + rows] = block.clip(-FLOAT16_MAX, FLOAT16_MAX)
            progress.advance(rows)
            context.pause_point()
    for layer, count in clipped.items():
        if count:
            context.note(
                f"layer {layer}: {count:,} of {files[layer].size:,} {role} features exceed float16 "
                f"and count as {FLOAT16_MAX:.0f}, so its figure is lower than it could be"
            )
    return files


def resolve_layers(model: Model, layers: Sequence[str] | None) -> list[str]:
    """Return the layers behind names that may be aliases; [] without names."""
    return [model.backbone.resolve_layer(layer) for layer in layers or []]


def map_layers(model: Model) -> list[str]:
    """Return those of `probed_layers` that are maps; TransferError if the network has none."""
    maps = [layer for layer in probed_layers(model) if len(model.layers[layer]) == 3]
    _require_maps(model.backbone.name, maps)
    return maps


def validate_maps(planned: PlannedStage[Any]) -> None:
    """Raise TransferError if the planned network has no layer that is a map."""
    backbone = planned.inputs["model"].stage.backbone_spec()
    if backbone is not None:
        shapes = layer_shapes(backbone, planned.images["train"].stage.size)
        _require_maps(backbone.name, [name for name, shape in shapes.items() if len(shape) == 3])


def _require_maps(network: str, maps: Sequence[str]) -> None:
    if not maps:
        raise TransferError(
            f"{network} has no layer that is a map, which this protocol needs; "
            "choose another network"
        )


def probed_layers(model: Model) -> list[str]:
    """Return the layers that a probe reads by default: all except poolings.

    Of more than eight layers, only the last of each size of maps is read.
    """
    shapes = model.layers
    layers = [name for name in shapes if not name.startswith("pool")]
    if len(layers) <= MAX_LAYERS:
        return layers
    following = [*layers[1:], None]
    return [
        layer
        for layer, after in zip(layers, following, strict=True)
        if after is None or shapes[layer][1:] != shapes[after][1:]
    ]
