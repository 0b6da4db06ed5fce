"""Pretext: what a pretext task is: options, `network` (what is trained) and `loss` (what is asked of it)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from transfer.artifacts import Model
from transfer.errors import TransferError
from transfer.models.build import build_network
from transfer.stage.backbone_option import BackboneOption
from transfer.stage.base import DatasetInfo, ImageInput
from transfer.stage.options import option
from transfer.training.recipe import TrainableStage
from transfer.training.trainer import shuffled_rows, train
from transfer.transforms.normalize import Normalization
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor, nn

    from transfer.models.backbone import Backbone
    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


class Pretext(TrainableStage):
    """Base of the pretext tasks. A task writes `network` and `loss`; the rest is the same for all of them.

    Whatever a task keeps from step to step (labels, clusters, a moving average) lives in the network as parameters or
    buffers: it is saved and resumed with the weights.
    """

    produces = Model
    images = {"images": ImageInput("unlabeled")}
    normalization: ClassVar[Normalization] = Normalization()

    backbone: BackboneOption = option("vgg16", "the deep network (see `transfer list backbones`)")

    def backbone_spec(self) -> Backbone:
        return self.backbone

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """All that is trained; the entry `backbone` is what is kept afterwards."""
        raise NotImplementedError

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and the figures of uint8 `images` (B, 3, H, W), whose rows in the set are `draw.ids`.

        A figure called `accuracy` is compared with `chance`.
        """
        raise NotImplementedError

    def begin(self, network: nn.ModuleDict, context: StageContext) -> None:
        """Once, before training: fill the buffers that stand on the images or on the inputs."""

    def before_epoch(
        self, network: nn.ModuleDict, context: StageContext, epoch: int
    ) -> list[nn.Module]:
        """Before each epoch, such as clustering; returns the parts of the network that were drawn anew."""
        return []

    def order(self, network: nn.ModuleDict, context: StageContext, epoch: int) -> numpy.ndarray:
        """The rows to train on in an epoch, in which order; as many in every epoch."""
        return shuffled_rows(context, epoch, len(context.images["images"]))

    def after_step(self, network: nn.ModuleDict, share: float) -> None:
        """After each step, without gradients, such as a moving average; `share` of the training is done."""

    def validate_build(self, planned: PlannedStage) -> None:
        """The networks fit the images: found out without computing anything."""
        self._build(planned.images["images"].stage.dataset_info(), seed=0)

    def run(self, context: StageContext) -> None:
        images = context.images["images"]
        dataset = self.dataset_info(context)
        network = self._build(dataset, context.seed_for("weights"))
        self.begin(network, context)
        history = train(
            context,
            self,
            network,
            self._checked_loss,
            images,
            chance=self.chance(dataset),
            order=lambda epoch: self.order(network, context, epoch),
            before_epoch=lambda epoch: self.before_epoch(network, context, epoch),
            after_step=lambda share: self.after_step(network, share),
        )
        made_by = {"stage": type(self).__name__, "options": self.identity()}
        Model.write(
            context.folder,
            network["backbone"],
            size=images.size,
            normalization=self.normalization,
            made_by=made_by,
            history=history,
        )

    def dataset_info(self, context: StageContext) -> DatasetInfo:
        """What `network` is told when the task runs."""
        images = context.images["images"]
        return DatasetInfo(images.size, len(images), len(images.classes))

    def _build(self, dataset: DatasetInfo, seed: int) -> nn.ModuleDict:
        backbone = build_network(self.backbone, seed)
        backbone.shapes(dataset.size)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network = self.network(backbone, dataset)
        kept = (
            network["backbone"]
            if isinstance(network, torch.nn.ModuleDict) and "backbone" in network
            else None
        )
        if not hasattr(kept, "spec"):
            must = "must return a ModuleDict in which `backbone` is the one that it was given"
            raise ValueError(f"{type(self).__name__}.network {must}")
        return network

    def _checked_loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What `loss` returns, if a training can go on with it."""
        found = self.loss(network, images, rng)
        if wrong := _wrong(found):
            must = "must return the loss, a scalar tensor with gradients, and a dict of figures, which are scalars too"
            raise TransferError(f"{type(self).__name__}.loss {must}; it returned {wrong}")
        return found


def _wrong(found: object) -> str:
    """What is not as it must be in what a task's `loss` returned; empty where nothing is."""
    if not isinstance(found, tuple) or len(found) != 2:
        return f"{len(found)} values" if isinstance(found, tuple) else f"one {type(found).__name__}"
    loss, figures = found
    if not torch.is_tensor(loss):
        return f"a {type(loss).__name__} as loss"
    if loss.ndim:
        return f"a loss of shape {tuple(loss.shape)}"
    if not loss.requires_grad:
        return "a loss without gradients"
    if not isinstance(figures, dict):
        return f"a {type(figures).__name__} as figures"
    bad = [name for name, value in figures.items() if not torch.is_tensor(value) or value.ndim]
    return f"'{bad[0]}', which is no scalar tensor" if bad else ""


def backbone_features(backbone: nn.Module, images: Tensor) -> Tensor:
    """(B, D): what a head stands on, the backbone's deepest convolutional layer, flattened."""
    network = cast("Network", backbone)  # a ModuleDict gives its parts the type nn.Module
    layer = network.spec.default_layer()
    deepest = (
        network(images)
        if layer == network.layer_names[-1]
        else network.layers(images, [layer])[layer]
    )
    return deepest.flatten(1)


def backbone_feature_dim(backbone: Network, size: int) -> int:
    """D of `read` for images of `size` px; ValueError where they are too small for the network."""
    return backbone.width(size, backbone.spec.default_layer())
