"""Pretext: what a pretext task is: options, `network` (what is trained) and `loss` (what is asked of it)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from transfer.artifacts import Model, Normalisation
from transfer.lazy import torch
from transfer.stage import BackboneOption, Images, option
from transfer.training.loop import train
from transfer.training.recipe import Trained

if TYPE_CHECKING:
    from torch import Tensor, nn

    from transfer.images.draw import Draw
    from transfer.networks.network import Network
    from transfer.plan import Planned
    from transfer.work import Work


class Pretext(Trained):
    """Base of the pretext tasks. A task writes `network` and `loss`; the rest is the same for all of them."""

    produces = Model
    images = {"images": Images("unlabeled")}
    normalisation: ClassVar[Normalisation] = Normalisation()

    backbone: BackboneOption = option("vgg16", "the deep network (see `transfer list backbones`)")

    def network(self, backbone: Network, size: int) -> nn.ModuleDict:
        """All that is trained on images of `size` px; the entry `backbone` is what is kept afterwards."""
        raise NotImplementedError

    def loss(self, network: nn.ModuleDict, images: Tensor, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and the figures of uint8 `images` (B, 3, H, W); an `accuracy` is compared with `chance`."""
        raise NotImplementedError

    def chance(self) -> float | None:
        """The accuracy of guessing, or None for a task without an accuracy."""
        return None

    def rehearse(self, planned: Planned) -> None:
        """The networks fit the images: found out without computing anything."""
        self._build(planned.images["images"].stage.size, seed=0)

    def run(self, work: Work) -> None:
        images = work.images["images"]
        network = self._build(images.size, work.seed_for("weights"))
        history = train(
            work,
            self,
            network,
            lambda net, batch, ids, draw: self.loss(net, batch, draw),
            images.pixels,
            chance=self.chance(),
        )
        made_by = {"stage": type(self).__name__, "options": self.identity()}
        Model.write(
            work.folder,
            network["backbone"],
            size=images.size,
            normalisation=self.normalisation,
            made_by=made_by,
            history=history,
        )

    def _build(self, size: int, seed: int) -> nn.ModuleDict:
        backbone = self.backbone.build(seed)
        backbone.shapes(size)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.network(backbone, size)


def read(backbone: Network, images: Tensor) -> Tensor:
    """(B, D): what a head stands on, the backbone's deepest convolutional layer, flattened."""
    layer = backbone.spec.default_layer()
    deepest = backbone(images) if layer == backbone.layer_names[-1] else backbone.layers(images, [layer])[layer]
    return deepest.flatten(1)


def read_width(backbone: Network, size: int) -> int:
    """D of `read` for images of `size` px; ValueError where they are too small for the network."""
    width = 1
    for side in backbone.shapes(size)[backbone.spec.default_layer()]:
        width *= side
    return width
