"""The target learns which anchor images are similar to an image, according to the teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from stages.target._projection_heads import (
    check_batch_parts,
    check_images_with_features,
    linear_or_mlp,
)
from stages.target._teacher import CachedTeacher, check_live, rows_with_features, teachers
from transfer.artifacts import Features, Model
from transfer.errors import InvalidOption, TransferError
from transfer.stage.feature_space import check_each_once, planned_count
from transfer.stage.image_input import ImageInput
from transfer.stage.options import OneOrMoreStages, inputs_named, option, stage_input
from transfer.training.target_task import Target
from transfer.transforms.normalize import Normalization
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from stages.target._similarity_head import SimilarityHead
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


class VariantDefaults(NamedTuple):
    """The settings of a variant's paper."""

    target_temperature: float
    teacher_temperature: float
    anchors: int


VARIANTS = {
    "compress": VariantDefaults(0.04, 0.04, 128_000),
    "seed": VariantDefaults(0.2, 1e-4, 65_536),
}


class Similarity(Target):
    """Learn the teacher's softmax over the cosines to anchors, the images seen last.

    The loss is the cross-entropy with the target's own softmax over the same anchors.

    `compress` (Abbasi Koohpayegani et al., NeurIPS 2020): with one queue the anchors are the
    teacher's features, and the target's head maps to their width. With two queues, the target has
    anchors of its own: its features of the same images. The paper takes these from a slow copy of
    the target (`ema: 0.999`). That costs one more forward pass a step, and was no better here
    (docs/strategies.md).

    `seed` (Fang et al., ICLR 2021): one queue, and the image's own feature is an anchor too.

    Several teachers have a head and queues each. Only the loss is that of the papers; the recipe is
    that of every target. Cross-entropy differs from the published KL divergence only by a term that
    does not depend on the target. An image is no anchor of its own.
    """

    version: ClassVar[int] = 2  # 2: the slow copy has no dropout
    smoke: ClassVar[dict[str, Any]] = {"epochs": 1, "anchors": 32}
    images = {"images": ImageInput("unlabeled", same_as="features")}

    features: OneOrMoreStages = stage_input(
        Features, "the teacher's features; of several teachers: [a, b]"
    )
    live: str | None = stage_input(
        Model,
        "the teacher, to run it on every crop; none: its saved features are used",
        optional=True,
    )
    variant: Literal["compress", "seed"] = option("compress", "the paper whose loss is used")
    queues: Literal[1, 2] = option(
        1, "1: the teacher's anchors for both; 2: the target has anchors of its own"
    )
    anchors: int | None = option(
        None,
        "images in a queue; none: the variant's number (128,000; 65,536), at most half of the set",
        ge=2,
    )
    temperature: float | None = option(
        None, "temperature of the target's softmax; none: the variant's (0.04; 0.2)", gt=0
    )
    teacher_temperature: float | None = option(
        None, "temperature of the teacher's softmax; none: the variant's (0.04; 0.0001)", gt=0
    )
    head: Literal["linear", "mlp", "identity"] = option(
        "linear",
        "maps to the teacher's width; identity: compare the target's last layer, with two queues",
    )
    hidden_dim: int = option(
        1024, "width of the MLP's hidden layer", applies_when={"head": ["mlp"]}, ge=1
    )
    ema: float = option(
        0.0,
        "momentum of a slow copy that fills the second queue (the paper: 0.999); 0: the target",
        applies_when={"queues": [2]},
        ge=0,
        lt=1,
    )

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption if queues exceed the set, or widths cannot be compared."""
        features = inputs_named(planned.inputs, "features")
        check_each_once("features", features)
        check_live(features, planned.inputs.get("live"))
        if self.variant == "seed" and self.queues == 2:
            raise InvalidOption(
                "queues", "`variant: seed` has one queue, of the teacher's features"
            )
        if self.head == "identity" and self.queues == 1:
            raise InvalidOption(
                "head",
                "with one queue the target is compared with the teacher's anchors; set `head` to "
                "linear or mlp",
            )
        count = planned_count(features[0])
        if count is not None and (self.anchors or 0) > count:
            raise InvalidOption(
                "anchors", f"{self.anchors:,} anchors of {count:,} images: at most {count:,}"
            )
        check_batch_parts(self, planned)

    def run(self, context: StageContext) -> None:
        features = inputs_named(context.inputs, "features")
        all_teachers = teachers(context, features, context.inputs.get("live"))
        rows = rows_with_features(all_teachers, context)
        check_images_with_features(self, len(rows))
        if (self.anchors or 0) > len(rows):
            raise TransferError(
                f"{self.anchors:,} anchors of {len(rows):,} images with features; lower `anchors`"
            )
        defaults = VARIANTS[self.variant]
        anchors = self.anchors or max(2, min(defaults.anchors, len(rows) // 2))

        def make_head(backbone: nn.Module, width: int) -> SimilarityHead:
            return self._make_head(backbone, width, all_teachers, anchors)

        def loss(
            head: nn.Module, features: Tensor, crops: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            return self._loss(_checked(head), all_teachers, features, crops, rng), {}

        def after_step(network: nn.ModuleDict) -> None:
            _checked(network["head"]).after_step(network["backbone"], self.ema)

        self.learn(context, make_head, loss, rows, after_step=after_step)
        context.figures["anchors"] = anchors

    def _make_head(
        self, backbone: nn.Module, width: int, all_teachers: list[CachedTeacher], anchors: int
    ) -> SimilarityHead:
        from stages.target._memory_queue import MemoryQueue  # imports torch
        from stages.target._similarity_head import SimilarityHead  # imports torch

        heads: list[nn.Module] = []
        queues: list[MemoryQueue] = []
        for teacher in all_teachers:
            if self.head == "identity":
                heads.append(nn.Identity())
                own_width = width
            else:
                heads.append(linear_or_mlp(self.head, width, self.hidden_dim, teacher.width))
                own_width = teacher.width
            own = own_width if self.queues == 2 else None
            queues.append(MemoryQueue(anchors, len(teacher.rows), teacher.width, own))
        return SimilarityHead(backbone, heads, queues, self.queues == 2 and self.ema > 0)

    def _loss(
        self,
        head: SimilarityHead,
        all_teachers: list[CachedTeacher],
        features: Tensor,
        crops: Tensor,
        rng: PerImageRng,
    ) -> Tensor:
        """The mean over teachers of the cross-entropy; holds the batch back for their queues."""
        defaults = VARIANTS[self.variant]
        target_temperature = self.temperature or defaults.target_temperature
        teacher_temperature = self.teacher_temperature or defaults.teacher_temperature
        slow_features = head.slow_features(crops, Normalization())
        losses = []
        for number, teacher in enumerate(all_teachers):
            target = F.normalize(head.heads[number](features).float(), dim=1)
            expected = F.normalize(teacher(crops, rng), dim=1)
            queue = head.queue(number)
            # Small temperatures magnify cosines beyond the digits of half precision.
            with torch.autocast(target.device.type, enabled=False):
                target_logits, teacher_logits = queue.logits(
                    rng.ids,
                    target,
                    expected,
                    target_temperature,
                    teacher_temperature,
                    self.variant == "seed",
                )
                losses.append(F.cross_entropy(target_logits, teacher_logits.softmax(1)))
            with torch.no_grad():
                own = slow_features[number] if slow_features else target
                own = F.normalize(own, dim=1) if self.queues == 2 else None
                queue.enqueue(rng.ids, expected, own)
        return torch.stack(losses).mean()


def _checked(head: nn.Module) -> SimilarityHead:
    """The head, which `_make_head` made."""
    from stages.target._similarity_head import SimilarityHead

    assert isinstance(head, SimilarityHead)
    return head
