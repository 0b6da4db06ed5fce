"""Exemplar networks (Dosovitskiy, Springenberg, Riedmiller & Brox, NeurIPS 2014).

Every image is a class of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stages.pretext._batch_partners import check_batch
from stages.pretext._exemplar_transforms import color_directions, move, recolor
from stages.pretext._multi_view import smallest_part, stack_views
from transfer.artifacts import PseudoLabels
from transfer.datasets.packed.batch_loader import Batches
from transfer.errors import InvalidOption
from transfer.stage.image_input import DatasetInfo, ImageInput
from transfer.stage.label_joining import labels_for_images
from transfer.stage.options import option, stage_input
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.training.trainer import epoch_order
from transfer.transforms.color import random_grayscale
from transfer.transforms.normalize import normalize
from transfer.transforms.simclr_views import SimCLRViews
from transfer.utils.lazy_imports import F, nn, np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.artifacts import Images
    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng

LARGEST_HEAD = 1 << 30  # weights: more are 4 GB, and 12 GB with gradients and momenta
COLOR_SAMPLE = 4096  # images whose pixels give the principal directions of the colors
# Brightness, contrast, saturation and hue of Inception, as in TensorFlow's models.
JITTER = (32 / 255, 0.5, 0.5, 0.2)


class Exemplar(Pretext):
    """Which image is it, moved, scaled, rotated and recolored? Every image is a surrogate class.

    Objective `classes`: cross-entropy over all images, by a last layer that grows with their
    number; the paper had 8,000 to 32,000. `triplet`: the large-scale variant (Doersch & Zisserman,
    ICCV 2017; Kolesnikov et al., CVPR 2019): copies of an image must be nearer than those of other
    images, with semi-hard negatives. With `labels`, images were clustered first, and a cluster is
    the class.
    Sources: the paper for the transformations, with two differences: the whole image is the seed,
    not a patch with edges, and the area beyond its border is its mirror image. For `triplet` the
    code of Kolesnikov et al., which has batches of 64 for 35 epochs. The epochs are ours: the paper
    made 150 copies of each image, and an epoch shows `views` of them.
    Traps: each embedding is scaled to unit length by itself; the released code does it over the
    batch. Distances are computed in float32 at any precision.
    """

    paper = "Dosovitskiy, Springenberg, Riedmiller & Brox, NeurIPS 2014"
    images = {"images": ImageInput("unlabeled", same_as="labels")}

    labels: str | None = stage_input(
        PseudoLabels, "clusters that are the classes; none: each image is a class", optional=True
    )
    objective: Literal["classes", "triplet"] = option(
        "classes", "classification, or distances of embeddings"
    )
    views: int | None = option(
        None, "copies of an image in a batch; none: 1 for classes, 8 for triplet", ge=1
    )
    embedding_dim: int = option(
        1000, "values of an embedding", applies_when={"objective": ["triplet"]}, ge=1
    )
    margin: float = option(
        0.5,
        "margin between the squared distances of negatives and positives",
        applies_when={"objective": ["triplet"]},
        gt=0,
    )
    grayscale: float = option(
        0.66,
        "share of images of which all copies are gray",
        applies_when={"objective": ["triplet"]},
        ge=0,
        le=1,
    )

    defaults: ClassVar[dict[str, Any]] = {"epochs": 150, "batch_size": 128, "learning_rate": 0.01}

    @property
    def copies(self) -> int:
        """Copies of an image in a batch."""
        return self.views or (8 if self.objective == "triplet" else 1)

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise for triplets without a positive or a negative."""
        if self.objective == "triplet":
            check_batch(self, planned, "a triplet needs two images")
            if self.copies == 1 and self.labels is None:
                raise InvalidOption(
                    "views", "a triplet needs two copies of an image: use 2 or more"
                )

    def chance(self, dataset: DatasetInfo) -> float | None:
        if self.objective == "classes":
            return 1 / self.classes(dataset)
        copies = smallest_part(self, dataset.count) * self.copies
        return (self.copies - 1) / (copies - 1) if self.labels is None else None

    def dataset_info(self, context: StageContext) -> DatasetInfo:
        """Return the facts of the images; with `labels`, the classes are the clusters."""
        dataset = super().dataset_info(context)
        if self.labels is None:
            return dataset
        return DatasetInfo(dataset.size, dataset.count, context.inputs["labels"].count)

    def classes(self, dataset: DatasetInfo) -> int:
        """Return the number of images, or of pseudo-labels; 1 where the plan does not know it."""
        return max(1, dataset.count if self.labels is None else dataset.classes)

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return the backbone and a linear head.

        Buffers: `classes`, the class of each image, -1 for none; `mean` and `directions`, the mean
        color and the principal directions of the colors.
        """
        width = backbone_feature_dim(backbone, dataset.size)
        outputs = self.classes(dataset) if self.objective == "classes" else self.embedding_dim
        if outputs * width > LARGEST_HEAD:
            raise ValueError(
                f"{outputs:,} classes of {width:,} features are "
                f"{4e-9 * outputs * width:.0f} GB of weights: use fewer images "
                "(`data: {limit: ...}`), cluster them first (`labels`), or use `objective: triplet`"
            )
        network = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(width, outputs)})
        network.register_buffer("classes", torch.zeros(dataset.count, dtype=torch.int64))
        network.register_buffer("mean", torch.zeros(3))
        network.register_buffer("directions", torch.eye(3))
        return network

    def begin(self, network: nn.ModuleDict, context: StageContext) -> None:
        images = context.images["images"]
        classes = (
            np.arange(len(images))
            if self.labels is None
            else labels_for_images(context.inputs["labels"], images, context)
        )
        network.get_buffer("classes").copy_(torch.from_numpy(classes))
        rows = np.linspace(0, len(images) - 1, min(COLOR_SAMPLE, len(images))).astype(np.int64)
        mean, axes = color_directions(read_images(images, rows, context))
        network.get_buffer("mean").copy_(mean)
        network.get_buffer("directions").copy_(axes)

    def order(self, network: nn.ModuleDict, context: StageContext, epoch: int) -> numpy.ndarray:
        """Return the rows that have a class, shuffled."""
        rows = np.flatnonzero(network.get_buffer("classes").cpu().numpy() >= 0)
        return rows[epoch_order(context.seed_for("order", epoch), len(rows))]

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        mean, axes = network.get_buffer("mean"), network.get_buffer("directions")
        copies = normalize(self.transform(images, rng, mean, axes), self.normalization)
        outputs = network["head"](backbone_features(network["backbone"], copies)).float()
        classes = network.get_buffer("classes")[rng.ids].repeat(self.copies)
        if self.objective == "triplet":
            return semi_hard(outputs, classes, self.margin)
        accuracy = (outputs.argmax(1) == classes).float().mean()
        return F.cross_entropy(outputs, classes), {"accuracy": accuracy}

    def transform(self, images: Tensor, rng: PerImageRng, mean: Tensor, axes: Tensor) -> Tensor:
        """Return (copies * B, 3, S, S) float in [0, 1]: all first copies, then all second copies.

        Args:
            images: (B, 3, S, S) uint8.
            rng: random numbers for each image.
            mean: (3,), the mean color; only `objective: classes` uses it and `axes`.
            axes: (3, 3), the principal directions of the colors as columns.
        """
        if self.objective == "triplet":
            augment = SimCLRViews(
                images.shape[-1], scale=(0.05, 1.0), jitter=JITTER, jitter_p=1.0, gray=0.0, blur=0.0
            )
            grayed = random_grayscale(images, rng, self.grayscale)
            return stack_views(augment, grayed, rng, self.copies)

        def move_and_recolor(copies: Tensor, copy_rng: PerImageRng) -> Tensor:
            return recolor(move(copies, copy_rng), copy_rng, mean, axes)

        return stack_views(move_and_recolor, images, rng, self.copies)

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """The image and four copies of it."""
        stage = self.model_copy(update={"views": 4})
        copies = stage.transform(images, rng, *color_directions(images)).chunk(4)
        return {"image": images, **{f"copy {i + 1}": copy for i, copy in enumerate(copies)}}


def semi_hard(embedded: Tensor, classes: Tensor, margin: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the triplet loss of every anchor with every positive, and its accuracy.

    Schroff, Kalenichenko & Philbin (2015). The negative is the nearest one that is farther
    than the positive, or else the farthest. Distances are squared, of rows at unit length. The
    accuracy is that of an anchor's nearest neighbor.

    Args:
        embedded: (n, D), the embeddings.
        classes: (n,), the class of each row.
        margin: by how much the distance of a negative must exceed that of the positive.
    """
    with torch.autocast(embedded.device.type, enabled=False):
        unit = F.normalize(embedded.float(), dim=1)
        distances = 2 - 2 * unit @ unit.T
    same = classes[:, None] == classes
    diagonal = torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    with torch.no_grad():
        nearest = distances.masked_fill(diagonal, float("inf")).argmin(1, keepdim=True)
        negatives, places = distances.masked_fill(same, float("inf")).sort(dim=1)
        last = (~same).sum(1, keepdim=True) - 1
        # The positives of each anchor, in as many columns as the anchor with the most of them has.
        positives = (same & ~diagonal).to(torch.uint8)
        valid, positives = positives.topk(max(1, int(positives.sum(1).max())), dim=1)
        beyond = torch.searchsorted(negatives, distances.gather(1, positives), right=True)
        chosen = places.gather(1, torch.minimum(beyond, last).clamp(min=0))
        valid = valid.bool() & (last >= 0)
    losses = F.relu(margin + distances.gather(1, positives) - distances.gather(1, chosen))
    accuracy = same.gather(1, nearest).float().mean()
    return (losses * valid).sum() / valid.sum().clamp(min=1), {"accuracy": accuracy}


def read_images(images: Images, rows: numpy.ndarray, context: StageContext) -> Tensor:
    """Return images as uint8 (n, 3, S, S) on the CPU.

    Args:
        images: the packed images.
        rows: (n,) int64, ascending, the rows to read.
        context: the run of the stage, with its device.
    """
    parts = np.array_split(rows, -(-len(rows) // 256))
    with Batches(images, context.runtime, 256) as feed:
        return torch.cat([pixels.cpu() for pixels in feed.each(parts)])
