"""Runs one stage on handmade images, without a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from transfer.artifacts import Images, write_json
from transfer.stage.base import Stage
from transfer.stage.context import StageContext, StopFlag
from transfer.storage.hdf5_tables import encode_strings, write_table
from transfer.utils.runtime import Runtime

PINNED_ON = ("2.15", "AVX512")  # torch and processor


def pack_images(
    folder: Path,
    pixels: np.ndarray,
    labels: np.ndarray | None = None,
    name: str = "train",
    ids: list[str] | None = None,
) -> Images:
    """Pack a split of (N, S, S, 3) uint8 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", pixels)
    columns = {"ids": encode_strings(ids or [f"{name}/{row}" for row in range(len(pixels))])}
    write_table(
        folder / "index.h5",
        columns | ({} if labels is None else {"labels": labels.astype(np.int64)}),
    )
    classes = [] if labels is None else [str(c) for c in range(int(labels.max()) + 1)]
    write_json(folder / "images.json", {"size": pixels.shape[1], "split": name, "classes": classes})
    return Images(folder)


def shuffled(folder: Path, images: Images) -> Images:
    """Pack the same images with the same ids, in another order on disk."""
    assert images.labels is not None
    order = np.random.RandomState(5).permutation(len(images))
    ids = [images.ids[row] for row in order]
    return pack_images(folder, np.array(images.pixels)[order], images.labels[order], ids=ids)


def pinned(figures: dict[str, float], elsewhere: float) -> Any:
    """Equal to the written digits on the machine of the pins; within `elsewhere` on others."""
    here = (
        torch.__version__.partition("+")[0].rpartition(".")[0],
        torch.backends.cpu.get_cpu_capability(),
    )
    return pytest.approx(figures, abs=0.0051 if here == PINNED_ON else elsewhere)


def make_work(
    folder: Path,
    images: dict[str, Images] | None = None,
    inputs: dict[str, Any] | None = None,
    seed: int = 0,
    **runtime: Any,
) -> StageContext:
    """Return a context on one CPU thread in float32."""
    (folder / "made").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    images, inputs = images or {}, inputs or {}
    keys = {
        **{name: f"key of {name}" for name in inputs},
        **{f"{role} images": f"key of {role}" for role in images},
    }
    settings = {"device_name": "cpu", "precision_name": "float32", "requested_threads": 1} | runtime
    return StageContext(
        folder=folder / "made",
        checkpoints=folder / "checkpoints",
        inputs=inputs,
        images=images,
        runtime=Runtime(**settings),
        seed=seed,
        stop=StopFlag(),
        label="stage",
        key="key",
        input_keys=keys,
        quiet=True,
    )


def run_stage(
    stage: Stage, folder: Path, images: dict[str, Images] | None = None, **inputs: Any
) -> Any:
    """Run `stage` in `folder`, and return its artifact."""
    work = make_work(folder, images, inputs)
    stage.run(work)
    return stage.produces(work.folder)


def stop_after(work: StageContext, pauses: int) -> None:
    """Set the stop flag at a pause point; the next step saves and stops, as after a signal."""
    left, pause = iter(range(pauses)), work.pause_point

    def pause_point() -> None:
        if next(left, None) is None:
            work.stop.number = 15
            if not (work.checkpoints / "progress.json").exists():
                return
        pause()

    work.pause_point = pause_point


class StopsAt(StageContext):
    """A context whose stop flag is set after `stop_at` pause points."""

    stop_at: int
    steps = 0

    def pause_point(self) -> None:
        self.steps += 1
        if self.steps == self.stop_at - 1:
            self.stop.number = 15  # the next step is saved first
        else:
            super().pause_point()
