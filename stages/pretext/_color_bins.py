"""The colors that colorization tells apart, and how a pixel's own color is written in them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from transfer.transforms.color import rgb_to_lab
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor

GRID = 10  # between two bins, in a and in b
NEIGHBORS = 10  # bins that a pixel's color is spread over
SIGMA = 5.0  # of the Gaussian by which it is
HALF = 128  # a and b lie within -128..127
CELL = 5  # of a and b, in which colors have their near bins in common


@lru_cache(maxsize=1)
def color_bins() -> Tensor:
    """(261, 2): the points of a grid of 10 in a and b that are the nearest to at least one of the 2^24 sRGB colors.

    The published list has 313, its rule unpublished; some of them no color is nearest to. It is enough to look at the
    six faces of the color cube, 256 x 256 colors each: from any color inside, changing L alone leads to a face.
    """
    with torch.inference_mode(False):  # what is kept must serve for gradients too
        line = torch.linspace(0, 1, 256)
        u, v = torch.meshgrid(line, line, indexing="ij")
        ends = (torch.zeros_like(u), torch.ones_like(u))
        faces = torch.stack(
            [torch.stack(face) for end in ends for face in ((end, u, v), (u, end, v), (u, v, end))]
        )
        ab = rgb_to_lab(faces)[:, 1:].movedim(1, -1).flatten(0, 2)
        return (ab / GRID).round().unique(dim=0) * GRID


@lru_cache(maxsize=1)
def near_bins() -> Tensor:
    """(52 * 52, K): for every cell of 5 x 5 in a and b, all bins that can be among the ten nearest of a color in it.

    Nothing is approximated: a bin that is farther from the cell's middle than the tenth nearest, by more than the
    cell's diameter, is among the ten nearest of no color in the cell. Searching 22 bins takes a fifth of 261's time.
    """
    with torch.inference_mode(False):
        line = (torch.arange(2 * HALF // CELL + 1) - HALF // CELL) * float(CELL)
        distances = torch.cdist(torch.cartesian_prod(line, line), color_bins())
        ordered = distances.sort(dim=1, stable=True)
        reach = (
            ordered.values[:, NEIGHBORS - 1 : NEIGHBORS] + CELL * 2**0.5 + 0.01
        )  # and some for rounding
        return ordered.indices[:, : int((distances <= reach).sum(1).max())].contiguous()


def soft_bins(ab: Tensor, bins: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Colors (P, 2) to their ten nearest bins (P, 10), nearest first, and the shares of each, which sum to one.

    `bins` and `near` are `color_bins()` and `near_bins()`, on the colors' device.
    """
    row, column = ((ab / CELL).round().long() + HALF // CELL).unbind(1)
    candidates = near[row * (2 * HALF // CELL + 1) + column]
    a, b = bins[candidates].unbind(2)
    squares = (ab[:, :1] - a) ** 2 + (ab[:, 1:] - b) ** 2
    nearest = squares.topk(NEIGHBORS, largest=False)
    return candidates.gather(1, nearest.indices), torch.softmax(-nearest.values / (2 * SIGMA**2), 1)


def rebalancing_weights(prior: Tensor, alpha: float, gamma: float) -> Tensor:
    """(Q,) shares of the bins to weights: 1 / ((1 - gamma) prior + gamma / Q)^alpha, of mean 1 over `prior`."""
    weights = ((1 - gamma) * prior + gamma / len(prior)) ** -alpha
    return weights / (prior * weights).sum()


def count_colors(ab: Tensor) -> Tensor:
    """Colors (P, 2) to how often each was seen, to the unit: (65536,) int64, of any number of pixels."""
    a, b = (ab.round().long() + HALF).unbind(1)
    return torch.bincount(2 * HALF * a + b, minlength=(2 * HALF) ** 2)


def bin_shares(counts: Tensor) -> Tensor:
    """(Q,), summing to one: the bins' shares of all counted pixels, each spread over its nearest bins as in the loss.

    So the shares are smoothed as in the paper, by a Gaussian of the same sigma.
    """
    bins, seen = color_bins(), counts.nonzero()[:, 0]
    ab = torch.stack((seen // (2 * HALF), seen % (2 * HALF)), 1).float() - HALF
    index, shares = soft_bins(ab, bins, near_bins())
    total = torch.zeros(len(bins), dtype=torch.float64)
    total.index_add_(0, index.flatten(), (shares * counts[seen, None].double()).flatten())
    return (total / total.sum()).float()
