from __future__ import annotations

import math

import pytest
import torch

from stages.pretext.bigan import BiGAN
from tests.stages.pretext.support import gradient, make_stage, namespace
from transfer.errors import InvalidOption
from transfer.stage.image_input import DatasetInfo
from transfer.transforms.per_image_rng import PerImageRng

SIZE = 32


def stage(**options: object) -> BiGAN:
    return make_stage(
        BiGAN, backbone="conv4", **{"decoder_width": 4, "hidden_dim": 16, "flip": 0.0, **options}
    )


def noise_images(count: int = 8, size: int = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def rng(count: int = 8, seed: int = 0) -> PerImageRng:
    return PerImageRng(seed, torch.arange(count))


def plain(
    task: BiGAN, network: torch.nn.ModuleDict, images: torch.Tensor, drawn: PerImageRng
) -> tuple[torch.Tensor, ...]:
    """Return the three losses, each from its own forward pass, without frozen weights."""

    def judged(images: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(network["judges"](torch.cat((network["looks"](images), codes), 1)))

    seen, real = task.views(images, drawn)
    codes = network["code"](network["backbone"](seen))
    random_codes = 2 * drawn.uniform(task.latent_dim) - 1
    fake = torch.tanh(network["generator"](random_codes))
    discriminator = (
        -judged(real, codes.detach()).log().mean()
        - (1 - judged(fake.detach(), random_codes)).log().mean()
    )
    encoder = -(1 - judged(real, codes)).log().mean()
    generator = -judged(fake, random_codes).log().mean()
    return discriminator, encoder, generator


def test_the_losses_are_the_cross_entropies_of_inverted_labels() -> None:
    task = stage()
    network = task._build(DatasetInfo(SIZE, 8, 0), seed=0)
    loss, figures = task.loss(network, noise_images(), rng())
    discriminator, encoder, generator = plain(task, network, noise_images(), rng())
    for name, expected in (
        ("discriminator", discriminator),
        ("encoder", encoder),
        ("generator", generator),
    ):
        assert torch.allclose(figures[name], expected, rtol=1e-4), name
    assert torch.allclose(loss, discriminator + encoder + generator, rtol=1e-4)


def test_each_part_gets_exactly_its_own_gradients() -> None:
    task = stage()
    network, other = (task._build(DatasetInfo(SIZE, 8, 0), seed=0) for _ in range(2))
    task.loss(network, noise_images(), rng())[0].backward()
    discriminator, encoder, generator = plain(task, other, noise_images(), rng())
    goals = {"looks": discriminator, "judges": discriminator, "generator": generator}
    for name, part in other.items():
        expected = torch.autograd.grad(
            goals.get(name, encoder), list(part.parameters()), retain_graph=True
        )
        for weight, goal in zip(network[name].parameters(), expected, strict=True):
            assert torch.allclose(gradient(weight), goal, rtol=1e-3, atol=1e-6), name


def test_each_side_wins_while_the_other_stands_still() -> None:
    task = stage()
    network = task._build(DatasetInfo(SIZE, 8, 0), seed=0)
    sides = {
        ("looks", "judges"): ["discriminator"],
        ("backbone", "code", "generator"): ["encoder", "generator"],
    }
    for parts, losses in sides.items():
        weights = [weight for name in parts for weight in network[name].parameters()]
        optimizer, figures = torch.optim.Adam(weights, 1e-3, betas=(0.5, 0.999)), []
        for _ in range(40):
            network.zero_grad()
            loss, values = task.loss(network, noise_images(), rng())
            loss.backward()
            optimizer.step()
            figures.append({name: value.item() for name, value in values.items()})
        assert all(figures[-1][name] < 0.5 * figures[0][name] for name in losses)
        assert figures[-1]["discriminator accuracy"] == (1 if "judges" in parts else 0)


def test_codes_are_drawn_uniformly_from_minus_one_to_one() -> None:
    caught = []
    task = stage()
    network = task._build(DatasetInfo(SIZE, 64, 0), seed=0)
    network["generator"].register_forward_pre_hook(lambda part, inputs: caught.append(inputs[0]))
    task.loss(network, noise_images(64), rng(64))
    (codes,) = caught
    assert codes.shape == (64, 200)
    assert codes.min() >= -1
    assert codes.max() < 1
    assert abs(codes.mean()) < 0.02
    assert abs(codes.var() - 1 / 3) < 0.01
    caught.clear()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    task.loss(network, noise_images(64), PerImageRng(0, order))
    assert torch.equal(caught[0], codes[order])


def test_images_and_fakes_have_one_range() -> None:
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, SIZE, SIZE)
    _, real = stage().views(ends, rng(2))
    assert real.aminmax() == (-1.0, 1.0)


def test_the_recipe_is_the_papers() -> None:
    task = make_stage(BiGAN, backbone="conv4")
    optimizer = task.make_optimizer(task._build(DatasetInfo(SIZE, 8, 0), seed=0))
    assert type(optimizer).__name__ == "Adam"
    assert {group["betas"] for group in optimizer.param_groups} == {(0.5, 0.999)}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 2.5e-5}
    assert [task.learning_rate_at(epoch) for epoch in (0, 50, 62)] == [2e-4] * 3
    assert math.isclose(task.learning_rate_at(99), 2e-6)


def test_single_images_are_refused_for_their_batch_norm() -> None:
    pack = namespace(stage=namespace(size=SIZE, count=1), label="images")
    with pytest.raises(ValueError, match="batch norms"):
        stage().validate_plan(namespace(images={"images": pack}))
    pack.stage.count = 100
    with pytest.raises(InvalidOption, match="parts"):
        stage(batch_size=8, accumulation_steps=8).validate_plan(namespace(images={"images": pack}))


@pytest.mark.parametrize("size", [16, 33, 48])
def test_generator_and_discriminator_fit_images_of_any_size(size: int) -> None:
    task = stage()
    network = task._build(DatasetInfo(size, 8, 0), seed=0)
    loss, _ = task.loss(network, noise_images(8, size), rng())
    assert loss.isfinite()
    assert network["generator"](torch.zeros(2, 200)).shape == (2, 3, size, size)


def test_mixed_precision_changes_little() -> None:
    task, losses = stage(), []
    for mixed in (False, True):
        network = task._build(DatasetInfo(SIZE, 8, 0), seed=0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            losses.append(task.loss(network, noise_images(), rng())[0].item())
    assert math.isclose(*losses, rel_tol=0.01)
