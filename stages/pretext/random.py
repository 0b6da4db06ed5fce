"""Random weights: the lower bound of every comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transfer.artifacts import Model, Normalisation
from transfer.stage.base import BackboneOption, Images, Stage, option

if TYPE_CHECKING:
    from transfer.pipeline.plan import Planned
    from transfer.stage.context import Work


class Random(Stage):
    """The backbone as it is drawn, never trained. The images only say which size it is for, where `size` does not."""

    produces = Model
    images = {"images": Images("unlabeled")}

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

    def rehearse(self, planned: Planned) -> None:
        """The network takes images of that size."""
        self.backbone.shapes(self.size or planned.images["images"].stage.size)

    def run(self, work: Work) -> None:
        network = self.backbone.build(work.seed_for("weights"))
        made_by = {"stage": type(self).__name__, "options": self.identity()}
        Model.write(
            work.folder,
            network,
            size=self.size or work.images["images"].size,
            normalisation=Normalisation(),
            made_by=made_by,
            history=[],
        )
