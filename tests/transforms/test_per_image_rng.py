from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from transfer.transforms.per_image_rng import PerImageRng

MANY = 1_000_000
SMALL = 1e-4  # a lower p-value is a failure; seeds are fixed, so results do not vary

KINDS: dict[str, Callable[[PerImageRng], torch.Tensor]] = {
    "uniform": lambda rng: rng.uniform(3, 2),
    "integers": lambda rng: rng.integers(1000, 5),
    "chance": lambda rng: rng.chance(0.5, 40),
    "permutations": lambda rng: rng.permutations(9, 2),
}


def chi_square(counts: np.ndarray) -> float:
    return float(stats.chisquare(counts).pvalue)


def test_the_stream_never_drifts() -> None:
    rng = PerImageRng(7, torch.arange(3))
    assert rng.uniform(2).tolist() == [
        [0.551823616027832, 0.08584356307983398],
        [0.24869436025619507, 0.6712697148323059],
        [0.36834436655044556, 0.08319222927093506],
    ]
    assert rng.integers(1000, 2).tolist() == [[868, 89], [975, 984], [557, 424]]
    assert rng.permutations(5).tolist() == [[4, 1, 2, 0, 3], [3, 4, 0, 2, 1], [0, 4, 3, 2, 1]]
    assert rng.chance(0.5, 3).tolist() == [
        [False, True, False],
        [False, False, True],
        [False, True, True],
    ]
    far = PerImageRng((1 << 63) + 5, torch.tensor([1 << 40, -1]))
    assert far.integers(1 << 40, 2).tolist() == [
        [941933948757, 778314310705],
        [638439891363, 293028317626],
    ]


def test_the_stream_is_splitmix64s() -> None:
    mask = (1 << 64) - 1

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    step, seed, ids = 0x9E3779B97F4A7C15, 0xF123456789ABCDEF, [0, 1, 77, 1 << 50]
    rng = PerImageRng(seed, torch.tensor(ids))
    for call in (1, 2):
        expected = []
        for image in ids:
            state = mix((mix((image * step + seed) & mask) + step) & mask)
            stream = mix((state + call * 0xD1342543DE82EF95) & mask)
            expected.append([mix((stream + place * step) & mask) >> 40 for place in (1, 2, 3)])
        assert (rng.uniform(3) * (1 << 24)).long().tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_dimension_is_the_image(kind: str) -> None:
    numbers = KINDS[kind](PerImageRng(1, torch.arange(11)))
    assert (
        numbers.shape
        == {
            "uniform": (11, 3, 2),
            "integers": (11, 5),
            "chance": (11, 40),
            "permutations": (11, 2, 9),
        }[kind]
    )
    assert numbers.dtype == {"uniform": torch.float32, "chance": torch.bool}.get(kind, torch.int64)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_may_be_empty(kind: str) -> None:
    assert len(KINDS[kind](PerImageRng(1, torch.arange(0)))) == 0


def test_one_number_an_image_has_no_further_dimension() -> None:
    rng = PerImageRng(1, torch.arange(4))
    assert rng.uniform().shape == rng.integers(3).shape == rng.chance(0.5).shape == (4,)
    assert rng.permutations(3).shape == (4, 3)
    assert len(rng) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_draws_the_same_in_any_batch_and_order(kind: str) -> None:
    whole = KINDS[kind](PerImageRng(3, torch.arange(100)))
    order = torch.from_numpy(np.random.RandomState(0).permutation(100))
    assert torch.equal(KINDS[kind](PerImageRng(3, order)), whole[order])
    parts = [KINDS[kind](PerImageRng(3, part)) for part in torch.arange(100).split([1, 30, 69])]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(KINDS[kind](PerImageRng(3, torch.arange(100, dtype=torch.int32))), whole)


@pytest.mark.parametrize("ids", [torch.arange(MANY), torch.arange(1000)])
def test_uniform_numbers_are_uniform(ids: torch.Tensor) -> None:
    numbers = PerImageRng(5, ids).uniform(MANY // len(ids)).flatten().numpy()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert chi_square(np.histogram(numbers, bins=1000, range=(0, 1))[0]) > SMALL
    assert stats.kstest(numbers[:100_000], "uniform").pvalue > SMALL


@pytest.mark.parametrize("high", [1, 2, 3, 7, 701, 1000])
def test_integers_are_within_bounds_and_unbiased(high: int) -> None:
    numbers = PerImageRng(5, torch.arange(MANY // 4)).integers(high, 4).flatten()
    counts = np.bincount(numbers.numpy(), minlength=high)
    assert len(counts) == high
    assert numbers.min() >= 0
    if high > 1:
        assert chi_square(counts) > SMALL


def test_integers_below_a_large_bound_reach_all_of_it() -> None:
    numbers = PerImageRng(5, torch.arange(100_000)).integers(3 << 40)
    assert chi_square(np.histogram(numbers.numpy(), bins=48, range=(0, 3 << 40))[0]) > SMALL


@pytest.mark.parametrize("high", [0, -3])
def test_there_must_be_something_to_draw_from(high: int) -> None:
    with pytest.raises(ValueError, match="no integers to draw from"):
        PerImageRng(1, torch.arange(2)).integers(high)


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.7, 1.0])
def test_a_chance_is_met_as_often_as_it_says(probability: float) -> None:
    met = int(PerImageRng(9, torch.arange(MANY)).chance(probability).sum())
    assert abs(met - probability * MANY) <= 4 * (probability * (1 - probability) * MANY) ** 0.5


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_all_permutations_are_equally_likely(length: int) -> None:
    orders = PerImageRng(5, torch.arange(MANY // 8)).permutations(length)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(length).expand(len(orders), length))
    codes = (orders * length ** torch.arange(length)).sum(1)
    counts = torch.unique(codes, return_counts=True)[1]
    assert len(counts) == [1, 2, 6, 24, 120][length - 1]
    if length > 1:
        assert chi_square(counts.numpy()) > SMALL


def test_in_long_permutations_every_place_is_equally_likely() -> None:
    orders = PerImageRng(6, torch.arange(20_000)).permutations(9)
    for place in range(9):
        assert chi_square(np.bincount(orders[:, place].numpy(), minlength=9)) > SMALL


def correlated(a: torch.Tensor, b: torch.Tensor) -> bool:
    return abs(np.corrcoef(a.flatten().numpy(), b.flatten().numpy())[0, 1]) > 4.5 / a.numel() ** 0.5


@pytest.mark.parametrize("gap", [1, 2, 64, 1000])
def test_images_draw_independently(gap: int) -> None:
    numbers = PerImageRng(5, torch.arange(200_000)).uniform()
    assert not correlated(numbers[gap:], numbers[:-gap])


def test_calls_and_places_are_independent() -> None:
    rng = PerImageRng(5, torch.arange(100_000))
    calls = torch.cat([rng.uniform(3), rng.uniform(3)], 1)
    for first in range(6):
        for second in range(first):
            assert not correlated(calls[:, first], calls[:, second])
            assert not correlated(
                (calls[:, first] - 0.5).square(), (calls[:, second] - 0.5).square()
            )


@pytest.mark.parametrize("other", [6, 5 + (1 << 32), 5 + (1 << 63), -5])
def test_seeds_are_independent(other: int) -> None:
    ids = torch.arange(200_000)
    assert not correlated(PerImageRng(5, ids).uniform(), PerImageRng(other, ids).uniform())
    assert not correlated(PerImageRng(5, ids).uniform()[1:], PerImageRng(other, ids).uniform()[:-1])


def test_two_draws_at_once_fill_the_plane() -> None:
    pairs = PerImageRng(8, torch.arange(MANY // 2)).uniform(2).numpy()
    counts = np.histogram2d(pairs[:, 0], pairs[:, 1], bins=20, range=((0, 1), (0, 1)))[0]
    assert chi_square(counts.ravel()) > SMALL


def test_each_bit_is_set_half_of_the_time() -> None:
    numbers = (PerImageRng(4, torch.arange(200_000)).uniform() * (1 << 24)).long()
    for bit in range(24):
        share = ((numbers >> bit) & 1).float().mean().item()
        assert abs(share - 0.5) < 4.5 * 0.5 / 200_000**0.5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_draws_the_same(kind: str) -> None:
    ids = torch.arange(5000)
    assert torch.equal(
        KINDS[kind](PerImageRng(3, ids.cuda())).cpu(), KINDS[kind](PerImageRng(3, ids))
    )
