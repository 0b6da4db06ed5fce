from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import functional as tv

from tests.datasets.pictures import noise
from transfer.transforms.erasing import erase, erased_boxes
from transfer.transforms.per_image_rng import PerImageRng
from transfer.transforms.tiles import tiles

side = st.integers(1, 24)


# Tiles


@settings(deadline=None)
@given(
    rows=st.integers(1, 4),
    cols=st.integers(1, 4),
    cell=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    count=st.integers(0, 3),
    channels=st.integers(1, 4),
    data=st.data(),
)
def test_tiles_are_the_parts_of_the_image(
    rows: int, cols: int, cell: tuple[int, int], count: int, channels: int, data: st.DataObject
) -> None:
    tile = data.draw(st.integers(1, min(cell)))
    height, width = rows * cell[0] + data.draw(st.integers(0, rows - 1)), cols * cell[1]
    images = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 100)))
    tops = torch.randint(0, height - tile + 1, (count, rows * cols, channels), generator=generator)
    lefts = torch.randint(0, width - tile + 1, (count, rows * cols, channels), generator=generator)
    shifted = tiles(images, rows, cols, tile, torch.stack((tops, lefts), -1))
    whole = tiles(images, rows, cols, tile, torch.stack((tops, lefts), -1)[:, :, 0])
    middle = tiles(images, rows, cols, tile)
    assert (
        shifted.shape == whole.shape == middle.shape == (count, rows * cols, channels, tile, tile)
    )
    for n in range(count):
        for place in range(rows * cols):
            row, col = (
                place // cols * cell[0] + (cell[0] - tile) // 2,
                place % cols * cell[1] + (cell[1] - tile) // 2,
            )
            assert torch.equal(middle[n, place], images[n, :, row : row + tile, col : col + tile])
            row, col = tops[n, place, 0], lefts[n, place, 0]
            assert torch.equal(whole[n, place], images[n, :, row : row + tile, col : col + tile])
            for channel in range(channels):
                row, col = tops[n, place, channel], lefts[n, place, channel]
                assert torch.equal(
                    shifted[n, place, channel],
                    images[n, channel, row : row + tile, col : col + tile],
                )


def test_tiles_without_room_are_refused() -> None:
    with pytest.raises(ValueError, match="cells of 10 x 10 px are too small for tiles of 11 px"):
        tiles(noise(1), 3, 3, 11)
    for corner in ((-1, 0), (0, -1), (27, 0), (0, 27)):
        with pytest.raises(ValueError, match="tiles of 6 px exceed images of 32 x 32 px"):
            tiles(noise(1), 1, 1, 6, torch.tensor([[corner]]))
    assert tiles(noise(1), 1, 1, 6, torch.tensor([[[26, 26]]])).shape == (1, 1, 3, 6, 6)


# Erasing


@settings(deadline=None)
@given(height=side, width=side, seed=st.integers(0, 100), value=st.integers(0, 255))
def test_erasing_is_torchvisions_exactly(height: int, width: int, seed: int, value: int) -> None:
    images = noise(8, height, width, seed)
    boxes = erased_boxes(
        PerImageRng(seed, torch.arange(8)), (height, width), 0.8, (0.02, 0.9), (0.2, 5)
    )
    erased = erase(images, boxes, value)
    for after, before, (top, left, tall, wide) in zip(erased, images, boxes.tolist(), strict=True):
        assert 0 <= top <= top + tall <= height
        assert 0 <= left <= left + wide <= width
        assert torch.equal(
            after, tv.erase(before, top, left, tall, wide, torch.tensor(value, dtype=torch.uint8))
        )


def test_areas_shapes_and_places_of_erased_boxes_are_uniform() -> None:
    count = 4000
    boxes = erased_boxes(
        PerImageRng(1, torch.arange(count)), (1000, 2000), 0.7, (0.02, 0.33), (0.5, 2)
    )
    erased = boxes[:, 2] > 0
    assert abs(erased.float().mean().item() - 0.7) < 4 * math.sqrt(0.7 * 0.3 / count)
    top, left, tall, wide = boxes[erased].double().unbind(1)
    spread = {
        "area": ((tall * wide / 2e6) - 0.02) / 0.31,
        "shape": (tall / wide).log() / math.log(4) + 0.5,
        "top": (top + 0.5) / (1001 - tall),
        "left": (left + 0.5) / (2001 - wide),
    }
    for name, share in spread.items():
        assert stats.kstest(share.numpy(), "uniform").pvalue > 1e-3, name


def test_a_box_that_fits_in_no_such_shape_takes_the_nearest_that_does() -> None:
    boxes = erased_boxes(PerImageRng(1, torch.arange(50)), (10, 40), 1, (0.9, 0.9), (2, 3))
    assert (boxes[:, 2] == 10).all()
    assert (boxes[:, 3] == 36).all()
