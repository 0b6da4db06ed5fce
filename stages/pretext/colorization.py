"""Colorization (Zhang, Isola & Efros, ECCV 2016): the color of each pixel of a gray image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

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
from transfer.stage.image_input import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext
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

GRAY = 5  # largest |a| and |b| of an image that counts as gray, and has no color to learn
BLOCK = 256  # images read at once while colors are counted


class Colorization(Pretext):
    """Which of 261 colors does each pixel have? The network sees the image without color.

    Loss: cross-entropy between the predicted colors and the pixel's own, spread over its ten
    nearest bins of a and b. A pixel's loss is weighted by how rare its color is in the dataset, and
    by 0 where its whole image is gray. The released code scales the gradient instead, which is the
    same training, because the weights do not depend on the network. Colors are predicted for every
    fourth pixel in each direction, as in the paper's largest network; up-convolutions lead there
    from the backbone's deepest map. 313 bins are published; 261 of them are nearest to an sRGB
    color.
    Source: Zhang et al. (2016) and their released code. Its four learning rates, 3e-5 to 1e-6, are
    two here.
    The traps: squared errors make everything brownish, so colors are classes. A network that is
    trained on lightness must never get colors, so the model's normalization has `lightness` (L in
    all three channels).
    Figures: `accuracy` is the share of pixels whose bin is correct, weighted as in the loss, or the
    most frequent colors would dominate. `guessing` is the same for always guessing the best bin.
    """

    normalization = Normalization(lightness=True)
    paper = "Zhang, Isola & Efros, ECCV 2016"
    needs = "color images"

    defaults: ClassVar[dict[str, Any]] = {
        "epochs": 28,
        "batch_size": 80,
        "optimizer": "adam",
        "learning_rate": 3e-5,
        "weight_decay": 1e-3,
        "schedule": "step",
        "milestones": [0.6],
    }
    crop: float = option(
        0.5, "smallest share of an image's area that a crop keeps; 1: the whole image", gt=0, le=1
    )
    flip: float = option(0.5, "share of images that are mirrored", ge=0, le=1)
    stride: int = option(
        4, "px between the pixels whose colors are predicted, in each direction", ge=1
    )
    alpha: float = option(
        1.0, "exponent of the weights; 0: equal weights, 1: the inverse of a color's share", ge=0
    )
    gamma: float = option(
        0.5, "part of the uniform distribution in the shares behind the weights", gt=0, le=1
    )
    decoder_width: int = option(
        256, "channels of the maps between the backbone and the colors", ge=1
    )

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption where `stride` leaves no pixel."""
        size = planned.images["images"].stage.size
        if not self.side(size):
            raise InvalidOption(
                "stride",
                f"{self.stride} px leave no pixel of images of {size} px: use {size} or less",
            )

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return backbone, head and `colors`, which holds the bins and their weights.

        The head predicts a color for each place.
        """
        bins = color_bins()
        shape, side = deepest_map_shape(backbone, dataset.size), self.side(dataset.size)
        head = nn.Sequential(
            decoder(shape, side, self.decoder_width, self.decoder_width, self.decoder_width),
            nn.BatchNorm2d(self.decoder_width),
            nn.ReLU(),
            nn.Conv2d(self.decoder_width, len(bins), 1),
        )
        colors = nn.Module()
        colors.register_buffer("bins", bins.clone())
        colors.register_buffer("near", near_bins().clone())
        colors.register_buffer("weights", torch.ones(len(bins)))  # `begin` replaces them
        colors.register_buffer("best", torch.zeros((), dtype=torch.int64))  # the bin to guess
        return nn.ModuleDict({"backbone": backbone, "head": head, "colors": colors})

    def begin(self, network: nn.ModuleDict, context: StageContext) -> None:
        """Set the weights from the dataset's colors; TransferError where all images are gray."""
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
                f"all {len(images)} images are gray (no a or b beyond {GRAY}), so there are no "
                "colors to learn: use images in color, or another pretext"
            )
        shares, weights = bin_shares(counts), colors.get_buffer("weights")
        weights.copy_(rebalancing_weights(shares, self.alpha, self.gamma))
        colors.get_buffer("best").copy_((shares * weights).argmax())

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        crops, colors = self.random_crop(images, rng), network["colors"]
        deepest = deepest_map(network["backbone"], normalize(crops, self.normalization))
        logits = network["head"](deepest).float().movedim(1, -1).flatten(0, 2)
        ab = self.ab(crops)
        bins, near = colors.get_buffer("bins"), colors.get_buffer("near")
        index, shares = soft_bins(ab.flatten(0, 2), bins, near)
        weights = colors.get_buffer("weights")[index[:, 0]].view(ab.shape[:3])
        weights = (weights * color_image(ab)[:, None, None]).flatten()
        near_logits = logits.gather(1, index)
        entropy = logits.logsumexp(1) - (shares * near_logits).sum(1)
        total = weights.sum().clamp(min=1e-12)
        correct, guessed = (
            near_logits[:, 0] == logits.amax(1),
            index[:, 0] == colors.get_buffer("best"),
        )
        figures = {
            "accuracy": (weights * correct).sum() / total,
            "guessing": (weights * guessed).sum() / total,
        }
        return (weights * entropy).mean(), figures

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """The crop, the network's input, and the colors to predict with the crop's lightness."""
        crops = self.random_crop(images, rng)
        ab, bins = self.ab(crops), color_bins()
        index, _ = soft_bins(ab.flatten(0, 2), bins, near_bins())
        nearest = bins[index[:, 0]].view_as(ab).movedim(-1, 1)
        nearest = F.interpolate(nearest, size=crops.shape[-2:], mode="nearest")
        target = lab_to_rgb(torch.cat((rgb_to_lab(crops)[:, :1], nearest), 1))
        return {"crop": crops, "input": normalize(crops, self.normalization), "target": target}

    def random_crop(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """Return a random square of each image, resized to S and mirrored or not.

        (B, 3, S, S) uint8 -> (B, 3, S, S) float in [0, 1].
        """
        return random_resized_crop(
            images, rng, images.shape[-1], (self.crop, 1.0), (1.0, 1.0), self.flip
        )

    def ab(self, images: Tensor) -> Tensor:
        """Return (B, side, side, 2): a and b of the pixels to predict, sampled, not averaged."""
        first = self.stride // 2
        pixels = images[..., first :: self.stride, first :: self.stride]
        return rgb_to_lab(pixels)[:, 1:].movedim(1, -1)

    def side(self, size: int) -> int:
        """Return the side of the map of predicted pixels for images of `size` px."""
        return len(range(self.stride // 2, size, self.stride))


def color_image(ab: Tensor) -> Tensor:
    """Return (B,) bool for (B, h, w, 2): whether an image has any color."""
    return (ab.abs() > GRAY).flatten(1).any(1)
