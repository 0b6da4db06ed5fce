"""The color bins of colorization, and the soft encoding of a pixel's color in them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from transfer.transforms.color import rgb_to_lab
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor

GRID = 10  # distance between two bins, in a and in b
NEIGHBORS = 10  # bins that a pixel's color is spread over
SIGMA = 5.0  # of the Gaussian that spreads it
HALF = 128  # a and b lie within -128..127
CELL = 5  # side in a and b of a cell, whose colors share their near bins


@lru_cache(maxsize=1)
def color_bins() -> Tensor:
    """Return (261, 2): the bins in a and b, on a grid of 10.

    A grid point is a bin if it is the nearest one to at least one of the 2^24 sRGB colors. The
    published list has 313 bins, and its rule is unpublished; some of them are nearest to no color.
    The six faces of the color cube, 256 x 256 colors each, are enough: from any color inside, a
    change of L alone leads to a face.
    """
    with torch.inference_mode(False):  # the cached tensor must work with gradients too
        line = torch.linspace(0, 1, 256)
        u, v = torch.meshgrid(line, line, indexing="ij")
        faces = []
        for end in (torch.zeros_like(u), torch.ones_like(u)):
            faces += [torch.stack(face) for face in ((end, u, v), (u, end, v), (u, v, end))]
        ab = rgb_to_lab(torch.stack(faces))[:, 1:].movedim(1, -1).flatten(0, 2)
        return (ab / GRID).round().unique(dim=0) * GRID


@lru_cache(maxsize=1)
def near_bins() -> Tensor:
    """Return (52 * 52, K): for each cell of 5 x 5 in a and b, the bins that can be near its colors.

    These are all bins that can be among the ten nearest of a color in the cell. The result is
    exact: a bin that is farther from the cell's center than the tenth nearest, by more than the
    cell's diameter, is among the ten nearest of no color in the cell. A search of 22 bins takes a
    fifth of the time of a search of 261.
    """
    with torch.inference_mode(False):
        line = (torch.arange(2 * HALF // CELL + 1) - HALF // CELL) * float(CELL)
        distances = torch.cdist(torch.cartesian_prod(line, line), color_bins())
        ordered = distances.sort(dim=1, stable=True)
        tenth = ordered.values[:, NEIGHBORS - 1 : NEIGHBORS]
        reach = tenth + CELL * 2**0.5 + 0.01  # 0.01 for rounding
        return ordered.indices[:, : int((distances <= reach).sum(1).max())].contiguous()


def soft_bins(ab: Tensor, bins: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ten nearest bins of each color (P, 10), nearest first, and their shares (P, 10).

    The shares of a color sum to 1.

    Args:
        ab: colors (P, 2).
        bins: `color_bins()` on the colors' device.
        near: `near_bins()` on the colors' device.
    """
    row, column = ((ab / CELL).round().long() + HALF // CELL).unbind(1)
    candidates = near[row * (2 * HALF // CELL + 1) + column]
    a, b = bins[candidates].unbind(2)
    squares = (ab[:, :1] - a) ** 2 + (ab[:, 1:] - b) ** 2
    nearest = squares.topk(NEIGHBORS, largest=False)
    return candidates.gather(1, nearest.indices), torch.softmax(-nearest.values / (2 * SIGMA**2), 1)


def rebalancing_weights(prior: Tensor, alpha: float, gamma: float) -> Tensor:
    """Return the bins' weights (Q,): 1 / ((1 - gamma) prior + gamma / Q)^alpha, of mean 1.

    Args:
        prior: (Q,), the bins' shares of all pixels; the mean is taken over them.
        alpha: the weight of rare colors, 0 to 1.
        gamma: share of the uniform distribution.
    """
    weights = ((1 - gamma) * prior + gamma / len(prior)) ** -alpha
    return weights / (prior * weights).sum()


def count_colors(ab: Tensor) -> Tensor:
    """Return (65536,) int64: how often each color of (P, 2), rounded to 1, occurs."""
    a, b = (ab.round().long() + HALF).unbind(1)
    return torch.bincount(2 * HALF * a + b, minlength=(2 * HALF) ** 2)


def bin_shares(counts: Tensor) -> Tensor:
    """Return (Q,): the bins' shares of all counted pixels, which sum to 1.

    Each pixel is spread over its nearest bins as in the loss. So the shares are smoothed as in the
    paper, by a Gaussian of the same sigma.
    """
    bins, seen = color_bins(), counts.nonzero()[:, 0]
    ab = torch.stack((seen // (2 * HALF), seen % (2 * HALF)), 1).float() - HALF
    index, shares = soft_bins(ab, bins, near_bins())
    total = torch.zeros(len(bins), dtype=torch.float64)
    total.index_add_(0, index.flatten(), (shares * counts[seen, None].double()).flatten())
    return (total / total.sum()).float()
