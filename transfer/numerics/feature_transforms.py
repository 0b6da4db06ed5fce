"""Steps that prepare features: centering, scaling, unit length, projections; and their application.

Every row counts, sums are in float64 about the first row, and each step reads the blocks once.
Memory does not grow with the number of rows. `pca.py` fits PCA and whitening.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

# A fitted step: `mean` (D,), then `matrix` (D, D') or `scale` (D,), each optional; `L2` is empty.
Step = dict[str, "numpy.ndarray"]
L2: Step = {}  # the step that scales rows to unit length, which has no values

Blocks = Callable[[], "Iterator[numpy.ndarray]"]  # starts a pass over all rows, (n, D) float32
Note = Callable[[str], None]  # takes a note for the user

PANEL = 4096  # rows of a product; fewer if rows are wide
PANEL_VALUES = 1 << 20  # largest number of values of a panel
ROUNDING = 1.2e-7  # relative, of float32: smaller variations are rounding errors
LEAST_LENGTH = 1e-12  # shorter rows are not scaled to unit length


def transform(steps: list[Step], block: numpy.ndarray) -> numpy.ndarray:
    """Apply fitted steps to one block, (n, D) float32: see `panel_transform`."""
    return panel_transform(steps)(block)


def panel_transform(steps: list[Step]) -> Callable[[numpy.ndarray], numpy.ndarray]:
    """Return a function that applies fitted steps to (n, D) float32 on the CPU.

    Libraries round a product by its shape. So rows are taken in panels of one shape, and the last
    panel is padded with zeros. A row at a given place of its panel gets the same bytes with any
    other rows, on one machine with the same libraries and threads. At another place each value may
    differ by rounding: by at most 1e-5 of the row's length times that of the matrix's column.
    """
    fixed = to_device(steps, torch.device("cpu"))

    def apply(block: numpy.ndarray) -> numpy.ndarray:
        height, parts = panel_rows(block.shape[1]), []
        for first in range(0, len(block), height):
            rows = torch.from_numpy(block[first : first + height])
            # A full panel is copied too: a library may also round by the alignment of rows.
            panel = torch.empty(height, block.shape[1])
            panel[: len(rows)] = rows
            panel[len(rows) :] = 0
            parts.append(transform_on_device(fixed, panel)[: len(rows)])
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).numpy()

    return apply


def panel_rows(width: int) -> int:
    """Return the rows of a panel for rows of `width` values."""
    return max(1, min(PANEL, PANEL_VALUES // max(1, width)))


def to_device(steps: list[Step], device: torch.device) -> list[dict[str, Tensor]]:
    """Copy fitted steps to a device, aligned as torch aligns its tensors."""
    return [
        {name: torch.tensor(values, device=device) for name, values in step.items()}
        for step in steps
    ]


def transform_on_device(steps: list[dict[str, Tensor]], rows: Tensor) -> Tensor:
    """Apply fitted steps to (n, D) float32 on the device of both."""
    for step in steps:
        if step == L2:
            length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
            rows = rows / length.clamp(min=LEAST_LENGTH)
            continue
        rows = rows - step["mean"] if "mean" in step else rows
        if "matrix" in step:
            rows = rows @ step["matrix"]
        elif "scale" in step:
            rows = rows * step["scale"]
    return rows


def random_projection(width: int, outputs: int, seed: int) -> Step:
    """Draw a Gaussian random projection, which nearly keeps distances.

    The matrix R (D, D') has entries from N(0, 1 / D'). For n points, D' = O(log(n) / eps^2) is
    enough to keep all squared distances within a factor of 1 +- eps (Johnson & Lindenstrauss, 1984,
    "Extensions of Lipschitz mappings into a Hilbert space").

    Args:
        width: D, values of a row.
        outputs: D', values of a projected row; TransferError if it is not less than D.
        seed: decides the matrix.
    """
    if outputs >= width:
        raise TransferError(
            f"`project` to {outputs} values of {width}: must be fewer; leave `project` out"
        )
    normal = np.random.RandomState(seed).standard_normal((width, outputs))
    return {"matrix": (normal / np.sqrt(outputs)).astype(np.float32)}


def fit_scaler(blocks: Blocks, width: int, standardize: bool, note: Note) -> Step:
    """Fit the mean, and the deviations to `standardize`; a constant value becomes zero.

    Args:
        blocks: starts a pass over all rows.
        width: values of a row.
        standardize: scale to unit deviation.
        note: takes a note about constant values.
    """
    squares, count = torch.zeros(width, dtype=torch.float64), 0

    def add(rows: Tensor) -> None:
        nonlocal count
        count += len(rows)
        if standardize:
            squares.add_(rows.square_().sum(0))

    shift, total = shifted_sums(blocks, torch.device("cpu"), add)
    mean = shift + total / count
    step = {"mean": mean.numpy().astype(np.float32)}
    if standardize:
        deviation = (squares / count - (total / count).square()).clamp(min=0).sqrt()
        constant = deviation <= ROUNDING * mean.abs()
        if constant.any():
            number = int(constant.sum())
            note(f"{number} of {width} values are the same for all images; they become zero")
        step["scale"] = torch.where(constant, 0, 1 / deviation).numpy().astype(np.float32)
    return step


def shifted_sums(
    blocks: Blocks, device: torch.device, add: Callable[[Tensor], object]
) -> tuple[Tensor, Tensor]:
    """Return the first row, and the sum of all rows minus the first, both (D,) float64.

    Sums about a row rather than about zero lose no digits for large means, and are exact for
    constant values.

    Args:
        blocks: starts a pass over all rows.
        device: the device to compute on.
        add: called with each block minus the first row; it may overwrite the block.
    """
    iterator = iter(blocks())
    first = torch.from_numpy(next(iterator)).to(device)
    shift = first[0].double()
    total = torch.zeros(first.shape[1], dtype=torch.float64, device=device)
    # Allocated once: fresh memory costs more time than the sum.
    buffer = torch.empty(first.shape, dtype=torch.float64, device=device)
    others = (torch.from_numpy(block).to(device) for block in iterator)
    for block in chain([first], others):
        rows = buffer[: len(block)].copy_(block).sub_(shift)
        total += rows.sum(0)
        add(rows)
    return shift, total
