"""Target: the base of the strategies by which a small network learns from a deep one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from transfer.artifacts import Model
from transfer.models.build import build_network, layer_shapes
from transfer.stage.backbone_option import BackboneOption
from transfer.stage.options import option
from transfer.training.crop_augment import RandomResizedCropAugment
from transfer.training.recipe import PLAIN_RATE, TrainableStage
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

# (head, features of the crops (B, D), crops in [0, 1], random numbers whose `ids` are their rows)
# -> loss, figures of the batch by name
TargetLoss = Callable[
    ["nn.Module", "Tensor", "Tensor", "PerImageRng"], "tuple[Tensor, dict[str, Tensor]]"
]


class Target(RandomResizedCropAugment, TrainableStage):
    """Base of the strategies. A strategy implements `run`, which prepares the loss for `learn`."""

    produces = Model
    # For AlexNet, which has no batch norm; see PLAIN_RATE. ResNets are usually trained at 0.1.
    defaults: ClassVar[dict[str, Any]] = {"learning_rate": PLAIN_RATE}

    backbone: BackboneOption = option(
        "alexnet", "the target network (see `transfer list backbones`)"
    )
    size: int | None = option(
        None, "side of its input, px; none: that of the images, which may be larger", ge=8
    )

    def backbone_spec(self) -> Backbone:
        return self.backbone.for_transfer()

    def input_size(self) -> int | None:
        return self.size

    def validate_build(self, planned: PlannedStage[Any]) -> None:
        """Raise ValueError if the network does not fit the images; computes nothing."""
        layer_shapes(self.backbone, self.size or planned.images["images"].stage.size)

    def learn(
        self,
        context: StageContext,
        make_head: Callable[[nn.Module, int], nn.Module],
        loss_of: TargetLoss,
        rows: numpy.ndarray,
        order: Callable[[int], numpy.ndarray] | None = None,
        chance: float | None = None,
        after_step: Callable[[nn.ModuleDict], None] | None = None,
    ) -> nn.Module:
        """Train the backbone from random weights with a head. Write the backbone, return the head.

        Args:
            context: images, seed and folder.
            make_head: makes the head of the backbone and its number of output values.
            loss_of: computes the loss and figures of a batch.
            rows: the rows of the images to learn from.
            order: returns the rows of an epoch; by default all of them, shuffled.
            chance: the accuracy of guessing.
            after_step: called with the network after each step.
        """
        images, normalization = context.images["images"], Normalization()
        seed, size = context.seed_for("weights"), self.size or images.size
        backbone = build_network(self.backbone, seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            head = make_head(backbone, backbone.width(size))
            network = nn.ModuleDict({"backbone": backbone, "head": head})

        def loss(
            network: nn.ModuleDict, batch: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            crops = self.augment(batch, rng)
            features = network["backbone"](normalize(crops, normalization)).flatten(1)
            return loss_of(network["head"], features, crops, rng)

        def all_rows(epoch: int) -> numpy.ndarray:
            return rows[shuffled_rows(context, epoch, len(rows))]

        history = train(
            context,
            self,
            network,
            loss,
            images,
            order or all_rows,
            chance=chance,
            after_step=(lambda share: after_step(network)) if after_step else None,
        )
        made_by = {"stage": type(self).__name__, "options": self.identity()}
        Model.write(
            context.folder,
            backbone,
            size=size,
            normalization=normalization,
            made_by=made_by,
            history=history,
        )
        return head
