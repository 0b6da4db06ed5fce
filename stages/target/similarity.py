"""The target learns which of many anchor images the deep network finds an image similar to."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from stages.target._projection_heads import check_known, check_parts, linear_or_mlp
from stages.target._teacher import CachedTeacher, check_live, rows_with_features, teachers
from transfer.artifacts import Features, Model
from transfer.errors import InvalidOption, TransferError
from transfer.stage.base import ImageInput
from transfer.stage.feature_space import check_each_once, planned_count
from transfer.stage.options import OneOrMoreStages, inputs_named, option, stage_input
from transfer.training.target_task import Target
from transfer.transforms.normalize import Normalization, normalize
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


class VariantDefaults(NamedTuple):
    """What a variant's paper has: the target's temperature, the teacher's, and the length of the queue."""

    own: float
    theirs: float
    anchors: int


VARIANTS = {
    "compress": VariantDefaults(0.04, 0.04, 128_000),
    "seed": VariantDefaults(0.2, 1e-4, 65_536),
}


class Similarity(Target):
    """Cross-entropy between the teacher's and the target's softmax over the cosines to anchors, the images seen last.

    `compress` (Abbasi Koohpayegani et al., NeurIPS 2020): with one queue the anchors are the teacher's features, to
    which the target's head leads; with two the target has its own of the same images. The paper has these from a slow
    copy of the target (`ema: 0.999`): one forward pass more a step, and no better here (docs/strategies.md).
    `seed` (Fang et al., ICLR 2021): one queue, and the image's own feature is an anchor too. Several teachers have a
    head and queues each. Only the loss is theirs, the recipe is that of every target. (Cross-entropy is the published
    KL divergence but for what the target cannot change; an image is no anchor of its own.)
    """

    smoke: ClassVar[dict[str, Any]] = {"epochs": 1, "anchors": 32}
    images = {"images": ImageInput("unlabeled", same_as="features")}

    features: OneOrMoreStages = stage_input(Features, "the teacher's; of several teachers: [a, b]")
    live: str | None = stage_input(
        Model, "the teacher, to ask it about every crop; none: kept features count", optional=True
    )
    variant: Literal["compress", "seed"] = option("compress", "whose loss")
    queues: Literal[1, 2] = option(
        1, "1: the teacher's anchors for both; 2: the target has anchors of its own"
    )
    anchors: int | None = option(
        None,
        "images in a queue; none: the variant's number (128,000; 65,536), at most half of the set",
        ge=2,
    )
    temperature: float | None = option(
        None, "of the target's softmax; none: the variant's (0.04; 0.2)", gt=0
    )
    teacher_temperature: float | None = option(
        None, "of the teacher's softmax; none: the variant's (0.04; 0.0001)", gt=0
    )
    head: Literal["linear", "mlp", "identity"] = option(
        "linear",
        "leads to the teacher's width; identity: the target's own last layer is compared, with two queues",
    )
    hidden_dim: int = option(
        1024, "width of the MLP's hidden layer", applies_when={"head": ["mlp"]}, ge=1
    )
    ema: float = option(
        0.0,
        "of a slow copy that fills the second queue (the paper: 0.999); 0: the target does",
        applies_when={"queues": [2]},
        ge=0,
        lt=1,
    )

    def validate_plan(self, planned: PlannedStage) -> None:
        """Queues fit the set, and what is compared has one width."""
        features = inputs_named(planned.inputs, "features")
        check_each_once("features", features)
        check_live(features, planned.inputs.get("live"))
        if self.variant == "seed" and self.queues == 2:
            raise InvalidOption("queues", "SEED has one queue, of the teacher's features")
        if self.head == "identity" and self.queues == 1:
            raise InvalidOption(
                "head",
                "with one queue the target is compared with the teacher's anchors: linear or mlp",
            )
        count = planned_count(features[0])
        if count is not None and (self.anchors or 0) > count:
            raise InvalidOption(
                "anchors", f"{self.anchors:,} anchors of {count:,} images: at most {count:,}"
            )
        check_parts(self, planned)

    def run(self, context: StageContext) -> None:
        every = teachers(
            context, inputs_named(context.inputs, "features"), context.inputs.get("live")
        )
        known = rows_with_features(every, context)
        check_known(self, len(known))
        if (self.anchors or 0) > len(known):
            raise TransferError(
                f"{self.anchors:,} anchors of {len(known):,} images with features: set `anchors` lower"
            )
        published = VARIANTS[self.variant]
        anchors = self.anchors or max(2, min(published.anchors, len(known) // 2))
        own, theirs = (
            self.temperature or published.own,
            self.teacher_temperature or published.theirs,
        )
        two, slow = self.queues == 2, self.queues == 2 and self.ema > 0
        normalization = Normalization()

        def asked(
            head: nn.Module, found: Tensor, crops: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            if slow:
                with torch.no_grad():
                    steady = head["slow"]["backbone"](normalize(crops, normalization)).flatten(1)
            losses = []
            for place, teacher in enumerate(every):
                said, wanted = head["heads"][place](found).float(), teacher(crops, rng)
                said, wanted = F.normalize(said, dim=1), F.normalize(wanted, dim=1)
                queue = head["queues"][place]
                with torch.autocast(
                    said.device.type, enabled=False
                ):  # cosines are divided by small temperatures
                    ours, wished = queue.logits(
                        rng.ids, said, wanted, own, theirs, self.variant == "seed"
                    )
                    losses.append(F.cross_entropy(ours, wished.softmax(1)))
                with torch.no_grad():
                    kept = head["slow"]["heads"][place](steady).float() if slow else said
                    queue.enqueue(rng.ids, wanted, F.normalize(kept, dim=1) if two else None)
            return torch.stack(losses).mean(), {}

        def after_step(network: nn.ModuleDict) -> None:
            for queue in network["head"]["queues"]:
                queue.flush()
            if slow:
                fast = nn.ModuleDict(
                    {"backbone": network["backbone"], "heads": network["head"]["heads"]}
                )
                update_ema(network["head"]["slow"], fast, self.ema)

        def head(backbone: nn.Module, width: int) -> nn.ModuleDict:
            return self._head(backbone, width, every, anchors, slow)

        self.learn(context, head, asked, known, after_step=after_step)
        context.figures["anchors"] = anchors

    def _head(
        self, backbone: nn.Module, width: int, every: list[CachedTeacher], anchors: int, slow: bool
    ) -> nn.ModuleDict:
        from stages.target._memory_queue import MemoryQueue  # imports torch

        heads, queues = nn.ModuleList(), nn.ModuleList()
        for one in every:
            same = self.head == "identity"
            heads.append(
                nn.Identity()
                if same
                else linear_or_mlp(self.head, width, self.hidden_dim, one.width)
            )
            own = None if self.queues == 1 else width if same else one.width
            queues.append(MemoryQueue(anchors, len(one.rows), one.width, own))
        whole = {"heads": heads, "queues": queues}
        if slow:
            copy = deepcopy(nn.ModuleDict({"backbone": backbone, "heads": heads}))
            whole["slow"] = copy.requires_grad_(False)
        return nn.ModuleDict(whole)


def update_ema(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Each weight of `slow` moves toward that of `fast`; what batch norms counted is copied."""
    for ours, theirs in zip(slow.parameters(), fast.parameters(), strict=True):
        ours.lerp_(theirs, 1 - momentum)
    for ours, theirs in zip(slow.buffers(), fast.buffers(), strict=True):
        ours.copy_(theirs)
