"""Agreement of two labelings of the same images, such as clusters and classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import np, sparse

if TYPE_CHECKING:
    import numpy


def contingency(true: numpy.ndarray, clusters: numpy.ndarray) -> numpy.ndarray:
    """Count the images of each class in each cluster: (clusters, classes) int64.

    Args:
        true: (N,) class of each image.
        clusters: (N,) cluster of each image.
    """
    shape = (int(clusters.max()) + 1, int(true.max()) + 1)
    ones = np.ones(len(true), np.int64)
    return sparse.coo_matrix((ones, (clusters, true)), shape=shape).toarray()


def normalized_mutual_information(first: numpy.ndarray, second: numpy.ndarray) -> float:
    """Return NMI, 2 I(U; V) / (H(U) + H(V)): from 0 to 1, which is for equal partitions."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(first, second))


def cluster_agreement(true: numpy.ndarray, clusters: numpy.ndarray) -> dict[str, float]:
    """Return NMI (arithmetic), AMI, ARI, and the accuracy of the best one-to-one matching.

    All are in percent.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    counts = contingency(true, clusters)
    matched = counts[linear_sum_assignment(-counts)].sum()
    return {
        "nmi": 100.0 * normalized_mutual_information(true, clusters),
        "ami": 100.0 * float(adjusted_mutual_info_score(true, clusters)),
        "ari": 100.0 * float(adjusted_rand_score(true, clusters)),
        "hungarian": 100.0 * float(matched) / len(true),
    }


def size_balance(sizes: numpy.ndarray) -> tuple[float, float]:
    """Return entropy and imbalance of (k,) cluster sizes.

    With shares p of the images, the entropy is -sum p log(p) / log(k): 1 if all are equal. The
    imbalance is FAISS's factor k sum p^2: 1 if all are equal, k if one cluster has all images.
    """
    shares = sizes / sizes.sum()
    filled = shares[shares > 0]
    entropy = -(filled * np.log(filled)).sum() / np.log(max(2, len(sizes)))
    return float(entropy), float(len(sizes) * (shares**2).sum())
