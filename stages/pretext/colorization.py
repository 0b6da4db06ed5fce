"""Colorization (Zhang, Isola & Efros, ECCV 2016): which color has each pixel of a gray image?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stages.pretext._color_bins import (
    bin_shares,
    color_bins,
    count_colors,
    near_bins,
    rebalancing_weights,
    soft_bins,
)
from stages.pretext._decoder import decoder, deepest_map, deepest_map_shape
from transfer.datasets.packed.batch_loader import Batches
from transfer.errors import InvalidOption, TransferError
from transfer.stage.base import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext
from transfer.training.recipe import lr_milestones
from transfer.transforms.color import lab_to_rgb, rgb_to_lab
from transfer.transforms.geometry import random_resized_crop
from transfer.transforms.normalize import Normalization, normalize
from transfer.utils.lazy_imports import F, nn, np, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng

GRAY = 5  # an image none of whose colors is farther than this from gray, in a or in b, has no color to learn
BLOCK = 256  # images read at once while colors are counted


class Colorization(Pretext):
    """Which of 261 colors has each pixel of an image that is shown without color?

    Loss: cross-entropy between the predicted colors and the pixel's own, spread over its ten nearest bins of a and b.
    A pixel's loss is weighted by how rare its color is in the set, and by 0 where its whole image is gray. The
    released code scales the gradient instead: the same training, for the weights do not depend on the network. Colors
    are asked of every fourth pixel each way, as in the paper's largest network; up-convolutions lead there from the
    backbone's deepest map. 313 bins are published; those that an sRGB color is the nearest to are 261.
    Source: Zhang et al. (2016) and their released code, whose four rates, 3e-5 to 1e-6, are two here.
    The traps: squared errors make all things brownish, so colors are classes; a network that is trained on lightness
    must never be fed colors, so the model says that it sees lightness (its three channels are L alike).
    Figures: `accuracy` is the share of pixels whose bin is right, each counted as in the loss, or the commonest colors
    would be all; `guessing` is the same for the one bin that is best to guess.
    """

    normalization = Normalization(lightness=True)
    paper = "Zhang, Isola & Efros, ECCV 2016"
    needs = "color images"

    epochs: int = option(28, "passes over the images", ge=0)
    batch_size: int = option(
        80, "images a step; the rest of an epoch that fills no batch is left to other epochs", ge=2
    )
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = option("adam", "SGD has Nesterov momentum")
    learning_rate: float = option(3e-5, "the highest it gets", gt=0)
    weight_decay: float = option(1e-3, "on weights; biases and norms have none", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option(
        "step", "of the learning rate, after the warm-up"
    )
    milestones: list[float] = lr_milestones([0.6])
    crop: float = option(
        0.5, "smallest share of an image's area that a crop keeps; 1: the whole image", gt=0, le=1
    )
    flip: float = option(0.5, "share of images mirrored", ge=0, le=1)
    stride: int = option(4, "px between the pixels whose colors are asked, each way", ge=1)
    alpha: float = option(
        1.0, "how much rare colors weigh: 0 none, 1 by the inverse of their share", ge=0
    )
    gamma: float = option(
        0.5, "part of the uniform distribution in the shares that weights are made from", gt=0, le=1
    )
    decoder_width: int = option(
        256, "channels of the maps between the backbone and the colors", ge=1
    )

    def validate_plan(self, planned: PlannedStage) -> None:
        """There is a pixel to ask for."""
        size = planned.images["images"].stage.size
        if not self.side(size):
            raise InvalidOption(
                "stride", f"no pixel of images of {size} px is asked for: use {size} or less"
            )

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        """The backbone, the head that says a color for each place, and the colors with their weights."""
        bins = color_bins()
        shape, side = deepest_map_shape(backbone, about.size), self.side(about.size)
        head = nn.Sequential(
            decoder(shape, side, self.decoder_width, self.decoder_width, self.decoder_width),
            nn.BatchNorm2d(self.decoder_width),
            nn.ReLU(),
            nn.Conv2d(self.decoder_width, len(bins), 1),
        )
        colors = nn.Module()
        colors.register_buffer("bins", bins.clone())
        colors.register_buffer("near", near_bins().clone())
        colors.register_buffer(
            "weights", torch.ones(len(bins))
        )  # until `begin` has seen the images
        colors.register_buffer("best", torch.zeros((), dtype=torch.int64))  # the bin to guess
        return nn.ModuleDict({"backbone": backbone, "head": head, "colors": colors})

    def begin(self, network: nn.ModuleDict, context: StageContext) -> None:
        """Count the set's colors, from which the weights are made; TransferError where all images are gray."""
        colors, images = network["colors"], context.images["images"]
        counts = torch.zeros_like(count_colors(torch.zeros(0, 2)))
        blocks = np.array_split(np.arange(len(images)), -(-len(images) // BLOCK))
        with (
            context.progress("counting colors", len(images), "images") as progress,
            Batches(images, context.runtime, BLOCK) as feed,
        ):
            for batch in feed.each(blocks):
                ab = self.ab(batch)
                counts += count_colors(ab[color_image(ab)].flatten(0, 2)).cpu()
                progress.advance(len(batch))
                context.pause_point()
        if not counts.any():
            raise TransferError(
                f"all {len(images)} images are gray (no a or b beyond {GRAY}): they have no colors to learn; "
                "use images in color, or another pretext"
            )
        shares = bin_shares(counts)
        colors.weights.copy_(rebalancing_weights(shares, self.alpha, self.gamma))
        colors.best.copy_((shares * colors.weights).argmax())

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        seen, colors = self.crop_of(images, rng), network["colors"]
        shown = deepest_map(network["backbone"], normalize(seen, self.normalization))
        logits = network["head"](shown).float().movedim(1, -1).flatten(0, 2)
        ab = self.ab(seen)
        index, shares = soft_bins(ab.flatten(0, 2), colors.bins, colors.near)
        weights = (
            colors.weights[index[:, 0]].view(ab.shape[:3]) * color_image(ab)[:, None, None]
        ).flatten()
        asked = logits.gather(1, index)
        entropy = logits.logsumexp(1) - (shares * asked).sum(1)
        counted = weights.sum().clamp(min=1e-12)
        figures = {
            "accuracy": (weights * (asked[:, 0] == logits.amax(1))).sum() / counted,
            "guessing": (weights * (index[:, 0] == colors.best)).sum() / counted,
        }
        return (weights * entropy).mean(), figures

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the crop, what the network sees of it, and the colors that are asked, on the crop's L."""
        seen = self.crop_of(images, rng)
        ab, bins = self.ab(seen), color_bins()
        index, _ = soft_bins(ab.flatten(0, 2), bins, near_bins())
        nearest = bins[index[:, 0]].view_as(ab).movedim(-1, 1)
        nearest = F.interpolate(nearest, size=seen.shape[-2:], mode="nearest")
        asked = lab_to_rgb(torch.cat((rgb_to_lab(seen)[:, :1], nearest), 1))
        return {"crop": seen, "shown": normalize(seen, self.normalization), "asked": asked}

    def crop_of(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """(B, 3, S, S) uint8 to float in [0, 1]: a random square of each image at its size, mirrored or not."""
        return random_resized_crop(
            images, rng, images.shape[-1], (self.crop, 1.0), (1.0, 1.0), self.flip
        )

    def ab(self, images: Tensor) -> Tensor:
        """(B, side, side, 2): a and b of the pixels that are asked for, taken as they are, not averaged."""
        first = self.stride // 2
        return rgb_to_lab(images[..., first :: self.stride, first :: self.stride])[:, 1:].movedim(
            1, -1
        )

    def side(self, size: int) -> int:
        return len(range(self.stride // 2, size, self.stride))


def color_image(ab: Tensor) -> Tensor:
    """(B, h, w, 2) to (B,) bool: whether an image has any color."""
    return (ab.abs() > GRAY).flatten(1).any(1)
