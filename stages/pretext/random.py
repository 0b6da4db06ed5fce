"""Random weights: the lower bound of every comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transfer.artifacts import Model
from transfer.models.build import build_network, layer_shapes
from transfer.stage.backbone_option import BackboneOption
from transfer.stage.base import Stage
from transfer.stage.image_input import ImageInput
from transfer.stage.options import option
from transfer.transforms.normalize import Normalization

if TYPE_CHECKING:
    from transfer.models.backbone import Backbone
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext


class Random(Stage):
    """An untrained backbone. The images only give the input size where `size` is not set."""

    produces = Model
    images = {"images": ImageInput("unlabeled")}

    backbone: BackboneOption = option("alexnet", "the network (see `transfer list backbones`)")

    size: int | None = option(
        None, "side of the network's input, px; none: that of the images", ge=8, le=1024
    )

    def backbone_spec(self) -> Backbone:
        return self.backbone.for_transfer()

    def input_size(self) -> int | None:
        return self.size

    def identity(self) -> dict[str, Any]:
        """The options, without `size` where it is not set."""
        return {
            name: value
            for name, value in super().identity().items()
            if (name, value) != ("size", None)
        }

    def validate_build(self, planned: PlannedStage[Any]) -> None:
        """Raise ValueError for images that are too small for the network."""
        layer_shapes(self.backbone, self.size or planned.images["images"].stage.size)

    def run(self, context: StageContext) -> None:
        network = build_network(self.backbone, context.seed_for("weights"))
        made_by = {"stage": type(self).__name__, "options": self.identity()}
        Model.write(
            context.folder,
            network,
            size=self.size or context.images["images"].size,
            normalization=Normalization(),
            made_by=made_by,
            history=[],
        )
