"""The target predicts the teacher's features, through a head that is discarded afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from stages.target._projection_heads import (
    check_batch_parts,
    check_images_with_features,
    linear_or_mlp,
)
from stages.target._teacher import check_live, rows_with_features, teachers
from transfer.artifacts import Features, Model
from transfer.stage.feature_space import check_each_once
from transfer.stage.image_input import ImageInput
from transfer.stage.options import OneOrMoreStages, inputs_named, option, stage_input
from transfer.training.target_task import Target
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


class Regression(Target):
    """Predict features from the target's last layer (after SimReg: Navaneet et al., BMVC 2021).

    `l2` is the squared error relative to the features' variance, and `cosine` is 1 - cosine.
    Features are used as they are; a `prepare` stage before (l2, standardize, whiten) weights them.
    Several teachers have a head each, and their losses are averaged. SimReg's own head is deeper
    (`depth: 3`), and its teacher sees the same crops (`live`).
    """

    images = {"images": ImageInput("unlabeled", same_as="features")}

    features: OneOrMoreStages = stage_input(
        Features, "the teacher's features to predict; of several teachers: [a, b]"
    )
    live: str | None = stage_input(
        Model,
        "the teacher, to run it on every crop; none: its saved features are used",
        optional=True,
    )
    head: Literal["linear", "mlp"] = option("mlp", "the layers between the target and the features")
    hidden_dim: int = option(
        1024, "width of the MLP's hidden layers", applies_when={"head": ["mlp"]}, ge=1
    )
    depth: int = option(1, "hidden layers of the MLP", applies_when={"head": ["mlp"]}, ge=1)
    loss: Literal["l2", "cosine"] = option("cosine", "distance between prediction and features")

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption for repeated features, another teacher or too small a batch."""
        features = inputs_named(planned.inputs, "features")
        check_each_once("features", features)
        check_live(features, planned.inputs.get("live"))
        check_batch_parts(self, planned)

    def run(self, context: StageContext) -> None:
        features = inputs_named(context.inputs, "features")
        all_teachers = teachers(context, features, context.inputs.get("live"))
        rows = rows_with_features(all_teachers, context)
        check_images_with_features(self, len(rows))
        figure = "cosine" if self.loss == "cosine" else "variance explained"

        def loss(
            heads: nn.Module, features: Tensor, crops: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            assert isinstance(heads, nn.ModuleList)
            similarities = []
            for head, teacher in zip(heads, all_teachers, strict=True):
                predicted, expected = head(features).float(), teacher(crops, rng)
                if self.loss == "cosine":
                    similarities.append(F.cosine_similarity(predicted, expected).mean())
                else:
                    similarities.append(1 - F.mse_loss(predicted, expected) / teacher.variance)
            mean = torch.stack(similarities).mean()
            return 1 - mean, {figure: mean}

        def make_heads(backbone: nn.Module, width: int) -> nn.Module:
            return nn.ModuleList(
                linear_or_mlp(self.head, width, self.hidden_dim, teacher.width, self.depth)
                for teacher in all_teachers
            )

        self.learn(context, make_heads, loss, rows)
