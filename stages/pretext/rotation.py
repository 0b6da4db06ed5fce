"""RotNet (Gidaris, Singh & Komodakis, ICLR 2018): which quarter turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stages.pretext._mlp_head import fully_connected
from transfer.stage.base import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.training.recipe import lr_milestones
from transfer.transforms.geometry import random_resized_crop
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.transforms.per_image_rng import PerImageRng

TURNS = 4


class Rotation(Pretext):
    """By how many quarters was the image turned: 0, 1, 2 or 3?

    All four copies of an image are in the batch, which counts images: the network is fed four times `batch`.
    Loss: cross-entropy over the four.
    The shortcut that is closed: a copy is turned by exchanging rows and columns, so that no pixel is computed anew and
    none is missing; what the random crop computes is in all four alike.
    Constants: the released code's for ImageNet and AlexNet with batch norm, head included.
    """

    paper = "Gidaris, Singh & Komodakis, ICLR 2018"

    crop: float = option(
        0.08, "smallest share of an image's area that a crop keeps; 1: the whole image", gt=0, le=1
    )
    flip: float = option(0.5, "share of images mirrored", ge=0, le=1)
    hidden_dim: int = option(
        4096, "values of each of the head's two hidden layers; 0: no such layers", ge=0
    )

    epochs: int = option(50, "passes over the images", ge=0)
    batch_size: int = option(
        192,
        "images a step, each in four copies; the rest of an epoch is left to other epochs",
        ge=2,
    )
    weight_decay: float = option(5e-4, "on weights; biases and norms have none", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option(
        "step", "of the learning rate, after the warm-up"
    )
    milestones: list[float] = lr_milestones([0.3, 0.6, 0.9])

    def chance(self, about: DatasetInfo) -> float:
        return 1 / TURNS

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        head = fully_connected(backbone_feature_dim(backbone, about.size), self.hidden_dim, TURNS)
        return nn.ModuleDict({"backbone": backbone, "head": head})

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        copies = normalize(self.copies(images, rng), self.normalization)
        logits = network["head"](backbone_features(network["backbone"], copies))
        labels = torch.arange(TURNS, device=images.device).repeat_interleave(len(images))
        return F.cross_entropy(logits, labels), {
            "accuracy": (logits.argmax(1) == labels).float().mean()
        }

    def copies(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """(B, 3, S, S) uint8 to (4B, 3, S, S) float in [0, 1]: all images turned by none, then all by one, ..."""
        seen = random_resized_crop(images, rng, images.shape[-1], (self.crop, 1.0), flip=self.flip)
        return torch.cat([torch.rot90(seen, turn, (-2, -1)) for turn in range(TURNS)])

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the image and its four copies."""
        copies = self.copies(images, rng).chunk(TURNS)
        return {
            "image": images,
            **{f"turned {90 * turn} degrees": copy for turn, copy in enumerate(copies)},
        }
