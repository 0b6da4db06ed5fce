"""Features written by part files, so that an interrupted extraction goes on after the last whole one."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias

from transfer.errors import TransferError
from transfer.storage.hdf5_tables import TableWriter, encode_strings
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy

    from transfer.artifacts import Images
    from transfer.stage.context import StageContext

PART = 4096  # images between two points from which an interrupted extraction goes on

# First row -> (row, (B, D) features) for the blocks from that row on, in order; no block lies in two parts.
Blocks: TypeAlias = "Callable[[int], Generator[tuple[int, numpy.ndarray], None, None]]"


def write_features(
    context: StageContext,
    images: Images,
    blocks: Blocks,
    dtype: str,
    layer: str,
    space: dict[str, Any],
) -> None:
    """Write `features.h5` of all `images` from `blocks`, kept as `dtype`, with their ids and labels.

    space: what features must agree in to be compared (see `transfer/artifacts/features.py`).
    """
    parts = _extract(context, images, blocks, dtype)
    width = np.load(parts[0], mmap_mode="r", allow_pickle=False).shape[1]
    others = {"ids": encode_strings(images.ids)} | (
        {} if images.labels is None else {"labels": images.labels}
    )
    columns = {"features": ((width,), dtype)} | {
        name: ((), one.dtype.str) for name, one in others.items()
    }
    facts = {
        "layer": layer,
        "images": context.input_keys["images images"],
        "space": space,
        "preparation": [],
    }
    with TableWriter(context.folder / "features.h5", len(images), columns, **facts) as table:
        for part in parts:
            table.append(features=np.load(part, allow_pickle=False))
        table.append(**others)
    context.figures.update(images=len(images), dimensions=width)


def _extract(context: StageContext, images: Images, blocks: Blocks, dtype: str) -> list[Path]:
    """Part files of `PART` rows each; those that an interrupted run finished are kept."""
    starts = range(0, len(images), PART)
    parts = [context.checkpoints / f"part-{number:05}.npy" for number in range(len(starts))]
    done = next(
        (i for i, part in enumerate(parts) if not _whole(part, len(images) - i * PART)), len(parts)
    )
    rows: list[numpy.ndarray] = []
    with (
        context.progress(
            "extracting", len(images), "images", min(done * PART, len(images))
        ) as progress,
        closing(blocks(done * PART)) as found,
    ):
        for first, block in found:
            with np.errstate(over="ignore"):
                rows.append(block.astype(dtype, copy=False))
            _refuse_bad(rows[-1], images, first)
            progress.advance(len(block))
            end = first + len(block)
            if end % PART == 0 or end == len(images):
                _save(parts[(end - 1) // PART], np.concatenate(rows))
                rows.clear()
                context.save_progress(f"image {end} of {len(images)}")
            context.pause_point()
    return parts


def _refuse_bad(block: numpy.ndarray, images: Images, first: int) -> None:
    bad = ~np.isfinite(block).all(axis=1)
    if bad.any():
        name = images.ids[first + int(bad.argmax())]
        hint = " (too large for float16: set `dtype: float32`)" if block.dtype == np.float16 else ""
        raise TransferError(
            f"the features of {int(bad.sum())} images are not finite numbers, first of {name}{hint}"
        )


def _whole(path: Path, rows_left: int) -> bool:
    """Whether an interrupted run left this part complete; what cannot be read is extracted again."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).shape[0] == min(PART, rows_left)
    except (OSError, ValueError):
        return False


def _save(path: Path, rows: numpy.ndarray) -> None:
    draft = path.with_suffix(".draft")
    with open(draft, "wb") as file:
        np.save(file, rows, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
