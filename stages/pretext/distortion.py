"""Which change was made to the image: ten of our choice, or the six of Jenni, Jin & Favaro (CVPR 2020)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from stages.pretext._batch_partners import check_batch
from stages.pretext._lci import parts, repaint, sides, with_hidden
from stages.pretext._mlp_head import fully_connected
from transfer.errors import InvalidOption
from transfer.stage.base import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.transforms.color import adjust_hue, to_float
from transfer.transforms.filters import gaussian_blur, solarize
from transfer.transforms.geometry import quarter_turns, random_erase
from transfer.transforms.normalize import normalize
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage

TURNS = {"turned 90 degrees": 1, "turned 180 degrees": 2, "turned 270 degrees": 3}
CLASSES = {
    "ten": ("unchanged", *TURNS, "warped", "blurred", "solarized", "noisy", "erased", "other hues"),
    "lci": ("unchanged", "inpainted", *TURNS, "warped"),
}
ANGLE = (
    0.07 * math.pi
)  # the small angle by which half of the images are turned, at most, in radians
WARP = 1 / 16  # of the seen side: how far a point is moved, at most


class Distortion(Pretext):
    """Which of several changes was made to the image, or none?

    `ten`, our choice: unchanged; turned by one, two or three quarters; warped (16 points, of a grid, moved by up to a
    sixteenth of the side, the rest smoothly between them); blurred (sigma 1 to 2 px); bright pixels inverted; noise of
    deviation 0.1; a gray box over 5 to 25 % of the area; hues turned by a quarter or more (a gray image has none: there
    the answer cannot be known). `lci`: unchanged; a part inpainted from a thin border of it; the three turns; warped.
    Loss: cross-entropy over the changes; `lci` adds those of the inpainter and of its discriminator.
    The trap is to be told by how the change was computed. So every image is resampled once, warped or not, half of them
    turned by a small angle too; no class shows what lies beyond the image's edge; and half of the images that are not
    inpainted hold a patch that the inpainter has drawn from the whole of itself.
    Constants: the released code's of Limited Context Inpainting on STL-10.
    """

    paper = "Jenni, Jin & Favaro, CVPR 2020"
    lr_scales: ClassVar[dict[str, float]] = {"inpainter": 2 / 3, "discriminator": 2 / 3}

    variant: Literal["ten", "lci"] = option(
        "ten", "ten changes, or the six with Limited Context Inpainting"
    )
    copies: int | None = option(
        None, "differently changed copies of an image; none: one of ten, all six of lci", ge=1
    )
    crop_side: float = option(
        0.8, "side of the random part that is seen, of the image's", gt=0, le=0.85
    )
    flip: float = option(0.5, "share of images mirrored", ge=0, le=1)
    hidden_dim: int = option(
        4096, "values of each of the head's two hidden layers; 0: no such layers", ge=0
    )

    epochs: int = option(200, "passes over the images", ge=0)
    batch_size: int = option(
        64, "images a step, before copies; the rest of an epoch is left to other epochs", ge=2
    )
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = option(
        "adamw", "SGD has Nesterov momentum"
    )
    learning_rate: float = option(
        3e-4, "the highest it gets; two thirds of it for the inpainter", gt=0
    )
    momentum: float = option(0.5, "of SGD and LARS; of Adam, its first beta", ge=0, lt=1)

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES[self.variant]

    @property
    def asked(self) -> int:
        """Copies of an image in a batch."""
        return self.copies or (1 if self.variant == "ten" else len(self.classes))

    def validate_plan(self, planned: PlannedStage) -> None:
        """There are so many changes, and room for the patch."""
        if self.asked > len(self.classes):
            raise InvalidOption(
                "copies",
                f"{self.copies} different copies, but there are {len(self.classes)} changes",
            )
        size = planned.images["images"].stage.size
        patch, border = sides(size)
        if self.variant == "lci" and (patch >= size or patch <= 2 * border):
            raise InvalidOption(
                "variant",
                f"images of {size} px have no room for a patch of {patch} px and its border",
            )
        if self.asked == 1:
            check_batch(self, planned, "the head's batch norm goes over the images of a batch")

    def chance(self, about: DatasetInfo) -> float:
        return 1 / len(self.classes)

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        width = backbone_feature_dim(backbone, self.side(about.size))
        head = fully_connected(width, self.hidden_dim, len(self.classes))
        more = parts(about.size) if self.variant == "lci" else {}
        return nn.ModuleDict({"backbone": backbone, "head": head, **more})

    def side(self, size: int) -> int:
        """What the network sees of images of `size` px, in px."""
        return round(self.crop_side * size)

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        labels = rng.permutations(len(self.classes))[:, : self.asked]
        copies, more, figures = to_float(images)[:, None], 0.0, {}
        if self.variant == "lci":
            filled, rebuilt, more, figures = repaint(network, copies[:, 0], rng)
            changed, own = (
                labels[..., None, None, None],
                rng.chance(0.5)[:, None, None, None, None],
            )
            warped, inpainted = (
                changed == self.classes.index(name) for name in ("warped", "inpainted")
            )
            copies = torch.where(own & ~warped, rebuilt[:, None], copies)
            copies = torch.where(inpainted, filled[:, None], copies)
        copies, labels = copies.expand(-1, self.asked, -1, -1, -1).flatten(0, 1), labels.flatten()
        seen = normalize(self.changed(copies, labels, _each(rng, self.asked)), self.normalization)
        logits = network["head"](backbone_features(network["backbone"], seen))
        accuracy = (logits.argmax(1) == labels).float().mean()
        return F.cross_entropy(logits, labels) + more, {"accuracy": accuracy, **figures}

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the image, and what each change makes of it; of the inpainted part, what is hidden."""
        columns, whole = {"image": images}, to_float(images)
        for label, name in enumerate(self.classes):
            copies = with_hidden(whole, rng) if name == "inpainted" else whole
            columns[name] = self.changed(copies, torch.full_like(rng.ids, label), _each(rng, 1))
        return columns

    def changed(self, images: Tensor, labels: Tensor, rng: PerImageRng) -> Tensor:
        """(N, 3, S, S) float in [0, 1] to (N, 3, side, side): the part that is seen, changed as `labels` (N,) say."""
        names = self.classes
        seen = self.seen(images, labels == names.index("warped"), rng)
        turns = torch.tensor([TURNS.get(name, 0) for name in names], device=images.device)
        seen = quarter_turns(seen, turns[labels])
        for name, change in CHANGES.items():
            if name in names:
                rows, own = (labels == names.index(name)).nonzero()[:, 0], rng.integers(1 << 53)
                if len(rows):
                    seen.index_copy_(0, rows, change(seen[rows], PerImageRng(0, own[rows])))
        return seen

    def seen(self, images: Tensor, warped: Tensor, rng: PerImageRng) -> Tensor:
        """A random part of each image, at a small angle or not, mirrored or not, warped or not: one resampling."""
        size, side = images.shape[-1], self.side(images.shape[-1])
        share, warp = (
            side / size,
            2 * WARP * side / size,
        )  # coordinates go from -1 to 1: twice a share of the side
        angle = torch.where(rng.chance(0.5), ANGLE * (2 * rng.uniform() - 1), 0.0)
        cos, sin = torch.cos(angle), torch.sin(angle)
        # So much of the image is there to be seen that a warped corner of a turned part still lies in it.
        reach = share * (cos + sin.abs())
        zoom = ((1 - warp) / reach).clamp(max=1.0)
        room = 1 - warp - zoom * reach
        middle = (2 * rng.uniform(2) - 1) * room[:, None]
        line = ((2 * torch.arange(side, device=images.device) + 1) / side - 1) * share
        mirror = torch.where(rng.chance(self.flip), -zoom, zoom)[:, None, None]
        across, down = mirror * line, zoom[:, None, None] * line[:, None]
        cos, sin = cos[:, None, None], sin[:, None, None]
        places = (
            torch.stack((cos * across - sin * down, sin * across + cos * down), dim=-1)
            + middle[:, None, None]
        )
        moves, rows = 2 * rng.uniform(2, 4, 4) - 1, warped.nonzero()[:, 0]
        if len(rows):
            moves = F.interpolate(moves[rows], size=side, mode="bicubic", align_corners=True).clamp(
                -1, 1
            )
            places.index_add_(0, rows, warp * moves.permute(0, 2, 3, 1))
        return F.grid_sample(
            images, places, mode="bilinear", padding_mode="border", align_corners=False
        )


def _each(rng: PerImageRng, copies: int) -> PerImageRng:
    """The draw of each copy: (B * copies), those of an image one after the other."""
    return PerImageRng(0, rng.integers(1 << 53, copies).flatten())


def _blurred(images: Tensor, rng: PerImageRng) -> Tensor:
    return gaussian_blur(images, 1 + rng.uniform(), kernel=9)


def _solarized(images: Tensor, rng: PerImageRng) -> Tensor:
    return solarize(images, torch.ones(len(images), dtype=torch.bool, device=images.device))


def _noisy(images: Tensor, rng: PerImageRng) -> Tensor:
    length, angle = rng.uniform(2, *images.shape[1:]).unbind(1)
    noise = (-2 * (1 - length).log()).sqrt() * torch.cos(2 * math.pi * angle)
    return (images + 0.1 * noise).clamp(0, 1)


def _erased(images: Tensor, rng: PerImageRng) -> Tensor:
    return random_erase(images, rng, p=1.0, scale=(0.05, 0.25), value=0.5)


def _other_hues(images: Tensor, rng: PerImageRng) -> Tensor:
    return adjust_hue(images, 0.25 + 0.5 * rng.uniform())


# What is done to the part that is seen; turns and warps are done before.
CHANGES: dict[str, Callable[[Tensor, PerImageRng], Tensor]] = {
    "blurred": _blurred,
    "solarized": _solarized,
    "noisy": _noisy,
    "erased": _erased,
    "other hues": _other_hues,
}
