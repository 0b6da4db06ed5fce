"""Exemplar networks (Dosovitskiy, Springenberg, Riedmiller & Brox, NeurIPS 2014): every image is a class of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from stages.pretext._batch_partners import check_batch
from stages.pretext._multi_view import check_views, smallest_part
from transfer.artifacts import PseudoLabels
from transfer.datasets.packed.batch_loader import Batches
from transfer.errors import InvalidOption
from transfer.stage.base import DatasetInfo, ImageInput
from transfer.stage.label_joining import labels_for_images
from transfer.stage.options import option, stage_input
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.training.trainer import epoch_order
from transfer.transforms.color import adjust_hue, mix_colors, random_grayscale, to_float
from transfer.transforms.geometry import affine_map, compose, rotation_map, sample
from transfer.transforms.normalize import normalize
from transfer.transforms.simclr_views import SimCLRViews
from transfer.utils.lazy_imports import F, nn, np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng

LARGEST = 1 << 30  # weights of the last layer: more are 4 GB, and 12 with gradients and momenta
SAMPLED = 4096  # images whose pixels say which directions colors vary in
JITTER = (
    32 / 255,
    0.5,
    0.5,
    0.2,
)  # Inception's brightness, contrast, saturation, hue, as TensorFlow's models have it


class Exemplar(Pretext):
    """Which image is it, however it was moved, scaled, turned and recolored? Every image is a surrogate class.

    Objective `classes`: cross-entropy over all images, by a last layer that grows with their number: the paper took
    8,000 to 32,000. `triplet`: the large-scale variant (Doersch & Zisserman, ICCV 2017; Kolesnikov et al., CVPR 2019):
    copies of an image are to be nearer than those of others, with semi-hard negatives. With `labels`, images were
    clustered first, and a cluster is the class.
    Sources: the paper for the transformations, but that the whole image is the seed, not a patch with edges in it, and
    that beyond its border lies its mirror image; for `triplet` the code of the second one, which takes batches of 64
    for 35 epochs. Epochs are ours: the paper made 150 copies of each image, and an epoch shows `views` of them.
    Traps: embeddings are brought to unit length each by itself; the released code does it over the batch. Distances
    are taken in float32 whatever the precision.
    """

    paper = "Dosovitskiy, Springenberg, Riedmiller & Brox, NeurIPS 2014"
    images = {"images": ImageInput("unlabeled", same_as="labels")}

    labels: str | None = stage_input(
        PseudoLabels, "clusters that are the classes; none: every image is one", optional=True
    )
    objective: Literal["classes", "triplet"] = option(
        "classes", "classification, or distances of embeddings"
    )
    views: int | None = option(
        None, "copies of an image in a batch; none: 1 for classes, 8 for triplet", ge=1
    )
    embedding_dim: int = option(
        1000, "values that are compared", applies_when={"objective": ["triplet"]}, ge=1
    )
    margin: float = option(
        0.5,
        "how much farther negatives are to be, squared",
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

    epochs: int = option(150, "passes over the images", ge=0)
    batch_size: int = option(
        128, "images a step; the rest of an epoch that fills no batch is left to other epochs", ge=2
    )
    learning_rate: float = option(0.01, "the highest it gets", gt=0)

    @property
    def copies(self) -> int:
        return self.views or (8 if self.objective == "triplet" else 1)

    def validate_plan(self, planned: PlannedStage) -> None:
        """A triplet has a positive and a negative."""
        if self.objective == "triplet":
            check_batch(self, planned, "a triplet has two images")
            if self.copies == 1 and self.labels is None:
                raise InvalidOption("views", "a triplet has two copies of an image: take 2 or more")

    def chance(self, about: DatasetInfo) -> float | None:
        if self.objective == "classes":
            return 1 / self.classes(about)
        copies = smallest_part(self, about.count) * self.copies
        return (self.copies - 1) / (copies - 1) if self.labels is None else None

    def dataset_info(self, context: StageContext) -> DatasetInfo:
        found = super().dataset_info(context)
        if self.labels is None:
            return found
        return DatasetInfo(found.size, found.count, context.inputs["labels"].count)

    def classes(self, about: DatasetInfo) -> int:
        """As many as images, or as pseudo-labels (of which a plan does not know the number: one)."""
        return max(1, about.count if self.labels is None else about.classes)

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        """The backbone and one linear layer; which class an image is, and the directions in which colors vary."""
        width = backbone_feature_dim(backbone, about.size)
        outputs = self.classes(about) if self.objective == "classes" else self.embedding_dim
        if outputs * width > LARGEST:
            raise ValueError(
                f"{outputs:,} classes of {width:,} features are {4e-9 * outputs * width:.0f} GB of weights: take fewer "
                "images (`data: {limit: ...}`), cluster them first (`labels`), or use `objective: triplet`"
            )
        network = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(width, outputs)})
        network.register_buffer("classes", torch.zeros(about.count, dtype=torch.int64))
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
        network.classes.copy_(torch.from_numpy(classes))
        rows = np.linspace(0, len(images) - 1, min(SAMPLED, len(images))).astype(np.int64)
        mean, axes = color_directions(sample_classes(images, rows, context))
        network.mean.copy_(mean)
        network.directions.copy_(axes)

    def order(self, network: nn.ModuleDict, context: StageContext, epoch: int) -> numpy.ndarray:
        """The rows that have a class, shuffled."""
        known = np.flatnonzero(network.classes.cpu().numpy() >= 0)
        return known[epoch_order(context.seed_for("order", epoch), len(known))]

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        seen = normalize(
            self.transform(images, rng, network.mean, network.directions), self.normalization
        )
        found = network["head"](backbone_features(network["backbone"], seen)).float()
        classes = network.classes[rng.ids].repeat(self.copies)
        if self.objective == "classes":
            return F.cross_entropy(found, classes), {
                "accuracy": (found.argmax(1) == classes).float().mean()
            }
        return semi_hard(found, classes, self.margin)

    def transform(self, images: Tensor, rng: PerImageRng, mean: Tensor, axes: Tensor) -> Tensor:
        """(copies * B, 3, S, S) float in [0, 1]: all first copies, then all second ones."""
        if self.objective == "triplet":
            make: Any = SimCLRViews(
                images.shape[-1], scale=(0.05, 1.0), jitter=JITTER, jitter_p=1.0, gray=0.0, blur=0.0
            )
            return check_views(
                make, random_grayscale(images, rng, self.grayscale), rng, self.copies
            )

        def make(copies: Tensor, each: PerImageRng) -> Tensor:
            return recolor(move(copies, each), each, mean, axes)

        return check_views(make, images, rng, self.copies)

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the image and some of its copies."""
        some = self.model_copy(update={"views": 4})
        found = some.transform(images, rng, *color_directions(images)).chunk(4)
        return {"image": images, **{f"copy {i + 1}": copy for i, copy in enumerate(found)}}


def move(images: Tensor, rng: PerImageRng) -> Tensor:
    """Scaled by 0.7 to 1.4, turned by up to 20 degrees, moved by up to a fifth of the side; float, of the same size."""
    scale, angle, across, down = rng.uniform(4).unbind(1)
    shown = 1 / (0.7 * 2**scale)  # of the side: evenly over the logarithm
    zero = torch.zeros_like(scale)
    place = affine_map(shown, zero, 0.8 * across - 0.4, zero, shown, 0.8 * down - 0.4)
    turned = compose(place, rotation_map(40 * angle - 20))
    return sample(images, turned, images.shape[-1], padding="reflection")


def recolor(images: Tensor, rng: PerImageRng, mean: Tensor, axes: Tensor) -> Tensor:
    """The paper's three changes of color, the same for all pixels of an image; float in [0, 1].

    Along each direction in which colors vary, times 0.5 to 2; saturation and value to the power of 0.25 to 4, times
    0.7 to 1.4, plus -0.1 to 0.1; hue plus -0.1 to 0.1. Factors and powers are drawn evenly over their logarithms.
    """
    stretch = 4 ** rng.uniform(1, 3) / 2
    # Sums instead of a product of matrices, which mixed precision would round.
    matrix = (axes[:, None] * axes[None] * stretch[:, None]).sum(-1)
    offset = mean - (matrix * mean).sum(-1)
    images = mix_colors(to_float(images), torch.cat((matrix, offset[:, :, None]), dim=2)).clamp(
        0, 1
    )
    images = adjust_hue(images, 0.2 * rng.uniform() - 0.1)
    value, least = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    chroma = value - least
    # 0 for a pixel's strongest channel, 1 for its weakest; of a gray pixel, rounding must not be made a color.
    falls = (value - images) / chroma.clamp(min=1 / 255)
    saturation = chroma / value.clamp(min=1e-6)
    power, factor, shift = rng.uniform(3, 2, 1, 1, 1).unbind(1)
    both = torch.stack((saturation, value), dim=1) ** (16**power / 4)
    saturation, value = (both * (0.7 * 2**factor) + (0.2 * shift - 0.1)).clamp(0, 1).unbind(1)
    return value * (1 - saturation * falls)


def color_directions(images: Tensor) -> tuple[Tensor, Tensor]:
    """Of uint8 (B, 3, H, W): the mean color (3,), and the principal directions of all pixels as columns (3, 3)."""
    pixels = to_float(images).transpose(0, 1).flatten(1).double().cpu()
    mean = pixels.mean(1)
    covariance = (pixels - mean[:, None]) @ (pixels - mean[:, None]).T / pixels.shape[1]
    axes = torch.linalg.eigh(covariance)[1]
    return mean.float().to(images.device), axes.float().to(images.device)


def semi_hard(embedded: Tensor, classes: Tensor, margin: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Triplet loss (Schroff, Kalenichenko & Philbin 2015) of (n, D), of every anchor with every positive.

    The negative is the nearest one that is farther than the positive, or else the farthest; distances are squared, of
    rows at unit length. The accuracy is that of an anchor's nearest neighbor.
    """
    with torch.autocast(embedded.device.type, enabled=False):
        unit = F.normalize(embedded.float(), dim=1)
        away = 2 - 2 * unit @ unit.T
    same = classes[:, None] == classes
    itself = torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    with torch.no_grad():
        nearest = away.masked_fill(itself, float("inf")).argmin(1, keepdim=True)
        negatives, places = away.masked_fill(same, float("inf")).sort(dim=1)
        last = (~same).sum(1, keepdim=True) - 1
        # Of each anchor its positives, in as many columns as the anchor with the most of them has.
        positives = (same & ~itself).to(torch.uint8)
        counted, positives = positives.topk(max(1, int(positives.sum(1).max())), dim=1)
        beyond = torch.searchsorted(negatives, away.gather(1, positives), right=True)
        chosen = places.gather(1, torch.minimum(beyond, last).clamp(min=0))
        counted = counted.bool() & (last >= 0)
    losses = F.relu(margin + away.gather(1, positives) - away.gather(1, chosen))
    accuracy = same.gather(1, nearest).float().mean()
    return (losses * counted).sum() / counted.sum().clamp(min=1), {"accuracy": accuracy}


def sample_classes(images: Any, rows: numpy.ndarray, context: StageContext) -> Tensor:
    """The images of `rows`, uint8 (n, 3, S, S) on the CPU."""
    parts = np.array_split(rows, -(-len(rows) // 256))
    with Batches(images, context.runtime, 256) as feed:
        return torch.cat([pixels.cpu() for pixels in feed.each(parts)])
