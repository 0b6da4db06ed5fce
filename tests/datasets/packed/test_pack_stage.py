"""Packing: the right pixels, resume, bad images, and what the key depends on."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.conftest import fill, split_of, write_h5
from transfer.artifacts import Images
from transfer.datasets.drawings import render
from transfer.datasets.packed import decode_workers
from transfer.datasets.packed import pack_stage as pack_module
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.readers.hdf5 import Hdf5Source
from transfer.errors import Interrupted, TransferError
from transfer.stage.context import StageContext
from transfer.utils.stamp_cache import StampCache


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


# What is packed


def test_drawings_are_packed_as_they_are_drawn(
    plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    images = packed(plan("test", card="drawings", size=None, limit=30))
    rows = [int(name.removeprefix("test/")) for name in images.ids]
    assert images.size == render.SIZE
    assert (np.asarray(images.pixels) == render.render("test", rows)).all()
    assert images.labels is not None
    assert images.labels.tolist() == render.labels("test")[rows].tolist()
    assert images.classes == list(render.CLASSES)


def test_a_limit_is_a_draw_that_is_the_same_everywhere(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    folder = fill(tmp_path / "set", *[f"{number % 4}/{number:03}.png" for number in range(120)])
    whole = packed(plan(folder=folder), "whole")
    part = packed(plan(folder=folder, limit=12), "part")
    rows = [whole.ids.index(name) for name in part.ids]
    assert rows == [7, 8, 10, 22, 33, 45, 48, 50, 89, 94, 95, 97]
    assert (whole.pixels[rows] == part.pixels).all()
    assert whole.labels is not None
    assert part.labels is not None
    assert (whole.labels[rows] == part.labels).all()
    assert part.classes == whole.classes


@pytest.mark.parametrize("limit", [1, 2, 7, 50, 500])
def test_a_limit_is_kept_and_a_small_draw_is_part_of_a_larger_one(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images], limit: int
) -> None:
    file = write_h5(tmp_path / "set.h5", train=split_of(20))
    pack = plan(hdf5=file, limit=limit)
    images, next_one = packed(pack, "a"), packed(plan(hdf5=file, limit=limit + 1), "b")
    assert len(images) == pack.count == min(limit, 20)
    assert set(images.ids) <= set(next_one.ids)


def test_the_draw_favors_no_place_in_the_set() -> None:
    order = np.random.RandomState(0).permutation(10_000)[:2_000]
    counts = np.histogram(order, bins=10, range=(0, 10_000))[0]
    assert ((counts - 200) ** 2 / 160).sum() < 22  # chi-square, 9 degrees of freedom, p = 0.01


def test_ids_are_unique_and_stable(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    folder = fill(tmp_path / "set", "train/a/1.png", "train/b/1.png", "test/a/1.png")
    train, test = (
        packed(plan("train", folder=folder), "train"),
        packed(plan("test", folder=folder), "test"),
    )
    assert train.ids == ["train/a/1.png", "train/b/1.png"]
    assert test.ids == ["test/a/1.png"]
    assert packed(plan("train", folder=folder, size=24), "again").ids == train.ids


def test_the_same_files_give_the_same_bytes(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    names = [f"{number}.png" for number in range(9)]
    first = packed(plan(folder=fill(tmp_path / "one", *names)), "one")
    (tmp_path / "two").mkdir()
    for name in reversed(names):
        shutil.copy(tmp_path / "one" / name, tmp_path / "two" / name)
    second = packed(plan(folder=tmp_path / "two"), "two")
    assert digests(first.folder) == digests(second.folder)
    assert plan(folder=tmp_path / "one").identity() == plan(folder=tmp_path / "two").identity()


def test_every_option_that_changes_the_result_is_part_of_its_identity(
    tmp_path: Path, plan: Callable[..., Pack]
) -> None:
    folder = fill(tmp_path / "set", "a/1.png", "b/2.png", "b/3.png")
    specs = [{}, {"size": 24}, {"limit": 2}, {"labels": False}]
    identities = [str(plan(folder=folder, **spec).identity()) for spec in specs]
    assert len(set(identities)) == len(specs)


# Real photographs


@pytest.mark.photos
@pytest.mark.skipif(
    not os.environ.get("TRANSFER_PHOTOS"), reason="TRANSFER_PHOTOS names no folder of photographs"
)
def test_photographs_pack(
    plan: Callable[..., Pack], packed: Callable[..., Images], tmp_path: Path
) -> None:
    files = sorted(Path(os.environ["TRANSFER_PHOTOS"]).glob("*.h5"))
    assert files
    for file in files:
        survey = Hdf5Source(file).survey(StampCache(tmp_path / "memory"))
        for split, facts in survey.splits.items():
            images = packed(plan(split, hdf5=file, size=None, limit=300), f"{file.stem} {split}")
            assert images.pixels.shape == (min(300, facts.count), survey.size, survey.size, 3)
            assert images.labels is not None
            assert (
                0
                <= images.labels.min()
                <= images.labels.max()
                < len(images.classes)
                == len(survey.classes)
            )
            assert len(set(images.ids)) == len(images)
            pixels = np.asarray(images.pixels)
            assert 60 < pixels.mean() < 190
            assert pixels.std(axis=(1, 2, 3)).min() > 1


@pytest.mark.parametrize("fork_from", [1, 1000])
def test_remarks_are_counted_over_processes_and_interruptions(
    tmp_path: Path,
    plan: Callable[..., Pack],
    work: Callable[..., StageContext],
    monkeypatch: pytest.MonkeyPatch,
    fork_from: int,
) -> None:
    monkeypatch.setattr(decode_workers, "MIN_IMAGES_TO_FORK", fork_from)
    monkeypatch.setattr(pack_module, "BLOCK_IMAGES", 3)
    (tmp_path / "set").mkdir()
    for number in range(8):
        values = np.full((20, 20), 4000 if number % 4 else 60_000, np.uint16)
        Image.fromarray(values).save(tmp_path / f"set/{number}.png")
    pack, job = plan(folder=tmp_path / "set"), work()
    pause = job.pause_point

    def stop_after_two_blocks() -> None:
        job.stop.number = 15 if job.saved_progress().get("images") == 6 else 0
        pause()

    monkeypatch.setattr(job, "pause_point", stop_after_two_blocks)
    with pytest.raises(Interrupted):
        pack.run(job)
    again = work()
    pack.run(again)
    assert "use only the values 0..4095 in 6 of 8" in again.notes[0]


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_bad_images_are_skipped_and_recorded_where_that_is_asked_for(
    tmp_path: Path, plan: Callable[..., Pack], work: Callable[..., StageContext], form: str
) -> None:
    fill(tmp_path / "set", *[f"{number % 2}/{number:02}.png" for number in range(9)])
    (tmp_path / "set/0/04.png").write_bytes(b"no picture")
    (tmp_path / "set/1/07.png").write_bytes((tmp_path / "set/1/07.png").read_bytes()[:60])
    pack, job = plan(folder=tmp_path / "set", on_bad_image="skip", pack=form), work()
    pack.run(job)
    images = Images(job.folder)
    assert len(images) == 7
    assert "0/04.png" not in images.ids
    assert [fault.partition(":")[0] for fault in images.card.skipped] == ["0/04.png", "1/07.png"]
    assert images.labels is not None
    assert images.labels.tolist() == [int(name[0]) for name in images.ids]
    assert job.figures["skipped"] == 2
    assert "2 of 9 images were skipped" in job.notes[0]
    assert [images.picture(row).shape for row in range(7)] == [(16, 16, 3)] * 7
    assert pack.identity() != plan(folder=tmp_path / "set", pack=form).identity()


def test_a_set_of_which_nothing_can_be_used_is_refused_even_so(
    tmp_path: Path, plan: Callable[..., Pack], work: Callable[..., StageContext]
) -> None:
    fill(tmp_path / "set", "a.png", "b.png")
    for path in (tmp_path / "set").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(TransferError, match="none of the 2 images"):
        plan(folder=tmp_path / "set", on_bad_image="skip").run(work())


def test_stretched_images_keep_their_edges(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    (tmp_path / "set").mkdir()
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, :24], wide[:, 72:] = 255, 128
    Image.fromarray(wide).save(tmp_path / "set/wide.png")
    stretched = packed(plan(folder=tmp_path / "set", fit="stretch"), "stretch").pixels[0]
    cropped = packed(plan(folder=tmp_path / "set"), "crop").pixels[0]
    assert (stretched[:, 1] == 255).all()
    assert (stretched[:, -2] == 128).all()
    assert (cropped == 0).all()


def test_processes_give_what_threads_give(
    tmp_path: Path,
    plan: Callable[..., Pack],
    packed: Callable[..., Images],
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    fill(tmp_path / "set", *[f"{number:03}.png" for number in range(40)])
    threads = packed(plan(folder=tmp_path / "set"), "threads").pixels
    monkeypatch.setattr(decode_workers, "MIN_IMAGES_TO_FORK", 1)
    monkeypatch.setattr(decode_workers, "IMAGES_PER_TASK", 3)
    assert np.array_equal(packed(plan(folder=tmp_path / "set"), "processes").pixels, threads)
