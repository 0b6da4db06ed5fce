"""Jigsaw++ (Noroozi, Vinjimoor, Favaro & Pirsiavash, CVPR 2018): a puzzle with some pieces of another image."""

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
    """Which of 701 permutations were the nine tiles put into, when up to two of them are another image's?

    Loss: cross-entropy over the permutations. The occluding tiles are not to be told, only to be seen through.
    Shortcuts that are closed: tiles never touch (jitter), a channel's edges do not line up (shift), colors tell little
    (gray, projection), and neither do brightness and contrast (each tile has its own mean and deviation removed).
    Constants: the released code's, and the paper's share of gray images (the code has 0.5).
    """

    paper = "Noroozi, Vinjimoor, Favaro & Pirsiavash, CVPR 2018"

    permutations: int = option(701, "how many permutations there are to tell apart", ge=2, le=5000)
    min_hamming_distance: int = option(
        3, "places in which any two permutations differ, at least", ge=2, le=9
    )
    occlusions: int = option(
        2, "up to this many tiles are another image's, each number equally often", ge=0, le=8
    )
    grayscale: float = option(0.7, "share of images made gray", ge=0, le=1)
    color_projection: float = option(
        0.5, "share of the other images that lose one direction of color", ge=0, le=1
    )

    def table(self) -> numpy.ndarray:
        return spread_permutations(self.permutations, TILES, self.min_hamming_distance)

    def occlude(self, owner: Tensor, source: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor]:
        """Some places are given tiles of one other image of the batch; a batch of one has no other.

        They come from distinct places of that image and land in distinct places, as in the released code.
        """
        batch, puzzles, _ = owner.shape
        if not self.occlusions or batch == 1:
            return owner, source
        count = rng.integers(self.occlusions + 1, puzzles, 1)
        occluded = rng.permutations(TILES, puzzles) < count  # `count` places, all equally likely
        owner = torch.where(occluded, partners(rng, puzzles, 1), owner)
        return owner, torch.where(occluded, rng.permutations(TILES, puzzles), source)
