"""k-means++: initial centroids that are far apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    import numpy


def kmeans_plus_plus(sample: numpy.ndarray, k: int, random: numpy.random.RandomState) -> list[int]:
    """Choose k rows of a sample (Arthur & Vassilvitskii 2007, "k-means++").

    The first row is uniform. With d(x) the distance of a row x to the nearest chosen row, each next
    row is drawn with the probability d(x)^2 / sum d^2.

    Args:
        sample: (n, D) float32.
        k: number of rows to choose.
        random: the generator.
    """
    points = torch.from_numpy(sample)
    # Float32 has the most digits for differences about the mean.
    points = points - points.mean(0)
    squares = points.square().sum(1)
    chosen = [int(random.randint(len(sample)))]
    nearest = torch.full((len(sample),), float("inf"))
    while len(chosen) < k:
        last = points[chosen[-1]]
        distances = (squares - 2 * (points @ last) + last.square().sum()).clamp(min=0)
        nearest = torch.minimum(nearest, distances)
        nearest[chosen[-1]] = 0
        cumulative = nearest.double().cumsum(0).numpy()
        target = random.random_sample() * cumulative[-1]
        row = int(np.searchsorted(cumulative, target, side="right"))
        if cumulative[-1] <= 0:
            # The sample has fewer distinct rows than k; Lloyd's iterations fill empty clusters.
            row = int(np.setdiff1d(np.arange(len(sample)), chosen)[0])
        chosen.append(min(row, len(sample) - 1))
    return chosen
