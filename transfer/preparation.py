"""Fitting and applying what is done to features before they are clustered: means, scales, principal directions.

Every row counts, sums are in float64 about the first row, and blocks are read once a step: memory does not grow with
the number of rows. Directions need D x D float64 values (700 MB for 9,600), or n x D where there are fewer rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.lazy import np, torch

if TYPE_CHECKING:
    import numpy
    import torch as torch_types

Step = dict[str, "numpy.ndarray"]  # a fitted step: `mean` and `matrix` or `scale`; empty: rows to unit length
Blocks = Callable[[], "Iterator[numpy.ndarray]"]  # (n, D) float32
Note = Callable[[str], None]  # is told what a person should know
ROUNDING = 1.2e-7  # relative, of float32: what varies less than this does not vary
NO_VARIANCE = 1e-12  # a share of the largest eigenvalue: what is left of rounding in float32


def apply(steps: list[Step], block: numpy.ndarray) -> numpy.ndarray:
    """(n, D) float32 through fitted steps; a row's result is the same to the bit, whatever rows are beside it."""
    if len(block) == 1:  # one row would take another way, with other rounding, through the product
        return apply(steps, np.repeat(block, 2, axis=0))[:1]
    rows = torch.from_numpy(block)
    for step in steps:
        if not step:
            rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1e-12)
            continue
        rows = rows - torch.from_numpy(step["mean"])
        if "matrix" in step:
            rows = rows @ torch.from_numpy(step["matrix"])
        elif "scale" in step:
            rows *= torch.from_numpy(step["scale"])
    return rows.numpy()


def directions(
    blocks: Blocks,
    count: int,
    width: int,
    wanted: int | None,
    floor: float | None,
    device: torch_types.device,
    note: Note,
) -> tuple[Step, float]:
    """The `wanted` directions of the largest variance (none: all), and their share of it.

    With a `floor` each is scaled to unit variance; an eigenvalue counts as no smaller than this share of the largest.
    """
    limit = min(width, count - 1)
    wanted = wanted or limit
    if wanted > limit or limit < 1:
        raise TransferError(f"{wanted} components of {count} rows of {width} values: at most {limit} can be had")
    mean, values, vectors, total = principal(blocks, count, width, wanted, device)
    if values[0] <= 0:
        raise TransferError("all rows are the same: they have no directions. Did the network collapse?")
    # Where nothing varies, a direction is arbitrary, and another set's rows would be blown up along it.
    rank = int((values > NO_VARIANCE * values[0]).sum())
    vectors[:, rank:] = 0
    if rank < wanted:
        note(f"the rows vary in {rank} directions only: the other {wanted - rank} of {wanted} are zero")
    # An eigenvector's sign means nothing: the largest entry is made positive, so that every machine agrees.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    vectors *= np.where(largest < 0, -1.0, 1.0)
    if floor is not None:
        least = max(floor, NO_VARIANCE) * values[0]
        small = int((values[:rank] < least).sum())
        if small:
            note(f"{small} of {wanted} directions have less variance than the floor: they are not blown up to one")
        vectors /= np.sqrt(np.maximum(values, least))
    return {"mean": mean.astype(np.float32), "matrix": vectors.astype(np.float32)}, float(values.sum() / total)


def principal(
    blocks: Blocks, count: int, width: int, wanted: int, device: torch_types.device
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, float]:
    """Mean (D,), the `wanted` largest eigenvalues of the covariance, their vectors (D, wanted), the sum of all.

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
    trace, size = float(product.trace()), len(product)
    # Symmetric, so its transpose is itself in LAPACK's order: no copy of what may be D x D = 700 MB. Divide and
    # conquer finds all; for a few, `evr` takes less memory, but much longer where many eigenvalues are close.
    few = {"subset_by_index": (size - wanted, size - 1)} if 8 * wanted < size else {"driver": "evd"}
    values, vectors = eigh(product.numpy().T, overwrite_a=True, check_finite=False, **few)
    values, vectors = np.maximum(values[::-1][:wanted], 0), vectors[:, ::-1][:, :wanted].copy()
    if count <= width:
        vectors = (rows.T @ torch.from_numpy(vectors).to(device)).cpu().numpy()
        vectors /= np.maximum(np.linalg.norm(vectors, axis=0), 1e-300)
    return mean.cpu().numpy(), values, vectors, trace


def scaling(blocks: Blocks, width: int, standardise: bool, note: Note) -> Step:
    """The mean, and the deviations to `standardise`; a value that does not vary becomes zero."""
    squares, count = torch.zeros(width, dtype=torch.float64), 0

    def add(rows: torch_types.Tensor) -> None:
        nonlocal count
        count += len(rows)
        if standardise:
            squares.add_(rows.square_().sum(0))

    shift, total = _sums(blocks, torch.device("cpu"), add)
    mean = shift + total / count
    step = {"mean": mean.numpy().astype(np.float32)}
    if standardise:
        deviation = (squares / count - (total / count).square()).clamp(min=0).sqrt()
        constant = deviation <= ROUNDING * mean.abs()
        if constant.any():
            note(f"{int(constant.sum())} of {width} values are the same for all images; they become zero")
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
            shift, total = rows[0].double(), torch.zeros(rows.shape[1], dtype=torch.float64, device=device)
            room = torch.empty(
                rows.shape, dtype=torch.float64, device=device
            )  # once: fresh memory costs more than the sum
        rows = room[: len(rows)].copy_(rows).sub_(shift)
        total += rows.sum(0)
        add(rows)
    return shift, total
