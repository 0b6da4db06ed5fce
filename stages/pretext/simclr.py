"""SimCLR (Chen, Kornblith, Norouzi & Hinton, ICML 2020): find the other view of the same image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stages.pretext._batch_partners import check_batch
from stages.pretext._multi_view import smallest_part, stack_views
from transfer.stage.image_input import DatasetInfo
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
    """Which of the batch's views shows the same image? Each image has two views.

    Loss: NT-Xent, the cross-entropy of cosine similarities over a temperature, for each view in
    turn. Source: the paper's ImageNet recipe at a batch of 256 (LARS, 0.3 for each 256 images); for
    small images the paper has a temperature of 0.5 and no blur. The negatives are the other images
    that go through the network together, so `accumulation_steps` reduces their number. The batch
    norms see both views at once, as in the released code.
    Traps: similarities are computed in float32 at any precision, because at a temperature of 0.1
    bfloat16 rounds logits by 0.04. A view is never its own candidate. Without the color changes a
    histogram would give the answer away.
    """

    paper = "Chen, Kornblith, Norouzi & Hinton, ICML 2020"

    temperature: float = option(0.1, "temperature that similarities are divided by", gt=0)
    hidden_dim: int = option(2048, "units of the projector's hidden layer", ge=1)
    projection_dim: int = option(128, "values of a projection", ge=1)
    crop: float = option(0.08, "smallest share of an image's area that a view shows", gt=0, le=1)
    strength: float = option(1.0, "strength of the color changes, the paper's s", ge=0, le=1)
    blur: float = option(0.5, "share of views that are blurred", ge=0, le=1)

    defaults: ClassVar[dict[str, Any]] = {
        "epochs": 200,
        "optimizer": "lars",
        "weight_decay": 1e-6,
        "warmup_epochs": 10.0,
    }
    learning_rate: float = option(
        0.3, "peak learning rate; the paper: 0.3 for each 256 images of a batch", gt=0
    )

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise for a batch without negatives."""
        check_batch(self, planned, "the negatives of a view are the views of other images")

    def chance(self, dataset: DatasetInfo) -> float:
        return 1 / max(1, 2 * smallest_part(self, dataset.count) - 1)

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return the backbone and the projector, which is discarded after the training.

        Layers before a batch norm have no bias, because the norm would cancel it.
        """
        projector = nn.Sequential(
            nn.Linear(backbone_feature_dim(backbone, dataset.size), self.hidden_dim, bias=False),
            nn.BatchNorm1d(self.hidden_dim),
            nn.ReLU(),
            nn.Linear(self.hidden_dim, self.projection_dim, bias=False),
            nn.BatchNorm1d(self.projection_dim),
        )
        return nn.ModuleDict({"backbone": backbone, "projector": projector})

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        views = normalize(self.views(images, rng), self.normalization)
        projected = network["projector"](backbone_features(network["backbone"], views))
        return nt_xent(projected, self.temperature)

    def views(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """Return (2B, 3, S, S) float: all first views, then all second views."""
        make = SimCLRViews(
            images.shape[-1], scale=(self.crop, 1.0), strength=self.strength, blur=self.blur
        )
        return stack_views(make, images, rng, 2)

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """The image and its two views."""
        first, second = self.views(images, rng).chunk(2)
        return {"image": images, "view 1": first, "view 2": second}


def nt_xent(projected: Tensor, temperature: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of projections (2B, D), and the accuracy of the nearest candidate.

    Rows i and B + i are of the same image.
    """
    with torch.autocast(projected.device.type, enabled=False):
        unit = F.normalize(projected.float(), dim=1)
        logits = unit @ unit.T / temperature
    diagonal = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(diagonal, float("-inf"))
    partner = torch.arange(len(logits), device=logits.device).roll(len(logits) // 2)
    return F.cross_entropy(logits, partner), {
        "accuracy": (logits.argmax(1) == partner).float().mean()
    }
