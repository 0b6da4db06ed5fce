"""RotNet (Gidaris, Singh & Komodakis, ICLR 2018): the rotation of an image by quarter turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stages.pretext._mlp_head import fully_connected
from transfer.stage.image_input import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.transforms.geometry import random_resized_crop
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.transforms.per_image_rng import PerImageRng

TURNS = 4


class Rotation(Pretext):
    """By how many quarter turns is the image rotated: 0, 1, 2 or 3?

    All four copies of an image are in the batch. `batch_size` counts images, so the network gets
    four times as many inputs. Loss: cross-entropy over the four.
    The shortcut that is closed: a copy is rotated by an exchange of rows and columns, so that no
    pixel is resampled and none is missing. The random crop is resampled before, alike in all four.
    Constants: the released code's for ImageNet and AlexNet with batch norm, head included. Its
    `lr: 0.1` is never used: the table of rates, which begins with 0.01, is looked up before every
    epoch (gidariss/FeatureLearningRotNet, config/ImageNet_RotNet_AlexNet.py, algorithms/).
    CIFAR-10: `rates: {0: 0.1, 60: 0.02, 120: 0.004, 160: 0.0008}`, `epochs: 200`,
    `batch_size: 128`.
    """

    paper = "Gidaris, Singh & Komodakis, ICLR 2018"

    crop: float = option(
        0.08, "smallest share of an image's area that a crop keeps; 1: the whole image", gt=0, le=1
    )
    flip: float = option(0.5, "share of images that are mirrored", ge=0, le=1)
    hidden_dim: int = option(
        4096, "units of each of the head's two hidden layers; 0: no hidden layers", ge=0
    )

    defaults: ClassVar[dict[str, Any]] = {
        "epochs": 50,
        "learning_rate": 0.01,
        "weight_decay": 5e-4,
        "schedule": "step",
        "milestones": [0.3, 0.6, 0.9],
    }
    batch_size: int = option(
        192,
        "images per step, each in four copies; an incomplete last batch is left to other epochs",
        ge=2,
    )

    def chance(self, dataset: DatasetInfo) -> float:
        return 1 / TURNS

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return the backbone and the head."""
        head = fully_connected(backbone_feature_dim(backbone, dataset.size), self.hidden_dim, TURNS)
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
        """Return four copies of a random crop: (B, 3, S, S) uint8 -> (4B, 3, S, S) in [0, 1].

        First all images without a turn, then all with one quarter turn, ...
        """
        crops = random_resized_crop(images, rng, images.shape[-1], (self.crop, 1.0), flip=self.flip)
        return torch.cat([torch.rot90(crops, turn, (-2, -1)) for turn in range(TURNS)])

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """The image and its four copies."""
        copies = self.copies(images, rng).chunk(TURNS)
        return {
            "image": images,
            **{f"rotated {90 * turn} degrees": copy for turn, copy in enumerate(copies)},
        }
