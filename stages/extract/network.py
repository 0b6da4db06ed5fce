"""Features: what a layer of a trained network says of every image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from stages._layers import check_layers
from transfer.artifacts import Features, Images, Model
from transfer.errors import TransferError
from transfer.lazy import np, torch
from transfer.networks import backbone
from transfer.stage import Images as Reads
from transfer.stage import Stage, option, reads
from transfer.tables import TableWriter, encode_strings
from transfer.training.embed import outputs, pooled

if TYPE_CHECKING:
    from pathlib import Path

    from transfer.plan import Planned
    from transfer.work import Work

PART = 4096  # images between two points from which an interrupted extraction goes on


class ExtractNetwork(Stage):
    """One layer, after its activation, pooled to a small grid. No augmentation; the network is in eval mode."""

    produces = Features
    seeded = False
    images = {"images": Reads("unlabeled")}

    model: str = reads(Model, "the network")
    layer: str | None = option(None, "layer to read, such as conv5; none: the network's deepest convolutional one")
    pool: int = option(5, "side of the grid that a layer's map is pooled to; smaller maps stay as they are", ge=1)
    pooling: Literal["max", "average"] = option("max", "how it is pooled (the paper: max, 5 x 5)")
    dtype: Literal["float16", "float32"] = option("float16", "how features are kept")

    def check(self, planned: Planned) -> None:
        """The model has that layer."""
        check_layers(planned, "layer", [self.layer])

    def run(self, work: Work) -> None:
        model, images = work.inputs["model"], work.images["images"]
        layer = backbone(model.card["backbone"]).resolve_layer(self.layer or model.card["default_layer"])
        parts = self._extract(work, model, images, layer)
        space = {
            "model": work.input_keys["model"],
            "layer": layer,
            "pool": self.pool,
            "pooling": self.pooling,
        }
        facts = {
            "layer": layer,
            "images": work.input_keys["images images"],
            "space": space,
            "preparation": [],
        }
        write_features(work.folder, parts, images, self.dtype, facts)
        work.figures.update(
            images=len(images), dimensions=int(np.load(parts[0], mmap_mode="r", allow_pickle=False).shape[1])
        )

    def _extract(self, work: Work, model: Model, images: Images, layer: str) -> list[Path]:
        """Part files of `PART` rows each; those that an interrupted run finished are kept."""
        starts = range(0, len(images), PART)
        parts = [work.checkpoints / f"part-{number:05}.npy" for number in range(len(starts))]
        done = next((i for i, part in enumerate(parts) if not _whole(part, len(images) - i * PART)), len(parts))
        rows: list[np.ndarray] = []
        with work.progress("extracting", len(images), "images", min(done * PART, len(images))) as progress:
            for first, found in outputs(model, images, [layer], work.machine, start=done * PART):
                block = pooled(found[layer], self.pool, self.pooling)
                rows.append(block.to(getattr(torch, self.dtype)).cpu().numpy())
                self._refuse_bad(rows[-1], images, first)
                progress.advance(len(block))
                if (first + len(block)) % PART == 0 or first + len(block) == len(images):
                    number = (first + len(block) - 1) // PART
                    _save(parts[number], np.concatenate(rows))
                    rows.clear()
                    work.save_progress(f"image {first + len(block)} of {len(images)}")
                work.pause_point()
        return parts

    def _refuse_bad(self, block: np.ndarray, images: Images, first: int) -> None:
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            name = images.ids[first + int(bad.argmax())]
            hint = " (too large for float16: set `dtype: float32`)" if self.dtype == "float16" else ""
            raise TransferError(
                f"the features of {int(bad.sum())} images are not finite numbers, first of {name}{hint}"
            )


def write_features(folder: Path, parts: list[Path], images: Images, dtype: str, facts: dict[str, object]) -> None:
    """Put part files together into `features.h5`, with the ids and labels of `images`."""
    width = np.load(parts[0], mmap_mode="r", allow_pickle=False).shape[1]
    ids = encode_strings(images.ids)
    columns = {"features": ((width,), dtype), "ids": ((), ids.dtype.str)}
    if images.labels is not None:
        columns["labels"] = ((), "int64")
    with TableWriter(folder / "features.h5", len(images), columns, **facts) as table:
        for part in parts:
            table.append(features=np.load(part, allow_pickle=False))
        table.append(ids=ids, **({"labels": images.labels} if images.labels is not None else {}))


def _whole(path: Path, rows_left: int) -> bool:
    """Whether an interrupted run left this part complete; what cannot be read is extracted again."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).shape[0] == min(PART, rows_left)
    except (OSError, ValueError):
        return False


def _save(path: Path, rows: np.ndarray) -> None:
    draft = path.with_suffix(".draft")
    with open(draft, "wb") as file:
        np.save(file, rows, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
