"""Write features through part files, so that an interrupted extraction resumes at the last one."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias

from transfer.errors import TransferError
from transfer.stage.base import images_input
from transfer.storage.hdf5_tables import TableWriter, encode_strings
from transfer.utils.files import write_atomic
from transfer.utils.formatting import plural
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy

    from transfer.artifacts import Images
    from transfer.stage.context import StageContext

PART = 4096  # images of a part file

# First row -> (row, (B, D) features) of the blocks from that row on, in order.
# No block lies in two parts.
Blocks: TypeAlias = "Callable[[int], Generator[tuple[int, numpy.ndarray], None, None]]"


def write_features(
    context: StageContext,
    images: Images,
    blocks: Blocks,
    dtype: str,
    layer: str,
    space: dict[str, Any],
) -> None:
    """Write `features.h5` of all `images`, with their ids and labels.

    Args:
        context: of the stage; its checkpoints hold the part files.
        images: the packed images.
        blocks: computes the features from a given row on.
        dtype: in which the features are saved.
        layer: name of the layer.
        space: what comparable features have in common (see `transfer/artifacts/features.py`).
    """
    parts = _extract(context, images, blocks, dtype)
    width = np.load(parts[0], mmap_mode="r", allow_pickle=False).shape[1]
    extra = {"ids": encode_strings(images.ids)}
    if images.labels is not None:
        extra["labels"] = images.labels
    columns: dict[str, tuple[tuple[int, ...], str]] = {"features": ((width,), dtype)}
    columns |= {name: ((), values.dtype.str) for name, values in extra.items()}
    attributes = {
        "layer": layer,
        "images": context.input_keys[images_input("images")],
        "space": space,
        "preparation": [],
    }
    with TableWriter(context.folder / "features.h5", len(images), columns, **attributes) as table:
        for part in parts:
            table.append(features=np.load(part, allow_pickle=False))
        table.append(**extra)
    context.figures.update(images=len(images), dimensions=width)


def _extract(context: StageContext, images: Images, blocks: Blocks, dtype: str) -> list[Path]:
    """Write part files of `PART` rows each, except those that an interrupted run finished."""
    starts = range(0, len(images), PART)
    parts = [context.checkpoints / f"part-{number:05}.npy" for number in range(len(starts))]
    complete = 0
    while complete < len(parts) and _is_complete(parts[complete], len(images) - starts[complete]):
        complete += 1
    first_row = complete * PART
    rows: list[numpy.ndarray] = []
    with (
        context.progress(
            "extracting", len(images), "images", min(first_row, len(images))
        ) as progress,
        closing(blocks(first_row)) as remaining,
    ):
        for first, block in remaining:
            with np.errstate(over="ignore"):
                rows.append(block.astype(dtype, copy=False))
            _check_finite(rows[-1], images, first)
            progress.advance(len(block))
            end = first + len(block)
            if end % PART == 0 or end == len(images):
                _save(parts[(end - 1) // PART], np.concatenate(rows))
                rows.clear()
                context.save_progress(f"image {end} of {len(images)}")
            context.pause_point()
    return parts


def _check_finite(block: numpy.ndarray, images: Images, first: int) -> None:
    """Raise TransferError for features that are not finite, naming the first image."""
    bad = ~np.isfinite(block).all(axis=1)
    if bad.any():
        name = images.ids[first + int(bad.argmax())]
        hint = " (too large for float16: set `dtype: float32`)" if block.dtype == np.float16 else ""
        count = plural(int(bad.sum()), "image")
        raise TransferError(f"the features of {count} are not finite, first of {name}{hint}")


def _is_complete(path: Path, rows_left: int) -> bool:
    """Whether an interrupted run finished this part; an unreadable part is extracted again."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).shape[0] == min(PART, rows_left)
    except (OSError, ValueError):
        return False


def _save(path: Path, rows: numpy.ndarray) -> None:
    def write(draft: Path) -> None:
        with open(draft, "wb") as file:
            np.save(file, rows, allow_pickle=False)

    write_atomic(path, write, durable=True)
