"""Context prediction (Doersch, Gupta & Efros, ICCV 2015): the position of a neighboring patch."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stages.pretext._batch_partners import check_batch
from transfer.errors import InvalidOption
from transfer.stage.image_input import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.transforms.color import PROJECTION, mix_colors, to_float
from transfer.transforms.normalize import Normalization, normalize
from transfer.transforms.tiles import tiles
from transfer.utils.lazy_imports import F, nn, np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.transforms.per_image_rng import PerImageRng

CENTER, NEIGHBORS = 4, (0, 1, 2, 3, 5, 6, 7, 8)  # places of a 3 x 3 grid, row by row
NOISE = 1 / 255  # width of the noise in a dropped color
SHARES = (100 / 96**2, 95**2 / 96**2)  # range of the share of its pixels that a patch is reduced to


class RelativePosition(Pretext):
    """Which of the eight neighbors of the first patch is the second?

    Loss: cross-entropy over the eight. Both patches go through the same network and meet in the
    head. The first is the center of a 3 x 3 grid and serves all pairs of an image.
    Shortcuts that are closed: patches never touch (gap) and do not line up (jitter). Color fringes
    of the lens, which depend on the place in the image, are removed with two of three colors, or
    with one direction of color. Sharpness is a weak sign, because some patches are down-sampled and
    up-sampled again. The place of a patch in the image is no sign, because there is room for all
    eight neighbors.
    Constants: the ratio of patch, gap and jitter is 96 : 48 : 7, as in the released code, where the
    image leaves room for it. That code sums its losses and has no usual learning rate: the recipe
    is OpenSelfSup's, for half its batch. The released code also draws a new size for each image;
    here the size is that of the packed images.
    """

    normalization = Normalization(per_image=True)
    paper = "Doersch, Gupta & Efros, ICCV 2015"

    patch_size: int | None = option(
        None, "side of a patch in px; none: a quarter of the image's side", ge=4
    )
    gap: int | None = option(
        None, "px between patches before jitter; none: half a patch, or the room that is left", ge=1
    )
    jitter: int | None = option(
        None, "largest shift of a patch in px; none: 7/96 of its side", ge=0
    )
    pairs: int = option(
        8, "pairs of each image: the center with so many of its eight neighbors", ge=1, le=8
    )
    color: Literal["drop", "project", "keep"] = option(
        "drop",
        "drop: two of a patch's three colors become noise; "
        "project: one direction of color is removed",
    )
    downsample: float = option(
        0.33,
        "share of patches down-sampled to 100 of 96 x 96 pixels or more, and up-sampled again",
        ge=0,
        le=1,
    )
    embedding_dim: int = option(4096, "values of a patch's embedding", ge=1)
    hidden_dim: int = option(4096, "units of each of the two layers that see both patches", ge=1)

    defaults: ClassVar[dict[str, Any]] = {
        "epochs": 70,
        "optimizer": "sgd",
        "schedule": "step",
        "milestones": [0.429, 0.714],
        "warmup_epochs": 5.0,
    }

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise for images without room for the grid, or batches too small for the norms."""
        self.layout(planned.images["images"].stage.size)
        if self.pairs == 1:
            check_batch(self, planned, "the head's batch norm goes over the pairs of a batch")

    def chance(self, dataset: DatasetInfo) -> float:
        return 1 / len(NEIGHBORS)

    def layout(self, size: int) -> tuple[int, int, int, int]:
        """Return (patch, gap, jitter, room) in px for images of `size` px.

        Three patches and two gaps, with jitter on both ends, leave `room` px to move the grid in.
        InvalidOption where the images have no room for the grid.
        """
        patch = self.patch_size or size // 4
        jitter = round(patch * 7 / 96) if self.jitter is None else self.jitter
        smallest_gap = 2 * jitter + 1 if self.gap is None else self.gap
        if smallest_gap <= 2 * jitter:
            raise InvalidOption(
                "gap",
                f"patches moved by up to {jitter} px can touch across a gap of {smallest_gap} px: "
                f"use a gap of {2 * jitter + 1} px or more, or less jitter",
            )
        room = size - 3 * patch - 2 * jitter
        if room < 2 * smallest_gap:
            largest_patch = max(1, (size - 2 * jitter - 2 * smallest_gap) // 3)
            raise InvalidOption(
                "patch_size",
                f"images of {size} px have no room for three patches of {patch} px, "
                f"{smallest_gap} px or more apart and moved by up to {jitter} px: "
                f"use patches of {largest_patch} px or less, or bigger images",
            )
        gap = self.gap or max(smallest_gap, min(round(patch / 2), room // 2))
        return patch, gap, jitter, room - 2 * gap

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return the network for single patches, and the head, which sees both.

        Their batch norms have no weights.
        """
        patch, *_ = self.layout(dataset.size)

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
        inputs = self.disguise(patches, rng).flatten(0, 1)
        embedded = network["embed"](backbone_features(network["backbone"], inputs))
        center, neighbors = embedded.unflatten(0, (len(images), -1)).split((1, self.pairs), dim=1)
        logits = network["head"](
            torch.cat((center.expand_as(neighbors), neighbors), dim=-1).flatten(0, 1)
        )
        labels = labels.flatten()
        return F.cross_entropy(logits, labels), {
            "accuracy": (logits.argmax(1) == labels).float().mean()
        }

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """The image, its first patches as they are cut, and as the network sees them."""
        patches, _ = self.patches(images, rng)
        disguised, columns = self.disguise(patches, rng), {"image": images}
        for place, name in enumerate(("center", "neighbor 1", "neighbor 2")[: 1 + self.pairs]):
            columns |= {name: patches[:, place], f"{name} as seen": disguised[:, place]}
        return columns

    def patches(self, images: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor]:
        """Cut (B, 3, S, S) images into patches (B, 1 + pairs, 3, patch, patch), the center first.

        The labels (B, pairs) are the neighbors' places; the neighbors of an image differ.
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

    def disguise(self, patches: Tensor, rng: PerImageRng) -> Tensor:
        """Return patches (B, P, 3, p, p) as network input: some less sharp, with fewer colors."""
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
            centered = patches - patches.mean(dim=(2, 3), keepdim=True)
            patches = torch.where(kept[:, :, None, None], centered, noise)
        elif self.color == "project":
            matrix = torch.tensor(PROJECTION, device=patches.device)
            patches = mix_colors(patches, matrix.expand(len(patches), 3, 3))
        patches = patches.contiguous(memory_format=torch.channels_last)
        return normalize(patches, self.normalization).view(shape)


def resharpen(images: Tensor, sides: Tensor) -> Tensor:
    """Resample (N, 3, p, p) float images to `sides` (N,) px by areas, then to p px bilinearly."""
    matrices = torch.from_numpy(_resampling_matrices(images.shape[-1])).to(images.device)
    along = matrices[sides][:, None]
    # Autocast would round a product of matrices to bfloat16.
    with torch.autocast(images.device.type, enabled=False):
        return along @ images @ along.transpose(-1, -2)


def _uniform(rng: PerImageRng, count: int) -> Tensor:
    """Draw (B, count) from 256 steps of 0 .. 1, six values from each random number."""
    bits = rng.integers(1 << 48, -(-count // 6)).view(torch.uint8).unflatten(1, (-1, 8))
    return bits[:, :, :6].flatten(1)[:, :count] / 255


@cache
def _resampling_matrices(side: int) -> numpy.ndarray:
    """Return (side + 1, side, side) float32; matrix n resamples a line of px to n px and back."""
    table = np.zeros((side + 1, side, side), dtype=np.float32)
    place = np.arange(side)
    for n in range(1, side + 1):
        cell = np.arange(n)[:, None]
        shared = np.minimum((cell + 1) * side / n, place + 1) - np.maximum(cell * side / n, place)
        down = shared.clip(min=0) * n / side
        middle = ((place + 0.5) * n / side - 0.5).clip(0, n - 1)
        table[n] = (1 - abs(middle - cell)).clip(min=0).T @ down
    return table
