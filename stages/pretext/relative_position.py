"""Context prediction (Doersch, Gupta & Efros, ICCV 2015): which of eight neighbors."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

from stages.pretext._batch_partners import check_batch
from transfer.errors import InvalidOption
from transfer.stage.base import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.training.recipe import lr_milestones
from transfer.transforms.color import PROJECTION, mix_colors, to_float
from transfer.transforms.geometry import tiles
from transfer.transforms.normalize import Normalization, normalize
from transfer.utils.lazy_imports import F, nn, np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.transforms.per_image_rng import PerImageRng

CENTER, NEIGHBORS = 4, (0, 1, 2, 3, 5, 6, 7, 8)  # places of a 3 x 3 grid, row by row
NOISE = 1 / 255  # width of the noise in a dropped color
SHARES = (100 / 96**2, 95**2 / 96**2)  # of its pixels: what a patch is down-sampled to


class RelativePosition(Pretext):
    """Which of the eight neighbors of the first patch is the second?

    Loss: cross-entropy over the eight. Both patches go through the same network and meet in the head; the first is the
    middle of a grid of three by three, and serves all pairs of an image.
    Shortcuts that are closed: patches never touch (gap) and do not line up (jitter); the lens's color fringes, which
    tell where in the image a patch lay, go with two of three colors (or with one direction of color); sharpness says
    little (some patches are down-sampled and up-sampled again); the place of a patch in the image says nothing, for
    there is room for all eight neighbors.
    Constants: patch, gap and jitter stand to one another as 96, 48 and 7 px, as in the released code, where the image
    leaves room for it. That code sums its losses and has no usual learning rate: the recipe is OpenSelfSup's, for half
    its batch. The released code also draws the size of each image anew; here it stays as it is packed.
    """

    normalization = Normalization(per_image=True)
    paper = "Doersch, Gupta & Efros, ICCV 2015"

    patch_size: int | None = option(
        None, "side of a patch in px; none: a quarter of the image's", ge=4
    )
    gap: int | None = option(
        None, "px between patches before jitter; none: half a patch, or what there is", ge=1
    )
    jitter: int | None = option(
        None, "px that a patch is moved, at most; none: 7 of a patch's 96", ge=0
    )
    pairs: int = option(
        8, "how many of an image's eight neighbors are asked for, all of one center", ge=1, le=8
    )
    color: Literal["drop", "project", "keep"] = option(
        "drop",
        "drop: two of a patch's three colors become noise; project: one direction of color is removed",
    )
    downsample: float = option(
        0.33,
        "share of patches down-sampled to 100 of 96 x 96 pixels, or more, and up-sampled again",
        ge=0,
        le=1,
    )
    embedding_dim: int = option(4096, "values that the network makes of a patch", ge=1)
    hidden_dim: int = option(4096, "values of each of the two layers that see both patches", ge=1)

    epochs: int = option(70, "passes over the images", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option(
        "step", "of the learning rate, after the warm-up"
    )
    milestones: list[float] = lr_milestones([0.429, 0.714])
    warmup_epochs: float = option(5.0, "epochs over which the rate rises from zero", ge=0)

    def validate_plan(self, planned: PlannedStage) -> None:
        """The images have room for the grid."""
        self.layout(planned.images["images"].stage.size)
        if self.pairs == 1:
            check_batch(self, planned, "the head's batch norm goes over the pairs of a batch")

    def chance(self, about: DatasetInfo) -> float:
        return 1 / len(NEIGHBORS)

    def layout(self, size: int) -> tuple[int, int, int, int]:
        """(patch, gap, jitter, room) in px for images of `size` px; ValueError where they have no room for the grid.

        Three patches and two gaps, with jitter on both ends, leave `room` px to move the grid in.
        """
        patch = self.patch_size or size // 4
        jitter = round(patch * 7 / 96) if self.jitter is None else self.jitter
        least = 2 * jitter + 1 if self.gap is None else self.gap
        if least <= 2 * jitter:
            raise InvalidOption(
                "gap",
                f"patches moved by up to {jitter} px can touch across a gap of {least} px: "
                f"use a gap of {2 * jitter + 1} px or more, or less jitter",
            )
        left = size - 3 * patch - 2 * jitter
        if left < 2 * least:
            raise InvalidOption(
                "patch_size",
                f"images of {size} px have no room for three patches of {patch} px, {least} px or more apart and moved "
                f"by up to {jitter} px: use patches of {max(1, (size - 2 * jitter - 2 * least) // 3)} px or less, or "
                "bigger images",
            )
        gap = self.gap or max(least, min(round(patch / 2), left // 2))
        room = left - 2 * gap
        return patch, gap, jitter, room

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        """The network that both patches go through, and the head that sees both. Their norms have no weights."""
        patch, *_ = self.layout(about.size)

        def layer(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs, affine=False), nn.ReLU()]

        embed = nn.Sequential(*layer(backbone_feature_dim(backbone, patch), self.embedding_dim))
        head = nn.Sequential(
            *layer(2 * self.embedding_dim, self.hidden_dim),
            nn.Linear(self.hidden_dim, self.hidden_dim),
            nn.ReLU(),
            nn.Linear(self.hidden_dim, len(NEIGHBORS)),
        )
        return nn.ModuleDict({"backbone": backbone, "embed": embed, "head": head})

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        patches, labels = self.patches(images, rng)
        embedded = network["embed"](
            backbone_features(network["backbone"], self.disguised(patches, rng).flatten(0, 1))
        )
        center, neighbors = embedded.unflatten(0, (len(images), -1)).split((1, self.pairs), dim=1)
        logits = network["head"](
            torch.cat((center.expand_as(neighbors), neighbors), dim=-1).flatten(0, 1)
        )
        labels = labels.flatten()
        return F.cross_entropy(logits, labels), {
            "accuracy": (logits.argmax(1) == labels).float().mean()
        }

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the image, a few of its patches as they are cut, and as the network sees them."""
        patches, _ = self.patches(images, rng)
        disguised, columns = self.disguised(patches, rng), {"image": images}
        for place, name in enumerate(("center", "neighbor 1", "neighbor 2")[: 1 + self.pairs]):
            columns |= {name: patches[:, place], f"{name} as seen": disguised[:, place]}
        return columns

    def patches(self, images: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) to patches (B, 1 + pairs, 3, patch, patch), the center first, and which neighbors (B, pairs).

        The neighbors of an image differ.
        """
        patch, gap, jitter, room = self.layout(images.shape[-1])
        labels = rng.permutations(len(NEIGHBORS))[:, : self.pairs]
        cells = torch.tensor(NEIGHBORS, device=images.device)[labels]
        cells = torch.cat((torch.full_like(cells[:, :1], CENTER), cells), dim=1)
        corners = torch.stack((cells // 3, cells % 3), dim=-1) * (patch + gap)
        corners = (
            corners + rng.integers(room + 1, 1, 2) + rng.integers(2 * jitter + 1, 1 + self.pairs, 2)
        )
        return tiles(images, 1, 1 + self.pairs, patch, corners), labels

    def disguised(self, patches: Tensor, rng: PerImageRng) -> Tensor:
        """Patches (B, P, 3, p, p) as the network sees them: float, some less sharp, of fewer colors."""
        (_, count, *_, side), shape = patches.shape, patches.shape
        patches = to_float(patches).flatten(0, 1)
        share = SHARES[0] + (SHARES[1] - SHARES[0]) * rng.uniform(count).flatten()
        rows = rng.chance(self.downsample, count).flatten().nonzero()[:, 0]
        sides = (share[rows].sqrt() * side).int().clamp(min=1)
        patches = patches.index_copy(0, rows, resharpen(patches[rows], sides))
        if self.color == "drop":
            kept = (
                torch.arange(3, device=patches.device) == rng.integers(3, count).flatten()[:, None]
            )
            noise = NOISE * (_uniform(rng, patches[0].numel() * count).view_as(patches) - 0.5)
            # Without its mean the kept color is no brighter than the noise.
            centerd = patches - patches.mean(dim=(2, 3), keepdim=True)
            patches = torch.where(kept[:, :, None, None], centerd, noise)
        elif self.color == "project":
            matrix = torch.tensor(PROJECTION, device=patches.device)
            patches = mix_colors(patches, matrix.expand(len(patches), 3, 3))
        patches = patches.contiguous(memory_format=torch.channels_last)
        return normalize(patches, self.normalization).view(shape)


def resharpen(images: Tensor, sides: Tensor) -> Tensor:
    """(N, 3, p, p) float down-sampled to `sides` (N,) px by areas, and up-sampled to p px bilinearly."""
    along = torch.from_numpy(_down_and_up(images.shape[-1])).to(images.device)[sides][:, None]
    with torch.autocast(
        images.device.type, enabled=False
    ):  # a product of matrices would be rounded to bfloat16
        return along @ images @ along.transpose(-1, -2)


def _uniform(rng: PerImageRng, count: int) -> Tensor:
    """(B, count) in 0 .. 1, coarsely: six values of 256 steps each from one number that is drawn."""
    bits = rng.integers(1 << 48, -(-count // 6)).view(torch.uint8).unflatten(1, (-1, 8))
    return bits[:, :, :6].flatten(1)[:, :count] / 255


@cache
def _down_and_up(side: int) -> numpy.ndarray:
    """(side + 1, side, side) float32: matrix n makes n px of a line of `side` px, and of these `side` px again."""
    table = np.zeros((side + 1, side, side), dtype=np.float32)
    place = np.arange(side)
    for n in range(1, side + 1):
        cell = np.arange(n)[:, None]
        shared = np.minimum((cell + 1) * side / n, place + 1) - np.maximum(cell * side / n, place)
        down = shared.clip(min=0) * n / side
        middle = ((place + 0.5) * n / side - 0.5).clip(0, n - 1)
        table[n] = (1 - abs(middle - cell)).clip(min=0).T @ down
    return table
