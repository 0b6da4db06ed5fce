"""Image distortions: ten of our choice, or the six of Jenni, Jin & Favaro (CVPR 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stages.pretext._batch_partners import check_batch
from stages.pretext._distortion_effects import EFFECTS, crop_and_warp
from stages.pretext._lci import parts, repaint, sides, with_hidden
from stages.pretext._mlp_head import fully_connected
from transfer.errors import InvalidOption
from transfer.stage.image_input import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.training.recipe import PartRecipe
from transfer.transforms.color import to_float
from transfer.transforms.geometry import quarter_turns
from transfer.transforms.normalize import normalize
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage

TURNS = {"turned 90 degrees": 1, "turned 180 degrees": 2, "turned 270 degrees": 3}
CLASSES = {
    "ten": ("unchanged", *TURNS, "warped", "blurred", "solarized", "noisy", "erased", "other hues"),
    "lci": ("unchanged", "inpainted", *TURNS, "warped"),
}


class Distortion(Pretext):
    """Which of several distortions was applied to the image, or none?

    `ten`, our choice: unchanged; rotated by one, two or three quarter turns; warped (16 points of a
    grid, shifted by up to a sixteenth of the side, with a smooth field between them); blurred
    (sigma 1 to 2 px); bright pixels inverted; noise of standard deviation 0.1; a gray box over 5 to
    25 % of the area; hues rotated by a quarter turn or more (a gray image has no hue, so its class
    cannot be known). `lci`: unchanged; a patch inpainted from a thin border of it; the three
    rotations; warped. Loss: cross-entropy over the classes; `lci` adds the losses of the inpainter
    and of its discriminator.
    The trap: the class could be visible in how the distortion is computed. So every image is
    resampled once, warped or not, and half of them are rotated by a small angle. No class shows
    what lies beyond the image's edge. Half of the images that are not inpainted hold a patch that
    the inpainter reconstructed from the whole patch.
    Constants: the released code's of Limited Context Inpainting on STL-10 (sjenni/LCI), with three
    exceptions in `lci`: the warp (theirs has 16 points at random places), the last layers of the
    decoder, and the discriminator, which is DCGAN's.
    """

    paper = "Jenni, Jin & Favaro, CVPR 2020"
    # run_stl10.py and TrainerBase.py of sjenni/LCI: Adam at 2e-4 and at four times that, constant.
    part_recipes = {
        "inpainter": PartRecipe(2 / 3, constant=True, weight_decay=0.0, beta2=0.999),
        "discriminator": PartRecipe(8 / 3, constant=True, weight_decay=0.0, beta2=0.999),
    }

    variant: Literal["ten", "lci"] = option(
        "ten", "ten distortions, or the six with Limited Context Inpainting"
    )
    copies: int | None = option(
        None, "copies of an image, each of another class; none: 1 for ten, all six for lci", ge=1
    )
    crop_side: float = option(
        0.8, "side of the random crop, as a share of the image's side", gt=0, le=0.85
    )
    flip: float = option(0.5, "share of images that are mirrored", ge=0, le=1)
    hidden_dim: int = option(
        4096, "units of each of the head's two hidden layers; 0: no hidden layers", ge=0
    )

    # TrainerSSL.py: AdamW of tf.contrib subtracts the decay itself, 1e-4 of a weight a step; torch
    # multiplies it by the learning rate of 3e-4.
    defaults: ClassVar[dict[str, Any]] = {
        "epochs": 200,
        "optimizer": "adamw",
        "momentum": 0.5,
        "beta2": 0.99,
        "weight_decay": 1 / 3,
    }
    batch_size: int = option(
        64,
        "images per step, before copies; an incomplete last batch is left to other epochs",
        ge=2,
    )
    learning_rate: float = option(
        3e-4,
        "peak learning rate; that of the inpainter is two thirds of it, that of its discriminator "
        "eight thirds, both constant",
        gt=0,
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the distortions, in the order of their labels."""
        return CLASSES[self.variant]

    @property
    def copy_count(self) -> int:
        """Copies of an image in a batch."""
        return self.copies or (1 if self.variant == "ten" else len(self.classes))

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise for more copies than classes, or images without room for the patch."""
        if self.copy_count > len(self.classes):
            raise InvalidOption(
                "copies",
                f"{self.copies} different copies of {len(self.classes)} classes: "
                f"use {len(self.classes)} or fewer",
            )
        size = planned.images["images"].stage.size
        patch, border = sides(size)
        if self.variant == "lci" and (patch >= size or patch <= 2 * border):
            raise InvalidOption(
                "variant",
                f"images of {size} px have no room for a patch of {patch} px and its border: "
                "use bigger images, or `variant: ten`",
            )
        if self.copy_count == 1:
            check_batch(self, planned, "the head's batch norm goes over the images of a batch")

    def chance(self, dataset: DatasetInfo) -> float:
        return 1 / len(self.classes)

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return the backbone and the head; for `lci`, the inpainter and its discriminator too."""
        width = backbone_feature_dim(backbone, self.side(dataset.size))
        head = fully_connected(width, self.hidden_dim, len(self.classes))
        more = parts(dataset.size) if self.variant == "lci" else {}
        return nn.ModuleDict({"backbone": backbone, "head": head, **more})

    def side(self, size: int) -> int:
        """Return the side of the crop of images of `size` px, in px."""
        return round(self.crop_side * size)

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        labels = rng.permutations(len(self.classes))[:, : self.copy_count]
        copies, figures = to_float(images)[:, None], {}
        inpainting_loss: Tensor | float = 0.0
        if self.variant == "lci":
            filled, rebuilt, inpainting_loss, figures = repaint(network, copies[:, 0], rng)
            classes = labels[..., None, None, None]
            warped = classes == self.classes.index("warped")
            inpainted = classes == self.classes.index("inpainted")
            is_rebuilt = rng.chance(0.5)[:, None, None, None, None]
            copies = torch.where(is_rebuilt & ~warped, rebuilt[:, None], copies)
            copies = torch.where(inpainted, filled[:, None], copies)
        copies = copies.expand(-1, self.copy_count, -1, -1, -1).flatten(0, 1)
        labels = labels.flatten()
        distorted = self.distort(copies, labels, copy_rngs(rng, self.copy_count))
        inputs = normalize(distorted, self.normalization)
        logits = network["head"](backbone_features(network["backbone"], inputs))
        accuracy = (logits.argmax(1) == labels).float().mean()
        loss = F.cross_entropy(logits, labels) + inpainting_loss
        return loss, {"accuracy": accuracy, **figures}

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """The image with each distortion; a patch to inpaint is shown with its hidden part gray."""
        columns, whole = {"image": images}, to_float(images)
        for label, name in enumerate(self.classes):
            copies = with_hidden(whole, rng) if name == "inpainted" else whole
            labels = torch.full_like(rng.ids, label)
            columns[name] = self.distort(copies, labels, copy_rngs(rng, 1))
        return columns

    def distort(self, images: Tensor, labels: Tensor, rng: PerImageRng) -> Tensor:
        """Return a distorted crop of each image.

        Args:
            images: (N, 3, S, S) float in [0, 1]; the crops are (N, 3, side, side).
            labels: (N,), the class of each image.
            rng: random numbers for each image.
        """
        names = self.classes
        crops = crop_and_warp(
            images, labels == names.index("warped"), rng, self.side(images.shape[-1]), self.flip
        )
        turns = torch.tensor([TURNS.get(name, 0) for name in names], device=images.device)
        crops = quarter_turns(crops, turns[labels])
        for name, effect in EFFECTS.items():
            if name in names:
                rows, streams = (labels == names.index(name)).nonzero()[:, 0], rng.integers(1 << 53)
                if len(rows):
                    crops.index_copy_(0, rows, effect(crops[rows], PerImageRng(0, streams[rows])))
        return crops


def copy_rngs(rng: PerImageRng, copies: int) -> PerImageRng:
    """Return random numbers for each copy, (B * copies); the copies of an image are adjacent."""
    return PerImageRng(0, rng.integers(1 << 53, copies).flatten())
