"""PCA and whitening of any number of rows.

Every row counts, and sums are in float64 about the first row. Memory does not grow with the number
of rows: it is D x D float64 values (700 MB for D = 9,600), or n x D if there are fewer rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from transfer.errors import TransferError
from transfer.numerics.feature_transforms import Blocks, Note, Step, shifted_sums
from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

NO_VARIANCE = 1e-12  # share of the largest eigenvalue: less is rounding of float32
LEAST_LENGTH = 1e-300  # avoids a division by zero


class Whitening(NamedTuple):
    """Regularizes small eigenvalues before whitening divides by them: they are estimated too small.

    Args:
        floor: least eigenvalue, as a share of the largest.
        shrinkage: share, from 0 to 1, by which all eigenvalues move toward their mean; or
            "ledoit-wolf" for the best estimate of that share.
    """

    floor: float = 0.0
    shrinkage: float | Literal["ledoit-wolf"] | None = None


class CovarianceSpectrum(NamedTuple):
    """The mean of rows, and the largest eigenvalues of their covariance."""

    mean: numpy.ndarray  # (D,)
    values: numpy.ndarray  # (components,) eigenvalues, largest first
    vectors: numpy.ndarray  # (D, components)
    trace: float  # of the whole covariance
    squares: float  # sum of the squared entries of the whole covariance


def fit_pca(
    blocks: Blocks,
    count: int,
    width: int,
    components: int | None,
    whiten: Whitening | None,
    device: torch.device,
    note: Note,
) -> tuple[Step, float]:
    """Fit PCA. Return the step, and the share of the variance that it keeps.

    The covariance C = V diag(l) V^T of the rows has the eigenvalues l, largest first. The step maps
    a row x to (x - mean) V_k. With whitening each component has unit variance:
    (x - mean) V_k diag(l_k)^(-1/2), where `whitening_variances` regularizes l_k.

    Args:
        blocks: starts a pass over all rows.
        count: number of rows.
        width: D, values of a row.
        components: k, number of directions to keep; None: all.
        whiten: whether and how to scale to unit variance.
        device: the device to compute on; it must have float64.
        note: takes notes about directions without variance.
    """
    spectrum = principal_directions(blocks, count, width, components, device, note)
    matrix = spectrum.vectors
    if whiten is not None:
        matrix = matrix / np.sqrt(whitening_variances(spectrum, whiten, blocks, count, note))
    kept = float(spectrum.values.sum() / spectrum.trace)
    return {"mean": spectrum.mean.astype(np.float32), "matrix": matrix.astype(np.float32)}, kept


def principal_directions(
    blocks: Blocks,
    count: int,
    width: int,
    components: int | None,
    device: torch.device,
    note: Note,
) -> CovarianceSpectrum:
    """Return the directions of largest variance, with defined signs; without variance, zeros.

    TransferError for more components than possible, or if all rows are equal.

    Args:
        blocks: starts a pass over all rows.
        count: number of rows.
        width: values of a row.
        components: number of directions; None: all.
        device: the device to compute on.
        note: takes a note about directions without variance.
    """
    limit = min(width, count - 1)
    components = components or limit
    if components > limit or limit < 1:
        raise TransferError(
            f"{components} components of {count} rows of {width} values: at most {limit} exist"
        )
    spectrum = covariance_spectrum(blocks, count, width, components, device)
    values, vectors = spectrum.values, spectrum.vectors
    if values[0] <= 0:
        raise TransferError(
            "all rows are the same, so they have no directions; did the network collapse?"
        )
    # Without variance a direction is arbitrary, and whitening would magnify other rows along it.
    rank = _rank(values)
    vectors[:, rank:] = 0
    if rank < components:
        others = f"the other {components - rank} of {components} are zero"
        note(f"the rows vary in {rank} directions only: {others}")
    # The sign of an eigenvector is arbitrary: make the largest entry positive. Machines then agree
    # if eigenvalues, and the two largest entries, differ by more than rounding.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    vectors *= np.where(largest < 0, -1.0, 1.0)
    return spectrum


def whitening_variances(
    spectrum: CovarianceSpectrum, whiten: Whitening, blocks: Blocks, count: int, note: Note
) -> numpy.ndarray:
    """Return the variances to divide by: max((1 - s) l + s tr(C) / D, floor), largest first.

    Args:
        spectrum: the eigenvalues l of the covariance C (D, D).
        whiten: the floor, as a share of the largest variance, and the shrinkage s.
        blocks: starts a pass over all rows, for Ledoit and Wolf's s.
        count: number of rows.
        note: takes notes about the shrinkage and the floor.
    """
    width, components = spectrum.vectors.shape
    share = whiten.shrinkage or 0
    if share == "ledoit-wolf":
        share = ledoit_wolf(blocks, spectrum, count, width)
        note(f"Ledoit and Wolf's shrinkage of the covariance: {share:.3g}")
    shrunk = (1 - share) * spectrum.values + share * spectrum.trace / width
    least = max(whiten.floor, NO_VARIANCE) * shrunk[0]
    small = int((shrunk[: _rank(spectrum.values)] < least).sum())
    if small:
        note(
            f"{small} of {components} directions have less variance than the floor: they are "
            "scaled to less than unit variance"
        )
    return np.maximum(shrunk, least)


def _rank(values: numpy.ndarray) -> int:
    """The number of eigenvalues that are not rounding."""
    return int((values > NO_VARIANCE * values[0]).sum())


def ledoit_wolf(blocks: Blocks, spectrum: CovarianceSpectrum, count: int, width: int) -> float:
    """Estimate the best shrinkage s of the covariance toward a multiple of the identity: 0 to 1.

    Ledoit & Wolf (2004, "A well-conditioned estimator for large-dimensional covariance matrices"):
    with n rows x of mean zero, S = sum x x^T / n and m = tr(S) / D,

        s = (sum |x x^T - S|^2 / n^2) / |S - m I|^2
          = ((sum |x|^4 / n - |S|^2) / n) / (|S|^2 - D m^2)

    Args:
        blocks: starts a pass over all rows.
        spectrum: the mean, and the trace and squared entries of the covariance.
        count: n.
        width: D.
    """
    fourth = 0.0
    for block in blocks():
        lengths = np.square(block - spectrum.mean).sum(axis=1, dtype=np.float64)
        fourth += float(np.square(lengths).sum())
    biased = (count - 1) / count  # S divides by n, the spectrum's covariance by n - 1
    squares, trace = spectrum.squares * biased**2, spectrum.trace * biased
    noise, spread = (fourth / count - squares) / count, squares - trace**2 / width
    return min(1.0, max(0.0, noise / spread)) if spread > 0 else 1.0


def covariance_spectrum(
    blocks: Blocks, count: int, width: int, components: int, device: torch.device
) -> CovarianceSpectrum:
    """Return the largest eigenvalues and eigenvectors of the covariance.

    With X (n, D) the centered rows, C = X^T X / (n - 1). If n <= D, the eigenvectors u of the
    smaller X X^T / (n - 1) are taken: it has the same eigenvalues, and v = X^T u / |X^T u|.

    Args:
        blocks: starts a pass over all rows.
        count: n, number of rows.
        width: D, values of a row.
        components: number of eigenvalues.
        device: the device to compute on.
    """
    from scipy.linalg import eigh

    if count > width:
        rows = None
        mean, product = _covariance(blocks, count, width, device)
    else:
        mean, rows = _centered_rows(blocks, count, width, device)
        product = rows @ rows.T
    product = product.div_(count - 1).cpu()
    trace, squares, size = float(product.trace()), float(product.square().sum()), len(product)
    # Divide and conquer finds all eigenvalues. For a few, `evr` takes less memory, but much longer
    # if many eigenvalues are close.
    few = 8 * components < size
    method: dict[str, Any] = (
        {"subset_by_index": (size - components, size - 1)} if few else {"driver": "evd"}
    )
    # The transpose of the symmetric matrix is itself in LAPACK's order: no copy of up to 700 MB.
    values, vectors = eigh(product.numpy().T, overwrite_a=True, check_finite=False, **method)
    values = np.maximum(values[::-1][:components], 0)
    vectors = vectors[:, ::-1][:, :components].copy()
    if rows is not None:
        vectors = (rows.T @ torch.from_numpy(vectors).to(device)).cpu().numpy()
        vectors /= np.maximum(np.linalg.norm(vectors, axis=0), LEAST_LENGTH)
    return CovarianceSpectrum(mean.cpu().numpy(), values, vectors, trace, squares)


def _covariance(
    blocks: Blocks, count: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The mean (D,), and the sum X^T X of products of centered rows (D, D)."""
    product = torch.zeros(width, width, dtype=torch.float64, device=device)
    shift, total = shifted_sums(blocks, device, lambda rows: product.addmm_(rows.T, rows))
    product.addr_(total, total, alpha=-1 / count)
    return shift + total / count, product


def _centered_rows(
    blocks: Blocks, count: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The mean (D,), and the centered rows (n, D)."""
    rows, filled = torch.empty(count, width, dtype=torch.float64, device=device), 0
    for block in blocks():
        rows[filled : filled + len(block)] = torch.from_numpy(block)
        filled += len(block)
    shift = rows[0].clone()
    total = rows.sub_(shift).sum(0)
    return shift + total / count, rows.sub_(total / count)
