"""Pretext: the base of pretext tasks, with options, a `network` to train and a `loss`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import field_validator

from transfer.artifacts import Model
from transfer.errors import TransferError
from transfer.models.build import build_network
from transfer.stage.backbone_option import BackboneOption
from transfer.stage.image_input import DatasetInfo, ImageInput
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
    """Base of the pretext tasks. A task implements `network` and `loss`; the rest is common.

    State that a task keeps between steps (labels, clusters, a moving average) must be parameters or
    buffers of the network: they are saved and resumed with the weights.
    """

    produces = Model
    images = {"images": ImageInput("unlabeled")}
    normalization: ClassVar[Normalization] = Normalization()

    backbone: BackboneOption = option("vgg16", "the deep network (see `transfer list backbones`)")

    # Whether the task trains all layers, and not only those up to `Backbone.default_layer`.
    trains_last_layer: ClassVar[bool] = False

    @field_validator("backbone")
    @classmethod
    def _check_dense_layers(cls, spec: Backbone) -> Backbone:
        trained = spec if cls.trains_last_layer else spec.without_dense_layers()
        if trained != spec and "fc" in spec.model_fields_set:
            raise ValueError(
                f"`fc: true`: the task trains {spec.name} up to {spec.default_layer()}, so fc6 and "
                "fc7 would stay random; leave `fc` out"
            )
        return spec

    def backbone_spec(self) -> Backbone:
        return self.trained_backbone().for_transfer()

    def trained_backbone(self) -> Backbone:
        """Return the network that is trained: without layers that the task would leave random."""
        return self.backbone if self.trains_last_layer else self.backbone.without_dense_layers()

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return what is trained; its entry `backbone` becomes the artifact.

        Args:
            backbone: the network of the option `backbone`.
            dataset: facts about the images.
        """
        raise NotImplementedError

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, and its figures by name.

        A figure named `accuracy` is compared with `chance`.

        Args:
            network: what `network` returned.
            images: uint8 (B, 3, H, W).
            rng: random numbers; its `ids` are the rows of the images in the set.
        """
        raise NotImplementedError

    def begin(self, network: nn.ModuleDict, context: StageContext) -> None:
        """Fill buffers that depend on the images or inputs, once before training."""

    def before_epoch(
        self, network: nn.ModuleDict, context: StageContext, epoch: int
    ) -> list[nn.Module]:
        """Prepare an epoch, as by clustering. Return the parts that were initialized again.

        Args:
            network: what `network` returned.
            context: inputs, images and seeds.
            epoch: counted from 0.
        """
        return []

    def order(self, network: nn.ModuleDict, context: StageContext, epoch: int) -> numpy.ndarray:
        """Return the ordered rows to train on in an epoch, always equally many.

        Args:
            network: what `network` returned.
            context: inputs, images and seeds.
            epoch: counted from 0.
        """
        return shuffled_rows(context, epoch, len(context.images["images"]))

    def after_step(self, network: nn.ModuleDict, share: float) -> None:
        """Update the network after a step, without gradients, such as a moving average.

        Args:
            network: what `network` returned.
            share: share of the training that is done.
        """

    def validate_build(self, planned: PlannedStage[Any]) -> None:
        """Raise ValueError if the network does not fit the images; computes nothing."""
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
            cast("Network", network["backbone"]),
            size=images.size,
            normalization=self.normalization,
            made_by=made_by,
            history=history,
        )

    def dataset_info(self, context: StageContext) -> DatasetInfo:
        """Return the facts about the images that `network` uses in a run."""
        images = context.images["images"]
        return DatasetInfo(images.size, len(images), len(images.classes))

    def _build(self, dataset: DatasetInfo, seed: int) -> nn.ModuleDict:
        backbone = build_network(self.trained_backbone(), seed)
        backbone.shapes(dataset.size)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network = self.network(backbone, dataset)
        if not isinstance(network, torch.nn.ModuleDict) or not _has_backbone(network):
            problem = "must return a ModuleDict whose entry `backbone` is its argument"
            raise ValueError(f"{type(self).__name__}.network {problem}")
        return network

    def _checked_loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the value of `loss`; TransferError if it is invalid."""
        value = self.loss(network, images, rng)
        if problem := _loss_problem(value):
            raise TransferError(
                f"{type(self).__name__}.loss must return the loss, a scalar tensor with gradients, "
                f"and a dict of figures, which are scalars too; it returned {problem}"
            )
        return value


def _has_backbone(network: nn.ModuleDict) -> bool:
    from transfer.models.network import Network  # imports torch

    return "backbone" in network and isinstance(network["backbone"], Network)


def _loss_problem(value: object) -> str:
    """Describe what is invalid in the value of `loss`; empty if nothing is."""
    if not isinstance(value, tuple):
        return f"one {type(value).__name__}"
    if len(value) != 2:
        return f"{len(value)} values"
    loss, figures = value
    if not torch.is_tensor(loss):
        return f"a {type(loss).__name__} as loss"
    if loss.ndim:
        return f"a loss of shape {tuple(loss.shape)}"
    if not loss.requires_grad:
        return "a loss without gradients"
    if not isinstance(figures, dict):
        return f"a {type(figures).__name__} as figures"
    bad = [name for name, figure in figures.items() if not torch.is_tensor(figure) or figure.ndim]
    return f"'{bad[0]}', which is not a scalar tensor" if bad else ""


def backbone_features(backbone: nn.Module, images: Tensor) -> Tensor:
    """Return (B, D): the input of a head, the backbone's deepest convolutional layer, flattened."""
    network = cast("Network", backbone)  # a ModuleDict gives its parts the type nn.Module
    layer = network.spec.default_layer()
    if layer == network.layer_names[-1]:
        return network(images).flatten(1)
    return network.layers(images, [layer])[layer].flatten(1)


def backbone_feature_dim(backbone: Network, size: int) -> int:
    """Return D of `backbone_features` for images of `size` px; ValueError if they are too small."""
    return backbone.width(size, backbone.spec.default_layer())
