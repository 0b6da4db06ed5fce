"""BYOL (Grill et al., NeurIPS 2020): predict the output of a slower copy for another view."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from stages.pretext._batch_partners import check_batch
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

# deepmind-research, byol/configs/byol.py: _LR_PRESETS, _WD_PRESETS and _EMA_PRESETS.
PRESETS: dict[str, dict[str, float]] = {
    "epochs100": {"epochs": 100, "learning_rate": 0.45, "weight_decay": 1e-6, "tau": 0.99},
    "epochs300": {"epochs": 300, "learning_rate": 0.3, "weight_decay": 1e-6, "tau": 0.99},
    "epochs1000": {"epochs": 1000, "learning_rate": 0.2, "weight_decay": 1.5e-6, "tau": 0.996},
}


class BYOL(Pretext):
    """From one view, the online network predicts the target network's projection of another view.

    Loss: the squared distance of the two at unit length, 2 - 2 cos, summed over both directions: 0
    to 8. There are no negatives. The target network is a moving average of the online network and
    gets no gradients.
    Source: the released presets for ImageNet (deepmind-research, byol/configs/byol.py), by their
    linear rule at a batch of 256. Length, learning rate, decay and `tau` belong together; `preset`
    sets all four. The release has a batch of 4,096: `batch_size: 4096`, `accumulation_steps: 16`,
    and 16 times the learning rate. Views are sampled bilinearly, not bicubically, and brightness is
    multiplied, where the release adds to it.
    Traps: in training the target normalizes by its batch too, and its running statistics are its
    own, not averaged. Each view has its own batch statistics. Only the online network has a
    predictor. Without it, or with gradients into the target, the outputs collapse, which the figure
    `spread` shows (1: spread out, 0: all alike).
    """

    paper = "Grill et al., NeurIPS 2020"

    preset: Literal["epochs100", "epochs300", "epochs1000"] = option(
        "epochs300", "released values of `epochs`, `learning_rate`, `weight_decay` and `tau`"
    )
    tau: float = option(
        0.99,
        "share of the target that the first step keeps; it rises to 1. Shorter trainings need less",
        ge=0,
        le=1,
    )
    hidden_dim: int = option(4096, "units of the hidden layers of projector and predictor", ge=1)
    projection_dim: int = option(256, "values of a projection", ge=1)
    crop: float = option(0.08, "smallest share of an image's area that a view shows", gt=0, le=1)

    defaults: ClassVar[dict[str, Any]] = {
        **PRESETS["epochs300"],
        "optimizer": "lars",
        "warmup_epochs": 10.0,
    }
    learning_rate: float = option(
        0.3, "peak learning rate; the release: so much for each 256 images of a batch", gt=0
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("preset") not in PRESETS:
            return values
        filled = PRESETS[values["preset"]]
        if values.get("rates") is not None:
            filled = {name: value for name, value in filled.items() if name != "learning_rate"}
        return {**filled, **values}

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise for a batch too small for the batch norms."""
        check_batch(self, planned, "projections are normalized over the batch")

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return backbone, projector and predictor, and `target`, a copy of the first two."""

        def perceptron(inputs: int) -> nn.Sequential:
            # No bias before a norm, which would cancel it.
            return nn.Sequential(
                nn.Linear(inputs, self.hidden_dim, bias=False),
                nn.BatchNorm1d(self.hidden_dim),
                nn.ReLU(),
                nn.Linear(self.hidden_dim, self.projection_dim, bias=False),
            )

        online = {
            "backbone": backbone,
            "projector": perceptron(backbone_feature_dim(backbone, dataset.size)),
        }
        target = nn.ModuleDict(copy.deepcopy(online)).requires_grad_(False)
        return nn.ModuleDict(
            {**online, "predictor": perceptron(self.projection_dim), "target": target}
        )

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        views = [normalize(view, self.normalization) for view in self.views(images, rng)]
        predicted = [network["predictor"](project(network, view)) for view in views]
        target = network["target"]
        assert isinstance(target, nn.ModuleDict)  # as `network` builds it
        with torch.no_grad():
            targets = [project(target, view) for view in reversed(views)]
        losses = [cosine_distance(*pair).mean() for pair in zip(predicted, targets, strict=True)]
        return losses[0] + losses[1], {"spread": feature_spread(targets[0])}

    def after_step(self, network: nn.ModuleDict, share: float) -> None:
        """Move the target's weights toward the online weights; its statistics are its own."""
        online: list[Tensor] = [
            *network["backbone"].parameters(),
            *network["projector"].parameters(),
        ]
        target: list[Tensor] = [*network["target"].parameters()]
        rate = 1 - self.momentum_at(share)
        # Only the private function exists.
        torch._foreach_lerp_(target, online, rate)  # pyright: ignore[reportPrivateImportUsage]

    def momentum_at(self, share: float) -> float:
        """Return the share of the target that a step keeps after `share` of the training.

        A cosine from `tau` to 1.
        """
        return 1 - (1 - self.tau) * (math.cos(math.pi * share) + 1) / 2

    def views(self, images: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor]:
        """Return two views (B, 3, S, S) float of each image.

        The first views are all blurred. A tenth of the second views are, and a fifth solarized.
        """
        size, scale, jitter = images.shape[-1], (self.crop, 1.0), (0.4, 0.4, 0.2, 0.1)
        first = SimCLRViews(size, scale=scale, jitter=jitter, blur=1.0)
        second = SimCLRViews(size, scale=scale, jitter=jitter, blur=0.1, solarize=0.2)
        return first(images, rng), second(images, rng)

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """The image and its two views."""
        first, second = self.views(images, rng)
        return {"image": images, "view 1": first, "view 2": second}


def project(network: nn.ModuleDict, images: Tensor) -> Tensor:
    """Return (B, projection_dim), the projections of the online or of the target network."""
    return network["projector"](backbone_features(network["backbone"], images))


def cosine_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Return (B,): squared distances of rows (B, D) at unit length, in float32."""
    return 2 - 2 * F.cosine_similarity(predicted.float(), target.float(), dim=1)


def feature_spread(rows: Tensor) -> Tensor:
    """Return the standard deviation of rows (B, D) at unit length, times the square root of D.

    1: spread out; 0: collapsed.
    """
    unit = F.normalize(rows.float(), dim=1)
    return unit.std(0, correction=0).mean() * unit.shape[1] ** 0.5
