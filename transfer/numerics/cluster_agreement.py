"""Agreement of two labelings of the same images, such as clusters and classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import np, sparse

if TYPE_CHECKING:
    import numpy


def contingency(true: numpy.ndarray, named: numpy.ndarray) -> numpy.ndarray:
    """Count the images of each class in each cluster: two (N,) int to (clusters, classes) int64."""
    shape = (int(named.max()) + 1, int(true.max()) + 1)
    return sparse.coo_matrix((np.ones(len(true), np.int64), (named, true)), shape=shape).toarray()


def normalized_mutual_information(first: numpy.ndarray, second: numpy.ndarray) -> float:
    """NMI with the arithmetic mean, from 0 to 1: 1 for the same clusters under any names."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(first, second))


def cluster_agreement(true: numpy.ndarray, named: numpy.ndarray) -> dict[str, float]:
    """Percent: NMI (arithmetic), AMI, ARI, and accuracy under the best one-to-one matching."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    counts = contingency(true, named)
    matched = counts[linear_sum_assignment(-counts)].sum()
    return {
        "nmi": 100.0 * normalized_mutual_information(true, named),
        "ami": 100.0 * float(adjusted_mutual_info_score(true, named)),
        "ari": 100.0 * float(adjusted_rand_score(true, named)),
        "hungarian": 100.0 * float(matched) / len(true),
    }


def size_balance(sizes: numpy.ndarray) -> tuple[float, float]:
    """Entropy and imbalance of (k,) cluster sizes.

    The entropy is a share of that of k equal clusters: 1 where all are equal. The imbalance is
    FAISS's factor: 1 where all are equal, k where one holds everything.
    """
    shares = sizes / sizes.sum()
    filled = shares[shares > 0]
    entropy = -(filled * np.log(filled)).sum() / np.log(max(2, len(sizes)))
    return float(entropy), float(len(sizes) * (shares**2).sum())
