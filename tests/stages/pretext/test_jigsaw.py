from __future__ import annotations

import hashlib
from itertools import permutations

import numpy as np
import pytest
import torch

from stages.pretext._permutations import distant_permutations, puzzle_tiles
from stages.pretext.jigsaw import Jigsaw
from stages.pretext.jigsawpp import JigsawPP
from tests.stages.pretext.support import make_stage
from transfer.stage.image_input import DatasetInfo
from transfer.transforms.per_image_rng import PerImageRng

SIZE = 64


def stage(**options: object) -> Jigsaw:
    return make_stage(Jigsaw, backbone="conv4", **{"embedding_dim": 8, "hidden_dim": 16, **options})


def images(count: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def distances(table: np.ndarray) -> np.ndarray:
    """Hamming distances of all pairs."""
    return (table[:, None] != table[None]).sum(axis=2)[np.triu_indices(len(table), 1)]


@pytest.mark.parametrize(("count", "least", "mean"), [(9, 8, 8.8), (100, 6, 8.07), (1000, 5, 8.0)])
def test_permutations_are_distinct_and_far_apart(count: int, least: int, mean: float) -> None:
    table = distant_permutations(count, 9)
    assert table.shape == (count, 9)
    assert (np.sort(table, axis=1) == np.arange(9)).all()
    assert distances(table).min() >= least
    assert distances(table).mean() >= mean
    assert not (table == np.arange(9)).all(axis=1).any()


def test_100_permutations_are_further_apart_than_random_ones_and_than_the_published_set() -> None:
    table = distant_permutations(100, 9)
    chance = np.stack([np.random.RandomState(i).permutation(9) for i in range(100)])
    assert distances(table).mean() > distances(chance).mean() + 0.05
    assert (
        distances(table).min() > 2
    )  # the published set of 100 has pairs that differ in two places


def test_each_permutation_is_the_greedy_choice() -> None:
    table = distant_permutations(12, 4)
    every = [order for order in permutations(range(4)) if order != (0, 1, 2, 3)]
    for chosen in range(1, len(table)):
        before = table[:chosen]

        def far(order: tuple[int, ...], before: np.ndarray = before) -> tuple[int, int]:
            results = [sum(a != b for a, b in zip(order, other, strict=True)) for other in before]
            return min(results), sum(results)

        assert far(tuple(table[chosen])) == max(far(order) for order in every)


def test_the_set_of_permutations_never_drifts_and_the_seed_decides_it() -> None:
    table = distant_permutations(1000, 9)
    assert hashlib.sha256(table.astype("<i8").tobytes()).hexdigest()[:16] == "3b0ddbd36b308bd1"
    assert not (distant_permutations(100, 9, seed=1) == distant_permutations(100, 9)).all()


def test_more_permutations_than_there_are_is_refused() -> None:
    assert len(distant_permutations(23, 4)) == 23
    with pytest.raises(ValueError, match="24 permutations of 4 tiles: only 23 exist"):
        distant_permutations(24, 4)


def test_the_permutation_is_the_one_that_the_label_says_and_every_tile_is_the_images_own() -> None:
    task = stage(puzzles_per_image=4)
    tiles = torch.arange(9).expand(32, 9)[..., None] + 100 * torch.arange(32)[:, None, None]
    puzzles, labels = task.puzzles(tiles, PerImageRng(3, torch.arange(32)))
    expected = (
        torch.from_numpy(distant_permutations(100, 9))[labels]
        + 100 * torch.arange(32)[:, None, None]
    )
    assert torch.equal(puzzles[..., 0], expected)
    assert len(labels.unique()) > 60


def test_tiles_are_cut_and_colored_as_jigsawpp_does() -> None:
    task = stage(grayscale=0.7, color_projection=0.5)
    other = make_stage(JigsawPP, backbone="conv4")
    assert torch.equal(
        task.tiles(images(), PerImageRng(5, torch.arange(16))),
        other.tiles(images(), PerImageRng(5, torch.arange(16))),
    )


def test_three_in_ten_images_are_gray_and_no_color_is_mixed_in_the_others() -> None:
    matrices = stage().colors(PerImageRng(0, torch.arange(20_000)))
    gray = (matrices - 1 / 3).abs().amax(dim=(1, 2)) < 1e-6
    whole = (matrices - torch.eye(3)).abs().amax(dim=(1, 2)) < 1e-6
    assert abs(gray.float().mean() - 0.3) < 0.02
    assert (gray | whole).all()


def test_no_two_tiles_touch() -> None:
    line = torch.arange(SIZE, dtype=torch.uint8)
    rows = line[:, None].expand(256, 3, SIZE, SIZE)
    task = stage()
    _, tile, _ = puzzle_tiles(SIZE, None, 2)
    draws = [PerImageRng(1, torch.arange(256)) for _ in range(2)]
    top, left = (
        task.cut(batch, rng)[..., 0, 0].int()
        for batch, rng in zip((rows, rows.transpose(2, 3)), draws, strict=True)
    )
    for place in range(9):
        for corner, after in ((top, place + 3), (left, place + 1)):
            if after < 9 and (corner is top or after % 3):
                assert (corner[:, after].amin(1) > corner[:, place].amax(1) + tile).all()


def test_loss_and_accuracy_are_those_of_a_plain_loop() -> None:
    task = stage(puzzles_per_image=2)
    net = task._build(DatasetInfo(SIZE, 16, 0), seed=0).eval()
    with torch.no_grad():
        loss, figures = task.loss(net, images(), PerImageRng(0, torch.arange(16)))
        rng = PerImageRng(0, torch.arange(16))
        tiles = task.tiles(images(), rng)
        _, labels = task.puzzles(tiles.flatten(2), rng)
        losses, right = [], []
        for image in range(16):
            embedded = [net["embed"](net["backbone"](tile[None])) for tile in tiles[image]]
            for label in labels[image].tolist():
                order = distant_permutations(100, 9)[label]
                logits = net["head"](torch.cat([embedded[tile] for tile in order], dim=1))[0]
                losses.append(logits.exp().sum().log() - logits[label])
                right.append(float(logits.argmax() == label))
    assert torch.allclose(loss, torch.stack(losses).mean(), atol=1e-5)
    assert abs(figures["accuracy"] - sum(right) / len(right)) < 1e-6


def test_random_weights_guess() -> None:
    task = stage(puzzles_per_image=50)
    net = task._build(DatasetInfo(SIZE, 16, 0), seed=0)
    _, figures = task.loss(net, images(), PerImageRng(0, torch.arange(16)))
    assert task.chance(DatasetInfo(SIZE, 16, 0)) == 0.01
    assert figures["accuracy"] < 0.06


def test_mixed_precision_gives_about_the_same_loss() -> None:
    task = stage(dropout=0.0)
    results = []
    for enabled in (False, True):
        net = task._build(DatasetInfo(SIZE, 16, 0), seed=0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            results.append(task.loss(net, images(), PerImageRng(0, torch.arange(16)))[0].item())
    assert abs(results[0] - results[1]) < 0.05


def test_foreign_tiles_of_jigsawpp_do_not_depend_on_the_order_of_the_batch() -> None:
    task = make_stage(JigsawPP, backbone="conv4", puzzles_per_image=3)
    ids, order = (
        torch.arange(16) * 7,
        torch.randperm(16, generator=torch.Generator().manual_seed(1)),
    )
    tiles = torch.arange(9).expand(16, 9)[..., None] + 100 * torch.arange(16)[:, None, None]
    straight, labels = task.puzzles(tiles, PerImageRng(5, ids))
    shuffled, shuffled_labels = task.puzzles(tiles[order], PerImageRng(5, ids[order]))
    assert torch.equal(straight[order], shuffled)
    assert torch.equal(labels[order], shuffled_labels)


def test_the_jitter_of_the_release_and_the_permutations_of_vissl_can_be_written() -> None:
    assert Jigsaw(jitter=21, shift=0).layout(255) == (85, 64, 21)
    assert Jigsaw().layout(255) == (85, 64, 18)
    with pytest.raises(ValueError, match="the largest jitter is 19"):
        Jigsaw(jitter=21).layout(255)
    assert Jigsaw(permutations=10_000).permutations == 10_000
    table = Jigsaw(permutations=2000).table()
    assert len({tuple(row) for row in table.tolist()}) == 2000
