from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from stages.pretext.inpainting import Inpainting
from tests.stages.pretext.support import gradient, make_stage, namespace
from transfer.errors import InvalidOption
from transfer.models.build import build_network
from transfer.stage.image_input import DatasetInfo
from transfer.transforms.per_image_rng import PerImageRng

SIZE = 64


def stage(**options: object) -> Inpainting:
    return make_stage(
        Inpainting, backbone="conv4", **{"decoder_width": 4, "bottleneck": 16, **options}
    )


def noise_images(count: int = 8, size: int = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def rng(count: int = 8, seed: int = 0) -> PerImageRng:
    return PerImageRng(seed, torch.arange(count))


def plan(size: int = SIZE, count: int = 100) -> Any:
    pack = namespace(stage=namespace(size=size, count=count), label="images")
    return namespace(images={"images": pack})


@pytest.mark.parametrize("hide", ["center", "random"])
def test_what_is_hidden_never_reaches_the_network(hide: str) -> None:
    task, images = stage(mask=hide, flip=0.0), noise_images()
    seen, _, hidden, _ = task.puzzle(images, rng())
    changed = torch.where(hidden, 255 - images, images)
    assert not torch.equal(changed, images)
    again, _, same, _ = task.puzzle(changed, rng())
    assert torch.equal(hidden, same)
    assert torch.equal(seen, again)
    assert (seen.movedim(1, -1)[hidden[:, 0]] == 0).all()  # the mean color


def test_the_published_block_of_128_px_is_64_with_a_seam_of_4() -> None:
    task = stage()
    _, _, hidden, region = task.puzzle(noise_images(1, 128), rng(1))
    expected = torch.zeros(1, 1, 128, 128, dtype=torch.bool)
    expected[..., 36:92, 36:92] = True
    assert torch.equal(hidden, expected)
    expected[..., 32:96, 32:96] = True
    assert torch.equal(region, expected)
    assert task.window(128) == (32, 64)


@pytest.mark.parametrize("size", [30, 33, 63, 66, 96])
@pytest.mark.parametrize("overlap", [0, 1, None, 3])
def test_the_block_that_is_drawn_is_the_hidden_one_and_its_seam_at_any_size(
    size: int, overlap: int | None
) -> None:
    task = stage(overlap=overlap)
    _, _, _, region = task.puzzle(noise_images(1, size), rng(1))
    first, side = task.window(size)
    expected = torch.zeros(1, 1, size, size, dtype=torch.bool)
    expected[..., first : first + side, first : first + side] = True
    assert torch.equal(region, expected)


@pytest.mark.parametrize("size", [20, 64, 100])
def test_random_regions_hide_their_share_of_every_image_in_shapes_of_its_own(size: int) -> None:
    task = stage(mask="random", mask_ratio=0.25, overlap=2)
    _, _, hidden, region = task.puzzle(noise_images(16, size), rng(16))
    assert (hidden.sum((1, 2, 3)) == round(0.25 * size * size)).all()
    assert len({tuple(value.flatten().tolist()) for value in hidden}) == 16
    assert (region | ~hidden).all()
    edges = (hidden[..., 1:] != hidden[..., :-1]).float().mean()
    assert edges < 0.05  # smooth: for pixels drawn one by one it is 0.375
    shares = hidden.float().mean((0, 1))
    quarters = [part.mean().item() for rows in shares.chunk(2) for part in rows.chunk(2, 1)]
    assert max(quarters) - min(quarters) < 0.25  # anywhere in the image


def test_the_squared_error_is_a_plain_sum_with_ten_times_the_weight_on_the_seam() -> None:
    for hide in ("center", "random"):
        task = stage(mask=hide, adversarial=0.0, flip=0.0, overlap=2)
        images = noise_images(2, 32)
        network = task.network(build_network(task.backbone, 0), DatasetInfo(32, 2, 0)).eval()
        assert "discriminator" not in network
        with torch.no_grad():
            loss, figures = task.loss(network, images, rng(2))
            seen, _, hidden, region = task.puzzle(images, rng(2))
            drawn = torch.tanh(network["decoder"](network["bottleneck"](network["backbone"](seen))))
        first, side = task.window(32)
        assert figures == {}
        means = []
        for image in range(2):
            total, count = 0.0, 0
            for row in range(side):
                for column in range(side):
                    place = (image, 0, first + row, first + column)
                    if region[place]:
                        count += 1
                        for channel in range(3):
                            pixel = (
                                images[image, channel, first + row, first + column].item() / 127.5
                                - 1
                            )
                            square = (drawn[image, channel, row, column].item() - pixel) ** 2 / 3
                            total += square if hidden[place] else 10 * square
            means.append(total / count)
        assert math.isclose(loss, sum(means) / 2, rel_tol=1e-4)


@pytest.mark.parametrize("hide", ["center", "random"])
def test_each_part_gets_exactly_its_own_gradients(hide: str) -> None:
    task = stage(mask=hide, adversarial=0.3, overlap=1)
    images, about = noise_images(4, 32), DatasetInfo(32, 4, 0)
    network = task._build(about, seed=0)
    loss, figures = task.loss(network, images, rng(4))
    loss.backward()

    plain = task._build(about, seed=0)
    seen, target, hidden, region = task.puzzle(images, rng(4))
    drawn = torch.tanh(plain["decoder"](plain["bottleneck"](plain["backbone"](seen))))
    first, side = task.window(32)
    block = (..., slice(first, first + side), slice(first, first + side))
    target, hidden, region = 2 * target[block] - 1, hidden[block], region[block]
    filled = torch.where(region, drawn, target)
    judge = plain["discriminator"]
    real, fake = judge(target), judge(filled.detach())
    value, zero = torch.ones(4, 1), torch.zeros(4, 1)
    judging = F.binary_cross_entropy_with_logits(real, value) + F.binary_cross_entropy_with_logits(
        fake, zero
    )
    weights = (1 + 9.0 * ~hidden) * region
    squared = (((drawn - target) ** 2).mean(1, keepdim=True) * weights).sum((1, 2, 3)) / region.sum(
        (1, 2, 3)
    )
    drawing = 0.7 * squared.mean() + 0.3 * F.binary_cross_entropy_with_logits(judge(filled), value)

    assert torch.allclose(loss, judging + drawing, rtol=1e-5)
    assert torch.allclose(figures["squared error"], squared.mean(), rtol=1e-5)
    for name, part in plain.items():
        goal = judging if name == "discriminator" else drawing
        goals = torch.autograd.grad(goal, list(part.parameters()), retain_graph=True)
        for weight, expected in zip(network[name].parameters(), goals, strict=True):
            assert torch.allclose(gradient(weight), expected, rtol=1e-3, atol=1e-6)


def test_the_discriminator_learns_at_a_tenth_of_the_rate() -> None:
    task = stage()
    network = task._build(DatasetInfo(SIZE, 8, 0), seed=0)
    optimizer = task.make_optimizer(network)
    slow = {id(weight) for weight in network["discriminator"].parameters()}
    for group in optimizer.param_groups:
        assert {id(weight) in slow for weight in group["params"]} == {group["scale"] == 0.1}
        assert group["betas"] == (0.5, 0.999)
    assert make_stage(Inpainting, backbone="conv4").bottleneck == 4000


def test_a_seam_that_hides_nothing_is_refused() -> None:
    stage(overlap=15).validate_plan(plan())
    with pytest.raises(
        InvalidOption, match=r"leaves nothing hidden of the 32 px .* 15 px or less"
    ) as caught:
        stage(overlap=16).validate_plan(plan())
    assert caught.value.option == "overlap"
    stage(overlap=16, mask="random").validate_plan(plan())


def test_single_images_are_refused_for_their_batch_norm() -> None:
    with pytest.raises(ValueError, match="batch norm"):
        stage().validate_plan(plan(count=1))
    with pytest.raises(InvalidOption, match="parts"):
        stage(batch_size=4, accumulation_steps=4).validate_plan(plan())


@pytest.mark.parametrize("hide", ["center", "random"])
def test_mixed_precision_changes_little_and_masks_not_at_all(hide: str) -> None:
    task, losses, masks = stage(mask=hide), [], []
    for mixed in (False, True):
        network = task._build(DatasetInfo(SIZE, 8, 0), seed=0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            losses.append(task.loss(network, noise_images(), rng())[0].item())
            masks.append(task.puzzle(noise_images(), rng()))
    assert math.isclose(*losses, rel_tol=0.01)
    assert all(torch.equal(*pair) for pair in zip(*masks, strict=True))


def test_an_image_is_hidden_alike_in_any_batch() -> None:
    task, images, ids = stage(mask="random"), noise_images(), torch.arange(8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    whole, turned = (
        task.puzzle(images, PerImageRng(7, ids)),
        task.puzzle(images[order], PerImageRng(7, ids[order])),
    )
    assert all(torch.equal(value[order], other) for value, other in zip(whole, turned, strict=True))
    assert not torch.equal(whole[2], task.puzzle(images, PerImageRng(8, ids))[2])
