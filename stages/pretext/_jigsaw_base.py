"""What jigsaw and jigsawpp share: the nine tiles, their colors, the network, and how tiles become puzzles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.pretext._permutations import puzzle_tiles
from transfer.stage.base import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.transforms.color import PROJECTION, mix_colors, to_float
from transfer.transforms.geometry import tiles
from transfer.transforms.montage import mosaic
from transfer.transforms.normalize import Normalization, normalize
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.transforms.per_image_rng import PerImageRng

TILES = 9


class JigsawBase(Pretext):
    """Base of the puzzles: a task says which permutations there are, and what else happens to the tiles."""

    normalization = Normalization(per_image=True)

    permutations: int = option(..., "how many permutations there are to tell apart")
    tile_size: int | None = option(
        None, "side of a tile in px; none: 64 of a cell's 85, as published", ge=4
    )
    shift: int = option(
        2, "px that a tile's color channels are shifted against one another, at most", ge=0
    )
    grayscale: float = option(..., "share of images made gray")
    color_projection: float = option(
        ..., "share of the other images that lose one direction of color"
    )
    puzzles_per_image: int = option(
        1, "puzzles made from the same nine embeddings: the trunk is paid for once", ge=1
    )
    embedding_dim: int = option(1024, "values that the trunk makes of a tile", ge=1)
    hidden_dim: int = option(4096, "values of the joint layer", ge=1)
    dropout: float = option(0.5, "after the embedding and after the joint layer", ge=0, lt=1)

    def table(self) -> numpy.ndarray:
        """(permutations, 9) int64: which tile lies at each place; ValueError where there are not so many."""
        raise NotImplementedError

    def validate_plan(self, planned: PlannedStage) -> None:
        """The images' cells have room for the tiles."""
        puzzle_tiles(planned.images["images"].stage.size, self.tile_size, self.shift)

    def validate_build(self, planned: PlannedStage) -> None:
        """There are so many permutations, and the networks fit the tiles."""
        self.table()
        super().validate_build(planned)

    def chance(self, about: DatasetInfo) -> float:
        return 1 / self.permutations

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        """The trunk, shared by the nine tiles, and the head that sees them together."""
        _, tile, _ = puzzle_tiles(about.size, self.tile_size, self.shift)
        embed = nn.Sequential(
            nn.Linear(backbone_feature_dim(backbone, tile), self.embedding_dim),
            nn.ReLU(),
            nn.Dropout(self.dropout),
        )
        head = nn.Sequential(
            nn.Linear(TILES * self.embedding_dim, self.hidden_dim),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(self.hidden_dim, self.permutations),
        )
        return nn.ModuleDict({"backbone": backbone, "embed": embed, "head": head})

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        tiles = self.tiles(images, rng)
        embedded = network["embed"](
            backbone_features(network["backbone"], tiles.flatten(0, 1))
        ).unflatten(0, (len(images), TILES))
        puzzles, labels = self.puzzles(embedded, rng)
        logits = network["head"](puzzles.flatten(0, 1).flatten(1))
        labels = labels.flatten()
        return F.cross_entropy(logits, labels), {
            "accuracy": (logits.argmax(1) == labels).float().mean()
        }

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the image, its tiles in place, and puzzles of them as the head sees them."""
        tiles = self.tiles(images, rng)
        puzzles, _ = self.puzzles(tiles.flatten(2), rng)
        shown = {
            f"puzzle {i + 1}": mosaic(puzzles[:, i].unflatten(2, tiles.shape[2:]))
            for i in range(min(3, self.puzzles_per_image))
        }
        return {"image": images, "tiles": mosaic(tiles), **shown}

    def tiles(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """The nine tiles of each image as the trunk sees them: (B, 3, S, S) uint8 to (B, 9, 3, tile, tile) float."""
        cut = self.cut(images, rng).transpose(1, 2)
        colored = mix_colors(to_float(cut), self.colors(rng)).transpose(1, 2).flatten(0, 1)
        tiles = normalize(colored.contiguous(memory_format=torch.channels_last), self.normalization)
        return tiles.unflatten(0, (len(images), TILES))

    def cut(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """Each image's nine tiles where they lie: (B, 3, S, S) to (B, 9, 3, tile, tile), row by row of the grid."""
        size = images.shape[-1]
        cell, tile, jitter = puzzle_tiles(size, self.tile_size, self.shift)
        room = size - 3 * cell
        # Corners: of the 3 x 3 grid in the image, of the tile in its cell, of each color channel in the tile.
        corner = rng.integers(room + 1, 1, 1, 2)
        corner = (
            corner
            + rng.integers(jitter + 1, TILES, 1, 2)
            + rng.integers(self.shift + 1, TILES, 3, 2)
        )
        cells = torch.arange(TILES, device=images.device)
        corner = corner + cell * torch.stack((cells // 3, cells % 3), dim=-1)[:, None]
        return tiles(images, 3, 3, tile, corner)

    def colors(self, rng: PerImageRng) -> Tensor:
        """(B, 3, 3): for each image one matrix for its colors, the same for its nine tiles."""
        device = rng.device
        gray, kept = rng.uniform(2).unbind(1)
        choices = torch.stack(
            (torch.eye(3), torch.tensor(PROJECTION), torch.full((3, 3), 1 / 3))
        ).to(device)
        return choices[
            torch.where(gray < self.grayscale, 2, torch.where(kept < self.color_projection, 1, 0))
        ]

    def puzzles(self, embedded: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor]:
        """(B, 9, E) to puzzles (B, P, 9, E) and the indices of their permutations (B, P).

        Place j of a puzzle holds tile `permutation[j]`.
        """
        table = torch.from_numpy(self.table()).to(embedded.device)
        labels = rng.integers(self.permutations, self.puzzles_per_image)
        own = torch.arange(len(embedded), device=embedded.device)[:, None, None]
        owner, source = self.occlude(
            own.expand(-1, self.puzzles_per_image, TILES), table[labels], rng
        )
        # A look-up, not an indexing: its gradient is summed in the same order on any number of threads.
        return F.embedding(owner * TILES + source, embedded.flatten(0, 1)), labels

    def occlude(self, owner: Tensor, source: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor]:
        """(B, P, 9) each: whose tile lies at a place of a puzzle, and which of that image's nine."""
        return owner, source
