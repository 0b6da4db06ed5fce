"""Jigsaw++ (Noroozi, Vinjimoor, Favaro & Pirsiavash, CVPR 2018): puzzles with occluding tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.pretext._batch_partners import partners
from stages.pretext._jigsaw_base import TILES, JigsawBase
from stages.pretext._permutations import spread_permutations
from transfer.stage.options import option
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng


class JigsawPP(JigsawBase):
    """In which of 701 permutations are the nine tiles? Up to two of them are from another image.

    Loss: cross-entropy over the permutations. The network need not identify the occluding tiles,
    only be robust to them. Shortcuts that are closed: tiles never touch (jitter), the edges of the
    color channels do not line up (shift), color is a weak sign (`grayscale`, `color_projection`),
    and so are brightness and contrast (each tile is normalized by its own mean and standard
    deviation).
    Constants: the released code's, and the paper's share of gray images (the code has 0.5). The
    solver is the one released for Jigsaw, which the release names for Jigsaw++ too.
    """

    paper = "Noroozi, Vinjimoor, Favaro & Pirsiavash, CVPR 2018"

    permutations: int = option(
        701, "number of permutations, the classes of the task", ge=2, le=10_000
    )
    min_hamming_distance: int = option(
        3, "least number of places in which two permutations differ", ge=2, le=9
    )
    occlusions: int = option(
        2,
        "largest number of tiles from another image; 0 to that are equally frequent",
        ge=0,
        le=8,
    )
    grayscale: float = option(0.7, "share of images that are made gray", ge=0, le=1)
    color_projection: float = option(
        0.5, "share of the other images that lose one direction of color", ge=0, le=1
    )

    def table(self) -> numpy.ndarray:
        return spread_permutations(self.permutations, TILES, self.min_hamming_distance)

    def occlude(self, owner: Tensor, source: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor]:
        """Replace up to `occlusions` tiles of each puzzle by tiles of another image of the batch.

        The tiles come from distinct places of one image and land in distinct places, as in the
        released code. A batch of one image stays as it is. The arguments are those of the base.
        """
        batch, puzzles, _ = owner.shape
        if not self.occlusions or batch == 1:
            return owner, source
        count = rng.integers(self.occlusions + 1, puzzles, 1)
        occluded = rng.permutations(TILES, puzzles) < count  # `count` places, all equally likely
        owner = torch.where(occluded, partners(rng, puzzles, 1), owner)
        return owner, torch.where(occluded, rng.permutations(TILES, puzzles), source)
