"""The base of jigsaw and jigsawpp: the nine tiles, their colors, the network and the puzzles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stages.pretext._permutations import puzzle_tiles
from transfer.stage.image_input import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.transforms.color import PROJECTION, mix_colors, to_float
from transfer.transforms.montage import mosaic
from transfer.transforms.normalize import Normalization, normalize
from transfer.transforms.tiles import tiles
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.transforms.per_image_rng import PerImageRng

TILES = 9


class JigsawBase(Pretext):
    """Base of the jigsaw puzzles; a task defines the permutations, and may occlude tiles."""

    normalization = Normalization(per_image=True)

    # MehdiNoroozi/JigsawPuzzleSolver, solver_cfn_jps.prototxt: 350,000 steps of 256 images are 70
    # epochs of ImageNet; a tenth of the rate each 100,000 steps; Caffe's SGD.
    defaults: ClassVar[dict[str, Any]] = {
        "epochs": 70,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "weight_decay": 5e-4,
        "schedule": "step",
        "milestones": [0.286, 0.571, 0.857],
    }

    permutations: int = option(..., "number of permutations, the classes of the task")
    tile_size: int | None = option(
        None, "side of a tile in px; none: 64/85 of its cell's side, as published", ge=4
    )
    jitter: int | None = option(
        None,
        "largest distance of a tile from the corner of its cell in px; none: as much as leaves a "
        "px to the next cell, 18 for tiles of 64 px in cells of 85. Jigsaw's release has 21 with "
        "`shift: 0`",
        ge=0,
    )
    shift: int = option(2, "largest shift between the color channels of a tile, px", ge=0)
    grayscale: float = option(..., "share of images that are made gray")
    color_projection: float = option(
        ..., "share of the other images that lose one direction of color"
    )
    puzzles_per_image: int = option(
        1, "puzzles made from the same nine embeddings, which the trunk computes once", ge=1
    )
    embedding_dim: int = option(1024, "values of a tile's embedding", ge=1)
    hidden_dim: int = option(4096, "units of the layer that sees all tiles", ge=1)
    dropout: float = option(0.5, "dropout after the embedding and the hidden layer", ge=0, lt=1)

    def layout(self, size: int) -> tuple[int, int, int]:
        """Return (cell, tile, jitter) in px for images of `size` px; ValueError without room."""
        return puzzle_tiles(size, self.tile_size, self.shift, self.jitter)

    def table(self) -> numpy.ndarray:
        """Return (permutations, 9) int64, the tile at each place; ValueError for too many."""
        raise NotImplementedError

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise ValueError where the cells of the images have no room for the tiles."""
        self.layout(planned.images["images"].stage.size)

    def validate_build(self, planned: PlannedStage[Any]) -> None:
        """Raise ValueError for too many permutations, or tiles that are too small."""
        self.table()
        super().validate_build(planned)

    def chance(self, dataset: DatasetInfo) -> float:
        return 1 / self.permutations

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return the trunk, which the nine tiles share, and the head, which sees them together."""
        _, tile, _ = self.layout(dataset.size)
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
        """The image, its tiles in place, and up to three puzzles as the head sees them."""
        tiles = self.tiles(images, rng)
        puzzles, _ = self.puzzles(tiles.flatten(2), rng)
        mosaics = {
            f"puzzle {i + 1}": mosaic(puzzles[:, i].unflatten(2, tiles.shape[2:]))
            for i in range(min(3, self.puzzles_per_image))
        }
        return {"image": images, "tiles": mosaic(tiles), **mosaics}

    def tiles(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """Return the trunk's input: (B, 3, S, S) uint8 -> (B, 9, 3, tile, tile) float."""
        cut = self.cut(images, rng).transpose(1, 2)
        colored = mix_colors(to_float(cut), self.colors(rng)).transpose(1, 2).flatten(0, 1)
        tiles = normalize(colored.contiguous(memory_format=torch.channels_last), self.normalization)
        return tiles.unflatten(0, (len(images), TILES))

    def cut(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """Cut out the nine tiles by rows: (B, 3, S, S) -> (B, 9, 3, tile, tile)."""
        size = images.shape[-1]
        cell, tile, jitter = self.layout(size)
        room = size - 3 * cell
        # The sum of three corners: of the 3 x 3 grid in the image, of the tile in its cell, and
        # of each color channel in the tile.
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
        """Return (B, 3, 3): for each image the color matrix of its nine tiles."""
        gray, projected = rng.uniform(2).unbind(1)
        matrices = (torch.eye(3), torch.tensor(PROJECTION), torch.full((3, 3), 1 / 3))
        colored = torch.where(projected < self.color_projection, 1, 0)
        choice = torch.where(gray < self.grayscale, 2, colored)
        return torch.stack(matrices).to(rng.device)[choice]

    def puzzles(self, embedded: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor]:
        """Arrange embeddings (B, 9, E) as puzzles (B, P, 9, E), and return their labels (B, P).

        A label is the index of a permutation; place j of a puzzle holds tile `permutation[j]`.
        """
        table = torch.from_numpy(self.table()).to(embedded.device)
        labels = rng.integers(self.permutations, self.puzzles_per_image)
        own = torch.arange(len(embedded), device=embedded.device)[:, None, None]
        own = own.expand(-1, self.puzzles_per_image, TILES)
        owner, source = self.occlude(own, table[labels], rng)
        # A look-up sums its gradient in the same order on any number of threads; indexing does not.
        return F.embedding(owner * TILES + source, embedded.flatten(0, 1)), labels

    def occlude(self, owner: Tensor, source: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor]:
        """Return both with some tiles replaced; by default with none.

        Args:
            owner: (B, P, 9), the image in the batch that the tile at each place comes from.
            source: (B, P, 9), the number of the tile in that image.
            rng: random numbers for each image.
        """
        return owner, source
