"""Packing after an interruption, and its use of memory."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.conftest import encode, fill, picture, split_of, write_h5
from transfer.artifacts import Images
from transfer.datasets.packed import pack_stage as pack_module
from transfer.datasets.packed.pack_stage import Pack
from transfer.errors import Interrupted
from transfer.stage.context import StageContext
from transfer.utils.progress import Progress


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


@pytest.mark.parametrize("kind", ["folder", "hdf5", "drawings"])
@pytest.mark.parametrize("damage", ["none", "half a block more", "cut", "no pixels"])
def test_a_packing_that_was_stopped_goes_on_to_the_same_bytes(
    tmp_path: Path,
    plan: Callable[..., Pack],
    work: Callable[..., StageContext],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    damage: str,
) -> None:
    monkeypatch.setattr(pack_module, "BLOCK_IMAGES", 3)
    if kind == "folder":
        pack = plan(folder=fill(tmp_path / "set", *[f"{n % 2}/{n}.png" for n in range(11)]))
    elif kind == "hdf5":
        pack = plan(hdf5=write_h5(tmp_path / "set.h5", train=split_of(11)))
    else:
        pack = plan("test", card="drawings", size=32, limit=11)
    undisturbed = work("undisturbed")
    pack.run(undisturbed)

    job = work("disturbed")
    advance, blocks = Progress.advance, []

    def stop_in_the_second_block(progress: Progress, count: int) -> None:
        advance(progress, count)
        if ": packing" in progress.task:
            blocks.append(count)
        job.stop.number = 15 if len(blocks) == 2 else 0

    monkeypatch.setattr(Progress, "advance", stop_in_the_second_block)
    with pytest.raises(Interrupted):
        pack.run(job)
    monkeypatch.setattr(Progress, "advance", advance)
    assert job.saved_progress()["images"] == 6
    assert not list(job.folder.iterdir())
    pixels = job.checkpoints / "images.npy"
    if damage == "half a block more":
        with open(pixels, "ab") as file:
            file.write(b"?" * 1000)
    elif damage == "cut":
        os.truncate(pixels, pixels.stat().st_size - 5)
    elif damage == "no pixels":
        pixels.unlink()
    again = work("disturbed")
    blocks.clear()
    monkeypatch.setattr(
        Progress,
        "advance",
        lambda progress, count: ": packing" in progress.task and blocks.append(count),
    )
    pack.run(again)
    assert sum(blocks) == (5 if damage in ("none", "half a block more") else 11)
    assert digests(again.folder) == digests(undisturbed.folder)


def test_a_progress_file_that_a_kill_left_half_written_starts_anew(
    tmp_path: Path, plan: Callable[..., Pack], work: Callable[..., StageContext]
) -> None:
    job = work()
    (job.checkpoints / "progress.json").write_text('{"images": 1')
    (job.checkpoints / "images.npy").write_bytes(b"x" * 100)
    plan(folder=fill(tmp_path / "set", "a.png", "b.png")).run(job)
    assert len(Images(job.folder)) == 2


def test_memory_does_not_grow_with_the_set(
    tmp_path: Path,
    work: Callable[..., StageContext],
    plan: Callable[..., Pack],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pack_module, "BLOCK_BYTES", 1 << 20)
    encoded = np.frombuffer(encode(picture(1, 64, 64)), dtype=np.uint8)
    peaks = []
    for count in (100, 800):
        offsets = np.arange(count + 1) * len(encoded)
        write_h5(
            tmp_path / f"{count}.h5", train={"jpeg": np.tile(encoded, count), "offsets": offsets}
        )
        pack, job = plan(hdf5=tmp_path / f"{count}.h5", size=64), work(str(count))
        tracemalloc.start()
        pack.run(job)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The packed set grew by 8.6 MB, and its file by as much.
    assert peaks[1] < peaks[0] + (1 << 20)
