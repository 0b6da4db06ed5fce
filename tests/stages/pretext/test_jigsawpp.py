from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch

from stages.pretext._permutations import puzzle_tiles, spread_permutations
from stages.pretext.jigsawpp import JigsawPP
from tests.stages.pretext.support import make_stage
from transfer.models.build import build_network
from transfer.stage.image_input import DatasetInfo
from transfer.transforms.per_image_rng import PerImageRng

SIZE = 64


def stage(**options: object) -> JigsawPP:
    return make_stage(
        JigsawPP,
        backbone="conv4",
        tile_size=16,
        shift=1,
        grayscale=0.0,
        color_projection=0.0,
        **options,
    )


def positions(size: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two batches whose pixels say in which row, and in which column, they stand."""
    line = torch.arange(size, dtype=torch.uint8)
    rows = line[:, None].expand(3, size, size)
    return rows.expand(count, 3, size, size), rows.transpose(1, 2).expand(count, 3, size, size)


def cut_corners(
    task: JigsawPP, size: int = SIZE, count: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """(count, 9, 3) rows and columns of every channel's upper left corner."""
    rows, columns = positions(size, count)
    ids = torch.arange(count)
    cuts = [task.cut(images, PerImageRng(1, ids)).numpy() for images in (rows, columns)]
    return cuts[0][..., 0, 0].astype(int), cuts[1][..., 0, 0].astype(int)


def test_701_permutations_are_distinct_differ_in_three_places_and_leave_out_the_identity() -> None:
    table = spread_permutations(701, 9, 3)
    assert table.shape == (701, 9)
    assert (np.sort(table, axis=1) == np.arange(9)).all()
    distances = (table[:, None] != table[None]).sum(axis=2)[np.triu_indices(701, 1)]
    assert distances.min() == 3
    assert 7.9 < distances.mean() < 8.1  # the published set has 7.999
    assert not (table == np.arange(9)).all(axis=1).any()


def test_the_set_of_permutations_never_drifts() -> None:
    table = spread_permutations(701, 9, 3)
    assert hashlib.sha256(table.astype("<i8").tobytes()).hexdigest()[:16] == "34e41b9c06950f1d"
    assert (spread_permutations(100, 9, 3) == table[:100]).all()


@pytest.mark.slow
def test_a_set_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="100 permutations of 4 tiles that differ in 4 places"):
        spread_permutations(100, 4, 4)


def test_published_geometry_follows_from_a_255_px_crop() -> None:
    assert puzzle_tiles(255, None, 2) == (85, 64, 18)


@pytest.mark.parametrize(("size", "tile", "shift"), [(64, 20, 1), (30, 9, 2), (12, None, 2)])
def test_images_too_small_for_their_tiles_are_refused_with_the_largest_tile(
    size: int, tile: int | None, shift: int
) -> None:
    with pytest.raises(ValueError, match=rf"tiles of {max(1, size // 3 - shift - 1)} px or less"):
        puzzle_tiles(size, tile, shift)


@pytest.mark.parametrize("size", [63, 64, 65, 112])
def test_no_two_tiles_touch(size: int) -> None:
    rows, columns = cut_corners(stage(), size)
    top, left = rows.min(axis=2), columns.min(axis=2)
    bottom, right = rows.max(axis=2) + 16, columns.max(axis=2) + 16
    assert top.min() >= 0
    assert left.min() >= 0
    assert bottom.max() <= size
    assert right.max() <= size
    for first in range(9):
        for other in range(first + 1, 9):
            if first % 3 == other % 3:
                assert (top[:, other] > bottom[:, first]).all()  # at least one px between them
            if first // 3 == other // 3:
                assert (left[:, other] > right[:, first]).all()


def test_jitter_and_channel_shift_use_all_of_their_range_and_no_more() -> None:
    rows, columns = cut_corners(stage(), count=2000)
    cell, _, jitter = puzzle_tiles(SIZE, 16, 1)
    for corners, place in ((rows, np.arange(9) // 3), (columns, np.arange(9) % 3)):
        offset = corners - cell * place[None, :, None]
        assert set(np.unique(offset)) == set(
            range(jitter + 1 + 1 + 1)
        )  # jitter, shift, one px of room in the image
        spread = offset.max(axis=2) - offset.min(axis=2)
        assert set(np.unique(spread)) == {0, 1}
    assert abs(np.corrcoef(rows[:, 0, 0], columns[:, 0, 0])[0, 1]) < 0.1


def test_the_permutation_is_the_one_that_the_label_says() -> None:
    task = stage(puzzles_per_image=4, occlusions=0)
    tiles = torch.arange(9).expand(32, 9)[..., None] + 100 * torch.arange(32)[:, None, None]
    puzzles, labels = task.puzzles(tiles, PerImageRng(3, torch.arange(32)))
    table = torch.from_numpy(spread_permutations(701, 9, 3))
    expected = table[labels] + 100 * torch.arange(32)[:, None, None]
    assert torch.equal(puzzles[..., 0], expected)
    assert len(labels.unique()) > 100


def test_occluding_tiles_come_from_distinct_places_of_another_image_in_equally_likely_numbers() -> (
    None
):
    task, count = stage(puzzles_per_image=50, occlusions=2), 64
    tiles = torch.arange(9).expand(count, 9)[..., None] + 100 * torch.arange(count)[:, None, None]
    puzzles, labels = task.puzzles(tiles, PerImageRng(5, torch.arange(count)))
    owner, source = puzzles[..., 0] // 100, puzzles[..., 0] % 100
    foreign = owner != torch.arange(count)[:, None, None]
    numbers = foreign.sum(dim=2).flatten()
    share = torch.bincount(numbers, minlength=3).float() / len(numbers)
    assert len(share) == 3
    assert torch.allclose(share, torch.full((3,), 1 / 3), atol=0.04)
    table = torch.from_numpy(spread_permutations(701, 9, 3))[labels]
    assert (source[~foreign] == table[~foreign]).all()
    for image, puzzle in (foreign.sum(dim=2) == 2).nonzero().tolist():
        where = foreign[image, puzzle]
        assert len(owner[image, puzzle][where].unique()) == 1
        assert len(source[image, puzzle][where].unique()) == 2
    places = foreign.float().mean(dim=(0, 1))
    assert places.max() - places.min() < 0.03


def test_a_batch_of_one_has_no_other_image_to_take_tiles_from() -> None:
    puzzles, labels = stage(occlusions=2).puzzles(
        torch.arange(9).float()[None, :, None], PerImageRng(0, torch.zeros(1, dtype=torch.int64))
    )
    assert torch.equal(
        puzzles[0, 0, :, 0].long(), torch.from_numpy(spread_permutations(701, 9, 3))[labels[0, 0]]
    )


def test_every_tile_has_its_own_mean_and_deviation_removed() -> None:
    images = torch.randint(
        0, 256, (8, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    tiles = stage().tiles(images, PerImageRng(0, torch.arange(8)))
    assert tiles.shape == (8, 9, 3, 16, 16)
    assert tiles.flatten(2).mean(dim=2).abs().max() < 1e-4
    assert torch.allclose(tiles.flatten(2).std(dim=2, correction=0), torch.ones(8, 9), atol=1e-2)


def test_colors_are_dropped_in_the_asked_shares_and_alike_in_all_tiles_of_an_image() -> None:
    task = make_stage(
        JigsawPP, backbone="conv4", tile_size=16, shift=0, grayscale=0.7, color_projection=0.5
    )
    matrices = task.colors(PerImageRng(0, torch.arange(20_000)))
    gray = (matrices - 1 / 3).abs().amax(dim=(1, 2)) < 1e-6
    whole = (matrices - torch.eye(3)).abs().amax(dim=(1, 2)) < 1e-6
    assert abs(gray.float().mean() - 0.7) < 0.02
    assert abs(whole.float().mean() - 0.15) < 0.02
    images = torch.randint(
        0, 256, (64, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    tiles = task.tiles(images, PerImageRng(0, torch.arange(64)))
    colorless = (tiles - tiles[:, :, :1]).abs().amax(dim=(2, 3, 4)) < 1e-4
    assert (colorless.all(dim=1) == colorless.any(dim=1)).all()
    assert 0.5 < colorless.float().mean() < 0.9


def test_an_image_has_the_same_tiles_in_any_batch() -> None:
    images = torch.randint(
        0, 256, (16, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    ids, order = torch.arange(16), torch.randperm(16, generator=torch.Generator().manual_seed(1))
    task = stage()
    assert torch.equal(
        task.tiles(images, PerImageRng(7, ids))[order],
        task.tiles(images[order], PerImageRng(7, ids[order])),
    )
    assert not torch.equal(
        task.tiles(images, PerImageRng(7, ids)), task.tiles(images, PerImageRng(8, ids))
    )


def test_the_head_is_as_wide_as_there_are_permutations() -> None:
    task = stage(permutations=50, embedding_dim=8, hidden_dim=16)
    network: Any = task.network(build_network(task.backbone, 0), DatasetInfo(SIZE, 64, 0))
    images = torch.zeros(4, 3, SIZE, SIZE, dtype=torch.uint8)
    loss, figures = task.loss(network, images, PerImageRng(0, torch.arange(4)))
    assert network["head"][-1].out_features == 50
    assert loss.isfinite()
    assert 0 <= figures["accuracy"] <= 1
    assert task.chance(DatasetInfo(SIZE, 64, 0)) == 1 / 50
