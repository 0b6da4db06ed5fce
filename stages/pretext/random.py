"""Random weights: the lower bound of every comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transfer.artifacts import Model, Normalization
from transfer.stage.base import BackboneOption, ImageInput, Stage, option

if TYPE_CHECKING:
    from transfer.pipeline.plan import PlannedStage
    from transfer.stage.context import StageContext


class Random(Stage):
    """The backbone as it is drawn, never trained. The images only say which size it is for, where `size` does not."""

    produces = Model
    images = {"images": ImageInput("unlabeled")}

    backbone: BackboneOption = option("alexnet", "the network (see `transfer list backbones`)")

    size: int | None = option(
        None, "side that it is fed, px; none: that of the images", ge=8, le=1024
    )

    def identity(self) -> dict[str, Any]:
        """Without `size` where it is that of the images."""
        return {
            name: value
            for name, value in super().identity().items()
            if (name, value) != ("size", None)
        }

    def validate_build(self, planned: PlannedStage) -> None:
        """The network takes images of that size."""
        self.backbone.shapes(self.size or planned.images["images"].stage.size)

    def run(self, context: StageContext) -> None:
        network = self.backbone.build(context.seed_for("weights"))
        made_by = {"stage": type(self).__name__, "options": self.identity()}
        Model.write(
            context.folder,
            network,
            size=self.size or context.images["images"].size,
            normalization=Normalization(),
            made_by=made_by,
            history=[],
        )
