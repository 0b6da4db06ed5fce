"""Batches of packed sets: the right images, in order, from raw and JPEG sets, and their faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.datasets.conftest import encode, picture
from tests.stages.handmade import pack_images
from transfer.artifacts import Images
from transfer.datasets.packed.batch_loader import Batches
from transfer.datasets.packed.pack_stage import Pack
from transfer.errors import CorruptArtifact
from transfer.utils.runtime import Runtime

CPU = Runtime("cpu", requested_threads=2)


def taken(images: Images, requested: list[np.ndarray], batch: int = 8) -> list[torch.Tensor]:
    with Batches(images, CPU, batch) as feed:
        return list(feed.each(requested))


@pytest.fixture
def raw(tmp_path: Path) -> Images:
    pixels = np.random.RandomState(0).randint(0, 256, (50, 16, 16, 3)).astype(np.uint8)
    return pack_images(tmp_path / "raw", pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """300 pictures, enough to start processes."""
    (tmp_path / "set").mkdir()
    for number in range(300):
        (tmp_path / "set" / f"{number:03}.jpg").write_bytes(encode(picture(number), "JPEG"))
    return tmp_path / "set"


def test_batches_come_in_the_order_asked_for(raw: Images) -> None:
    requested = [np.array(rows) for rows in ([3, 1, 2], [49], [7, 7, 0, 11, 30, 31, 32, 33], [5])]
    for rows, batch in zip(requested, taken(raw, requested), strict=True):
        assert batch.dtype == torch.uint8
        assert np.array_equal(batch.permute(0, 2, 3, 1).numpy(), raw.pixels[rows])


def test_a_batch_stays_as_it_was_when_the_next_ones_come(raw: Images) -> None:
    requested = [np.arange(start, start + 5) for start in range(0, 50, 5)]
    batches = taken(raw, requested)
    assert np.array_equal(torch.cat(batches).permute(0, 2, 3, 1).numpy(), raw.pixels)


def test_nothing_requested_gives_nothing(raw: Images) -> None:
    assert taken(raw, []) == []


def test_a_jpeg_set_gives_what_a_decoder_makes_of_it(
    folder: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    images = packed(plan(folder=folder, pack="jpeg"), "jpeg")
    pixels = packed(plan(folder=folder, pack="raw"), "raw").pixels
    assert images.form == "jpeg"
    requested = [np.arange(300)[start::7] for start in range(7)]
    for rows, batch in zip(requested, taken(images, requested, 43), strict=True):
        squares = batch.permute(0, 2, 3, 1).numpy()
        for square, row in zip(squares, rows, strict=True):
            assert np.array_equal(square, images.picture(int(row)))
        # Encoded with quality 95 without subsampling: close to the raw pixels.
        assert np.abs(squares.astype(int) - pixels[rows]).mean() < 2


def test_jpegs_of_the_right_size_are_kept_as_they_are(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    (tmp_path / "set").mkdir()
    data = [encode(picture(number, 16, 16), "JPEG", quality=60) for number in range(4)]
    for number, encoded in enumerate(data):
        (tmp_path / "set" / f"{number}.jpg").write_bytes(encoded)
    images = packed(plan(folder=tmp_path / "set", pack="jpeg"))
    assert [images.encoded(row) for row in range(4)] == data


def test_a_damaged_jpeg_set_is_told(
    folder: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    images = packed(plan(folder=folder, pack="jpeg", limit=40))
    content = bytearray((images.folder / "images.bin").read_bytes())
    start = int(np.load(images.folder / "offsets.npy")[20])
    content[start : start + 4] = b"????"
    (images.folder / "images.bin").write_bytes(content)
    with pytest.raises(CorruptArtifact, match=f"images.bin: {images.ids[20]}"):
        taken(images, [np.arange(40)], 40)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_a_gpu_gets_the_same_batches(
    folder: Path, plan: Callable[..., Pack], packed: Callable[..., Images], form: str
) -> None:
    images = packed(plan(folder=folder, pack=form))
    requested = [np.arange(300)[start::9] for start in range(9)]
    with Batches(images, Runtime("cuda"), 34) as feed:
        batches = [batch.cpu() for batch in feed.each(requested)]
    for batch, expected in zip(batches, taken(images, requested, 34), strict=True):
        # Decoders on a GPU round the inverse cosine transform in their own way.
        assert (batch.int() - expected.int()).abs().float().mean() < (0.01 if form == "raw" else 2)
