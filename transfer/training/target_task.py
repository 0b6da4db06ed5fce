"""Target: the small network that learns what a deep one knows; strategies differ in what they ask of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from transfer.artifacts import Model
from transfer.models.build import build_network, layer_shapes
from transfer.stage.backbone_option import BackboneOption
from transfer.stage.options import option
from transfer.training.crop_augment import RandomResizedCropAugment
from transfer.training.recipe import TrainableStage
from transfer.training.trainer import shuffled_rows, train
from transfer.transforms.normalize import Normalization, normalize
from transfer.utils.lazy_imports import nn, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.models.backbone import Backbone
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng

# (head, what the backbone says of the crops (B, D), the crops in [0, 1], draw, whose `ids` are their rows)
# -> loss, named figures of the batch
TargetLoss = Callable[
    ["nn.Module", "Tensor", "Tensor", "PerImageRng"], "tuple[Tensor, dict[str, Tensor]]"
]


class Target(RandomResizedCropAugment, TrainableStage):
    """Base of the strategies. One writes `run`, which finds out what there is to learn and calls `learn`."""

    produces = Model

    backbone: BackboneOption = option(
        "alexnet", "the target network (see `transfer list backbones`)"
    )
    size: int | None = option(
        None, "side that it is fed, px; none: that of the images, which may be larger", ge=8
    )

    def backbone_spec(self) -> Backbone:
        return self.backbone

    def input_size(self) -> int | None:
        return self.size

    def validate_build(self, planned: PlannedStage) -> None:
        """The network fits the images: found out without computing anything."""
        layer_shapes(self.backbone, self.size or planned.images["images"].stage.size)

    def learn(
        self,
        context: StageContext,
        make_head: Callable[[nn.Module, int], nn.Module],
        asked: TargetLoss,
        rows: numpy.ndarray,
        order: Callable[[int], numpy.ndarray] | None = None,
        chance: float | None = None,
        after_step: Callable[[nn.ModuleDict], None] | None = None,
    ) -> nn.Module:
        """Train the backbone from random weights together with a head, write the backbone, and return the head.

        make_head: of the backbone and the number of values that it gives. rows: the images that can be learned from;
        order: those of an epoch, by default all of them, shuffled. The head is no part of the network that is kept.
        """
        images, normalization = context.images["images"], Normalization()
        seed, size = context.seed_for("weights"), self.size or context.images["images"].size
        backbone = build_network(self.backbone, seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network = nn.ModuleDict(
                {"backbone": backbone, "head": make_head(backbone, backbone.width(size))}
            )

        def loss(
            network: nn.ModuleDict, batch: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            crops = self.augment(batch, rng)
            found = network["backbone"](normalize(crops, normalization)).flatten(1)
            return asked(network["head"], found, crops, rng)

        def every(epoch: int) -> numpy.ndarray:
            return rows[shuffled_rows(context, epoch, len(rows))]

        then = (lambda share: after_step(network)) if after_step else None
        history = train(
            context, self, network, loss, images, order or every, chance=chance, after_step=then
        )
        made_by = {"stage": type(self).__name__, "options": self.identity()}
        Model.write(
            context.folder,
            network["backbone"],
            size=size,
            normalization=normalization,
            made_by=made_by,
            history=history,
        )
        return network["head"]
