"""The target learns to say what the deep network's features are, through a head that is dropped afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stages.target._projection_heads import check_known, check_parts, linear_or_mlp
from stages.target._teacher import check_live, rows_with_features, teachers
from transfer.artifacts import Features, Model
from transfer.stage.base import ImageInput
from transfer.stage.feature_space import check_each_once
from transfer.stage.options import OneOrMoreStages, inputs_named, option, stage_input
from transfer.training.target_task import Target
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


class Regression(Target):
    """Features are predicted from the target's last layer (after SimReg: Navaneet et al., BMVC 2021).

    `l2`: the squared error, as a share of the features' variance. `cosine`: one less the cosine. Features are taken as
    they are: a `prepare` stage before (l2, standardize, whiten) says what counts. Several features have a head each,
    and the mean of their losses counts. SimReg's own head is deeper (`depth: 3`), and its teacher sees the same crops
    (`live`).
    """

    images = {"images": ImageInput("unlabeled", same_as="features")}

    features: OneOrMoreStages = stage_input(
        Features, "what is predicted; of several teachers: [a, b]"
    )
    live: str | None = stage_input(
        Model, "the teacher, to ask it about every crop; none: kept features count", optional=True
    )
    head: Literal["linear", "mlp"] = option(
        "mlp", "what stands between the target and the features"
    )
    hidden_dim: int = option(
        1024, "width of the MLP's hidden layers", applies_when={"head": ["mlp"]}, ge=1
    )
    depth: int = option(1, "hidden layers of the MLP", applies_when={"head": ["mlp"]}, ge=1)
    loss: Literal["l2", "cosine"] = option("cosine", "of how far the prediction is off")

    def validate_plan(self, planned: PlannedStage) -> None:
        """Each of the features is another one, and the teacher is theirs."""
        features = inputs_named(planned.inputs, "features")
        check_each_once("features", features)
        check_live(features, planned.inputs.get("live"))
        check_parts(self, planned)

    def run(self, context: StageContext) -> None:
        every = teachers(
            context, inputs_named(context.inputs, "features"), context.inputs.get("live")
        )
        known = rows_with_features(every, context)
        check_known(self, len(known))
        name = "cosine" if self.loss == "cosine" else "variance explained"

        def asked(
            heads: nn.Module, found: Tensor, crops: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            near = []
            for head, teacher in zip(heads, every, strict=True):
                said, wanted = head(found).float(), teacher(crops, rng)
                if self.loss == "cosine":
                    near.append(F.cosine_similarity(said, wanted).mean())
                else:
                    near.append(1 - F.mse_loss(said, wanted) / teacher.variance)
            mean = torch.stack(near).mean()
            return 1 - mean, {name: mean}

        def heads(backbone: nn.Module, width: int) -> nn.Module:
            return nn.ModuleList(
                linear_or_mlp(self.head, width, self.hidden_dim, one.width, self.depth)
                for one in every
            )

        self.learn(context, heads, asked, known)
