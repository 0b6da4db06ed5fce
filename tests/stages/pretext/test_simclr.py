from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from stages.pretext._multi_view import stack_views
from stages.pretext.simclr import SimCLR, nt_xent
from tests.stages.pretext.support import make_stage, namespace
from transfer.errors import InvalidOption
from transfer.models.build import build_network
from transfer.stage.image_input import DatasetInfo
from transfer.transforms.per_image_rng import PerImageRng

SIZE = 32


def task(**options: object) -> SimCLR:
    return make_stage(
        SimCLR, **{"backbone": "conv4", "hidden_dim": 32, "projection_dim": 16, **options}
    )


def photographs(count: int, size: int = SIZE) -> torch.Tensor:
    return torch.randint(
        0,
        256,
        (count, 3, size, size),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )


def planned(count: int) -> Any:
    return namespace(images={"images": namespace(stage=namespace(count=count), label="set/train")})


def literally(projected: list[list[float]], temperature: float) -> float:
    """NT-Xent of the paper, pair by pair."""

    def similarity(first: list[float], other: list[float]) -> float:
        dot = sum(a * b for a, b in zip(first, other, strict=True))
        return dot / math.sqrt(sum(a * a for a in first)) / math.sqrt(sum(b * b for b in other))

    count, total = len(projected) // 2, 0.0
    for i in range(2 * count):
        j = i + count if i < count else i - count
        top = math.exp(similarity(projected[i], projected[j]) / temperature)
        all_others = sum(
            math.exp(similarity(projected[i], projected[k]) / temperature)
            for k in range(2 * count)
            if k != i
        )
        total -= math.log(top / all_others)
    return total / (2 * count)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_loss_is_that_of_a_literal_loop_over_pairs(temperature: float) -> None:
    projected = torch.randn(14, 5, generator=torch.Generator().manual_seed(1))
    loss, _ = nt_xent(projected, temperature)
    assert loss.item() == pytest.approx(literally(projected.tolist(), temperature), rel=1e-5)


def test_views_that_agree_and_differ_from_others_have_no_loss_and_are_all_found() -> None:
    unit = torch.eye(6)
    loss, figures = nt_xent(torch.cat((3 * unit, 0.1 * unit)), 0.05)  # lengths do not count
    assert loss < 1e-6
    assert figures["accuracy"] == 1
    wrong, figures = nt_xent(torch.cat((unit, unit.roll(1, 0))), 0.05)
    assert wrong > 10
    assert figures["accuracy"] == 0


def test_a_view_is_never_its_own_candidate() -> None:
    projected = torch.tensor(
        [[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]
    )  # every partner is the opposite
    loss, figures = nt_xent(projected, 1.0)
    assert figures["accuracy"] == 0
    # Of its three candidates one is alike and wrong, two are opposite, of which one is right.
    assert loss.item() == pytest.approx(
        -math.log(math.exp(-1) / (math.exp(1) + 2 * math.exp(-1))), rel=1e-6
    )


def test_similarities_are_as_exact_under_mixed_precision() -> None:
    projected = torch.randn(64, 16, generator=torch.Generator().manual_seed(2))
    exact, _ = nt_xent(projected, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = nt_xent(projected, 0.1)
        halved, _ = nt_xent(projected.bfloat16(), 0.1)
    assert torch.equal(exact, mixed)
    assert torch.isclose(halved, nt_xent(projected.bfloat16().float(), 0.1)[0])
    network, images = (
        task().network(build_network(task().backbone, 0), DatasetInfo(SIZE, 8, 0)),
        photographs(8),
    )
    plain, _ = task(temperature=0.5).loss(network, images, PerImageRng(0, torch.arange(8)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = task(temperature=0.5).loss(network, images, PerImageRng(0, torch.arange(8)))
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(plain.item(), rel=0.05)


def test_rows_i_and_b_plus_i_are_views_of_one_image() -> None:
    # Images of one color stay so whatever part is shown, when no color is changed.
    flat = torch.arange(0, 200, 25, dtype=torch.uint8)[:, None, None, None].expand(8, 3, SIZE, SIZE)
    seen = task(strength=0.0).views(flat, PerImageRng(1, torch.arange(8)))
    expected = flat[:, 0, 0, 0].repeat(2) / 255
    assert torch.allclose(seen.mean((1, 2, 3)), expected, atol=1e-4)


def test_views_differ_and_depend_on_the_image_and_the_draw_alone() -> None:
    images, ids = photographs(8), torch.arange(8)
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    first, second = task().views(images, PerImageRng(4, ids)).chunk(2)
    assert (first - second).abs().flatten(1).mean(1).min() > 0.01
    shuffled = task().views(images[order], PerImageRng(4, ids[order])).chunk(2)[1]
    assert torch.allclose(shuffled, second[order], atol=1e-6)
    alone = task().views(images[5:6], PerImageRng(4, ids[5:6])).chunk(2)[1]
    assert torch.allclose(alone, second[5:6], atol=1e-6)


def test_each_view_of_each_image_has_numbers_of_its_own() -> None:
    def numbers(images: torch.Tensor, rng: PerImageRng) -> torch.Tensor:
        return rng.uniform()

    drawn = stack_views(numbers, photographs(50), PerImageRng(9, torch.arange(50)), 40)
    assert len(drawn.unique()) == 2000
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.03)
    again = stack_views(numbers, photographs(50)[:10], PerImageRng(9, torch.arange(10)), 40)
    assert torch.equal(again.unflatten(0, (40, 10)), drawn.unflatten(0, (40, 50))[:, :10])


def test_a_batch_in_another_order_gives_the_same_loss() -> None:
    pretext, images, order = (
        task(),
        photographs(12),
        torch.randperm(12, generator=torch.Generator().manual_seed(3)),
    )
    network = pretext.network(build_network(pretext.backbone, 0), DatasetInfo(SIZE, 12, 0))
    loss, _ = pretext.loss(network, images, PerImageRng(0, torch.arange(12)))
    again, _ = pretext.loss(network, images[order], PerImageRng(0, order))
    assert torch.isclose(loss, again, atol=1e-4)


def test_chance_is_one_of_the_other_views_that_are_there() -> None:
    assert task(batch_size=64).chance(DatasetInfo(SIZE, 1000, 0)) == 1 / 127
    assert (
        task(batch_size=64).chance(DatasetInfo(SIZE, 10, 0)) == 1 / 19
    )  # a set smaller than a batch
    assert task(batch_size=64, accumulation_steps=4).chance(DatasetInfo(SIZE, 1000, 0)) == 1 / 31


@pytest.mark.parametrize(
    ("options", "count"),
    [({"batch_size": 8, "accumulation_steps": 8}, 100), ({"accumulation_steps": 4}, 5)],
)
def test_parts_of_one_image_have_no_negatives_and_are_refused(
    options: dict[str, int], count: int
) -> None:
    with pytest.raises(
        InvalidOption, match="the negatives of a view are the views of other images"
    ) as caught:
        task(**options).validate_plan(planned(count))
    assert caught.value.option == "accumulation_steps"


def test_one_image_is_refused_and_two_are_enough() -> None:
    with pytest.raises(ValueError, match="has one image"):
        task().validate_plan(planned(1))
    task().validate_plan(planned(2))


def test_defaults_are_those_of_the_paper_at_a_batch_of_256() -> None:
    published = make_stage(SimCLR)
    assert (published.temperature, published.hidden_dim, published.projection_dim) == (
        0.1,
        2048,
        128,
    )
    assert (published.optimizer, published.learning_rate, published.weight_decay) == (
        "lars",
        0.3,
        1e-6,
    )
    assert (published.batch_size, published.warmup_epochs, published.schedule) == (
        256,
        10,
        "cosine",
    )
