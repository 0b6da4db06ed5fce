"""Nearest centroids of rows, by exact search with FAISS on a CPU or a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.utils.lazy_imports import faiss, np

if TYPE_CHECKING:
    import numpy


class Assigner:
    """Finds the nearest centroids of rows.

    Args:
        centroids: (k, D) float32.
        gpu: the number of a GPU; None: the CPU.
    """

    def __init__(self, centroids: numpy.ndarray, gpu: int | None = None):
        if gpu is None:
            self._index = faiss.IndexFlatL2(centroids.shape[1])
        else:
            # By default FAISS reserves 1.5 GB of scratch memory, and takes the first GPU.
            self._resources = faiss.StandardGpuResources()
            self._resources.setTempMemory(256 << 20)
            config = faiss.GpuIndexFlatConfig()
            config.device = gpu
            self._index = faiss.GpuIndexFlatL2(self._resources, centroids.shape[1], config)
        # FAISS computes |x|^2 - 2xc + |c|^2 in float32: far from the origin, rounding dominates.
        middle = centroids.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = float(np.square(centroids[:1000] - middle).sum(axis=1).mean())
        self._middle = middle if float(middle @ middle) > 16 * spread else None
        centroids = centroids if self._middle is None else centroids - self._middle
        self._index.add(np.ascontiguousarray(centroids, dtype=np.float32))

    def nearest(self, block: numpy.ndarray, count: int = 1) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Return squared distances and centroid numbers of (n, D) float32, both (n, count).

        The nearest centroid comes first. FAISS computes distances from products, which its library
        splits by the number of rows: a distance is exact to about 1e-5 of the squared lengths of
        row and centroid. The order of two centroids closer than that may depend on the other rows.
        TransferError if distances overflow.

        Args:
            block: the rows.
            count: number of centroids per row.
        """
        block = block if self._middle is None else block - self._middle
        distances, labels = self._index.search(np.ascontiguousarray(block), count)
        if labels.size and labels.min() < 0:
            raise TransferError(
                "distances are too large for float32, or not finite; standardize the features"
            )
        return np.maximum(distances, 0), labels


def faiss_gpu(device: str) -> int | None:
    """Return the number of a torch device's GPU; None: the CPU, or a GPU that FAISS cannot use."""
    number = int(device.partition(":")[2] or 0)
    usable = (
        device.startswith("cuda")
        and hasattr(faiss, "StandardGpuResources")
        and faiss.get_num_gpus() > number
    )
    return number if usable else None
