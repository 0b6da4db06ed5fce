"""Features of images: the outputs of a layer of a trained network."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal

from stages.extract._resumable_writer import write_features
from transfer.artifacts import Features, Model
from transfer.models.build import layer_shapes
from transfer.stage.base import Stage
from transfer.stage.image_input import ImageInput
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.training.inference import extract_layers
from transfer.transforms.pooling import pool_features
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext


class ExtractNetwork(Stage):
    """Extract one layer of a network, after its activation, pooled to a small grid.

    Images are not augmented, and the network is in eval mode.
    """

    produces = Features
    seeded = False
    images = {"images": ImageInput("unlabeled")}

    model: str = stage_input(Model, "the network")
    layer: str | None = option(
        None, "layer to extract, such as conv5; none: the network's deepest convolutional layer"
    )
    pool: int = option(
        5, "side of the grid that a layer's map is pooled to; smaller maps stay as they are", ge=1
    )
    pooling: Literal["max", "average"] = option("max", "how it is pooled (the paper: max, 5 x 5)")
    dtype: Literal["float16", "float32"] = option("float16", "number format of the saved features")

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption if the network has no such layer."""
        check_layers(planned, "layer", [self.layer])

    def source_model(self, planned: PlannedStage[Any]) -> PlannedStage[Any]:
        return planned.inputs["model"]

    def output_space(self, planned: PlannedStage[Any]) -> tuple[object, ...]:
        layer, backbone = self.layer, planned.inputs["model"].stage.backbone_spec()
        if backbone is not None:  # an alias means the same layer
            layer = backbone.resolve_layer(layer or backbone.default_layer())
        return planned.inputs["model"].key, layer, self.pool, self.pooling

    def output_width(self, planned: PlannedStage[Any]) -> int | None:
        model = planned.inputs["model"]
        backbone = model.stage.backbone_spec()
        if backbone is None:
            return None
        sizes = [pack.stage.size for pack in model.images.values()]
        try:
            size = model.stage.input_size() or sizes[0]
            layer = backbone.resolve_layer(self.layer or backbone.default_layer())
            activations = torch.empty((1, *layer_shapes(backbone, size)[layer]), device="meta")
        except Exception:  # of many kinds, timm's among them; the network's own stage reports it
            return None
        return pool_features(activations, self.pool, self.pooling).shape[1]

    def run(self, context: StageContext) -> None:
        model, images = context.inputs["model"], context.images["images"]
        layer = model.backbone.resolve_layer(self.layer or model.card.default_layer)
        size = model.card.size
        if images.size < size:
            context.note(
                f"images of {images.size} px are enlarged to the network's {size} px; if the "
                "originals are larger, set `size` in `data`"
            )

        def blocks(start: int) -> Generator[tuple[int, numpy.ndarray], None, None]:
            for first, outputs in extract_layers(model, images, [layer], context.runtime, start):
                block = pool_features(outputs[layer], self.pool, self.pooling)
                yield first, block.to(getattr(torch, self.dtype)).cpu().numpy()

        space = {
            "model": context.input_keys["model"],
            "layer": layer,
            "pool": self.pool,
            "pooling": self.pooling,
        }
        write_features(context, images, blocks, self.dtype, layer, space)
