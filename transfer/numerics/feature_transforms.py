"""Fitting and applying what is done to features before they are learned from: means, scales, directions, projections.

Every row counts, sums are in float64 about the first row, and blocks are read once a step: memory does not grow with
the number of rows. Directions need D x D float64 values (700 MB for 9,600), or n x D where there are fewer rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from transfer.errors import TransferError
from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    import numpy
    import torch as torch_types

Step = dict[
    str, "numpy.ndarray"
]  # a fitted step: `mean` and `matrix` or `scale`; empty: rows to unit length
Blocks = Callable[[], "Iterator[numpy.ndarray]"]  # (n, D) float32
Note = Callable[[str], None]  # is told what a person should know
PANEL = 4096  # rows that go through a product at once; fewer where they are wide
PANEL_VALUES = 1 << 20  # values of a panel, at most
ROUNDING = 1.2e-7  # relative, of float32: what varies less than this does not vary
NO_VARIANCE = 1e-12  # a share of the largest eigenvalue: what is left of rounding in float32


def transform(steps: list[Step], block: numpy.ndarray) -> numpy.ndarray:
    """Map one block of (n, D) float32 through fitted steps: see `panel_transform`."""
    return panel_transform(steps)(block)


def panel_transform(steps: list[Step]) -> Callable[[numpy.ndarray], numpy.ndarray]:
    """Return the map of (n, D) float32 through fitted steps, on the CPU.

    Libraries round a product by its shape. So rows are taken in panels of one shape, and the last
    one is padded with zeros. A row at one place of its panel gets the same bytes whatever rows are
    beside it, on one machine with the same libraries and threads. At another place each value may
    differ by rounding: by at most 1e-5 of the row's length times that of the matrix's column.
    """
    fixed = to_device(steps, torch.device("cpu"))

    def mapped(block: numpy.ndarray) -> numpy.ndarray:
        height, parts = panel_rows(block.shape[1]), []
        for first in range(0, len(block), height):
            rows = torch.from_numpy(block[first : first + height])
            # A full panel is copied too: a library may also round by the alignment of rows.
            panel = torch.empty(height, block.shape[1])
            panel[: len(rows)] = rows
            panel[len(rows) :] = 0
            parts.append(transform_on_device(fixed, panel)[: len(rows)])
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).numpy()

    return mapped


def panel_rows(width: int) -> int:
    """Rows of a panel for rows of `width` values."""
    return max(1, min(PANEL, PANEL_VALUES // max(1, width)))


def to_device(steps: list[Step], device: torch_types.device) -> list[dict[str, torch_types.Tensor]]:
    """Fitted steps for `transform_on_device`: copies, aligned as torch aligns its tensors."""
    return [
        {name: torch.tensor(values, device=device) for name, values in step.items()}
        for step in steps
    ]


def transform_on_device(
    steps: list[dict[str, torch_types.Tensor]], rows: torch_types.Tensor
) -> torch_types.Tensor:
    """(n, D) float32 through fitted steps, on the device that both are on."""
    for step in steps:
        if not step:
            rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1e-12)
            continue
        rows = rows - step["mean"] if "mean" in step else rows
        if "matrix" in step:
            rows = rows @ step["matrix"]
        elif "scale" in step:
            rows = rows * step["scale"]
    return rows


def random_projection(width: int, wanted: int, seed: int) -> Step:
    """A random projection that keeps distances, nearly (Johnson & Lindenstrauss, 1984): Gaussian, of the seed alone."""
    if wanted >= width:
        raise TransferError(
            f"`project` to {wanted} values of {width}: it is for fewer than there are; leave it out"
        )
    drawn = np.random.RandomState(seed).standard_normal((width, wanted))
    return {"matrix": (drawn / np.sqrt(wanted)).astype(np.float32)}


def fit_pca(
    blocks: Blocks,
    count: int,
    width: int,
    wanted: int | None,
    whiten: Whitening | None,
    device: torch_types.device,
    note: Note,
) -> tuple[Step, float]:
    """The `wanted` directions of the largest variance (none: all), and their share of it.

    With `whiten` each is scaled to unit variance, as far as that says.
    """
    limit = min(width, count - 1)
    wanted = wanted or limit
    if wanted > limit or limit < 1:
        raise TransferError(
            f"{wanted} components of {count} rows of {width} values: at most {limit} can be had"
        )
    found = covariance_spectrum(blocks, count, width, wanted, device)
    values, vectors = found.values, found.vectors
    if values[0] <= 0:
        raise TransferError(
            "all rows are the same: they have no directions. Did the network collapse?"
        )
    # Where nothing varies, a direction is arbitrary, and another set's rows would be blown up along it.
    rank = int((values > NO_VARIANCE * values[0]).sum())
    vectors[:, rank:] = 0
    if rank < wanted:
        note(
            f"the rows vary in {rank} directions only: the other {wanted - rank} of {wanted} are zero"
        )
    # An eigenvector's sign means nothing: the largest entry is made positive, so that machines agree
    # wherever eigenvalues, and the two largest entries, differ by more than rounding.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    vectors *= np.where(largest < 0, -1.0, 1.0)
    if whiten is not None:
        share = whiten.shrinkage
        if share == "ledoit-wolf":
            share = ledoit_wolf(blocks, found, count, width)
            note(f"Ledoit and Wolf's shrinkage of the covariance: {share:.3g}")
        shrunk = (1 - (share or 0)) * values + (share or 0) * found.trace / width
        least = max(whiten.floor, NO_VARIANCE) * shrunk[0]
        small = int((shrunk[:rank] < least).sum())
        if small:
            note(
                f"{small} of {wanted} directions have less variance than the floor: they are not blown up to one"
            )
        vectors /= np.sqrt(np.maximum(shrunk, least))
    kept = float(values.sum() / found.trace)
    return {"mean": found.mean.astype(np.float32), "matrix": vectors.astype(np.float32)}, kept


class Whitening(NamedTuple):
    """What variances are taken for where they are divided by, because estimates of small ones are too small."""

    floor: float = 0.0  # a share of the largest, which none is taken for less than
    shrinkage: float | Literal["ledoit-wolf"] | None = (
        None  # a share, by which all are drawn toward their mean
    )


class CovarianceSpectrum(NamedTuple):
    """The mean (D,), the largest eigenvalues of the covariance and their vectors (D, wanted); of the whole covariance
    its trace and the sum of its squared entries."""

    mean: numpy.ndarray
    values: numpy.ndarray
    vectors: numpy.ndarray
    trace: float
    squares: float


def ledoit_wolf(blocks: Blocks, found: CovarianceSpectrum, count: int, width: int) -> float:
    """How far the covariance is best drawn toward a multiple of the identity (Ledoit & Wolf, 2004): 0 to 1."""
    fourth = 0.0
    for block in blocks():
        fourth += float(
            np.square(np.square(block - found.mean).sum(axis=1, dtype=np.float64)).sum()
        )
    biased = (count - 1) / count  # theirs divides by n
    squares, trace = found.squares * biased**2, found.trace * biased
    noise, spread = (fourth / count - squares) / count, squares - trace**2 / width
    return min(1.0, max(0.0, noise / spread)) if spread > 0 else 1.0


def covariance_spectrum(
    blocks: Blocks, count: int, width: int, wanted: int, device: torch_types.device
) -> CovarianceSpectrum:
    """The `wanted` largest directions of the covariance.

    Fewer rows than values (a smoke run of 256 images of 9,600 values): of their inner products, count by count.
    """
    from scipy.linalg import eigh

    if count > width:
        product = torch.zeros(width, width, dtype=torch.float64, device=device)
        shift, total = _sums(blocks, device, lambda rows: product.addmm_(rows.T, rows))
        mean = shift + total / count
        product.addr_(total, total, alpha=-1 / count)
    else:
        rows, filled = torch.empty(count, width, dtype=torch.float64, device=device), 0
        for block in blocks():
            rows[filled : filled + len(block)] = torch.from_numpy(block)
            filled += len(block)
        shift = rows[0].clone()
        total = rows.sub_(shift).sum(0)
        mean = shift + total / count
        product = rows.sub_(total / count) @ rows.T
    product = product.div_(count - 1).cpu()
    trace, squares, size = float(product.trace()), float(product.square().sum()), len(product)
    # Symmetric, so its transpose is itself in LAPACK's order: no copy of what may be D x D = 700 MB. Divide and
    # conquer finds all; for a few, `evr` takes less memory, but much longer where many eigenvalues are close.
    few = {"subset_by_index": (size - wanted, size - 1)} if 8 * wanted < size else {"driver": "evd"}
    values, vectors = eigh(product.numpy().T, overwrite_a=True, check_finite=False, **few)
    values, vectors = np.maximum(values[::-1][:wanted], 0), vectors[:, ::-1][:, :wanted].copy()
    if count <= width:
        vectors = (rows.T @ torch.from_numpy(vectors).to(device)).cpu().numpy()
        vectors /= np.maximum(np.linalg.norm(vectors, axis=0), 1e-300)
    return CovarianceSpectrum(mean.cpu().numpy(), values, vectors, trace, squares)


def fit_scaler(blocks: Blocks, width: int, standardize: bool, note: Note) -> Step:
    """The mean, and the deviations to `standardize`; a value that does not vary becomes zero."""
    squares, count = torch.zeros(width, dtype=torch.float64), 0

    def add(rows: torch_types.Tensor) -> None:
        nonlocal count
        count += len(rows)
        if standardize:
            squares.add_(rows.square_().sum(0))

    shift, total = _sums(blocks, torch.device("cpu"), add)
    mean = shift + total / count
    step = {"mean": mean.numpy().astype(np.float32)}
    if standardize:
        deviation = (squares / count - (total / count).square()).clamp(min=0).sqrt()
        constant = deviation <= ROUNDING * mean.abs()
        if constant.any():
            note(
                f"{int(constant.sum())} of {width} values are the same for all images; they become zero"
            )
        step["scale"] = torch.where(constant, 0, 1 / deviation).numpy().astype(np.float32)
    return step


def _sums(
    blocks: Blocks, device: torch_types.device, add: Callable[[torch_types.Tensor], object]
) -> tuple[torch_types.Tensor, torch_types.Tensor]:
    """The first row, and the sum of all rows less the first, both float64; `add` is given each block of those.

    Sums about some row rather than about zero: large means cost no digits, and what is constant is so exactly.
    """
    shift = total = room = None
    for block in blocks():
        rows = torch.from_numpy(block).to(device)
        if shift is None:
            shift, total = (
                rows[0].double(),
                torch.zeros(rows.shape[1], dtype=torch.float64, device=device),
            )
            room = torch.empty(
                rows.shape, dtype=torch.float64, device=device
            )  # once: fresh memory costs more than the sum
        rows = room[: len(rows)].copy_(rows).sub_(shift)
        total += rows.sum(0)
        add(rows)
    return shift, total
