"""SimCLR (Chen, Kornblith, Norouzi & Hinton, ICML 2020): which of the batch's views is of the same image?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stages.pretext._batch_partners import check_batch
from stages.pretext._multi_view import check_views, smallest_part
from transfer.stage.base import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.transforms.normalize import normalize
from transfer.transforms.simclr_views import SimCLRViews
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.transforms.per_image_rng import PerImageRng


class SimCLR(Pretext):
    """Two views of each image; each view is to find the other one among all other views of the batch.

    Loss: NT-Xent, the cross-entropy of cosine similarities over a temperature, each view being asked in turn.
    Source: the paper's ImageNet recipe at a batch of 256 (LARS, 0.3 for each 256 images); for small images it has
    a temperature of 0.5 and no blur. The negatives are the other images that go through the network together, so
    `accumulate` takes negatives away. The batch norms see both views at once, as in the released code.
    Traps: similarities are taken in float32 whatever the precision, for at a temperature of 0.1 bfloat16 rounds
    logits by 0.04; a view is never its own candidate; without the color changes a histogram would tell the answer.
    """

    paper = "Chen, Kornblith, Norouzi & Hinton, ICML 2020"

    temperature: float = option(0.1, "what similarities are divided by", gt=0)
    hidden_dim: int = option(2048, "values of the projector's hidden layer", ge=1)
    projection_dim: int = option(128, "values that are compared", ge=1)
    crop: float = option(0.08, "smallest share of an image's area that a view shows", gt=0, le=1)
    strength: float = option(1.0, "of the changes of color; the paper's s", ge=0, le=1)
    blur: float = option(0.5, "share of views blurred", ge=0, le=1)

    epochs: int = option(200, "passes over the images", ge=0)
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = option("lars", "SGD has Nesterov momentum")
    learning_rate: float = option(
        0.3, "the highest it gets; the paper: 0.3 for each 256 images of a batch", gt=0
    )
    weight_decay: float = option(1e-6, "on weights; biases and norms have none", ge=0)
    warmup_epochs: float = option(10.0, "epochs over which the rate rises from zero", ge=0)

    def validate_plan(self, planned: PlannedStage) -> None:
        """A batch has negatives."""
        check_batch(self, planned, "a view is told from those of other images")

    def chance(self, about: DatasetInfo) -> float:
        return 1 / max(1, 2 * smallest_part(self, about.count) - 1)

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        """The backbone, and the projector that is thrown away; no biases before norms, which would cancel them."""
        projector = nn.Sequential(
            nn.Linear(backbone_feature_dim(backbone, about.size), self.hidden_dim, bias=False),
            nn.BatchNorm1d(self.hidden_dim),
            nn.ReLU(),
            nn.Linear(self.hidden_dim, self.projection_dim, bias=False),
            nn.BatchNorm1d(self.projection_dim),
        )
        return nn.ModuleDict({"backbone": backbone, "projector": projector})

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        seen = normalize(self.views(images, rng), self.normalization)
        return nt_xent(
            network["projector"](backbone_features(network["backbone"], seen)), self.temperature
        )

    def views(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """(2B, 3, S, S) float: first views, then second views."""
        make = SimCLRViews(
            images.shape[-1], scale=(self.crop, 1.0), strength=self.strength, blur=self.blur
        )
        return check_views(make, images, rng, 2)

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the image and its two views."""
        first, second = self.views(images, rng).chunk(2)
        return {"image": images, "view 1": first, "view 2": second}


def nt_xent(projected: Tensor, temperature: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of projections (2B, D), where rows i and B + i are of the same image, and how often it is found."""
    with torch.autocast(projected.device.type, enabled=False):
        unit = F.normalize(projected.float(), dim=1)
        logits = unit @ unit.T / temperature
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(itself, float("-inf"))
    partner = torch.arange(len(logits), device=logits.device).roll(len(logits) // 2)
    return F.cross_entropy(logits, partner), {
        "accuracy": (logits.argmax(1) == partner).float().mean()
    }
